"""Where reading begins, which records are taken next, what is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    RequestTimedOutError,
)

from ingest.core.errors import Unavailable
from ingest.core.kafka import KafkaConfig
from ingest.core.memory_log import MemoryLog
from processors.clickhouse import ClickHouseConfig, Store
from processors.consumer import EventConsumer, OffsetRange, PartitionState
from processors.derive import sealing

PIECE_BYTES = 8 << 20


class Buffered:
    """Stands for aiokafka's consumer: what it has fetched already, in any order of partitions."""

    def __init__(self, records: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        self.records = {partition: list(some) for partition, some in records.items()}
        self.largest = 0
        self.offsets: dict[TopicPartition, int] = {}
        self.sought: list[tuple[TopicPartition, int]] = []
        self.fails = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.first: int | KafkaError = 0
        self.positions: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.heard_ms: dict[TopicPartition, int] = {}

    def assignment(self) -> set[TopicPartition]:
        return set(self.records)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.fails:
            raise RequestTimedOutError
        await self.answers.wait()
        self.offsets |= offsets

    async def committed(self, partition: TopicPartition) -> int | None:
        return self.offsets.get(partition)

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[Any, int]:
        if isinstance(self.first, KafkaError):
            raise self.first
        return dict.fromkeys(partitions, self.first)

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.ends.get(partition)

    def last_poll_timestamp(self, partition: TopicPartition) -> int:
        return self.heard_ms.get(partition, 0)

    async def position(self, partition: TopicPartition) -> int:
        if partition not in self.records:
            raise IllegalStateError(partition)
        while partition not in self.positions:
            await asyncio.sleep(60)
        return self.positions[partition]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append((partition, offset))

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


def reader_of(records: list[ConsumerRecord[Any, Any]]) -> tuple[EventConsumer, Buffered]:
    found: dict[TopicPartition, list[ConsumerRecord[Any, Any]]] = {}
    for one in records:
        found.setdefault(TopicPartition(one.topic, one.partition), []).append(one)
    reader = EventConsumer(
        KafkaConfig(),
        Store(ClickHouseConfig()),
        PIECE_BYTES,
        0.05,
        10.0,
        lambda _: None,
        lambda: "",
    )
    reader._consumer = buffered = Buffered(found)
    reader.held = {partition: PartitionState(begun=0, stored=0) for partition in found}
    return reader, buffered


async def taken(
    reader: EventConsumer, gaps: list[tuple[int, int, int]] | None = None
) -> list[list[int]]:
    """Timestamps of the records of each piece, until there are none; adds what has none."""
    pieces = []
    while True:
        gathered, found, _ = await reader.poll_batch()
        if gaps is not None:
            gaps += told(found)
        if not gathered:
            return pieces
        pieces.append([r.timestamp for some in gathered.values() for r in some])


def told(gaps: list[OffsetRange]) -> list[tuple[int, int, int]]:
    return [(gap.partition.partition, gap.first, gap.after) for gap in gaps]


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
    reader.held[TopicPartition("driftline.events", 0)] = PartitionState(begun=0, stored=0)
    assert sum(map(len, asyncio.run(taken(reader)))) == 50


def test_a_parked_partition_holds_up_none_and_is_read_again_once_it_is_released() -> None:
    reader, buffered = reader_of([record(p, at, at, 1000) for p in range(2) for at in range(50)])
    parked, other = (TopicPartition("driftline.events", p) for p in range(2))
    buffered.ends = {parked: 50, other: 50}
    reader.held[other].stored = 50

    reader.park(parked, 7, "too many bad lines")
    assert buffered.sought == [(parked, 7)]
    assert reader.is_fresh(0, {})  # windows of the others are computed
    assert sum(map(len, asyncio.run(taken(reader)))) == 50
    assert len(buffered.records[parked]) == 50

    reader.held[parked].release(8)
    assert not reader.is_fresh(0, {})
    del buffered.records[parked][:7]
    assert sum(map(len, asyncio.run(taken(reader)))) == 43


def test_no_lag_is_as_old_as_what_kafka_last_said_but_for_what_is_parked() -> None:
    """What is parked is not fetched, and event time does not wait for it."""
    partitions = parked, quiet, unknown = [TopicPartition("driftline.events", p) for p in range(3)]
    reader, buffered = reader_of([record(p.partition, 0, 0, 10) for p in partitions])
    buffered.ends = dict.fromkeys(partitions, 1)
    buffered.heard_ms = {parked: 5_000, quiet: 5_000}
    reader.park(parked, 0, "too many bad lines")
    assert reader.heard(quiet).timestamp() == 5
    assert reader.heard(unknown).timestamp() == 0
    buffered.heard_ms[quiet] = 10**13  # a clock that was set back
    began = datetime.now(UTC)
    assert began <= reader.heard(parked) <= datetime.now(UTC)
    assert began <= reader.heard(quiet) <= datetime.now(UTC)


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
    assert consumer.offsets == {}
    consumer.fails = False
    asyncio.run(reader.commit({}))
    assert consumer.offsets == {one: 5, other: 7}


def test_what_is_owed_while_another_commit_is_under_way_is_committed_later() -> None:
    """Of the same partition as well."""
    one, other = TopicPartition("driftline.events", 0), TopicPartition("driftline.events", 1)
    reader, consumer = reader_of([record(0, 0, 0, 1), record(1, 0, 0, 1)])

    async def both() -> None:
        consumer.answers.clear()
        first = asyncio.create_task(reader.commit({one: 5}))
        await asyncio.sleep(0)
        consumer.fails = True
        await reader.commit({one: 6, other: 7})
        consumer.answers.set()
        await first
        assert consumer.offsets == {one: 5}
        consumer.fails = False
        await reader.commit({})

    asyncio.run(both())
    assert consumer.offsets == {one: 6, other: 7}
    consumer.offsets = {}
    asyncio.run(reader.commit({}))
    assert consumer.offsets == {}  # nothing is committed twice


def test_what_has_moved_away_is_not_committed() -> None:
    one = TopicPartition("driftline.events", 0)
    reader, consumer = reader_of([record(0, 0, 0, 1)])
    consumer.fails = True
    asyncio.run(reader.commit({one: 5}))
    asyncio.run(reader.on_partitions_revoked([one]))
    consumer.fails = False
    asyncio.run(reader.commit({}))
    assert consumer.offsets == {}


def test_what_was_not_ours_is_not_committed_when_it_comes_back() -> None:
    """Others have moved it on meanwhile."""
    one, other = TopicPartition("driftline.events", 0), TopicPartition("driftline.events", 1)
    reader, consumer = reader_of([record(0, 0, 0, 1)])
    consumer.fails = True
    asyncio.run(reader.commit({one: 5, other: 7}))
    consumer.fails = False
    consumer.records[other] = []
    asyncio.run(reader.on_partitions_assigned([other]))
    asyncio.run(reader.commit({}))
    assert consumer.offsets == {one: 5}


class Books:
    """Stands for what ClickHouse knows: how far rows are stored, and what was last reported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stored: int) -> None:
        self.away = False
        self.stored = stored
        monkeypatch.setattr(sealing, "ledger_end", self.ledger_end)
        monkeypatch.setattr(sealing, "last_report", self.last_report)

    def ledger_end(self, *_: Any) -> int:
        if self.away:
            raise Unavailable("away")
        return self.stored

    def last_report(self, *_: Any) -> sealing.Report:
        return sealing.Report(77, (3, 4))


@pytest.mark.parametrize(("committed", "stored", "begun"), [(9, 5, 5), (5, 9, 5), (None, 9, 0)])
def test_it_begins_at_the_commit_but_after_no_row_that_is_missing(
    monkeypatch, committed: int | None, stored: int, begun: int
) -> None:
    Books(monkeypatch, stored)
    one = TopicPartition("driftline.events", 0)
    reader, consumer = reader_of([record(0, begun, 0, 1)])
    if committed is not None:
        consumer.offsets[one] = committed
    asyncio.run(reader.on_partitions_assigned([one]))
    assert asyncio.run(taken(reader)) == [[0]]
    assert consumer.sought == [(one, begun)]
    place = reader.held[one]
    assert (place.begun, place.stored, place.expected) == (begun, begun, begun + 1)
    assert (place.watermark, place.marked) == (77, (3, 4))


def test_nothing_is_read_while_it_is_not_known_from_where(monkeypatch) -> None:
    """From the commit alone it would skip what another database has and this one has not."""
    monkeypatch.setattr("processors.consumer._BEGIN_AGAIN_SECONDS", 0.0)
    books = Books(monkeypatch, 0)
    books.away = True
    one, other = TopicPartition("driftline.events", 0), TopicPartition("driftline.events", 1)
    reader, consumer = reader_of([record(0, 0, 5, 1), record(1, 0, 6, 1)])
    asyncio.run(reader.on_partitions_assigned([one]))
    assert asyncio.run(taken(reader)) == [[6]]  # of the other partition
    assert reader.held[one].stored is None
    books.away = False
    assert asyncio.run(taken(reader)) == [[5]]
    assert consumer.sought == [(one, 0)]
    assert other not in dict(consumer.sought)


def test_what_others_have_moved_on_is_not_taken_back(monkeypatch) -> None:
    """A batch that was read before its partition left and came back."""
    Books(monkeypatch, 9)
    one = TopicPartition("driftline.events", 0)
    reader, consumer = reader_of([record(0, 9, 0, 1)])
    consumer.offsets[one] = 9
    asyncio.run(reader.on_partitions_revoked([one]))
    assert one not in reader.held
    asyncio.run(reader.on_partitions_assigned([one]))
    asyncio.run(reader.commit({one: 5}))  # not known yet where to begin
    asyncio.run(taken(reader))
    asyncio.run(reader.commit({one: 5}))
    assert consumer.offsets == {one: 9}
    asyncio.run(reader.commit({one: 10}))
    assert consumer.offsets == {one: 10}


def test_records_of_a_partition_that_moved_meanwhile_are_left() -> None:
    one = TopicPartition("driftline.events", 0)
    reader, _ = reader_of([record(0, 0, 0, 1)])
    asyncio.run(reader.on_partitions_revoked([one]))
    assert asyncio.run(taken(reader)) == []


def test_records_that_were_deleted_unread_are_told_of(caplog) -> None:
    reader, consumer = reader_of([record(0, 9, 0, 1)])
    reader.held[TopicPartition("driftline.events", 0)].expected = 4
    consumer.first = 7
    assert asyncio.run(taken(reader)) == [[0]]
    assert "records 4 to 6 were deleted" in caplog.text


def test_records_that_were_deleted_while_nobody_read_are_told_of(monkeypatch, caplog) -> None:
    """But of a log that is new to us nothing was to be read before its beginning."""
    Books(monkeypatch, 5)
    one, other = TopicPartition("driftline.events", 0), TopicPartition("driftline.events", 1)
    reader, consumer = reader_of([record(0, 9, 0, 1), record(1, 9, 0, 1)])
    consumer.offsets[one], consumer.first = 5, 9
    asyncio.run(reader.on_partitions_assigned([one]))
    asyncio.run(taken(reader))
    assert reader.held[one].begun == 9
    assert "partition 0: records 5 to 8 were deleted" in caplog.text
    Books(monkeypatch, 0)
    asyncio.run(reader.on_partitions_assigned([other]))
    asyncio.run(taken(reader))
    assert reader.held[other].begun == 9
    assert "partition 1" not in caplog.text


def test_reading_goes_on_when_kafka_does_not_say_what_was_deleted(caplog) -> None:
    reader, consumer = reader_of([record(0, 9, 0, 1)])
    reader.held[TopicPartition("driftline.events", 0)].expected = 4
    consumer.first = KafkaTimeoutError()
    assert asyncio.run(taken(reader)) == [[0]]
    assert "Kafka does not say whether it deleted records 4 to 8" in caplog.text


def committed(
    reader: EventConsumer, commits: Mapping[TopicPartition, int]
) -> list[tuple[int, int, int]]:
    """Commit as the sink does, and say which offsets that were passed over it books."""
    passed = reader.passed()
    asyncio.run(reader.commit(reader.after(passed) | dict(commits)))
    return told(passed)


class TestTheEndOfATransaction:
    """Takes an offset that the consumer passes over without a word; the record before it is 4."""

    one, other = TopicPartition("driftline.events", 0), TopicPartition("driftline.events", 1)

    def passed(self, **place: Any) -> tuple[EventConsumer, Buffered]:
        reader, consumer = reader_of([])
        consumer.records = {self.one: [], self.other: []}
        consumer.positions = consumer.ends = {self.one: 6}
        reader.held[self.one] = PartitionState(**{"begun": 3, "expected": 5, "stored": 5} | place)
        return reader, consumer

    def test_is_no_lag_once_what_was_read_is_stored(self) -> None:
        reader, consumer = self.passed(expected=None, stored=3)
        consumer.records[self.one] = [record(0, 4, 0, 1)]
        del consumer.records[self.other]
        assert asyncio.run(taken(reader)) == [[0]]
        assert committed(reader, {}) == []
        place = reader.held[self.one]
        assert (place.expected, place.stored, consumer.offsets) == (5, 3, {})
        assert not reader.is_fresh(0, {})
        assert committed(reader, {self.one: 5}) == []
        place.stored = 5
        assert asyncio.run(taken(reader)) == []
        assert (place.expected, place.stored) == (6, 6)
        assert reader.is_fresh(0, {})
        assert committed(reader, {}) == [(0, 5, 6)]
        assert consumer.offsets == {self.one: 6}
        assert committed(reader, {}) == []

    def test_before_and_between_records_comes_with_them(self) -> None:
        """However often the partition moves before they are stored."""
        reader, consumer = self.passed()
        consumer.records[self.one] = [record(0, at, at, 1) for at in (6, 8, 9, 12)]
        gaps: list[tuple[int, int, int]] = []

        async def moves() -> None:
            await taken(reader, gaps)
            await reader.on_partitions_revoked([self.one])

        asyncio.run(moves())
        assert gaps == [(0, 7, 8), (0, 10, 12), (0, 5, 6)]
        assert committed(reader, {}) == []  # what is read is not stored yet

    def test_before_records_is_asked_for_again_when_kafka_does_not_answer(self, caplog) -> None:
        reader, consumer = self.passed()
        consumer.records[self.one] = [record(0, 9, 0, 1)]
        consumer.positions = {}
        consumer.first = KafkaTimeoutError()
        gaps: list[tuple[int, int, int]] = []
        assert asyncio.run(taken(reader, gaps)) == [[0]]
        consumer.first = 7
        asyncio.run(reader.ask_again())
        assert committed(reader, {}) == []  # the record behind it is not stored yet
        reader.held[self.one].stored = 10
        consumer.first = KafkaTimeoutError()
        asyncio.run(reader.ask_again())
        assert committed(reader, {}) == []
        consumer.first = 7
        asyncio.run(reader.ask_again())
        assert "records 5 to 6 were deleted" in caplog.text
        asyncio.run(reader.commit({self.one: 10}))
        assert committed(reader, {}) == [(0, 7, 9)]
        assert consumer.offsets == {self.one: 10}  # it takes nothing back
        asyncio.run(reader.ask_again())
        assert (gaps, committed(reader, {})) == ([], [])

    def test_before_deleted_records_is_not_taken_for_one_of_them(self, caplog) -> None:
        """Nor is what was fetched before it was deleted."""
        reader, consumer = self.passed()
        consumer.records[self.one] = [record(0, 9, 0, 1)]
        consumer.first = 7
        gaps: list[tuple[int, int, int]] = []
        asyncio.run(taken(reader, gaps))
        assert "records 5 to 6 were deleted" in caplog.text
        assert gaps == [(0, 7, 9)]
        consumer.records[self.one] = [record(0, 12, 0, 1), record(0, 13, 0, 1)]
        consumer.first = 14
        asyncio.run(taken(reader, gaps))
        assert "records 10 to 11 were deleted" in caplog.text
        assert gaps == [(0, 7, 9)]

    def test_is_followed_by_what_comes_next(self, caplog) -> None:
        reader, consumer = self.passed()
        asyncio.run(taken(reader))
        consumer.records[self.one] = [record(0, 6, 9, 1)]
        consumer.first = KafkaTimeoutError()  # nobody asks: there is no gap
        assert asyncio.run(taken(reader)) == [[9]]
        assert not caplog.records
        assert (reader.held[self.one].expected, reader.held[self.one].stored) == (7, 6)

    def test_is_committed_though_another_commit_was_under_way(self) -> None:
        reader, consumer = self.passed()

        async def meanwhile() -> None:
            consumer.answers.clear()
            commit = asyncio.create_task(reader.commit({self.one: 5}))
            await asyncio.sleep(0)
            await reader.poll_batch()
            consumer.answers.set()
            await commit

        asyncio.run(meanwhile())
        assert consumer.offsets == {self.one: 5}
        assert committed(reader, {}) == [(0, 5, 6)]
        assert consumer.offsets == {self.one: 6}

    def test_is_not_taken_back_by_a_batch_that_comes_late(self) -> None:
        reader, consumer = self.passed()
        asyncio.run(taken(reader))
        consumer.fails = True
        assert committed(reader, {}) == [(0, 5, 6)]
        consumer.fails = False
        assert committed(reader, {self.one: 5}) == []
        assert consumer.offsets == {self.one: 6}

    @pytest.mark.parametrize("position", [0, 5])
    def test_is_not_seen_where_there_is_none(self, caplog, position: int) -> None:
        """A log that was made again is read from 0, and ends the worker."""
        reader, consumer = self.passed()
        consumer.positions = {self.one: position}
        consumer.first = KafkaTimeoutError()  # nobody asks
        asyncio.run(taken(reader))
        assert committed(reader, {}) == []
        assert not caplog.records
        assert (reader.held[self.one].expected, consumer.offsets) == (5, {})

    def test_is_not_told_from_deleted_records_without_asking(self, caplog) -> None:
        reader, consumer = self.passed()
        consumer.first = 6
        asyncio.run(taken(reader))
        assert "records 5 to 5 were deleted" in caplog.text
        assert committed(reader, {}) == []  # a gap that the books must show

    def test_waits_while_kafka_says_not_what_it_deleted(self) -> None:
        reader, consumer = self.passed()
        consumer.first = KafkaTimeoutError()
        assert asyncio.run(taken(reader)) == []
        assert reader.held[self.one].stored == 5
        consumer.first = 0
        assert asyncio.run(taken(reader)) == []
        assert committed(reader, {}) == [(0, 5, 6)]

    def test_waits_while_the_position_is_not_known(self) -> None:
        reader, consumer = self.passed()
        consumer.positions = {}
        assert asyncio.run(taken(reader)) == []
        assert (reader.held[self.one].expected, reader.held[self.one].stored) == (5, 5)

    def test_of_a_partition_that_has_not_begun_is_not_known(self, monkeypatch) -> None:
        """Its position is that of the commit, or of whoever had it before."""
        Books(monkeypatch, 0).away = True
        reader, consumer = self.passed()
        asyncio.run(reader.on_partitions_assigned([self.one]))
        assert asyncio.run(taken(reader)) == []
        assert committed(reader, {}) == []
        assert (reader.held[self.one].stored, consumer.offsets) == (None, {})

    def test_of_a_partition_that_moves_meanwhile_is_left(self, monkeypatch) -> None:
        """It is revoked, and perhaps ours again, while its position is asked for."""
        Books(monkeypatch, 0).away = True
        reader, consumer = self.passed()
        place = reader.held[self.one]

        async def position(partition: TopicPartition) -> int:
            await reader.on_partitions_revoked([partition])
            await reader.on_partitions_assigned([partition])
            return 6

        monkeypatch.setattr(consumer, "position", position)
        assert asyncio.run(taken(reader)) == []
        assert committed(reader, {}) == []
        assert (place.stored, reader.held[self.one].stored, consumer.offsets) == (5, None, {})

    def test_of_a_partition_that_is_taken_away_raises_nothing(self, monkeypatch) -> None:
        reader, consumer = self.passed()

        async def position(partition: TopicPartition) -> int:
            raise IllegalStateError(partition)

        monkeypatch.setattr(consumer, "position", position)
        assert asyncio.run(taken(reader)) == []
        assert reader.held[self.one].stored == 5

    def test_records_of_a_partition_that_moved_meanwhile_are_not_taken_before_it_begins(
        self, monkeypatch
    ) -> None:
        """It moves while its neighbour is told of; from the commit alone records may be missing."""
        Books(monkeypatch, 0).away = True
        reader, consumer = self.passed()
        consumer.records[self.other] = [record(1, 0, 9, 1)]
        reader.held[self.other] = PartitionState(begun=0, expected=0, stored=0, newest=1)
        asked = consumer.beginning_offsets

        async def moves(partitions: list[TopicPartition]) -> dict[Any, int]:
            await reader.on_partitions_revoked([self.other])
            await reader.on_partitions_assigned([self.other])
            return await asked(partitions)

        monkeypatch.setattr(consumer, "beginning_offsets", moves)
        assert asyncio.run(taken(reader)) == []


def test_two_workers_read_everything_once_and_commit_it(monkeypatch) -> None:
    """On a log in memory that moves partitions as Kafka does, see tests/kafka/test_log_consumer."""
    Books(monkeypatch, 1 << 40)
    log = MemoryLog(**{"driftline.events": 4})
    for at in range(200):
        log.append("driftline.events", at % 4, b"x", timestamp=at)
    log.end_transaction("driftline.events", 0)
    gaps: list[tuple[int, int, int]] = []

    def worker() -> EventConsumer:
        return EventConsumer(
            KafkaConfig(), Store(ClickHouseConfig()), PIECE_BYTES, 0.0, 10.0, lambda _: None,
            lambda: "", log.open_consumer,
        )  # fmt: skip

    async def turn(reader: EventConsumer, seen: list[tuple[int, int]]) -> None:
        gathered, found, _ = await reader.poll_batch()
        gaps.extend(told(found))
        commits = {p: some[-1].offset + 1 for p, some in gathered.items()}
        for partition, records in gathered.items():
            seen += [(partition.partition, record.offset) for record in records]
            reader.held[partition].stored = commits[partition]
        await reader.commit(reader.after(reader.passed()) | commits)

    async def both() -> list[tuple[int, int]]:
        one, other = worker(), worker()
        seen: list[tuple[int, int]] = []
        await one.connect()
        await turn(one, seen)
        await other.connect()
        for at in range(200, 280):
            log.append("driftline.events", at % 4, b"x", timestamp=at)
        while len(seen) < 280:
            await turn(one, seen)
            await turn(other, seen)
        assert len(one.assignment()) == len(other.assignment()) == 2
        await one.stop()
        await turn(other, seen)
        ends = [other.end(partition) for partition in sorted(other.assignment())]
        committed = [await other._consumer.committed(p) for p in sorted(other.assignment())]
        assert committed == ends
        await other.stop()
        return seen

    seen = asyncio.run(both())
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == 280
    assert gaps == [(0, 50, 51)]
