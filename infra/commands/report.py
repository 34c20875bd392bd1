"""metrics, alerts, accounting: what was found."""

from __future__ import annotations

import math
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from infra.commands import open_store
from infra.console import Json, emit_json, print_table, say
from ingest.core import durations

Since = Annotated[
    str | None,
    typer.Option(
        metavar="AGE", help="Only what ended this recently, in whole windows: 90s, 30m, 12h, 7d."
    ),
]

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
    environment: Annotated[str | None, typer.Option(help="Only this environment.")] = None,
    since: Since = None,
    scopes: Annotated[
        bool, typer.Option("--scopes", help="Also per tool, operation and model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show success with its interval, latency, cost and satisfaction per agent and version.

    With --since, also by how many points success differs from the period of the same length before.

    Examples: driftline metrics --since 1h
              driftline metrics --agent support --environment production --scopes
              driftline metrics --json
    """
    from dashboards.agent_report import Selection, collect, previous

    now = int(time.time())
    start = None if since is None else now - seconds(since)
    store = open_store()
    selection = Selection(agent, start, environment)
    entries = collect(store, selection, parts=scopes)
    before = previous(store, selection, now)
    for entry in entries:
        if entry["scope"] == "all":
            key = entry["environment"], entry["agent"], entry["agent_version"] or ""
            entry["previous"] = before.get(key)
    if since is not None:
        say(f"from {selection.beginning} on, where the minute begins that holds the time asked for")
    if as_json:
        emit_json(entries)
        return
    if not entries:
        if agent is None and since is None and environment is None:
            say(
                "nothing is stored yet; send events with `driftline simulate` or `driftline replay`"
            )
        else:
            say("nothing that is stored fits")
        return
    print_summary(entries)
    if scopes:
        print_table(
            (
                "environment", "agent", "version", "scope", "events", "errors", "p50 ms", "p95 ms",
                "p99 ms",
            ),
            [
                (
                    e["environment"], e["agent"], e["agent_version"], e["scope"], e["events"]["n"],
                    e["events"]["error"], *_quantiles(e["events"]["duration_ms"]),
                )
                for e in entries if e["scope"] != "all"
            ],
            title="by tool, operation and model",
        )  # fmt: skip


def print_summary(entries: list[dict[str, Any]], *, narrated: bool = False) -> None:
    """Print interactions and sessions of every agent and version."""
    columns = (
        "environment", "agent", "version", "n", "success (95 % interval)", "change", "p50 ms",
        "p95 ms", "p99 ms", "tokens in/out", "cost $ mean", "satisfaction (rated)",
    )  # fmt: skip
    for name in ("interactions", "sessions"):
        print_table(
            columns,
            [_unit_row(e, name) for e in entries if e["scope"] == "all" and e[name]["n"]],
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
    rows = list(open_store().query(_ALERTS).iter_rows(named=True))
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

    books = account(open_store())
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
                "unbooked", "foreign target", "balanced",
            ),
            [
                tuple(
                    books[name]
                    for name in (
                        "accepted", "stored", "duplicates", "collisions", "lost", "dead_lettered",
                        "unbooked", "foreign_target", "balanced",
                    )
                )
            ],
        )  # fmt: skip
    if not books["balanced"]:
        raise typer.Exit(1)


def seconds(age: str) -> int:
    """Length of a span of time in whole seconds; at least one."""
    return math.ceil(durations.seconds(age))


def _unit_row(entry: dict[str, Any], name: str) -> tuple[Any, ...]:
    unit = entry[name]
    success, rated = unit["success"], unit["satisfaction"]["explicit"]
    rate = (
        f"{success['rate']:.1%} ({success['low']:.1%}-{success['high']:.1%},"
        f" {success['yes']}/{success['known']})"
        if success["known"]
        else None
    )
    return (
        entry["environment"], entry["agent"], entry["agent_version"], unit["n"], rate,
        _change(entry, name), *_quantiles(unit["duration_ms"]),
        _tokens(entry) if name == "interactions" else None, _cost(entry, name),
        f"{rated['mean']:.2f} ({rated['n']} of {unit['n']})" if rated["n"] else None,
    )  # fmt: skip


def _change(entry: dict[str, Any], name: str) -> str | None:
    """Points by which success differs from the period before."""
    before = (entry.get("previous") or {}).get(name)
    now = entry[name]["success"]["rate"]
    if before is None or now is None or before["success"]["rate"] is None:
        return None
    return f"{100 * (now - before['success']['rate']):+.1f} of {before['success']['known']}"


def _tokens(entry: dict[str, Any]) -> str | None:
    known = (entry["input_tokens"], entry["output_tokens"])
    return None if known == (None, None) else "/".join(f"{n:,}" for n in known)


def _cost(entry: dict[str, Any], name: str) -> str | None:
    mean, unpriced = entry[name]["cost_usd"]["mean"], entry["unpriced_models"]
    if mean is not None:
        return f"{mean:.4f}"
    return f"unpriced ({', '.join(unpriced)})" if unpriced else None


def _quantiles(duration: dict[str, float | None]) -> tuple[str | None, ...]:
    values = (duration[name] for name in ("p50", "p95", "p99"))
    return tuple(None if value is None else f"{value:,.0f}" for value in values)


def _clock(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")
