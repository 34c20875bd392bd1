"""A report in one HTML file, for a chat or a review: no script, nothing loaded from elsewhere.

`gather` reads, `render` writes; names from events are escaped and control characters shown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dashboards.lookup import Lookup, Row

_HIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_CSP: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root{color-scheme:light dark;--ink:#17212b;--soft:#4d5b69;--line:#d3dae1;--back:#fff;
--card:#f4f6f8;--bad:#b3181f;--good:#13692f;--bar:#1f6fb5}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#a9b6c2;--line:#33404c;--back:#11171d;
--card:#1a222a;--bad:#ff8b8b;--good:#74d190;--bar:#6cb2f2}}
body{font:14px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:0 auto;
max-width:1000px;padding:20px}
h1{font-size:22px;margin:0}h2{font-size:16px;margin:26px 0 8px}h3{font-size:14px;margin:0 0 4px}
p{margin:4px 0}.soft{color:var(--soft)}.bad{color:var(--bad)}.good{color:var(--good)}
section.card{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:10px 14px;margin:8px 0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 8px;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}td.n,th.n{text-align:right;white-space:nowrap}
svg text{fill:var(--soft);font-size:11px}
"""

Column = tuple[str, Callable[[Row], str], bool]
"""Heading, cell as HTML, and whether it is a number."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says. Lists are those of `dashboards.lookup.Lookup`."""

    since: datetime
    until: datetime
    agent: str
    agents: Sequence[Row]
    incidents: Sequence[Row]
    failures: Sequence[Row]
    course: Sequence[Row]


def gather(lookup: Lookup, since: datetime, until: datetime, agent: str = "") -> Report:
    """Read what a report says.

    Parameters
    ----------
    lookup
        The database.
    since, until
        Time range.
    agent
        Only this agent; all when empty.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    days = (until - since).total_seconds() / 86_400
    incidents = [i for i in lookup.incidents(days=days) if not agent or agent in (i["agent"], "")]
    return Report(
        since, until, agent,
        lookup.agents(since, until, agent), incidents,
        lookup.failures(since, until, agent), lookup.course(since, until, agent),
    )  # fmt: skip


def render(report: Report) -> str:
    """The whole file."""
    whose = f"agent {text(report.agent)}" if report.agent else "all agents"
    span = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    parts = [
        f"<h1>driftline report: {whose}</h1><p class=soft>{span}</p>",
        _summary(report),
        "<h2>Share of failed interactions</h2>",
        _chart(report.course),
        "<h2>Incidents</h2>",
        *(map(_incident, report.incidents) if report.incidents else ["<p>None.</p>"]),
        "<h2>Agents and versions</h2>",
        _table(_AGENTS, report.agents, "Nothing is stored for this time."),
        "<h2>What failed, most users first</h2>",
        _table(_FAILURES, report.failures, "Nothing failed."),
        "<h2>How to read it</h2>"
        "<p class=soft>Success counts interactions whose outcome is known; an interval is Wilson's"
        " 95 %. An e-value is the factor by which the data speak against 'nothing changed'. What is"
        " not known says unknown, never 0.</p>",
    ]
    return (
        '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width='
        f'device-width,initial-scale=1"><meta http-equiv=Content-Security-Policy content="{_CSP}">'
        f"<title>driftline report</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def text(value: Any, limit: int = 400) -> str:
    r"""Text of unknown origin as HTML: escaped, control characters shown, cut.

    >>> text("<b>\x1b[0m")
    '&lt;b&gt;�[0m'
    """
    shown = _HIDDEN.sub("\ufffd", " ".join(str(value).split()))
    return html.escape(shown if len(shown) <= limit else shown[: limit - 1] + "…")


def _summary(report: Report) -> str:
    open_ = [i for i in report.incidents if i["active"]]
    known = sum(row["known"] for row in report.agents)
    yes = sum(row["yes"] for row in report.agents)
    n = sum(row["n"] for row in report.agents)
    rate = f"{yes / known:.1%} of {known:,} with a known outcome succeeded" if known else "unknown"
    state = (
        f"<strong class=bad>{len(open_)} open incident{'s' if len(open_) > 1 else ''}</strong>"
        if open_
        else "<strong class=good>No open incident</strong>"
    )
    return f"<section class=card><p>{state}</p><p>{n:,} interactions; {rate}.</p></section>"


def _incident(found: Row) -> str:
    lasts = "lasts" if found["active"] else f"ended {_clock(found['ended'])}"
    causes = "".join(
        f"<li>{_cause(cause)}</li>" for cause in (found["causes"] or found["evidence"])[:5]
    )
    kind = "bad" if found["active"] else "good"
    return (
        f"<section class=card><h3>{text(found['title'])}</h3>"
        f"<p><span class={kind}>{text(found['status'])}</span> <span class=soft>"
        f"{text(found['agent'])} {text(found['agent_version'])} ({text(found['environment'])}),"
        f" began {_clock(found['began'])}, {lasts}, n = {_count(found['n'])}, e-value"
        f" {_value(found['e_value'], '.2g')}</span></p><ul>{causes}</ul></section>"
    )


def _cause(cause: Any) -> str:
    if not isinstance(cause, dict):
        return text(cause)
    if "attribute" in cause:
        lift = _value(cause.get("lift"), ".1f")
        return f"{text(cause['attribute'])} {text(cause.get('value'))}, lift {lift}"
    where = f" in {text(cause['tool'])}" if cause.get("tool") else ""
    return (
        f"{text(cause.get('since', ''))}x {text(cause.get('reason', ''))}{where}:"
        f" {text(cause.get('template', ''))} ({text(cause.get('before', 'unknown'))} before)"
    )


def _chart(course: Sequence[Row]) -> str:
    """Failure share with its interval, as SVG with a title for who cannot see it."""
    points = [row for row in course if row["rate"] is not None]
    if len(points) < 2:
        return "<p class=soft>Too little is known to draw it.</p>"
    width, height, left, below = 960.0, 180.0, 44.0, 22.0
    times = [datetime.fromisoformat(row["time"]).timestamp() for row in points]
    top = max(row["high"] for row in points)
    span = max(times[-1] - times[0], 1.0)

    def at(time: float, share: float) -> str:
        x = left + (time - times[0]) / span * (width - left - 8)
        return f"{x:.1f},{height - below - share / top * (height - below - 10):.1f}"

    rates = " ".join(at(t, row["rate"]) for t, row in zip(times, points, strict=True))
    high = [at(t, row["high"]) for t, row in zip(times, points, strict=True)]
    low = [at(t, row["low"]) for t, row in zip(times, points, strict=True)]
    ticks = "".join(
        f'<text x="{left - 6}" y="{float(at(times[0], top * f).split(",")[1]) + 4:.1f}"'
        f' text-anchor="end">{top * f:.0%}</text>'
        for f in (0.0, 0.5, 1.0)
    )
    ends = "".join(
        f'<text x="{x}" y="{height - 4}" text-anchor="{anchor}">{points[i]["time"][5:16]}</text>'
        for i, x, anchor in ((0, left, "start"), (-1, width - 8, "end"))
    )
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" width="100%"><title>Failed share'
        f" from {points[0]['rate']:.1%} to {points[-1]['rate']:.1%}, at most"
        f" {max(row['rate'] for row in points):.1%}</title>"
        f'<polygon points="{" ".join(low + high[::-1])}" fill="var(--bar)" opacity=".2"/>'
        f'<polyline points="{rates}" fill="none" stroke="var(--bar)" stroke-width="2"/>'
        f"{ticks}{ends}</svg>"
    )


def _table(columns: Sequence[Column], rows: Sequence[Row], empty: str) -> str:
    if not rows:
        return f"<p>{empty}</p>"
    head = "".join(
        f"<th scope=col{' class=n' if number else ''}>{name}</th>" for name, _, number in columns
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=n' if number else ''}>{cell(row)}</td>" for _, cell, number in columns
        )
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=scroll>{table}</div>"


def _value(value: float | None, form: str, suffix: str = "") -> str:
    return "unknown" if value is None else f"{value:{form}}{suffix}"


def _count(value: int | None) -> str:
    return _value(value, ",")


def _clock(moment: str | None) -> str:
    return "unknown" if moment is None else moment[:16].replace("T", " ")


def _rate(row: Row) -> str:
    if row["rate"] is None:
        return "unknown"
    return f"{row['rate']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


_AGENTS: Final[Sequence[Column]] = (
    ("agent", lambda r: text(r["agent"]), False),
    ("version", lambda r: text(r["agent_version"]), False),
    ("environment", lambda r: text(r["environment"]), False),
    ("interactions", lambda r: _count(r["n"]), True),
    ("users", lambda r: _count(r["users"]), True),
    ("success (95 %)", _rate, True),
    ("p50", lambda r: _value(r["p50_ms"], ",.0f", " ms"), True),
    ("p95", lambda r: _value(r["p95_ms"], ",.0f", " ms"), True),
    ("mean cost", lambda r: _value(r["mean_cost_usd"], ".4f", " $"), True),
    ("rating (n)", lambda r: f"{_value(r['rating'], '.2f')} ({r['rated']})", True),
)
_FAILURES: Final[Sequence[Column]] = (
    ("reason", lambda r: text(r["reason"]), False),
    ("tool", lambda r: text(r["tool"]), False),
    ("message", lambda r: text(r["template"]), False),
    ("agents", lambda r: text(", ".join(r["agents"])), False),
    ("failures", lambda r: _count(r["failures"]), True),
    ("users", lambda r: _count(r["users"]), True),
    ("first", lambda r: _clock(r["first_seen"]), False),
    ("last", lambda r: _clock(r["last_seen"]), False),
    ("such as", lambda r: text(r["request"] or r["example"], 120), False),
)
