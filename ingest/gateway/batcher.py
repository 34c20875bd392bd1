"""Batches of events leave as records; their requests wait until Kafka has acknowledged them.

1. `Batcher.reserve` counts the bytes of a request from its first byte on; there is a bound.
2. `Batcher.deliver` puts batches into the open record of their partition. A record leaves when it
   is full or after `linger_s`, so that small requests share records.
3. Kafka acknowledges a record: its requests count down. A request is answered when its last record
   is acknowledged, or as soon as one has failed.

Everything but `settled` runs on the event loop, so nothing here is locked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ingest.core.errors import Overloaded, Unavailable
from ingest.core.health.verdict import Reason
from ingest.gateway import metrics
from ingest.gateway.admission import EncodedRecord
from ingest.gateway.record_producer import RecordProducer
from ingest.producer import ProducerConfig

MAX_EVENTS: Final = ProducerConfig().max_events
MAX_BYTES: Final = ProducerConfig().max_bytes

RETRY_SLOW_S: Final = 1.0
RETRY_AWAY_S: Final = (5.0, 60.0)
"""Bounds of the advice when to try again; between them it is twice as long as Kafka has been away.

OpenTelemetry's Python exporter tries six times: so spread they outlast an outage of four minutes.
"""

PROBE_S: Final = 5.0
"""How often a silent or absent Kafka is asked whether it is there."""


class KafkaAway(Unavailable):
    """Kafka does not take events now; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("Kafka does not take events at the moment; try again later")
        self.retry_after = retry_after


@dataclass(slots=True, eq=False)
class _Delivery:
    """A request that waits for its records."""

    done: asyncio.Future[None]
    records: int = 0

    def settle(self, error: Exception | None) -> None:
        self.records -= 1
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        elif self.records == 0:
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class _Record:
    parts: list[bytes] = field(default_factory=list)
    deliveries: list[_Delivery] = field(default_factory=list)
    events: int = 0
    size: int = 0
    timer: asyncio.TimerHandle | None = None
    sent_at: float = 0.0


class Batcher:
    """Micro-batches on their way to Kafka.

    Parameters
    ----------
    connect
        Makes a producer; called again when that in use has failed for long. May block, and raises
        `Unavailable`.
    probe
        Returns when Kafka answers, raises `Unavailable` when it does not. May block.
    queue_bytes, linger_s, answer_s
        As in `ingest.gateway.config.GatewayConfig`.

    Raises
    ------
    Unavailable
        No producer can be made.
    """

    def __init__(
        self,
        connect: Callable[[], RecordProducer],
        probe: Callable[[], None],
        queue_bytes: int,
        linger_s: float,
        answer_s: float,
    ) -> None:
        self._connect = connect
        self._probe = probe
        self._queue_bytes = queue_bytes
        self._linger_s = linger_s
        self._answer_s = answer_s
        self._producer = connect()
        metrics.KAFKA_UP.set(1)
        self.partitions = self._producer.partitions
        self._open: list[_Record | None] = [None] * self.partitions
        self._on_way: set[_Record] = set()
        self._held = 0
        self._away_since: float | None = None
        self._heard_at = time.monotonic()
        self._closing = False

    @property
    def held_bytes(self) -> int:
        """Bytes of requests that are not answered yet."""
        return self._held

    @property
    def unwell(self) -> Reason | None:
        """Why no request should be sent here now, None when it may."""
        if self._closing:
            return Reason("stopping", "the gateway stops", 0.0)
        if self._away_since is not None:
            since = time.monotonic() - self._away_since
            return Reason("kafka_away", "Kafka does not take records", since)
        if self._held > self._queue_bytes:
            return Reason("queue_full", f"{self._held} bytes wait for Kafka", 0.0)
        return None

    def check(self) -> None:
        """Refuse a request before any of it is read.

        While Kafka is away one request at a time may try it; the others need not wait for the same
        answer.

        Raises
        ------
        KafkaAway
            Kafka did not take the last record, or the gateway stops.
        Overloaded
            More is held than the bound.
        """
        if self._closing:
            raise KafkaAway(RETRY_SLOW_S)
        if self._away_since is not None and self._held:
            raise self._away()
        if self._held > self._queue_bytes:
            raise self._full()

    @contextmanager
    def reserve(self) -> Iterator[Callable[[int], None]]:
        """Count what a request holds until the end of the block, by calls with its size so far.

        A request that is alone finds room however large it is.

        Raises
        ------
        Overloaded
            From a call, when more would be held than the bound.
        """
        mine = 0

        def reserve_bytes(size: int) -> None:
            nonlocal mine
            others = self._held - mine
            if size > mine and others and others + size > self._queue_bytes:
                raise self._full()
            mine, self._held = size, others + size
            metrics.QUEUE_BYTES.set(self._held)

        try:
            yield reserve_bytes
        finally:
            self._held -= mine
            metrics.QUEUE_BYTES.set(self._held)

    async def deliver(self, batches: list[EncodedRecord]) -> None:
        """Return when Kafka has every batch.

        Raises
        ------
        KafkaAway
            It has not taken one of them in time. Others may be stored; sent again they collapse
            with themselves.
        """
        if not batches:
            return
        delivery = _Delivery(asyncio.get_running_loop().create_future(), len(batches))
        for batch in batches:
            self._put(batch, delivery)
        try:
            # The producer has a timeout of its own; this one is in case it does not keep it.
            async with asyncio.timeout(self._answer_s + self._linger_s + 1.0):
                await delivery.done
        except TimeoutError:
            self._has_failed(time.monotonic() - self._answer_s)
            raise self._away() from None

    async def watch(self) -> None:
        """Ask a silent Kafka now and then, and replace a producer that has failed for long."""
        while True:
            await asyncio.sleep(PROBE_S)
            if self._away_since is None and time.monotonic() - self._heard_at < PROBE_S:
                continue
            try:
                await asyncio.to_thread(self._probe)
            except Unavailable:
                self._has_failed(time.monotonic())
                continue
            if self._away_since is not None:
                await self._renew()
            self._heard_at = time.monotonic()

    async def report(self, records: list[bytes]) -> None:
        """Send dead letters and reports, which nobody waits for."""
        await asyncio.to_thread(self._producer.report, records)

    async def close(self, drain_s: float) -> None:
        """Take no more, send what waits, and wait for it at most ``drain_s`` seconds."""
        self._closing = True
        for partition in range(self.partitions):
            self._send(partition)
        deadline = time.monotonic() + drain_s
        while self._on_way and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(self._producer.close)

    def _put(self, batch: EncodedRecord, delivery: _Delivery) -> None:
        record = self._open[batch.partition]
        if record is not None and (
            record.events + batch.events > MAX_EVENTS or record.size + len(batch.lines) > MAX_BYTES
        ):
            self._send(batch.partition)
            record = None
        if record is None:
            record = self._open[batch.partition] = _Record()
            loop = asyncio.get_running_loop()
            record.timer = loop.call_later(self._linger_s, self._send, batch.partition)
        record.parts.append(batch.lines)
        record.deliveries.append(delivery)
        record.events += batch.events
        record.size += len(batch.lines) + 1
        if record.events >= MAX_EVENTS or record.size >= MAX_BYTES:
            self._send(batch.partition)

    def _send(self, partition: int) -> None:
        record, self._open[partition] = self._open[partition], None
        if record is None:
            return
        if record.timer is not None:
            record.timer.cancel()
        value, record.parts = b"\n".join(record.parts), []
        record.sent_at = time.monotonic()
        self._on_way.add(record)
        loop = asyncio.get_running_loop()
        self._producer.send(partition, value, partial(self._settled, loop, record))

    def _settled(
        self, loop: asyncio.AbstractEventLoop, record: _Record, error: Exception | None
    ) -> None:
        with suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(self._account, record, error)

    def _account(self, record: _Record, error: Exception | None) -> None:
        self._on_way.discard(record)
        if error is None:
            self._heard_at = time.monotonic()
            self._has_recovered()
            metrics.EVENTS.inc(record.events)
            metrics.DELIVERY_SECONDS.observe(self._heard_at - record.sent_at)
            failure = None
        else:
            self._has_failed(record.sent_at)
            metrics.FAILED_RECORDS.inc()
            failure = self._away()
        for delivery in record.deliveries:
            delivery.settle(failure)

    async def _renew(self) -> None:
        """Replace the producer: what has failed so long may be its own fault."""
        old = self._producer
        try:
            self._producer = await asyncio.to_thread(self._connect)
        except Unavailable:
            return
        self._has_recovered()
        await asyncio.to_thread(old.close)

    def _has_failed(self, since: float) -> None:
        if self._away_since is None:
            self._away_since = since
            metrics.KAFKA_UP.set(0)

    def _has_recovered(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            metrics.KAFKA_UP.set(1)

    def _away(self) -> KafkaAway:
        since = time.monotonic() if self._away_since is None else self._away_since
        low, high = RETRY_AWAY_S
        wait = min(max(2 * (time.monotonic() - since), low), high)
        # Not before, and not all at once.
        return KafkaAway(wait * random.uniform(1.0, 1.2))  # noqa: S311 - no secret

    def _full(self) -> Overloaded:
        return Overloaded("more arrives than Kafka takes; send again later", RETRY_SLOW_S)
