"""The raw sink: records of the events topic become rows, exactly the lines that arrived.

A Faust service with a `processors.consumer.EventConsumer` of its own, because only then are the
acknowledgements ours. For each batch, in this order and never another:

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
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import zip_longest
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from ingest.codec import CANONICAL_HEADER, Decoded, concat, decode
from ingest.core import telemetry
from ingest.core.circuit_breaker import MAX_BAD_LINES, WINDOW_LINES
from ingest.core.errors import DriftlineError, Unavailable
from ingest.core.events import DEAD_LETTERS_TOPIC, DIRTY_TOPIC, EVENTS_TOPIC
from ingest.core.health.sampler import PartitionPosition
from ingest.core.kafka import KafkaConfig
from ingest.core.log_consumer import Records
from ingest.core.retry import until_done
from processors.clickhouse import Store
from processors.consumer import EventConsumer, OffsetRange
from processors.derive import dirty_marks, sealing
from processors.keeping import KnownHorizons
from processors.partition_state import PartitionState, Progress
from processors.write import rows
from processors.write.cardinality import CardinalityConfig, CardinalityLimiter
from processors.write.dead_letters import (
    DeadLettersConfig,
    Kept,
    kept_of,
    original_rows,
    refuse_expired,
)
from processors.write.erased import Tombstones

_REPORT_SECONDS: Final = 0.5
_QUIET_REPORT_SECONDS: Final = 8.0  # while nothing moves; below `sealing._FRESH_NS`
_QUIET_AFTER: Final = timedelta(seconds=5)
_HEARTBEAT_SECONDS: Final = 10.0
_DELIVERED_SECONDS: Final = 5.0
_PIECE_BYTES: Final = 8 << 20  # small pieces keep little memory in undecoded records


@dataclass(frozen=True, slots=True)
class EventWriterConfig:
    """How the sink batches.

    Larger blocks cost ClickHouse less per row; ``linger`` bounds how long a quiet topic waits.
    ``session_timeout`` is how long a dead worker's partitions stay unread.
    ``erasing_key`` makes the pseudonyms of people who were erased.
    """

    batch_bytes: int = 48 << 20
    linger: float = 0.4
    session_timeout: float = 10.0
    names: CardinalityConfig = field(default_factory=CardinalityConfig)
    letters: DeadLettersConfig = field(default_factory=DeadLettersConfig)
    erasing_key: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Batch:
    """Records of one or more partitions on their way to the store.

    ``gaps`` are offsets before and between them that have no record, ``commits`` those after them,
    ``newest`` is the timestamp of the last one, ms.
    """

    decoded: Decoded
    partitions: np.ndarray[Any, np.dtype[np.uint32]]
    offsets: np.ndarray[Any, np.dtype[np.uint64]]
    gaps: list[OffsetRange]
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
            [gap for p in pieces for gap in p.gaps],
            commits,
            Kept(
                pl.concat([p.kept.columns for p in pieces]),
                [original for p in pieces for original in p.kept.originals],
            ),
            sum(p.size for p in pieces),
            max(p.newest for p in pieces),
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a batch has come: offsets after it, and per partition its latest event time, ns."""

    commits: dict[TopicPartition, int]
    latest: dict[int, int]

    def by(self, partition: TopicPartition, place: PartitionState) -> Progress:
        """How far a partition has come with this batch."""
        if partition not in self.commits:
            return place.progress
        latest = self.latest.get(partition.partition, 0)
        return place.after(self.commits[partition], latest, datetime.now(UTC))


class EventWriter(Service):  # type: ignore[misc]
    """Consume events, store them, mark what they change, commit.

    ``caught_up`` is set while what is stored is fresh, and clear while a backlog is worked off.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        store: Store,
        config: EventWriterConfig,
        fatal: Callable[[DriftlineError], None],
        incarnation: Callable[[], str],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._kafka = kafka
        self._store = store
        self._config = config
        self._names = CardinalityLimiter(store, config.names)
        self._horizons = KnownHorizons(store)
        self._tombstones = Tombstones(store, config.erasing_key)
        self._fatal = fatal
        self._reader = EventConsumer(
            kafka,
            store,
            min(_PIECE_BYTES, config.batch_bytes),
            config.linger,
            config.session_timeout,
            fatal,
            incarnation,
        )
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(maxsize=1)
        self._producer: AIOKafkaProducer = None
        self._connecting: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._delivered = asyncio.Event()
        self._delivered.set()
        self._reported = self._beaten = 0.0
        self._marked: list[int] = [0]
        self.caught_up = asyncio.Event()
        self._caught_up_at = 0.0
        self.loop_last_seen: dict[str, float] = {}
        """When each loop last went round, for `processors.health`; empty until connected."""

    def places(self) -> Iterator[PartitionPosition]:
        """Where every partition that is held stands, without waiting for anything."""
        return self._reader.places()

    def join(self) -> None:
        """Begin to join the group, before the service starts."""
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        """Join the group and become able to produce."""
        self._producer = AIOKafkaProducer(
            acks="all", max_request_size=8 << 20, **self._kafka.client_options()
        )
        await self._producer.start()
        self._marked = [0] * len(await self._producer.partitions_for(DIRTY_TOPIC))
        await self._reader.connect()
        self._connected.set()

    async def on_stop(self) -> None:
        """Leave the group, so that another worker takes over at once.

        After what is being stored is booked, for of an embedded broker nobody reads it again.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._delivered.wait(), _DELIVERED_SECONDS)
        await self._reader.stop()
        if self._producer is not None:
            with contextlib.suppress(KafkaError, asyncio.TimeoutError):
                await asyncio.wait_for(self._producer.stop(), 10)

    @Service.task  # type: ignore[untyped-decorator]
    async def _read(self) -> None:
        # Here rather than in on_start, so that the services after this one need not wait for the
        # group.
        await (self._connecting or self._connect())
        pieces: list[Batch] = []
        while not self.should_stop:
            self.loop_last_seen["read"] = time.monotonic()
            records, gaps, more = await self._reader.poll_batch()
            if records and not self._reader.is_fresh(_newest(records), _after(records)):
                self.caught_up.clear()
            elif not records and self._reader.is_fresh(0, {}):
                self._catch_up()
            if records:
                batch, parked = await asyncio.to_thread(self._decode, records, gaps)
                for partition, (offset, why) in parked.items():
                    self._reader.park(partition, offset, why)
                pieces += [batch] if batch is not None else []
            full = sum(piece.size for piece in pieces) >= self._config.batch_bytes
            if pieces and (full or not more):
                await self._queue.put(Batch.of(pieces))
                pieces = []

    @Service.task  # type: ignore[untyped-decorator]
    async def _write(self) -> None:
        await self._connected.wait()
        while not self.should_stop:
            self.loop_last_seen["write"] = time.monotonic()
            try:
                batch = await asyncio.wait_for(self._queue.get(), 1.0)
            except TimeoutError:
                await self._commit_again()
                continue
            self._delivered.clear()
            try:
                await self._deliver(batch)
            finally:
                self._delivered.set()
            # Only now: what is computed before the last rows are stored is computed twice.
            if self._reader.is_fresh(batch.newest, batch.commits):
                self._catch_up()

    async def _commit_again(self) -> None:
        """Commit what could not be committed before, and offsets without a record."""
        passed = self._reader.passed()
        commits = self._reader.after(passed)
        if passed:
            await self._insert("ledger", self._empty_rows(passed))
        await self._reader.commit(commits)

    async def tell(self, topic: str, key: str, value: bytes) -> None:
        """Produce one message; returns when Kafka has it.

        Raises
        ------
        Unavailable
            When Kafka is away.
        """
        await self._connected.wait()
        try:
            await self._producer.send_and_wait(topic, value, key=key.encode())
        except KafkaError as error:
            raise Unavailable(f"Kafka at {self._kafka.bootstrap_servers}: {error!r}") from error

    def _catch_up(self) -> None:
        if not self.caught_up.is_set():
            self._caught_up_at = time.monotonic()
            self.caught_up.set()

    @property
    def dirty_partitions(self) -> int:
        """Partitions of the dirty topic; 0 before Kafka has said."""
        return len(self._marked)

    def fresh_for(self) -> float:
        """For how many seconds what is stored has been fresh; 0 while a backlog is worked off."""
        return time.monotonic() - self._caught_up_at if self.caught_up.is_set() else 0.0

    def _decode(
        self, fetched: Records, gaps: list[OffsetRange]
    ) -> tuple[Batch | None, dict[TopicPartition, tuple[int, str]]]:
        """The records but for those of partitions to be parked, and these: from where, and why."""
        decoded = _decoded(fetched)
        bad = self._with_too_many_bad_lines(fetched, decoded)
        if bad:
            fetched = {p: part for p, part in fetched.items() if p not in bad}
            # What lies before is not told again.
            gaps = [g for g in gaps if g.partition not in bad or g.first < bad[g.partition][0]]
            if not fetched:
                return None, bad
            decoded = _decoded(fetched)
        return self._batch(fetched, gaps, decoded), bad

    def _batch(self, fetched: Records, gaps: list[OffsetRange], decoded: Decoded) -> Batch:
        records = [r for part in fetched.values() for r in part]
        values = [r.value for r in records]
        kept = kept_of(values, decoded.rejections, self._config.letters)
        # Only now: what is too old is no sign of a broken sender.
        horizons = self._horizons.refresh()
        decoded, kept = refuse_expired(decoded, kept, horizons.expired(decoded.frame), values)
        return Batch(
            decoded,
            np.array([r.partition for r in records], dtype=np.uint32),
            np.array([r.offset for r in records], dtype=np.uint64),
            gaps,
            _after(fetched),
            kept,
            sum(len(r.value or b"") for r in records),
            _newest(fetched),
        )

    def _with_too_many_bad_lines(
        self, fetched: Records, decoded: Decoded
    ) -> dict[TopicPartition, tuple[int, str]]:
        starts = np.concatenate([[0], np.cumsum(decoded.lines)])
        flags = np.zeros(starts[-1], dtype=np.bool_)
        flags[[starts[r.record] + r.line for r in decoded.rejections]] = True
        record, found = 0, {}
        for partition, part in fetched.items():
            lines = flags[starts[record] : starts[record + len(part)]]
            record += len(part)
            place = self._reader.held.get(partition, PartitionState())
            if part[0].offset < place.released:
                continue
            quality = place.bad.update(lines)
            if quality.exceeded:
                codes = sorted({str(r.code) for r in decoded.rejections})
                found[partition] = (
                    part[0].offset,
                    (
                        f"too_many_bad_lines: {quality.worst} of {WINDOW_LINES} lines in a row on"
                        f" {partition.topic} partition {partition.partition} from offset"
                        f" {part[0].offset} to {part[-1].offset} are no events ({', '.join(codes)};"
                        f" at most {MAX_BAD_LINES}). It is not read on; other partitions are. Stop"
                        f" what sends them, then `driftline deadletters take"
                        f" {partition.partition}` makes dead letters of them"
                    ),
                )
        return found

    async def _deliver(self, batch: Batch) -> None:
        decoded = batch.decoded
        where = (self._kafka.log_id, EVENTS_TOPIC, batch.partitions, batch.offsets)
        events = rows.event_rows(decoded, where[0], batch.partitions, batch.offsets)
        late = rows.is_late(events, self._watermarks_of(events))
        ledger = rows.ledger_rows(decoded, *where, late)
        passed = self._reader.passed()
        commits = self._reader.after(passed) | batch.commits
        books = pl.concat([ledger, self._empty_rows(batch.gaps + passed)])
        events = await until_done(partial(asyncio.to_thread, self._tombstones.apply, events))
        await until_done(lambda: asyncio.to_thread(self._names.admit, events))
        await self._insert("events", events)
        await self._insert("evaluations", rows.evaluation_rows(events))
        await self._produce_marks(events)
        if decoded.rejections:
            letters = rows.dead_letter_rows(decoded, *where).hstack(batch.kept.columns)
            letters, originals = await until_done(
                partial(asyncio.to_thread, self._tombstones.clear, letters, batch.kept.originals)
            )
            if any(original is not None for original in originals):
                hours = self._config.letters.originals_hours
                await self._insert(
                    "dead_letter_originals", original_rows(letters, originals, hours)
                )
            await self._insert("dead_letters", letters)
            await self._produce_dead_letters(letters)
        # The next reader after a crash must know of these marks; nothing says so after the commit.
        reached = Checkpoint(batch.commits, _latest(events))
        progress = self._progress(reached)
        await asyncio.gather(self._insert("ledger", books), self._insert("watermarks", progress))
        self._reported = time.monotonic()
        await self._reader.commit(commits)
        self._advance(reached)
        telemetry.ROWS_STORED.inc(len(events))
        telemetry.BATCHES.labels("sink").inc()
        for rejection in decoded.rejections:
            telemetry.DEAD_LETTERS.labels(str(rejection.code)).inc()

    def _empty_rows(self, gaps: list[OffsetRange]) -> pl.DataFrame:
        places = [(gap.partition.partition, gap.first, gap.after) for gap in gaps]
        return rows.empty_rows(places, self._kafka.log_id, EVENTS_TOPIC)

    async def _insert(self, table: str, frame: pl.DataFrame) -> None:
        await until_done(lambda: asyncio.to_thread(self._store.insert, table, frame))

    async def _produce_dead_letters(self, letters: pl.DataFrame) -> None:
        values = [msgspec.json.encode(row) for row in letters.iter_rows(named=True)]
        await until_done(lambda: self._send(DEAD_LETTERS_TOPIC, [(None, v) for v in values]))

    async def _produce_marks(self, events: pl.DataFrame) -> None:
        # As many as the producer knows of; who reports may know of more already.
        partitions = len(await self._producer.partitions_for(DIRTY_TOPIC))
        self._marked += [0] * (partitions - len(self._marked))
        packed = list(dirty_marks.pack(dirty_marks.dirty_cells(events), partitions))
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

    def _watermarks_of(self, events: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        known = {p.partition: place.watermark for p, place in self._reader.held.items()}
        partitions, where = np.unique(events["partition"].to_numpy(), return_inverse=True)
        table = np.array([known.get(int(p), 0) for p in partitions], dtype=np.int64)
        found: np.ndarray[Any, np.dtype[np.int64]] = table[where]
        return found

    def _advance(self, reached: Checkpoint) -> None:
        for partition in reached.commits:
            place = self._reader.held.get(partition)
            if place is not None:  # else it has moved meanwhile
                place.store(reached.by(partition, place))

    @Service.task  # type: ignore[untyped-decorator]
    async def _report(self) -> None:
        """Say all the time how far event time has come and what still waits."""
        await self._connected.wait()
        while not self.should_stop:
            await self.sleep(_REPORT_SECONDS)
            with contextlib.suppress(Unavailable):
                # Every batch says it as well, before its offsets are committed.
                every = _QUIET_REPORT_SECONDS if self._is_quiet() else _REPORT_SECONDS
                if time.monotonic() - self._reported > every:
                    self._reported = time.monotonic()
                    rows = self._progress()
                    await asyncio.to_thread(self._store.insert, "watermarks", rows)
                await self._release()
                await self._beat()

    async def _release(self) -> None:
        """Read on parked partitions that somebody released."""
        parked = {p.partition: place for p, place in self._reader.held.items() if place.parked}
        if not parked:
            return
        found = await asyncio.to_thread(
            self._store.query,
            "SELECT partition, max(until) AS until FROM released_partitions"
            " WHERE log_id = {log_id:String} GROUP BY partition",
            {"log_id": self._kafka.log_id},
        )
        for partition, until in found.iter_rows():
            if partition in parked:
                parked[partition].release(until)

    def _is_quiet(self) -> bool:
        """Whether no partition has moved for a while: rows would only say the same again."""
        moved = (place.advanced for place in self._reader.held.values())
        return datetime.now(UTC) - max(moved, default=datetime.now(UTC)) > _QUIET_AFTER

    async def _beat(self) -> None:
        """Give a sign of life, for the rule that watches for its absence."""
        if time.monotonic() - self._beaten < _HEARTBEAT_SECONDS:
            return
        self._beaten = time.monotonic()
        await self._reader.check_incarnation()
        await self._reader.ask_again()
        beat = pl.DataFrame(
            {
                "ts": [datetime.now(UTC)],
                "component": ["processors"],
                "instance": [f"{socket.gethostname()}:{os.getpid()}"],
                "detail": [f"{len(self._reader.assignment())} partitions"],
            },
            schema_overrides={"ts": pl.Datetime("ms", "UTC")},
        )
        await asyncio.to_thread(self._store.insert, "heartbeats", beat)

    def _progress(self, reached: Checkpoint | None = None) -> pl.DataFrame:
        """Rows of ``watermarks`` for what is stored, perhaps with a batch that just was."""
        reached = reached or Checkpoint({}, {})
        held = dict(self._reader.held)
        marked = [place.marked for place in held.values()]
        self._marked = [max(some) for some in zip_longest(self._marked, *marked, fillvalue=0)]
        found = []
        for partition, place in held.items():
            heard, end = self._reader.heard(partition), self._reader.end(partition)
            if end is None or place.stored is None:
                continue  # nothing fetched yet: to claim no lag would be a guess
            watermark, stored, advanced = reached.by(partition, place)
            lag = max(0, end - stored)
            found.append(
                (
                    self._kafka.log_id, *partition, watermark, stored, lag,
                    list(self._marked), advanced, datetime.now(UTC), int(bool(place.parked)), heard,
                )
            )  # fmt: skip
        schema = sealing.SCHEMA | {"parked": pl.UInt8(), "heard": pl.Datetime("ms", "UTC")}
        return pl.DataFrame(found, orient="row", schema=schema)


def _decoded(fetched: Records) -> Decoded:
    records = [r for part in fetched.values() for r in part]
    return decode(
        [r.value for r in records],
        [r.timestamp * 1_000_000 for r in records],
        [CANONICAL_HEADER in r.headers for r in records],
    )


def _after(fetched: Records) -> dict[TopicPartition, int]:
    return {partition: part[-1].offset + 1 for partition, part in fetched.items()}


def _latest(events: pl.DataFrame) -> dict[int, int]:
    return dict(events.group_by("partition").agg(pl.col("time").max().to_physical()).iter_rows())


def _newest(fetched: Records) -> int:
    return max(int(part[-1].timestamp) for part in fetched.values())
