"""Rollups: results added up per minute, hour and day, always computed from stored rows.

A rollup is a pure function of the results in it. All rows of one minute carry one version, the sum
of what its results were made from, so of two computations the one that saw more replaces the other.
A name that no result bears any more keeps a row of zeros.
"""

from __future__ import annotations

import math
from typing import Final

from detectors.sketch import GAMMA, ZERO_BIN
from processors.derive.results import EPOCH
from processors.write.cardinality import LabelSql

WIDTHS: Final = (60, 3600, 86_400)
UNITS: Final = {"interactions": "interaction_results", "sessions": "session_results"}

_LOW: Final = "bitAnd(version, 0xFFFFFFFFFF)"


def bin_sql(column: str) -> str:
    """SQL of the histogram bin of a number, as `detectors.sketch.bin_index` computes it."""
    log = f"toInt16(ceil(log({column}) / {math.log(GAMMA)!r}))"
    return f"if({column} > 0, {log}, toInt16({ZERO_BIN}))"


def _histogram(column: str) -> str:
    return (
        f"sumMapIf([{bin_sql(f'assumeNotNull({column})')}], [toUInt64(1)],"
        f" live = 1 AND {column} IS NOT NULL)"
    )


def _sum(expression: str) -> str:
    return f"sumIf({expression}, live = 1)"


def _count(condition: str) -> str:
    return f"countIf(live = 1 AND {condition})"


_TIMES: Final = "round(ifNull({}, 0), 3)"
_MONEY: Final = "round(ifNull({}, 0), 9)"

# name: (of interactions, of sessions); sums all.
_SUMS: Final = {
    "n": (_count("1"),) * 2,
    "open": (_count("state = 'open'"), "toUInt64(0)"),
    "unfinished": (_count("state = 'unfinished'"), "toUInt64(0)"),
    "succeeded": (_count("success = 1"),) * 2,
    "success_known": (_count("success IS NOT NULL"),) * 2,
    "duration_n": (_count("duration_ms IS NOT NULL"),) * 2,
    "duration_ms": (_sum(_TIMES.format("duration_ms")),) * 2,
    "first_token_n": (_count("time_to_first_token_ms IS NOT NULL"), "toUInt64(0)"),
    "first_token_ms": (_sum(_TIMES.format("time_to_first_token_ms")), "toFloat64(0)"),
    "steps": (_sum("steps"), "toUInt64(0)"),
    "llm_calls": (_sum("llm_calls"),) * 2,
    "llm_errors": (_sum("llm_errors"), "toUInt64(0)"),
    "tool_calls": (_sum("tool_calls"),) * 2,
    "tool_errors": (_sum("tool_errors"),) * 2,
    "handoffs": (_sum("handoffs"), "toUInt64(0)"),
    "human_inputs": (_sum("human_inputs"), "toUInt64(0)"),
    "input_tokens": (_sum("ifNull(input_tokens, 0)"),) * 2,
    "output_tokens": (_sum("ifNull(output_tokens, 0)"),) * 2,
    "cached_tokens": (_sum("ifNull(cached_tokens, 0)"), "toUInt64(0)"),
    "tokens_n": (_count("(input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"),) * 2,
    "cost_usd": (_sum(_MONEY.format("cost_usd")),) * 2,
    "cost_n": (_count("cost_usd IS NOT NULL"),) * 2,
    "satisfaction": (_sum("round(ifNull(satisfaction, 0), 12)"),) * 2,
    "satisfaction_n": (_count("satisfaction IS NOT NULL"),) * 2,
    "dissatisfaction": (_sum("round(ifNull(dissatisfaction, 0), 12)"),) * 2,
    "dissatisfaction_n": (_count("dissatisfaction IS NOT NULL"),) * 2,
    "coverage": (_sum("round(ifNull(coverage, 0), 12)"),) * 2,
}
_MAPS: Final = {
    ("duration_bins", "duration_counts"): (_histogram("duration_ms"),) * 2,
    ("first_token_bins", "first_token_counts"): (
        _histogram("time_to_first_token_ms"),
        "(CAST([] AS Array(Int16)), CAST([] AS Array(UInt64)))",
    ),
    ("reasons", "reason_counts"): (
        "sumMapIf([toString(failure_reason)], [toUInt64(1)], live = 1 AND success = 0)",
    )
    * 2,
    ("seen_reasons", "seen_counts"): (
        "sumMapIf(arrayMap(r -> toString(r), reasons),"
        " arrayMap(r -> toUInt64(1), reasons), live = 1)",
    )
    * 2,
}
_DIGITS: Final = {
    "duration_ms": 3, "first_token_ms": 3, "cost_usd": 9, "satisfaction": 12, "dissatisfaction": 12,
    "coverage": 12,
}  # fmt: skip
_FLOAT: Final = frozenset(_DIGITS)

_KEY: Final = "environment, agent, start, agent_version"
_COLUMNS: Final = ", ".join(
    ["environment", "agent", "width_s", "start", "agent_version", "unit", "version", *_SUMS]
    + [name for pair in _MAPS for name in pair]
)


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
    number = list(UNITS).index(unit)
    labels = ", ".join(
        f"{naming(f'r.{name}', name)} AS {name[0]}_" if name != "agent_version"
        else f"{naming(f'r.{name}', name)} AS v_"
        for name in ("environment", "agent", "agent_version")
    )  # fmt: skip
    inner = ", ".join(
        [f"{made[number]} AS s_{name}" for name, made in _SUMS.items()]
        + [f"{made[number]} AS m_{pair[0]}" for pair, made in _MAPS.items()]
    )
    zeros = ", ".join(
        [f"{'toFloat64(0)' if name in _FLOAT else 'toUInt64(0)'} AS s_{name}" for name in _SUMS]
        + [f"{_empty(pair[0])} AS m_{pair[0]}" for pair in _MAPS]
    )
    outer = ", ".join(
        [_rounded(name, f"sum(s_{name})") for name in _SUMS]
        + [f"sumMap(m_{pair[0]}.1, m_{pair[0]}.2) AS t_{pair[0]}" for pair in _MAPS]
    )
    taken = ", ".join(
        [f"x_{name}" for name in _SUMS]
        + [f"t_{pair[0]}.{part}" for pair in _MAPS for part in (1, 2)]
    )
    return f"""
INSERT INTO rollups ({_COLUMNS})
SELECT e_, a_, {WIDTHS[0]}, start, v_, '{unit}',
    bitShiftLeft(toUInt64({EPOCH}), 40) + total, {taken}
FROM
(
    SELECT e_, a_, start, v_, sum(sum(low)) OVER (PARTITION BY start) AS total, {outer}
    FROM
    (
        SELECT toStartOfMinute(cell) AS start, {labels}, sum({_LOW}) AS low, {inner}
        FROM {UNITS[unit]} AS r FINAL WHERE {when}
        GROUP BY start, e_, a_, v_
        UNION ALL
        SELECT DISTINCT start, environment AS e_, agent AS a_, agent_version AS v_,
            toUInt64(0) AS low, {zeros}
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
    sums = ", ".join(_rounded(name, f"sum({name})") for name in _SUMS)
    maps = ", ".join(f"sumMap({one}, {other}) AS t_{one}" for one, other in _MAPS)
    taken = ", ".join(
        [f"x_{name}" for name in _SUMS] + [f"t_{one}.{part}" for one, _ in _MAPS for part in (1, 2)]
    )
    begin = f"toStartOfInterval(start, INTERVAL {width} SECOND)"
    return f"""
INSERT INTO rollups ({_COLUMNS})
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


def _rounded(name: str, expression: str) -> str:
    digits = _DIGITS.get(name)
    return f"{expression if digits is None else f'round({expression}, {digits})'} AS x_{name}"


def _empty(first: str) -> str:
    kind = "String" if first.endswith("reasons") else "Int16"
    return f"(CAST([] AS Array({kind})), CAST([] AS Array(UInt64)))"
