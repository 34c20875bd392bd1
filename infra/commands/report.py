"""metrics, alerts, accounting: what was found."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from infra.console import Json, emit_json, print_table, say
from ingest.core.errors import UsageError

Since = Annotated[
    str | None,
    typer.Option(
        metavar="AGE", help="Only what ended this recently, in whole windows: 90s, 30m, 12h, 7d."
    ),
]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_ALERTS = """
SELECT alert_key, if(muted, 'muted', state) AS status, severity, environment, agent, title,
    description, episode_start, coalesce(ended, found) AS last_seen
FROM alerts ORDER BY state = 'firing' DESC, last_seen DESC
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(metrics)
    app.command()(alerts)
    app.command()(accounting)


def metrics(
    agent: Annotated[str | None, typer.Option(help="Only this agent.")] = None,
    since: Since = None,
    scopes: Annotated[
        bool, typer.Option("--scopes", help="Also per tool, operation and model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show success with its interval, latency, cost and satisfaction per agent and version.

    Examples: driftline metrics --since 1h
              driftline metrics --agent support --scopes
              driftline metrics --json
    """
    from dashboards.agent_report import Selection, collect

    start = None if since is None else int(time.time()) - seconds(since)
    selection = Selection(agent, start)
    entries = collect(_store(), selection, say)
    if since is not None:
        say(f"from {selection.beginning} on, where the window begins that holds the time asked for")
    if as_json:
        emit_json(entries)
        return
    if not entries:
        if agent is None and since is None:
            say(
                "nothing is stored yet; send events with `driftline simulate` or `driftline replay`"
            )
        else:
            say("nothing that is stored fits")
        return
    print_summary(entries)
    if scopes:
        print_table(
            ("agent", "version", "scope", "events", "errors", "p50 ms", "p95 ms", "p99 ms"),
            [
                (
                    e["agent"], e["agent_version"], e["scope"], e["events"]["n"],
                    e["events"]["error"], *_quantiles(e["events"]["duration_ms"]),
                )
                for e in entries if e["scope"] != "all"
            ],
            title="by tool, operation and model",
        )  # fmt: skip


def print_summary(entries: list[dict[str, Any]], *, narrated: bool = False) -> None:
    """Print interactions and sessions of every agent and version."""
    columns = (
        "agent", "version", "n", "success (95 % interval)", "p50 ms", "p95 ms", "p99 ms",
        "cost $ mean", "satisfaction (rated)",
    )  # fmt: skip
    for name in ("interactions", "sessions"):
        print_table(
            columns,
            [
                _unit_row(e["agent"], e["agent_version"], e[name])
                for e in entries
                if e["scope"] == "all" and e[name]["n"]
            ],
            title=name,
            narrated=narrated,
        )


def failure_text(evidence: list[dict[str, Any]]) -> str | None:
    """The most frequent failure of a finding in one phrase."""
    if not evidence:
        return None
    worst = evidence[0]
    where = f" in {worst['tool']}" if worst["tool"] else ""
    what = f": {worst['template']}" if worst["template"] else ""
    return f"{worst['since']}x {worst['reason']}{where}{what}"


def alerts(
    firing: Annotated[bool, typer.Option("--firing", help="Only those that fire now.")] = False,
    as_json: Json = False,
) -> None:
    """List alerts with their state, firing ones first. With --firing, exit 1 when none fires.

    Example: driftline alerts --firing --json
    """
    rows = list(_store().query(_ALERTS).iter_rows(named=True))
    if firing:
        rows = [row for row in rows if row["status"] == "firing"]
    if as_json:
        emit_json(rows)
    else:
        print_table(
            ("status", "severity", "what", "since", "last seen", "details"),
            [
                (
                    row["status"], row["severity"], row["title"], _clock(row["episode_start"]),
                    _clock(row["last_seen"]), row["description"],
                )
                for row in rows
            ],
        )  # fmt: skip
        if not rows:
            say("no alerts")
    if firing and not rows:
        raise typer.Exit(1)


def accounting(as_json: Json = False) -> None:
    """Prove from the store alone that nothing was lost or counted twice. Exit 1 if not.

    Example: driftline accounting
    """
    from dashboards.accounting import account

    books = account(_store())
    if as_json:
        emit_json(books)
    else:
        names = ("records", "lines", "rows", "dead_lettered", "late", "gapless", "balanced")
        print_table(
            ("log", "partition", "offsets", *names),
            [
                (
                    p["log_id"], p["partition"], f"{p['first_offset']}-{p['last_offset']}",
                    *(p[name] for name in names),
                )
                for p in books["partitions"]
            ],
        )  # fmt: skip
        print_table(
            (
                "accepted", "= stored", "+ duplicates", "+ collisions", "+ lost", "dead letters",
                "unbooked", "balanced",
            ),
            [
                tuple(
                    books[name]
                    for name in (
                        "accepted", "stored", "duplicates", "collisions", "lost", "dead_lettered",
                        "unbooked", "balanced",
                    )
                )
            ],
        )  # fmt: skip
    if not books["balanced"]:
        raise typer.Exit(1)


def seconds(age: str) -> int:
    """Length of a span of time such as 90s, 30m, 12h or 7d.

    >>> seconds("12h")
    43200
    """
    match = re.fullmatch(r"(\d+)([smhd])", age)
    if match is None:
        raise UsageError(f"{age!r} is no span of time; write it as 90s, 30m, 12h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def _store() -> Any:
    from infra import wiring
    from infra.settings import load
    from processors.clickhouse import Store

    return Store(wiring.clickhouse(load(), reader=True))


def _unit_row(agent: str, version: str | None, unit: dict[str, Any]) -> tuple[Any, ...]:
    success, rated = unit["success"], unit["satisfaction"]["explicit"]
    rate = (
        f"{success['rate']:.1%} ({success['low']:.1%}-{success['high']:.1%},"
        f" {success['yes']}/{success['known']})"
        if success["known"]
        else None
    )
    cost = unit["cost_usd"]["mean"]
    return (
        agent, version, unit["n"], rate, *_quantiles(unit["duration_ms"]),
        None if cost is None else f"{cost:.4f}",
        f"{rated['mean']:.2f} ({rated['n']} of {unit['n']})" if rated["n"] else None,
    )  # fmt: skip


def _quantiles(duration: dict[str, float | None]) -> tuple[str | None, ...]:
    values = (duration[name] for name in ("p50", "p95", "p99"))
    return tuple(None if value is None else f"{value:,.0f}" for value in values)


def _clock(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")
