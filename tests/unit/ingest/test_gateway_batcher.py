"""Micro-batches, waiting, bounds and outages, on a producer in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ingest.core.errors import Overloaded, Unavailable
from ingest.gateway import batcher
from ingest.gateway.admission import MAX_EVENTS, EncodedRecord
from ingest.gateway.batcher import Batcher, KafkaAway
from ingest.gateway.record_producer import MemoryRecordProducer

LINGER_S = 0.01


def run(
    body: Callable[[Batcher, MemoryRecordProducer], Awaitable[None]],
    queue_bytes: int = 1000,
    answer_s: float = 60.0,
) -> None:
    async def main() -> None:
        producer = MemoryRecordProducer(partitions=2)
        box = Batcher(lambda: producer, lambda: None, queue_bytes, LINGER_S, answer_s)
        await body(box, producer)

    asyncio.run(main())


async def sent(producer: MemoryRecordProducer, records: int) -> None:
    async with asyncio.timeout(60):
        while len(producer.waiting) < records:
            await asyncio.sleep(0.001)


def test_small_requests_share_a_record_and_each_waits_for_its_own() -> None:
    async def body(box: Batcher, producer: MemoryRecordProducer) -> None:
        first = asyncio.create_task(
            box.deliver([EncodedRecord(0, b"a", 1), EncodedRecord(1, b"b", 1)])
        )
        second = asyncio.create_task(box.deliver([EncodedRecord(0, b"c", 1)]))
        await sent(producer, 2)
        assert sorted(item[:2] for item in producer.waiting) == [(0, b"a\nc"), (1, b"b")]
        zero = next(item for item in producer.waiting if item[0] == 0)
        zero[2](None)
        await asyncio.wait_for(second, 30)
        assert not first.done()
        producer.settle()
        await asyncio.wait_for(first, 30)

    run(body)


def test_a_full_record_leaves_at_once() -> None:
    async def body(box: Batcher, producer: MemoryRecordProducer) -> None:
        tasks = [
            asyncio.create_task(box.deliver([EncodedRecord(0, b"x", MAX_EVENTS - 1)])),
            asyncio.create_task(box.deliver([EncodedRecord(0, b"y", 2)])),
            asyncio.create_task(box.deliver([EncodedRecord(0, b"z", MAX_EVENTS - 2)])),
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [record for _, record, _ in producer.waiting] == [b"x", b"y\nz"]
        producer.settle()
        await asyncio.gather(*tasks)

    run(body)


def test_one_failed_record_fails_the_request_and_says_when_to_come_again() -> None:
    async def body(box: Batcher, producer: MemoryRecordProducer) -> None:
        task = asyncio.create_task(
            box.deliver([EncodedRecord(0, b"a", 1), EncodedRecord(1, b"b", 1)])
        )
        await sent(producer, 2)
        producer.waiting[0][2](ConnectionError("gone"))
        with pytest.raises(KafkaAway) as caught:
            await task
        assert 5 <= caught.value.retry_after <= 6
        assert box.unwell is not None and box.unwell.code == "kafka_away"
        producer.waiting[1][2](None)
        await asyncio.sleep(0)
        assert box.unwell is None

    run(body)


def test_a_link_that_never_answers_is_not_waited_for() -> None:
    async def body(box: Batcher, producer: MemoryRecordProducer) -> None:
        with pytest.raises(KafkaAway):
            await asyncio.wait_for(box.deliver([EncodedRecord(0, b"a", 1)]), 30)
        assert box.unwell is not None and box.unwell.code == "kafka_away"

    run(body, answer_s=0.2)


def test_while_kafka_is_away_one_request_at_a_time_tries_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(box: Batcher, producer: MemoryRecordProducer) -> None:
        with pytest.raises(KafkaAway):
            await box.deliver([EncodedRecord(0, b"a", 1)])
        box.check()
        with box.reserve() as hold:
            hold(1)
            with pytest.raises(KafkaAway) as early:
                box.check()
            clock = batcher.time.monotonic()
            monkeypatch.setattr(batcher.time, "monotonic", lambda: clock + 15)
            with pytest.raises(KafkaAway) as later:
                box.check()
            monkeypatch.setattr(batcher.time, "monotonic", lambda: clock + 3600)
            with pytest.raises(KafkaAway) as late:
                box.check()
        waits = [caught.value.retry_after for caught in (early, later, late)]
        assert 5 <= waits[0] <= 6
        assert 30 <= waits[1] <= 39
        assert 60 <= waits[2] <= 72

    run(body, answer_s=0.2)


def test_the_queue_is_bounded_by_bytes_but_takes_one_large_request() -> None:
    async def body(box: Batcher, producer: MemoryRecordProducer) -> None:
        with box.reserve() as hold:
            hold(5000)
            hold(6000)
            assert box.unwell is not None and box.unwell.code == "queue_full"
            with pytest.raises(Overloaded):
                box.check()
        assert (box.held_bytes, box.unwell) == (0, None)
        with box.reserve() as one, box.reserve() as other:
            one(600)
            other(300)
            with pytest.raises(Overloaded):
                other(401)
            other(400)
            one(100)
            assert box.held_bytes == 500

    run(body)


def test_a_link_that_fails_for_long_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "PROBE_S", 0.02)
    producers: list[MemoryRecordProducer] = []
    kafka = {"there": False}

    def connect() -> MemoryRecordProducer:
        producers.append(MemoryRecordProducer(partitions=2))
        return producers[-1]

    def probe() -> None:
        if not kafka["there"]:
            raise Unavailable("no")

    async def main() -> None:
        box = Batcher(connect, probe, 1000, LINGER_S, answer_s=60)
        watch = asyncio.create_task(box.watch())
        async with asyncio.timeout(60):
            while box.unwell is None:  # found out without any request
                await asyncio.sleep(0.01)
            assert len(producers) == 1
            kafka["there"] = True
            while box.unwell is not None:
                await asyncio.sleep(0.01)
        assert len(producers) == 2
        assert producers[0].closed
        task = asyncio.create_task(box.deliver([EncodedRecord(0, b"a", 1)]))
        await sent(producers[1], 1)
        producers[1].settle()
        await task
        watch.cancel()

    asyncio.run(main())


def test_closing_sends_what_waits_and_takes_no_more() -> None:
    async def body(box: Batcher, producer: MemoryRecordProducer) -> None:
        task = asyncio.create_task(box.deliver([EncodedRecord(0, b"a", 1)]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(box.close(1.0))
        await sent(producer, 1)
        assert not closing.done()
        with pytest.raises(KafkaAway):
            box.check()
        producer.settle()
        await asyncio.gather(task, closing)
        assert producer.closed

    run(body)
