"""What driftline relies on in a consumer: of the log in memory, the embedded broker, and Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from infra.topics import Topic, create_topics
from ingest.core.kafka import KafkaConfig
from ingest.core.log_consumer import LogConsumer, Open, commit, leave, open_consumer
from ingest.core.memory_log import MemoryLog

PARTITIONS = 4


class Produce(Protocol):
    async def __call__(self, *values: tuple[int, bytes], transactional: bool = False) -> None:
        """Add values to partitions."""


@dataclass(frozen=True)
class Place:
    """A topic with `PARTITIONS` partitions somewhere, and how one gets at it."""

    topic: str
    kafka: KafkaConfig
    opened: Open
    produce: Produce
    delete_before: Callable[[int, int], Awaitable[None]]

    def member(self, group: str, listener: ConsumerRebalanceListener | None = None) -> LogConsumer:
        return self.opened(self.kafka, group, [self.topic], listener, session_timeout=6.0)

    def tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition)


def in_memory() -> Place:
    log = MemoryLog(events=PARTITIONS)

    async def produce(*values: tuple[int, bytes], transactional: bool = False) -> None:
        for partition, value in values:
            log.append("events", partition, value)
        for partition in {p for p, _ in values} if transactional else ():
            log.end_transaction("events", partition)

    async def delete_before(partition: int, offset: int) -> None:
        log.delete_before("events", partition, offset)

    return Place("events", KafkaConfig(), log.open_consumer, produce, delete_before)


def on_broker(kafka: KafkaConfig) -> Place:
    topic = f"contract.{uuid.uuid4().hex}"
    create_topics(kafka, [Topic(topic, PARTITIONS)])

    async def produce(*values: tuple[int, bytes], transactional: bool = False) -> None:
        own: dict[str, Any] = {"transactional_id": uuid.uuid4().hex} if transactional else {}
        producer = AIOKafkaProducer(acks="all", **own, **kafka.client_options())
        await producer.start()
        try:
            if transactional:
                await producer.begin_transaction()
            for partition, value in values:
                await producer.send_and_wait(topic, value, partition=partition)
            if transactional:
                await producer.commit_transaction()
        finally:
            await producer.stop()

    async def delete_before(partition: int, offset: int) -> None:
        from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

        admin = AIOKafkaAdminClient(**kafka.client_options())
        await admin.start()
        try:
            await admin.delete_records(
                {TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)}
            )
        finally:
            await admin.close()

    return Place(topic, kafka, open_consumer, produce, delete_before)


KAFKA = pytest.param("kafka", marks=pytest.mark.kafka)
# The embedded broker has no transactions and deletes nothing when asked.
whole = pytest.mark.parametrize("place", ["memory", KAFKA], indirect=True)


@pytest.fixture(params=["memory", "embedded", KAFKA])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        return in_memory()
    if request.param == "embedded":
        return on_broker(request.getfixturevalue("broker").kafka)
    single = request.getfixturevalue("single")
    return on_broker(KafkaConfig(bootstrap_servers=single.bootstrap_servers))


class Moves(ConsumerRebalanceListener):  # type: ignore[misc]
    """What a member was told."""

    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.held -= set(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.held |= set(assigned)


async def read(consumer: LogConsumer, count: int) -> dict[int, list[tuple[int, bytes]]]:
    """So many records, each partition with offsets and values."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    async with asyncio.timeout(60):
        while sum(map(len, found.values())) < count:
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                some = found.setdefault(partition.partition, [])
                some += [(record.offset, record.value) for record in records]
    return found


async def until(true: Callable[[], bool], *consumers: LogConsumer) -> None:
    async with asyncio.timeout(60):
        while not true():
            for consumer in consumers:  # a member that does not ask does not move
                await consumer.getmany(timeout_ms=50)
            await asyncio.sleep(0.02)


def values(each: int) -> list[tuple[int, bytes]]:
    return [(p, f"{p}/{n}".encode()) for p in range(PARTITIONS) for n in range(each)]


def ran(test: Callable[[Place], Awaitable[None]]) -> Callable[[Place], None]:
    def run(place: Place) -> None:
        asyncio.run(test(place))  # type: ignore[arg-type]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@ran
async def test_records_come_from_the_first_in_order_and_the_end_is_known(place: Place) -> None:
    await place.produce(*values(5))
    consumer = place.member("g")
    await consumer.start()
    try:
        await until(lambda: len(consumer.assignment()) == PARTITIONS)
        found = await read(consumer, 5 * PARTITIONS)
        assert found == {p: [(n, f"{p}/{n}".encode()) for n in range(5)] for p in range(PARTITIONS)}
        for p in range(PARTITIONS):
            assert await consumer.position(place.tp(p)) == 5
            assert consumer.highwater(place.tp(p)) == 5
            assert consumer.last_poll_timestamp(place.tp(p)) > 0
            assert await consumer.committed(place.tp(p)) is None
        assert await consumer.getmany(timeout_ms=100) == {}
        assert await consumer.beginning_offsets([place.tp(0)]) == {place.tp(0): 0}
    finally:
        await leave(consumer)


@ran
async def test_what_is_not_acknowledged_is_read_again(place: Place) -> None:
    await place.produce(*values(4))
    first = place.member("g")
    await first.start()
    await read(first, 4 * PARTITIONS)
    assert await commit(first, {place.tp(0): 3, place.tp(1): 4})
    assert await first.committed(place.tp(0)) == 3
    await leave(first)
    second = place.member("g")
    await second.start()
    try:
        found = await read(second, 1 + 0 + 4 + 4)
        assert {p: [o for o, _ in some] for p, some in found.items()} == {
            0: [3], 2: [0, 1, 2, 3], 3: [0, 1, 2, 3],
        }  # fmt: skip
        assert await commit(second, None)  # all that it has read
        assert [await second.committed(place.tp(p)) for p in range(PARTITIONS)] == [4] * 4
    finally:
        await leave(second)


@ran
async def test_only_what_was_asked_for_and_no_more_of_it(place: Place) -> None:
    await place.produce(*values(6))
    consumer = place.member("g")
    await consumer.start()
    try:
        await until(lambda: len(consumer.assignment()) == PARTITIONS)
        some: list[int] = []
        async with asyncio.timeout(60):
            while len(some) < 6:
                found = await consumer.getmany(place.tp(2), timeout_ms=200, max_records=4)
                assert set(found) <= {place.tp(2)}
                assert sum(map(len, found.values())) <= 4
                some += [record.offset for records in found.values() for record in records]
        assert some == [0, 1, 2, 3, 4, 5]
        consumer.seek(place.tp(2), 4)
        assert await consumer.position(place.tp(2)) == 4
        found = {}
        async with asyncio.timeout(60):
            while not found:
                found = await consumer.getmany(place.tp(2), timeout_ms=200)
        assert [record.offset for record in found[place.tp(2)]] == [4, 5]
    finally:
        await leave(consumer)


@ran
async def test_a_partition_has_one_reader_and_moves_when_that_goes(place: Place) -> None:
    moves = [Moves(), Moves()]
    one, other = (place.member("g", move) for move in moves)
    await one.start()
    await until(lambda: len(moves[0].held) == PARTITIONS, one)
    await other.start()
    try:
        await until(lambda: len(moves[0].held) == len(moves[1].held) == 2, one, other)
        assert moves[0].held | moves[1].held == {place.tp(p) for p in range(PARTITIONS)}
        assert one.assignment() == moves[0].held
        gone = min(moves[1].held)
        with pytest.raises((CommitFailedError, IllegalStateError)):
            await one.commit({gone: 0})
        with pytest.raises(IllegalStateError):
            one.seek(gone, 0)
        assert not await commit(one, {gone: 0})  # and says no more than that it has moved
        await leave(one)
        await until(lambda: len(moves[1].held) == PARTITIONS, other)
    finally:
        await leave(one)
        await leave(other)


@ran
async def test_two_groups_know_nothing_of_each_other(place: Place) -> None:
    await place.produce((0, b"x"))
    for group in ("g", "h"):
        consumer = place.member(group)
        await consumer.start()
        assert await read(consumer, 1) == {0: [(0, b"x")]}
        assert await commit(consumer, {place.tp(0): 1})
        await leave(consumer)


@whole
@ran
async def test_the_end_of_a_transaction_is_an_offset_without_a_record(place: Place) -> None:
    await place.produce((0, b"a"), transactional=True)
    consumer = place.member("g")
    await consumer.start()
    try:
        assert await read(consumer, 1) == {0: [(0, b"a")]}
        # Kafka writes it after it has answered.
        await until(lambda: consumer.highwater(place.tp(0)) == 2, consumer)
        await place.produce((0, b"b"))
        assert await read(consumer, 1) == {0: [(2, b"b")]}
        assert await consumer.position(place.tp(0)) == 3
    finally:
        await leave(consumer)


@whole
@ran
async def test_reading_goes_on_behind_what_was_deleted(place: Place) -> None:
    await place.produce(*[(0, str(n).encode()) for n in range(5)])
    await place.delete_before(0, 3)
    consumer = place.member("g")
    await consumer.start()
    try:
        assert await consumer.beginning_offsets([place.tp(0)]) == {place.tp(0): 3}
        assert await read(consumer, 2) == {0: [(3, b"3"), (4, b"4")]}
        consumer.seek(place.tp(0), 1)
        assert await read(consumer, 2) == {0: [(3, b"3"), (4, b"4")]}
    finally:
        await leave(consumer)
