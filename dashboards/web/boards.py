"""The rendered dashboards: what they are, and the rows of one panel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final

from dashboards.lookup import Answer, Lookup
from dashboards.macros import Variables, expand

Json = dict[str, Any]

MAX_ROWS: Final = 20_000
_POINTS: Final = 240
_ALL: Final = "$__all"


class NotFound(LookupError):
    """There is no such dashboard, panel or variable."""


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: a time range and the chosen values of variables."""

    start: datetime
    end: datetime
    variables: Variables

    @property
    def step_s(self) -> int:
        """Seconds between points, so that a series has a few hundred."""
        return max(1, int((self.end - self.start).total_seconds()) // _POINTS)


@cache
def dashboards() -> dict[str, Json]:
    """Every rendered dashboard by uid; the overview first."""
    folder = files("dashboards") / "rendered"
    found = {}
    for entry in folder.iterdir():
        if entry.name.endswith(".json"):
            read = json.loads(entry.read_text("utf-8"))
            if "panels" in read:
                found[read["uid"]] = read
    return dict(sorted(found.items(), key=lambda item: ("overview" not in item[0], item[0])))


def dashboard(uid: str) -> Json:
    """A rendered dashboard. Raises `NotFound`."""
    try:
        return dashboards()[uid]
    except KeyError:
        raise NotFound(f"there is no dashboard {uid}") from None


def options(lookup: Lookup, uid: str, view: View) -> dict[str, list[str]]:
    """Values that each variable of a dashboard can take; only its own queries run."""
    found: dict[str, list[str]] = {}
    for variable in dashboard(uid)["templating"]["list"]:
        if variable["type"] == "custom":
            found[variable["name"]] = [v.strip() for v in variable["query"].split(",")]
        elif variable["type"] == "query":
            sql = _expand(variable["query"]["rawSql"], view, view.step_s)
            found[variable["name"]] = [str(row[0]) for row in lookup.ask(sql).rows]
    return found


def panel_rows(lookup: Lookup, uid: str, panel_id: int, view: View) -> list[Json]:
    """Columns of each query of a panel: ``[{"columns": [{name, type}], "values": [[...]]}]``.

    Raises
    ------
    NotFound
        There is no such panel.
    Unsupported
        A query needs Grafana itself.
    """
    panel = next((p for p in dashboard(uid)["panels"] if p["id"] == panel_id), None)
    if panel is None:
        raise NotFound(f"{uid} has no panel {panel_id}")
    step = max(view.step_s, _seconds(panel.get("interval", "")))
    return [
        _columns(lookup.ask(_expand(target["rawSql"], view, step)))
        for target in panel.get("targets", [])
        if "rawSql" in target
    ]


def annotation_rows(lookup: Lookup, uid: str, view: View) -> list[Json]:
    """Ranges to draw over every series: ``name``, ``color``, ``time``, ``timeEnd``, ``title``."""
    found = []
    for source in dashboard(uid).get("annotations", {}).get("list", []):
        sql = source.get("target", {}).get("rawSql")
        if sql:
            rows = lookup.rows(_expand(sql, view, view.step_s))
            found += [{**row, "name": source["name"], "color": source["iconColor"]} for row in rows]
    return found[:500]


def view_of(uid: str, query: dict[str, list[str]], now: datetime) -> View:
    """Read the range and the variables of a request.

    Parameters
    ----------
    uid
        Dashboard, which says what variables there are.
    query
        ``from`` and ``to`` as milliseconds since 1970 or a span such as ``6h``, and
        ``var-NAME`` per chosen value.
    now
        End of the range where ``to`` is not given.

    Raises
    ------
    ValueError
        A time is not a time.
    """
    start, end = time_range(query, now)
    variables: dict[str, Sequence[str] | None] = {}
    for variable in dashboard(uid)["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        given = [v for v in query.get(f"var-{variable['name']}", []) if v != _ALL]
        everything = None if variable["type"] != "textbox" else [""]
        variables[variable["name"]] = given or everything
    return View(start, end, variables)


def time_range(query: dict[str, list[str]], now: datetime) -> tuple[datetime, datetime]:
    """Start and end that a request asks for. Raises ValueError."""
    until = query.get("to", ["now"])[0]
    end = now if until == "now" else datetime.fromtimestamp(int(until) / 1000, UTC)
    since = query.get("from", ["6h"])[0].removeprefix("now-")
    if since.isdecimal():
        return datetime.fromtimestamp(int(since) / 1000, UTC), end
    seconds = _seconds(since)
    if not 0 < seconds <= 400 * 86_400:
        raise ValueError(f"{since!r} is no span of time; write it as 30m, 6h or 7d")
    return end - timedelta(seconds=seconds), end


def _expand(sql: str, view: View, step: int) -> str:
    return expand(sql, view.variables, view.start, view.end, step)


def _seconds(span: str) -> int:
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(span[-1:])
    return int(span[:-1]) * unit if unit and span[:-1].isdecimal() else 0


def _columns(answer: Answer) -> Json:
    rows = answer.rows[:MAX_ROWS]
    kinds = list(zip(answer.names, answer.kinds, strict=True))
    return {
        "columns": [{"name": name, "type": kind} for name, kind in kinds],
        "values": [
            [_ms(row[i]) for row in rows] if kind == "time" else [row[i] for row in rows]
            for i, (_, kind) in enumerate(kinds)
        ],
        "more": max(0, len(answer.rows) - MAX_ROWS),
    }


def _ms(text: str | None) -> int | None:
    """Milliseconds since 1970."""
    return None if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)
