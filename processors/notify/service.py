"""Tells people of incidents until it has arrived.

The tables are the truth: what was found stands in ``findings``, what was told in
``notifications``. The worker that leads compares the two, plans what is missing, stores the plan
and sends it, each receiver in order and at its own speed. A record of the topic only makes it look
sooner. So a restart, a rebalance or a receiver that is down for hours loses nothing, and a message
is repeated only when the process died between its arrival and the note of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any, Final

import msgspec
from mode import Service

from ingest.core import telemetry
from ingest.core.errors import Rejected, Unavailable
from processors import otlp_logs
from processors.clickhouse import Store
from processors.notify import receivers
from processors.notify.finding import Finding, decode
from processors.notify.incidents import Incident, Pace, Rules, State
from processors.notify.outbox import REFUSED, SENT, SILENCED, Outbox, Row, Silence

log = logging.getLogger(__name__)

_LOOK_S: Final = 5.0
_WAITS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_LONGEST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """Who is told, and how fast. Without a receiver nothing is sent, and findings are counted."""

    alertmanager_url: str | None = None
    alertmanager_token: str | None = field(default=None, repr=False)
    alertmanager_tenant: str | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    services: tuple[str, ...] = field(default=(), repr=False)
    otlp_url: str | None = None
    ca_file: str | None = None
    board_url: str | None = None
    pace: Pace = field(default_factory=Pace)
    rules: Rules = field(default_factory=Rules)
    heartbeat: float = 60.0


@dataclass(slots=True)
class _Queue:
    """Messages that wait for one receiver, oldest first."""

    receiver: receivers.Receiver
    rows: asyncio.Queue[Row] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None


class Notifier(Service):  # type: ignore[misc]
    """Plans and sends notifications while this worker leads.

    Parameters
    ----------
    store
        Where findings and notifications are.
    config
        Receivers and pace.
    leads
        Whether this worker is the one that notifies.
    now, sleep
        Clock, for tests.

    Raises
    ------
    UsageError
        A receiver cannot be used as it is configured.
    """

    def __init__(
        self,
        store: Store,
        config: NotifyConfig,
        leads: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Any] = asyncio.sleep,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        make_receivers(config, State(), now)  # what is wrong with them is said at the start
        self._config = config
        self._outbox = Outbox(store, config.board_url)
        self._leads = leads
        self._now = now
        self._nap = sleep
        self._wake = asyncio.Event()
        self._state: State | None = None
        self._rules = config.rules
        self._silences: list[Silence] = []
        self._queues: dict[str, _Queue] = {}
        self._refreshed = datetime.fromtimestamp(0, UTC)
        self._beat: asyncio.Task[None] | None = None
        self._otlp = (
            receivers.http(f"{config.otlp_url}/v1/logs", ca_file=config.ca_file)
            if config.otlp_url else None
        )  # fmt: skip

    async def handle(self, record: bytes) -> None:
        """Take a record of the topic of findings; with an exporter, return when it has it."""
        try:
            finding = decode(record)
        except Rejected as error:
            log.warning("a finding on the topic cannot be read: %s", error)
            telemetry.NOTIFICATIONS.labels("", "unreadable").inc()
            return
        if self._state is not None:
            self._state.merge([finding], self._rules, self._now())
        self._wake.set()
        if self._otlp is not None:
            await self._export(self._otlp, record)

    async def _export(self, otlp: receivers.Http, record: bytes) -> None:
        """Send a record as a log event; one that was not sent is read again after a restart."""
        try:
            body = msgspec.json.encode(otlp_logs.of_finding(msgspec.json.decode(record)))
        except (KeyError, TypeError, ValueError) as error:
            log.warning("a finding on the topic is no log event: %r", error)
            return
        for wait in chain(_WAITS, repeat(_LONGEST_S)):
            try:
                await otlp.post(body)
            except Rejected as error:
                log.warning("a finding is not exported, given up: %s", error)
            except Unavailable as error:
                log.warning("a finding is exported again in %s s: %s", wait, error)
                await self._nap(wait)
                continue
            return

    async def on_stop(self) -> None:
        """Leave what waits to the next leader."""
        await self._resign()
        if self._otlp is not None:
            await self._otlp.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("notifications put off: %s", error)
            self._wake.clear()
            await self.wait_first(self._wake.wait(), timeout=_LOOK_S)

    async def look(self) -> None:
        """Compare what was found with what was told, and plan what is missing.

        Raises
        ------
        Unavailable
            When ClickHouse is away.
        """
        if not self._leads():
            await self._resign()
            return
        state = self._state or await self._take_over()
        now = self._now()
        known = [f.finding_id for _, f in state.active()]
        findings, unreadable = await asyncio.to_thread(
            self._outbox.findings, now - self._rules.max_age, known
        )
        for line in unreadable:
            log.warning("a finding cannot be read: %s", line)
        state.merge(findings, self._rules, now)
        if known or findings or any(state.active()):
            self._silences = await asyncio.to_thread(self._outbox.silences, now)
        await self._plan(state, now)
        self._refresh(now)
        state.forget(self._rules, now)
        _count(state)

    async def _plan(self, state: State, now: datetime) -> None:
        paces = {name: queue.receiver.pace for name, queue in self._queues.items()}
        rows = [
            self._outbox.compose(m) for m in state.plan(paces, self._rules, self._is_silenced, now)
        ]
        if not rows:
            return
        try:
            await asyncio.to_thread(self._outbox.save, rows)
        except Unavailable:
            self._state = None  # what was planned is not stored, so it is planned again
            await self._resign()
            raise
        self._enqueue(rows)

    def _enqueue(self, rows: Iterable[Row]) -> None:
        for row in rows:
            queue = self._queues.get(row.message.receiver)
            if row.state == SILENCED:
                telemetry.NOTIFICATIONS.labels(row.message.receiver, SILENCED).inc()
            elif queue is None:
                log.warning("%s is no receiver any more; message kept", row.message.receiver)
            else:
                queue.rows.put_nowait(row)

    def _is_silenced(self, finding: Finding) -> bool:
        now = self._now()
        return any(silence.covers(finding, now) for silence in self._silences)

    async def _take_over(self) -> State:
        """Read what was told before, and go on with what still waits."""
        now = self._now()
        since = await asyncio.to_thread(self._outbox.since, now)
        self._rules = Rules(self._rules.window, self._rules.max_age, since)
        told, waiting = await asyncio.to_thread(self._outbox.told, now - 2 * self._rules.max_age)
        state = State()
        for incident, name, last in told:
            state.restore(incident, name, last)
        # A message that waits knows findings that the table may have forgotten.
        for row in waiting:
            state.merge(row.message.findings, self._rules, now)
        for receiver in make_receivers(self._config, state, self._now):
            queue = _Queue(receiver)
            queue.task = asyncio.create_task(self._deliver(queue))
            self._queues[receiver.name] = queue
        self._state = state
        self._enqueue(waiting)
        return state

    async def _resign(self) -> None:
        led, self._state = self._state is not None, None
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            if queue.task is not None:
                queue.task.cancel()
            await queue.receiver.close()
        if led:
            telemetry.FINDINGS_ACTIVE.clear()

    async def _deliver(self, queue: _Queue) -> None:
        while True:
            row = await queue.rows.get()
            telemetry.NOTIFICATIONS_PENDING.labels(queue.receiver.name).set(queue.rows.qsize() + 1)
            await self._until_sent(queue.receiver, row)
            telemetry.NOTIFICATIONS_PENDING.labels(queue.receiver.name).set(queue.rows.qsize())

    async def _until_sent(self, receiver: receivers.Receiver, row: Row) -> None:
        for wait in chain(_WAITS, repeat(_LONGEST_S)):
            row.attempts += 1
            try:
                await receiver.send(row.delivery)
                row.state, row.error = SENT, ""
            except Rejected as error:
                row.state, row.error = REFUSED, str(error)
                log.warning("%s refuses a message, given up: %s", receiver.name, error)
            except Unavailable as error:
                row.error = str(error)[:500]
                log.warning("%s is told again in %s s: %s", receiver.name, wait, error)
            telemetry.NOTIFICATIONS.labels(receiver.name, row.state).inc()
            await self._note(row)
            if row.state in (SENT, REFUSED):
                return
            await self._nap(wait)

    async def _note(self, row: Row) -> None:
        """Write down what became of a message; a note that is lost means one more repeat."""
        settled = row.state in (SENT, REFUSED)
        for wait in chain(_WAITS, repeat(_LONGEST_S)):
            try:
                await asyncio.to_thread(self._outbox.save, [row])
            except Unavailable as error:
                log.warning("what became of a message cannot be stored: %s", error)
                if not settled:
                    return
                await self._nap(wait)
            else:
                return

    def _refresh(self, now: datetime) -> None:
        """Tell Alertmanager that what is active still is, or it would end it by itself."""
        if (now - self._refreshed).total_seconds() < self._config.heartbeat:
            return
        self._refreshed = now
        for queue in self._queues.values():
            if isinstance(queue.receiver, receivers.Alertmanager):
                self._beat = asyncio.create_task(_beat(queue.receiver))


async def _beat(receiver: receivers.Alertmanager) -> None:
    try:
        await receiver.refresh()
    except (Unavailable, Rejected) as error:
        log.warning("Alertmanager does not take the active alerts: %s", error)


def make_receivers(
    config: NotifyConfig, state: State, now: Callable[[], datetime]
) -> list[receivers.Receiver]:
    """The receivers that are configured.

    Raises
    ------
    UsageError
        A service cannot be used as it is configured.
    """
    made: list[receivers.Receiver] = []
    if config.alertmanager_url:
        http = receivers.http(
            f"{config.alertmanager_url}/api/v2/alerts",
            config.alertmanager_token, config.alertmanager_tenant, config.ca_file,
        )  # fmt: skip

        def alerts(incident: str | None) -> Sequence[tuple[Incident, Finding]]:
            return _alerts(state, incident)

        made.append(receivers.Alertmanager(http, config.heartbeat, alerts, config.board_url, now))
    if config.webhook_url:
        http = receivers.http(config.webhook_url, ca_file=config.ca_file)
        made.append(receivers.Webhook(http, config.webhook_secret or "", config.pace))
    for url in config.services:
        name = f"{url.partition('://')[0]}:{receivers.short_hash(url)}"
        made.append(receivers.Services(name, url, config.pace))
    return made


def _alerts(state: State, incident: str | None) -> list[tuple[Incident, Finding]]:
    """Findings of one incident, or those that last of all that were announced."""
    if incident is not None:
        found = state.incidents.get(incident)
        return [(found, f) for f in found.members.values()] if found else []
    # What is silenced was never announced.
    return [(i, f) for i, f in state.active() if receivers.Alertmanager.name in i.told]


def _count(state: State) -> None:
    telemetry.FINDINGS_ACTIVE.clear()
    for _, finding in state.active():
        telemetry.FINDINGS_ACTIVE.labels(
            finding.environment, finding.agent, finding.signal or finding.kind, finding.severity
        ).inc()
