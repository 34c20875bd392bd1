"""doctor: what is wrong around driftline, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from infra.console import Json, emit, emit_json

if TYPE_CHECKING:
    from infra.doctor import Complaint
    from infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(doctor)


def doctor(as_json: Json = False) -> None:
    """Look for what is wrong in Kafka, ClickHouse, clocks, settings, Grafana, notifiers, prices.

    Changes nothing. Prints one line per finding with what to do, and nothing when all is well; exit
    code 1 when something must be done. What is only advice does not count.

    Examples: driftline doctor
              driftline doctor --json | jq -r '.complaints[].code'
    """
    from infra.settings import load

    found = list(complaints(load()))
    faults = sum(complaint.severity == "fault" for complaint in found)
    if as_json:
        emit_json({"healthy": not faults, "complaints": [asdict(complaint) for complaint in found]})
    for complaint in [] if as_json else found:
        emit(f"{complaint.severity:<7} {complaint.area:<11} {complaint.what}")
        emit(f"{'':<19} {complaint.do}")
    if faults:
        raise typer.Exit(1)


def complaints(settings: Settings) -> Iterator[Complaint]:
    """Everything that is wrong, area by area."""
    from infra.doctor import surroundings

    yield from surroundings.of_settings(settings)
    yield from _of_kafka(settings)
    yield from _of_clickhouse(settings)
    yield from surroundings.of_prices(settings)
    yield from surroundings.of_grafana(settings)
    yield from surroundings.of_notifiers(settings)


def _of_kafka(settings: Settings) -> Iterator[Complaint]:
    from infra import wiring
    from infra.commands.receiver import topics
    from infra.doctor import kafka
    from infra.topics import driftline_topics
    from ingest.core.errors import Unavailable

    section = settings.kafka
    wanted = driftline_topics(section.partitions, section.retention_hours)
    # Without a receiver its topics are neither made nor needed.
    optional = topics(settings)
    try:
        facts = kafka.look(wiring.kafka(settings), [*wanted, *optional])
    except Unavailable as error:
        facts = kafka.Snapshot(error=str(error))
    wanted += [topic for topic in optional if topic.name in facts.topics]
    yield from kafka.judge(facts, wanted, section.replication)


def _of_clickhouse(settings: Settings) -> Iterator[Complaint]:
    from infra import wiring
    from infra.doctor import asking, clickhouse
    from infra.schema.migrate import shipped
    from ingest.core.errors import Unavailable

    try:
        config = wiring.clickhouse(settings)
        facts = asking.look(config, [migration.name for migration in shipped()])
    except Unavailable as error:
        facts = clickhouse.Snapshot(error=str(error))
    yield from clickhouse.judge(facts)
