"""backup, restore: an embedded runtime as one file."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.runtime import HomeOption
from infra.console import emit
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.schema.cluster import Cluster
    from infra.settings import Settings

Archive = Annotated[Path, typer.Argument(help="The archive, a .tar file; of a server its name.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(backup)
    app.command()(restore)


def backup(archive: Archive, home: HomeOption = None) -> None:
    """Copy everything, while it runs or while it is stopped.

    An embedded runtime becomes one file: data, redaction key, tokens, passwords. It holds secrets.
    A ClickHouse server saves itself on its disk `backups`, under the name that is given; keep the
    redaction key and the file of tokens yourself.

    Examples: driftline backup driftline.tar
              driftline backup before-upgrade
    """
    from importlib.metadata import version

    from infra import saving, wiring
    from infra.runtime_home import RuntimeHome
    from infra.schema.migrate import shipped
    from infra.settings import load

    settings = load({"home": home})
    if settings.clickhouse.url is not None:
        _on_server(settings, archive, saving.server_backup)
        return
    about = {
        "version": version("driftline"),
        "migrations": [migration.name for migration in shipped()],
        "taken": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    place = RuntimeHome(settings.home)
    if place.running() is None:
        size = saving.save(place, archive, about)
    else:
        config = wiring.clickhouse(settings)
        with wiring.client(config) as client:
            size = saving.save_running(place, archive, about, client, config.database)
    emit(f"{archive}: {size / 1e6:.1f} MB; it holds secrets, keep it as such")


def restore(archive: Archive, home: HomeOption = None) -> None:
    """Make everything as it was at a backup, where there is nothing yet.

    An embedded runtime comes back in a folder that holds no data; start it with `driftline up`,
    which brings older tables up to date. A server restores a database that does not exist; run
    `driftline migrate`, then the workers: they read on where the books end. Look at the books with
    `driftline accounting`.

    Example: driftline restore driftline.tar --home /srv/driftline
    """
    from infra import saving
    from infra.runtime_home import RuntimeHome
    from infra.schema.migrate import shipped
    from infra.settings import load

    settings = load({"home": home})
    if settings.clickhouse.url is not None:
        _on_server(settings, archive, saving.server_restore)
        return
    place = RuntimeHome(settings.home)
    about = saving.restore(archive, place, [migration.name for migration in shipped()])
    emit(f"{place.path}: driftline {about['version']} as of {about['taken']}")


def _on_server(
    settings: Settings, name: Path, statements: Callable[[str, str, Cluster], list[str]]
) -> None:
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from infra import wiring

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(name)):
        raise UsageError(f"{name} is no name for a backup of a server: letters, digits, . _ and -")
    config = wiring.clickhouse(settings)
    with wiring.client(config, database="default") as client:
        for statement in statements(config.database, str(name), wiring.cluster(settings)):
            try:
                client.command(statement)
            except ClickHouseError as error:
                raise UsageError(f"{statement}: {wiring.reason(error)}") from error
            emit(statement)
