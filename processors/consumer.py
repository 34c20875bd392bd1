"""Reads the events topic: which partitions are held, how far each has come, what is taken next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from ingest.core import log_consumer
from ingest.core.errors import DriftlineError, Unavailable
from ingest.core.events import EVENTS_TOPIC
from ingest.core.health.sampler import PartitionPosition
from ingest.core.kafka import KafkaConfig
from ingest.core.log_consumer import LogConsumer, Open, Records, open_consumer
from processors.clickhouse import Store
from processors.derive import sealing
from processors.partition_state import PartitionState, without

log = logging.getLogger(__name__)

GROUP: Final = "driftline-sink"
_FRESH_SECONDS: Final = 2.0
_BEGIN_SECONDS: Final = 5.0
_BEGIN_AGAIN_SECONDS: Final = 1.0
_REST_SECONDS: Final = 1.0
_RECORD_BYTES: Final = 1 << 20  # what a record is expected to have before one was seen


class OffsetRange(NamedTuple):
    """Offsets from ``first`` on, up to ``after``, that Kafka has no record for."""

    partition: TopicPartition
    first: int
    after: int


class EventConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer whose acknowledgements are ours alone.

    Parameters
    ----------
    kafka
        The cluster.
    store
        Where the books say what was read before.
    piece_bytes, linger
        How much is taken at a time, and how many seconds that waits to be filled.
    session_timeout
        How many seconds a dead worker's partitions stay unread.
    fatal
        Ends the process: the topic is another one than at start.
    incarnation
        Which log the topic is now.
    opened
        How the consumer is made.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        store: Store,
        piece_bytes: int,
        linger: float,
        session_timeout: float,
        fatal: Callable[[DriftlineError], None],
        incarnation: Callable[[], str],
        opened: Open = open_consumer,
    ) -> None:
        self._kafka = kafka
        self._store = store
        self._piece_bytes = piece_bytes
        self._linger = linger
        self._fatal = fatal
        self._incarnation = incarnation
        self._open = partial(
            opened, kafka, GROUP, [EVENTS_TOPIC], self, session_timeout=session_timeout
        )
        self._consumer: LogConsumer = None  # type: ignore[assignment]
        self._record_bytes = _RECORD_BYTES
        self._pending_commits: dict[TopicPartition, int] = {}
        self._skipped: list[OffsetRange] = []
        self._unverified: list[OffsetRange] = []
        self._begin_after = 0.0
        self._rest = 0.0  # how long the first record is waited for after a fetch that found none
        self.held: dict[TopicPartition, PartitionState] = {}
        """The partitions that are ours; what moves away is forgotten, for others move it on."""

    async def connect(self) -> None:
        """Join the group."""
        self._consumer = self._open()
        await self._consumer.start()

    async def stop(self) -> None:
        """Leave the group, so that another worker takes over at once."""
        await log_consumer.leave(self._consumer)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget them; a batch on its way is stored all the same, and collapses."""
        for partition in revoked:
            self.held.pop(partition, None)
            self._pending_commits.pop(partition, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Know nothing of them, whoever had them; nothing is taken before it has begun.

        Asking where to begin may take longer than a member of the group may be silent.
        """
        self.held |= {partition: PartitionState() for partition in assigned}
        self._begin_after = 0.0

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are ours now."""
        return set(self._consumer.assignment())

    def end(self, partition: TopicPartition) -> int | None:
        """Offset after the last record; None when not known, or when a rebalance took it away."""
        held = partition in self.assignment()
        return self._consumer.highwater(partition) if held else None

    def heard(self, partition: TopicPartition) -> datetime:
        """When `end` was last heard of; now for what is parked, which nobody waits for."""
        now, place = datetime.now(UTC), self.held.get(partition)
        if partition not in self.assignment() or (place is not None and place.parked):
            return now
        at = self._consumer.last_poll_timestamp(partition) or 0
        return min(now, datetime.fromtimestamp(at / 1000, UTC))

    def places(self) -> Iterator[PartitionPosition]:
        """Where every partition that is held stands, without waiting for anything."""
        for held in self.assignment():
            stored, heard = self._stored(held), self._consumer.last_poll_timestamp(held)
            parked = self.held[held].parked if held in self.held else ""
            yield PartitionPosition(
                held.topic, held.partition, stored, self.end(held), heard, parked
            )

    def _stored(self, partition: TopicPartition) -> int | None:
        place = self.held.get(partition)
        return None if place is None else place.stored

    def _begun(self) -> list[TopicPartition]:
        """Partitions that may be read, the one first that is furthest behind."""
        ours = self.assignment()
        begun = [p for p, place in self.held.items() if p in ours and place.begun is not None]
        return sorted(begun, key=lambda p: self.held[p].newest)

    def _readable(self) -> list[TopicPartition]:
        return [p for p in self._begun() if not self.held[p].parked]

    def park(self, partition: TopicPartition, offset: int, why: str) -> None:
        """Go back to an offset, and do not read on before the partition is released."""
        place = self.held.get(partition)
        if place is None or partition not in self.assignment():
            return  # it has moved meanwhile; who has it now will see the same
        place.park(offset, why)
        self._consumer.seek(partition, offset)
        log.error("%s partition %s is parked: %s", partition.topic, partition.partition, why)

    async def _poll(self, at_once: int, wait: float, *partitions: TopicPartition) -> Records:
        """Take records; partitions may move meanwhile, and are fetched again where they begin."""
        found = await self._consumer.getmany(
            *partitions, timeout_ms=int(wait * 1000), max_records=at_once
        )
        read = self._readable() if found else ()
        return {partition: records for partition, records in found.items() if partition in read}

    def is_fresh(self, newest: int, after: Mapping[TopicPartition, int]) -> bool:
        """Whether a record of that time, ms, is news, or nothing waits after the offsets given.

        Of partitions without one, after what is stored. What is parked does not wait to be read.
        """
        if time.time() - newest / 1000 < _FRESH_SECONDS:
            return True
        for partition in self.assignment():
            if partition in self.held and self.held[partition].parked:
                continue
            end = self.end(partition)
            if end is None or end > after.get(partition, self._stored(partition) or 0):
                return False
        return True

    async def poll_batch(self) -> tuple[Records, list[OffsetRange], bool]:
        """Fetch until a piece is full, which says that there is more, or has lingered.

        With the records come the offsets before and between them that have none.
        """
        gathered: Records = {}
        gaps: list[OffsetRange] = []
        size, deadline = 0, time.monotonic() + max(self._linger, self._rest)
        while size < self._piece_bytes:
            wait = max(0.0, deadline - time.monotonic())
            fetched = await self._fetch(wait)
            if fetched and not gathered:
                deadline = min(deadline, time.monotonic() + self._linger)
            for partition, records in fetched.items():
                gaps += await self._follow(partition, records)
                gathered.setdefault(partition, []).extend(records)
                sizes = [len(r.value or b"") for r in records]
                size += sum(sizes)
                self._record_bytes = max(1, *sizes)
            if not fetched or wait == 0.0:
                self._rest = 0.0 if gathered or not self._begun() else _REST_SECONDS
                return gathered, gaps, False
        self._rest = 0.0
        return gathered, gaps, True

    async def _fetch(self, wait: float) -> Records:
        """Take records of the partition that is furthest behind, of those that have any.

        Blocks that overlap little in time are merged at half the cost, and event time waits less
        for its slowest partition. So many at once that they fit, for a fetch may unpack to hundreds
        of megabytes.
        """
        await self._begin_new()
        held = self._readable()
        at_once = max(1, self._piece_bytes // max(1, len(held)) // self._record_bytes)
        for partition in held:
            if found := await self._poll(at_once, 0.0, partition):
                return found
            await self._pass_over(partition)
        if self.assignment() and not held:  # without a partition it would take of all
            await asyncio.sleep(wait)
            return {}
        return await self._poll(at_once, wait, *held)

    async def _pass_over(self, partition: TopicPartition) -> None:
        """Move on over offsets that are no records for us, such as the end of a transaction.

        The consumer passes over them without a word, and they would be waited for, for ever. Only
        once all that was read is stored, and after the consumer was asked in vain for more. They
        are committed by whoever takes them into the books.
        """
        place = self.held.get(partition)
        if place is None or place.expected is None or (place.stored or 0) < place.expected:
            return
        try:
            async with asyncio.timeout(0):  # it waits only where it does not know
                position = await self._consumer.position(partition)
        except (TimeoutError, KafkaError):
            return  # it moves, or its offset is out of range
        if self.held.get(partition) is not place or position <= place.expected:
            return
        gap = OffsetRange(partition, place.expected, position)
        if (empty := await self._without_deleted(gap)) is not None and place.skip(position):
            self._skipped += empty

    async def _begin_new(self) -> None:
        new = [p for p in self.assignment() if p in self.held and self.held[p].begun is None]
        if new and time.monotonic() > self._begin_after:
            self._begin_after = time.monotonic() + _BEGIN_AGAIN_SECONDS
            await asyncio.gather(*map(self._begin, new))

    async def _begin(self, partition: TopicPartition) -> None:
        """Begin where the last commit says, but never after rows of this log that are missing.

        Offsets that were committed for a log of the same name and are still there after the topic
        was made again would skip its first records.
        """
        place, log_id = self.held[partition], self._kafka.log_id
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                committed = await self._consumer.committed(partition)
                first = (await self._consumer.beginning_offsets([partition]))[partition]
                known = await asyncio.to_thread(
                    sealing.ledger_end, self._store, log_id, partition.partition
                )
                last = await asyncio.to_thread(
                    sealing.last_report, self._store, log_id, partition.partition
                )
        except (TimeoutError, KafkaError, Unavailable) as error:
            log.warning("%s is not read yet, for it is not known from where: %r", partition, error)
            return
        if self.held.get(partition) is not place or partition not in self.assignment():
            return  # it has moved meanwhile
        begun = min(committed or 0, known)
        if first > begun and (committed or known):
            _tell_of_deleted(OffsetRange(partition, begun, first))
        begun = max(first, begun)
        self._consumer.seek(partition, begun)
        place.begin(begun, last.watermark, last.marked)

    async def _follow(
        self, partition: TopicPartition, records: list[ConsumerRecord]
    ) -> list[OffsetRange]:
        """Notice a log that began anew, and return the offsets that Kafka has no record for."""
        place, offsets = self.held.get(partition), [record.offset for record in records]
        if place is None:  # it has moved away just now
            return [OffsetRange(partition, *span) for span in without(offsets)]
        taken = place.take(offsets, records[-1].timestamp)
        gaps = [OffsetRange(partition, *span) for span in taken.between]
        if taken.again:
            await self.check_incarnation()
        elif taken.before is not None:
            before = OffsetRange(partition, *taken.before)
            if (empty := await self._without_deleted(before)) is None:
                self._unverified.append(before)  # its records are read all the same
            else:
                gaps += empty
        return gaps

    async def _without_deleted(self, gap: OffsetRange) -> list[OffsetRange] | None:
        """The gap but for records that Kafka deleted unread; None when it does not say."""
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                found = await self._consumer.beginning_offsets([gap.partition])
        except (TimeoutError, KafkaError) as error:
            log.warning(
                "%s partition %s: Kafka does not say whether it deleted records %s to %s: %r",
                gap.partition.topic, gap.partition.partition, gap.first, gap.after - 1, error,
            )  # fmt: skip
            return None
        kept = min(gap.after, max(gap.first, found[gap.partition]))
        if kept > gap.first:
            _tell_of_deleted(gap._replace(after=kept))
        return [gap._replace(first=kept)] if kept < gap.after else []

    async def ask_again(self) -> None:
        """Ask again of gaps of which Kafka did not say whether it deleted records."""
        doubtful, self._unverified = self._unverified, []
        for gap in doubtful:
            stored = self._stored(gap.partition) or 0
            empty = await self._without_deleted(gap) if gap.after <= stored else None
            if empty is None:
                self._unverified.append(gap)
            else:
                self._skipped += empty

    def passed(self) -> list[OffsetRange]:
        """Take offsets without a record that only stored ones lie before, to book and commit them.

        Such as the end of a transaction. They are true of the log, whichever consumer holds it now.
        """
        passed, self._skipped = self._skipped, []
        return passed

    def after(self, passed: list[OffsetRange]) -> dict[TopicPartition, int]:
        """Offsets to commit with them, never less than what is stored, which may be committed."""
        stored = {gap.partition: self._stored(gap.partition) or 0 for gap in passed}
        return {gap.partition: max(gap.after, stored[gap.partition]) for gap in passed}

    async def check_incarnation(self) -> None:
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

    async def commit(self, commits: dict[TopicPartition, int]) -> None:
        """Commit offsets, and those that could not be before, of partitions that are still ours.

        Not below where reading has begun: it was ours before, and others have moved it on.
        """
        for partition, offset in commits.items():
            self._pending_commits[partition] = max(offset, self._pending_commits.get(partition, 0))
        ours = self._begun()
        self._pending_commits = {
            p: o
            for p, o in self._pending_commits.items()
            if p in ours and self.held[p].may_commit(o)
        }
        if not self._pending_commits:
            return
        owed = dict(self._pending_commits)
        if await log_consumer.commit(self._consumer, owed):
            # Not what is owed since.
            self._pending_commits = {
                p: o for p, o in self._pending_commits.items() if o > owed.get(p, -1)
            }


def _tell_of_deleted(gap: OffsetRange) -> None:
    log.error(
        "%s partition %s: records %s to %s were deleted before they were read, see"
        " `driftline accounting`; keep records for longer or add workers",
        gap.partition.topic, gap.partition.partition, gap.first, gap.after - 1,
    )  # fmt: skip
