"""How far event time has come: what may be read as complete.

The sink reports a watermark per partition together with the marks its events made; the recompute
agents report which marks they have worked off. Event time is *sealed* up to a report's watermark
once all marks of that report are worked off, so a sealed window never misses derived rows.
"""

from __future__ import annotations

import time
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
"""Traffic whose last event is no older than this is live."""

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
SELECT topic, partition, toUnixTimestamp64Nano(watermark) AS watermark, offset, lag, marked,
    toUnixTimestamp64Milli(advanced) AS advanced, toUnixTimestamp64Milli(updated) AS updated
FROM watermarks FINAL WHERE log_id = {log_id:String}
"""


@dataclass(frozen=True, slots=True)
class Report:
    """Event time in ns that the events read so far reach, and the marks that must be done first."""

    watermark: int
    marked: tuple[int, ...]


def report(rows: pl.DataFrame, now: int) -> Report | None:
    """What the sink's rows add up to; None while there are none. Pure.

    A partition with lag holds event time back, and so does one that has just moved, for more may be
    on its way; any other is idle and does not. When all are idle, event time follows the clock at a
    distance, provided their workers are alive.
    """
    if rows.is_empty():
        return None
    # A worker of before partitions were added to the dirty topic knows of fewer.
    marked = tuple(max(column) for column in zip_longest(*rows["marked"], fillvalue=0))
    moving = pl.col("updated") - pl.col("advanced") < _IDLE_MS
    waiting = rows.filter((pl.col("lag") > 0) | moving)
    latest = int(rows["watermark"].max() or 0)  # type: ignore[arg-type]
    if not waiting.is_empty():
        return Report(int(waiting["watermark"].min() or 0), marked)  # type: ignore[arg-type]
    alive = int(rows["updated"].min() or 0) * 1_000_000 > now - _FRESH_NS  # type: ignore[arg-type]
    return Report(_idle(latest, now) if alive and latest else latest, marked)


def _idle(latest: int, now: int) -> int:
    """Event time when nothing is left to read.

    The clock's for live traffic, but what was replayed from the past ends shortly after its last
    event, so that more of it may follow.
    """
    clock = now - _IDLE_NS
    return max(latest, clock if clock - latest < _LIVE_NS else latest + 60 * NS)


class Sealing:
    """Follows the reports; `sealed` is the event time (ns) up to which windows are complete."""

    def __init__(self) -> None:
        self._waiting: deque[Report] = deque(maxlen=10_000)
        self._watermark = 0

    def update(self, rows: pl.DataFrame, now: int) -> Sealing:
        """Take the rows of ``watermarks``, columns as in `_READ`."""
        found = report(rows.filter(pl.col("topic") == EVENTS_TOPIC), now)
        if found is not None:
            self._waiting.append(found)
        done = _done(rows)
        while self._waiting and _worked_off(self._waiting[0].marked, done):
            self._watermark = max(self._watermark, self._waiting.popleft().watermark)
        return self

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
    """What was last said of a partition of the events topic, by whoever read it."""
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
    found = report(rows.filter(pl.col("topic") == EVENTS_TOPIC), 0)
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
