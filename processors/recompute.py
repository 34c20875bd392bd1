"""Works off dirty marks: cells at once, the minutes and hours they lie in every two seconds.

A mark is acknowledged once its cell, minute and hour are stored. How far cells have come is
reported before that, because only they say what event time is complete.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import polars as pl
from faust.types import EventT
from mode import Service

from ingest import telemetry
from processors import marks, watermarks, windows
from processors.retry import until_done
from processors.store import Store

log = logging.getLogger(__name__)

_MARKS_AT_ONCE: Final = 1_000
_LONGEST_REST_S: Final = 0.4
_COARSER_S: Final = 2.0


class Recompute(Service):  # type: ignore[misc]
    """Computes what marks name from what is stored.

    Parameters
    ----------
    store
        The database.
    log_id
        Of the events topic.
    interval
        How many seconds of marks are gathered before cells are computed.
    caught_up
        Waits while a backlog is worked off. What is read of it is old news anyway: it is stored
        first, for every computation of a cell reads the whole cell.
    die
        Ends the process. Faust would acknowledge the marks of a failed computation and go on;
        dying acknowledges nothing.
    """

    def __init__(
        self,
        store: Store,
        log_id: str,
        interval: float,
        caught_up: Callable[[], Coroutine[Any, Any, None]],
        die: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._store = store
        self._log_id = log_id
        self._interval = interval
        self._caught_up = caught_up
        self._die = die
        self._computed: asyncio.Queue[tuple[pl.DataFrame, Callable[[], Any]]] = asyncio.Queue()
        self.done: dict[int, int] = {}
        """Per partition of the dirty topic, the offset up to which cells are stored."""

    async def follow(self, stream: Any) -> None:
        """Compute the cells of all marks of a Faust stream, as they come."""
        await self._caught_up()
        async for events in stream.noack_take(_MARKS_AT_ONCE, within=self._interval):
            started = time.monotonic()
            try:
                await self._compute_cells(stream, events)
            except Exception:
                log.exception("computing cells failed")
                self._die()
            # As long as it took, so that inserts and readers come to their turn.
            await asyncio.sleep(min(time.monotonic() - started, _LONGEST_REST_S))
            await self._caught_up()

    async def _compute_cells(self, stream: Any, events: Sequence[EventT[Any]]) -> None:
        cells = marks.unpack([event.value for event in events])
        await self._compute(marks.CELL_SECONDS, cells)
        done = {event.message.partition: event.message.offset + 1 for event in events}
        rows = watermarks.progress_rows(self._log_id, done)
        await until_done(lambda: asyncio.to_thread(self._store.insert, "watermarks", rows))
        self.done |= done
        self._computed.put_nowait((cells, partial(_acknowledge, stream, events)))

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow_with_coarser(self) -> None:
        while not self.should_stop:
            computed = [await self._computed.get()]
            while not self._computed.empty():
                computed.append(self._computed.get_nowait())
            try:
                cells = pl.concat([cells for cells, _ in computed], how="diagonal")
                for width in windows.WIDTHS[1:]:
                    cells = marks.coarser(cells, width)
                    await self._compute(width, cells)
                for _, acknowledge in computed:
                    await acknowledge()
            except Exception:
                log.exception("computing minutes and hours failed")
                self._die()
            # Each time reads every cell of a minute, and nobody looks at minutes every second.
            await self.sleep(_COARSER_S)

    async def _compute(self, width: int, cells: pl.DataFrame) -> None:
        with telemetry.RECOMPUTE_SECONDS.labels(str(width)).time():
            await until_done(
                lambda: asyncio.to_thread(windows.recompute, self._store, width, cells)
            )


async def _acknowledge(stream: Any, events: Sequence[EventT[Any]]) -> None:
    # In the order of their coming: Faust commits what is acknowledged after a gap.
    for event in events:
        await stream.ack(event)
