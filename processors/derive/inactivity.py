"""Interactions without an end are given up once event time has passed them by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from mode import Service

from ingest.core.errors import Unavailable
from processors.clickhouse import Store
from processors.derive import sealing
from processors.derive.result_store import ResultStore

log = logging.getLogger(__name__)

_EVERY_S: Final = 10.0


class Inactivity(Service):  # type: ignore[misc]
    """Settles interactions that stay open for longer than ``results.inactivity_s``.

    One worker does it for all; a second one would write the same rows. What is settled is a
    function of stored events and of sealed event time, so a restart forgets nothing.
    """

    def __init__(
        self,
        store: Store,
        results: ResultStore,
        log_id: str,
        leads: Callable[[], bool],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._store = store
        self._results = results
        self._log_id = log_id
        self._leads = leads
        self._sealing = sealing.Sealing()
        self._settled = 0

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            await self.sleep(_EVERY_S)
            if self._leads():
                try:
                    await asyncio.to_thread(self.settle)
                except Unavailable as error:
                    log.warning("interactions without an end are settled later: %s", error)

    def settle(self) -> None:
        """Settle what sealed event time has passed by since the last time.

        Raises
        ------
        Unavailable
            When ClickHouse is away.
        """
        rows = sealing.read(self._store, self._log_id)
        sealed = self._sealing.update(rows, sealing.clock_ns()).sealed
        if sealed > self._settled:
            self._results.give_up(sealed)
            self._settled = sealed
