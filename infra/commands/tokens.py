"""tokens: who may send to the gateway."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import UsageError

File = Annotated[
    Path | None, typer.Option("--file", help="File of tokens; without it that of the settings.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        name="tokens",
        help="Make, list and revoke the tokens of senders.\n\n"
        "Examples: driftline tokens add shop --environment production\n"
        "driftline tokens list",
        no_args_is_help=True,
    )
    group.command()(add)
    group.command(name="list")(list_)
    group.command()(revoke)
    app.add_typer(group)


def add(
    name: Annotated[str, typer.Argument(help="Who will send, as logs and metrics name them.")],
    environment: Annotated[
        str | None, typer.Option(help="The one environment it may write to.")
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option(help="An agent it may write for; several times for more.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="AGE", help="How long it is good for: 12h, 90d.")
    ] = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it, once: only its hash is kept. A running gateway knows it at once.

    To rotate, make another of the same name, give it to the sender, revoke the old one by its id.

    Examples: driftline tokens add support-team --environment production --expires 90d
              driftline tokens add shop --agent shop --agent shop-refunds
    """
    from infra.commands.report import seconds
    from ingest import access

    if not name.strip() or len(name) > 256:
        raise UsageError("a name has 1 to 256 characters")
    # In the scope that events bear these part the names (`ingest.access.Grant.scope`).
    if "/" in (environment or "") or any("," in a for a in agent or []):
        raise UsageError("an environment has no slash and an agent no comma, to bind a token to it")
    grant = access.Grant(name, environment, frozenset(agent) if agent else None)
    lifetime = None if expires is None else seconds(expires)
    token, kept = access.add(_path(file), grant, lifetime)
    if as_json:
        emit_json({"id": kept.id, "name": name, "token": token, "expires": kept.expires})
        return
    say(f"token {kept.id} of {name}; it is shown this once:")
    emit(token)
    say("a sender with OpenTelemetry sets")
    say(f"OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20{token}")


def list_(file: File = None, as_json: Json = False) -> None:
    """List the tokens: whose, for what, until when. The tokens themselves are not known.

    Example: driftline tokens list --json
    """
    from ingest import access

    now = time.time()
    tokens = access.tokens_of(_path(file))
    rows = [
        {
            "id": token.id,
            "name": token.grant.name,
            "environment": token.grant.environment,
            "agents": None if token.grant.agents is None else sorted(token.grant.agents),
            "created": _time(token.created),
            "expires": _time(token.expires),
            "in_force": token.expires is None or token.expires > now,
        }
        for token in tokens
    ]
    if as_json:
        emit_json(rows)
        return
    print_table(
        ("id", "name", "environment", "agents", "created", "expires", "in force"),
        [
            (
                row["id"], row["name"], row["environment"] or "any",
                ", ".join(row["agents"]) if isinstance(row["agents"], list) else "all",
                row["created"], row["expires"] or "never", row["in_force"],
            )
            for row in rows
        ],
    )  # fmt: skip
    if not rows:
        say("no tokens; make one with `driftline tokens add NAME`")


def revoke(
    name: Annotated[str, typer.Argument(help="Id of a token, or a name for all of its tokens.")],
    file: File = None,
) -> None:
    """Take tokens out of force. A running gateway knows at once. Exit 1 when there is none.

    Example: driftline tokens revoke 1f3a9c02
    """
    from ingest import access

    gone = access.revoke(_path(file), name)
    for token in gone:
        say(f"revoked {token.id} of {token.grant.name}")
    if not gone:
        say(f"there is no token {name!r}; see `driftline tokens list`")
        raise typer.Exit(1)


def _path(given: Path | None) -> Path:
    from infra.settings import load

    if given is not None:
        return given
    settings = load()
    return settings.gateway.tokens_file or settings.home / "tokens.json"


def _time(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
