"""How far event time has come: what may be read as complete.

The sink reports a watermark per partition together with the marks its events made; the recompute
agents report which marks they have worked off. Event time is *sealed* up to a report's watermark
once all marks of that report are worked off, so a sealed window never misses derived rows.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final

import polars as pl

from ingest.core.events import DIRTY_TOPIC, EVENTS_TOPIC
from processors.clickhouse import Store

NS: Final = 1_000_000_000
SEAL_DELAY_NS: Final = 15 * NS
"""A cell is sealed once the watermark is this far past its end; what comes then is late."""

_IDLE_MS: Final = 3_000
"""A partition that has not moved for so long, by the clock of its worker, is idle."""

_IDLE_NS: Final = 30 * NS
"""How far behind the clock event time is taken to be when nothing is left to read."""

_LIVE_NS: Final = 3600 * NS
"""Traffic that was no further behind the clock than this when it was stored is live."""

_NEAR_NS: Final = 60 * NS
"""What is no further behind the clock comes as it happens: a record of later is an event of later.

What is further behind may be a replay, in which seconds bring hours.
"""

_FRESH_NS: Final = 20 * NS
"""A report older than this says nothing about lag: its worker may be dead."""

GIVEN_UP: Final = "unfinished"
"""Stands for a topic where a row says up to which event time open interactions were given up."""

SCHEMA: Final[dict[str, pl.DataType]] = {
    "log_id": pl.String(),
    "topic": pl.String(),
    "partition": pl.UInt32(),
    "watermark": pl.Datetime("ns", "UTC"),
    "offset": pl.UInt64(),
    "lag": pl.UInt64(),
    "marked": pl.List(pl.UInt64()),
    "advanced": pl.Datetime("ms", "UTC"),
    "updated": pl.Datetime("ms", "UTC"),
}

_READ: Final = """
SELECT topic, partition, toUnixTimestamp64Nano(watermark) AS watermark, offset,
    if(parked, 0, lag) AS lag, marked,
    toUnixTimestamp64Milli(advanced) AS advanced, toUnixTimestamp64Milli(updated) AS updated,
    toUnixTimestamp64Milli(heard) AS heard
FROM watermarks FINAL WHERE log_id = {log_id:String}
"""


@dataclass(frozen=True, slots=True)
class Report:
    """Event time in ns that the events read so far reach, and the marks that must be done first."""

    watermark: int
    marked: tuple[int, ...]


def report(rows: pl.DataFrame, now: int, heard_all: int | None = None) -> Report | None:
    """What the rows of ``watermarks`` add up to; None while the sink has said nothing. Pure.

    A partition with lag holds event time back, and so does one that has just moved, for more may be
    on its way; any other is idle and does not. When all are idle, event time follows the clock at a
    distance, provided their workers are alive.

    Parameters
    ----------
    rows
        Columns as in `_READ`.
    now
        The clock, ns.
    heard_all
        Event time, ns, up to which idle partitions are known to hold nothing unread, see `Sealing`;
        None for any.
    """
    events = rows.filter(pl.col("topic") == EVENTS_TOPIC)
    if events.is_empty():
        return None
    # A worker of before partitions were added to the dirty topic knows of fewer.
    marked = tuple(max(column) for column in zip_longest(*events["marked"], fillvalue=0))
    waiting = events.filter(_waits())
    latest = int(events["watermark"].max() or 0)  # type: ignore[arg-type]
    heard = latest if heard_all is None else heard_all
    if not waiting.is_empty():
        return Report(min(int(waiting["watermark"].min() or 0), heard), marked)  # type: ignore[arg-type]
    if heard < latest:
        return Report(heard, marked)
    alive = int(events["updated"].min() or 0) * 1_000_000 > now - _FRESH_NS  # type: ignore[arg-type]
    return Report(_idle(rows, latest, now) if alive and latest else latest, marked)


def _waits() -> pl.Expr:
    return (pl.col("lag") > 0) | (pl.col("updated") - pl.col("advanced") < _IDLE_MS)


def _idle(rows: pl.DataFrame, latest: int, now: int) -> int:
    """Event time when nothing is left to read.

    The clock's for live traffic, however long it stays away: silence is found by the time that
    passes. What was replayed from the past ends shortly after its last event, so that more of it
    may follow.
    """
    return max(latest, now - _IDLE_NS if _was_live(rows, latest) else latest + 60 * NS)


def _was_live(rows: pl.DataFrame, latest: int) -> bool:
    """Whether event time went along with the clock when it was last heard of.

    The last event was stored when it was young, or event time that was reached since, and is stored
    as well, was close to the clock. The first is lost when a worker starts, the second is not.
    """
    last = (pl.col("topic") == EVENTS_TOPIC) & (pl.col("watermark").cast(pl.Int64) == latest)
    reached = (pl.col("topic") == GIVEN_UP) & (
        pl.col("watermark").cast(pl.Int64) > latest - _LIVE_NS
    )
    heard = pl.when(last).then("advanced").otherwise("updated").cast(pl.Int64) * 1_000_000
    behind = rows.filter(last | reached).select(heard - pl.col("watermark").cast(pl.Int64))
    return bool((behind.to_series() < _LIVE_NS).any())


class Sealing:
    """Follows the reports; `sealed` is the event time (ns) up to which windows are complete.

    That a partition is idle was true when its worker last heard of it. What others had reached by
    then it has nothing before, provided that records are sent in the order of event time. What they
    have reached since may be a replay whose records in this partition nobody has seen yet.
    """

    def __init__(self) -> None:
        self._waiting: deque[Report] = deque(maxlen=10_000)
        self._reached: deque[tuple[int, int]] = deque(maxlen=1_000)  # clock and event time, ns
        self._watermark = 0

    def update(self, rows: pl.DataFrame, now: int) -> Sealing:
        """Take the rows of ``watermarks``, columns as in `_READ`, that were just read."""
        found = report(rows, now, self._heard_all(rows, now))
        if found is not None:
            self._waiting.append(found)
        done = _done(rows)
        while self._waiting and _worked_off(self._waiting[0].marked, done):
            self._watermark = max(self._watermark, self._waiting.popleft().watermark)
        return self

    def _heard_all(self, rows: pl.DataFrame, now: int) -> int | None:
        """Event time, ns, before which no idle partition has anything unread; None for any."""
        events = rows.filter(pl.col("topic") == EVENTS_TOPIC)
        latest = int(events["watermark"].max() or 0)  # type: ignore[arg-type]
        if latest > (self._reached[-1][1] if self._reached else 0):
            self._reached.append((now, latest))
        near = latest > now - _NEAR_NS
        idle = events.filter(~_waits()).select("watermark", "heard")
        reached = [
            max(watermark, self._reached_by(heard * 1_000_000, near=near))
            for watermark, heard in idle.iter_rows()
        ]
        return min(reached, default=None)

    def _reached_by(self, clock: int, *, near: bool) -> int:
        before = bisect_right(self._reached, clock, key=lambda at: at[0])
        known = self._reached[before - 1][1] if before else 0
        return max(known, clock + SEAL_DELAY_NS) if near else known

    @property
    def sealed(self) -> int:
        """End of the last sealed cell, ns since 1970; 0 before anything is sealed."""
        return max(0, (self._watermark - SEAL_DELAY_NS) // (10 * NS) * (10 * NS))


def _done(rows: pl.DataFrame) -> dict[int, int]:
    marks = rows.filter(pl.col("topic") == DIRTY_TOPIC)
    return dict(marks.select("partition", "offset").iter_rows())


def _worked_off(marked: tuple[int, ...], done: dict[int, int]) -> bool:
    return all(done.get(partition, 0) >= needed for partition, needed in enumerate(marked))


def read(store: Store, log_id: str) -> pl.DataFrame:
    """Rows of ``watermarks`` of one log."""
    return store.query(_READ, {"log_id": log_id})


def last_report(store: Store, log_id: str, partition: int) -> Report:
    """The last report on a partition of the events topic, by the consumer that held it."""
    rows = read(store, log_id).filter(
        (pl.col("topic") == EVENTS_TOPIC) & (pl.col("partition") == partition)
    )
    if rows.is_empty():
        return Report(0, ())
    return Report(int(rows["watermark"][0]), tuple(rows["marked"][0]))


def ledger_end(store: Store, log_id: str, partition: int) -> int:
    """Offset after the last record of a partition that is in the books; 0 when none is."""
    found = store.query(
        "SELECT max(offset) + 1 AS n, count() AS known FROM ledger"
        " WHERE log_id = {l:String} AND topic = {t:String} AND partition = {p:UInt32}",
        {"l": log_id, "t": EVENTS_TOPIC, "p": partition},
    )
    return int(found["n"][0]) if found["known"][0] else 0


def progress_rows(log_id: str, done: dict[int, int]) -> pl.DataFrame:
    """Rows that say up to which offset each partition of the dirty topic is worked off."""
    now = datetime.now(UTC)
    return pl.DataFrame(
        [
            (log_id, DIRTY_TOPIC, partition, 0, offset, 0, [], now, now)
            for partition, offset in done.items()
        ],
        schema=SCHEMA,
        orient="row",
    )


def given_up(rows: pl.DataFrame) -> int:
    """Event time, ns, up to which interactions without an end are given up. Pure."""
    return int(rows.filter(pl.col("topic") == GIVEN_UP)["watermark"].max() or 0)  # type: ignore[arg-type]


def given_up_rows(log_id: str, sealed: int) -> pl.DataFrame:
    """The row that says so."""
    now = datetime.now(UTC)
    return pl.DataFrame(
        [(log_id, GIVEN_UP, 0, sealed, 0, 0, [], now, now)], schema=SCHEMA, orient="row"
    )


def clock_ns() -> int:
    """Wall clock in ns since 1970."""
    return time.time_ns()


def marks_made(rows: pl.DataFrame) -> tuple[int, ...]:
    """How far the marks reach that are known now, per partition of the dirty topic. Pure."""
    found = report(rows, 0)
    return () if found is None else found.marked


def worked_off(rows: pl.DataFrame, marked: tuple[int, ...]) -> bool:
    """Whether all that was asked for up to ``marked`` is computed. Pure."""
    return _worked_off(marked, _done(rows))


def settled(rows: pl.DataFrame, offsets: Mapping[int, int]) -> bool:
    """Whether everything up to ``offsets`` is stored and all that follows from it as well. Pure.

    Parameters
    ----------
    rows
        Rows of ``watermarks`` of one log, as `read` gives them.
    offsets
        Per partition of the events topic, the offset after the last record of interest.
    """
    events = rows.filter(pl.col("topic") == EVENTS_TOPIC)
    stored = dict(events.select("partition", "offset").iter_rows())
    if any(stored.get(partition, 0) < offset for partition, offset in offsets.items()):
        return False
    of_interest = events.filter(pl.col("partition").is_in(list(offsets)))
    found = report(of_interest, 0)
    return found is None or _worked_off(found.marked, _done(rows))
