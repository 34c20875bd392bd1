"""The raw sink: records of the events topic become rows, exactly the lines that arrived.

A Faust service that owns its consumer, because only then are the acknowledgements ours. For each
batch, in this order and never another:

1. names are decided on, then the rows of ``events`` and ``evaluations`` are stored,
2. Kafka acknowledges the dirty marks,
3. dead letters are stored and acknowledged by Kafka,
4. the ledger rows and how far the marks reach are stored,
5. the offsets are committed.

A crash at any point repeats the batch, and every one of these writes collapses with its repeat.
While one batch is being stored the next is decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
)
from mode import Service

from ingest import telemetry
from ingest.codec import CANONICAL_HEADER, Decoded, concat, decode
from ingest.errors import DriftlineError, Rejected, Unavailable
from ingest.events import DEAD_LETTERS_TOPIC, DIRTY_TOPIC, EVENTS_TOPIC
from ingest.kafka import FETCH_MAX_WAIT_MS, KafkaConfig
from ingest.sampling import Place
from processors import marks, rows, watermarks
from processors.letters import Kept, LettersConfig, kept_of, original_rows
from processors.names import Names, NamesConfig
from processors.quality import MAX_BAD_LINES, WINDOW_LINES, BadLines
from processors.retry import until_done
from processors.store import Store

log = logging.getLogger(__name__)

GROUP: Final = "driftline-sink"
_REPORT_SECONDS: Final = 0.5
_HEARTBEAT_SECONDS: Final = 10.0
_FRESH_SECONDS: Final = 2.0
_PIECE_BYTES: Final = 8 << 20
_BEGIN_SECONDS: Final = 3.0  # while partitions are handed out everyone waits
_RECORD_BYTES: Final = 1 << 20  # what a record is expected to have before one was seen


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """How the sink batches.

    Larger blocks cost ClickHouse less per row; ``linger`` bounds how long a quiet topic waits.
    ``session_timeout`` is how long a dead worker's partitions stay unread.
    """

    batch_bytes: int = 48 << 20
    linger: float = 0.2
    session_timeout: float = 10.0
    names: NamesConfig = field(default_factory=NamesConfig)
    letters: LettersConfig = field(default_factory=LettersConfig)


@dataclass(slots=True)
class Batch:
    """Records of one or more partitions on their way to the store.

    ``commits`` are the offsets after them, ``newest`` is the timestamp of the last one, ms.
    """

    decoded: Decoded
    partitions: np.ndarray[Any, np.dtype[np.uint32]]
    offsets: np.ndarray[Any, np.dtype[np.uint64]]
    commits: dict[TopicPartition, int]
    kept: Kept
    size: int
    newest: int

    @classmethod
    def of(cls, pieces: list[Batch]) -> Batch:
        """Several pieces, in the order in which they were read, as one."""
        commits: dict[TopicPartition, int] = {}
        for piece in pieces:
            commits |= piece.commits
        return cls(
            concat([p.decoded for p in pieces]),
            np.concatenate([p.partitions for p in pieces]),
            np.concatenate([p.offsets for p in pieces]),
            commits,
            Kept(
                pl.concat([p.kept.columns for p in pieces]),
                [original for p in pieces for original in p.kept.originals],
            ),
            sum(p.size for p in pieces),
            max(p.newest for p in pieces),
        )


@dataclass(slots=True)
class _Place:
    """How far one partition has come.

    Offsets: where reading ``begun``, the next that is ``expected``, the next to be ``stored``.
    ``read`` is the timestamp of the last record, ms.
    ``watermark`` is event time in ns; ``advanced`` is when rows were last stored.
    """

    begun: int | None = None
    expected: int | None = None
    stored: int | None = None
    read: int = 0
    watermark: int = 0
    # A partition that is new to us counts as moving, until it is known not to.
    advanced: datetime = field(default_factory=lambda: datetime.now(UTC))
    bad: BadLines = field(default_factory=BadLines)


class _Places(defaultdict[TopicPartition, _Place], ConsumerRebalanceListener):  # type: ignore[misc]
    """The partitions that are ours; what moves away is forgotten, for others move it on."""

    def __init__(self, begin: Callable[[TopicPartition], Awaitable[None]]) -> None:
        super().__init__(_Place)
        self._begin = begin

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget them; a batch on its way is stored all the same, and collapses."""
        for partition in revoked:
            self.pop(partition, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Go to where reading has to begin, before anything is fetched."""
        for partition in assigned:
            await self._begin(partition)


class Sink(Service):  # type: ignore[misc]
    """Consume events, store them, mark what they change, commit.

    ``caught_up`` is set while what is stored is fresh, and clear while a backlog is worked off.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        store: Store,
        config: SinkConfig,
        fatal: Callable[[DriftlineError], None],
        incarnation: Callable[[], str],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._kafka = kafka
        self._store = store
        self._config = config
        self._names = Names(store, config.names)
        self._fatal = fatal
        self._incarnation = incarnation
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(maxsize=1)
        self._places = _Places(self._begin)
        self._consumer: AIOKafkaConsumer = None
        self._producer: AIOKafkaProducer = None
        self._connected = asyncio.Event()
        self._record_bytes = _RECORD_BYTES
        self._reported = self._beaten = 0.0
        self._marked: list[int] = [0]
        self.caught_up = asyncio.Event()
        self._caught_up_at = 0.0
        self.turned: dict[str, float] = {}
        """When each loop last went round, for `processors.health`; empty until connected."""

    def places(self) -> Iterator[Place]:
        """Where every partition that is held stands, without waiting for anything."""
        for held in self._consumer.assignment():
            stored, heard = self._places[held].stored, self._consumer.last_poll_timestamp(held)
            yield Place(held.topic, held.partition, stored, self._end(held), heard)

    async def _connect(self) -> None:
        """Join the group and become able to produce."""
        timeout = int(self._config.session_timeout * 1000)
        self._consumer = AIOKafkaConsumer(
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=timeout,
            rebalance_timeout_ms=timeout,
            heartbeat_interval_ms=timeout // 4,
            # Of compressed bytes, which may be ten times as many when unpacked.
            fetch_max_bytes=4 << 20,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            max_poll_interval_ms=600_000,
            **self._kafka.client_options(),
        )
        self._producer = AIOKafkaProducer(
            acks="all", max_request_size=8 << 20, **self._kafka.client_options()
        )
        await self._producer.start()
        self._marked = [0] * len(await self._producer.partitions_for(DIRTY_TOPIC))
        self._consumer.subscribe([EVENTS_TOPIC], listener=self._places)
        await self._consumer.start()
        self._connected.set()

    async def on_stop(self) -> None:
        """Leave the group, so that another worker takes over at once."""
        for client in (self._consumer, self._producer):
            if client is None:
                continue
            with contextlib.suppress(KafkaError, asyncio.TimeoutError):
                await asyncio.wait_for(client.stop(), 10)

    @Service.task  # type: ignore[untyped-decorator]
    async def _read(self) -> None:
        # Here rather than in on_start, so that the services after this one need not wait for the
        # group; Faust's own has been joined by then.
        await self._connect()
        pieces: list[Batch] = []
        while not self.should_stop:
            self.turned["read"] = time.monotonic()
            records, more = await self._gather()
            if records and not self._is_fresh(_newest(records), _after(records)):
                self.caught_up.clear()
            elif not records and self._is_fresh(0, {}):
                self._catch_up()
            if records:
                try:
                    pieces.append(await asyncio.to_thread(self._decode, records))
                except Rejected as error:
                    self._fatal(error)
                    return
            full = sum(piece.size for piece in pieces) >= self._config.batch_bytes
            if pieces and (full or not more):
                await self._queue.put(Batch.of(pieces))
                pieces = []

    @Service.task  # type: ignore[untyped-decorator]
    async def _write(self) -> None:
        await self._connected.wait()
        while not self.should_stop:
            self.turned["write"] = time.monotonic()
            try:
                batch = await asyncio.wait_for(self._queue.get(), 1.0)
            except TimeoutError:
                continue
            await self._deliver(batch)
            # Only now: what is computed before the last rows are stored is computed twice.
            if self._is_fresh(batch.newest, batch.commits):
                self._catch_up()

    def _is_fresh(self, newest: int, after: Mapping[TopicPartition, int]) -> bool:
        """Whether a record of that time, ms, is news, or nothing waits after the offsets given.

        Of partitions without one, after what is stored.
        """
        if time.time() - newest / 1000 < _FRESH_SECONDS:
            return True
        for partition in self._consumer.assignment():
            end = self._end(partition)
            if end is None or end > after.get(partition, self._places[partition].stored or 0):
                return False
        return True

    def _catch_up(self) -> None:
        if not self.caught_up.is_set():
            self._caught_up_at = time.monotonic()
            self.caught_up.set()

    def fresh_for(self) -> float:
        """For how many seconds what is stored has been fresh; 0 while a backlog is worked off."""
        return time.monotonic() - self._caught_up_at if self.caught_up.is_set() else 0.0

    async def _gather(self) -> tuple[dict[TopicPartition, list[ConsumerRecord]], bool]:
        """Fetch until a piece is full, which says that there is more, or has lingered.

        Large blocks cost ClickHouse less, small pieces keep little memory in undecoded records.
        """
        gathered: dict[TopicPartition, list[ConsumerRecord]] = {}
        size, deadline = 0, time.monotonic() + self._config.linger
        while size < min(_PIECE_BYTES, self._config.batch_bytes):
            wait = max(0.0, deadline - time.monotonic())
            fetched = await self._fetch(wait)
            for partition, records in fetched.items():
                await self._follow(partition, records[0].offset, records[-1].offset + 1)
                self._places[partition].read = records[-1].timestamp
                gathered.setdefault(partition, []).extend(records)
                sizes = [len(r.value or b"") for r in records]
                size += sum(sizes)
                self._record_bytes = max(1, *sizes)
            if not fetched or wait == 0.0:
                return gathered, False
        return gathered, True

    async def _fetch(self, wait: float) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Take records of the partition that is furthest behind, of those that have any.

        Blocks that overlap little in time are merged at half the cost, and event time waits less
        for its slowest partition. So many at once that they fit, for a fetch may unpack to hundreds
        of megabytes.
        """
        held = sorted(self._consumer.assignment(), key=lambda p: self._places[p].read)
        at_once = max(1, _PIECE_BYTES // max(1, len(held)) // self._record_bytes)
        for partition in held:
            found = await self._consumer.getmany(partition, max_records=at_once)
            if found:
                return found  # type: ignore[no-any-return]
        return await self._consumer.getmany(  # type: ignore[no-any-return]
            timeout_ms=int(wait * 1000), max_records=at_once
        )

    async def _begin(self, partition: TopicPartition) -> None:
        """Begin where the last commit says, but never after rows of this log that are missing.

        Offsets that were committed for a log of the same name and are still there after the topic
        was made again would skip its first records.
        """
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                committed = await self._consumer.committed(partition)
                first = (await self._consumer.beginning_offsets([partition]))[partition]
                known = await asyncio.to_thread(
                    watermarks.ledger_end, self._store, self._kafka.log_id, partition.partition
                )
        except (TimeoutError, KafkaError, Unavailable) as error:
            log.warning("%s: reading begins with the last commit (%s)", partition, error)
            return
        begun = max(first, min(committed or 0, known))
        self._places[partition].begun = self._places[partition].expected = begun
        self._consumer.seek(partition, begun)

    async def _follow(self, partition: TopicPartition, first: int, after: int) -> None:
        """Notice records that Kafka deleted before they were read, and a log that began anew."""
        place = self._places[partition]
        expected, place.expected = place.expected, after
        if expected is None or first == expected:
            return
        if first < expected:
            await self._check_incarnation()
            return
        available = (await self._consumer.beginning_offsets([partition]))[partition]
        if available > expected:  # else transactions took the offsets between
            log.error(
                "%s partition %s: records %s to %s were deleted before they were read, see"
                " `driftline accounting`; keep records for longer or add workers",
                partition.topic, partition.partition, expected, available - 1,
            )  # fmt: skip

    async def _check_incarnation(self) -> None:
        """End when the topic is another one than at start: its offsets begin anew."""
        try:
            now = await asyncio.to_thread(self._incarnation)
        except Unavailable:
            return
        if now != self._kafka.log_id:
            self._fatal(
                Unavailable(
                    f"topic {EVENTS_TOPIC} was deleted and made again;"
                    " the worker has to be started again to read it from its beginning"
                )
            )

    def _decode(self, fetched: dict[TopicPartition, list[ConsumerRecord]]) -> Batch:
        records = [r for part in fetched.values() for r in part]
        decoded = decode(
            [r.value for r in records],
            [r.timestamp * 1_000_000 for r in records],
            [CANONICAL_HEADER in r.headers for r in records],
        )
        self._check_quality(fetched, decoded)
        return Batch(
            decoded,
            np.array([r.partition for r in records], dtype=np.uint32),
            np.array([r.offset for r in records], dtype=np.uint64),
            _after(fetched),
            kept_of([r.value for r in records], decoded.rejections, self._config.letters),
            sum(len(r.value or b"") for r in records),
            _newest(fetched),
        )

    def _check_quality(
        self, fetched: dict[TopicPartition, list[ConsumerRecord]], decoded: Decoded
    ) -> None:
        starts = np.concatenate([[0], np.cumsum(decoded.lines)])
        flags = np.zeros(starts[-1], dtype=np.bool_)
        flags[[starts[r.record] + r.line for r in decoded.rejections]] = True
        record = 0
        for partition, part in fetched.items():
            lines = flags[starts[record] : starts[record + len(part)]]
            record += len(part)
            quality = self._places[partition].bad.update(lines)
            if quality.exceeded:
                codes = sorted({str(r.code) for r in decoded.rejections})
                raise Rejected(
                    "too_many_bad_lines",
                    f"{quality.worst} of {WINDOW_LINES} lines in a row on {partition.topic} "
                    f"partition {partition.partition} up to offset {part[-1].offset} are no events "
                    f"({', '.join(codes)}; at most {MAX_BAD_LINES}). Nothing of this batch was "
                    "taken. Stop the producer that sends them, then start the worker again",
                )

    async def _deliver(self, batch: Batch) -> None:
        decoded = batch.decoded
        where = (self._kafka.log_id, EVENTS_TOPIC, batch.partitions, batch.offsets)
        events = rows.event_rows(decoded, where[0], batch.partitions, batch.offsets)
        late = rows.is_late(events, self._watermarks_of(events))
        ledger = rows.ledger_rows(decoded, *where, late)
        await until_done(lambda: asyncio.to_thread(self._names.admit, events))
        await self._insert("events", events)
        await self._insert("evaluations", rows.evaluation_rows(events))
        await self._produce_marks(events)
        if decoded.rejections:
            letters = rows.dead_letter_rows(decoded, *where).hstack(batch.kept.columns)
            if batch.kept.originals:
                hours = self._config.letters.originals_hours
                originals = original_rows(letters, batch.kept.originals, hours)
                await self._insert("dead_letter_originals", originals)
            await self._insert("dead_letters", letters)
            await self._produce_dead_letters(letters)
        # Whoever reads on after a crash must know of these marks; nothing says so after the commit.
        progress = await self._progress()
        await asyncio.gather(self._insert("ledger", ledger), self._insert("watermarks", progress))
        self._reported = time.monotonic()
        await self._commit(batch.commits)
        self._advance(events, batch.commits)
        telemetry.ROWS_STORED.inc(len(events))
        telemetry.BATCHES.labels("sink").inc()
        for rejection in decoded.rejections:
            telemetry.DEAD_LETTERS.labels(str(rejection.code)).inc()

    async def _insert(self, table: str, frame: pl.DataFrame) -> None:
        await until_done(lambda: asyncio.to_thread(self._store.insert, table, frame))

    async def _produce_dead_letters(self, letters: pl.DataFrame) -> None:
        values = [msgspec.json.encode(row) for row in letters.iter_rows(named=True)]
        await until_done(lambda: self._send(DEAD_LETTERS_TOPIC, [(None, v) for v in values]))

    async def _produce_marks(self, events: pl.DataFrame) -> None:
        packed = list(marks.pack(marks.dirty_cells(events), len(self._marked)))
        await until_done(lambda: self._send(DIRTY_TOPIC, packed))

    async def _send(self, topic: str, values: Iterable[tuple[int | None, bytes]]) -> None:
        pending = [
            await self._producer.send(topic, value, partition=partition)
            for partition, value in values
        ]
        for metadata in await asyncio.gather(*pending):
            if topic == DIRTY_TOPIC:
                at = metadata.partition
                self._marked[at] = max(self._marked[at], metadata.offset + 1)

    async def _commit(self, commits: dict[TopicPartition, int]) -> None:
        held = {p: o for p, o in commits.items() if p in self._consumer.assignment()}
        if not held:
            return
        try:
            await self._consumer.commit(held)
        except (CommitFailedError, IllegalStateError) as error:
            # Another worker owns them now and will read the batch again; its rows collapse.
            log.info("offsets not committed, partitions moved: %s", error)
        except KafkaError as error:
            log.warning("offsets not committed, the next commit will: %s", error)

    def _watermarks_of(self, events: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        known = {p.partition: place.watermark for p, place in self._places.items()}
        partitions, where = np.unique(events["partition"].to_numpy(), return_inverse=True)
        table = np.array([known.get(int(p), 0) for p in partitions], dtype=np.int64)
        found: np.ndarray[Any, np.dtype[np.int64]] = table[where]
        return found

    def _advance(self, events: pl.DataFrame, commits: dict[TopicPartition, int]) -> None:
        latest = dict(
            events.group_by("partition").agg(pl.col("time").max().to_physical()).iter_rows()
        )
        for partition in commits.keys() & self._consumer.assignment():
            place = self._places[partition]
            place.watermark = max(place.watermark, latest.get(partition.partition, 0))
            place.stored = commits[partition]
            place.advanced = datetime.now(UTC)

    @Service.task  # type: ignore[untyped-decorator]
    async def _report(self) -> None:
        """Say all the time how far event time has come and what still waits."""
        await self._connected.wait()
        while not self.should_stop:
            await self.sleep(_REPORT_SECONDS)
            with contextlib.suppress(Unavailable):
                # Every batch says it as well, before its offsets are committed.
                if time.monotonic() - self._reported > _REPORT_SECONDS:
                    rows = await self._progress()
                    await asyncio.to_thread(self._store.insert, "watermarks", rows)
                await self._beat()

    async def _beat(self) -> None:
        """Give a sign of life, for the rule that watches for its absence."""
        if time.monotonic() - self._beaten < _HEARTBEAT_SECONDS:
            return
        self._beaten = time.monotonic()
        await self._check_incarnation()
        beat = pl.DataFrame(
            {
                "ts": [datetime.now(UTC)],
                "component": ["processors"],
                "instance": [f"{socket.gethostname()}:{os.getpid()}"],
                "detail": [f"{len(self._consumer.assignment())} partitions"],
            },
            schema_overrides={"ts": pl.Datetime("ms", "UTC")},
        )
        await asyncio.to_thread(self._store.insert, "heartbeats", beat)

    async def _progress(self) -> pl.DataFrame:
        found = []
        for partition in self._consumer.assignment():
            place = self._places[partition]
            if place.stored is None:
                await self._resume(partition, place)
            end = self._end(partition)
            if end is None or place.stored is None:
                continue  # nothing fetched yet: to claim no lag would be a guess
            lag = max(0, end - place.stored)
            found.append(
                (
                    self._kafka.log_id, *partition, place.watermark, place.stored, lag,
                    list(self._marked), place.advanced, datetime.now(UTC),
                )
            )  # fmt: skip
        return pl.DataFrame(found, orient="row", schema=watermarks.SCHEMA)

    def _end(self, partition: TopicPartition) -> int | None:
        """Offset after the last record; None when not known, or when a rebalance took it away."""
        held = partition in self._consumer.assignment()
        return self._consumer.highwater(partition) if held else None

    async def _resume(self, partition: TopicPartition, place: _Place) -> None:
        """Learn where whoever read the partition before has left it."""
        with contextlib.suppress(asyncio.TimeoutError, KafkaError, Unavailable):
            async with asyncio.timeout(2):
                stored = place.begun
                if stored is None:
                    stored = await self._consumer.committed(partition)
                if stored is None:
                    stored = (await self._consumer.beginning_offsets([partition]))[partition]
                last = await asyncio.to_thread(
                    watermarks.last_report, self._store, self._kafka.log_id, partition.partition
                )
            if place.stored is None:  # nothing was stored meanwhile
                place.stored = stored
            place.watermark = max(place.watermark, last.watermark)
            # Its marks may still wait to be worked off.
            self._marked = [
                max(pair) for pair in zip_longest(self._marked, last.marked, fillvalue=0)
            ]


def _after(fetched: dict[TopicPartition, list[ConsumerRecord]]) -> dict[TopicPartition, int]:
    return {partition: part[-1].offset + 1 for partition, part in fetched.items()}


def _newest(fetched: dict[TopicPartition, list[ConsumerRecord]]) -> int:
    return max(int(part[-1].timestamp) for part in fetched.values())
