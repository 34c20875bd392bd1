"""door: the Kafka door for OpenTelemetry Collectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from infra.commands.runtime import HealthPort

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.topics import Topic
    from ingest.door import DoorConfig
    from ingest.kafka import KafkaConfig


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(door)


def door(health_port: HealthPort = None) -> None:
    """Turn OTLP that Collectors write to Kafka into events: topics otlp_spans and otlp_logs.

    `driftline up` runs one by itself; run more of them, as many as the topics have partitions.
    Understands otlp_proto and otlp_json, in any compression. Offsets are committed once Kafka has
    the events; what cannot be translated becomes a dead letter. Stops with exit code 4 when a fifth
    of what comes is no OTLP.

    Example: driftline door --health-port 9400
    """
    from infra import connections, logs
    from infra.price_settings import install_prices
    from infra.settings import load
    from infra.topics import create_topics
    from ingest.door import Policy, run_door

    settings = load()
    logs.configure("door", settings.log.format, settings.log.level)
    install_prices(settings)
    kafka = connections.kafka(settings)
    create_topics(kafka, topics(settings), settings.kafka.replication)
    redactor = connections.redactor(settings)
    config = door_config(settings, kafka, health_port)
    run_door(kafka, config, Policy(redactor.apply, redactor.redact_text))


def topics(settings: Settings) -> list[Topic]:
    """The topics that the door reads."""
    from infra.topics import door_topics

    section, kafka = settings.door, settings.kafka
    names = (section.spans_topic, section.logs_topic)
    return door_topics(names, kafka.partitions, kafka.retention_hours)


def door_config(settings: Settings, kafka: KafkaConfig, health_port: int | None) -> DoorConfig:
    """What the door reads, with the ids of the logs as they are now."""
    from infra import connections
    from infra.commands.gateway import gateway_config
    from infra.topics import log_id
    from ingest.door import DoorConfig

    section = settings.door
    return DoorConfig(
        spans_topic=section.spans_topic,
        logs_topic=section.logs_topic,
        encoding=section.encoding,
        limits=gateway_config(settings).limits,
        session_timeout=settings.processing.session_timeout_s,
        log_ids={topic.name: log_id(kafka, topic.name) for topic in topics(settings)},
        health_port=health_port or settings.health.port,
        health_host=settings.health.host,
        progress=connections.limits(settings),
    )
