"""Topics on any broker: create what is missing, and tell one incarnation of a log from another."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.core.connection import check_connection
from ingest.core.errors import Unavailable, UsageError
from ingest.core.events import (
    DEAD_LETTERS_TOPIC,
    DIRTY_TOPIC,
    EVALUATE_TOPIC,
    EVENTS_TOPIC,
    FINDINGS_TOPIC,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.core.kafka import KafkaConfig

_HOUR_MS = 3600 * 1000
RECORD_BYTES = 8 << 20  # a record of 1,000 lines with full content stays below
_NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be.

    Parameters
    ----------
    name
        Its name.
    partitions
        How many; the unit of scale.
    retention_hours
        How long it keeps records.
    fixed
        Whether one that exists with fewer partitions is refused.
    """

    name: str
    partitions: int
    retention_hours: int = 168
    fixed: bool = True

    @property
    def config(self) -> dict[str, str]:
        """Topic settings as Kafka names them."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_hours * _HOUR_MS),
            "max.message.bytes": str(RECORD_BYTES),
        }


def driftline_topics(partitions: int, retention_hours: int) -> list[Topic]:
    """Every topic of driftline."""
    return [
        Topic(name, partitions, retention_hours)
        for name in (EVENTS_TOPIC, DIRTY_TOPIC, DEAD_LETTERS_TOPIC, FINDINGS_TOPIC, EVALUATE_TOPIC)
    ]


def receiver_topics(names: Iterable[str], partitions: int, retention_hours: int) -> list[Topic]:
    """The topics of the OTLP Kafka receiver; a Collector may have made them already."""
    return [Topic(name, partitions, retention_hours, fixed=False) for name in names]


def create_topics(kafka: KafkaConfig, topics: Iterable[Topic], replication: int = -1) -> list[str]:
    """Create the topics that do not exist and return their names.

    Existing topics stay as they are, but must have the partitions asked for, or more.

    Parameters
    ----------
    kafka
        The cluster.
    topics
        What to create.
    replication
        Copies of each partition; -1 takes the cluster's default.

    Raises
    ------
    Unavailable
        No broker answers.
    UsageError
        A topic exists with fewer partitions, or the broker refuses to create one.
    """
    from kafka.admin import NewTopic
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    with admin_client(kafka) as admin:
        present = set(admin.list_topics())
        created = []
        for topic in topics:
            if topic.name in present:
                if topic.fixed:
                    _check_partitions(admin, topic)
                continue
            wanted = NewTopic(topic.name, topic.partitions, replication, topic_configs=topic.config)
            try:
                admin.create_topics([wanted])
            except TopicAlreadyExistsError:
                continue  # another worker was faster
            except KafkaError as error:
                raise UsageError(
                    f"the broker refuses topic {topic.name}: {type(error).__name__};"
                    " create it by hand, or give this user the right to"
                ) from error
            created.append(topic.name)
        return created


def log_id(kafka: KafkaConfig, topic: str) -> str:
    """Identify the incarnation of a topic's log: another one after it is deleted and made again.

    This is Kafka's topic id (Kafka 2.8 and later, and Tansu, whose memory starts anew with every
    process); for a broker without topic ids the cluster's id and the topic's name.

    Raises
    ------
    Unavailable
        No broker answers, or the topic does not exist.
    """
    with admin_client(kafka) as admin:
        found = next(iter(admin.describe_topics([topic])), None)
        if found is None or found["error_code"]:
            raise Unavailable(f"topic {topic} does not exist; run `driftline migrate`")
        topic_id = str(found.get("topic_id") or _NO_ID)
        if topic_id != _NO_ID:
            return topic_id
        return f"{admin.describe_cluster()['cluster_id']}:{topic}"


def end_offset(kafka: KafkaConfig, topic: str, partition: int) -> int:
    """Offset after the last record of a partition.

    Raises
    ------
    UsageError
        The topic has no such partition.
    Unavailable
        No broker answers.
    """
    from kafka import KafkaConsumer, TopicPartition

    with admin_client(kafka), closing(KafkaConsumer(**kafka.client_options())) as consumer:
        known = consumer.partitions_for_topic(topic) or set()
        if partition not in known:
            raise UsageError(
                f"{topic} has no partition {partition}, but 0 to {max(known, default=0)}"
            )
        place = TopicPartition(topic, partition)
        return int(consumer.end_offsets([place])[place])


def _check_partitions(admin: Any, topic: Topic) -> None:
    described = next(iter(admin.describe_topics([topic.name])))
    partitions = len(described["partitions"])
    if partitions < topic.partitions:
        raise UsageError(
            f"topic {topic.name} has {partitions} partitions, {topic.partitions} are wanted;"
            f" add partitions to it, or set fewer"
        )


@contextmanager
def admin_client(kafka: KafkaConfig) -> Iterator[Any]:
    """Connect to a cluster to look at it or change it; whatever fails is `Unavailable`."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    away = (
        f"no Kafka broker answers at {kafka.bootstrap_servers};"
        " start it, or correct DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS"
    )
    check_connection(kafka)  # the client would try for its whole timeout and leave sockets behind
    try:
        admin = KafkaAdminClient(**kafka.client_options(), bootstrap_timeout_ms=10_000)
    except (KafkaError, OSError) as error:
        raise Unavailable(f"{away} ({type(error).__name__})") from error
    try:
        yield admin
    except KafkaError as error:
        raise Unavailable(f"{away} ({type(error).__name__})") from error
    finally:
        admin.close()
