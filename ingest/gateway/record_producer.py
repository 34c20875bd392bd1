"""Kafka's producer behind two verbs, and its twin in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from kafka.errors import KafkaError

from ingest.codec import CANONICAL_HEADER
from ingest.core.events import DEAD_LETTERS_TOPIC, EVENTS_TOPIC
from ingest.core.kafka import KafkaConfig
from ingest.gateway import metrics
from ingest.producer import ProducerConfig, connect

Settled = Callable[[Exception | None], None]
"""Told once what became of a record: None when Kafka has it. Called from any thread."""


class RecordProducer(Protocol):
    """Takes records and tells what became of them."""

    partitions: int

    def send(self, partition: int, record: bytes, settled: Settled) -> None:
        """Take a record; returns at once and never raises."""

    def report(self, records: list[bytes]) -> None:
        """Send to the topic of dead letters as well as can be; may block, never raises."""

    def close(self) -> None:
        """Let go, once records under way have failed or arrived; may block."""


@dataclass(slots=True)
class MemoryRecordProducer:
    """Keeps records in memory and acknowledges them when told to.

    Examples
    --------
    >>> producer = MemoryRecordProducer(partitions=1)
    >>> producer.send(0, b"{}", lambda error: print("settled", error))
    >>> producer.settle()
    settled None
    """

    partitions: int = 4
    waiting: list[tuple[int, bytes, Settled]] = field(default_factory=list)
    stored: list[tuple[int, bytes]] = field(default_factory=list)
    reported: list[bytes] = field(default_factory=list)
    closed: bool = False

    def report(self, records: list[bytes]) -> None:
        """See `RecordProducer.report`."""
        self.reported += records

    def send(self, partition: int, record: bytes, settled: Settled) -> None:
        """See `RecordProducer.send`."""
        self.waiting.append((partition, record, settled))

    def settle(self, error: Exception | None = None) -> None:
        """Acknowledge, or fail, everything that waits."""
        waiting, self.waiting = self.waiting, []
        for partition, record, settled in waiting:
            if error is None:
                self.stored.append((partition, record))
            settled(error)

    def close(self) -> None:
        """See `RecordProducer.close`."""
        self.closed = True
        self.settle(ConnectionError("closed"))


class KafkaRecordProducer:
    """Sends records to Kafka, acknowledged by all replicas in sync.

    Parameters
    ----------
    kafka
        Where the cluster is.
    answer_s
        How long Kafka may take for a record, retries included.
    topic
        Where to; must exist.

    Raises
    ------
    Unavailable
        No broker answers, or the topic is missing.
    """

    def __init__(self, kafka: KafkaConfig, answer_s: float, topic: str = EVENTS_TOPIC) -> None:
        self._topic = topic
        self._kafka: Any
        self._answer_s = answer_s
        config = ProducerConfig(
            topic=topic,
            timeout_s=answer_s,
            # A call must not hold up the event loop: it waits for nothing but lost metadata.
            block_s=min(answer_s, 1.0),
            # The idempotent producer of kafka-python stops expiring records while it waits for a
            # new producer id, so an outage would outlast its timeout, and it can end in a state
            # from which only a new client recovers. A record repeated by a retry holds the same
            # events and collapses with the first.
            idempotence=False,
        )
        self._kafka, self.partitions = connect(kafka, config)

    def send(self, partition: int, record: bytes, settled: Settled) -> None:
        """See `RecordProducer.send`."""
        try:
            future = self._kafka.send(
                self._topic, value=record, partition=partition, headers=[CANONICAL_HEADER]
            )
        except (KafkaError, OSError, AssertionError, ValueError) as error:
            settled(error)
            return
        future.add_callback(lambda _: settled(None))
        future.add_errback(settled)

    def report(self, records: list[bytes]) -> None:
        """See `RecordProducer.report`."""
        for record in records:
            try:
                sent = self._kafka.send(DEAD_LETTERS_TOPIC, value=record)
            except (KafkaError, OSError, AssertionError, ValueError):
                metrics.LOST_REPORTS.inc()
            else:
                sent.add_errback(lambda _: metrics.LOST_REPORTS.inc())

    def close(self) -> None:
        """See `RecordProducer.close`. Blocks until the last record is settled or given up."""
        # With records under way a shorter timeout would raise and leave the thread running.
        with suppress(KafkaError):
            self._kafka.close(timeout=self._answer_s + 1)
