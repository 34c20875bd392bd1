"""The audit of results: what they say they were made from, held against what is stored.

Events are compared per cell by `processors.audit`. Here: evaluations per interaction, sessions
against their interactions, minutes against their results, hours and days against what is finer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from processors.clickhouse import Store
from processors.derive import rollups, scopes
from processors.derive.result_store import ResultStore
from processors.keeping import horizons

_LOW: Final = "bitAnd(version, 0xFFFFFFFFFF)"
_AT_ONCE: Final = 50_000
_SETTINGS: Final = {"max_threads": 1}

_UNHEARD: Final = f"""
SELECT trace_id AS id
FROM
(
    SELECT trace_id, intDiv(max({_LOW}), 2) - sum(seen) AS heard FROM interaction_results FINAL
    WHERE trace_id IN (SELECT trace_id FROM interaction_results
        WHERE interaction_id IN (SELECT target FROM evaluations))
    GROUP BY trace_id
    -- of expired events nothing can be computed again
    HAVING min(cell) >= toDateTime({{horizon}} * 86400, 'UTC')
) AS r
INNER JOIN
(
    -- a trace heard what was said of each of its names: further interactions, ids within scopes
    SELECT trace_id, sum(n) AS said
    FROM
    (
        SELECT DISTINCT trace_id, interaction_id FROM interaction_results
        WHERE interaction_id IN (SELECT target FROM evaluations)
    ) AS named
    INNER JOIN
        (SELECT target AS interaction_id, count() AS n FROM evaluations FINAL GROUP BY target) AS e
        USING (interaction_id)
    GROUP BY trace_id
) AS e USING (trace_id)
WHERE heard < said LIMIT {_AT_ONCE}
"""  # noqa: S608 - of our own constants

_SESSIONS: Final = f"""
SELECT session_id AS id
FROM
(
    SELECT session_id, sum(low) AS made_from
    FROM
    (
        SELECT session_id, cell, interaction_id FROM session_index FINAL
        -- an id that a sender made to look like a name within a scope shares rows with that
        WHERE position(session_id, '{scopes.MARK}') = 0
    ) AS s
    INNER JOIN (SELECT cell, interaction_id, {_LOW} AS low FROM interaction_results FINAL) AS r
        USING (cell, interaction_id)
    GROUP BY session_id
) AS i
LEFT JOIN (SELECT session_id, max({_LOW}) AS low FROM session_results GROUP BY session_id) AS s
    USING (session_id)
LEFT JOIN (SELECT target AS session_id, count() AS n FROM evaluations FINAL GROUP BY target) AS e
    USING (session_id)
WHERE low != made_from + 2 * n LIMIT {_AT_ONCE}
"""  # noqa: S608 - of our own constants


def _minutes(unit: str) -> str:
    return f"""
SELECT toInt64(toUnixTimestamp(start)) AS id
FROM
    (SELECT toStartOfMinute(cell) AS start, sum({_LOW}) AS made_from
    FROM {rollups.UNITS[unit]} FINAL GROUP BY start HAVING max(live) = 1) AS r
LEFT JOIN
    (SELECT start, max({_LOW}) AS low FROM rollups
    WHERE width_s = {rollups.WIDTHS[0]} AND unit = '{unit}' GROUP BY start) AS m USING (start)
WHERE low != made_from LIMIT {_AT_ONCE}
"""  # noqa: S608 - of our own constants


def _coarser(finer: int, width: int) -> str:
    return f"""
SELECT DISTINCT toInt64(toUnixTimestamp(begin)) AS id
FROM
(
    SELECT unit, toStartOfInterval(start, INTERVAL {width} SECOND) AS begin, sum(low) AS made_from
    FROM (SELECT unit, start, max({_LOW}) AS low FROM rollups
        WHERE width_s = {finer} GROUP BY unit, start)
    GROUP BY unit, begin
) AS f
LEFT JOIN
    (SELECT unit, start AS begin, max({_LOW}) AS low FROM rollups
    WHERE width_s = {width} GROUP BY unit, begin) AS c USING (unit, begin)
WHERE low != made_from LIMIT {_AT_ONCE}
"""  # noqa: S608 - of our own constants


def repair(results: ResultStore) -> int:
    """Compute again every result that was not made from exactly what is stored.

    Returns
    -------
    int
        How many interactions, sessions and rollup windows differed.

    Raises
    ------
    Unavailable
        When ClickHouse is away; a repeat finds the rest.
    """
    store = results.store
    unheard = _UNHEARD.format(horizon=horizons(store).all)
    found = _each(store, unheard, results.update_traces)
    found += _each(store, _SESSIONS, results.update_sessions)
    for unit in rollups.UNITS:
        found += _each(store, _minutes(unit), results.roll_up)
    for finer, width in pairwise(rollups.WIDTHS):
        found += _each(store, _coarser(finer, width), results.roll_up)
    return found


def _each(store: Store, statement: str, again: Callable[[Sequence[Any]], None]) -> int:
    rows = store.query(statement, settings=_SETTINGS)
    if rows.is_empty():
        return 0
    again(rows["id"].to_list())
    return len(rows)
