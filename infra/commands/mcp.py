"""mcp: read-only tools for coding assistants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.console import say
from ingest.core.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(mcp)


def mcp(
    http: Annotated[
        int | None,
        typer.Option(
            "--http",
            metavar="PORT",
            help="Serve HTTP on this port of 127.0.0.1, with the board's token, instead of stdio.",
            min=1024,
            max=65535,
        ),
    ] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of the runtime [default: ./.driftline].")
    ] = None,
) -> None:
    """Serve read-only tools to a coding assistant over the Model Context Protocol.

    Tools: what_is_wrong, incident, cluster, interaction, session, compare, sql, regression_export.

    Examples: driftline mcp
              claude mcp add driftline -- driftline mcp --home /srv/driftline/.driftline
              driftline mcp --http 17301
    """
    from infra.commands.board import lookup_of, token_of
    from infra.runtime_home import RuntimeHome
    from infra.settings import load

    try:
        from dashboards.assistant import build, http_app
    except ModuleNotFoundError as error:
        raise UsageError(
            f"driftline mcp needs {error.name}: pip install 'driftline[mcp]'"
        ) from None
    settings = load({"home": home})
    server = build(lookup_of(settings))
    if http is None:
        server.run("stdio")
        return
    import uvicorn

    token = token_of(RuntimeHome(settings.home))
    say(f"http://127.0.0.1:{http}/mcp, header Authorization: Bearer {token}")
    uvicorn.run(
        http_app(server, token, http), host="127.0.0.1", port=http, log_level="warning",
        server_header=False,
    )  # fmt: skip
