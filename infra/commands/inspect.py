"""settings, schema, sql: what is configured, what an event is, what is stored."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.console import Json, emit_json, print_table, say
from ingest.core.errors import Unavailable, UsageError

_FILES = {".parquet": "Parquet", ".arrow": "Arrow"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(name="settings")(settings_command)
    app.command()(schema)
    app.command()(sql)


def settings_command(as_json: Json = False) -> None:
    """Show every setting: its value in force (secrets masked), where it comes from, what it is for.

    A setting is given as DRIFTLINE_SECTION_NAME in the environment or as name under [section] in
    driftline.toml, or in the file that DRIFTLINE_CONFIG names.

    Example: driftline settings --json
    """
    from infra.settings import describe, load

    described = describe(load())
    if as_json:
        emit_json([asdict(setting) for setting in described])
        return
    print_table(
        ("setting", "value", "from", "meaning"),
        [
            (setting.name, setting.value, setting.source, setting.description)
            for setting in described
        ],
    )
    say(
        "environment: DRIFTLINE_ and the name in capitals with _ for . (DRIFTLINE_KAFKA_PARTITIONS)"
    )


def schema(
    openapi: Annotated[
        bool, typer.Option("--openapi", help="The gateway's HTTP routes in OpenAPI 3.1 instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of an event, the contract of the topic driftline.events.

    Examples: driftline schema > event.schema.json
              driftline schema --openapi > gateway.openapi.json
    """
    if openapi:
        from importlib.metadata import version

        from ingest.gateway.openapi import openapi as describe

        emit_json(describe(version("driftline")))
        return
    from ingest.core.events import json_schema

    emit_json(json_schema())


def sql(
    query: Annotated[
        str, typer.Argument(help="One SELECT, SHOW or DESCRIBE; - reads it from stdin.")
    ],
    limit: Annotated[int, typer.Option(help="Rows to print at most.", min=1)] = 1000,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write all rows to FILE.parquet or FILE.arrow."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask ClickHouse. Reads only, whatever the user may do.

    Prints a table on a terminal, tab-separated lines into a pipe, an array of objects with --json.
    A file keeps the types and holds every row, whatever --limit says.
    `driftline tables` lists what there is; docs/sql.md has worked questions.

    Examples: driftline sql "SELECT agent, count() FROM interactions GROUP BY agent"
              driftline sql "SHOW TABLES" --json
              driftline sql "SELECT * FROM interactions" -o interactions.parquet
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

    from infra import wiring
    from infra.settings import load

    text = (sys.stdin.read() if query == "-" else query).strip().rstrip(";")
    if not text:
        raise UsageError("there is no query; try: driftline sql 'SHOW TABLES'")
    if output is not None and output.suffix not in _FILES:
        raise UsageError(f"{output} is neither .parquet nor .arrow")
    form = "JSONCompactEachRowWithNames" if output is None else _FILES[output.suffix]
    config = wiring.clickhouse(load(), reader=True)
    try:
        with (
            wiring.client(config) as client,
            client.raw_stream(text, fmt=form, settings={"readonly": "1"}) as raw,
        ):
            if output is not None:
                _keep(raw, output)
                return
            # One line of names, then one more row than is printed, to know whether there are more.
            lines = [json.loads(line) for line in islice(raw, limit + 2)]
    except OperationalError as error:
        raise Unavailable(f"ClickHouse at {config.url}: {wiring.reason(error)}") from error
    except ClickHouseError as error:
        raise UsageError(wiring.reason(error)) from error
    columns, rows = (lines[0], lines[1:]) if lines else ([], [])
    if as_json:
        emit_json([dict(zip(columns, row, strict=True)) for row in rows[:limit]])
    else:
        print_table(columns, rows[:limit])
    if len(rows) > limit:
        say(f"only the first {limit} rows; --limit shows more")


def _keep(raw: Any, output: Path) -> None:
    """Write what ClickHouse sends to a file, which is there as a whole or not at all."""
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(raw, file, 1 << 20)
        part.replace(output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    say(f"{output}: {output.stat().st_size:,} bytes")
