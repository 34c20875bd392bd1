"""Rollups: results added up per minute, hour and day, always computed from stored rows.

A rollup is a pure function of the results in it. All rows of one minute carry one version, the sum
of what its results were made from, so of two computations the one that saw more replaces the other.
A name that no result bears any more keeps a row of zeros.
"""

from __future__ import annotations

import math
from typing import Final

from detectors.sketch import GAMMA, LAST_BIN, ZERO_BIN
from processors.derive.results import EPOCH, OWN_MS
from processors.write.cardinality import LabelSql

WIDTHS: Final = (60, 3600, 86_400)
UNITS: Final = {"interactions": "interaction_results", "sessions": "session_results"}

_DURATION: Final = {"interactions": OWN_MS, "sessions": "duration_ms"}
"""What is added up as a duration; that of a session is from its start to its end."""

_LOW: Final = "bitAnd(version, 0xFFFFFFFFFF)"


def bin_sql(column: str) -> str:
    """SQL of the histogram bin of a number, as `detectors.sketch.bin_index` computes it."""
    log = f"ceil(log({column}) / {math.log(GAMMA)!r})"
    clipped = f"toInt16(least(greatest({log}, {ZERO_BIN + 1}), {LAST_BIN}))"
    return f"if({column} > 0, {clipped}, toInt16({ZERO_BIN}))"


def _histogram(column: str) -> str:
    return (
        f"sumMapIf([{bin_sql(f'assumeNotNull({column})')}], [toUInt64(1)],"
        f" live = 1 AND {column} IS NOT NULL)"
    )


def _rounded(column: str, digits: int) -> str:
    return f"round(ifNull({column}, 0), {digits})"


# Added up as elements of two arrays: to plan an aggregate of each took twice as long.
_COUNTS: Final = {
    "n": "toUInt64(1)",
    "open": "state = 'open'",
    "unfinished": "state = 'unfinished'",
    "succeeded": "ifNull(success = 1, 0)",
    "success_known": "success IS NOT NULL",
    "duration_n": "duration_ms IS NOT NULL",
    "first_token_n": "time_to_first_token_ms IS NOT NULL",
    "steps": "steps",
    "llm_calls": "llm_calls",
    "llm_errors": "llm_errors",
    "tool_calls": "tool_calls",
    "tool_errors": "tool_errors",
    "handoffs": "handoffs",
    "human_inputs": "human_inputs",
    "input_tokens": "ifNull(input_tokens, 0)",
    "output_tokens": "ifNull(output_tokens, 0)",
    "cached_tokens": "ifNull(cached_tokens, 0)",
    "tokens_n": "input_tokens IS NOT NULL OR output_tokens IS NOT NULL",
    "cost_n": "cost_usd IS NOT NULL",
    "satisfaction_n": "satisfaction IS NOT NULL",
    "dissatisfaction_n": "dissatisfaction IS NOT NULL",
}
_DIGITS: Final = {
    "duration_ms": 3, "first_token_ms": 3, "cost_usd": 9, "satisfaction": 12, "dissatisfaction": 12,
    "coverage": 12,
}  # fmt: skip
_SOURCES: Final = {"duration_ms": "lasted_ms", "first_token_ms": "time_to_first_token_ms"}
_AMOUNTS: Final = {
    name: _rounded(_SOURCES.get(name, name), digits) for name, digits in _DIGITS.items()
}
_MAPS: Final = {
    ("duration_bins", "duration_counts"): _histogram("lasted_ms"),
    ("first_token_bins", "first_token_counts"): _histogram("time_to_first_token_ms"),
    ("reasons", "reason_counts"): (
        "sumMapIf([toString(failure_reason)], [toUInt64(1)], live = 1 AND success = 0)"
    ),
    ("seen_reasons", "seen_counts"): (
        "sumMapIf(arrayMap(r -> toString(r), reasons),"
        " arrayMap(r -> toUInt64(1), reasons), live = 1)"
    ),
}
_NOT_OF_SESSIONS: Final = frozenset(
    (
        "open", "unfinished", "first_token_n", "first_token_ms", "first_token_bins", "steps",
        "llm_errors", "handoffs", "human_inputs", "cached_tokens",
    )
)  # fmt: skip
"""What the results of sessions do not bear; their rollups say 0."""

_KEY: Final = "environment, agent, width_s, start, agent_version, unit, version"


def from_results(unit: str, when: str, minutes: str, naming: LabelSql) -> str:
    """SQL that computes minutes of a unit from its results.

    Parameters
    ----------
    unit
        A key of `UNITS`.
    when, minutes
        Conditions on ``cell`` and on ``start`` that take whole minutes, the same ones.
    naming
        How names are borne by derived rows.
    """
    without = _NOT_OF_SESSIONS if unit == "sessions" else frozenset()
    counts = {name: made for name, made in _COUNTS.items() if name not in without}
    amounts = {name: made for name, made in _AMOUNTS.items() if name not in without}
    maps = {pair: made for pair, made in _MAPS.items() if pair[0] not in without}
    labels = ", ".join(
        f"{naming(f'r.{name}', name)} AS {label}"
        for name, label in (("environment", "e_"), ("agent", "a_"), ("agent_version", "v_"))
    )
    made = ", ".join(f"{made} AS m_{one}" for (one, _), made in maps.items())
    none = ", ".join(f"{_empty(one)} AS m_{one}" for one, _ in maps)
    added = ", ".join(f"sumMap(m_{one}.1, m_{one}.2) AS t_{one}" for one, _ in maps)
    taken = ", ".join(
        [f"counts[{at}]" for at in range(1, len(counts) + 1)]
        + [f"round(amounts[{at}], {_DIGITS[name]})" for at, name in enumerate(amounts, 1)]
        + [f"t_{one}.{part}" for one, _ in maps for part in (1, 2)]
    )
    columns = ", ".join([_KEY, *counts, *amounts, *(name for pair in maps for name in pair)])
    return f"""
INSERT INTO rollups ({columns})
SELECT e_, a_, {WIDTHS[0]}, start, v_, '{unit}',
    bitShiftLeft(toUInt64({EPOCH}), 40) + total, {taken}
FROM
(
    SELECT e_, a_, start, v_, sum(sum(low)) OVER (PARTITION BY start) AS total,
        sumForEach(c) AS counts, sumForEach(f) AS amounts, {added}
    FROM
    (
        WITH {_DURATION[unit]} AS lasted_ms
        SELECT toStartOfMinute(cell) AS start, {labels}, sum({_LOW}) AS low,
            sumForEachIf([{", ".join(counts.values())}], live = 1) AS c,
            sumForEachIf([{", ".join(amounts.values())}], live = 1) AS f, {made}
        FROM {UNITS[unit]} AS r FINAL WHERE {when}
        GROUP BY start, e_, a_, v_
        UNION ALL
        SELECT DISTINCT start, environment AS e_, agent AS a_, agent_version AS v_,
            toUInt64(0) AS low, CAST([] AS Array(UInt64)) AS c, CAST([] AS Array(Float64)) AS f,
            {none}
        FROM rollups WHERE width_s = {WIDTHS[0]} AND unit = '{unit}' AND ({minutes})
    )
    GROUP BY start, e_, a_, v_
)
WHERE a_ != ''
"""  # noqa: S608 - of our own constants


def from_finer(width: int, when: str) -> str:
    """SQL that computes hours from minutes, or days from hours, of both units.

    Parameters
    ----------
    width
        Seconds; one of `WIDTHS` but the first.
    when
        Condition on ``start`` that takes whole windows of this width.
    """
    finer = WIDTHS[WIDTHS.index(width) - 1]
    sums = ", ".join(
        [f"sum({name}) AS x_{name}" for name in _COUNTS]
        + [f"round(sum({name}), {digits}) AS x_{name}" for name, digits in _DIGITS.items()]
    )
    maps = ", ".join(f"sumMap({one}, {other}) AS t_{one}" for one, other in _MAPS)
    columns = [*_COUNTS, *_DIGITS]
    taken = ", ".join(
        [f"x_{name}" for name in columns]
        + [f"t_{one}.{part}" for one, _ in _MAPS for part in (1, 2)]
    )
    filled = ", ".join([_KEY, *columns, *(name for pair in _MAPS for name in pair)])
    begin = f"toStartOfInterval(start, INTERVAL {width} SECOND)"
    return f"""
INSERT INTO rollups ({filled})
SELECT environment, agent, {width}, begin, agent_version, unit,
    bitShiftLeft(toUInt64({EPOCH}), 40) + total, {taken}
FROM
(
    SELECT environment, agent, unit, {begin} AS begin, agent_version, {sums}, {maps}
    FROM rollups FINAL WHERE width_s = {finer} AND ({when})
    GROUP BY environment, agent, unit, begin, agent_version
) AS added
ANY LEFT JOIN
(
    SELECT unit, {begin} AS begin, sum(low) AS total
    FROM
    (
        SELECT unit, start, max({_LOW}) AS low
        FROM rollups WHERE width_s = {finer} AND ({when}) GROUP BY unit, start
    )
    GROUP BY unit, begin
) AS versions USING (unit, begin)
"""  # noqa: S608 - of our own constants


def _empty(first: str) -> str:
    kind = "String" if first.endswith("reasons") else "Int16"
    return f"(CAST([] AS Array({kind})), CAST([] AS Array(UInt64)))"
