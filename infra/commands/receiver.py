"""receiver: OTLP that OpenTelemetry Collectors write to Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from infra.commands.runtime import HealthPort
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.topics import Topic
    from ingest.core.kafka import KafkaConfig
    from ingest.kafka_receiver import ReceiverConfig


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(receiver)
    app.command("door", hidden=True)(door)


def door() -> None:
    """Say what this command is called now."""
    raise UsageError("`driftline door` is now `driftline receiver`")


def receiver(health_port: HealthPort = None) -> None:
    """Turn OTLP that Collectors write to Kafka into events: topics otlp_spans and otlp_logs.

    `driftline up` runs one by itself; run more of them, as many as the topics have partitions.
    Understands otlp_proto and otlp_json, in any compression. Offsets are committed once Kafka has
    the events; what cannot be translated becomes a dead letter. Stops with exit code 4 when a fifth
    of what comes is no OTLP.

    Example: driftline receiver --health-port 9400
    """
    from infra import logs, wiring
    from infra.commands.gateway import refused_text
    from infra.settings import load
    from infra.settings.prices import install_prices
    from infra.topics import create_topics
    from ingest.kafka_receiver import Policy, run_receiver

    settings = load()
    logs.configure("receiver", settings.log.format, settings.log.level)
    install_prices(settings)
    kafka = wiring.kafka(settings)
    create_topics(kafka, topics(settings), settings.kafka.replication)
    config = receiver_config(settings, kafka, health_port)
    redactor = wiring.redactor(settings)
    policy = Policy(redactor.apply, refused_text(settings), redactor.keeps_text_of)
    run_receiver(kafka, config, policy)


def topics(settings: Settings) -> list[Topic]:
    """The topics that the receiver reads."""
    from infra.topics import receiver_topics

    section, kafka = settings.receiver, settings.kafka
    names = (section.spans_topic, section.logs_topic)
    return receiver_topics(names, kafka.partitions, kafka.retention_hours)


def receiver_config(
    settings: Settings, kafka: KafkaConfig, health_port: int | None
) -> ReceiverConfig:
    """What the receiver reads, with the ids of the logs as they are now."""
    from infra import wiring
    from infra.commands.gateway import gateway_config
    from infra.topics import log_id
    from ingest.kafka_receiver import ReceiverConfig

    section = settings.receiver
    return ReceiverConfig(
        spans_topic=section.spans_topic,
        logs_topic=section.logs_topic,
        encoding=section.encoding,
        limits=gateway_config(settings).limits,
        session_timeout=settings.processing.session_timeout_s,
        log_ids={topic.name: log_id(kafka, topic.name) for topic in topics(settings)},
        health_port=health_port or settings.health.port,
        health_host=settings.health.host,
        progress=wiring.limits(settings),
    )
