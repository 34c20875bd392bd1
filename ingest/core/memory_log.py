"""A log in memory with groups of consumers: what Kafka is to driftline, in one process.

For tests of consumers, and for trying out. It keeps to what `LogConsumer` says and to nothing
else of Kafka: no transactions but for the offsets they take, no time but that of its records.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from ingest.core.kafka import KafkaConfig
from ingest.core.log_consumer import LogConsumer, Records

_MOST_RECORDS: Final = 500


class MemoryLog:
    """Topics, what groups have acknowledged of them, and who is in each group.

    Attributes
    ----------
    records
        Of each partition by offset, None where an offset has no record; ``first`` is the offset of
        the first that is still kept.
    acknowledged, members
        By group: the offsets it has acknowledged, and its consumers.
    news
        Set, and replaced, when anything is added.
    """

    def __init__(self, **topics: int) -> None:
        self.records: dict[TopicPartition, list[ConsumerRecord | None]] = {}
        self.first: dict[TopicPartition, int] = defaultdict(int)
        self.acknowledged: dict[str, dict[TopicPartition, int]] = defaultdict(dict)
        self.members: dict[str, list[_MemoryConsumer]] = defaultdict(list)
        self.news = asyncio.Event()
        for name, partitions in topics.items():
            self.create(name, partitions)

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        self.records |= {TopicPartition(topic, number): [] for number in range(partitions)}

    def append(
        self, topic: str, partition: int, value: bytes | None, timestamp: int | None = None
    ) -> int:
        """Add a record with a time, ms since 1970; its offset."""
        records = self.records[place := TopicPartition(topic, partition)]
        at = int(time.time() * 1000) if timestamp is None else timestamp
        size = len(value or b"")
        records.append(ConsumerRecord(*place, len(records), at, 0, None, value, None, -1, size, ()))
        self._tell()
        return len(records) - 1

    def end_transaction(self, topic: str, partition: int) -> None:
        """Take an offset that no consumer sees a record of."""
        self.records[TopicPartition(topic, partition)].append(None)
        self._tell()

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Forget the records before an offset, as retention does."""
        self.first[TopicPartition(topic, partition)] = offset

    def open_consumer(
        self,
        kafka: KafkaConfig,
        group: str,
        topics: Sequence[str],
        listener: ConsumerRebalanceListener | None = None,
        **options: Any,
    ) -> LogConsumer:
        """As `ingest.core.log_consumer.open_consumer`, of this log whatever the cluster."""
        del kafka, options
        return _MemoryConsumer(self, group, topics, listener)

    def _tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def share(self, group: str) -> None:
        """Give every partition to one member: all give up theirs, then each takes its own."""
        members = self.members[group]
        for member in members:
            await member.give_up()
        wanted = sorted(p for p in self.records if any(p.topic in m.topics for m in members))
        for at, member in enumerate(members):
            await member.take([p for p in wanted[at :: len(members)] if p.topic in member.topics])


class _MemoryConsumer:
    """A member of a group; see `LogConsumer`."""

    def __init__(
        self,
        of: MemoryLog,
        group: str,
        topics: Sequence[str],
        listener: ConsumerRebalanceListener | None,
    ) -> None:
        self._log, self._group, self._listener = of, group, listener
        self.topics = set(topics)
        self._next: dict[TopicPartition, int] = {}
        self._heard: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        self._log.members[self._group].append(self)
        await self._log.share(self._group)

    async def stop(self) -> None:
        members = self._log.members[self._group]
        if self in members:
            members.remove(self)
            await self.give_up()
            await self._log.share(self._group)

    async def give_up(self) -> None:
        gone, self._next, self._heard = set(self._next), {}, {}
        if gone and self._listener is not None:
            await self._listener.on_partitions_revoked(gone)

    async def take(self, partitions: Sequence[TopicPartition]) -> None:
        acknowledged = self._log.acknowledged[self._group]
        self._next = {p: acknowledged.get(p, 0) for p in partitions}
        if self._listener is not None:
            await self._listener.on_partitions_assigned(set(partitions))

    def assignment(self) -> set[TopicPartition]:
        return set(self._next)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Records:
        until = time.monotonic() + timeout_ms / 1000
        while True:
            news = self._log.news
            found = self._fetch(partitions or tuple(self._next), max_records or _MOST_RECORDS)
            wait = until - time.monotonic()
            if found or wait <= 0:
                await asyncio.sleep(0)
                return found
            try:
                async with asyncio.timeout(wait):
                    await news.wait()
            except TimeoutError:
                return {}

    def _fetch(self, partitions: Sequence[TopicPartition], most: int) -> Records:
        found: Records = {}
        for partition in partitions:
            self._own(partition)
            self._heard[partition] = int(time.time() * 1000)
            records, at = self._log.records[partition], self._next[partition]
            if at > len(records):
                at = 0  # out of range: from the first that there is
            at = max(at, self._log.first[partition])
            while at < len(records) and most > 0:
                if (record := records[at]) is not None:
                    found.setdefault(partition, []).append(record)
                    most -= 1
                at += 1
            self._next[partition] = at
        return found

    def _own(self, partition: TopicPartition) -> None:
        if partition not in self._next:
            raise IllegalStateError(f"{partition} is not assigned to this consumer")

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._own(partition)
        self._next[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        self._own(partition)
        return self._next[partition]

    async def committed(self, partition: TopicPartition) -> int | None:
        return self._log.acknowledged[self._group].get(partition)

    async def commit(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        offsets = dict(self._next) if offsets is None else offsets
        for partition in offsets:
            self._own(partition)
        if self not in self._log.members[self._group]:
            raise CommitFailedError
        self._log.acknowledged[self._group].update(offsets)

    async def beginning_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        return {p: self._log.first[p] for p in partitions}

    def highwater(self, partition: TopicPartition) -> int | None:
        self._own(partition)
        known = partition in self._heard
        return len(self._log.records[partition]) if known else None

    def last_poll_timestamp(self, partition: TopicPartition) -> int:
        self._own(partition)
        return self._heard.get(partition, 0)
