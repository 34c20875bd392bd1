"""What is known of a change in progress: since when, how large, and whether it is over.

Kept apart from the evidence that rings the alarm (`rates`), because evidence combined
elsewhere (`detectors.change.ensembles`) opens episodes too.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Bools, Floats, Ints, Snapshot, Streams, ratio
from detectors.change.recovery import Recovery
from detectors.change.reference import interval


class Episodes(Streams):
    """The alarms of many streams, each with its likeliest start, size and end.

    A subclass gives every bet's log likelihood ratio of a tick to `_follow`. The bet that has won
    most since it was last at zero (Page's recursion) says when the change began.
    """

    _never: ClassVar = ("_alarm_tick", "_change_start")
    # axes: D directions, B bets
    _state: ClassVar = {
        "_tick": ("", np.int64),  # ticks seen, with or without values
        "_path": ("DB", np.float64),  # log likelihood ratio since the likeliest start of each bet
        "_path_start": ("DB", np.int64),
        "_path_total": ("DB", np.float64),
        "_path_n": ("DB", np.float64),
        "_path_expected": ("DB", np.float64),
        "_detected": ("", np.bool_),
        "_alarm_tick": ("", np.int64),
        "_change_start": ("", np.int64),
        "_change_side": ("", np.int64),
    }
    _tick: Ints
    _path: Floats
    _path_start: Ints
    _path_total: Floats
    _path_n: Floats
    _path_expected: Floats
    _detected: Bools
    _alarm_tick: Ints
    _change_start: Ints
    _change_side: Ints
    _dispersion: Floats
    _signs: Ints
    returning: Recovery

    @property
    def tick(self) -> Ints:
        """Ticks each stream has seen, shape (n_streams,)."""
        return self._tick.copy()

    @property
    def detected(self) -> Bools:
        """Whether each stream is in a detected change, shape (n_streams,). Ends with recovery."""
        return self._detected.copy()

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
    def observed(self) -> Floats:
        """Mean since the change began, shape (n_streams,); NaN without a change."""
        return self._since(ratio(self.returning.total, self.returning.n))

    @property
    def expected(self) -> Floats:
        """Mean that the baseline and its offsets gave reason to expect since the change began.

        Shape (n_streams,); NaN without a change.
        """
        return self._since(ratio(self.returning.expected, self.returning.n))

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
        scale = np.maximum(self._dispersion, 1.0)
        low, high = interval(self.returning.total / scale, self.returning.n / scale, confidence)
        return self._since(low), self._since(high)

    def extend(self, count: int) -> Self:
        """Add ``count`` new streams behind the others."""
        self.returning.extend(count)
        return super().extend(count)

    def take(self, streams: ArrayLike) -> Self:
        """Keep only ``streams`` (mask or indices), in that order."""
        self.returning.take(streams)
        return super().take(streams)

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        return {**super().snapshot(), "returning": self.returning.snapshot()}

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the object of a snapshot again.

        Raises
        ------
        ValueError
            If the snapshot is of another class or version, or its arrays do not fit.
        """
        episodes = super().restore(snapshot)
        episodes.returning = Recovery.restore(snapshot["returning"])
        if episodes.returning.n_streams != episodes.n_streams:
            raise ValueError("the parts of the snapshot follow different numbers of streams")
        return episodes

    # -- how ---------------------------------------------------------------------------------------

    def _since(self, values: Floats) -> Floats:
        return np.where(self._detected, values, np.nan)

    def _open(self, who: Ints, side: Ints, tick: Ints) -> None:
        """Begin an episode in the streams ``who``, in directions ``side``, at ``tick``."""
        best = who, side, self._path[who, side].argmax(axis=1)
        self._detected[who] = True
        self._alarm_tick[who] = tick
        self._change_side[who] = side
        self._change_start[who] = self._path_start[best]
        self.returning.open(
            who, self._path_total[best], self._path_n[best], self._path_expected[best]
        )

    def _close(self, streams: ArrayLike) -> None:
        """End the episodes of ``streams`` (mask or indices) and look for a new start."""
        chosen = np.asarray(streams)
        self._detected[chosen] = False
        self.clear(chosen, ("_path",))

    def _follow(self, at: Any, step: Floats, total: Floats, n: Floats, mean: Floats) -> None:
        """Keep, per bet, the likeliest start of a change and what came since.

        ``step`` is the bets' log likelihood ratio, shape (k, D, B); the others have shape (k,).
        """
        anew = self._path[at] <= 0
        self._path[at] = np.where(anew, 0.0, self._path[at]) + step
        self._path_start[at] = np.where(anew, self._tick[at][:, None, None], self._path_start[at])
        for kept, value in (
            (self._path_total, total),
            (self._path_n, n),
            (self._path_expected, n * mean),
        ):
            kept[at] = np.where(anew, 0.0, kept[at]) + value[:, None, None]

    def _still_away(
        self, who: Ints, total: Floats, n: Floats, base: Floats, offset: Floats | float
    ) -> Ints:
        """Take one tick of the streams ``who``, all in an episode; returns those recovered."""
        return self.returning.update(
            who, self._tick[who], total, n, base, self._dispersion[who], offset
        )
