"""Decides about every target that is sealed, and sends what is to be judged.

The process that holds the first partition of ``driftline.evaluate`` does it for all. What it knows
is in the store, so another one goes on where it stopped, and two at a time write the same rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from mode import Service

from ingest.core.errors import Unavailable
from processors.clickhouse import Store
from processors.derive.sealing import NS, SEAL_DELAY_NS, clock_ns
from processors.evaluators.anchors import Anchors, finding_of
from processors.evaluators.items import Item
from processors.evaluators.quality import store_agreement
from processors.evaluators.records import MOST, RESEND_S, Records
from processors.evaluators.spec import Any_, Chat, Decisions, Evaluator, Model
from processors.findings import Finding
from processors.stations.base import frame

log = logging.getLogger(__name__)

_LOOK_S: Final = 2.0
_SCAN_S: Final = 15.0
_WIDE_S: Final = 600.0
_QUALITY_S: Final = 300.0
_OVERLAP_S: Final = 120
_HORIZON_S: Final = 7 * 86_400
"""A target that changes later than this after its end is not looked at again."""

_LIVE_NS: Final = 3600 * NS

Send = Callable[[Item], Awaitable[None]]
Tell = Callable[[Finding], Awaitable[None]]


class Planner(Service):  # type: ignore[misc]
    """Plans while this process leads.

    Parameters
    ----------
    evaluators
        Whom to plan for.
    store
        Where everything is.
    sealed
        Event time up to which results are complete, ns.
    leads
        Whether this process is the one that plans.
    send, tell
        Put an item and a finding on their topics.
    """

    def __init__(
        self,
        evaluators: Sequence[Any_],
        store: Store,
        sealed: Callable[[], int],
        leads: Callable[[], bool],
        send: Send,
        tell: Tell,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self._evaluators = evaluators
        self._store = store
        self._records = Records(store)
        self._sealed = sealed
        self._leads = leads
        self._send = send
        self._tell = tell
        self._told: set[tuple[str, int]] = set()
        self._measured = 0.0
        self._looked: dict[str, int] = {}
        self._widely: dict[str, float] = {}
        self._scanned = 0.0
        self._runs_since = datetime.now(UTC)
        self.turned: dict[str, float] = {}
        """When the loop last went round, for health."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            self.turned["planner"] = time.monotonic()
            try:
                if self._leads():
                    await self.look()
                else:
                    self._looked.clear()
                    self._scanned = 0.0
            except Unavailable as error:
                log.warning("evaluations are planned later: %s", error)
            await self.sleep(_LOOK_S)

    async def look(self) -> None:
        """Decide about what is new, and send again what has waited for too long.

        Raises
        ------
        Unavailable
            When ClickHouse is away; the next look does the same.
        """
        sealed = await asyncio.to_thread(self._sealed)
        if sealed:
            for spec in self._evaluators:
                await self._decide(spec, sealed)
        now = time.monotonic()
        asked = await asyncio.to_thread(self._records.runs, self._runs_since)
        if asked or now - self._scanned > _SCAN_S:
            self._runs_since = datetime.now(UTC) if asked else self._runs_since
            for spec in self._evaluators:
                await self._scan(spec, fresh=asked)
            self._scanned = now
        if now - self._measured > _QUALITY_S:
            self._measured = now
            await asyncio.to_thread(store_agreement, self._store)
            for spec in self._evaluators:
                if isinstance(spec, Chat | Decisions) and spec.anchors_per_day:
                    await self._anchor(spec)

    async def _anchor(self, spec: Model) -> None:
        """Judge anchors that are due, and say who changed when that can be told."""
        now = int(time.time())
        anchors = await asyncio.to_thread(Anchors, self._store, spec)
        blame, suspected, first = await asyncio.to_thread(anchors.watched, now)
        for item in anchors.due(now, suspected):
            await self._send(item)
        if blame is None:
            return
        finding = finding_of(spec, blame, first)
        if (finding.finding_id, finding.version) not in self._told:
            await asyncio.to_thread(self._store.insert, "findings", frame([finding]))
            await self._tell(finding)
            self._told.add((finding.finding_id, finding.version))

    async def _decide(self, spec: Any_, sealed: int) -> None:
        hi, now = sealed // NS, time.monotonic()
        began = await asyncio.to_thread(self._records.begin, spec, hi)
        looked = self._looked.get(spec.name)
        wide = looked is None or now - self._widely.get(spec.name, 0.0) > _WIDE_S
        if looked == hi and not wide:
            return
        back = _HORIZON_S if looked is None or wide else hi - looked + _OVERLAP_S + int(spec.quiet)
        lo = max(began, hi - back)
        clock = clock_ns()
        at = clock if clock - sealed < _LIVE_NS else sealed + SEAL_DELAY_NS
        while True:
            found = await asyncio.to_thread(
                lambda: self._records.lacking(spec, lo, hi, inherits=wide)
            )
            await self._send_all(await asyncio.to_thread(self._records.decide, spec, found, at))
            if len(found) < MOST:
                break
        self._looked[spec.name] = hi
        if wide:
            self._widely[spec.name] = now

    async def _scan(self, spec: Any_, fresh: Sequence[str]) -> None:
        """Send again what waits, and let go what has waited in vain."""
        for item, age in await asyncio.to_thread(self._records.pending, spec):
            if age > _patience(spec, item):
                await asyncio.to_thread(self._records.settle, item, "overloaded")
            elif age > RESEND_S or item.run in fresh or not self._scanned:
                await self._send(item)

    async def _send_all(self, items: Iterable[Item]) -> None:
        for item in items:
            await self._send(item)


def _patience(spec: Evaluator, item: Item) -> float:
    """Seconds: targets that wait for a budget, or of the past, have time."""
    waits = item.run or spec.budget.when_spent == "queue"
    return max(spec.patience_s, _HORIZON_S) if waits else spec.patience_s
