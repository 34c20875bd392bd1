"""Canonical events reach Kafka: batched per partition into NDJSON records, acknowledged by all.

1. An event joins the batch of its partition, which its interaction chooses.
2. A batch of `ProducerConfig.max_events` or `ProducerConfig.max_bytes` becomes one record.
3. `flush` sends what is left and returns when Kafka has acknowledged every record.

Only after 3 may a caller tell others that the events are safe.
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal, Protocol, Self, cast

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.partitioner.default import murmur2

from ingest import codec
from ingest.core.connection import check_connection
from ingest.core.errors import Unavailable, UsageError
from ingest.core.events import EVENTS_TOPIC, Event
from ingest.core.kafka import KafkaConfig


class Producer(Protocol):
    """Takes events and keeps them."""

    def send(self, events: Iterable[Event]) -> None:
        """Accept events; they need not be safe yet. Raises `Unavailable`."""

    def flush(self) -> None:
        """Return when every event sent so far is safe. Raises `Unavailable` when one is not."""


@dataclass(slots=True)
class ListProducer:
    """Keeps events in memory.

    Examples
    --------
    >>> producer = ListProducer()
    >>> producer.send([Event(event_id="a", time_unix_nano=1, agent="shop", kind="tool_call")])
    >>> producer.flushed
    []
    >>> producer.flush()
    >>> [event.event_id for event in producer.flushed]
    ['a']
    """

    pending: list[Event] = field(default_factory=list)
    flushed: list[Event] = field(default_factory=list)

    def send(self, events: Iterable[Event]) -> None:
        """See `Producer.send`."""
        self.pending += events

    def flush(self) -> None:
        """See `Producer.flush`."""
        self.flushed += self.pending
        self.pending.clear()


@dataclass(frozen=True, slots=True)
class FileProducer:
    """Writes events to a file as NDJSON; see `file_producer`."""

    file: IO[bytes]

    def send(self, events: Iterable[Event]) -> None:
        """See `Producer.send`."""
        lines = codec.encode(events)
        if lines:
            self.file.write(lines + b"\n")

    def flush(self) -> None:
        """See `Producer.flush`."""
        self.file.flush()


@contextmanager
def file_producer(path: Path) -> Iterator[FileProducer]:
    """Open a file to write events to, compressed when its name ends in ``.gz``.

    Raises
    ------
    UsageError
        When the file cannot be made.
    """
    try:
        plain = path.open("wb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    with plain:
        if path.suffix != ".gz":
            yield FileProducer(plain)
            return
        with gzip.GzipFile(fileobj=plain, mode="wb", compresslevel=3) as packed:
            yield FileProducer(cast("IO[bytes]", packed))


@dataclass(frozen=True, slots=True)
class ProducerConfig:
    """How events are sent.

    Attributes
    ----------
    topic
        Must exist.
    max_events, max_bytes
        Size of a record. Records of several hundred lines cost a tenth of single events, and
        256 KiB stay below every broker's default limit.
    max_unacknowledged
        Records on their way at once. With ``max_bytes`` it bounds the memory.
    compression
        lz4 also costs the producer less time than none: it checksums and sends fewer bytes.
    idempotence
        Let the broker drop the producer's own retries. For a broker that cannot, False: a retried
        record is then stored twice and its events are counted as duplicates.
    timeout_s
        How long Kafka may take for a record, retries included.
    block_s
        How long a call may wait for the topic's metadata; None for ``timeout_s``.
    """

    topic: str = EVENTS_TOPIC
    max_events: int = 500
    max_bytes: int = 256 * 1024
    max_unacknowledged: int = 64
    compression: Literal["gzip", "lz4"] | None = "lz4"
    idempotence: bool = True
    timeout_s: float = 30.0
    block_s: float | None = None


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """Choose a partition as Kafka's clients do by default: murmur2 of the key.

    Examples
    --------
    >>> partition_of("interaction-1", 4)
    0
    """
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


def locality_key(event: Event) -> str:
    """What keeps an event near its kin: its interaction, else its session, else itself."""
    return event.interaction_id or event.session_id or event.event_id


@dataclass(slots=True)
class _Batch:
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def take(self) -> bytes:
        record = b"\n".join(self.lines)
        self.lines, self.size = [], 0
        return record


@contextmanager
def kafka_errors(address: str) -> Iterator[None]:
    """Turn errors of the client library into `Unavailable`."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise Unavailable(
            f"Kafka at {address} does not take events ({error});"
            " start it with `driftline up`, or correct DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS"
        ) from error


def connect(kafka: KafkaConfig, config: ProducerConfig) -> tuple[Any, int]:
    """Return kafka-python's producer, logged in, and the number of partitions of the topic.

    Raises
    ------
    Unavailable
        When no broker answers or the topic is missing.
    """
    timeout_ms = int(config.timeout_s * 1000)
    check_connection(kafka)
    with kafka_errors(kafka.bootstrap_servers):
        client: Any = KafkaProducer(
            **kafka.client_options(),
            acks="all",
            enable_idempotence=config.idempotence,
            compression_type=config.compression,
            # We batch. A batch of its own per record also keeps the embedded broker's end
            # offsets right, which ignore the length of a batch.
            batch_size=0,
            linger_ms=0,
            max_request_size=4 * config.max_bytes,
            delivery_timeout_ms=timeout_ms,
            request_timeout_ms=timeout_ms // 2,
            max_block_ms=timeout_ms if config.block_s is None else int(config.block_s * 1000),
            reconnect_backoff_max_ms=1_000,
            bootstrap_timeout_ms=min(timeout_ms, 10_000),
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            partitions = client.partitions_for(config.topic)
        except KafkaTimeoutError:
            partitions = None
    if not partitions:
        let_go(client)
        raise Unavailable(
            f"Kafka at {kafka.bootstrap_servers} has no topic {config.topic};"
            " run `driftline migrate`"
        )
    return client, len(partitions)


def let_go(client: Any) -> None:
    """Close a producer of kafka-python at once, whatever waits in it is not sent.

    Its own ``close`` flushes first; where that takes longer than no time it raises and leaves the
    producer open.
    """
    try:
        client.close(timeout=0)
    except KafkaTimeoutError:
        client._sender.force_close()  # noqa: SLF001
        client._closed = True  # noqa: SLF001 - else it tries again when it is collected


class KafkaEventProducer:
    """Sends events to Kafka and never holds more than its config allows.

    Parameters
    ----------
    kafka
        Where the cluster is.
    config
        How to send.

    Raises
    ------
    Unavailable
        When no broker answers or the topic is missing; from any method.
    """

    def __init__(self, kafka: KafkaConfig, config: ProducerConfig = ProducerConfig()) -> None:
        self._address = kafka.bootstrap_servers
        self._config = config
        self._kafka, self._partitions = connect(kafka, config)
        self._batches = [_Batch() for _ in range(self._partitions)]
        self._unacknowledged: deque[Any] = deque()
        self.acknowledged: dict[int, int] = {}
        """Per partition, the offset after the last record that Kafka has acknowledged."""

    def send(self, events: Iterable[Event]) -> None:
        """Encode events and send full records; waits when too many are on their way."""
        batches, partitions = self._batches, self._partitions
        max_events, max_bytes = self._config.max_events, self._config.max_bytes
        for event in events:
            line = codec.encode((event,))
            number = partition_of(locality_key(event), partitions)
            batch = batches[number]
            if batch.size + len(line) > max_bytes or len(batch.lines) == max_events:
                self._send(number)
            batch.lines.append(line)
            batch.size += len(line) + 1

    def flush(self) -> None:
        """Send what is left and wait until Kafka has everything."""
        for number in range(self._partitions):
            self._send(number)
        while self._unacknowledged:
            self._await_one()

    def close(self) -> None:
        """Let go of the connections. What was not flushed is not sent."""
        let_go(self._kafka)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def _send(self, partition: int) -> None:
        batch = self._batches[partition]
        if not batch.lines:
            return
        while len(self._unacknowledged) >= self._config.max_unacknowledged:
            self._await_one()
        with self._errors():
            sent = self._kafka.send(
                self._config.topic,
                value=batch.take(),
                partition=partition,
                headers=[codec.CANONICAL_HEADER],
            )
        self._unacknowledged.append(sent)

    def _await_one(self) -> None:
        with self._errors():
            stored = self._unacknowledged.popleft().get(timeout=self._config.timeout_s + 5)
        at = self.acknowledged.get(stored.partition, 0)
        self.acknowledged[stored.partition] = max(at, stored.offset + 1)

    def _errors(self) -> AbstractContextManager[None]:
        return kafka_errors(self._address)
