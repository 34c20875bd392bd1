"""What Grafana and its ClickHouse plugin make of a query before ClickHouse sees it.

`front_end` is what happens in the browser, `back_end` what happens in the plugin on the server;
alert rules only get the latter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

ALL = None
"""Value of a variable of which everything is chosen."""

FRONT_END_ONLY = ("$__conditionalAll", "$__adHocFilters", "${", "$__searchFilter")


def front_end(sql: str, variables: Mapping[str, Sequence[str] | str | None]) -> str:
    """Replace conditional filters and dashboard variables; a text variable has a single value."""
    while (at := sql.rfind("$__conditionalAll(")) >= 0:
        end = _closing(sql, at + len("$__conditionalAll"))
        condition, _, variable = sql[at + len("$__conditionalAll(") : end].rpartition(",")
        name = variable.strip()
        assert name.startswith("$") and name[1:] in variables, f"no variable {name}"
        chosen = "1=1" if variables[name[1:]] in (ALL, [], [""]) else condition.strip()
        sql = sql[:at] + chosen + sql[end + 1 :]

    def value(match: re.Match[str]) -> str:
        chosen = variables[match[1]]
        assert chosen is not ALL, f"{match[1]} used outside of $__conditionalAll"
        match match[2], chosen:
            case "queryparam", list():
                return "&".join(f"var-{match[1]}={_encoded(text)}" for text in chosen)
            case "percentencode", str():
                return _encoded(chosen)
        raise AssertionError(f"{match[0]} is not safe for {chosen!r}")

    return re.sub(r"\$\{(\w+)(?::(\w+))?\}", value, sql)


def _encoded(text: str) -> str:
    """As ``encodeURIComponentStrict``: letters, digits and ``-_.~`` stay."""
    return quote(text, safe="-_.~")


def back_end(sql: str, start: datetime, end: datetime, interval_s: int = 60) -> str:
    """Replace the plugin's own macros; fail on anything it does not know."""
    since, until = (f"toDateTime({int(moment.timestamp())})" for moment in (start, end))
    step = max(interval_s, 1)

    def expand(match: re.Match[str]) -> str:
        argument = match[2]
        match match[1]:
            case "timeFilter":
                return f"{argument} >= {since} AND {argument} <= {until}"
            case "timeInterval":
                return f"toStartOfInterval(toDateTime({argument}), INTERVAL {step} second)"
            case "fromTime":
                return since
            case "toTime":
                return until
            case "interval_s":
                return str(step)
            case other:
                raise AssertionError(f"the plugin has no macro $__{other}")

    expanded = re.sub(r"\$__(\w+)(?:\(([^()]*)\))?", expand, sql)
    assert "$" not in expanded, f"not expanded: {expanded[expanded.index('$') :][:60]}"
    return expanded


def _closing(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    raise AssertionError(f"unbalanced: {text[opening:]}")
