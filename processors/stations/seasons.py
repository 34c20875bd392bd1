"""What hour of the week it is: how streams of a detector differ from hour to hour, as offsets.

A stream that fails twice as often at night is not in a change every night. Two weeks of it make
its baseline by the hour of the week (`detectors.change.seasonal`), anew every week. What happened
in a change is left out, unless it comes again: in both weeks at that hour of the week, or on half
of their days. The level is learnt only the first time: a baseline that followed the data would
follow a slow decline too, so that later weeks only say how hours differ from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from detectors.base import Bools, Floats, Ints, pack, unpack
from detectors.change.ensembles import EnsembleDetector
from detectors.change.seasonal import HOURS, HourOfWeek
from processors.stations.streams import WEEK

_HOUR: Final = 3600
_MONDAY: Final = 4 * 86_400  # the first one after 1970 began
_KEPT: Final = 2  # whole weeks, beside the one that goes on
_LEAST_HOURS: Final = 24  # of a week, with values, to say how its hours differ
_ALIKE: Final = 0.75  # of the hours of one week the other must have: a part of a week is no week

_FINE: Final = 255 / (np.pi / 2)
"""Means are kept as arcsines of their roots, whose error is alike for all means."""

_MOST: Final = 65_535

Calibrate = Callable[[Floats, Floats, Floats, Ints], Any]
"""Takes sum and number of the reference, its dispersion, and the rows that it is for."""


def hour_of_week(at: int) -> int:
    """0 for Monday 00:00 UTC.

    >>> hour_of_week(0), hour_of_week(4 * 86_400)
    (72, 0)
    """
    return (at - _MONDAY) % WEEK // _HOUR


class Seasons:
    """Offsets of the rows of one detector by the hour of the week.

    A row takes 3 KB from when it has a baseline on: of very many agents most never get one.

    Parameters
    ----------
    floor
        Smallest dispersion, as of the detector.
    """

    def __init__(self, floor: float = 1.0) -> None:
        self.floor = floor
        self._week = -1
        self._place: Ints = np.zeros(0, np.int64)  # of every row in the arrays below, or -1
        # Sum and number of values per hour of the week that goes on.
        self._cells: NDArray[np.float32] = np.zeros((0, 2, HOURS), np.float32)
        # Of whole weeks the mean and the number, in three bytes: they are most of a stored state.
        self._means: NDArray[np.uint8] = np.zeros((0, _KEPT, HOURS), np.uint8)
        self._counts: NDArray[np.uint16] = np.zeros((0, _KEPT, HOURS), np.uint16)
        self._changed: Bools = np.zeros((0, _KEPT + 1, HOURS), np.bool_)
        self._offsets: NDArray[np.float16] = np.zeros((0, HOURS), np.float16)
        self._known: Bools = np.zeros(0, np.bool_)

    @property
    def known(self) -> Bools:
        """Which rows have a season, shape (n_rows,)."""
        return self._of_all(self._known)

    def knows(self, row: int) -> bool:
        """Whether a row has a season."""
        place = self._place[row]
        return bool(place >= 0 and self._known[place])

    def extend(self, count: int) -> None:
        """Add new rows behind the others."""
        self._place = np.concatenate([self._place, np.full(count, -1)])

    def take(self, rows: Ints) -> None:
        """Keep only ``rows``, in that order."""
        places = self._place[rows]
        for name, array in self._arrays():
            setattr(self, name, array[places[places >= 0]])
        self._place = np.where(places >= 0, np.cumsum(places >= 0) - 1, -1)

    def forget(self, rows: Any) -> None:
        """Learn ``rows`` anew: their level is another now."""
        places = self._place[rows]
        for _, array in self._arrays():
            array[places[places >= 0]] = 0

    def _arrays(self) -> list[tuple[str, NDArray[Any]]]:
        names = ("_cells", "_means", "_counts", "_changed", "_offsets", "_known")
        return [(name, getattr(self, name)) for name in names]

    def _of_all(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of all rows, 0 for those without a place."""
        found = np.zeros(self._place.size, values.dtype)
        found[self._placed] = values[self._place[self._placed]]
        return found

    @property
    def _placed(self) -> Ints:
        return np.flatnonzero(self._place >= 0)

    def _admit(self, rows: Bools) -> None:
        """Give rows a place that have none."""
        fresh = np.flatnonzero(rows & (self._place < 0))
        if fresh.size:
            self._place[fresh] = len(self._known) + np.arange(fresh.size)
            for name, array in self._arrays():
                more = np.zeros((fresh.size, *array.shape[1:]), array.dtype)
                setattr(self, name, np.concatenate([array, more]))

    def offsets(self, at: int) -> Floats | None:
        """Log odds of this hour minus those of the reference, per row; None when all are 0."""
        if not self._known.any():
            return None
        return self._of_all(self._offsets[:, hour_of_week(at)]).astype(np.float64)

    def update(
        self,
        detector: EnsembleDetector,
        at: int,
        total: Floats,
        n: Floats,
        untold: Sequence[int] = (),
    ) -> None:
        """Give a tick to a detector of groups, whose members are the rows, and learn from it.

        Parameters
        ----------
        detector
            That takes it.
        at
            Its time, s.
        total, n
            Shapes (n_groups, indicators) and (n_groups, 1).
        untold
            Groups in a change too small to tell, which are learnt from all the same.
        """
        offsets, width = self.offsets(at), detector.indicators
        detector.update(total, n, None if offsets is None else offsets.reshape(-1, width))

        def calibrate(total: Floats, n: Floats, dispersion: Floats, rows: Ints) -> None:
            # Members of a group have the same number of values, and so the same weeks.
            groups = rows[::width] // width
            shape = (groups.size, width)
            detector.calibrate(
                total.reshape(shape), n.reshape(shape), dispersion.reshape(shape), groups=groups
            )

        told = detector.detected
        told[list(untold)] = False
        changed = np.repeat(told, width)
        warm = detector.members.warm
        self.learn(at, total.ravel(), np.repeat(n.ravel(), width), changed, warm, calibrate)

    def learn(
        self,
        at: int,
        total: Floats,
        n: Floats,
        changed: Bools,
        warm: Bools,
        calibrate: Calibrate,
    ) -> None:
        """Take a tick.

        Parameters
        ----------
        at
            Its time, s.
        total, n
            As the detector takes them, shape (n_rows,).
        changed
            Which rows are in a detected change.
        warm
            Which rows have a baseline. Others are not learnt from.
        calibrate
            Called at the first tick of a week for rows whose season is known from now on. A change
            that they are in ends, for it has come again and again.
        """
        self._admit(warm)
        rows = np.empty(len(self._known), np.int64)  # by their places
        rows[self._place[self._placed]] = self._placed
        week = (at - _MONDAY) // WEEK
        if week != self._week:
            self._turn(week, rows, changed[rows], warm[rows], calibrate)
        hour = hour_of_week(at)
        self._cells[:, 0, hour] += total[rows]
        self._cells[:, 1, hour] += n[rows]
        self._changed[:, -1, hour] |= (changed & (n > 0))[rows]

    def _turn(
        self, week: int, rows: Ints, changed: Bools, warm: Bools, calibrate: Calibrate
    ) -> None:
        passed = week - self._week if self._week >= 0 else 0
        self._week = week
        for _ in range(min(passed, _KEPT + 1)):  # a week that brought nothing leaves an empty place
            total, n = self._cells[:, 0], self._cells[:, 1]
            mean = np.divide(total, n, out=np.zeros_like(total), where=n > 0)
            self._means = _after(self._means, np.rint(_FINE * np.arcsin(np.sqrt(mean.clip(0, 1)))))
            self._counts = _after(self._counts, np.rint(n.clip(0, _MOST)))
            self._cells[:] = 0
            self._changed = _after(self._changed, np.zeros(n.shape))
        if passed:
            self._fit(rows, changed, warm, calibrate)

    def _fit(self, rows: Ints, changed: Bools, warm: Bools, calibrate: Calibrate) -> None:
        kept = self._ordinary()
        hours = kept.sum(axis=2)
        least, most = hours.min(axis=1), hours.max(axis=1)
        whole = (least >= _LEAST_HOURS) & (least >= _ALIKE * most)
        # A change that goes on and has not come before is found, and is not to end for this.
        seen = self._counts[:, -1] > 0
        latest = HOURS - 1 - seen[:, ::-1].argmax(axis=1)
        lasting = changed & ~kept[np.arange(len(kept)), -1, latest]
        who = np.flatnonzero(whole & warm & (self._known | ~lasting))
        if not who.size:
            return
        who = who[np.argsort(rows[who])]  # members of a group one after the other
        n = (self._counts[who] * kept[who]).reshape(who.size, -1).T.astype(np.float64)
        mean = np.sin(self._means[who].reshape(who.size, -1).T / _FINE) ** 2
        season = HourOfWeek(self.floor).fit(n * mean, n, np.tile(np.arange(HOURS), _KEPT))
        fresh = ~self._known[who]
        # The level of who is known stays, so that only differences between hours are new.
        moved = np.median(season.offsets_ - self._offsets[who], axis=1, keepdims=True)
        self._offsets[who] = season.offsets_ - np.where(fresh[:, None], 0.0, moved)
        self._known[who] = True
        if fresh.any():
            calibrate(
                season.total_[fresh], season.n_[fresh], season.dispersion_[fresh], rows[who[fresh]]
            )

    def _ordinary(self) -> Bools:
        """Hours that a season is learnt from, shape (n_rows, weeks, 168).

        None of a row that is in a change most of the time: that is no season.
        """
        seen, changed = self._counts > 0, self._changed[:, :_KEPT]
        by_day = (-1, _KEPT, 7, 24)
        days, worse = (part.reshape(by_day).sum(axis=2) for part in (seen, changed))
        often = ((worse > 0) & (2 * worse >= days)).all(axis=1)
        comes_again = np.tile(often, 7) | changed.all(axis=1)
        lasts = 2 * changed.sum(axis=(1, 2)) > seen.sum(axis=(1, 2))
        kept: Bools = seen & (~changed | comes_again[:, None]) & ~lasts[:, None, None]
        return kept

    def dump(self) -> dict[str, Any]:
        """State as JSON types."""
        bits = {"_changed": np.packbits(self._changed, axis=2)}
        packed = {name: pack(bits.get(name, array)) for name, array in self._arrays()}
        return {"week": self._week, "place": pack(self._place), **packed}

    def load(self, raw: dict[str, Any] | None, rows: int) -> Self:
        """Take a stored state over; one without seasons learns them from now on."""
        if raw is None:
            self.extend(rows)
            return self
        self._week, self._place = raw["week"], unpack(raw["place"])
        for name, _ in self._arrays():
            setattr(self, name, unpack(raw[name]))
        self._changed = np.unpackbits(unpack(raw["_changed"]), axis=2).astype(np.bool_)
        return self


def _after(weeks: NDArray[Any], latest: NDArray[Any]) -> NDArray[Any]:
    """Weeks without the first one, and a latest one behind."""
    return np.concatenate([weeks[:, 1:], latest[:, None].astype(weeks.dtype)], axis=1)
