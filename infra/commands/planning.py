"""plan, storage: how much is needed, and how much is used."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from infra.console import Json, emit_json, print_table, say

if TYPE_CHECKING:
    from infra.keeping import Storage


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(plan)
    app.command()(storage)


def plan(
    events_per_second: Annotated[
        float, typer.Option("--events-per-second", min=0.001, help="Mean over a day.")
    ],
    peak: Annotated[float, typer.Option(min=1, help="Busiest minute against the mean.")] = 3.0,
    bytes_per_event: Annotated[
        float, typer.Option(min=100, help="Of a line on the topic: 300 without content.")
    ] = 1_000.0,
    retention: Annotated[float, typer.Option(min=1, help="Days of raw events.")] = 30.0,
    derived: Annotated[float, typer.Option(min=1, help="Days of results.")] = 400.0,
    kafka_hours: Annotated[float, typer.Option(min=1, help="Retention of the topics.")] = 168.0,
    replicas: Annotated[int, typer.Option(min=1, help="Copies in Kafka and ClickHouse.")] = 1,
    as_json: Json = False,
) -> None:
    """Say how many partitions, workers and cores and how much disk a load needs, with the sums.

    A rule from measured figures, not a promise: measure your own traffic with `driftline bench`.

    Examples: driftline plan --events-per-second 5000
              driftline plan --events-per-second 500 --bytes-per-event 3000 --retention 90
    """
    from infra import sizing

    load = sizing.Load(
        events_per_second, peak, bytes_per_event, retention, derived, kafka_hours, replicas
    )
    lines = sizing.plan(load)
    if as_json:
        measured = {name: figure._asdict() for name, figure in sizing.MEASURED.items()}
        emit_json(
            {
                "load": asdict(load),
                "plan": [line._asdict() for line in lines],
                "measured": measured,
            }
        )
        return
    print_table(
        ("what", "needed", "unit", "how"),
        [(line.quantity, f"{line.value:,g}", line.unit, line.sum) for line in lines],
        narrated=True,
    )
    say("figures and where they were measured: `driftline plan ... --json`, docs/operations.md")


def storage(
    keep: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Show what keeping so many days would free."),
    ] = None,
    expire: Annotated[
        bool, typer.Option("--expire", help="Take away now what is older than retention.* says.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how much each table takes, how fast it grows, and for how many days there is room.

    Growth is that of the last seven whole days, by event time. Exit code 1 when the disk is full
    within seven days at that pace, or nine tenths full. Drops nothing without --expire; workers
    do that by themselves, once an hour.

    Examples: driftline storage
              driftline storage --keep 30
              driftline storage --expire
              driftline storage --json | jq .days_left
    """
    from infra import keeping, wiring
    from infra.settings import load
    from processors.clickhouse import Store
    from processors.keeping import expire as expire_now

    settings = load()
    config = wiring.clickhouse(settings)
    gone = expire_now(Store(config), wiring.retention(settings)) if expire else {}
    for table, what in gone.items():
        say(f"{table}: {', '.join(what)} went")
    with wiring.client(config) as client:
        found = keeping.measure(client, config.database)
    free = {} if keep is None else _freed(found, keep)
    if as_json:
        emit_json(
            {
                "tables": [
                    asdict(table) | {"freed": free.get(table.name)} for table in found.tables
                ],
                "free_bytes": found.free_bytes,
                "bytes_per_day": found.bytes_per_day,
                "days_left": found.days_left,
                "warnings": found.warnings,
                "expired": gone,
            }
        )
    else:
        older = [] if keep is None else [f"MB older than {keep} d"]
        print_table(
            ("table", "rows", "MB", "MB per day", "oldest", *older),
            [
                (
                    *(t.name, t.rows, _mb(t.bytes), _mb(t.bytes_per_day), t.oldest),
                    *(_mb(free[t.name]) for _ in older),
                )
                for t in found.tables
            ],
        )
        for warning in found.warnings:
            say(warning)
    if found.warnings:
        raise typer.Exit(1)


def _freed(found: Storage, keep: int) -> dict[str, int]:
    """Bytes of whole partitions that are older, by table."""
    from processors.keeping import expired

    today = datetime.now(UTC).date()
    return {
        table.name: sum(table.partitions[p] for p in expired(table.partitions, keep, today))
        for table in found.tables
    }


def _mb(size: float | None) -> float | None:
    return None if size is None else round(size / 1e6, 1)
