"""Is Kafka as driftline needs it: reachable, with its topics, their settings and our rights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from infra.doctor import Complaint
from ingest.core.errors import Unavailable

if TYPE_CHECKING:
    from infra.topics import Topic
    from ingest.core.kafka import KafkaConfig

_DENIED: Final = frozenset({29, 30, 31})  # authorization of topic, group, cluster
CODECS: Final = ("gzip", "snappy", "lz4", "zstd")
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the broker describes it; ``config`` holds what it tells of its settings."""

    partitions: int
    replicas: int
    leaderless: int = 0
    under_replicated: int = 0
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was found.

    Parameters
    ----------
    error
        Why no broker could be asked, else empty.
    brokers
        How many there are.
    topics
        Those that exist, by name.
    denied
        Topics of which we may not even ask.
    missing_codecs
        Compressions that this process cannot read.
    """

    error: str = ""
    brokers: int = 1
    topics: Mapping[str, TopicFacts] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    missing_codecs: tuple[str, ...] = ()


def look(kafka: KafkaConfig, wanted: Iterable[Topic]) -> Snapshot:
    """Ask the cluster about the topics that are wanted."""
    from infra.topics import admin_client

    names = [topic.name for topic in wanted]
    try:
        with admin_client(kafka) as admin:
            brokers = len(admin.describe_cluster()["brokers"])
            described = {found["name"]: found for found in admin.describe_topics(names)}
            present = [name for name, found in described.items() if not found["error_code"]]
            configs = _configs(admin, present)
    except Unavailable as error:
        return Snapshot(error=str(error), missing_codecs=_missing_codecs())
    return Snapshot(
        brokers=brokers,
        topics={name: _topic(described[name], configs.get(name, {})) for name in present},
        denied=frozenset(n for n, found in described.items() if found["error_code"] in _DENIED),
        missing_codecs=_missing_codecs(),
    )


def judge(facts: Snapshot, wanted: Iterable[Topic], replication: int = -1) -> Iterator[Complaint]:
    """Complaints about a cluster and the topics that are wanted."""
    if facts.missing_codecs:
        yield _complaint(
            "codecs",
            f"records packed with {', '.join(facts.missing_codecs)} cannot be read here",
            "install driftline from its lock, which brings cramjam and lz4",
        )
    if facts.error:
        yield _complaint("unreachable", facts.error, "see that Kafka runs and is reached from here")
        return
    for topic in wanted:
        found = facts.topics.get(topic.name)
        if topic.name in facts.denied:
            yield _complaint(
                "denied",
                f"this user may not describe topic {topic.name}",
                f"grant it Describe, Read and Write on {topic.name}, Read on groups driftline-*",
            )
        elif found is None:
            yield _complaint("topic_missing", f"topic {topic.name} does not exist", _MIGRATE)
        else:
            yield from _of_topic(topic, found, facts.brokers, replication)


def _of_topic(
    topic: Topic, found: TopicFacts, brokers: int, replication: int
) -> Iterator[Complaint]:
    name, config = topic.name, found.config
    if found.partitions < topic.partitions and topic.fixed:
        yield _complaint(
            "partitions",
            f"{name} has {found.partitions} partitions, kafka.partitions is {topic.partitions}",
            f"add partitions to {name}, or set kafka.partitions to {found.partitions}",
        )
    if found.leaderless:
        yield _complaint(
            "leaderless",
            f"{found.leaderless} partitions of {name} have no leader",
            "bring back the brokers that hold them; until then nothing of them is read or written",
        )
    if found.under_replicated:
        yield _complaint(
            "under_replicated",
            f"{found.under_replicated} partitions of {name} have copies that are not in sync",
            "look for a broker that is down or slow",
        )
    needed = min(3, brokers) if replication == -1 else min(replication, brokers)
    if found.replicas < needed:
        yield _complaint(
            "replication",
            f"{name} has {found.replicas} copies on {brokers} brokers, {needed} are wanted",
            "reassign its partitions: one lost disk would lose events",
        )
    yield from _of_config(topic, config, found.replicas)


def _of_config(topic: Topic, config: Mapping[str, str], replicas: int) -> Iterator[Complaint]:
    name = topic.name
    kept = int(config.get("retention.ms", topic.config["retention.ms"]))
    if 0 <= kept < int(topic.config["retention.ms"]):
        yield _complaint(
            "retention",
            f"{name} keeps records for {kept / _HOUR_MS:g} h, {topic.retention_hours} h are wanted",
            f"set retention.ms={topic.config['retention.ms']} on {name}: an outage that lasts"
            " longer than the retention loses events",
        )
    if int(config.get("retention.bytes", -1)) >= 0:
        yield _complaint(
            "retention_bytes",
            f"{name} drops records beyond {config['retention.bytes']} bytes a partition",
            f"set retention.bytes=-1 on {name}, or be sure that its retention is reached first",
        )
    if "compact" in config.get("cleanup.policy", "delete"):
        yield _complaint(
            "compaction",
            f"{name} is compacted: of records with one key only the last is kept",
            f"set cleanup.policy=delete on {name}",
        )
    largest = int(config.get("max.message.bytes", topic.config["max.message.bytes"]))
    if topic.fixed and largest < int(topic.config["max.message.bytes"]):
        yield _complaint(
            "message_size",
            f"{name} takes records up to {largest} bytes, ours have up to"
            f" {topic.config['max.message.bytes']}",
            f"set max.message.bytes={topic.config['max.message.bytes']} on {name}",
        )
    if config.get("unclean.leader.election.enable") == "true":
        yield _complaint(
            "unclean_election",
            f"{name} may choose a leader that lacks acknowledged records",
            f"set unclean.leader.election.enable=false on {name}",
        )
    insync = int(config.get("min.insync.replicas", 2 if replicas > 2 else 1))
    if replicas > 2 and insync < 2:
        yield _complaint(
            "insync",
            f"{name} acknowledges records that one broker alone has",
            f"set min.insync.replicas=2 on {name}",
        )
    if insync >= replicas > 1:
        yield _complaint(
            "insync_all",
            f"{name} takes nothing while one of its {replicas} copies is away",
            f"set min.insync.replicas={replicas - 1} on {name}",
            advice=True,
        )


_MIGRATE: Final = "run `driftline migrate`, which creates what is missing"


def _complaint(code: str, what: str, do: str, *, advice: bool = False) -> Complaint:
    return Complaint("kafka", code, what, do, "advice" if advice else "fault")


def _topic(found: Mapping[str, Any], config: Mapping[str, str]) -> TopicFacts:
    parts = found["partitions"]
    return TopicFacts(
        partitions=len(parts),
        replicas=min((len(part["replica_nodes"]) for part in parts), default=0),
        leaderless=sum(part["leader_id"] < 0 for part in parts),
        under_replicated=sum(len(part["isr_nodes"]) < len(part["replica_nodes"]) for part in parts),
        config=config,
    )


def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    """Settings of topics by name; of one that we may not ask about, none."""
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.errors import KafkaError

    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        found = admin.describe_configs(resources, config_filter="all").get("topic", {})
    except KafkaError:
        return {}
    return {
        name: {key: str(entry["value"]) for key, entry in entries.items()}
        for name, entries in found.items()
    }


def _missing_codecs() -> tuple[str, ...]:
    from aiokafka import codec

    return tuple(name for name in CODECS if not getattr(codec, f"has_{name}")())
