"""Works off dirty marks: cells at once; results, minutes, hours and days every two seconds.

A mark is done once its cell, the results it changes and all that adds them up are stored. Only then
is it reported, because stations take what is reported for complete, and then it is committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import polars as pl
from faust.types import TP, EventT
from mode import Service

from ingest.core import telemetry
from ingest.core.retry import until_done
from processors.clickhouse import Store
from processors.derive import dirty_marks, sealing, windows
from processors.derive.result_store import ResultStore

log = logging.getLogger(__name__)

_MARKS_AT_ONCE: Final = 1_000
_LONGEST_REST_S: Final = 0.4
_GATHER_S: Final = 0.02
_COARSER_S: Final = 2.0
_IDLE_S: Final = 1.0
_REPORT_S: Final = 10.0
_REWIND_S: Final = 1.0
_QUIET_S: Final = 5.0

_Place = tuple[int, int]
"""Generation of the consumer group, and the offset after a mark."""


class Consumer(Protocol):
    """What the updater needs of the consumer of the dirty topic."""

    @property
    def generation(self) -> int | None:
        """Of the consumer group, another one after every rebalance; None while partitions move."""

    def begun(self) -> dict[TP, int]:
        """Partitions of the dirty topic that are ours, and the commit from which they are read."""

    async def first(self, partition: TP) -> int:
        """Offset of the first mark that Kafka still has, 0 while it does not answer."""

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False when the group has moved on."""

    def end(self, partition: TP) -> int:
        """Offset after the last mark, as Kafka said when it was last asked for more."""

    async def rewind(self, partition: TP, offset: int) -> None:
        """Go on reading a partition from here, if it is still ours."""


@dataclass(frozen=True, slots=True)
class _Computed:
    """Cells that are stored, and how far their marks reach."""

    cells: pl.DataFrame
    places: dict[TP, _Place]


@dataclass(slots=True)
class _Gap:
    """Marks from ``offset`` on that were passed over, and when it was last gone back to them."""

    generation: int
    offset: int
    rewound: float = 0.0


class WindowUpdater(Service):  # type: ignore[misc]
    """Computes what marks name from what is stored.

    Parameters
    ----------
    store
        The database.
    results
        Computes interactions, sessions and rollups.
    log_id
        Of the events topic.
    consumer
        Of the dirty topic. Faust's own acknowledgements are not used: what it could not commit it
        takes for committed, and what it passed over for acknowledged.
    interval
        How many seconds lie at least between two computations: one of a cell that still fills
        reads the whole cell.
    caught_up
        Waits while a backlog is worked off. What is read of it is old news anyway: it is stored
        first, for every computation of a cell reads the whole cell.
    die
        Ends the process. Faust would go on after a failed computation; who has died commits
        nothing, and the marks are read again.
    """

    def __init__(
        self,
        store: Store,
        results: ResultStore,
        log_id: str,
        consumer: Callable[[], Consumer],
        interval: float,
        caught_up: Callable[[], Coroutine[Any, Any, None]],
        die: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._store = store
        self._results = results
        self._log_id = log_id
        self._consumer = consumer
        self._interval = interval
        self._caught_up = caught_up
        self._die = die
        self._read: dict[TP, _Place] = {}
        self._gaps: dict[TP, _Gap] = {}
        self._idle = False
        self._awaited: dict[TP, tuple[int, float]] = {}
        self._computed: list[_Computed] = []
        self._has_computed = asyncio.Event()
        self._owed: dict[TP, _Place] = {}
        self._reported = 0.0
        self.done: dict[int, int] = {}
        """Per partition of the dirty topic, the offset up to which all that follows is stored."""

    async def follow(self, stream: Any) -> None:
        """Compute the cells of all marks of a Faust stream, as they come."""
        await self._caught_up()
        self._idle = True
        stream.enable_acks = False
        waiting, events = stream.channel.queue, []
        # Faust's own `noack_take` wakes up every few milliseconds though nothing has come.
        async for event in stream.events():
            self._idle = False
            events.append(event)
            if waiting.empty():
                await asyncio.sleep(min(_GATHER_S, self._interval))
            if not waiting.empty() and len(events) < _MARKS_AT_ONCE:
                continue
            await self._compute_marked(events)
            events = []
            self._idle = True

    async def _compute_marked(self, events: Sequence[EventT[Any]]) -> None:
        started = time.monotonic()
        try:
            ordered = await self._in_order(events)
            if ordered:
                await self._compute_cells(ordered)
        except Exception:
            log.exception("computing cells failed")
            self._die()
        # As long as it took, so that inserts and readers come to their turn.
        took = time.monotonic() - started
        await asyncio.sleep(max(min(took, _LONGEST_REST_S), self._interval - took))
        await self._caught_up()

    async def _in_order(self, events: Sequence[EventT[Any]]) -> list[EventT[Any]]:
        """The events that no marks are missing before; where some are, goes back to them.

        Faust drops what it had fetched when partitions move, and may go on behind it.
        """
        found = []
        for event in events:
            message = event.message
            current = message.generation_id == self._consumer().generation
            # What was read before partitions moved is not committed: let it pass.
            expected = self._next(message.tp) if current else message.offset
            if message.offset > expected and await self._is_missing(message.tp, expected):
                continue
            self._gaps.pop(message.tp, None)
            self._read[message.tp] = message.generation_id, message.offset + 1
            found.append(event)
        await self._refetch_missing()
        return found

    def _next(self, partition: TP) -> int:
        """Offset of the mark that comes next in this generation."""
        consumer = self._consumer()
        generation, offset = self._read.get(partition, (None, 0))
        return offset if generation == consumer.generation else consumer.begun().get(partition, 0)

    async def _is_missing(self, partition: TP, offset: int) -> bool:
        """Whether this mark has been passed over; False when Kafka has it no longer."""
        if partition not in self._gaps:
            consumer = self._consumer()
            generation = consumer.generation
            if generation is None or await consumer.first(partition) > offset:
                return False
            log.warning("%s: marks from %d on have not come; going back", partition, offset)
            self._gaps[partition] = _Gap(generation, offset)
        return True

    def _stuck_marks(self) -> dict[TP, tuple[int, float]]:
        """Marks that Kafka has but does not deliver, and since when.

        Of the last marks a gap would go unnoticed, because none follow. While the consumer is
        paused, marks are not overdue.
        """
        consumer = self._consumer()
        now, before = time.monotonic(), self._awaited
        self._awaited = {}
        for partition in consumer.begun() if consumer.generation is not None else ():
            offset = self._next(partition)
            if consumer.end(partition) > offset:
                known, since = before.get(partition, (offset, now))
                late = self._idle and known == offset
                self._awaited[partition] = offset, since if late else now
        return self._awaited

    async def _refetch_missing(self) -> None:
        """Go back to where marks are missing, again and again until they come.

        What had been fetched before may still undo it. That it leads nowhere is for health to say.
        """
        consumer, now = self._consumer(), time.monotonic()
        for partition, (offset, since) in list(self._stuck_marks().items()):
            if now - since > _QUIET_S:
                self._awaited[partition] = offset, now  # not to ask Kafka all the time
                await self._is_missing(partition, offset)
        for partition, gap in list(self._gaps.items()):
            if gap.generation != consumer.generation:
                self._gaps.pop(partition, None)  # its new holder begins at the commit
            elif now - gap.rewound > _REWIND_S:
                gap.rewound = now
                first = await consumer.first(partition)
                if first > gap.offset:
                    self._gaps.pop(partition, None)  # Kafka has deleted them meanwhile
                await consumer.rewind(partition, max(first, gap.offset))

    async def _compute_cells(self, events: Sequence[EventT[Any]]) -> None:
        cells = dirty_marks.unpack([event.value for event in events])
        await self._compute(dirty_marks.CELL_SECONDS, cells)
        places = {
            event.message.tp: (event.message.generation_id, event.message.offset + 1)
            for event in events
        }
        self._computed.append(_Computed(cells, places))
        self._has_computed.set()

    def _ours(self, places: dict[TP, _Place]) -> dict[TP, int]:
        """Offsets of what was not read before partitions moved: others have that now."""
        now = self._consumer().generation
        return {tp: offset for tp, (generation, offset) in places.items() if generation == now}

    async def _report(self) -> None:
        """Say how far cells are stored, of partitions that are ours now.

        Whoever had them before may say less, and later, and the last word counts; hence again
        every few seconds. What is committed is stored.
        """
        self._reported = time.monotonic()
        consumer = self._consumer()
        if consumer.generation is None:
            return
        found = {
            tp.partition: max(offset, self.done.get(tp.partition, 0))
            for tp, offset in consumer.begun().items()
        }
        self.done = {partition: offset for partition, offset in found.items() if offset}
        if self.done:
            rows = sealing.progress_rows(self._log_id, self.done)
            await asyncio.to_thread(self._store.insert, "watermarks", rows)

    @Service.task  # type: ignore[untyped-decorator]
    async def _rollup_loop(self) -> None:
        while not self.should_stop:
            computed, self._computed = self._computed, []
            try:
                if computed:
                    await self._compute_results(computed)
                    await self._compute_coarser(computed)
                    for one in computed:
                        self._owed |= one.places
                        self.done |= {tp.partition: at for tp, at in self._ours(one.places).items()}
                    await until_done(self._report)
                await self._commit()
                await self._refetch_missing()
                if time.monotonic() - self._reported > _REPORT_S:
                    await until_done(self._report)
            except Exception:
                log.exception("computing minutes and hours failed")
                self._die()
            # Each time reads every cell of a minute, and nobody looks at minutes every second.
            if computed:
                await self.sleep(_COARSER_S)
            await self.wait_first(self._has_computed.wait(), timeout=_IDLE_S)
            self._has_computed.clear()

    async def _compute_coarser(self, computed: list[_Computed]) -> None:
        cells = pl.concat([one.cells for one in computed], how="diagonal")
        for width in windows.WIDTHS[1:]:
            cells = dirty_marks.rollup_cells(cells, width)
            await self._compute(width, cells)

    async def _compute_results(self, computed: list[_Computed]) -> None:
        marks = pl.concat([one.cells for one in computed], how="diagonal").unique()
        with telemetry.RECOMPUTE_SECONDS.labels("results").time():
            await until_done(lambda: asyncio.to_thread(self._results.update, marks))

    async def _commit(self) -> None:
        """Commit what is stored, and what could not be committed before.

        Not what was read before partitions moved: their new holder reads it again.
        """
        if self._owed and self._consumer().generation is not None:
            offsets = self._ours(self._owed)
            if not offsets or await self._consumer().commit_offsets(offsets):
                self._owed = {}

    async def _compute(self, width: int, cells: pl.DataFrame) -> None:
        with telemetry.RECOMPUTE_SECONDS.labels(str(width)).time():
            await until_done(
                lambda: asyncio.to_thread(windows.recompute, self._store, width, cells)
            )
