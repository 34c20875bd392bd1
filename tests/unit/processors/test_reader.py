"""Which records are taken next; all else about it is shown against a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import RequestTimedOutError

from ingest.kafka import KafkaConfig
from processors.reader import Reader
from processors.store import ClickHouseConfig, Store

PIECE_BYTES = 8 << 20


class Buffered:
    """Stands for aiokafka's consumer: what it has fetched already, in any order of partitions."""

    def __init__(self, records: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        self.records = {partition: list(some) for partition, some in records.items()}
        self.largest = 0
        self.committed: dict[TopicPartition, int] = {}
        self.fails = False

    def assignment(self) -> set[TopicPartition]:
        return set(self.records)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.fails:
            raise RequestTimedOutError
        self.committed |= offsets

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        for partition in partitions or self.records:
            if some := self.records[partition][:max_records]:
                del self.records[partition][:max_records]
                self.largest = max(self.largest, sum(len(r.value) for r in some))
                return {partition: some}
        await asyncio.sleep(timeout_ms / 1000)
        return {}


def record(partition: int, offset: int, timestamp: int, size: int) -> ConsumerRecord[Any, Any]:
    return ConsumerRecord(
        "driftline.events", partition, offset, timestamp, 0, None, b"x" * size, None, -1, size, ()
    )


def reader_of(records: list[ConsumerRecord[Any, Any]]) -> tuple[Reader, Buffered]:
    found: dict[TopicPartition, list[ConsumerRecord[Any, Any]]] = {}
    for one in records:
        found.setdefault(TopicPartition(one.topic, one.partition), []).append(one)
    reader = Reader(
        KafkaConfig(),
        Store(ClickHouseConfig()),
        PIECE_BYTES,
        0.05,
        10.0,
        lambda _: None,
        lambda: "",
    )
    reader._consumer = buffered = Buffered(found)
    return reader, buffered


async def taken(reader: Reader) -> list[list[int]]:
    """Timestamps of the records of each piece, until there are none."""
    pieces = []
    while True:
        gathered, _ = await reader.gather()
        if not gathered:
            return pieces
        pieces.append([r.timestamp for some in gathered.values() for r in some])


def test_partitions_are_read_at_one_pace_of_time() -> None:
    """One after the other, as they were fetched, would give blocks that overlap from end to end."""
    size = PIECE_BYTES // 40
    reader, _ = reader_of([record(p, at, at, size) for p in range(4) for at in range(100)])
    pieces = asyncio.run(taken(reader))
    assert sum(map(len, pieces)) == 400
    assert len(pieces) > 5
    spans = [max(piece) - min(piece) for piece in pieces]
    assert max(spans) < 40, spans


def test_a_partition_that_has_nothing_holds_up_none() -> None:
    reader, buffered = reader_of([record(1, at, at, 1000) for at in range(50)])
    buffered.records[TopicPartition("driftline.events", 0)] = []
    assert sum(map(len, asyncio.run(taken(reader)))) == 50


def test_large_records_are_taken_few_at_a_time() -> None:
    reader, buffered = reader_of([record(p, at, at, 1 << 20) for p in range(2) for at in range(30)])
    asyncio.run(taken(reader))
    assert buffered.largest <= PIECE_BYTES // 2


def test_offsets_that_could_not_be_committed_are_committed_later() -> None:
    """Else the last batch before a quiet time would be waited for until the next one."""
    one, other = TopicPartition("driftline.events", 0), TopicPartition("driftline.events", 1)
    reader, consumer = reader_of([record(0, 0, 0, 1), record(1, 0, 0, 1)])
    consumer.fails = True
    asyncio.run(reader.commit({one: 5}))
    asyncio.run(reader.commit({other: 7}))
    assert consumer.committed == {}
    consumer.fails = False
    asyncio.run(reader.commit({}))
    assert consumer.committed == {one: 5, other: 7}


def test_what_has_moved_away_is_not_committed() -> None:
    one = TopicPartition("driftline.events", 0)
    reader, consumer = reader_of([record(0, 0, 0, 1)])
    consumer.fails = True
    asyncio.run(reader.commit({one: 5}))
    asyncio.run(reader.on_partitions_revoked([one]))
    consumer.fails = False
    asyncio.run(reader.commit({}))
    assert consumer.committed == {}


def test_what_was_not_ours_is_not_committed_when_it_comes_back() -> None:
    """Others have moved it on meanwhile."""
    one, other = TopicPartition("driftline.events", 0), TopicPartition("driftline.events", 1)
    reader, consumer = reader_of([record(0, 0, 0, 1)])
    consumer.fails = True
    asyncio.run(reader.commit({one: 5, other: 7}))
    consumer.fails = False
    consumer.records[other] = []
    asyncio.run(reader.commit({}))
    assert consumer.committed == {one: 5}
