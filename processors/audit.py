"""The audit: what the derived tables say, held against the stored events, and repaired.

Nothing here is needed while all goes well, except to find collisions: the same event id with
another payload or time, which only a look over all ids can see. It may run at any time, twice at
once or never to its end: everything it writes collapses with its repeat.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import polars as pl
from mode import Service

from ingest.core.errors import Unavailable
from ingest.core.health.verdict import StationHealth
from processors.clickhouse import Store
from processors.derive import dirty_marks, result_audit, sealing, windows
from processors.derive.result_store import ResultStore
from processors.keeping import horizons
from processors.write.cardinality import limited

log = logging.getLogger(__name__)

_EVERY_S: Final = 10.0
_SHARE: Final = 0.03
_LONGEST_S: Final = 1800.0
_BACKLOG_REST_S: Final = 60.0
_SETTINGS: Final = {"max_threads": 1}
_RECONCILE_S: Final = 3600.0

_IDS_PER_PASS: Final = 5_000_000
_LOSERS_AT_ONCE: Final = 100_000
_EVENTS_PER_STATEMENT: Final = 20_000_000
_END_OF_TIME: Final = 2**32 - 1

_SIZE: Final = "SELECT count() AS n FROM events"

# Hashes of ids that stand for more than one event, apart from what is known already. Ids live in a
# scope, so that nobody's token displaces the event of another.
_SUSPECTED: Final = """
SELECT cityHash64(event_id, scope) AS id FROM events
WHERE id % {passes} = {number} AND (event_id, time, payload_hash) NOT IN
    (SELECT event_id, time, payload_hash FROM collisions)
GROUP BY id
HAVING min(payload_hash) != max(payload_hash) OR min(time) != max(time)
"""

_LOSERS: Final = f"""
SELECT event_id, agent, time, payload_hash, environment, log_id, partition, offset, line,
    intDiv(toUnixTimestamp(time), 10) * 10 AS start
FROM events FINAL
WHERE cityHash64(event_id, scope) IN ({_SUSPECTED})
    AND (event_id, time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM collisions)
QUALIFY row_number() OVER (PARTITION BY event_id, scope ORDER BY time, payload_hash) > 1
LIMIT {{most}}
"""  # noqa: S608 - of our own constants

_MINUTES: Final = """
SELECT toUnixTimestamp(toStartOfMinute(time)) AS start, count() AS n
FROM events GROUP BY start ORDER BY start
"""

_IN_SPAN: Final = (
    "e.time >= toDateTime64({lo:UInt32}, 9, 'UTC') AND e.time < toDateTime64({hi:UInt32}, 9, 'UTC')"
)

# Of a cell's version the low 40 bits say how many events and displaced events it was made from.
_CELLS: Final = f"""
SELECT environment, agent, toUInt32(10) AS width_s, start,
    stored.n AS stored, derived.n AS derived
FROM
(
    SELECT {limited("e.environment", "environment")} AS environment,
        {limited("e.agent", "agent")} AS agent,
        toUnixTimestamp(toStartOfInterval(time, INTERVAL 10 SECOND)) AS start,
        count() + countIf((event_id, time, payload_hash) IN
            (SELECT event_id, time, payload_hash FROM collisions)) AS n
    FROM events AS e FINAL WHERE {_IN_SPAN} AND {{live_events}} GROUP BY environment, agent, start
) AS stored
FULL OUTER JOIN
(
    SELECT environment, agent, toUnixTimestamp(w.start) AS start,
        sum(bitAnd(version, 0xFFFFFFFFFF)) AS n
    FROM windows AS w FINAL
    WHERE w.width_s = 10 AND scope = 'all'
        AND w.start >= toDateTime({{lo:UInt32}}, 'UTC')
        AND w.start < toDateTime({{hi:UInt32}}, 'UTC') AND {{live_windows}}
    GROUP BY environment, agent, start
) AS derived USING (environment, agent, start)
WHERE stored != derived
"""  # noqa: S608 - of our own constants

# A result says how many events of its trace in its cell it was made with. They may be of any agent,
# so a cell is compared as a whole and named after its first agent.
_PARTS: Final = f"""
SELECT environment, agent, toUInt32(10) AS width_s, start,
    stored.n AS stored, derived.n AS derived
FROM
(
    SELECT toUnixTimestamp(toStartOfInterval(time, INTERVAL 10 SECOND)) AS start,
        min(e.environment) AS environment, min(e.agent) AS agent,
        count() + countIf((event_id, time, payload_hash) IN
            (SELECT event_id, time, payload_hash FROM collisions)) AS n
    FROM events AS e FINAL
    WHERE {_IN_SPAN} AND {{whole_events}}
        AND e.kind NOT IN ('feedback', 'score', 'outcome') AND e.interaction_id != ''
    GROUP BY start
) AS stored
FULL OUTER JOIN
(
    SELECT toUnixTimestamp(cell) AS start, sum(seen) AS n
    FROM interaction_results FINAL
    WHERE cell >= toDateTime({{lo:UInt32}}, 'UTC') AND cell < toDateTime({{hi:UInt32}}, 'UTC')
        AND {{whole_results}}
    GROUP BY start
) AS derived USING (start)
WHERE stored != derived
"""  # noqa: S608 - of our own constants

# Minutes follow their cells and hours their minutes; who is stopped between leaves them behind, and
# the marks of an audit are nowhere to be read again.
_COARSER: Final = """
SELECT environment, agent, toUInt32({width}) AS width_s,
    toUnixTimestamp(toStartOfInterval(w.start, INTERVAL {width} SECOND)) AS start,
    sumIf(bitAnd(version, 0xFFFFFFFFFF), w.width_s = {finer}) AS stored,
    sumIf(bitAnd(version, 0xFFFFFFFFFF), w.width_s = {width}) AS derived
FROM windows AS w FINAL
WHERE w.width_s IN ({finer}, {width}) AND scope = 'all'
    AND w.start >= toDateTime({{lo:UInt32}}, 'UTC') AND w.start < toDateTime({{hi:UInt32}}, 'UTC')
GROUP BY environment, agent, start
HAVING stored != derived
"""


def find_collisions(results: ResultStore) -> int:
    """Find events displaced by another payload of their id; dead-letter and uncount them.

    Returns
    -------
    int
        How many were found that were not known.

    Raises
    ------
    Unavailable
        When ClickHouse is away; a repeat finds the same.
    """
    passes = 1 + int(results.store.query(_SIZE)["n"][0]) // _IDS_PER_PASS
    return sum(_find_collisions(results, passes, number) for number in range(passes))


def _find_collisions(results: ResultStore, passes: int, number: int) -> int:
    store = results.store
    share = {"passes": passes, "number": number}
    # Nearly always there are none, and the second look need not be.
    if store.query(_SUSPECTED.format(**share) + "LIMIT 1", settings=_SETTINGS).is_empty():
        return 0
    found = 0
    while True:  # who gives every event the same id must not fill our memory with them
        losers = store.query(_LOSERS.format(**share, most=_LOSERS_AT_ONCE), settings=_SETTINGS)
        if losers.is_empty():
            return found
        # What is known is not looked for again, so its dead letters have to be stored before.
        store.insert(
            "dead_letters",
            losers.select(
                "log_id", "partition", "offset", "line",
                topic=pl.lit("driftline.events"),
                code=pl.lit("id_collision"),
                detail=pl.lit("another payload or time of the same event_id counts"),
            ),
        )  # fmt: skip
        store.insert("collisions", losers.select("event_id", "agent", "time", "payload_hash"))
        cells = losers.select("environment", "agent", "start").unique()
        _recompute(results, cells.with_columns(width_s=windows.WIDTHS[0]))
        found += len(losers)
        if len(losers) < _LOSERS_AT_ONCE:
            return found


def differences(store: Store) -> pl.DataFrame:
    """Windows and interactions that were not made from exactly what is stored now.

    Cells are held against their events, minutes against cells and hours against minutes.

    Returns
    -------
    polars.DataFrame
        ``environment``, ``agent``, ``width_s``, ``start`` (s since 1970), and of how many events it
        is: ``stored`` and ``derived``. A window whose marks still wait is among them.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    spans = _spans(store)
    found = [_compare(store, live, spans) for live in _live(store, _CELLS, _PARTS)]
    for finer, width in itertools.pairwise(windows.WIDTHS):
        statement = _COARSER.format(finer=finer, width=width)
        found.append(_compare(store, statement, _aligned(spans, width), _SETTINGS))
    return _concat(found)


def _live(store: Store, *statements: str) -> list[str]:
    """The statements, of what retention has not taken away."""
    known = horizons(store)
    conditions = {
        "{live_events}": known.live("e.time", "e.environment"),
        "{live_windows}": known.live("w.start", "w.environment"),
        # Of a trace rows that count elsewhere do not say of which environment they are.
        "{whole_events}": known.latest.live("e.time", None),
        "{whole_results}": known.latest.live("cell", None),
    }
    for name, condition in conditions.items():
        statements = tuple(statement.replace(name, condition) for statement in statements)
    return list(statements)


def _compare(
    store: Store,
    statement: str,
    spans: list[dict[str, int]],
    settings: dict[str, int] | None = None,
) -> pl.DataFrame:
    return _concat([store.query(statement, span, settings) for span in spans])


def _concat(found: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([one for one in found if not one.is_empty()] or found[:1])


def _spans(store: Store) -> list[dict[str, int]]:
    """All of event time, in spans of as many events as one statement can read within its time."""
    part = ((pl.col("n").cum_sum() - pl.col("n")) // _EVENTS_PER_STATEMENT).alias("part")
    minutes = store.query(_MINUTES)
    firsts: list[int] = []
    if not minutes.is_empty():
        starts = minutes.group_by(part).agg(pl.col("start").min()).sort("part")["start"]
        firsts = starts.to_list()[1:]
    return _as_spans(firsts)


def _aligned(spans: list[dict[str, int]], width: int) -> list[dict[str, int]]:
    """The same spans, moved so that none begins within a window."""
    return _as_spans(sorted({span["lo"] // width * width for span in spans[1:]} - {0}))


def _as_spans(bounds: list[int]) -> list[dict[str, int]]:
    return [{"lo": lo, "hi": hi} for lo, hi in itertools.pairwise([0, *bounds, _END_OF_TIME])]


def reconcile(results: ResultStore, suspected: pl.DataFrame | None = None) -> int:
    """Compute again every window that was not made from exactly what is stored.

    Parameters
    ----------
    results
        Computes them.
    suspected
        Earlier `differences`: only windows that differ now as they did then are computed.

    Returns
    -------
    int
        How many (environment, agent, window) differed.

    Raises
    ------
    Unavailable
        When ClickHouse is away; a repeat finds the rest.
    """
    dropped = windows.drop_misnamed(results.store)
    different = differences(results.store)
    if suspected is not None:
        different = different.join(suspected, on=different.columns, how="semi")
    if not different.is_empty():
        _recompute(results, different.drop("stored", "derived"))
    return len(different) + dropped


def count_lost_events(store: Store) -> int:
    """Events that windows once counted and that are no longer stored.

    A window's version says how many events it was made from and never falls, so it remembers events
    that ClickHouse lost; the ledger alone would take them for duplicates.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    (cells,) = _live(store, _CELLS)
    different = _compare(store, cells, _spans(store))
    if different.is_empty():
        return 0
    gone = different["derived"].cast(pl.Int64) - different["stored"].cast(pl.Int64)
    return int(gone.clip(0).sum())


def _recompute(results: ResultStore, found: pl.DataFrame) -> None:
    """Compute these windows, and the coarser ones that they lie in."""
    found = found.with_columns(pl.col("start").cast(pl.Int64))
    cells = found.filter(pl.col("width_s") == windows.WIDTHS[0])
    if not cells.is_empty():
        results.update(cells)
    for width in windows.WIDTHS:
        within = found.filter(pl.col("width_s") <= width)
        if not within.is_empty():
            windows.recompute(results.store, width, dirty_marks.rollup_cells(within, width))


class Audit(Service):  # type: ignore[misc]
    """Looks for collisions while events come in, and reconciles at start and every hour.

    It rests so long after each search that searching takes no more than a few percent of the time,
    and longer while a backlog is worked off; comparing takes longer, but comes once an hour. A
    pause is at most twice the last one: one look at an engine that stood still says little. What
    differs at one look may only have its marks still to come, so it is computed again when it
    differs in the same way at a later look, with all marks worked off that were made before.
    """

    def __init__(
        self,
        results: ResultStore,
        log_id: str,
        leads: Callable[[], bool],
        fresh_for: Callable[[], float],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._results = results
        self._store = results.store
        self._fresh_for = fresh_for
        self._log_id = log_id
        self._leads = leads
        self._seen = -1
        self._rest = self._retry = _EVERY_S
        self._due = 0.0
        self._suspected: tuple[pl.DataFrame, tuple[int, ...]] | None = None
        self._since: float | None = None
        self._error = ""

    def health(self, now: float | None = None) -> StationHealth:
        """How it stands: stalled while it fails, or when a look takes longer than any should."""
        at = time.monotonic() if now is None else now
        since = at if self._since is None else self._since
        allowed = 0.0 if self._error else _LONGEST_S
        return StationHealth("audit", 0, max(0.0, at - since - allowed), error=self._error)

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        waited = 0.0
        while not self.should_stop:
            await self.sleep(self._rest)
            # Windows of what was just stored come first.
            if self._fresh_for() < _EVERY_S and waited < _BACKLOG_REST_S:
                waited += self._rest
                continue
            waited = 0.0
            if not self._leads():
                self._due = 0.0  # the next auditor begins with it
                self._suspected = self._since = None
                self._error = ""
                continue
            await self._try()

    async def _try(self) -> None:
        """Look; a look that fails is tried again, and health says since when."""
        self._since = time.monotonic() if self._since is None else self._since
        try:
            await asyncio.to_thread(self._look)
        except Unavailable as error:
            self._error = str(error)
            log.warning("audit put off: %s", error)
        else:
            self._since, self._error = None, ""

    def _look(self) -> None:
        started = time.monotonic()
        try:
            self._search()
        finally:
            self._rest = _pause(started, self._rest)
        started = time.monotonic()
        if started < self._due:
            return
        try:
            self._reconcile()
        except Unavailable:
            # What fails after minutes must not be tried again all the time.
            self._retry = _pause(started, self._retry)
            self._due = time.monotonic() + self._retry
            raise
        self._retry = _EVERY_S

    def _search(self) -> None:
        stored = int(self._store.query("SELECT sum(rows) AS n FROM ledger")["n"][0] or 0)
        if stored != self._seen:
            found = find_collisions(self._results)
            if found:
                log.warning("%s events have the id of another event and do not count", found)
            self._seen = stored

    def _reconcile(self) -> None:
        reports = sealing.read(self._store, self._log_id)
        if self._suspected is None:
            self._suspected = differences(self._store), sealing.marks_made(reports)
            return
        suspected, marked = self._suspected
        if not sealing.worked_off(reports, marked):
            return
        different = reconcile(self._results, suspected) + result_audit.repair(self._results)
        log.info("reconciled: %s windows differed from what they are made of", different)
        self._due, self._suspected = time.monotonic() + _RECONCILE_S, None


def _pause(started: float, last: float) -> float:
    """Seconds until the next look, of which one began at ``started`` and followed ``last``."""
    needed = (time.monotonic() - started) / _SHARE
    return min(max(_EVERY_S, needed), 2 * last)
