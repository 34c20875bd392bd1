"""notify test, list, silence, silences: who is told of findings."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from infra.commands import open_store
from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import Rejected, Unavailable, UsageError

app = typer.Typer(help="Tell people of findings: test receivers, see what was sent, silence.")
_FIELDS = (
    "finding_id",
    "kind",
    "signal",
    "severity",
    "environment",
    "agent",
    "agent_version",
    "tool",
)
_LIST = """
SELECT planned, receiver, event, state, severity, headline, attempts, error, incident, seq, delivery
FROM notifications FINAL WHERE incident != '' ORDER BY planned DESC, receiver LIMIT {limit:UInt32}
"""


def register(parent: typer.Typer) -> None:
    """Add the commands of this module."""
    parent.add_typer(app, name="notify")


@app.command()
def test(
    receiver: Annotated[
        str | None,
        typer.Option(help="Only this one: alertmanager, webhook or the scheme of a service."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a test message to every receiver and its end right after. Exit 1 when one fails.

    Examples: driftline notify test
              driftline notify test --receiver webhook --json
    """
    import asyncio

    results = asyncio.run(_test(receiver))
    if as_json:
        emit_json(results)
    else:
        print_table(("receiver", "took it", "detail"), [tuple(r.values()) for r in results])
    if not all(r["ok"] for r in results):
        raise typer.Exit(1)


async def _test(wanted: str | None) -> list[dict[str, Any]]:
    from infra.settings import load
    from infra.settings.notify import notify_config
    from processors.notify.finding import Finding
    from processors.notify.incidents import State
    from processors.notify.service import make_receivers

    config, state, now = notify_config(load()), State(), datetime.now(UTC)
    finding = Finding(
        finding_id=f"test-{secrets.token_hex(4)}", kind="test", severity="warning", began=now,
        found=now, environment="test", agent="driftline", title="Test message of driftline",
    )  # fmt: skip
    made = [
        r for r in make_receivers(config, state, lambda: datetime.now(UTC))
        if wanted is None or r.name.partition(":")[0] == wanted
    ]  # fmt: skip
    if not made:
        raise UsageError(
            "no receiver is configured; see the settings notify.* in `driftline settings`"
            if wanted is None else f"{wanted} is no configured receiver"
        )  # fmt: skip
    results = []
    for receiver in made:
        error = await _told(receiver, state, finding, now)
        results.append({"receiver": receiver.name, "ok": not error, "detail": error})
        await receiver.close()
    return results


async def _told(receiver: Any, state: Any, finding: Any, now: datetime) -> str:
    """Send a finding and its end; what went wrong, or nothing."""
    import msgspec

    from processors.notify.incidents import Message, Rules
    from processors.notify.outbox import Outbox

    outbox = Outbox(None)  # type: ignore[arg-type]  # it only composes
    ended = msgspec.structs.replace(finding, status="recovered", ended=datetime.now(UTC), version=1)
    for seq, (event, current) in enumerate((("firing", finding), ("resolved", ended)), 1):
        state.merge([current], Rules(), now)
        message = Message(finding.finding_id, receiver.name, seq, event, (current,), now)
        try:
            await receiver.send(outbox.compose(message).delivery)
        except (Unavailable, Rejected) as error:
            return str(error)
    return ""


@app.command(name="list")
def list_command(
    limit: Annotated[int, typer.Option(help="Messages to show at most.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """List messages, newest first: what was sent to whom, and whether it arrived.

    Example: driftline notify list --json
    """
    rows = list(open_store().query(_LIST, {"limit": limit}).iter_rows(named=True))
    if as_json:
        emit_json(rows)
        return
    names = ("planned", "receiver", "event", "state", "headline", "attempts", "error")
    print_table(names, [[str(r["planned"])[:19], *(r[n] for n in names[1:])] for r in rows])


@app.command()
def silence(
    match: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE...", help=f"Fields of a finding: {', '.join(_FIELDS)}."
        ),
    ],
    for_: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="How long: 90s, 30m, 12h, 7d.")
    ],
    comment: Annotated[str, typer.Option(help="Why, for those who wonder.")] = "",
    as_json: Json = False,
) -> None:
    """Announce no findings that match all fields, for a while; those that last are announced then.

    Examples: driftline notify silence agent=support --for 2h --comment "migration"
              driftline notify silence environment=staging --for 7d
    """
    from infra.commands.report import seconds
    from processors.notify.outbox import Outbox, Silence

    pairs = [part.partition("=") for part in match]
    for name, equals, value in pairs:
        if name not in _FIELDS or not equals or not value:
            raise UsageError(
                f"{name + equals + value!r} is no FIELD=VALUE; fields: {', '.join(_FIELDS)}"
            )
    now = datetime.now(UTC)
    made = Silence(
        secrets.token_hex(4), {name: value for name, _, value in pairs},
        now, now + timedelta(seconds=seconds(for_)), comment,
    )  # fmt: skip
    Outbox(open_store(reader=False)).silence(made, now)
    if as_json:
        emit_json({"id": made.id, "matchers": made.matchers, "ends": made.ends})
    else:
        emit(
            f"silence {made.id} until {made.ends:%Y-%m-%d %H:%M} UTC;"
            f" end it with `driftline notify unsilence {made.id}`"
        )


@app.command()
def silences(as_json: Json = False) -> None:
    """List silences that hold now or later.

    Example: driftline notify silences
    """
    from processors.notify.outbox import Outbox

    rows = Outbox(open_store()).silences(datetime.now(UTC))
    if as_json:
        emit_json(
            [
                {
                    "id": s.id,
                    "matchers": s.matchers,
                    "starts": s.starts,
                    "ends": s.ends,
                    "comment": s.comment,
                }
                for s in rows
            ]
        )
        return
    print_table(
        ("id", "matchers", "ends", "comment"),
        [
            (s.id, " ".join(f"{k}={v}" for k, v in s.matchers.items()), s.ends, s.comment)
            for s in rows
        ],
    )


@app.command()
def unsilence(
    silence_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id that `driftline notify silences` shows.")
    ],
) -> None:
    """End a silence now. Exit 1 when there is none of this id.

    Example: driftline notify unsilence 1a2b3c4d
    """
    from dataclasses import replace

    from processors.notify.outbox import Outbox

    now, outbox = datetime.now(UTC), Outbox(open_store(reader=False))
    found = next((s for s in outbox.silences(now) if s.id == silence_id), None)
    if found is None:
        say(f"there is no silence {silence_id} in force")
        raise typer.Exit(1)
    outbox.silence(replace(found, ends=now), now)
    emit(f"silence {silence_id} has ended")
