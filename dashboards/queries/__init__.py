"""The queries of driftline: named statements in ``.sql`` files, and the way to fill their slots.

A file holds statements, each under a line ``-- name: NAME``; `render` knows it as ``file.NAME``. A
slot is ``{name:kind}``:

============  ==================================================================================
``labels``    condition that a column has one of the chosen values; no choice chooses everything.
              ``{agent:labels:s.agent}`` names the column, by default that of `COLUMNS`
``time``      bound of the time range
``seconds``   number of seconds, such as the width of a point
``text``      text that somebody typed
``rows``      array of tuples that the program gives, such as the objectives
``sql``       fragment of ``fragments.sql``, which may have slots itself
============  ==================================================================================

Without values a statement is rendered for Grafana: variables and the back-end macros of its
ClickHouse plugin. With values it is rendered for ClickHouse, and every value is a bound parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

Rows: TypeAlias = Sequence[tuple[str | int | float, ...]]
Value: TypeAlias = str | int | Sequence[str] | Rows

COLUMNS: Final = {
    "environment": "environment",
    "agent": "agent",
    "version": "agent_version",
}
"""Column that the labels of a variable select on, where the slot names none."""

EVERYTHING: Final[dict[str, Value]] = {"from": 0, "to": 4_294_944_000}
"""Values that choose all that is stored: DateTime ends in 2106."""

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"^--.*\n?", re.MULTILINE)
_SLOT: Final = re.compile(r"\{(\w+):(labels|time|seconds|text|rows|sql)(?::([\w.]+))?\}")
_MACROS: Final = {"from": "$__fromTime", "to": "$__toTime", "interval": "$__interval_s"}
"""Macros that the plugin expands on the server, so that rules have them too."""


@dataclass(frozen=True, slots=True)
class Query:
    """A statement that can be sent, and what its parameters are."""

    sql: str
    parameters: dict[str, Any] = field(default_factory=dict)


def render(
    name: str,
    values: Mapping[str, Value] | None = None,
    *,
    rows: Mapping[str, Rows] | None = None,
    rule: bool = False,
) -> Query:
    """Fill the slots of a statement.

    Parameters
    ----------
    name
        ``file.NAME``, such as ``agents.success_now``.
    values
        Values by name of slot: times in seconds since 1970, labels as a list of strings. None
        renders for Grafana.
    rows
        Tables that the program gives, by name of slot; they are literals in every form.
    rule
        Render for an alert rule of Grafana: there are no variables, so everything is chosen.

    Raises
    ------
    KeyError
        There is no such statement, or a slot other than ``labels`` has no value.

    Examples
    --------
    >>> render("agents.environments").sql.count("$__fromTime") > 0
    True
    >>> chosen = {"from": 0, "to": 60, "agent": ["it's"]}
    >>> render("agents.interactions_now", chosen).parameters["agent"]
    ["it's"]
    """
    parameters: dict[str, Any] = {}

    def fill(match: re.Match[str]) -> str:
        slot, kind, column = match.groups()
        if kind == "sql":
            return _SLOT.sub(fill, statements()[f"fragments.{slot}"])
        if kind == "rows":
            return _array((rows or {})[slot])
        if values is None:
            return _for_grafana(slot, kind, column, rule)
        return _bound(slot, kind, column, values, parameters)

    return Query(_SLOT.sub(fill, statements()[name]), parameters)


@cache
def statements() -> dict[str, str]:
    """Every statement with its slots, by name."""
    found: dict[str, str] = {}
    for entry in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            _, *parts = _NAME.split(entry.read_text("utf-8"))
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                file = entry.name.removesuffix(".sql")
                found[f"{file}.{name}"] = _COMMENT.sub("", text).strip()
    return found


@cache
def _names() -> dict[str, str]:
    """Names of the statements that have a form for Grafana without further tables, by that form."""
    others = ("fragments.", "rules.", "report.")
    return {render(name).sql: name for name in statements() if not name.startswith(others)}


def name_of(sql: str) -> str | None:
    """Name of the statement that was rendered to ``sql`` for a panel; None when there is none."""
    return _names().get(sql)


def literal(value: str | float) -> str:
    r"""SQL literal that is inert in ClickHouse and in Grafana, whose macros begin with a dollar.

    >>> literal("it's $__x")
    "'it\\'s \\x24__x'"
    """
    if not isinstance(value, str):
        return repr(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\x24")
    return f"'{escaped}'"


def _array(rows: Iterable[tuple[str | int | float, ...]]) -> str:
    return "[" + ", ".join(f"tuple({', '.join(map(literal, row))})" for row in rows) + "]"


def _for_grafana(slot: str, kind: str, column: str | None, rule: bool) -> str:
    if kind in ("time", "seconds"):
        return _MACROS[slot]
    if rule:
        if kind == "labels":
            return "1"
        raise KeyError(f"a rule has no variable {slot}")
    if kind == "text":
        # Percent-encoded, because no quoting of Grafana's holds a backslash and a quote.
        return f"decodeURLComponent('${{{slot}:percentencode}}')"
    start = len(f"var-{slot}=") + 1
    chosen = (
        f"arrayMap(p -> decodeURLComponent(substring(p, {start})), "
        f"splitByChar('&', '${{{slot}:queryparam}}'))"
    )
    return f"$__conditionalAll(has({chosen}, {column or COLUMNS[slot]}), ${slot})"


def _bound(
    slot: str,
    kind: str,
    column: str | None,
    values: Mapping[str, Value],
    parameters: dict[str, Any],
) -> str:
    if kind == "labels":
        chosen = values.get(slot)
        if not chosen:
            return "1"
        parameters[slot] = list(chosen)  # type: ignore[arg-type]
        return f"has({{{slot}:Array(String)}}, {column or COLUMNS[slot]})"
    parameters[slot] = values[slot]
    if kind == "text":
        return f"{{{slot}:String}}"
    if kind == "seconds":
        return f"{{{slot}:UInt32}}"
    return f"toDateTime({{{slot}:UInt32}})"
