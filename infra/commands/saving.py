"""backup, restore: an embedded runtime as one file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.runtime import HomeOption
from infra.console import emit
from ingest.core.errors import UsageError

Archive = Annotated[Path, typer.Argument(help="The archive, a .tar file.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(backup)
    app.command()(restore)


def backup(archive: Archive, home: HomeOption = None) -> None:
    """Copy a stopped embedded runtime into one file: data, redaction key, tokens, passwords.

    The file holds secrets. For a ClickHouse server use its own BACKUP, see docs/operations.md.

    Example: driftline down && driftline backup driftline.tar
    """
    from importlib.metadata import version

    from infra import saving
    from infra.runtime_home import RuntimeHome
    from infra.schema.migrate import shipped
    from infra.settings import load

    settings = load({"home": home})
    if settings.clickhouse.url is not None:
        raise UsageError(
            "clickhouse.url names a server: save it with its own BACKUP DATABASE, see"
            " docs/operations.md"
        )
    about = {
        "version": version("driftline"),
        "migrations": [migration.name for migration in shipped()],
        "taken": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    size = saving.save(RuntimeHome(settings.home), archive, about)
    emit(f"{archive}: {size / 1e6:.1f} MB; it holds secrets, keep it as such")


def restore(archive: Archive, home: HomeOption = None) -> None:
    """Make an embedded runtime of a backup, in a folder that holds no data yet.

    Start it with `driftline up`, which brings older tables up to date, and look at the books with
    `driftline accounting`.

    Example: driftline restore driftline.tar --home /srv/driftline
    """
    from infra import saving
    from infra.runtime_home import RuntimeHome
    from infra.schema.migrate import shipped
    from infra.settings import load

    place = RuntimeHome(load({"home": home}).home)
    about = saving.restore(archive, place, [migration.name for migration in shipped()])
    emit(f"{place.path}: driftline {about['version']} as of {about['taken']}")
