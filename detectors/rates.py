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

from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from detectors.base import Bools, Floats, Ints, Snapshot, pack, unpack

ODDS: Final = (1.25, 1.6, 2.0, 2.6, 4.0, 10.0)
"""Bets: by how much the odds have changed, from a slow shift to an outage."""

LEVELS: Final = (0.0, 0.75, 1.5, 2.25, 3.0, 4.0, 5.0)
"""Standard-normal levels of the upper confidence limits of the baseline that are tried as m."""

BLOCKS: Final = (1, 2, 4, 8, 16)
"""Block lengths, in ticks, over which the dispersion of the reference is measured."""

_MIN_BLOCKS: Final = 20  # fewer say too little about a variance
_CEILING: Final = 1e200  # evidence beyond it changes nothing, and sums must stay finite
_MAX_STEP: Final = 200.0  # nats a single tick may add
_TINY: Final = 1e-9

# R(z) = exp(z_+^2 / 2.5) / C with C = E exp(Z_+^2 / 2.5) = 1/2 + sqrt(5)/2 for a standard normal Z.
_TESTIMONY: Final = np.exp(np.square(np.array(LEVELS)) / 2.5) / (0.5 + np.sqrt(5) / 2)

Direction = Literal["up", "down", "both"]

# Name -> (trailing shape after n_streams, dtype); D directions, Z levels, B bets, K block lengths.
_STATE: Final[dict[str, tuple[str, type]]] = {
    "_tick": ("", np.int64),  # ticks seen, with or without values
    "_reference_sum": ("", np.float64),
    "_reference_n": ("", np.float64),
    "_block_sum": ("K", np.float64),
    "_block_n": ("K", np.float64),
    "_block_ticks": ("", np.int64),
    "_block_count": ("K", np.float64),
    "_block_squares": ("K", np.float64),
    "_dispersion": ("", np.float64),
    "_calibrated": ("", np.bool_),
    "_means": ("DZ", np.float64),
    "_evidence": ("DZB", np.float64),
    "_path": ("DB", np.float64),  # log likelihood ratio since the likeliest start of each bet
    "_path_start": ("DB", np.int64),
    "_path_sum": ("DB", np.float64),
    "_path_n": ("DB", np.float64),
    "_detected": ("", np.bool_),
    "_alarm_tick": ("", np.int64),
    "_change_start": ("", np.int64),
    "_change_side": ("", np.int64),  # index of the direction of the alarm, -1 without
    "_change_sum": ("", np.float64),
    "_change_n": ("", np.float64),
    "_return_evidence": ("", np.float64),
    "_return_path": ("", np.float64),
    "_return_start": ("", np.int64),
    "_return_sum": ("", np.float64),
    "_return_n": ("", np.float64),
}

_NO_TICK: Final = ("_alarm_tick", "_change_start", "_return_start")  # -1 means never


class RateDetector:
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
    (228, 198)
    """

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
        self.n_streams = 0
        self._signs = np.array({"up": [1], "down": [-1], "both": [1, -1]}[direction])
        self._log_odds = self._signs[:, None] * np.log(ODDS)  # (D, B)
        for name, (axes, dtype) in _STATE.items():
            setattr(self, name, np.zeros((0, *self._shape(axes)), dtype))
        self.extend(n_streams)

    _tick: Ints
    _reference_sum: Floats
    _reference_n: Floats
    _block_sum: Floats
    _block_n: Floats
    _block_ticks: Ints
    _block_count: Floats
    _block_squares: Floats
    _dispersion: Floats
    _calibrated: Bools
    _means: Floats
    _evidence: Floats
    _path: Floats
    _path_start: Ints
    _path_sum: Floats
    _path_n: Floats
    _detected: Bools
    _alarm_tick: Ints
    _change_start: Ints
    _change_side: Ints
    _change_sum: Floats
    _change_n: Floats
    _return_evidence: Floats
    _return_path: Floats
    _return_start: Ints
    _return_sum: Floats
    _return_n: Floats

    # -- what is known after the last tick ---------------------------------------------------------

    @property
    def detected(self) -> Bools:
        """Whether each stream is in a detected change, shape (n_streams,). Ends with recovery."""
        return self._detected.copy()

    @property
    def e_value(self) -> Floats:
        """Current evidence for a change, shape (n_streams,); 0 during the warm-up."""
        sides = self._side_evidence()
        return np.where(self._calibrated, sides.mean(axis=1), 0.0)

    @property
    def threshold(self) -> float:
        """The e-value at which a change is announced; equal to ``arl``."""
        return float(self.arl)

    @property
    def warm(self) -> Bools:
        """Whether each stream has its baseline, shape (n_streams,)."""
        return self._calibrated.copy()

    @property
    def tick(self) -> Ints:
        """Ticks each stream has seen, shape (n_streams,)."""
        return self._tick.copy()

    @property
    def baseline(self) -> Floats:
        """Mean of the reference, shape (n_streams,); NaN before the first value."""
        return _ratio(self._reference_sum, self._reference_n)

    @property
    def baseline_n(self) -> Floats:
        """Values in the reference, shape (n_streams,)."""
        return self._reference_n.copy()

    @property
    def dispersion_used(self) -> Floats:
        """Dispersion the bets are scaled by, shape (n_streams,); NaN during the warm-up."""
        return np.where(self._calibrated, self._dispersion, np.nan)

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
        promising = ~self._detected | (self._return_path > 0)
        return np.where((self._alarm_tick >= 0) & promising, self._return_start, -1)

    @property
    def observed(self) -> Floats:
        """Mean since the change began, shape (n_streams,); NaN without a change."""
        return np.where(self._detected, _ratio(self._change_sum, self._change_n), np.nan)

    @property
    def observed_n(self) -> Floats:
        """Values since the change began, shape (n_streams,); 0 without a change."""
        return np.where(self._detected, self._change_n, 0.0)

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
        hits, n = self._change_sum / scale, self._change_n / scale
        tail = (1 - confidence) / 2
        low = np.where(hits > 0, special.betaincinv(np.maximum(hits, _TINY), n - hits + 1, tail), 0)
        misses = np.maximum(n - hits, _TINY)
        high = np.where(n > hits, special.betaincinv(hits + 1, misses, 1 - tail), 1)
        return np.where(self._detected, low, np.nan), np.where(self._detected, high, np.nan)

    # -- what moves it -----------------------------------------------------------------------------

    def update(self, total: ArrayLike, n: ArrayLike) -> Self:
        """Take one tick of every stream.

        Parameters
        ----------
        total
            Sum of the tick's values (failures, when values are 0/1), shape (n_streams,) or a
            number.
        n
            How many values, same shape. 0 means nothing happened: no evidence either way.

        Raises
        ------
        ValueError
            Unless ``0 <= total <= n``.
        """
        sums = np.broadcast_to(np.asarray(total, np.float64), (self.n_streams,))
        counts = np.broadcast_to(np.asarray(n, np.float64), (self.n_streams,))
        if not ((sums >= 0) & (sums <= counts)).all():  # also fails for NaN
            raise ValueError("total must lie between 0 and n")
        busy = counts > 0
        warming = busy & ~self._calibrated
        watching = busy & self._calibrated
        if warming.any():
            self._learn(warming, sums, counts)
        if watching.any():
            self._bet(watching, sums, counts)
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
        """
        everything = np.ones(self.n_streams, np.bool_)
        self._reference_sum[:] = total
        self._reference_n[:] = n
        if not ((self._reference_sum >= 0) & (self._reference_sum <= self._reference_n)).all():
            raise ValueError("total must lie between 0 and n")
        given = self.dispersion if self.dispersion is not None else self.floor
        self._start_watching(
            everything,
            np.broadcast_to(given if dispersion is None else dispersion, (self.n_streams,)),
        )
        return self

    def extend(self, count: int) -> Self:
        """Add ``count`` new streams behind the others, each in its own warm-up."""
        for name, (axes, dtype) in _STATE.items():
            fresh: NDArray[Any] = np.zeros((count, *self._shape(axes)), dtype)
            if name in _NO_TICK:
                fresh -= 1
            setattr(self, name, np.concatenate([getattr(self, name), fresh]))
        self.n_streams += count
        return self

    def reset(self, streams: ArrayLike | None = None) -> Self:
        """Send streams (mask or indices; default all) back to warm-up: a change was accepted."""
        chosen = slice(None) if streams is None else np.asarray(streams)
        tick = self._tick.copy()
        for name in _STATE:
            getattr(self, name)[chosen] = -1 if name in _NO_TICK else 0
        self._tick = tick
        return self

    # -- state as text -----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        return {
            "detector": "RateDetector",
            "version": 1,
            "params": self._params(),
            "state": {name: pack(getattr(self, name)) for name in _STATE},
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the detector of a snapshot again.

        Raises
        ------
        ValueError
            If the snapshot is of another detector or version, or its arrays do not fit.
        """
        if (snapshot.get("detector"), snapshot.get("version")) != ("RateDetector", 1):
            raise ValueError("not a snapshot of RateDetector, version 1")
        detector = cls(0, **snapshot["params"])
        state = {name: unpack(snapshot["state"][name]) for name in _STATE}
        count = len(state["_tick"])
        for name, (axes, dtype) in _STATE.items():
            if state[name].shape != (count, *detector._shape(axes)) or state[name].dtype != dtype:
                raise ValueError(f"{name} of the snapshot has the wrong shape or type")
            setattr(detector, name, state[name])
        detector.n_streams = count
        return detector

    # -- how ---------------------------------------------------------------------------------------

    def _params(self) -> dict[str, Any]:
        names = ("arl", "warm_up", "min_effect", "dispersion", "floor", "direction", "recovery")
        return {name: getattr(self, name) for name in names}

    def _shape(self, axes: str) -> tuple[int, ...]:
        sizes = {"D": len(self._signs), "Z": len(LEVELS), "B": len(ODDS), "K": len(BLOCKS)}
        return tuple(sizes[axis] for axis in axes)

    def _side_evidence(self) -> Floats:
        """Evidence per direction, shape (n_streams, D): the least favourable baseline decides."""
        least: Floats = (self._evidence.mean(axis=3) * _TESTIMONY).min(axis=2)
        return least

    def _learn(self, rows: Bools, sums: Floats, counts: Floats) -> None:
        self._reference_sum[rows] += sums[rows]
        self._reference_n[rows] += counts[rows]
        self._block_ticks[rows] += 1
        self._block_sum[rows] += sums[rows, None]
        self._block_n[rows] += counts[rows, None]
        full = rows[:, None] & (self._block_ticks[:, None] % np.array(BLOCKS) == 0)
        self._block_squares[full] += self._block_sum[full] ** 2 / self._block_n[full]
        self._block_count[full] += 1
        self._block_sum[full] = 0
        self._block_n[full] = 0
        done = rows & (self._reference_n >= self.warm_up)
        if done.any():
            self._start_watching(done, self._estimated_dispersion())

    def _estimated_dispersion(self) -> Floats:
        """Largest dispersion over all block lengths that have enough blocks, shape (n_streams,)."""
        if self.dispersion is not None:
            return np.full(self.n_streams, self.dispersion)
        n = np.maximum(self._reference_n, 1)
        mean = (self._reference_sum + 0.5) / (n + 1)
        # sum over blocks of (s - n mean)^2 / n, with the blocks' totals taken as the reference's
        squares = self._block_squares - (self._reference_sum**2 / n)[:, None]
        freedom = np.maximum(self._block_count - 1, 1)
        ratio = squares / freedom / (mean * (1 - mean))[:, None]
        enough = self._block_count >= _MIN_BLOCKS
        estimate: Floats = np.maximum(self.floor, np.where(enough, ratio, 0).max(axis=1))
        return estimate

    def _start_watching(self, rows: Bools, dispersion: Floats) -> None:
        """Fix the baseline of ``rows``: the means at which the evidence is evaluated."""
        scale = np.maximum(dispersion, 1.0)
        hits = (self._reference_sum / scale)[:, None]
        misses = ((self._reference_n - self._reference_sum) / scale)[:, None]
        normal = np.array(LEVELS)
        for side, sign in enumerate(self._signs):
            if sign > 0:  # upper Clopper-Pearson limits
                limit = special.betaincinv(
                    hits + 1, np.maximum(misses, _TINY), special.ndtr(normal)
                )
            else:
                limit = special.betaincinv(
                    np.maximum(hits, _TINY), misses + 1, special.ndtr(-normal)
                )
            means = np.clip(limit + sign * self.min_effect, _TINY, 1 - _TINY)
            self._means[rows, side] = means[rows]
        self._dispersion[rows] = dispersion[rows]
        self._calibrated[rows] = True
        for name in ("_evidence", "_path", "_path_sum", "_path_n"):
            getattr(self, name)[rows] = 0
        self._path_start[rows] = self._tick[rows, None, None]
        self._detected[rows] = False

    def _bet(self, rows: Bools, sums: Floats, counts: Floats) -> None:
        every = bool(rows.all())
        at: Any = slice(None) if every else np.flatnonzero(rows)
        total, n, scale = sums[at], counts[at], self._dispersion[at]
        means = self._means[at]
        gain = (total / scale)[:, None, None] * self._log_odds  # (S, D, B)
        cost = np.log1p(means[..., None] * np.expm1(self._log_odds)[:, None, :])  # (S, D, Z, B)
        step = gain[:, :, None, :] - (n / scale)[:, None, None, None] * cost
        np.clip(step, -_MAX_STEP, _MAX_STEP, out=step)
        evidence = (self._evidence[at] + 1) * np.exp(step)
        self._evidence[at] = np.minimum(evidence, _CEILING)
        self._follow(at, step[:, :, 0, :], total, n)
        found: Bools = np.zeros(self.n_streams, np.bool_)
        found[at] = self._side_evidence()[at].mean(axis=1) >= self.arl
        fresh: Bools = found & ~self._detected
        ongoing = np.zeros(self.n_streams, np.bool_)
        ongoing[at] = self._detected[at]
        if ongoing.any():
            self._await_return(ongoing, sums, counts)
        if fresh.any():
            self._announce(fresh)

    def _follow(self, at: Any, step: Floats, total: Floats, n: Floats) -> None:
        """Keep, per bet, the likeliest start of a change (Page's recursion) and what came since."""
        restart = self._path[at] <= 0
        self._path[at] = np.where(restart, 0.0, self._path[at]) + step
        self._path_start[at] = np.where(
            restart, self._tick[at][:, None, None], self._path_start[at]
        )
        self._path_sum[at] = np.where(restart, 0.0, self._path_sum[at]) + total[:, None, None]
        self._path_n[at] = np.where(restart, 0.0, self._path_n[at]) + n[:, None, None]

    def _announce(self, rows: Bools) -> None:
        who = np.flatnonzero(rows)
        side = self._side_evidence()[who].argmax(axis=1)
        bet = self._path[who, side].argmax(axis=1)
        self._detected[who] = True
        self._alarm_tick[who] = self._tick[who]
        self._change_side[who] = side
        self._change_start[who] = self._path_start[who, side, bet]
        self._change_sum[who] = self._path_sum[who, side, bet]
        self._change_n[who] = self._path_n[who, side, bet]
        for name in ("_return_evidence", "_return_path", "_return_sum", "_return_n"):
            getattr(self, name)[who] = 0
        self._return_start[who] = -1

    def _await_return(self, rows: Bools, sums: Floats, counts: Floats) -> None:
        """Bet that the mean is nearer to the baseline again than to the change.

        What may be the recovery is kept apart from the change until the bet has lost, so that the
        changed mean, and with it the midpoint, does not follow the recovery.
        """
        who = np.flatnonzero(rows)
        fresh = who[self._return_path[who] <= 0]
        self._change_sum[fresh] += self._return_sum[fresh]
        self._change_n[fresh] += self._return_n[fresh]
        for name in ("_return_path", "_return_sum", "_return_n"):
            getattr(self, name)[fresh] = 0
        self._return_start[fresh] = self._tick[fresh]
        base = special.logit((self._reference_sum[who] + 0.5) / (self._reference_n[who] + 1))
        n = self._change_n[who] + 1
        mean = (self._change_sum[who] + 0.5) / n
        # Alarms ring when things look worse than they are: believe the near end of the interval.
        error = np.sqrt(self._dispersion[who] / (n * mean * (1 - mean)))
        shift = special.logit(mean) - base
        shift = np.sign(shift) * np.maximum(np.abs(shift) / 2, np.abs(shift) - 2 * error)
        odds = -shift / 2
        null = special.expit(base + shift / 2)
        step = sums[who] * odds - counts[who] * np.log1p(null * np.expm1(odds))
        step = np.clip(step / self._dispersion[who], -_MAX_STEP, _MAX_STEP)
        self._return_path[who] += step
        self._return_sum[who] += sums[who]
        self._return_n[who] += counts[who]
        evidence = (self._return_evidence[who] + 1) * np.exp(step)
        self._return_evidence[who] = np.minimum(evidence, _CEILING)
        back = who[self._return_evidence[who] >= self.recovery]
        self._detected[back] = False
        self._evidence[back] = 0
        self._path[back] = 0


def _ratio(total: Floats, n: Floats) -> Floats:
    ratio: Floats = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    return ratio
