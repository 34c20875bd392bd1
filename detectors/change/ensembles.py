"""One question asked in several ways: indicators of a metric, categories of a mix.

A change of a latency may move its middle or only its tail; a change of a tool mix moves some of its
categories. Each indicator is a stream of `RateDetector`; the evidence of a group is the *mean* of
its indicators' e-values, which is evidence again, however the indicators depend on each other. A
group of k indicators pays log(k) nats, once, for not knowing where to look; ``weights`` say where
to look first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import Bools, Floats, Ints, Snapshot
from detectors.change.rates import RateDetector

_SILENT = 1e300  # above any evidence: members never announce by themselves


class EnsembleDetector:
    """Change detector of groups of indicators.

    Parameters
    ----------
    n_groups
        How many groups (streams of the caller) to follow.
    indicators
        Indicators per group, or categories of a mix.
    arl
        Expected ticks between two false alarms of one group, at least: the threshold.
    weights
        Share of the evidence that each indicator gets, in advance, shape (indicators,), summing to
        1; equal by default. Halving a share costs log(2) nats where that indicator is the one.
    **params
        Of every member: see `detectors.change.rates.RateDetector`.

    Examples
    --------
    Tools a, b and c are called 50, 40 and 10 times in 100; then c takes ten calls from a:

    >>> rng = np.random.default_rng(1)
    >>> mix = EnsembleDetector(1, 3, direction="both", warm_up=3000, dispersion=1.0)
    >>> for tick in range(400):
    ...     share = [0.4, 0.4, 0.2] if tick >= 300 else [0.5, 0.4, 0.1]
    ...     mix = mix.update([rng.multinomial(20, share)], 20)
    ...     if mix.detected[0]:
    ...         break
    >>> tick, int(mix.change_start[0]), int(mix.leading[0])
    (319, 301, 2)
    """

    _params: ClassVar = ("n_groups", "indicators", "arl", "weights")

    def __init__(
        self,
        n_groups: int = 1,
        indicators: int = 1,
        *,
        arl: float = 10_000.0,
        weights: Sequence[float] | None = None,
        **params: Any,
    ) -> None:
        self.n_groups = n_groups
        self.indicators = indicators
        self.arl = arl
        self.weights = None if weights is None else [float(w) for w in weights]
        equal = np.full(indicators, 1 / indicators)
        self._weights: Floats = equal if weights is None else np.array(weights, np.float64)
        if self._weights.shape != (indicators,) or not np.isclose(self._weights.sum(), 1.0):
            raise ValueError("weights must be one per indicator and sum to 1")
        self.members = RateDetector(n_groups * indicators, arl=_SILENT, **params)
        self._leading = np.full(n_groups, -1, np.int64)

    @property
    def e_value(self) -> Floats:
        """Current evidence for a change in each group, shape (n_groups,)."""
        combined: Floats = self.indicator_e_values @ self._weights
        return combined

    @property
    def indicator_e_values(self) -> Floats:
        """Evidence of every indicator, shape (n_groups, indicators)."""
        return self.members.e_value.reshape(-1, self.indicators)

    @property
    def threshold(self) -> float:
        """The e-value at which a change is announced; equal to ``arl``."""
        return float(self.arl)

    @property
    def detected(self) -> Bools:
        """Whether each group is in a detected change, shape (n_groups,)."""
        return self._leading >= 0

    @property
    def leading(self) -> Ints:
        """Indicator with most evidence at the alarm, shape (n_groups,); -1 without a change."""
        return self._leading.copy()

    @property
    def change_start(self) -> Ints:
        """Tick at which the change likely began, by the leading indicator; -1 without one."""
        return self._of_leading(self.members.change_start, -1)

    @property
    def change_sign(self) -> Ints:
        """+1 or -1 by the leading indicator, 0 without a change, shape (n_groups,)."""
        return self._of_leading(self.members.change_sign, 0)

    @property
    def observed(self) -> Floats:
        """Mean of the leading indicator since the change began; NaN without one."""
        return self._of_leading(self.members.observed, np.nan)

    @property
    def baseline(self) -> Floats:
        """Baseline of every indicator, shape (n_groups, indicators)."""
        return self.members.baseline.reshape(-1, self.indicators)

    def update(self, total: ArrayLike, n: ArrayLike, offset: ArrayLike | None = None) -> Self:
        """Take one tick of every group.

        Parameters
        ----------
        total
            Sum of each indicator's values, shape (n_groups, indicators).
        n
            How many values, broadcast to the same shape: (n_groups, 1) for a common count.
        offset
            See `RateDetector.update`; same shape as ``total``.
        """
        shape = (self.n_groups, self.indicators)
        flat = [np.broadcast_to(np.asarray(x, np.float64), shape).ravel() for x in (total, n)]
        shift = None if offset is None else np.broadcast_to(np.asarray(offset), shape).ravel()
        self.members.update(flat[0], flat[1], shift)
        loud = (self.e_value >= self.arl) & ~self.detected
        if loud.any():
            groups = np.flatnonzero(loud)
            best = (self.indicator_e_values[groups] * self._weights).argmax(axis=1)
            self.members.announce(groups * self.indicators + best, before=True)
            self.members.relearn(self._members_of(groups))
            self._leading[groups] = best
        ended = self.detected & ~self._of_leading(self.members.detected, False)
        if ended.any():
            self._leading[ended] = -1
            self.members.forget(np.repeat(ended, self.indicators))
        return self

    def calibrate(
        self,
        total: ArrayLike,
        n: ArrayLike,
        dispersion: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Set the reference of every indicator of ``groups`` (indices, default all).

        Shapes as in `update`, of those groups; see `RateDetector`.
        """
        chosen = np.arange(self.n_groups) if groups is None else np.asarray(groups, np.int64)
        shape = (chosen.size, self.indicators)
        flat = [np.broadcast_to(np.asarray(x, np.float64), shape).ravel() for x in (total, n)]
        spread = None if dispersion is None else np.broadcast_to(dispersion, shape).ravel()
        self.members.calibrate(flat[0], flat[1], spread, streams=self._members_of(chosen))
        self._leading[chosen] = -1
        return self

    def accept(self, groups: ArrayLike) -> Self:
        """Take what ``groups`` (indices) have shown since their alarm for the new normal.

        All indicators of a group get a new reference; see `RateDetector.accept`.

        Raises
        ------
        ValueError
            If one of the groups is in no detected change.
        """
        chosen = np.asarray(groups, np.int64)
        if not self.detected[chosen].all():
            raise ValueError("only a detected change can be accepted")
        self.members.accept(self._members_of(chosen))
        self._leading[chosen] = -1
        return self

    def extend(self, count: int) -> Self:
        """Add ``count`` new groups behind the others, each in its own warm-up."""
        self.members.extend(count * self.indicators)
        self._leading = np.concatenate([self._leading, np.full(count, -1, np.int64)])
        self.n_groups += count
        return self

    def take(self, groups: ArrayLike) -> Self:
        """Keep only ``groups`` (indices), in that order."""
        chosen = np.asarray(groups, np.int64)
        self.members.take(self._members_of(chosen))
        self._leading = self._leading[chosen]
        self.n_groups = chosen.size
        return self

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        return {
            "detector": "EnsembleDetector",
            "version": 2,
            "params": {name: getattr(self, name) for name in self._params},
            "leading": self._leading.tolist(),
            "members": self.members.snapshot(),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the detector of a snapshot again; ValueError if it is of another kind."""
        if (snapshot.get("detector"), snapshot.get("version")) != ("EnsembleDetector", 2):
            raise ValueError("not a snapshot of EnsembleDetector, version 2")
        detector = cls(**snapshot["params"])
        detector.members = RateDetector.restore(snapshot["members"])
        detector._leading = np.array(snapshot["leading"], np.int64).reshape(-1)
        if detector.members.n_streams != detector.n_groups * detector.indicators:
            raise ValueError("the members of the snapshot do not fit its groups")
        return detector

    def _members_of(self, groups: Ints) -> Ints:
        """Streams of the members of ``groups`` (indices), shape (k * indicators,)."""
        return (groups[:, None] * self.indicators + np.arange(self.indicators)).ravel()

    def _of_leading(self, values: NDArray[Any], absent: Any) -> NDArray[Any]:
        grid = values.reshape(-1, self.indicators)
        picked = grid[np.arange(self.n_groups), np.maximum(self._leading, 0)]
        return np.where(self._leading >= 0, picked, absent)
