"""label: a person says whether an interaction or a session went right."""

from __future__ import annotations

import getpass
import time
from enum import StrEnum
from typing import Annotated

import typer

from infra.console import emit
from ingest.core.errors import Rejected


class Verdict(StrEnum):
    """What a label says."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(label)


def label(
    target: Annotated[str, typer.Argument(metavar="ID", help="Interaction or session.")],
    verdict: Annotated[Verdict, typer.Argument(help="Did the agent do the right thing?")],
    reason: Annotated[str, typer.Option(help="Code of why, such as wrong_refund.")] = "",
    comment: Annotated[str, typer.Option(help="Why, in words.")] = "",
    by: Annotated[str, typer.Option(help="Who says so; by default the user of this machine.")] = "",
) -> None:
    """Say whether an interaction or a session went right.

    A label is the truth: it decides success, judges are measured by it, it becomes an anchor for
    those that have anchors, and `driftline satisfaction fit` learns from it. A later label of the
    same person replaces an earlier one. For a rate of a whole agent, label targets chosen at
    random.

    Examples: driftline label 4bf92f3577b34da6a3ce929d0e0e4736 fail --reason wrong_refund
              driftline label session-17 pass --by anna
    """
    import msgspec

    from infra import wiring
    from infra.settings import load
    from ingest.gateway.feedback import Memory, event_of
    from processors.clickhouse import Store

    settings = load()
    store = Store(wiring.clickhouse(settings, reader=True))
    found = store.query(
        "SELECT 'interaction_id' AS kind, toString(agent) AS agent, environment FROM interactions"
        " WHERE interaction_id = {id:String} UNION ALL"
        " SELECT 'session_id', toString(agent), environment FROM sessions"
        " WHERE session_id = {id:String} LIMIT 1",
        {"id": target},
    )
    if found.is_empty():
        raise Rejected("unknown_target", f"no interaction or session {target} is stored")
    kind, agent, environment = found.row(0)
    given = {
        kind: target,
        "agent": agent,
        "environment": environment,
        "label": verdict.value,
        "user_id": by or getpass.getuser(),
        "reason": reason or None,
        "comment": comment or None,
    }
    event = event_of(msgspec.json.encode(given), Memory(), time.time_ns(), None)
    with wiring.producer(settings) as producer:
        producer.send(wiring.redactor(settings).apply([event]))
    emit(f"{kind.removesuffix('_id')} {target}: {verdict.value}")
