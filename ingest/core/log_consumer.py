"""Consumers of Kafka that acknowledge by themselves: how they are opened, how they acknowledge.

`ingest.core.memory_log` has a log in memory whose consumers behave alike; a contract test holds
both to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from ingest.core import fetch_wait
from ingest.core.kafka import KafkaConfig

log = logging.getLogger(__name__)

Records = dict[TopicPartition, list[ConsumerRecord]]
"""Records as they were fetched, of each partition in order."""


class LogConsumer(Protocol):
    """What driftline asks of a consumer of a group, by the names of aiokafka."""

    async def start(self) -> None:
        """Join the group."""

    async def stop(self) -> None:
        """Leave it, so that others take over at once."""

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are its own now."""

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Records:
        """Records of these partitions, or of all, once there are any or the time is over."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read from there on."""

    async def position(self, partition: TopicPartition) -> int:
        """Offset of the next record to be read."""

    async def committed(self, partition: TopicPartition) -> int | None:
        """Offset that the group has acknowledged; None where it never has."""

    async def commit(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        """Acknowledge what lies before these offsets; without them all that was read."""

    async def beginning_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Offset of the first record that is still kept."""

    def highwater(self, partition: TopicPartition) -> int | None:
        """Offset after the last record; None before the first answer."""

    def last_poll_timestamp(self, partition: TopicPartition) -> int:
        """When the broker was last heard of it, ms since 1970; 0 before."""


Open = Callable[..., LogConsumer]
"""How a consumer is made: `open_consumer`, or `MemoryLog.open_consumer`, called alike."""


def open_consumer(
    kafka: KafkaConfig,
    group: str,
    topics: Sequence[str],
    listener: ConsumerRebalanceListener | None = None,
    *,
    session_timeout: float = 10.0,
    **options: Any,
) -> LogConsumer:
    """Make a consumer that begins at the first record and acknowledges nothing by itself.

    Parameters
    ----------
    kafka
        The cluster.
    group, topics
        Who reads, and what.
    listener
        Is told which partitions go and come.
    session_timeout
        Seconds for which the partitions of one that died stay unread.
    options
        Of aiokafka's consumer, beyond these. Without ``fetch_max_wait_ms`` fetches wait longer
        while nothing comes.
    """
    timeout = int(session_timeout * 1000)
    settings: dict[str, Any] = {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "session_timeout_ms": timeout,
        "rebalance_timeout_ms": timeout,
        "heartbeat_interval_ms": timeout // 4,
        # Of compressed bytes, which may be ten times as many when unpacked.
        "fetch_max_bytes": 4 << 20,
        "max_partition_fetch_bytes": 1 << 20,
        "max_poll_interval_ms": 600_000,
        # Whose leader moved is asked of the old one until this is over.
        "metadata_max_age_ms": 15_000,
    }
    consumer: Any = AIOKafkaConsumer(**settings | options, **kafka.client_options())
    if "fetch_max_wait_ms" not in options:
        fetch_wait.adapt(consumer)
    consumer.subscribe(list(topics), listener=listener)
    opened: LogConsumer = consumer
    return opened


async def commit(consumer: LogConsumer, offsets: Mapping[TopicPartition, int] | None) -> bool:
    """Acknowledge; False when that is still to be done, of what is still its own."""
    try:
        await consumer.commit(offsets)
    except (CommitFailedError, IllegalStateError) as error:
        # Another member owns them now and will read them again; what it makes of them collapses.
        log.info("offsets not committed, partitions moved: %s", error)
    except KafkaError as error:
        log.warning("offsets not committed, will try again: %s", error)
    else:
        return True
    return False


async def leave(consumer: LogConsumer | None) -> None:
    """Leave the group within ten seconds, whatever the broker says."""
    if consumer is not None:
        with contextlib.suppress(KafkaError, asyncio.TimeoutError):
            await asyncio.wait_for(consumer.stop(), 10)
