"""senders: who sends what, and what of it is understood."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from infra.commands.report import seconds
from infra.console import Json, emit_json, print_table, say

Since = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only what happened this recently: 90s, 30m, 7d.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(senders)


def senders(since: Since = None, as_json: Json = False) -> None:
    """Show who sends what, in which dialect, how much of it is understood, and what to do.

    One row per service and instrumentation. Below it, one line of advice for each thing that is
    missing: tokens, prices, sessions, dialects; and what was refused.

    Examples: driftline senders
              driftline senders --since 1h --json
    """
    from dashboards import senders as query
    from infra import wiring
    from infra.settings import load
    from processors.clickhouse import Store

    store = Store(wiring.clickhouse(load(), reader=True))
    start = 0 if since is None else int(time.time() - seconds(since))
    found = query.senders(store, start)
    if as_json:
        emit_json(found)
        return
    names = ("service", "scope", "spans", "understood", "model_calls", "with_tokens", "with_cost")
    rows = [
        (*(entry[name] for name in names), _dialects(entry), sum(entry["ignored"].values()))
        for entry in found
    ]
    print_table((*names, "dialects", "ignored logs"), rows)
    for line in (line for entry in found for line in entry["advice"]):
        say(line)
    for code, letters in query.refused(store, start).items():
        say(f"{letters} were refused ({code}): driftline deadletters show --code {code}")
    if not found:
        say("nobody has sent spans or log records")


def _dialects(entry: dict[str, Any]) -> str:
    return ", ".join(f"{name or 'unknown'} {n}" for name, n in entry["dialects"].items())
