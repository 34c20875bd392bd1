"""board, report: what is stored as a local page, and as a file to hand on."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.console import Json, emit, emit_json
from ingest.core.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from infra.runtime_home import RuntimeHome
    from infra.settings import Settings

_TOKEN = "board.token"  # noqa: S105 - the name of the file


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(board)
    app.command()(report)


def board(
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it here, as `driftline up` does by itself.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Port of 127.0.0.1 to serve on.", min=1024, max=65535),
    ] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of the runtime [default: ./.driftline].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the address of the local board with its token; open it in a browser.

    The board shows the dashboards without a Grafana, incidents with their cause, and conversations
    call by call. It only reads, listens on 127.0.0.1, and gives nothing without the token.

    Examples: driftline board
              driftline board --serve --port 17300
    """
    from infra.runtime_home import RuntimeHome
    from infra.settings import load

    settings = load({"home": home})
    where = RuntimeHome(settings.home)
    token = token_of(where)
    if serve:
        _serve(settings, token, port)
        return
    running = where.running()
    address = running.addresses.get("board") if running else None
    if address is None:
        raise Unavailable(
            f"no board runs in {settings.home}: start it with `driftline up`, or"
            " `driftline board --serve`"
        )
    if as_json:
        emit_json({"address": address, "url": f"{address}/#token={token}"})
    else:
        emit(f"{address}/#token={token}")


def report(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")
    ],
    agent: Annotated[str, typer.Option(help="Only this agent.")] = "",
    since: Annotated[str, typer.Option(metavar="SPAN", help="How far back: 30m, 12h, 7d.")] = "24h",
    as_json: Json = False,
) -> None:
    """Write a report into one HTML file, which opens without a network.

    It says what is wrong, how every agent and version does, and what failed, with n and intervals.

    Examples: driftline report -o report.html
              driftline report -o support.html --agent support --since 7d
    """
    from datetime import UTC, datetime, timedelta

    from dashboards.report import gather, render
    from infra.commands.report import seconds
    from infra.settings import load

    now = datetime.now(UTC)
    found = gather(lookup_of(load()), now - timedelta(seconds=seconds(since)), now, agent)
    try:
        output.write_text(render(found), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
    told = {
        "file": str(output),
        "interactions": sum(row["n"] for row in found.agents),
        "open_incidents": sum(i["active"] for i in found.incidents),
    }
    if as_json:
        emit_json(told)
    else:
        emit(
            f"{output}: {told['interactions']:,} interactions,"
            f" {told['open_incidents']} open incidents"
        )


def token_of(home: RuntimeHome) -> str:
    """The token of the board, made once and readable by this user only."""
    path = home.path / _TOKEN
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(token + "\n")
    return token


def _serve(settings: Settings, token: str, port: int | None) -> None:
    import asyncio
    import contextlib

    from dashboards.web.server import serve
    from infra.embedded.supervisor import BOARD_PORT

    chosen = port or settings.board.port or settings.port_base + BOARD_PORT
    emit(f"http://127.0.0.1:{chosen}/#token={token}")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(lookup_of(settings), token, chosen))
    except OSError as error:
        raise UsageError(f"cannot serve the board on port {chosen}: {error.strerror}") from error


def lookup_of(settings: Settings) -> Any:
    """What reads the database, as its reader."""
    from dashboards.lookup import Lookup
    from infra import wiring
    from processors.clickhouse import Store

    return Lookup(Store(wiring.clickhouse(settings, reader=True)))
