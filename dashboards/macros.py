"""Grafana's macros and variables, for panels that are drawn without Grafana.

What the browser does (variables, ``$__conditionalAll``) and what the ClickHouse plugin does (times,
intervals) is done here in one go. Values of variables become quoted literals, or are encoded so
that they cannot leave the literal they stand in; never SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

from processors.clickhouse import literal

Variables = Mapping[str, Sequence[str] | None]
"""Chosen values by variable; None where everything is chosen."""

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(?!__)([A-Za-z]\w*)")
_MACRO: Final = re.compile(r"\$__(\w+)(?:\(([^()]*)\))?")
_CONDITIONAL: Final = "$__conditionalAll("


class Unsupported(ValueError):
    """A query uses something that only Grafana knows."""


def expand(sql: str, variables: Variables, start: datetime, end: datetime, step_s: int) -> str:
    """SQL that ClickHouse understands.

    Parameters
    ----------
    sql
        ``rawSql`` of a panel.
    variables
        Of the dashboard.
    start, end
        Time range.
    step_s
        Seconds between points of a series.

    Raises
    ------
    Unsupported
        The query has another macro, or a variable that is not quoted.
    """
    return _macros(_values(_conditions(sql, variables), variables), start, end, max(step_s, 1))


def _conditions(sql: str, variables: Variables) -> str:
    while (at := sql.find(_CONDITIONAL)) >= 0:
        close = _closing(sql, at + len(_CONDITIONAL) - 1)
        condition, _, variable = sql[at + len(_CONDITIONAL) : close].rpartition(",")
        chosen = variables.get(variable.strip().lstrip("$"))
        sql = sql[:at] + ("1=1" if chosen is None else condition.strip()) + sql[close + 1 :]
    return sql


def _values(sql: str, variables: Variables) -> str:
    def value(match: re.Match[str]) -> str:
        name, form = match[1] or match[3], match[2]
        if form not in _FORMS or name not in variables:
            raise Unsupported(f"cannot fill in {match[0]}")
        return _FORMS[form](name, variables[name] or ("",))

    return _VARIABLE.sub(value, sql)


def _encoded(text: str) -> str:
    """Text of letters, digits, ``-_.~`` and ``%`` alone."""
    return quote(text, safe="-_.~")


_FORMS: Final[dict[str, Callable[[str, Sequence[str]], str]]] = {
    "singlequote": lambda _, values: ", ".join(map(literal, values)),
    "sqlstring": lambda _, values: ", ".join(map(literal, values)),
    "percentencode": lambda _, values: _encoded(",".join(values)),
    "queryparam": lambda name, values: "&".join(f"var-{name}={_encoded(v)}" for v in values),
}
"""How a variable with a format is written; without one it could leave its quotes."""


def _macros(sql: str, start: datetime, end: datetime, step: int) -> str:
    since, until = (f"toDateTime({int(t.timestamp())}, 'UTC')" for t in (start, end))
    since_ms, until_ms = (
        f"fromUnixTimestamp64Milli({int(t.timestamp() * 1000)}, 'UTC')" for t in (start, end)
    )
    known: dict[str, Callable[[str], str]] = {
        "timeFilter": lambda c: f"{c} >= {since} AND {c} <= {until}",
        "timeFilter_ms": lambda c: f"{c} >= {since_ms} AND {c} <= {until_ms}",
        "timeInterval": lambda c: f"toStartOfInterval(toDateTime({c}), INTERVAL {step} second)",
        "timeInterval_ms": lambda c: (
            f"toStartOfInterval(toDateTime64({c}, 3), INTERVAL {step * 1000} millisecond)"
        ),
        "fromTime": lambda _: since,
        "toTime": lambda _: until,
        "fromTime_ms": lambda _: since_ms,
        "toTime_ms": lambda _: until_ms,
        "interval_s": lambda _: str(step),
        "interval_ms": lambda _: str(step * 1000),
    }

    def one(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise Unsupported(f"the board has no macro $__{match[1]}")
        return known[match[1]](match[2] or "")

    # A literal of a value may hold a dollar sign; macros stand outside of quotes only.
    parts = re.split(r"('(?:[^'\\]|\\.)*')", sql)
    return "".join(part if i % 2 else _MACRO.sub(one, part) for i, part in enumerate(parts))


def _closing(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    raise Unsupported("a bracket is not closed")
