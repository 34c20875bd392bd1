"""How long what is kept, and how it goes: counted first, then whole partitions at a time.

Events go by the day of their event time, all environments at once or one before the others. Their
day is announced before it is counted, so that every worker refuses what still comes for it. Words
may go before numbers: their columns are emptied, the rest of a partition is not touched. Results,
rollups and what was found have their own time. Nothing goes unless a setting says so.
"""

from __future__ import annotations

import asyncio
import calendar
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import polars as pl
from mode import Service

from ingest.core.errors import Unavailable
from processors.clickhouse import Store, literal
from processors.write.erased import MARK, REFRESH_S

log = logging.getLogger(__name__)

_EVERY_S: Final = 3600.0
_START_S: Final = 60.0
_DAY_S: Final = 86_400
_DELETE: Final = {"mutations_sync": 2}

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "events": ("content", "tool_arguments", "tool_result", "error_message"),
    "interaction_results": ("request", "answer"),
    "session_results": ("request", "answer"),
}
"""Columns of words by table."""

_BY_PARTITION: Final[Mapping[str, str]] = {
    "interaction_results": "results",
    "session_results": "results",
    "cluster_members": "results",
    "rollups": "rollups",
    "windows": "rollups",
}
_BY_ROW: Final[tuple[tuple[str, str, str], ...]] = (
    ("interaction_index", "raw", "cell"),
    ("collisions", "raw", "time"),
    ("session_index", "results", "cell"),
    ("evaluations", "results", "time"),
    ("findings", "findings", "coalesce(ended, toDateTime64('2106-01-01 00:00:00', 3, 'UTC'))"),
    ("station_changes", "findings", "at"),
    ("alert_events", "findings", "ts"),
    ("notifications", "findings", "planned"),
)

_PARTITIONS: Final = """
SELECT DISTINCT partition FROM {parts}
WHERE database = currentDatabase() AND table = {table:String} AND active ORDER BY partition
"""
_COUNT_EVENTS: Final = """
SELECT toUInt32(toDate(time)) AS day, count() AS rows, countIf((event_id, time, payload_hash) IN
        (SELECT event_id, time, payload_hash FROM collisions)) AS collisions,
    countIf(startsWith(event_id, {mark:String})) AS erased
FROM events FINAL WHERE toDate(time) IN {days:Array(Date)} AND ({environment}) GROUP BY day
"""
_BOOK_LETTERS: Final = """
INSERT INTO expired (table, counted, day, log_id, topic, partition, rows)
SELECT 'dead_letters', 1, toDate(ingested) AS day, log_id, topic, partition, count()
FROM dead_letters FINAL
WHERE day < {before:Date} AND day >= {since:Date} AND code != 'id_collision'
GROUP BY day, log_id, topic, partition
"""
_BOOKED: Final = """
SELECT toString(environment) AS environment, day, counted FROM expired FINAL
WHERE table = 'events'
"""
_HORIZONS: Final = """
SELECT toString(environment) AS environment, toUInt32(toDate(max(day) + 1)) AS day FROM expired
WHERE table = {table:String} GROUP BY environment
"""


_Booking = tuple[str, date, int, int, int, int]
"""Environment, day, whether it was counted, rows, of which collisions, of which erased."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days to keep, 0 for ever; ``environments`` says it of the raw events of some of them."""

    raw: int = 0
    content: int = 0
    results: int = 0
    rollups: int = 0
    dead_letters: int = 0
    findings: int = 0
    environments: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Horizons:
    """Event time, days since 1970, before which nothing is kept: of all, and of environments."""

    all: int = 0
    environments: Mapping[str, int] = field(default_factory=dict)

    @property
    def latest(self) -> Horizons:
        """The latest of them as that of all: from there on nothing at all has expired."""
        return Horizons(max(self.all, *self.environments.values(), 0))

    def expired(self, events: pl.DataFrame) -> pl.Series:
        """Which rows with ``environment`` and ``time_unix_nano`` are dated before them."""
        day = events["time_unix_nano"] // (_DAY_S * 10**9)
        found = day < self.all
        for environment, bound in self.environments.items():
            found |= (events["environment"] == environment) & (day < bound)
        return found

    def live(self, time: str = "time", environment: str | None = "environment") -> str:
        """SQL condition on rows that are after them."""
        # Of the precision of the column, see `processors.derive.windows.during`.
        moment = "toDateTime64({}, 9, 'UTC')" if time.endswith("time") else "toDateTime({}, 'UTC')"
        bounds = [f"{time} >= {moment.format(self.all * _DAY_S)}"]
        if environment is not None:
            bounds += [
                f"NOT ({environment} = {literal(name)} AND"
                f" {time} < {moment.format(bound * _DAY_S)})"
                for name, bound in self.environments.items()
            ]
        return " AND ".join(bounds)


def horizons(store: Store, table: str = "events") -> Horizons:
    """Before when nothing is kept any more.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    found = dict(store.query(_HORIZONS, {"table": table}).iter_rows())
    of_all = found.pop("", 0)
    return Horizons(of_all, found)


class KnownHorizons:
    """Horizons as a worker knows them, at most `REFRESH_S` old."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = Horizons()
        self._asked = float("-inf")

    def refresh(self) -> Horizons:
        """The horizons now; the last known ones while ClickHouse is away."""
        if time.monotonic() - self._asked > REFRESH_S:
            try:
                self._known = horizons(self._store)
                self._asked = time.monotonic()
            except Unavailable as error:
                log.warning("retention is as it was: %s", error)
        return self._known


def expire(
    store: Store, keep: Retention, today: date | None = None, wait_s: float = 2 * REFRESH_S
) -> dict[str, list[str]]:
    """Take away what is older than a retention.

    Parameters
    ----------
    store
        The database.
    keep
        How long what is kept.
    today
        The day that ages are counted from, UTC.
    wait_s
        Between saying that a day goes and counting it: until every worker refuses what comes.

    Returns
    -------
    dict
        By table what went: partitions, ``words of`` partitions, or ``rows``.

    Raises
    ------
    Unavailable
        When ClickHouse is away; a repeat does the rest.
    """
    today = today or datetime.now(UTC).date()
    gone: dict[str, list[str]] = {}
    _expire_events(store, keep, today, wait_s, gone)
    for table, columns in WORDS.items():
        if keep.content:
            _clear_words(store, table, columns, today - timedelta(days=keep.content), gone)
    for table, of in _BY_PARTITION.items():
        if days := getattr(keep, of):
            for partition in expired(_partitions(store, table), days, today):
                store.alter(table, f"DROP PARTITION {partition}")
                gone.setdefault(table, []).append(partition)
    if keep.dead_letters:
        _expire_letters(store, today - timedelta(days=keep.dead_letters), gone)
    for table, of, at in _BY_ROW:
        if days := getattr(keep, of):
            before = f"{at} < toDateTime('{today - timedelta(days=days)} 00:00:00', 'UTC')"
            _delete(store, table, before, gone)
    return gone


def _expire_events(
    store: Store, keep: Retention, today: date, wait_s: float, gone: dict[str, list[str]]
) -> None:
    days = [span[0] for p in _partitions(store, "events") if (span := days_of(p)) is not None]
    booked = {(e, day): bool(counted) for e, day, counted in store.query(_BOOKED).iter_rows()}
    wanted = [("", day) for day in days if keep.raw and day < today - timedelta(days=keep.raw)]
    wanted += [
        (environment, day)
        for environment, own in keep.environments.items()
        for day in days
        if day < today - timedelta(days=own)
        and ("", day) not in wanted
        and not booked.get((environment, day))
    ]
    if not wanted:
        return
    if new := [one for one in wanted if one not in booked]:
        _book(store, [(*one, 0, 0, 0, 0) for one in new])
        time.sleep(wait_s)
    # Rows that a stopped writer sent again were counted before.
    uncounted = [one for one in wanted if not booked.get(one)]
    of = {e: f"environment = {literal(e)}" for e in keep.environments}
    of[""] = Horizons(0, horizons(store).environments).live()
    counted: list[_Booking] = []
    for environment in dict.fromkeys(environment for environment, _ in uncounted):
        days = [day for e, day in uncounted if e == environment]
        counting = _COUNT_EVENTS.replace("{environment}", of[environment])
        found = store.query(counting, {"days": days, "mark": MARK})
        rows = {row[0]: row[1:] for row in found.iter_rows()}
        counted += [(environment, day, 1, *rows.get(_days(day), (0, 0, 0))) for day in days]
    _book(store, counted)
    drops, deletes = [], []
    for environment, day in wanted:
        partition = f"{day:%Y%m%d}"
        if environment:  # others still need the partition
            deletes.append(f"DELETE IN PARTITION {partition} WHERE {of[environment]}")
            partition += f" of {environment}"
        else:
            drops.append(f"DROP PARTITION {partition}")
        gone.setdefault("events", []).append(partition)
    for changes in (drops, deletes):
        if changes:
            store.alter("events", ", ".join(changes), settings=_DELETE)


def _book(store: Store, rows: list[_Booking]) -> None:
    schema: dict[str, Any] = {
        "environment": pl.String(), "day": pl.Date(), "counted": pl.UInt8(),
        "rows": pl.UInt64(), "collisions": pl.UInt64(), "erased": pl.UInt64(),
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema, orient="row")
    store.insert("expired", frame.with_columns(pl.lit("events").alias("table")))


def _expire_letters(store: Store, before: date, gone: dict[str, list[str]]) -> None:
    since = date(1970, 1, 1) + timedelta(days=horizons(store, "dead_letters").all)
    store.command(_BOOK_LETTERS, {"before": before, "since": since})
    _delete(store, "dead_letters", f"toDate(ingested) < toDate('{before}')", gone)


def _clear_words(
    store: Store, table: str, columns: Iterable[str], before: date, gone: dict[str, list[str]]
) -> None:
    columns = tuple(columns)
    spans = {partition: days_of(partition) for partition in _partitions(store, table)}
    old = [name for name, span in spans.items() if span is not None and span[1] < before]
    # What the parts say of the size of a column is nothing where they are small.
    spoken = " OR ".join(f"{column} != ''" for column in columns)
    wordy = store.query(
        f"SELECT DISTINCT _partition_id AS partition FROM {table}"  # noqa: S608
        f" WHERE _partition_id IN {{old:Array(String)}} AND ({spoken}) ORDER BY partition",
        {"old": old},
    )
    found = wordy["partition"].to_list() if len(wordy) else []
    if found:
        empty = ", ".join(f"{column} = ''" for column in columns)
        if table != "session_results":  # so that their absence is not taken for silence
            empty += ", words_gone = 1"
        clear = [f"UPDATE {empty} IN PARTITION {name} WHERE 1" for name in found]
        store.alter(table, ", ".join(clear), settings=_DELETE)
        gone.setdefault(table, []).extend(f"words of {name}" for name in found)


def _delete(store: Store, table: str, where: str, gone: dict[str, list[str]]) -> None:
    n = store.query(f"SELECT count() AS n FROM {table} WHERE {where}")["n"][0]  # noqa: S608
    if n:
        store.alter(table, f"DELETE WHERE {where}", settings=_DELETE)
        gone.setdefault(table, []).append(f"{n} rows")


def _partitions(store: Store, table: str) -> list[str]:
    asked = _PARTITIONS.replace("{parts}", store.everywhere("parts", "system"))
    found = store.query(asked, {"table": store.local(table)})
    return [] if found.is_empty() else found["partition"].to_list()


def _days(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def days_of(partition: str) -> tuple[date, date] | None:
    """First and last day of a partition by day or month; None for any other.

    >>> days_of("202602")
    (datetime.date(2026, 2, 1), datetime.date(2026, 2, 28))
    >>> days_of("tuple()") is None
    True
    """
    if not re.fullmatch(r"\d{6}(\d\d)?", partition):
        return None
    try:
        year, month = int(partition[:4]), int(partition[4:6])
        if len(partition) == 8:
            day = date(year, month, int(partition[6:]))
            return day, day
        return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
    except ValueError:
        return None


def expired(partitions: Iterable[str], keep_days: int, today: date) -> list[str]:
    """Partitions of which every moment is older than ``keep_days``; only those may be dropped.

    >>> expired(["20260301", "20260302", "202602", "tuple()"], 6, date(2026, 3, 8))
    ['202602', '20260301']
    """
    bound = today - timedelta(days=keep_days)
    old = [(p, span) for p in partitions if (span := days_of(p)) is not None and span[1] < bound]
    return sorted(partition for partition, _ in old)


class Keeper(Service):  # type: ignore[misc]
    """Expires once an hour, in the one worker that leads."""

    def __init__(
        self, store: Store, keep: Retention, leads: Callable[[], bool], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._store = store
        self._keep = keep
        self._leads = leads

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        await self.sleep(_START_S)
        while not self.should_stop:
            if self._leads() and self._keep != Retention():
                try:
                    gone = await asyncio.to_thread(expire, self._store, self._keep)
                except Unavailable as error:
                    log.warning("retention put off: %s", error)
                else:
                    for table, what in gone.items():
                        log.info("retention: %s of %s", ", ".join(what), table)
            await self.sleep(_EVERY_S)
