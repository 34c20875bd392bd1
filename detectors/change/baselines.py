"""The baseline of many streams: learnt in a warm-up, given, forgotten, or replaced by a change.

A reference is what a stream is held against for as long as it is watched. It is never adapted by
itself: a baseline that follows the data follows a slow decline too. What replaces it is a decision,
`Baselines.accept` or `Baselines.calibrate`. It may grow once, from a first one that is soon there
to one of ``settle`` ticks that holds every hour of a week.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from detectors.base import Bools, Floats, Snapshot
from detectors.change.episodes import Episodes
from detectors.change.reference import LEVELS, TINY, Reference

Direction = Literal["up", "down", "both"]


class Baselines(Episodes):
    """References of many streams, and the means at which evidence against them is evaluated.

    A subclass sets the parameters and ``_signs`` (directions of a change).
    """

    # axes: D directions, Z levels of the baseline
    _state: ClassVar = {
        **Episodes._state,  # noqa: SLF001 - what a subclass adds to
        "_dispersion": ("", np.float64),
        "_watching": ("", np.bool_),  # the warm-up is over
        "_collecting": ("", np.bool_),  # a successor of the reference
        "_base": ("", np.float64),  # log odds of the baseline
        "_means": ("DZ", np.float64),
        "_effect": ("", np.float64),  # smallest change worth an alarm
        "_needed": ("", np.float64),  # values that make the reference
    }
    _watching: Bools
    _collecting: Bools
    _base: Floats
    _means: Floats
    _effect: Floats
    _needed: Floats
    warm_up: float
    min_effect: float
    dispersion: float | None
    floor: float
    settle: int
    reference: Reference
    successor: Reference

    def _axes(self) -> dict[str, int]:
        return {"D": len(self._signs), "Z": len(LEVELS)}

    @property
    def warm(self) -> Bools:
        """Whether each stream has its baseline, shape (n_streams,)."""
        return self._watching.copy()

    @property
    def baseline(self) -> Floats:
        """Mean of the reference, shape (n_streams,); NaN before the first value."""
        return self.reference.mean

    @property
    def baseline_n(self) -> Floats:
        """Values in the reference, shape (n_streams,)."""
        return self.reference.n.copy()

    @property
    def dispersion_used(self) -> Floats:
        """Dispersion the bets are scaled by, shape (n_streams,); NaN during the warm-up."""
        return np.where(self._watching, self._dispersion, np.nan)

    def calibrate(
        self,
        total: ArrayLike,
        n: ArrayLike,
        dispersion: ArrayLike | None = None,
        *,
        streams: ArrayLike | None = None,
    ) -> Self:
        """Set the reference of streams from what is known, and forget their evidence.

        Parameters
        ----------
        total, n
            Sum and number of the reference's values, shape (k,) or numbers; n > 0.
        dispersion
            As estimated elsewhere; by default the constructor's, or its floor.
        streams
            Which ones, mask or indices; default all.

        Raises
        ------
        ValueError
            Unless ``0 <= total <= n`` and ``n > 0``.
        """
        rows = self._rows(streams)
        given = self.dispersion if self.dispersion is not None else self.floor
        scale = np.zeros(self.n_streams)
        scale[rows] = given if dispersion is None else dispersion
        sums, counts = np.zeros(self.n_streams), np.ones(self.n_streams)
        sums[rows], counts[rows] = total, n
        if not ((counts > 0) & (sums >= 0) & (sums <= counts)).all():
            raise ValueError("total must lie between 0 and n, and n must be positive")
        self.reference.clear(rows)  # what was measured of another reference
        self.reference.total[rows], self.reference.n[rows] = sums[rows], counts[rows]
        self._watch(rows, scale)
        return self

    def forget(self, streams: ArrayLike) -> Self:
        """Drop the evidence of ``streams`` (mask or indices) and arm them again."""
        self._close(streams)
        self.clear(np.asarray(streams), ("_collecting",))
        self.successor.clear(np.asarray(streams))
        return self

    def relearn(self, streams: ArrayLike) -> Self:
        """Begin to collect what `accept` makes the reference of ``streams`` (mask or indices).

        `announce` does so by itself.
        """
        self.successor.clear(np.asarray(streams))
        self._collecting[np.asarray(streams)] = True
        return self

    def accept(self, streams: ArrayLike) -> Self:
        """Take the changed mean of ``streams`` (mask or indices) for the new normal.

        The new reference is what came *after the alarm*: what rang it was selected for looking
        extreme. With ``warm_up`` values and more it is watched at once; otherwise the warm-up goes
        on until there are enough, and nothing rings before.

        Of values that were taken with an ``offset`` the new reference holds what they would be
        likely to be without it.

        Raises
        ------
        ValueError
            If one of the streams is in no detected change.

        Examples
        --------
        >>> from detectors.change.rates import RateDetector
        >>> rng = np.random.default_rng(3)
        >>> detector = RateDetector(warm_up=500, dispersion=1.0)
        >>> for tick in range(400):
        ...     detector = detector.update(rng.binomial(10, 0.3 if tick >= 100 else 0.1), 10)
        >>> bool(detector.detected[0]), round(float(detector.baseline[0]), 2)
        (True, 0.1)
        >>> detector = detector.accept([0])
        >>> bool(detector.detected[0]), round(float(detector.baseline[0]), 2)
        (False, 0.3)
        """
        rows = self._rows(streams)
        if not self._collecting[rows].all():
            raise ValueError("only a detected change can be accepted")
        learnt = {name: getattr(self.successor, name)[rows] for name in Reference.fields()}
        learnt["total"] = np.clip(learnt["total"], 0, learnt["n"])
        self.reset(rows)
        for name, values in learnt.items():
            getattr(self.reference, name)[rows] = values
        self._watch_if_enough(rows)
        return self

    def extend(self, count: int) -> Self:
        """Add ``count`` new streams behind the others, each in its own warm-up."""
        self.reference.extend(count)
        self.successor.extend(count)
        super().extend(count)
        self._effect[self.n_streams - count :] = self.min_effect
        self._needed[self.n_streams - count :] = self.warm_up
        return self

    def take(self, streams: ArrayLike) -> Self:
        """Keep only ``streams`` (mask or indices), in that order."""
        self.reference.take(streams)
        self.successor.take(streams)
        return super().take(streams)

    def require(self, streams: ArrayLike, min_effect: ArrayLike, warm_up: ArrayLike) -> Self:
        """Set the smallest change worth an alarm, and the warm-up, of ``streams`` by themselves.

        What was collected against another effect is dropped; a detected change stays.
        """
        rows = self._rows(streams)
        self._needed[rows] = warm_up
        before = self._effect.copy()
        self._effect[rows] = min_effect
        anew = rows & (self._effect != before) & self._watching & ~self._detected
        if anew.any():
            self._watch(anew, self._dispersion)
        return self

    def reset(self, streams: ArrayLike | None = None) -> Self:
        """Send streams (mask or indices; default all) back to an empty warm-up."""
        rows = self._rows(streams)
        self.clear(
            rows, [name for name in self._state if name not in ("_tick", "_effect", "_needed")]
        )
        for part in (self.reference, self.successor, self.returning):
            part.clear(rows)
        return self

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        parts = {"reference": self.reference.snapshot(), "successor": self.successor.snapshot()}
        return {**super().snapshot(), **parts}

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the detector of a snapshot again.

        Raises
        ------
        ValueError
            If the snapshot is of another detector or version, or its arrays do not fit.
        """
        detector = super().restore(snapshot)
        detector.reference = Reference.restore(snapshot["reference"])
        detector.successor = Reference.restore(snapshot["successor"])
        parts = (detector.reference, detector.successor)
        if any(part.n_streams != detector.n_streams for part in parts):
            raise ValueError("the parts of the snapshot follow different numbers of streams")
        return detector

    # -- how ---------------------------------------------------------------------------------------

    def _rows(self, streams: ArrayLike | None) -> Bools:
        rows = np.zeros(self.n_streams, np.bool_)
        rows[slice(None) if streams is None else np.asarray(streams)] = True
        return rows

    def _watch_if_enough(self, rows: Bools) -> None:
        done = rows & (self.reference.n >= self._needed)
        if done.any():
            self._watch(done, self.reference.measured_dispersion())

    def _watch(self, rows: Bools, dispersion: Floats) -> None:
        """Fix the baseline of ``rows``: the means at which the evidence is evaluated."""
        for side, sign in enumerate(self._signs):
            limit = self.reference.limits(sign, np.maximum(dispersion, TINY))
            means = np.clip(limit + sign * self._effect[:, None], TINY, 1 - TINY)
            self._means[rows, side] = means[rows]
        mean = (self.reference.total + 0.5) / (self.reference.n + 1)
        self._base[rows] = special.logit(mean)[rows]
        self._dispersion[rows] = dispersion[rows]
        self._watching[rows] = True
        self.forget(rows)
