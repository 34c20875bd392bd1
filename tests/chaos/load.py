"""A producer that never gives up: what Kafka has acknowledged must be stored."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from kafka import KafkaProducer
from kafka.errors import KafkaError

from tests.chaos.log import EVENTS, receipt
from tests.chaos.traffic import Traffic

_TICK_S = 0.1


class Load(threading.Thread):
    """Produces traffic at a rate, in a thread of its own, until `finish`.

    ``acknowledged`` are the receipts of what Kafka has confirmed. A record whose fate is unknown
    after an error is sent again, as any careful producer does.
    """

    def __init__(self, bootstrap_servers: str, traffic: Traffic, per_second: int) -> None:
        super().__init__(daemon=True, name="load")
        self._servers = bootstrap_servers.split(",")
        self._traffic = traffic
        self._random = random.Random(traffic.seed)
        self._ending = threading.Event()
        self._pending: list[tuple[bytes, int, Any]] = []
        self.per_second = per_second
        self.acknowledged: set[tuple[int, int, int]] = set()
        self.lines = 0
        self.sent_again = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:  # the one who calls `finish` raises it
            self.failure = error

    def finish(self) -> None:
        """Send what is held back, wait for every acknowledgement, stop."""
        self._ending.set()
        self.join(120)
        if self.is_alive():
            raise TimeoutError("the producer hangs")
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join(30)

    def _run(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._servers,
            acks="all",
            linger_ms=20,
            batch_size=64 << 10,
            compression_type="lz4",
            max_request_size=8 << 20,
            delivery_timeout_ms=60_000,
            request_timeout_ms=10_000,
            metadata_max_age_ms=10_000,
        )
        try:
            partitions = sorted(producer.partitions_for(EVENTS))
            due = time.monotonic()
            while not self._ending.is_set():
                self._send(producer, partitions, self.per_second * _TICK_S)
                self._collect(producer, wait=False)
                due = max(due + _TICK_S, time.monotonic() - 5)  # catch up, within reason
                self._ending.wait(max(0.0, due - time.monotonic()))
            self._produce(producer, partitions, self._traffic.rest())
            deadline = time.monotonic() + 90
            while self._pending and time.monotonic() < deadline:
                self._collect(producer, wait=True)
            if self._pending:
                raise TimeoutError(f"{len(self._pending)} records were never acknowledged")
        finally:
            producer.close(10)

    def _send(self, producer: KafkaProducer, partitions: list[int], count: float) -> None:
        lines = self._traffic.lines(max(1, round(count)), time.time_ns())
        self._produce(producer, partitions, lines)

    def _produce(self, producer: KafkaProducer, partitions: list[int], lines: list[bytes]) -> None:
        self.lines += len(lines)
        for value in self._traffic.records(lines):
            partition = self._random.choice(partitions)
            self._pending.append((value, partition, self._try(producer, value, partition)))

    def _try(self, producer: KafkaProducer, value: bytes, partition: int) -> Any:
        try:
            return producer.send(EVENTS, value, partition=partition)
        except KafkaError:
            return None

    def _collect(self, producer: KafkaProducer, *, wait: bool) -> None:
        """Note what was acknowledged; send again what was not."""
        waiting = []
        for value, partition, future in self._pending:
            if future is not None and not future.is_done and not wait:
                waiting.append((value, partition, future))
                continue
            try:
                if future is None:
                    raise KafkaError  # noqa: TRY301 - it was refused when it was sent
                done = future.get(60)
                self.acknowledged.add(receipt(done.partition, done.offset, value))
            except KafkaError:
                self.sent_again += 1
                waiting.append((value, partition, self._try(producer, value, partition)))
        self._pending = waiting


def send_with_kafka_python(servers: str, codec: str | None, values: list[bytes]) -> set[Any]:
    """Send records with one codec; returns the receipts."""
    producer = KafkaProducer(
        bootstrap_servers=servers.split(","), acks="all", compression_type=codec, linger_ms=20
    )
    try:
        futures = [producer.send(EVENTS, value) for value in values]
        done = [future.get(timeout=30) for future in futures]
    finally:
        producer.close()
    return {receipt(d.partition, d.offset, v) for d, v in zip(done, values, strict=True)}


def send_with_aiokafka(servers: str, codec: str | None, values: list[bytes]) -> set[Any]:
    """Send records with one codec; returns the receipts."""

    async def send() -> set[Any]:
        async with AIOKafkaProducer(
            bootstrap_servers=servers.split(","), acks="all", compression_type=codec, linger_ms=20
        ) as producer:
            futures = [await producer.send(EVENTS, value) for value in values]
            done = await asyncio.gather(*futures)
        return {receipt(d.partition, d.offset, v) for d, v in zip(done, values, strict=True)}

    return asyncio.run(send())


Send = Callable[[str, str | None, list[bytes]], set[Any]]
CODECS: tuple[tuple[str, Send, tuple[str | None, ...]], ...] = (
    # kafka-python has snappy and zstd only with packages that are not needed otherwise.
    ("kafka-python", send_with_kafka_python, (None, "gzip", "lz4")),
    ("aiokafka", send_with_aiokafka, (None, "gzip", "snappy", "lz4", "zstd")),
)
