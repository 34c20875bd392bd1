"""Reading a topic back: what Kafka holds is what must be stored."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

EVENTS = "driftline.events"


@dataclass(frozen=True)
class Record:
    """One record where it stands."""

    partition: int
    offset: int
    value: bytes

    @property
    def receipt(self) -> tuple[int, int, int]:
        """What a producer remembers of it once it is acknowledged."""
        return receipt(self.partition, self.offset, self.value)


def receipt(partition: int, offset: int, value: bytes) -> tuple[int, int, int]:
    """Place and checksum of a record."""
    return partition, offset, zlib.crc32(value)


def read_log(bootstrap_servers: str, partitions: int, topic: str = EVENTS) -> list[Record]:
    """Every record of a topic, from the beginning to where it ends now."""
    return asyncio.run(_read(bootstrap_servers, partitions, topic))


async def _read(bootstrap_servers: str, partitions: int, topic: str) -> list[Record]:
    found: list[Record] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers.split(","),
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_bytes=64 << 20,
        max_partition_fetch_bytes=16 << 20,
    ) as consumer:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        position = dict.fromkeys(places, 0)
        while any(position[partition] < ends[partition] for partition in places):
            for partition, records in (await consumer.getmany(timeout_ms=1_000)).items():
                found += [Record(r.partition, r.offset, r.value) for r in records]
                position[partition] = records[-1].offset + 1
    return found
