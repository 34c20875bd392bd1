"""dashboards, publish: Grafana."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from dashboards.grafana import DataSourceConfig, GrafanaConfig
    from infra.settings import Settings

_DEFAULT_PORTS = {"http": 8123, "https": 8443}

Folder = Annotated[
    Path | None, typer.Argument(help="Folder of the files; by default the one they are kept in.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        help="Write dashboards and alert rules to files, or check them.\n\n"
        "Examples: driftline dashboards render\n"
        "driftline dashboards check",
        no_args_is_help=True,
    )
    group.command()(render)
    group.command()(check)
    app.add_typer(group, name="dashboards")
    app.command()(publish)


def publish(
    url: Annotated[
        str | None, typer.Option(help="Grafana, http(s)://host:port; else the setting grafana.url.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look, and say what would be done.")
    ] = False,
    slo_file: Annotated[
        Path | None,
        typer.Option("--slo", help="File of objectives; then rules watch their budgets."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put data source, dashboards and alert rules into a Grafana.

    Needs Grafana 11.6 or newer with the ClickHouse plugin, and a service account token in
    DRIFTLINE_GRAFANA_TOKEN. What is there already and equal is left alone, so it can be repeated.

    Examples: driftline publish --url http://127.0.0.1:3000 --dry-run
              driftline publish
    """
    from dashboards import publisher, slo
    from dashboards.boards import links
    from infra.settings import load

    config = grafana_config(load(), url)
    objectives = slo.read(slo_file) if slo_file else ()
    outcome = publisher.publish(config, dry_run, slos=objectives)
    if as_json:
        emit_json({"url": config.url, "dry_run": dry_run, **asdict(outcome)})
    else:
        print_table(
            ("what", "name", "would be" if dry_run else "was", "note"),
            [(c.kind, c.uid, c.action, c.detail) for c in outcome.changes],
        )
    if outcome.works is False:
        source = config.datasource
        raise Unavailable(
            f"everything is published, but Grafana cannot query ClickHouse at {source.host}:"
            f"{source.port} as {source.user} ({outcome.data_source}); if Grafana reaches it by"
            " another address, set DRIFTLINE_GRAFANA_CLICKHOUSE_URL and publish again"
        )
    if not as_json and not dry_run:
        say(f"open {config.url}/d/{links.OVERVIEW}")


def render(folder: Folder = None) -> None:
    """Write every dashboard and alert rule as JSON, for import by hand or review.

    Example: driftline dashboards render out/
    """
    from dashboards import publisher

    target = folder or publisher.RENDERED
    try:
        changed = publisher.render(target)
    except OSError as error:
        raise UsageError(f"cannot write to {target}: {error.strerror}") from error
    for path in changed:
        emit(str(path))
    say(f"{len(changed)} of the files in {target} changed")


def check(folder: Folder = None) -> None:
    """Check that the files are those that `render` would write; exit code 1 when not.

    Example: driftline dashboards check
    """
    from dashboards import publisher

    wrong = publisher.check(folder or publisher.RENDERED)
    for path in wrong:
        emit(str(path))
    if wrong:
        say("these files are out of date; run `driftline dashboards render`")
        raise typer.Exit(1)


def grafana_config(settings: Settings, url: str | None = None) -> GrafanaConfig:
    """Where Grafana is, and ClickHouse as Grafana reaches it.

    Parameters
    ----------
    settings
        All settings.
    url
        Address of Grafana from the command line.

    Raises
    ------
    UsageError
        No address of Grafana is known.
    Unavailable
        No address of ClickHouse is known.
    """
    from dashboards.grafana import GrafanaConfig
    from infra.settings.sections import revealed

    section = settings.grafana
    address = url or section.url
    if address is None:
        raise UsageError("say where Grafana is: --url http://host:3000, or DRIFTLINE_GRAFANA_URL")
    return GrafanaConfig(
        url=address.rstrip("/"),
        token=revealed(section.token) or "",
        user=section.user or "",
        password=revealed(section.password) or "",
        verify=str(section.ca_file) if section.ca_file else True,
        folder=section.folder,
        datasource=_data_source(settings),
    )


def _data_source(settings: Settings) -> DataSourceConfig:
    from dashboards.grafana import DataSourceConfig
    from infra import wiring
    from infra.settings.sections import revealed

    section = settings.grafana
    address, user = section.clickhouse_url, section.clickhouse_user
    password = revealed(section.clickhouse_password) or ""
    if address is None or user is None:
        own = wiring.clickhouse(settings, reader=True)
        address = address or own.url
        if user is None:
            user, password = own.user, password or own.password
            if settings.clickhouse.url is not None:
                say(
                    f"note: Grafana gets driftline's own ClickHouse user {user}; give it one that"
                    " can only read with DRIFTLINE_GRAFANA_CLICKHOUSE_USER"
                )
    parts = urlsplit(address)
    return DataSourceConfig(
        host=parts.hostname or "",
        port=parts.port or _DEFAULT_PORTS[parts.scheme],
        protocol="http",
        secure=parts.scheme == "https",
        user=user,
        password=password,
        database=settings.clickhouse.database,
    )
