"""The OTLP Kafka receiver: OTLP that a Collector has written to Kafka becomes events.

For each batch, in this order and never another:

1. every message is translated, by the limits of the gateway, and its events are redacted,
2. the events, and a dead letter for each message or span that is none, are produced,
3. Kafka acknowledges all of it,
4. the offsets of the source are committed.

A crash at any point repeats the batch. Event ids come from span ids, so a repeat counts once; a
repeated dead letter has the same coordinates and collapses.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from ingest import otlp
from ingest.core import telemetry
from ingest.core.dead_letters import (
    BEAT_S,
    Beat,
    DeadLetter,
    IgnoredReport,
    KeepsTextOf,
    Redact,
    beat,
    letter,
)
from ingest.core.errors import Rejected, Unavailable
from ingest.core.events import DEAD_LETTERS_TOPIC, Event, RejectionCode
from ingest.core.health import probes
from ingest.core.health.sampler import PartitionPosition, Sampler
from ingest.core.health.verdict import Limits as ProgressLimits
from ingest.core.health.verdict import Snapshot, Verdict, judge
from ingest.core.kafka import KafkaConfig
from ingest.core.log_consumer import LogConsumer, Open, commit, leave, open_consumer
from ingest.limits import Limits, check_depth
from ingest.producer import KafkaEventProducer, ProducerConfig, connect, kafka_errors, let_go

log = logging.getLogger(__name__)

GROUP: Final = "driftline-door"
Encoding = Literal["auto", "otlp_proto", "otlp_json"]
UNTRANSLATABLE: Final = "untranslatable"
"""Code of a message on which the translation itself failed: a bug, but none to stop at for ever."""

WINDOW_MESSAGES: Final = 1_000
MAX_BAD_MESSAGES: Final = 200
_MESSAGES_AT_ONCE: Final = 32  # each may be as large as the topic allows
_WAITS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_SAMPLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """What the receiver consumes and how.

    Attributes
    ----------
    spans_topic, logs_topic
        By default as the Collector's Kafka exporter names them.
    encoding
        ``auto`` tells JSON from protobuf by the first byte: no OTLP message begins with a brace.
    log_ids
        By topic: the incarnation of its log, for the coordinates of dead letters.
    """

    spans_topic: str = "otlp_spans"
    logs_topic: str = "otlp_logs"
    encoding: Encoding = "auto"
    limits: Limits = field(default_factory=Limits)
    session_timeout: float = 10.0
    log_ids: Mapping[str, str] = field(default_factory=dict)
    health_port: int | None = None
    health_host: str = probes.LOOPBACK
    progress: ProgressLimits = field(default_factory=ProgressLimits)


@dataclass(frozen=True, slots=True)
class Policy:
    """How events and texts are made fit to be kept."""

    redact_events: Callable[[Sequence[Event]], list[Event]]
    redact_text: Redact | None
    keeps_text_of: KeepsTextOf


@dataclass(slots=True)
class Translated:
    """What a batch came to; ``bad`` flags each message that was refused as a whole."""

    events: list[tuple[str, list[Event]]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    reports: list[IgnoredReport | Beat] = field(default_factory=list)
    bad: list[bool] = field(default_factory=list)


def translate(
    records: Iterable[ConsumerRecord], config: ReceiverConfig, policy: Policy
) -> Translated:
    """Turn messages into redacted events and dead letters. Pure.

    A message that cannot be read becomes one letter with line 0 and its redacted text; a span or
    log record that cannot, a letter with the number of the refusal and its redacted text.
    """
    out, keep = Translated(), policy.redact_text
    for record in records:
        raw = record.value or b""
        place = (
            config.log_ids.get(record.topic, ""),
            record.topic,
            record.partition,
            record.offset,
        )
        try:
            found = _translation(raw, record.topic == config.logs_topic, config)
        except Rejected as error:
            out.bad.append(True)
            out.letters.append(
                letter(
                    raw,
                    (*place, 0),
                    error.code,
                    error.detail,
                    policy.redact_text,
                    policy.keeps_text_of,
                )
            )
            continue
        out.bad.append(False)
        out.letters += [
            letter(refused.raw, (*place, number), str(refused.code), refused.detail, keep)
            for number, refused in enumerate(found.rejected)
        ]
        minute = (record.timestamp or 0) // 60_000 * 60
        source = f"{record.topic}/{record.partition}/{record.offset}"
        out.reports += [
            IgnoredReport(minute=minute, source=source, **kind._asdict(), records=count)
            for kind, count in found.ignored.items()
        ]
        out.events.append((record.topic, policy.redact_events(found.events)))
    return out


def _translation(raw: bytes, is_logs: bool, config: ReceiverConfig) -> otlp.Translation:
    if len(raw) > config.limits.max_decompressed_bytes:
        raise Rejected(RejectionCode.BODY_TOO_LARGE, f"{len(raw)} bytes")
    as_json = raw[:1] == b"{" if config.encoding == "auto" else config.encoding == "otlp_json"
    if as_json:
        check_depth(raw, config.limits)
    decode = otlp.events_of_logs if is_logs else otlp.events_of_traces
    try:
        return decode(raw, encoding="json" if as_json else "protobuf", limits=config.limits)
    except Rejected:
        raise
    except Exception as error:
        # Nothing but the message can be the cause: it must not stop the receiver for ever. The
        # text of the error may quote the message, its place does not.
        places = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{at.filename}:{at.lineno}" for at in reversed(places))
        log.error("a message could not be translated: %s in %s", type(error).__name__, where)  # noqa: TRY400
        raise Rejected(UNTRANSLATABLE, type(error).__name__) from error


class BadMessages:
    """How many of the last thousand messages were refused as a whole.

    Examples
    --------
    >>> bad = BadMessages()
    >>> bad.update([False] * 900 + [True] * 100).exceeded
    False
    >>> bad.update([True] * 101).exceeded
    True
    """

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=WINDOW_MESSAGES)

    def update(self, bad: Iterable[bool]) -> BadMessages:
        """Take further messages."""
        self._recent.extend(bad)
        return self

    @property
    def exceeded(self) -> bool:
        """Whether more than a fifth of a full window was refused."""
        full = len(self._recent) == WINDOW_MESSAGES
        return full and sum(self._recent) > MAX_BAD_MESSAGES


class ReceiverProducer:
    """Produces what a batch came to; made anew after Kafka has been away."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._events: KafkaEventProducer | None = None
        self._letters: Any = None

    def deliver(self, batch: Translated) -> None:
        """Return when Kafka has acknowledged everything.

        Raises
        ------
        Unavailable
            It has not; whatever part of it has arrived may be sent again.
        """
        try:
            if self._events is None:
                self._events = KafkaEventProducer(self._kafka)
            for _, events in batch.events:
                self._events.send(events)
            self._events.flush()
            self._send([*batch.letters, *batch.reports])
        except Unavailable:
            self.close()
            raise

    def _send(self, letters: list[DeadLetter | IgnoredReport | Beat]) -> None:
        if not letters:
            return
        config = ProducerConfig(topic=DEAD_LETTERS_TOPIC)
        if self._letters is None:
            self._letters, _ = connect(self._kafka, config)
        with kafka_errors(self._kafka.bootstrap_servers):
            sent = [
                self._letters.send(DEAD_LETTERS_TOPIC, value=msgspec.json.encode(one))
                for one in letters
            ]
            for one in sent:
                one.get(timeout=config.timeout_s + 5)

    def close(self) -> None:
        """Let go of the connections."""
        events, self._events = self._events, None
        letters, self._letters = self._letters, None
        if events is not None:
            events.close()
        if letters is not None:
            let_go(letters)


class OtlpKafkaReceiver:
    """Consumes OTLP from Kafka until told to stop.

    Parameters
    ----------
    kafka
        The cluster of the source topics and of the events.
    config, policy
        What is consumed, what is let through.
    opened
        How the consumer is made.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        config: ReceiverConfig,
        policy: Policy,
        opened: Open = open_consumer,
    ) -> None:
        self._kafka = kafka
        self._config = config
        self._policy = policy
        self._outlet = ReceiverProducer(kafka)
        self._bad = BadMessages()
        self._stop = asyncio.Event()
        self._opened = opened
        self._consumer: LogConsumer = None  # type: ignore[assignment]
        self._committed: dict[TopicPartition, int] = {}
        self._turned: dict[str, float] = {}
        self._beaten = float("-inf")
        self._facts = Snapshot(at=time.monotonic())

    def stop(self) -> None:
        """Finish the batch that is under way and return from `run`."""
        self._stop.set()

    def verdict(self) -> Verdict:
        """Judge the last sample. From any thread."""
        return judge(self._facts, time.monotonic(), self._config.progress)

    async def run(self) -> None:
        """Consume.

        Raises
        ------
        Unavailable
            No broker answers at the start.
        Rejected
            Most of what comes is no OTLP; nothing of that batch is committed.
        """
        topics = [self._config.spans_topic, self._config.logs_topic]
        self._consumer = self._opened(
            self._kafka, GROUP, topics, session_timeout=self._config.session_timeout
        )
        sampling = asyncio.create_task(self._sample())
        try:
            await self._start()
            while not self._stop.is_set():
                self._turned["read"] = time.monotonic()
                fetched = await self._consumer.getmany(
                    timeout_ms=200, max_records=_MESSAGES_AT_ONCE
                )
                if fetched:
                    await self._take(fetched)
                if time.monotonic() - self._beaten >= BEAT_S:
                    self._beaten = time.monotonic()
                    await self._deliver(Translated(reports=[beat("receiver")]))
        finally:
            sampling.cancel()
            await leave(self._consumer)
            await asyncio.to_thread(self._outlet.close)

    async def _start(self) -> None:
        try:
            await self._consumer.start()
        except KafkaError as error:
            raise Unavailable(
                f"no Kafka broker answers at {self._kafka.bootstrap_servers} ({error})"
            ) from error

    async def _take(self, fetched: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        records = [record for part in fetched.values() for record in part]
        batch = await asyncio.to_thread(translate, records, self._config, self._policy)
        if self._bad.update(batch.bad).exceeded:
            codes = sorted({one.code for one in batch.letters})
            raise Rejected(
                "too_many_bad_messages",
                f"more than {MAX_BAD_MESSAGES} of {WINDOW_MESSAGES} messages in a row are no OTLP"
                f" ({', '.join(codes)}; topics {', '.join(sorted({r.topic for r in records}))}):"
                " the last batch was not taken. Correct the encoding of the exporter (otlp_proto or"
                " otlp_json), then start the receiver again",
            )
        await self._deliver(batch)
        commits = {partition: part[-1].offset + 1 for partition, part in fetched.items()}
        await self._commit(commits)
        self._count(batch)

    async def _deliver(self, batch: Translated) -> None:
        """Until Kafka has it; no more is read meanwhile, so nothing piles up."""
        waits = iter(_WAITS)
        while True:
            try:
                with telemetry.doing("produce events"):
                    await asyncio.to_thread(self._outlet.deliver, batch)
            except Unavailable as error:
                wait = next(waits, _WAITS[-1])
                log.warning("will try again in %s s: %s", wait, error)
                telemetry.RETRIES.inc()
                await asyncio.sleep(wait)
            else:
                return

    async def _commit(self, commits: dict[TopicPartition, int]) -> None:
        held = {p: o for p, o in commits.items() if p in self._consumer.assignment()}
        if held:
            await commit(self._consumer, held)  # else the next one does
            self._committed |= held

    def _count(self, batch: Translated) -> None:
        for topic, events in batch.events:
            telemetry.EVENTS_PRODUCED.labels(topic).inc(len(events))
        for one in batch.letters:
            telemetry.DEAD_LETTERS.labels(one.code).inc()
        telemetry.BATCHES.labels("receiver").inc()

    async def _sample(self) -> None:
        sampler = Sampler(marks_rest=0.0)
        while True:
            if self._turned:
                assigned = self._consumer.assignment()
                for gone in self._committed.keys() - assigned:
                    del self._committed[gone]  # its new holder goes on
                places = [await self._place(held) for held in assigned]
                self._facts = sampler.sample(
                    places, self._turned, time.monotonic(), time.time_ns() // 1_000_000
                )
            await asyncio.sleep(_SAMPLE_S)

    async def _place(self, held: TopicPartition) -> PartitionPosition:
        position = self._committed.get(held)
        try:
            if position is None:
                async with asyncio.timeout(2):
                    position = await self._consumer.committed(held)
                    if position is None:
                        position = await self._consumer.position(held)
                position = self._committed.setdefault(held, position)
            end, heard = self._consumer.highwater(held), self._consumer.last_poll_timestamp(held)
        except (KafkaError, TimeoutError, IllegalStateError, AssertionError):
            return PartitionPosition(
                held.topic, held.partition, None, None
            )  # a rebalance has taken it away
        return PartitionPosition(held.topic, held.partition, position, end, heard)


def run_receiver(kafka: KafkaConfig, config: ReceiverConfig, policy: Policy) -> None:
    """Run a receiver until SIGTERM or SIGINT; raises as `OtlpKafkaReceiver.run` does."""
    asyncio.run(_run(kafka, config, policy))


async def _run(kafka: KafkaConfig, config: ReceiverConfig, policy: Policy) -> None:
    receiver = OtlpKafkaReceiver(kafka, config, policy)
    if config.health_port is not None:
        probes.serve(config.health_port, "receiver", receiver.verdict, config.health_host)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, receiver.stop)
    await receiver.run()
