"""Detection on sealed windows: whether an agent fails more often than before, and how.

One stream per environment and agent: of the interactions that ended in a cell, how many failed.
Cells are fed in event time and only once sealed, so that a restart or a replay decides the same.
A step reads an hour of event time at most, for who begins anew has all of the past before it.
The state is stored behind every step; findings and alert rows have keys that are functions of the
stream and its event time, so a repeated step collapses with the first. Whoever follows the topic of
findings may see one twice and knows it by id and version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec
import numpy as np
import polars as pl
from mode import Service

from detectors.change.rates import RateDetector
from ingest.core.errors import Unavailable
from processors.clickhouse import Store, literal
from processors.derive import sealing
from processors.findings import DETECTOR, Change, alert_rows, finding_rows, message, title

log = logging.getLogger(__name__)

_NS: Final = 10**9
_HEARTBEAT_NS: Final = 300 * _NS
_BEFORE_NS: Final = 6 * 3600 * _NS
_TICKS_KEPT: Final = 10_000
_STEP_NS: Final = 3600 * _NS
_REST_S: Final = 1.0
_PUT_OFF_S: Final = 5.0

# Cells are whole, so an interaction counts where its closing event stands.
_CELLS: Final = """
SELECT toUnixTimestamp(cell) AS start, environment, agent,
    count() AS n, countIf(status = 'error') AS failed
FROM interaction_cells FINAL
WHERE root > 0 AND cell >= toDateTime({lo}, 'UTC') AND cell < toDateTime({hi}, 'UTC')
GROUP BY start, environment, agent ORDER BY start, environment, agent
"""

# In the order of the key, so that it reads no further than the first.
_NEXT: Final = """
SELECT toUnixTimestamp(cell) AS start FROM interaction_cells
WHERE root > 0 AND cell >= toDateTime({lo}, 'UTC') AND cell < toDateTime({hi}, 'UTC')
ORDER BY cell LIMIT 1
"""

# Of interactions that closed in these cells only: adding up those of all time would take memory
# without bound.
_GROUPS: Final = """
SELECT fingerprint, any(failure_reason) AS reason, any(failure_tool) AS tool,
    any(failure_template) AS template,
    countIf(end >= fromUnixTimestamp64Nano({began})) AS since,
    countIf(end < fromUnixTimestamp64Nano({began})) AS before
FROM interactions
WHERE interaction_id IN
    (
        SELECT interaction_id FROM interaction_cells
        WHERE status = 'error' AND cell >= toDateTime({lo_s}, 'UTC') - 10
            AND cell < toDateTime({hi_s}, 'UTC')
    )
    AND status = 'error' AND environment = {environment} AND agent = {agent}
    AND end >= fromUnixTimestamp64Nano({lo}) AND end < fromUnixTimestamp64Nano({hi})
GROUP BY fingerprint ORDER BY since DESC, fingerprint LIMIT 10
"""


@dataclass(frozen=True, slots=True)
class DetectionConfig:
    """How eager the detector is.

    ``arl`` is in ticks of 10 s with traffic: 60,480 is one false alert per agent and week at most,
    in expectation. ``warm_up`` interactions make the baseline: with fewer, a rare failure is easily
    missed in it, and an alert then ends late.
    """

    arl: float = 60_480.0
    warm_up: float = 2_000.0
    min_effect: float = 0.01


class Monitor:
    """The detector with names and event times for its streams and ticks. No I/O."""

    def __init__(self, config: DetectionConfig) -> None:
        self._detector = RateDetector(
            0, arl=config.arl, warm_up=config.warm_up, min_effect=config.min_effect
        )
        self._streams: dict[tuple[str, str], int] = {}
        self._ticks: list[int] = []
        self.firing: dict[tuple[str, str], Change] = {}
        self.position = 0

    def update(self, cells: pl.DataFrame, sealed: int) -> list[Change]:
        """Take the cells between the last position and ``sealed`` (ns); returns what changed.

        Parameters
        ----------
        cells
            ``start`` (s), ``environment``, ``agent``, ``n`` and ``failed``, in order of ``start``.
        sealed
            Event time up to which the cells are complete.
        """
        changes: list[Change] = []
        for start, part in cells.group_by("start", maintain_order=True):
            changes += self._tick(int(start[0]), part)
        self.position = sealed
        return changes

    def _tick(self, start: int, cell: pl.DataFrame) -> list[Change]:
        known = len(self._streams)
        at = [
            self._streams.setdefault(stream, len(self._streams))
            for stream in cell.select("environment", "agent").iter_rows()
        ]
        self._detector.extend(len(self._streams) - known)
        n, failed = np.zeros(len(self._streams)), np.zeros(len(self._streams))
        n[at], failed[at] = cell["n"], cell["failed"]
        before = self._detector.detected
        self._detector.update(failed, n)
        self._remember(start)
        after = self._detector.detected
        return [
            self._change(int(i), start, bool(after[i])) for i in np.flatnonzero(before != after)
        ]

    def _remember(self, start: int) -> None:
        self._ticks.append(start)
        if len(self._ticks) > 2 * _TICKS_KEPT:
            del self._ticks[:_TICKS_KEPT]

    def _change(self, i: int, start: int, firing: bool) -> Change:
        stream, d = list(self._streams)[i], self._detector
        at = (start + 10) * _NS
        if not firing:
            return Change(**{**_fields(self.firing.pop(stream)), "firing": False, "at": at})
        # Streams join late and old ticks are forgotten, so count from the end.
        tick = len(self._ticks) - int(d.tick[i]) + int(d.change_start[i])
        self.firing[stream] = Change(
            *stream, True, self._ticks[max(0, tick)] * _NS, at, at,
            float(d.e_value[i]), float(d.baseline[i]), float(d.observed[i]), int(d.observed_n[i]),
        )  # fmt: skip
        return self.firing[stream]

    def snapshot(self) -> str:
        """All state as JSON text."""
        return msgspec.json.encode(
            {
                "detector": self._detector.snapshot(),
                "streams": list(self._streams),
                "ticks": self._ticks,
                "firing": [_fields(c) for c in self.firing.values()],
                "position": self.position,
            }
        ).decode()

    @classmethod
    def restore(cls, state: str) -> Self:
        """Monitor of a snapshot."""
        found = msgspec.json.decode(state)
        monitor = cls(DetectionConfig())
        monitor._detector = RateDetector.restore(found["detector"])
        monitor._streams = {(e, a): i for i, (e, a) in enumerate(found["streams"])}
        monitor._ticks = found["ticks"]
        monitor.firing = {(c["environment"], c["agent"]): Change(**c) for c in found["firing"]}
        monitor.position = found["position"]
        return monitor


def _fields(change: Change) -> dict[str, Any]:
    return {name: getattr(change, name) for name in Change.__slots__}


class Detection(Service):  # type: ignore[misc]
    """Runs the monitor on what is sealed. One worker leads; a second would repeat, not disturb.

    ``tell`` sends a finding, under its id, to whoever follows the topic of findings, and returns
    when Kafka has it; raises `Unavailable`.
    """

    def __init__(
        self,
        store: Store,
        log_id: str,
        config: DetectionConfig,
        leads: Callable[[], bool],
        tell: Callable[[str, bytes], Awaitable[None]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._store = store
        self._log_id = log_id
        self._config = config
        self._leads = leads
        self._tell = tell
        self._sealing = sealing.Sealing()
        self._monitor: Monitor | None = None
        self._last_heartbeat = 0

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        rest = _REST_S
        while not self.should_stop:
            await self.sleep(rest)
            rest = _REST_S
            if not self._leads():
                self._monitor = None  # whoever leads now moves the stored state
                continue
            try:
                if await self._step():
                    rest = 0.0
            except Unavailable as error:
                log.warning("detection put off: %s", error)
                rest = _PUT_OFF_S

    async def _step(self) -> bool:
        """Read what has been sealed since the last step, decide, tell, store.

        Returns
        -------
        bool
            Whether more is sealed than one step takes.

        Raises
        ------
        Unavailable
            When ClickHouse or Kafka is away; the step is then repeated from the stored state.
        """
        decided = await asyncio.to_thread(self._decide)
        if decided is None:
            return False
        monitor, findings = decided
        for finding in findings:
            await self._tell(finding["finding_id"][0], message(finding))
        await asyncio.to_thread(self._save, monitor)
        self._monitor = monitor
        return monitor.position < self._sealing.sealed

    def _decide(self) -> tuple[Monitor, list[pl.DataFrame]] | None:
        """What the monitor has come to, not stored yet, and new findings; None without news."""
        self._sealing.update(sealing.read(self._store, self._log_id), sealing.clock_ns())
        if self._monitor is None:
            self._monitor = self._load()
        monitor, sealed = self._monitor, self._sealing.sealed
        if sealed <= monitor.position:
            return None
        self._monitor = None  # until the step is stored, only the stored state is true
        cells, position = self._read(monitor.position, sealed)
        changes = monitor.update(cells, position) if not cells.is_empty() else []
        monitor.position = position
        findings = [self._announce(change) for change in changes]
        if position == sealed:  # in the past nobody waits for a sign that an alert still fires
            self._heartbeats(monitor, sealed)
        return monitor, findings

    def _read(self, lo: int, sealed: int) -> tuple[pl.DataFrame, int]:
        """The cells of a step, and the event time before which there are no others."""
        hi = min(sealed, lo + _STEP_NS)
        cells = self._store.query(_CELLS.format(lo=lo // _NS, hi=hi // _NS))
        if cells.is_empty() and hi < sealed:
            following = self._store.query(_NEXT.format(lo=hi // _NS, hi=sealed // _NS))
            hi = sealed if following.is_empty() else int(following["start"][0]) * _NS
        return cells, hi

    def _load(self) -> Monitor:
        rows = self._store.query(
            "SELECT state FROM detector_state FINAL WHERE stream = {stream:String}",
            {"stream": DETECTOR},
        )
        if rows.is_empty():
            return Monitor(self._config)
        try:
            return Monitor.restore(rows["state"][0])
        except ValueError as error:
            log.warning("the detectors begin anew, their stored state cannot be used: %s", error)
            return Monitor(self._config)

    def _save(self, monitor: Monitor) -> None:
        self._store.insert(
            "detector_state",
            pl.DataFrame(
                {
                    "stream": [DETECTOR],
                    "position": [monitor.position // _NS],
                    "version": [monitor.position],
                    "state": [monitor.snapshot()],
                },
                schema_overrides={"position": pl.UInt32, "version": pl.UInt64},
            ),
        )

    def _announce(self, change: Change) -> pl.DataFrame:
        lo, hi = max(0, change.began - _BEFORE_NS), change.at
        evidence = self._store.query(
            _GROUPS.format(
                began=change.began,
                lo=lo,
                hi=hi,
                lo_s=lo // _NS,
                hi_s=-(-hi // _NS),
                environment=literal(change.environment),
                agent=literal(change.agent),
            )
        )
        finding = finding_rows(change, evidence.to_dicts())
        self._store.insert("findings", finding)
        self._store.insert("alert_events", alert_rows(change, change.at, evidence.to_dicts()))
        log.warning("%s", title(change))
        return finding

    def _heartbeats(self, monitor: Monitor, sealed: int) -> None:
        beat = sealed // _HEARTBEAT_NS * _HEARTBEAT_NS
        if beat <= self._last_heartbeat:
            return
        self._last_heartbeat = beat
        for change in monitor.firing.values():
            if beat > change.at:
                self._store.insert("alert_events", alert_rows(change, beat, []))
