"""One node of Apache Kafka: clients, codecs, topics made anew, workers that come, go and sleep."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaProducer

from dashboards.accounting import account
from infra.topics import log_id
from ingest import codec
from ingest.core.events import EVENTS_TOPIC, Event
from ingest.producer import KafkaEventProducer
from tests.kafka.harness import SINK_GROUP, Bed
from tests.kafka.mutant import hit
from tests.kafka.traffic import Load, Traffic
from tests.support.common import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


def send_with_kafka_python(bed: Bed, compression: str | None, events: list[Event]) -> None:
    producer = KafkaProducer(
        **bed.kafka.client_options(), acks="all", compression_type=compression, linger_ms=20
    )
    sent = [
        producer.send(EVENTS_TOPIC, codec.encode(events[at : at + 50]))
        for at in range(0, len(events), 50)
    ]
    for future in sent:
        future.get(timeout=30)
    producer.close()


def send_with_aiokafka(bed: Bed, compression: str | None, events: list[Event]) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(
            **bed.kafka.client_options(), acks="all", compression_type=compression,
            linger_ms=20,
        ) as producer:  # fmt: skip
            sent = [
                await producer.send(EVENTS_TOPIC, codec.encode(events[at : at + 50]))
                for at in range(0, len(events), 50)
            ]
            await asyncio.gather(*sent)

    asyncio.run(send())


def test_every_client_and_codec_is_stored_and_derived(bed: Bed) -> None:
    bed.worker()
    traffic, events = Traffic(1), []
    every = (None, "gzip", "snappy", "lz4", "zstd")
    # kafka-python has snappy and zstd only with packages that driftline does not need.
    for send, codecs in (
        (send_with_kafka_python, (None, "gzip", "lz4")),
        (send_with_aiokafka, every),
    ):
        for compression in codecs:
            made = traffic.interactions(100, time.time_ns())
            send(bed, compression, made)
            events += made
    with KafkaEventProducer(bed.kafka) as producer:
        made = traffic.interactions(500, time.time_ns(), spread_s=30)
        producer.send(made)
        events += made
    bed.settle()
    bed.check(events)
    expected = log_id(bed.kafka, EVENTS_TOPIC)
    assert bed.store.query("SELECT DISTINCT log_id FROM ledger")["log_id"].to_list() == [expected]
    done = bed.run("accounting", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def send_in_a_transaction(bed: Bed, events: list[Event]) -> None:
    """A record to each partition."""

    async def send() -> None:
        async with (
            AIOKafkaProducer(**bed.kafka.client_options(), transactional_id="test") as producer,
            producer.transaction(),
        ):
            for partition in range(4):
                part = codec.encode(events[partition::4])
                await producer.send_and_wait(EVENTS_TOPIC, part, partition=partition)

    asyncio.run(send())


def test_the_end_of_a_transaction_is_no_lag_and_no_gap(bed: Bed) -> None:
    """It has an offset, in the end that of the last record, and nobody is ever given it."""
    traffic, events = Traffic(6), []
    for sent in (1, 2, 3):
        if sent == 3:  # two are found by who begins, one comes while it reads
            bed.worker()
            bed.settle(30)
        more = traffic.interactions(100, time.time_ns())
        send_in_a_transaction(bed, more)
        events += more
        # The producer is answered before the ends are written.
        ends = {2 * sent}
        eventually(lambda ends=ends: set(bed.cluster.ends(EVENTS_TOPIC).values()) == ends, 30)
    bed.settle(30)
    bed.check(events)
    assert [p["passed_over"] for p in account(bed.store)["partitions"]] == [3] * 4


def test_a_topic_made_anew_is_another_log(bed: Bed) -> None:
    """The new records have the offsets of the old ones, and are others."""
    traffic, events, logs = Traffic(2), [], []
    for _ in range(2):
        logs.append(log_id(bed.kafka, EVENTS_TOPIC))
        worker = bed.worker()
        with KafkaEventProducer(bed.kafka) as producer:
            made = traffic.interactions(200, time.time_ns())
            producer.send(made)
            events += made
        bed.settle()
        bed.check(events)
        worker.terminate()
        worker.wait(30)
        bed.cluster.delete_topics()
        bed.make_topics()
    assert len(set(logs)) == 2
    stored = bed.store.query("SELECT DISTINCT log_id FROM ledger")["log_id"].to_list()
    assert set(stored) == set(logs)


def test_workers_join_and_leave_under_load(bed: Bed) -> None:
    """Every way to leave: asked to, and killed."""
    with Load(bed.kafka, seed=3) as load:
        bed.worker()
        eventually(bed.stored, 60)
        for farewell in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            other = bed.worker()
            time.sleep(8)
            other.send_signal(farewell)
            other.wait(30)
            time.sleep(3)
        first = bed.workers[0]
        bed.worker()
        time.sleep(6)
        first.kill()
        first.wait()
        time.sleep(3)
        events = load.finish()
    bed.settle()
    bed.check(events)


def test_marks_that_are_passed_over_are_read_again(bed: Bed) -> None:
    """In mid-stream and at its end, and the worker lives on."""
    with Load(bed.kafka, seed=5) as load:
        worker = bed.worker("pass_over")
        eventually(bed.stored, 60)
        time.sleep(12)
        events = load.finish()
    bed.settle()
    assert worker.poll() is None
    bed.check(events)
    log = (bed.folder / "worker-1.log").read_text()
    assert hit("pass_over") in log
    assert "have not come" in log


def test_a_worker_that_slept_through_a_rebalance_harms_nothing(bed: Bed) -> None:
    """Frozen with a batch in hand, long after others took its partitions, it goes on."""
    with Load(bed.kafka, seed=4, per_second=400) as load:
        sleeper = bed.worker()
        eventually(bed.stored, 60)
        bed.worker()
        time.sleep(8)
        for _ in range(2):
            sleeper.send_signal(signal.SIGSTOP)
            time.sleep(16)  # the session lasts ten seconds; a record comes every tenth of one
            eventually(lambda: max(bed.cluster.lag(SINK_GROUP, EVENTS_TOPIC).values()) < 50, 30)
            sleeper.send_signal(signal.SIGCONT)
            time.sleep(8)
        events = load.finish()
    bed.settle()
    assert sleeper.poll() is None
    bed.check(events)
