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
baseline (`detectors.seasonal`), not into the dispersion.

References
----------
J. Shin, A. Ramdas, A. Rinaldo: E-detectors: a nonparametric framework for sequential change
detection. arXiv:2203.03532.
V. Vovk, R. Wang: E-values: calibration, combination and applications. Ann. Statist. 49 (2021).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from detectors.base import Bools, Floats, Ints, Snapshot, Streams, ratio
from detectors.recovery import Recovery
from detectors.reference import LEVELS, TESTIMONY, TINY, Reference

ODDS: Final = (1.25, 1.6, 2.0, 2.6, 4.0, 10.0)
"""Bets: by how much the odds have changed, from a slow shift to an outage."""

_CEILING: Final = 1e200  # evidence beyond it changes nothing, and sums must stay finite
_MAX_STEP: Final = 200.0  # nats a single tick may add

Direction = Literal["up", "down", "both"]


class RateDetector(Streams):
    """e-SR detector of changes of a mean in [0, 1], over many streams at once.

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
    (232, 198)
    """

    _params: ClassVar = (
        "arl",
        "min_effect",
        "warm_up",
        "dispersion",
        "floor",
        "direction",
        "recovery",
    )
    _never: ClassVar = ("_alarm_tick", "_change_start")
    # axes: D directions, Z levels of the baseline, B bets
    _state: ClassVar = {
        "_tick": ("", np.int64),  # ticks seen, with or without values
        "_dispersion": ("", np.float64),
        "_watching": ("", np.bool_),  # the warm-up is over
        "_base": ("", np.float64),  # log odds of the baseline
        "_means": ("DZ", np.float64),
        "_evidence": ("DZB", np.float64),
        "_path": ("DB", np.float64),  # log likelihood ratio since the likeliest start of each bet
        "_path_start": ("DB", np.int64),
        "_path_total": ("DB", np.float64),
        "_path_n": ("DB", np.float64),
        "_detected": ("", np.bool_),
        "_alarm_tick": ("", np.int64),
        "_change_start": ("", np.int64),
        "_change_side": ("", np.int64),
    }
    _tick: Ints
    _dispersion: Floats
    _watching: Bools
    _base: Floats
    _means: Floats
    _evidence: Floats
    _path: Floats
    _path_start: Ints
    _path_total: Floats
    _path_n: Floats
    _detected: Bools
    _alarm_tick: Ints
    _change_start: Ints
    _change_side: Ints

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
    ) -> None:
        self.arl = arl
        self.warm_up = warm_up
        self.min_effect = min_effect
        self.dispersion = dispersion
        self.floor = floor
        self.direction: Direction = direction
        self.recovery = recovery
        self._signs = np.array({"up": [1], "down": [-1], "both": [1, -1]}[direction])
        self._log_odds = self._signs[:, None] * np.log(ODDS)  # (D, B)
        self.reference = Reference(n_streams, dispersion=dispersion, floor=floor)
        self.returning = Recovery(n_streams, threshold=recovery)
        self._begin(n_streams)

    def _axes(self) -> dict[str, int]:
        return {"D": len(self._signs), "Z": len(LEVELS), "B": len(ODDS)}

    # -- what is known after the last tick ---------------------------------------------------------

    @property
    def detected(self) -> Bools:
        """Whether each stream is in a detected change, shape (n_streams,). Ends with recovery."""
        return self._detected.copy()

    @property
    def e_value(self) -> Floats:
        """Current evidence for a change, shape (n_streams,); 0 during the warm-up."""
        sides = self._side_evidence()
        return np.where(self._watching, sides.mean(axis=1), 0.0)

    @property
    def threshold(self) -> float:
        """The e-value at which a change is announced; equal to ``arl``."""
        return float(self.arl)

    @property
    def warm(self) -> Bools:
        """Whether each stream has its baseline, shape (n_streams,)."""
        return self._watching.copy()

    @property
    def tick(self) -> Ints:
        """Ticks each stream has seen, shape (n_streams,)."""
        return self._tick.copy()

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

    @property
    def change_start(self) -> Ints:
        """Tick (0-based) at which the change likely began, shape (n_streams,); -1 without one."""
        return np.where(self._detected, self._change_start, -1)

    @property
    def alarm_tick(self) -> Ints:
        """Tick (0-based) of the alarm, shape (n_streams,); -1 without one."""
        return np.where(self._detected, self._alarm_tick, -1)

    @property
    def change_sign(self) -> Ints:
        """+1 for a rise, -1 for a fall, 0 without a change, shape (n_streams,)."""
        return np.where(self._detected, self._signs[self._change_side], 0)

    @property
    def recovery_start(self) -> Ints:
        """Tick (0-based) at which the last change likely ended, shape (n_streams,).

        -1 before a first alarm and while a change shows no sign of ending.
        """
        promising = ~self._detected | (self.returning.path > 0)
        return np.where((self._alarm_tick >= 0) & promising, self.returning.start, -1)

    @property
    def observed(self) -> Floats:
        """Mean since the change began, shape (n_streams,); NaN without a change."""
        return np.where(self._detected, ratio(self.returning.total, self.returning.n), np.nan)

    @property
    def observed_n(self) -> Floats:
        """Values since the change began, shape (n_streams,); 0 without a change."""
        return np.where(self._detected, self.returning.n, 0.0)

    def observed_interval(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Interval of the mean since the change began.

        Clopper-Pearson with the sample size divided by the dispersion. The start was chosen because
        it looked extreme, so right after the alarm the interval is slightly too far from the
        baseline.

        Returns
        -------
        low, high : ndarray of shape (n_streams,)
            NaN without a change.
        """
        scale = np.where(self._detected, np.maximum(self._dispersion, 1.0), np.nan)
        hits, n = self.returning.total / scale, self.returning.n / scale
        tail = (1 - confidence) / 2
        low = np.where(hits > 0, special.betaincinv(np.maximum(hits, TINY), n - hits + 1, tail), 0)
        misses = np.maximum(n - hits, TINY)
        high = np.where(n > hits, special.betaincinv(hits + 1, misses, 1 - tail), 1)
        return np.where(self._detected, low, np.nan), np.where(self._detected, high, np.nan)

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
            tick (hour of the week, the fleet), same shape. Needs `calibrate`: a warm-up has none.

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
            if offset is not None:
                raise ValueError("offsets need a calibrated baseline: call calibrate() first")
            self.reference.add(warming, sums, counts)
            done = warming & (self.reference.n >= self.warm_up)
            if done.any():
                self._watch(done, self.reference.measured_dispersion())
        if watching.size:
            shift = None
            if offset is not None:
                shift = np.broadcast_to(np.asarray(offset, np.float64), (self.n_streams,))
            self._bet(watching, sums, counts, shift)
        self._tick += 1
        return self

    def calibrate(
        self, total: ArrayLike, n: ArrayLike, dispersion: ArrayLike | None = None
    ) -> Self:
        """Set the reference of every stream from what is known, and forget all evidence.

        Parameters
        ----------
        total, n
            Sum and number of the reference's values, shape (n_streams,) or numbers; n > 0.
        dispersion
            As estimated elsewhere; by default the constructor's, or its floor.

        Raises
        ------
        ValueError
            Unless ``0 <= total <= n`` and ``n > 0``.
        """
        self.reference.total[:] = total
        self.reference.n[:] = n
        known = (self.reference.n > 0) & (self.reference.total >= 0)
        if not (known & (self.reference.total <= self.reference.n)).all():
            raise ValueError("total must lie between 0 and n, and n must be positive")
        given = self.dispersion if self.dispersion is not None else self.floor
        scale = np.asarray(given if dispersion is None else dispersion, np.float64)
        self._watch(np.ones(self.n_streams, np.bool_), np.broadcast_to(scale, (self.n_streams,)))
        return self

    def announce(self, streams: ArrayLike, *, before: bool = False) -> Self:
        """Declare a change in ``streams`` (indices) because of evidence combined elsewhere.

        The start, direction and size are the likeliest by the stream's own evidence. ``before``
        says that the alarm belongs to the tick that `update` has just taken.
        """
        who = np.asarray(streams, np.int64)
        side = self._side_evidence(who).argmax(axis=1)
        bet = self._path[who, side].argmax(axis=1)
        self._detected[who] = True
        self._alarm_tick[who] = self._tick[who] - before
        self._change_side[who] = side
        self._change_start[who] = self._path_start[who, side, bet]
        self.returning.open(who, self._path_total[who, side, bet], self._path_n[who, side, bet])
        return self

    def forget(self, streams: ArrayLike) -> Self:
        """Drop the evidence of ``streams`` (mask or indices) and arm them again."""
        chosen = np.asarray(streams)
        self._detected[chosen] = False
        self.clear(chosen, ("_evidence", "_path"))
        return self

    def extend(self, count: int) -> Self:
        """Add ``count`` new streams behind the others, each in its own warm-up."""
        self.reference.extend(count)
        self.returning.extend(count)
        return super().extend(count)

    def reset(self, streams: ArrayLike | None = None) -> Self:
        """Send streams (mask or indices; default all) back to warm-up: a change was accepted."""
        chosen: Any = slice(None) if streams is None else np.asarray(streams)
        self.clear(chosen, [name for name in self._state if name != "_tick"])
        self.reference.clear(chosen)
        self.returning.clear(chosen)
        return self

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        parts = {"reference": self.reference.snapshot(), "returning": self.returning.snapshot()}
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
        detector.returning = Recovery.restore(snapshot["returning"])
        sizes = {detector.n_streams, detector.reference.n_streams, detector.returning.n_streams}
        if len(sizes) != 1:
            raise ValueError("the parts of the snapshot follow different numbers of streams")
        return detector

    # -- how ---------------------------------------------------------------------------------------

    def _side_evidence(self, at: Any = slice(None)) -> Floats:
        """Evidence per direction, shape (k, D): the least favourable baseline decides."""
        least: Floats = (self._evidence[at].mean(axis=3) * TESTIMONY).min(axis=2)
        return least

    def _watch(self, rows: Bools, dispersion: Floats) -> None:
        """Fix the baseline of ``rows``: the means at which the evidence is evaluated."""
        for side, sign in enumerate(self._signs):
            limit = self.reference.limits(sign, np.maximum(dispersion, TINY))
            means = np.clip(limit + sign * self.min_effect, TINY, 1 - TINY)
            self._means[rows, side] = means[rows]
        mean = (self.reference.total + 0.5) / (self.reference.n + 1)
        self._base[rows] = special.logit(mean)[rows]
        self._dispersion[rows] = dispersion[rows]
        self._watching[rows] = True
        self._detected[rows] = False
        self.clear(rows, ("_evidence", "_path"))

    def _bet(self, who: Ints, sums: Floats, counts: Floats, offset: Floats | None) -> None:
        every = who.size == self.n_streams
        at: Any = slice(None) if every else who  # a view, where nothing has to be gathered
        total, n, scale = sums[at], counts[at], self._dispersion[at]
        means = self._means[at]
        if offset is not None:
            factor = np.exp(offset[at])[:, None, None]
            means = means * factor / (1 - means + means * factor)
        gain = (total / scale)[:, None, None] * self._log_odds  # (k, D, B)
        cost = np.log1p(means[..., None] * np.expm1(self._log_odds)[:, None, :])  # (k, D, Z, B)
        step = gain[:, :, None, :] - (n / scale)[:, None, None, None] * cost
        np.clip(step, -_MAX_STEP, _MAX_STEP, out=step)
        self._evidence[at] = np.minimum((self._evidence[at] + 1) * np.exp(step), _CEILING)
        self._follow(at, step[:, :, 0, :], total, n)
        loud = self._side_evidence(at).mean(axis=1) >= self.arl
        alarmed = self._detected[at]
        ongoing, fresh = who[alarmed], who[loud & ~alarmed]
        if ongoing.size:
            back = self.returning.update(
                ongoing,
                self._tick[ongoing],
                sums[ongoing],
                counts[ongoing],
                self._base[ongoing],
                self._dispersion[ongoing],
                0.0 if offset is None else offset[ongoing],
            )
            self.forget(back)
        if fresh.size:
            self.announce(fresh)

    def _follow(self, at: Any, step: Floats, total: Floats, n: Floats) -> None:
        """Keep, per bet, the likeliest start of a change (Page's recursion) and what came since."""
        anew = self._path[at] <= 0
        self._path[at] = np.where(anew, 0.0, self._path[at]) + step
        self._path_start[at] = np.where(anew, self._tick[at][:, None, None], self._path_start[at])
        self._path_total[at] = np.where(anew, 0.0, self._path_total[at]) + total[:, None, None]
        self._path_n[at] = np.where(anew, 0.0, self._path_n[at]) + n[:, None, None]
