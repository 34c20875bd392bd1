"""Has a rate changed? Sequential detection over many streams with a stated false-alarm rate.

One stream is one indicator of one agent: failures among interactions, calls slower than a limit,
ranks of latencies. Every tick brings a sum of values in [0, 1] and how many there were. The
detector bets against "the mean is still what it was"; the stake grows only when that is wrong, and
how far it has grown is the *e-value*.

**The guarantee.** If the values of a stream are independent with one unknown mean, then

    P(false alarm within T ticks) <= T / arl + 3e-7

for every T, whatever the mean and however short the reference. Both the reference and the monitored
ticks are random in this statement: a lucky reference is part of it.

**Why it holds.** For a fixed mean m the sum over all possible starts s of the likelihood ratios of
a bet from s on (`M(m)`, the Shiryaev-Roberts statistic, here averaged over bets) satisfies
``E[M_tau] <= E[tau]``. The true mean is unknown, so the reference is made to testify as well:
``p(m)`` is the exact binomial p-value of the reference against means of at least m, and ``R(m)``, a
fixed function of it whose expectation is 1, is large where m is implausibly high. The evidence
reported is the *least favourable* product ``min over m of R(m) * M(m)``. It is at most ``R(p0) *
M(p0)``, and the reference is independent of what follows, so its expectation is at most T. Markov
does the rest. Compared with moving the baseline by a few standard errors this costs less, and no
fixed chance that the margin was too small remains.

**When the assumptions fail.** Overdispersion, autocorrelation and drift of the conditional mean
raise the variance of sums; the ``dispersion`` (long-run variance over ``m (1 - m)`` per value)
scales every bet down. It is given or estimated from the reference over blocks of several lengths,
which makes the guarantee approximate. A mean that follows the hour of the week belongs into the
baseline (`detectors.change.seasonal`), not into the dispersion.

References
----------
J. Shin, A. Ramdas, A. Rinaldo: E-detectors: a nonparametric framework for sequential change
detection. arXiv:2203.03532.
V. Vovk, R. Wang: E-values: calibration, combination and applications. Ann. Statist. 49 (2021).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from detectors.base import Floats, Ints
from detectors.change.baselines import Baselines, Direction
from detectors.change.recovery import Recovery
from detectors.change.reference import LEVELS, TESTIMONY, TINY, Reference

ODDS: Final = (1.25, 1.6, 2.0, 2.6, 4.0, 10.0)
"""Bets: by how much the odds have changed, from a slow shift to an outage."""

PRIOR: Final = np.array((0.22, 0.22, 0.22, 0.17, 0.11, 0.06))
"""Share of the stake on each bet. Small changes get more: each nat costs them more events."""

_CEILING: Final = 1e200  # evidence beyond it changes nothing, and sums must stay finite
_MAX_STEP: Final = 200.0  # nats a single tick may add
_QUIET: Final = 100.0  # evidence below which a reference may grow


class RateDetector(Baselines):
    """e-SR detector of changes of a mean in [0, 1], over many streams at once.

    The reference (warm-up, `calibrate`, `accept`) comes from `baselines`, what is known
    of a detected change (start, size, end) from `detectors.change.episodes`.

    Parameters
    ----------
    n_streams
        How many streams to follow; `extend` adds more.
    arl
        Expected ticks between two false alarms of one stream, at least. The threshold of the
        e-value.
    warm_up
        Values that make the reference when `calibrate` is not called. No alarms before.
    min_effect
        Smallest change of the mean worth an alarm, in the unit of the mean. Changes up to it count
        as "no change".
    dispersion
        Long-run variance of the values over that of independent 0/1 values of the same mean. 1
        means independent 0/1 values and makes the guarantee exact; None estimates it from the
        reference.
    floor
        Smallest dispersion the estimate may give: 1 for 0/1 values, 1/3 for uniform ranks.
    direction
        "up", "down" or "both". "both" splits the evidence between the two.
    settle
        Ticks with values that the reference grows to, once, while nothing changes; 0 leaves it at
        the warm-up. A short reference makes small changes invisible, because its own error counts
        against the evidence, and one of half a day knows half of the hours.
    recovery
        Evidence (as an e-value) that the mean is back on the baseline's side of the midpoint
        between baseline and changed mean, before the change counts as over.

    Examples
    --------
    Ten interactions per tick, a failure rate of 0.1 that doubles at tick 200:

    >>> rng = np.random.default_rng(7)
    >>> detector = RateDetector(warm_up=1000, dispersion=1.0)
    >>> for tick in range(300):
    ...     detector = detector.update(rng.binomial(10, 0.2 if tick >= 200 else 0.1), 10)
    ...     if detector.detected[0]:
    ...         break
    >>> tick, int(detector.change_start[0])
    (231, 198)
    """

    _params: ClassVar = (
        "arl",
        "min_effect",
        "warm_up",
        "dispersion",
        "floor",
        "direction",
        "recovery",
        "settle",
    )
    # axes: D directions, Z levels of the baseline, B bets
    _state: ClassVar = {
        **Baselines._state,  # noqa: SLF001 - what a subclass adds to
        "_evidence": ("DZB", np.float64),
    }
    _evidence: Floats

    def __init__(
        self,
        n_streams: int = 1,
        *,
        arl: float = 10_000.0,
        warm_up: float = 1_000.0,
        min_effect: float = 0.0,
        dispersion: float | None = None,
        floor: float = 1.0,
        direction: Direction = "up",
        recovery: float = 1_000.0,
        settle: int = 0,
    ) -> None:
        self.arl = arl
        self.warm_up = warm_up
        self.min_effect = min_effect
        self.dispersion = dispersion
        self.floor = floor
        self.direction: Direction = direction
        self.recovery = recovery
        self.settle = settle
        self._signs = np.array({"up": [1], "down": [-1], "both": [1, -1]}[direction])
        self._log_odds = self._signs[:, None] * np.log(ODDS)  # (D, B)
        self.reference = Reference(0, dispersion=dispersion, floor=floor)
        self.successor = Reference(0, dispersion=dispersion, floor=floor)
        self.returning = Recovery(0, threshold=recovery)
        self._begin(0)
        self.extend(n_streams)

    def _axes(self) -> dict[str, int]:
        return {"D": len(self._signs), "Z": len(LEVELS), "B": len(ODDS)}

    # -- what is known after the last tick ---------------------------------------------------------

    @property
    def e_value(self) -> Floats:
        """Current evidence for a change, shape (n_streams,); 0 during the warm-up."""
        sides = self._side_evidence()
        return np.where(self._watching, sides.mean(axis=1), 0.0)

    def evidence(self, streams: Ints) -> Floats:
        """`e_value` of ``streams`` (indices) only, shape (k,)."""
        return np.where(self._watching[streams], self._side_evidence(streams).mean(axis=1), 0.0)

    @property
    def threshold(self) -> float:
        """The e-value at which a change is announced; equal to ``arl``."""
        return float(self.arl)

    # -- what moves it -----------------------------------------------------------------------------

    def update(self, total: ArrayLike, n: ArrayLike, offset: ArrayLike | None = None) -> Self:
        """Take one tick of every stream.

        Parameters
        ----------
        total
            Sum of the tick's values (failures, for 0/1 values), shape (n_streams,) or a number.
        n
            How many values, same shape. 0 means nothing happened: no evidence either way.
        offset
            By how much the log odds of the mean are expected to differ from the reference's in this
            tick (hour of the week, the fleet), same shape. 0 during a warm-up: `calibrate` ends it.

        Raises
        ------
        ValueError
            Unless ``0 <= total <= n``, or for an offset during the warm-up.
        """
        sums = np.broadcast_to(np.asarray(total, np.float64), (self.n_streams,))
        counts = np.broadcast_to(np.asarray(n, np.float64), (self.n_streams,))
        if not ((sums >= 0) & (sums <= counts * (1 + TINY))).all():  # also fails for NaN
            raise ValueError("total must lie between 0 and n")
        busy = counts > 0
        warming = busy & ~self._watching
        watching = np.flatnonzero(busy & self._watching)
        if warming.any():
            if offset is not None and np.any(np.broadcast_to(offset, warming.shape)[warming]):
                raise ValueError("offsets need a calibrated baseline: call calibrate() first")
            self.reference.add(warming, sums, counts)
            self._watch_if_enough(warming)
        if watching.size:
            shift = None
            if offset is not None:
                shift = np.broadcast_to(np.asarray(offset, np.float64), (self.n_streams,))
            self._bet(watching, sums, counts, shift)
        self._tick += 1
        return self

    def announce(self, streams: ArrayLike, *, before: bool = False) -> Self:
        """Declare a change in ``streams`` (indices) because of evidence combined elsewhere.

        The start, direction and size are the likeliest by the stream's own evidence. ``before``
        says that the alarm belongs to the tick that `update` has just taken.
        """
        who = np.asarray(streams, np.int64)
        self.relearn(who)
        self._open(who, self._side_evidence(who).argmax(axis=1), self._tick[who] - before)
        return self

    def forget(self, streams: ArrayLike) -> Self:
        """Drop the evidence of ``streams`` (mask or indices) and arm them again."""
        self.clear(np.asarray(streams), ("_evidence",))
        return super().forget(streams)

    # -- how ---------------------------------------------------------------------------------------

    def _side_evidence(self, at: Any = slice(None)) -> Floats:
        """Evidence per direction, shape (k, D): the least favourable baseline decides."""
        least: Floats = ((self._evidence[at] @ PRIOR) * TESTIMONY).min(axis=2)
        return least

    def _bet(self, who: Ints, sums: Floats, counts: Floats, offset: Floats | None) -> None:
        every = who.size == self.n_streams
        at: Any = slice(None) if every else who  # a view, where nothing has to be gathered
        total, n, scale = sums[at], counts[at], self._dispersion[at]
        means, base = self._means[at], self._base[at]
        if offset is not None:
            factor = np.exp(offset[at])[:, None, None]
            means = means * factor / (1 - means + means * factor)
            base = base + offset[at]
        gain = (total / scale)[:, None, None] * self._log_odds  # (k, D, B)
        cost = np.log1p(means[..., None] * np.expm1(self._log_odds)[:, None, :])  # (k, D, Z, B)
        step = gain[:, :, None, :] - (n / scale)[:, None, None, None] * cost
        np.clip(step, -_MAX_STEP, _MAX_STEP, out=step)
        self._evidence[at] = np.minimum((self._evidence[at] + 1) * np.exp(step), _CEILING)
        self._follow(at, step[:, :, 0, :], total, n, special.expit(base))
        loud = self._side_evidence(at).mean(axis=1) >= self.arl
        alarmed = self._detected[at]
        ongoing, fresh = who[alarmed], who[loud & ~alarmed]
        plain = sums if offset is None else self._without(offset, sums, counts)
        if self._collecting.any():
            self.successor.add(self._collecting & (counts > 0), plain, counts)
        if self.settle:
            self._grow(plain, counts)
        if ongoing.size:
            away = 0.0 if offset is None else offset[ongoing]
            self.forget(
                self._still_away(ongoing, sums[ongoing], counts[ongoing], self._base[ongoing], away)
            )
        if fresh.size:
            self.announce(fresh)

    def _without(self, offset: Floats, sums: Floats, counts: Floats) -> Floats:
        """What the sums would be without the offsets, on average: of one tick also below 0."""
        away = special.expit(self._base + offset) - special.expit(self._base)
        plain: Floats = sums - counts * away
        return plain

    def _grow(self, sums: Floats, counts: Floats) -> None:
        """Let references that are still short take a tick, and be held to once they are long.

        What came since the first reference joins it as a whole, if no change was announced
        meanwhile and there is no evidence for one now.
        """
        first = self.reference.ticks
        young = self._watching & ~self._collecting & (first > 0) & (first < self.settle)
        if not young.any():
            return
        self.successor.add(young & (counts > 0), sums, counts)
        done = young & (first + self.successor.ticks >= self.settle)
        if done.any():
            who = np.flatnonzero(done)
            done[who] = self.evidence(who) < _QUIET
            self.reference.join(done, self.successor)
            self._watch(done, self.reference.measured_dispersion())
