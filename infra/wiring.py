"""Where Kafka and ClickHouse are: those of the settings, else those of the running runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.runtime_home import RuntimeHome
from infra.schema.cluster import EXACT, Cluster
from infra.settings.sections import revealed
from ingest.core.errors import Unavailable
from ingest.core.kafka import KafkaConfig

if TYPE_CHECKING:
    from infra.settings import Settings
    from ingest.core.health.verdict import Limits
    from ingest.producer import KafkaEventProducer
    from ingest.redaction import Redactor
    from processors.app import WorkerConfig
    from processors.clickhouse import ClickHouseConfig
    from processors.keeping import Retention


def kafka(settings: Settings) -> KafkaConfig:
    """Address and credentials of the brokers, without a log id.

    Raises
    ------
    Unavailable
        No broker is configured and no runtime runs.
    """
    section = settings.kafka
    return KafkaConfig(
        bootstrap_servers=section.bootstrap_servers
        or _address(settings, "kafka", "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS"),
        security_protocol=section.security_protocol,
        sasl_mechanism=section.sasl_mechanism,
        sasl_username=section.sasl_username,
        sasl_password=revealed(section.sasl_password),
        ssl_cafile=_text(section.ssl_cafile),
        ssl_certfile=_text(section.ssl_certfile),
        ssl_keyfile=_text(section.ssl_keyfile),
    )


def producer(settings: Settings) -> KafkaEventProducer:
    """What a command produces events with; no new log begins before it has ended.

    Raises
    ------
    Unavailable
        No broker is configured and no runtime runs.
    """
    from ingest.producer import KafkaEventProducer

    if settings.kafka.bootstrap_servers is None and RuntimeHome(settings.home).is_claimed():
        RuntimeHome(settings.home).hold_log()
    return KafkaEventProducer(kafka(settings))


def clickhouse(settings: Settings, *, reader: bool = False) -> ClickHouseConfig:
    """Address and credentials of ClickHouse; ``reader`` can only query, where the engine is ours.

    Raises
    ------
    Unavailable
        No server is configured and no runtime runs.
    """
    from processors.clickhouse import ClickHouseConfig

    section = settings.clickhouse
    password = revealed(section.password) or ""
    user, url = section.user, section.url
    if url is None:
        url = _address(settings, "clickhouse", "DRIFTLINE_CLICKHOUSE_URL")
        kept = RuntimeHome(settings.home).credentials(password or None, None)
        user, password = ("reader", kept.reader_password) if reader else (user, kept.password)
    return ClickHouseConfig(
        url=url,
        user=user,
        password=password,
        database=section.database,
        ca_file=_text(section.ca_file),
        settings=EXACT if section.cluster else {},
        cluster=section.cluster,
        sharded=section.sharded,
    )


def cluster(settings: Settings) -> Cluster:
    """Where migrations run."""
    return Cluster(settings.clickhouse.cluster, settings.clickhouse.sharded)


def client(config: ClickHouseConfig, database: str | None = None) -> Any:
    """Return a connected clickhouse-connect client.

    Raises
    ------
    Unavailable
        ClickHouse does not answer or refuses the login.
    """
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        return clickhouse_connect.get_client(
            dsn=config.url,
            username=config.user,
            password=config.password,
            database=database or config.database,
            ca_cert=config.ca_file,
            settings=dict(config.settings),
            autogenerate_session_id=False,
        )
    except ClickHouseError as error:
        raise Unavailable(f"ClickHouse at {config.url}: {reason(error)}") from error


def redactor(settings: Settings) -> Redactor:
    """What takes secrets and personal data out of whatever is kept."""
    from infra.settings.redaction import redactor as of_settings

    return of_settings(settings)


def erasing_key(redacting: Redactor) -> bytes:
    """What makes the pseudonyms of people who were erased."""
    return redacting.key_for("erased people")


def retention(settings: Settings) -> Retention:
    """How long what is kept."""
    from processors.keeping import Retention

    given = settings.retention.model_dump()
    return Retention(**{name.removesuffix("_days"): value for name, value in given.items()})


def limits(settings: Settings) -> Limits:
    """When a lack of progress counts."""
    from ingest.core.health.verdict import Limits

    health = settings.health
    return Limits(health.unready_after_s, health.unhealthy_after_s)


def worker_config(settings: Settings, health_port: int | None = None) -> WorkerConfig:
    """Everything a worker needs to know, with the id of the log as it is now."""
    from dataclasses import replace

    from infra.settings.detection import detection_config
    from infra.settings.notify import notify_config
    from infra.settings.results import results_config
    from infra.topics import log_id
    from ingest.core.events import EVENTS_TOPIC
    from processors.app import WorkerConfig
    from processors.health import HealthConfig
    from processors.write.cardinality import CardinalityConfig
    from processors.write.dead_letters import DeadLettersConfig
    from processors.write.event_writer import EventWriterConfig

    brokers = kafka(settings)
    processing = settings.processing
    redacting = redactor(settings)
    return WorkerConfig(
        kafka=replace(brokers, log_id=log_id(brokers, EVENTS_TOPIC)),
        clickhouse=clickhouse(settings),
        sink=EventWriterConfig(
            batch_bytes=processing.batch_mb << 20,
            linger=processing.linger_s,
            session_timeout=processing.session_timeout_s,
            names=CardinalityConfig(
                {
                    "environment": processing.max_environments,
                    "agent": processing.max_agents,
                    "agent_version": processing.max_agent_versions,
                    "scope": processing.max_scopes,
                }
            ),
            letters=DeadLettersConfig(
                redacting.redact_text, processing.keep_originals_hours, redacting.keeps_text_of
            ),
            erasing_key=erasing_key(redacting),
        ),
        results=results_config(settings.results),
        detection=detection_config(settings.detection),
        health=HealthConfig(
            port=health_port or settings.health.port,
            host=settings.health.host,
            limits=limits(settings),
            marks_rest=processing.backlog_rest_s,
        ),
        notify=notify_config(settings),
        keep=retention(settings),
        incarnation=lambda: log_id(brokers, EVENTS_TOPIC),
        recompute_interval=processing.recompute_interval_s,
        backlog_rest=processing.backlog_rest_s,
    )


def _address(settings: Settings, name: str, variable: str) -> str:
    running = RuntimeHome(settings.home).running()
    if running is None or name not in running.addresses:
        raise Unavailable(
            f"no driftline runs in {settings.home}: start it with `driftline up`, or set {variable}"
        )
    return running.addresses[name]


def _text(path: Any) -> str | None:
    return None if path is None else str(path)


def reason(error: Exception) -> str:
    """What a ClickHouse error says, in one line without the client's wrapping.

    >>> reason(Exception("Received ClickHouse exception, code: 60, server response: Code: 60. "
    ...     "DB::Exception: Table x does not exist. (UNKNOWN_TABLE) (version 26.9) (for url u)"))
    'Table x does not exist. (UNKNOWN_TABLE)'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.rpartition("DB::Exception: ")[2]
    return text.partition(" (version ")[0].partition(" (for url ")[0][:500]
