"""The embedded broker with both clients that driftline uses, every codec, and topics."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaProducer

from infra.embedded.broker import start_broker
from infra.embedded.process import stop
from infra.topics import Topic, create_topics, log_id
from ingest.core.errors import Unavailable, UsageError
from ingest.core.kafka import KafkaConfig
from tests.conftest import Broker
from tests.support.common import eventually, free_port

PARTITIONS = 4


def records(count: int = 60) -> list[bytes]:
    """Records as driftline makes them: hundreds of lines, larger than a producer's batch."""
    return [
        b"\n".join(b'{"n":%d,"pad":"%060d"}' % (n, n) for n in range(400)) for _ in range(count)
    ]


async def read(kafka: KafkaConfig, topic: str, count: int) -> dict[int, list[tuple[int, bytes]]]:
    consumer = AIOKafkaConsumer(enable_auto_commit=False, **kafka.client_options())
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: dict[int, list[tuple[int, bytes]]] = {}
        async with asyncio.timeout(20):
            while sum(map(len, found.values())) < count:
                for partition, got in (await consumer.getmany(timeout_ms=500)).items():
                    found.setdefault(partition.partition, []).extend(
                        (record.offset, record.value) for record in got
                    )
        ends = await consumer.end_offsets(partitions)
        assert {tp.partition: end for tp, end in ends.items()} == {
            number: len(found.get(number, [])) for number in range(PARTITIONS)
        }
        return found
    finally:
        await consumer.stop()


def check(found: dict[int, list[tuple[int, bytes]]], sent: list[bytes]) -> None:
    for partition, got in found.items():
        assert [offset for offset, _ in got] == list(range(len(got)))
        assert [value for _, value in got] == sent[partition::PARTITIONS]


@pytest.mark.parametrize("codec", [None, "gzip", "lz4"])
def test_records_of_kafka_python_come_back_in_order(broker: Broker, codec: str | None) -> None:
    topic, sent = broker.topic(PARTITIONS), records()
    producer = KafkaProducer(
        acks="all",
        compression_type=codec,
        max_request_size=8 << 20,
        **broker.kafka.client_options(),
    )
    for number, value in enumerate(sent):
        producer.send(topic, value=value, partition=number % PARTITIONS)
    producer.flush()
    producer.close()
    check(asyncio.run(read(broker.kafka, topic, len(sent))), sent)


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_records_of_any_codec_come_back_in_order(broker: Broker, codec: str | None) -> None:
    topic, sent = broker.topic(PARTITIONS), records()

    async def produce() -> None:
        producer = AIOKafkaProducer(
            acks="all",
            compression_type=codec,
            max_batch_size=1,
            max_request_size=8 << 20,
            **broker.kafka.client_options(),
        )
        await producer.start()
        try:
            for number, value in enumerate(sent):
                await producer.send_and_wait(topic, value, partition=number % PARTITIONS)
        finally:
            await producer.stop()

    asyncio.run(produce())
    check(asyncio.run(read(broker.kafka, topic, len(sent))), sent)


def test_a_group_keeps_its_place(broker: Broker) -> None:
    topic, sent = broker.topic(PARTITIONS), records(20)

    async def session(count: int) -> list[tuple[int, int]]:
        consumer = AIOKafkaConsumer(
            topic,
            group_id=f"group-{topic}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=2000,
            rebalance_timeout_ms=2000,
            heartbeat_interval_ms=500,
            **broker.kafka.client_options(),
        )
        await consumer.start()
        try:
            seen: list[tuple[int, int]] = []
            async with asyncio.timeout(30):
                while len(seen) < count:
                    record = await consumer.getone()
                    seen.append((record.partition, record.offset))
            await consumer.commit()
            return seen
        finally:
            await consumer.stop()

    async def both() -> list[tuple[int, int]]:
        producer = AIOKafkaProducer(max_batch_size=1, **broker.kafka.client_options())
        await producer.start()
        for number, value in enumerate(sent):
            await producer.send_and_wait(topic, value, partition=number % PARTITIONS)
        await producer.stop()
        return await session(8) + await session(12)

    seen = asyncio.run(both())
    assert len(set(seen)) == len(seen) == 20


def test_topics_are_created_once_with_their_partitions(broker: Broker) -> None:
    name = broker.topic(2)
    assert create_topics(broker.kafka, [Topic(name, 2), Topic(name + ".b", 3)]) == [name + ".b"]
    assert create_topics(broker.kafka, [Topic(name, 1)]) == []
    with pytest.raises(UsageError, match=rf"{name} has 2 partitions, 3 are wanted"):
        create_topics(broker.kafka, [Topic(name, 3)])


def test_a_new_log_has_a_new_id(tmp_path: Path) -> None:
    kafka = KafkaConfig(bootstrap_servers=f"127.0.0.1:{(port := free_port())}")
    seen = set()
    for _ in range(2):
        process = start_broker(port, tmp_path / "broker.log")
        try:
            create_topics(kafka, [Topic("t", 1)])
            assert log_id(kafka, "t") == log_id(kafka, "t")
            seen.add(log_id(kafka, "t"))
            with pytest.raises(UsageError, match=rf"port {port} is in use"):
                start_broker(port, tmp_path / "broker.log")
        finally:
            stop(process)
    assert len(seen) == 2
    with pytest.raises(Unavailable, match="topic missing does not exist"):
        process = start_broker(port, tmp_path / "broker.log")
        try:
            log_id(kafka, "missing")
        finally:
            stop(process)


def test_a_broker_that_is_away_is_named() -> None:
    kafka = KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match=r"no Kafka broker answers at 127\.0\.0\.1"):
        create_topics(kafka, [])


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """However the parent dies: here it kills itself with SIGKILL."""
    program = (
        "import os, signal, sys; from pathlib import Path; from infra.embedded.broker import *;"
        f"p = start_broker({free_port()}, Path({str(tmp_path / 'log')!r}));"
        "print(p.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == -9
    eventually(lambda: not alive(int(done.stdout)), within_s=5)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


assert alive(os.getpid())
