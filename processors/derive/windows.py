"""Windows: event-level sums per cell of event time, always computed from stored rows.

Cells of 10 s come from ``events``; minutes come from cells and hours from minutes. A window is a
pure function of the rows it reads, so computing one too often, twice at a time or late is harmless:
``version`` counts the distinct events read and only ever grows. Costs are summed in billionths of
a dollar and durations in microseconds, rounded after every sum: floating-point sums would otherwise
depend on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import polars as pl

from processors.clickhouse import MAX_STATEMENT_BYTES, SPILLING, Store, literal
from processors.derive.dirty_marks import rollup_cells
from processors.write.cardinality import (
    OTHER,
    LabelSql,
    admitted,
    any_refused,
    as_it_is,
    limited,
    refused_in,
)

WIDTHS: Final = (10, 60, 3600, 86_400)
"""Widths in seconds; each is computed from the one before it, the first from events."""

EPOCH: Final = 3
"""Rises when rules, prices or parsing change, so that new results replace old ones."""

_SETTINGS: Final = SPILLING | {
    "max_threads": 1,
    # Copies of an event have one time and so lie in one partition.
    "do_not_merge_across_partitions_select_final": 1,
}
_GAP_SECONDS: Final = 300
# A hundred ranges take longer to plan than to read, and a thousand are more than ClickHouse parses.
_FEW_RANGES: Final = 10
# After an outage of hours, one statement for all of it would never end within its time or memory;
# and what stays in the processor's caches is computed faster. Of windows each row is a histogram.
_MAX_EVENTS_PER_STATEMENT: Final = 2_000_000
_MAX_WINDOWS_PER_STATEMENT: Final = 200_000
_MAX_CELLS_PER_STATEMENT: Final = 2_000
_FEW_CELLS: Final = 3
_MAX_NAMED_AGENTS: Final = 1_000
_FEW_EVENTS: Final = 50_000

FIRSTS: Final = (
    "arrayFilter((at, step) -> at = 1 OR step > 0, arrayEnumerate(sorted), arrayDifference(sorted))"
)
BINS: Final = "arrayDistinct(sorted)"
COUNTS: Final = "arrayPopFront(arrayDifference(arrayPushBack(firsts, length(sorted) + 1)))"
"""SQL from an array ``sorted`` of bins to a histogram: where each value stands first (``firsts``),
the values, and how often each is there; ``sumMap`` needs twice the time."""

# Durations are kept one by one until the end, two bytes each: with their bins as a key the inner
# GROUP BY would be hundreds of times larger, and the statement twice as dear.
_FROM_EVENTS: Final = f"""
INSERT INTO windows
WITH
    arraySort(groupArrayArray(bins)) AS sorted,
    {FIRSTS} AS firsts
SELECT {{environment}} AS e, {{agent}} AS a, {{width}}, start, {{agent_version}} AS v, scope,
    bitShiftLeft(toUInt64({{epoch}}), 40) + sum(seen) + sum(seen - n) AS version,
    sum(n) AS events, sum(ok), sum(error),
    sumIf(n, kind IN ('tool_call', 'retrieval')), sumIf(error, kind IN ('tool_call', 'retrieval')),
    sum(input), sum(output), sum(cached),
    round(sum(cost), 9), sum(priced), sum(unpriced),
    length(sorted), round(sum(duration), 3),
    {BINS}, {COUNTS}
FROM
(
    SELECT environment, agent, toStartOfInterval(time, INTERVAL 10 SECOND) AS start,
        agent_version, kind, name, model,
        count() AS seen, countIf(counted) AS n,
        countIf(counted AND status = 'ok') AS ok, countIf(counted AND status = 'error') AS error,
        sumIf(ifNull(input_tokens, 0), spends) AS input,
        sumIf(ifNull(output_tokens, 0), spends) AS output,
        sumIf(ifNull(cached_tokens, 0), spends) AS cached,
        sumIf(round(ifNull(cost_usd, 0), 9), spends) AS cost,
        countIf(spends AND cost_usd IS NOT NULL) AS priced,
        countIf(spends AND cost_usd IS NULL
            AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)) AS unpriced,
        groupArrayIf(assumeNotNull(duration_bin), counted AND duration_bin IS NOT NULL) AS bins,
        sumIf(round(ifNull(duration_ms, 0), 3), counted) AS duration
    FROM
    (
        SELECT *, (event_id, time, payload_hash) NOT IN
            (SELECT event_id, time, payload_hash FROM collisions WHERE {{when}}) AS counted,
            -- a closing event may carry totals of what its calls spent
            counted AND kind NOT IN ('interaction', 'span') AS spends
        FROM events FINAL
        WHERE {{whose}} AND ({{when}})
    )
    GROUP BY environment, agent, start, agent_version, kind, name, model
) AS c
-- all, then what was done, then the model that did it
ARRAY JOIN arrayFilter(s -> s != '', [
    'all',
    if(c.name = '', toString(c.kind), {{tool}}),
    if(c.model = '', '', {{model}})]) AS scope
GROUP BY e, a, start, v, scope
"""  # noqa: S608 - of our own constants

_FROM_FINER: Final = """
INSERT INTO windows
SELECT environment, agent, {width},
    toStartOfInterval(start, INTERVAL {width} SECOND) AS begin, agent_version, scope,
    bitShiftLeft(toUInt64({epoch}), 40) + sum(bitAnd(version, 0xFFFFFFFFFF)),
    sum(events), sum(ok), sum(error), sum(tool_calls), sum(tool_errors),
    sum(input_tokens), sum(output_tokens), sum(cached_tokens),
    round(sum(cost_usd), 9), sum(priced), sum(unpriced),
    sum(duration_n), round(sum(duration_ms), 3),
    (sumMap(duration_bins, duration_counts) AS histogram).1, histogram.2
FROM windows FINAL
WHERE width_s = {finer} AND ({where})
GROUP BY environment, agent, begin, agent_version, scope
"""

_SIZES: Final = """
SELECT toInt64(toUnixTimestamp(toStartOfInterval({time}, INTERVAL {width} SECOND))) AS begin,
    count() AS n
FROM {rows} GROUP BY begin
"""

# Two workers may decide differently on a name, and a name may be refused while we compute.
_MISNAMED_ROWS: Final = f"""
FROM windows
WHERE agent IN {refused_in("agent")}
    OR environment IN {refused_in("environment")}
    OR scope IN {refused_in("scope")}
    OR agent_version IN {refused_in("agent_version")}
"""
_MISNAMED: Final = (
    f"SELECT DISTINCT environment, agent, toUnixTimestamp(start) AS start {_MISNAMED_ROWS}"
)
_DROP_MISNAMED: Final = f"DELETE {_MISNAMED_ROWS}"
_MISNAMED_AGENTS: Final = """
SELECT agent FROM windows WHERE agent IN
    (SELECT value AS agent FROM refused_values WHERE dimension = 'agent' AND {whose})
LIMIT 1
"""


def _from_events(naming: LabelSql, whose: str, when: str) -> str:
    return _FROM_EVENTS.format(
        width=WIDTHS[0],
        epoch=EPOCH,
        whose=whose,
        when=when,
        tool=naming("concat(c.kind, ':', c.name)", "scope", f"concat(c.kind, ':{OTHER}')"),
        model=naming("concat('model:', c.model)", "scope", f"'model:{OTHER}'"),
        **{name: naming(f"c.{name}", name) for name in ("environment", "agent", "agent_version")},
    )


def statements(
    width: int, marks: pl.DataFrame, naming: LabelSql = limited, others: bool = False
) -> list[str]:
    """SQL that computes the marked windows again, and perhaps their neighbours.

    Parameters
    ----------
    width
        One of `WIDTHS`.
    marks
        ``environment``, ``agent`` and ``start`` (seconds since 1970, a multiple of ``width``),
        perhaps also where the new events stand, as `dirty_marks.dirty_cells` says it.
    naming
        How names are borne by derived rows.
    others
        Whether agents that were not admitted are among them.

    Returns
    -------
    list of str
        INSERT ... SELECT statements.
    """
    when = _when(width, marks["start"].unique().sort().to_list())
    whose = _whose(marks)
    if width != WIDTHS[0]:
        where = f"{whose} AND ({when})"
        return [_FROM_FINER.format(width=width, finer=_finer(width), epoch=EPOCH, where=where)]
    if others:
        whose = f"({whose} OR agent NOT IN {admitted('agent')})"
    return [_from_events(naming, whose, when)]


def recompute(store: Store, width: int, marks: pl.DataFrame) -> None:
    """Compute the marked windows from what is stored now, and store them.

    Raises
    ------
    Unavailable
        When ClickHouse is away; nothing partial needs undoing.
    """
    refused = any_refused(store, again=False)
    _compute(store, width, marks, refused)
    # A refusal is stored before the first row that it is for, but perhaps after we last asked: such
    # rows were then read under their own name, by this worker or the one before.
    if not refused and any_refused(store):
        _compute(store, width, marks, refused=True)
        drop_misnamed(store)
    elif refused and not _asked(store, _MISNAMED_AGENTS.format(whose=_whose(marks))).is_empty():
        drop_misnamed(store)


def _compute(store: Store, width: int, marks: pl.DataFrame, refused: bool) -> None:
    looks = refused and width == WIDTHS[0]  # coarser ones take the names of the finer ones
    naming = limited if looks else as_it_is
    found = [
        statement
        for part in _portions(store, width, marks)
        for statement in statements(width, part, naming, looks and _has_others(store, part))
    ]
    # Two statements at a time on one thread each need a fifth less CPU than one on several.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(store.command, settings=_SETTINGS), found))


def drop_misnamed(store: Store) -> int:
    """Compute the windows that bear a refused name under ``__other__``, and remove them.

    Returns
    -------
    int
        How many (environment, agent, window) there were.

    Raises
    ------
    Unavailable
        When ClickHouse is away; a repeat finds the rest.
    """
    found = store.query(_MISNAMED)
    if not found.is_empty():
        cells = found.with_columns(pl.col("start").cast(pl.Int64))
        for width in WIDTHS:
            _compute(store, width, rollup_cells(cells, width), refused=True)
        store.command(_DROP_MISNAMED)
    return len(found)


def _portions(store: Store, width: int, marks: pl.DataFrame) -> list[pl.DataFrame]:
    """The marks in parts of as many stored rows as one statement may read."""
    starts = marks["start"].unique().sort().to_list()
    if len(starts) <= _FEW_CELLS:
        return [marks]
    finest = width == WIDTHS[0]
    sizes: dict[int, int] = {}
    for at in range(0, len(starts), _MAX_CELLS_PER_STATEMENT):
        when = _when(width, starts[at : at + _MAX_CELLS_PER_STATEMENT])
        counted = _asked(
            store,
            _SIZES.format(
                time="time" if finest else "start",
                width=width,
                rows=f"events WHERE {when}" if finest
                else f"windows WHERE width_s = {_finer(width)} AND ({when})",
            ),
        )  # fmt: skip
        sizes |= dict(counted.iter_rows())
    return portions(
        marks, sizes, _MAX_EVENTS_PER_STATEMENT if finest else _MAX_WINDOWS_PER_STATEMENT
    )


def portions(marks: pl.DataFrame, sizes: Mapping[int, int], most: int) -> list[pl.DataFrame]:
    """Split marks by time.

    Parameters
    ----------
    marks
        With ``start``, seconds since 1970.
    sizes
        Rows of each window by its start, also of those between that are not marked.
    most
        Rows of a part; only that of a single start may have more.

    Returns
    -------
    list of polars.DataFrame
        In order of time, each of at most 2,000 starts.
    """
    marked = set(marks["start"].unique())
    part, rows, cells = 0, 0, 0
    parts: dict[int, int] = {}
    for start in sorted(marked | sizes.keys()):
        rows += sizes.get(start, 0)
        if start not in marked:
            continue
        if cells and (rows > most or cells == _MAX_CELLS_PER_STATEMENT):
            part, rows, cells = part + 1, sizes.get(start, 0), 0
        cells += 1
        parts[start] = part
    split = marks.with_columns(
        part=pl.col("start").replace_strict(parts, return_dtype=pl.UInt32)
    ).sort("part", maintain_order=True)
    return split.partition_by("part", maintain_order=True, include_key=False)


def _finer(width: int) -> int:
    return WIDTHS[WIDTHS.index(width) - 1]


def _whose(marks: pl.DataFrame) -> str:
    """SQL condition on the agent; a superset is as right, so agents are named when they are few."""
    agents = marks["agent"].unique().sort().to_list()
    return f"agent IN {literal([*agents, OTHER])}" if len(agents) <= _MAX_NAMED_AGENTS else "1"


def _when(width: int, starts: list[int]) -> str:
    """SQL condition on the time of what windows with these starts are computed from."""
    return during("time" if width == WIDTHS[0] else "start", starts, width)


def during(column: str, starts: list[int], width: int) -> str:
    """SQL condition that takes windows by their starts.

    Parameters
    ----------
    column
        ``time`` (ns) or a column of whole seconds.
    starts
        Sorted, seconds since 1970, multiples of ``width``.
    width
        Seconds.
    """
    # Of another precision than the column, a bound would be compared as a floating-point number
    # where ClickHouse chooses parts, and the last 100 ns before it would be lost.
    bound = "toDateTime64({}, 9, 'UTC')" if column == "time" else "toDateTime({}, 'UTC')"

    def between(lo: int, hi: int) -> str:
        return f"({column} >= {bound.format(lo)} AND {column} < {bound.format(hi)})"

    ranges = _ranges(starts, width)
    if len(ranges) <= _FEW_RANGES:
        return " OR ".join(between(lo, hi) for lo, hi in ranges)
    listed = ", ".join(map(str, starts))
    begin = f"toStartOfInterval({column}, INTERVAL {width} SECOND)"
    return f"{between(starts[0], starts[-1] + width)} AND {begin} IN ({listed})"


def places(marks: pl.DataFrame) -> str | None:
    """SQL condition on the events that marks were made for; None when it would not be worth it.

    A cell that still fills is computed again and again, and most of its interactions are as they
    were. An event keeps the place of its last copy only, but each copy has a mark of its own.
    """
    if "source" not in marks.columns or marks["source"].has_nulls():
        return None
    if marks["rows"].sum() > _FEW_EVENTS:
        return None
    found = marks.group_by("source").agg(pl.col("first").min(), pl.col("last").max()).sort("source")
    return " OR ".join(
        f"(partition = {source} AND offset BETWEEN {first} AND {last})"
        for source, first, last in found.iter_rows()
    )


def _has_others(store: Store, marks: pl.DataFrame) -> bool:
    """Whether agents that were not admitted are among them; where none is named it is all one."""
    agents = marks["agent"].unique().sort()
    if len(agents) > _MAX_NAMED_AGENTS:
        return False
    if OTHER in agents:  # an earlier version may have admitted it
        return True
    known = _asked(store, f"SELECT value FROM {admitted('agent')} WHERE value IN {literal(agents)}")  # noqa: S608
    return len(known) < len(agents)


def _asked(store: Store, sql: str) -> pl.DataFrame:
    return store.query(sql, settings=_SETTINGS | {"max_query_size": MAX_STATEMENT_BYTES})


def _ranges(starts: list[int], width: int) -> list[tuple[int, int]]:
    """Join sorted window starts to [lo, hi) ranges, over gaps too short to be worth a range."""
    ranges: list[tuple[int, int]] = []
    for start in starts:
        if ranges and start - ranges[-1][1] <= _GAP_SECONDS:
            ranges[-1] = (ranges[-1][0], start + width)
        else:
            ranges.append((start, start + width))
    return ranges
