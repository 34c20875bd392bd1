"""Runs stations: reads what was sealed, steps, writes outputs, then progress and state.

A crash between outputs and state repeats the step: outputs have the same keys, and rows collapse.
States are written at most once a minute, because a step that is repeated costs little; how far
outputs are written is stored with every step. A bucket moves with its partition of the dirty topic:
whoever holds it now continues from the stored state, and a worker that has lost it can write
nothing newer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl
from mode import Service

from ingest.core import telemetry
from ingest.core.errors import Unavailable
from ingest.core.health.verdict import StationHealth
from processors.evidence import BEFORE_S, explain
from processors.findings import Finding
from processors.stations.base import (
    BUCKETS,
    FLEET,
    Output,
    Sealed,
    Station,
    bucket_of,
    empty_results,
)
from processors.stations.storage import StationStore, Stored

log = logging.getLogger(__name__)

STEP_S: Final = 3600
_GAP_S: Final = 7 * 86_400
"""A silence longer than this is skipped: nobody waits for what happened in it."""

_SAVE_S: Final = 60.0
_BEAT_S: Final = 300
_MINUTE: Final = 60
_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 3.0
_PUT_OFF_S: Final = 5.0
_LONGEST_S: Final = 10.0

Told = Callable[[str, bytes], Awaitable[None]]


@dataclass(slots=True)
class _Bucket:
    """State of one station for one bucket, in memory."""

    state: Any
    position: int
    interactions: int = 0
    saved: float = 0.0
    saved_position: int = -1
    hours: dict[int, int] = field(default_factory=dict)


class Stations:
    """The steps of all stations over a store; no loop, no clock but for saving.

    Parameters
    ----------
    store
        Where to read and write.
    stations
        In the order in which they step; those of the fleet read what the others decided.
    save_every_s
        Seconds between two writes of a state.
    """

    def __init__(
        self,
        store: StationStore,
        stations: Sequence[Station[Any]],
        save_every_s: float = _SAVE_S,
    ) -> None:
        self._store = store
        self._stations = {station.name: station for station in stations}
        self._save_every = save_every_s
        self._held: dict[tuple[str, str], _Bucket] = {}
        self._since = timedelta(days=7)  # what was decided while no worker ran
        self._told: list[tuple[str, str]] = []
        self._erased = 0
        self._rested: tuple[int, frozenset[str]] | None = None
        self.sealed = 0

    def step(self, owned: Iterable[str]) -> tuple[list[Finding], bool]:
        """Take one step of every bucket held.

        Returns
        -------
        findings
            New or changed ones.
        bool
            Whether more is sealed than this step took.

        Raises
        ------
        Unavailable
            When the store is away; the next step then begins at what is stored.
        """
        buckets = list(owned)
        self.sealed = self._store.sealed(leads=FLEET in buckets)
        place = self.sealed, frozenset(buckets)
        if place == self._rested:  # nothing was sealed since, and nobody waits for us
            return [], False
        erased = self._store.erased()
        if erased != self._erased:  # somebody was erased, also out of the stored states
            self.reset()
            self._erased = erased
        self._release(buckets)
        if not self.sealed:
            self._rested = place
            return [], False
        try:
            findings, more = self._step(buckets)
        except BaseException:
            self.reset()
            raise
        behind = any(at.position < self.sealed for at in self._held.values())
        self._rested = None if more or behind else place
        return findings, more

    def reset(self) -> None:
        """Forget what is not stored: the next step begins at what is."""
        self._held.clear()
        self._told.clear()
        self._rested = None

    def _step(self, buckets: Sequence[str]) -> tuple[list[Finding], bool]:
        self._take_over(buckets)
        mine = [b for b in buckets if b != FLEET]
        outputs: list[Output] = []
        moved: dict[tuple[str, str], bool] = {}
        # Deciding twice changes nothing, so moments may overlap.
        actions = self._store.actions(datetime.now(UTC) - self._since)
        self._since = timedelta(hours=1)
        waiting = self._grouped(mine)
        more = False
        for lo, keys in sorted(waiting.items()):
            results, settled, hi = self._read(lo)
            more |= hi < self.sealed
            parts, before = _split(results), _split(settled)
            for key in keys:
                part = parts.get(int(key[1]), empty_results())
                rest = before.get(int(key[1]), empty_results())
                sealed = Sealed(lo, hi, part, rest, actions=actions)
                made = self._advance(key, sealed)
                outputs += made
                moved[key] = bool(made)
        if self._store.erased() != self._erased:
            return [], True  # outputs may hold what was erased meanwhile: step again
        self._store.write(outputs)
        self._save(moved)
        return (self._step_fleet() if FLEET in buckets else []), more

    def _grouped(self, buckets: Sequence[str]) -> dict[int, list[tuple[str, str]]]:
        """Buckets that something waits for, by where they stand."""
        waiting: dict[int, list[tuple[str, str]]] = {}
        for bucket in buckets:
            for station in self._stations.values():
                key = (station.name, bucket)
                if not station.fleet and self._held[key].position < self.sealed:
                    waiting.setdefault(self._held[key].position, []).append(key)
        return waiting

    def _read(self, lo: int) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Results of a step and where it ends."""
        hi = min(self.sealed, (lo // STEP_S + 1) * STEP_S)
        results = self._store.results(lo // _MINUTE * _MINUTE, hi)
        settled = self._store.settled(lo, hi)
        if results.is_empty() and settled.is_empty() and hi < self.sealed:
            following = self._store.following(hi, self.sealed)
            if following is None or following - hi > _GAP_S or lo == 0:
                hi = self.sealed if following is None else max(hi, following // STEP_S * STEP_S)
        return results, settled, hi

    def _advance(self, key: tuple[str, str], sealed: Sealed) -> Sequence[Output]:
        held, station = self._held[key], self._stations[key[0]]
        if _idle(sealed) and not station.size(held.state):
            held.position = sealed.hi
            return []
        with telemetry.STATION_SECONDS.labels(station.name).time():
            held.state, outputs = station.step(sealed, held.state)
        held.position = sealed.hi
        fresh = sealed.results.filter(sealed.results["decided"] >= sealed.lo)
        held.interactions += len(fresh)
        for hour, n in (fresh["decided"] // STEP_S * STEP_S).value_counts().iter_rows():
            held.hours[hour] = held.hours.get(hour, 0) + n
        return outputs

    def _step_fleet(self) -> list[Finding]:
        """Stations of the whole fleet read what every bucket has decided."""
        frontier = self._frontier()
        findings: list[Finding] = []
        for name, station in self._stations.items():
            if not station.fleet:
                continue
            held = self._held[name, FLEET]
            if held.position >= frontier:
                continue
            lo, hi = held.position, frontier
            changes = self._store.changes(lo, hi)
            sealed = Sealed(lo, hi, empty_results(), empty_results(), changes)
            outputs = self._advance((name, FLEET), sealed)
            findings += [self._explained(o) for o in outputs if isinstance(o, Finding)]
            self._told.append((name, FLEET))
            self._store.write(findings)
            self._alert([f.finding_id for f in findings if not f.incident], lo, hi)
        return findings

    def _alert(self, heads: Sequence[str], lo: int, hi: int) -> None:
        """Write events of alerts, and a sign that open ones last; not while a backlog is read."""
        if heads:
            self._store.alert(heads)
        if hi >= self.sealed and hi // _BEAT_S > lo // _BEAT_S:
            self._store.alert([], hi // _BEAT_S * _BEAT_S)

    def told(self) -> None:
        """Store how far stations of the fleet are, once their findings have been sent."""
        self._save(dict.fromkeys(self._told, True))
        self._told.clear()

    def _frontier(self) -> int:
        """Event time up to which all buckets have decided."""
        known = self._store.positions()
        feeding = [s.name for s in self._stations.values() if not s.fleet]
        reached = [
            max(known.get((name, str(b)), (0, 0))[0], self._position(name, str(b)))
            for name in feeding
            for b in range(BUCKETS)
        ]
        return min(reached, default=0)

    def _position(self, name: str, bucket: str) -> int:
        held = self._held.get((name, bucket))
        return held.position if held else 0

    def _explained(self, finding: Finding) -> Finding:
        if finding.incident:
            return finding
        lo, hi = finding.began - BEFORE_S, finding.version
        return explain(finding, self._store.context(finding.environment, finding.agent, lo, hi))

    def _save(self, moved: Mapping[tuple[str, str], bool]) -> None:
        """Store how far buckets are, and the states that are due or have put something out."""
        if not moved:
            return
        now = time.monotonic()
        due = [
            key for key, urgent in moved.items()
            if urgent or now - self._held[key].saved >= self._save_every
        ]  # fmt: skip
        states = [self._stored(key) for key in due]
        if states and self._store.erased() != self._erased:
            return
        self._note_read(due)
        progress = {k: (self._held[k].position, self._held[k].interactions) for k in moved}
        self._store.save(states, progress)
        for key in due:
            self._held[key].saved = now
            self._held[key].saved_position = self._held[key].position

    def _note_read(self, keys: Sequence[tuple[str, str]]) -> None:
        first = next((n for n, s in self._stations.items() if not s.fleet), "")
        for name, bucket in keys:
            held = self._held[name, bucket]
            if name == first and held.hours:
                self._store.note_read(bucket, held.hours, held.position)
            oldest = held.position - 2 * STEP_S
            held.hours = {h: n for h, n in held.hours.items() if h >= oldest}

    def _stored(self, key: tuple[str, str]) -> Stored:
        held, station = self._held[key], self._stations[key[0]]
        meta = {"interactions": held.interactions, "hours": held.hours}
        raw = json.dumps(meta).encode() + b"\n" + station.dump(held.state)
        size = station.size(held.state)
        return Stored(*key, held.position, _text(station.parameters), size, raw)

    def _take_over(self, buckets: Sequence[str]) -> None:
        for station in self._stations.values():
            wanted = [FLEET] if station.fleet else [b for b in buckets if b != FLEET]
            for bucket in wanted:
                if bucket in buckets and (station.name, bucket) not in self._held:
                    self._held[station.name, bucket] = self._load(station, bucket)

    def _load(self, station: Station[Any], bucket: str) -> _Bucket:
        stored = self._store.load(station.name, bucket)
        if stored is None:
            return _Bucket(station.begin(), 0)
        if stored.parameters != _text(station.parameters):
            log.warning(
                "%s, bucket %s: the settings changed from %s to %s and apply to the stored state",
                station.name, bucket, stored.parameters, _text(station.parameters),
            )  # fmt: skip
        try:
            meta, _, raw = stored.state.partition(b"\n")
            known = json.loads(meta)
            hours = {int(h): n for h, n in known["hours"].items()}
            state = station.load(raw)
        except (ValueError, KeyError) as error:
            log.warning(
                "%s, bucket %s: its stored state cannot be used, so it starts learning again: %s",
                station.name, bucket, error,
            )  # fmt: skip
            return _Bucket(station.begin(), stored.position)
        return _Bucket(state, stored.position, known["interactions"], hours=hours)

    def _release(self, buckets: Sequence[str]) -> None:
        kept = set(buckets)
        self._held = {key: held for key, held in self._held.items() if key[1] in kept}

    def flush(self) -> None:
        """Store all states that have moved since they were stored."""
        moved = [k for k, h in self._held.items() if h.position > max(h.saved_position, 0)]
        self._save(dict.fromkeys(moved, True))

    def held(self) -> dict[str, tuple[int, int, int]]:
        """Per station: position of the bucket furthest behind, buckets and streams held."""
        found: dict[str, tuple[int, int, int]] = {}
        for (name, _), held in list(self._held.items()):
            position, buckets, streams = found.get(name, (held.position, 0, 0))
            size = self._stations[name].size(held.state)
            found[name] = (min(position, held.position), buckets + 1, streams + size)
        return found

    @property
    def names(self) -> list[str]:
        """Names of the stations, in order."""
        return list(self._stations)


def _idle(sealed: Sealed) -> bool:
    return sealed.results.is_empty() and sealed.settled.is_empty() and sealed.changes.is_empty()


def _split(rows: pl.DataFrame) -> dict[int, pl.DataFrame]:
    """Results by bucket."""
    if rows.is_empty():
        return {}
    agents = rows["agent"].unique(maintain_order=True)
    buckets = pl.DataFrame({"agent": agents, "bucket": [bucket_of(a) for a in agents]})
    parts = rows.join(buckets, on="agent", how="left", maintain_order="left").partition_by(
        "bucket", as_dict=True, include_key=False
    )
    return {int(bucket): part for (bucket,), part in parts.items()}


def _text(parameters: Mapping[str, Any]) -> str:
    return json.dumps(dict(parameters), sort_keys=True)


class StationRunner(Service):  # type: ignore[misc]
    """Runs `Stations` beside the event loop, and says how they stand.

    Parameters
    ----------
    stations
        Over the store of the deployment.
    buckets
        Buckets that this worker holds now.
    tell
        Sends a finding, under its id, to the topic of findings and returns when Kafka has it;
        raises `Unavailable`.
    """

    def __init__(
        self,
        stations: Stations,
        buckets: Callable[[], Sequence[str]],
        tell: Told,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._stations = stations
        self._buckets = buckets
        self._tell = tell
        self._positions: dict[str, int] = {}
        self._moved: dict[str, float] = {}
        self._known: dict[str, tuple[int, int, int]] = {}
        self._stepped = time.monotonic()
        self._error = ""

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        rest = _REST_S
        while not self.should_stop:
            await self.sleep(rest)
            known = self._stations.sealed
            try:
                more = await self.step()
                # Every look is a query, and it is seconds from one sealed cell to the next.
                moved = self._stations.sealed > known
                rest = 0.0 if more else _REST_S if moved else min(rest + _REST_S, _LONGEST_REST_S)
            except Unavailable as error:
                self._error = str(error)
                log.warning("stations put off: %s", error)
                rest = _PUT_OFF_S

    async def step(self) -> bool:
        """Take one step; returns whether more waits.

        Raises
        ------
        Unavailable
            When ClickHouse or Kafka is away.
        """
        findings, more = await asyncio.to_thread(self._stations.step, self._buckets())
        try:
            for finding in findings:
                if not finding.incident:
                    log.warning("%s", finding.title)
                await self._tell(finding.finding_id, finding.message())
            await asyncio.to_thread(self._stations.told)
        except Unavailable:
            self._stations.reset()
            raise
        self._error = ""
        self._note(time.monotonic())
        return more

    async def on_stop(self) -> None:
        """Store what the last steps learnt."""
        try:
            await asyncio.to_thread(self._stations.flush)
        except Unavailable as error:
            log.warning("states are not stored, the last minute is read again: %s", error)

    def _note(self, now: float) -> None:
        self._stepped = now
        self._known = self._stations.held()
        for name, (position, _buckets, streams) in self._known.items():
            if position != self._positions.get(name) or position >= self._stations.sealed:
                self._moved[name] = now
            self._positions[name] = position
            lag = max(0, self._stations.sealed - position)
            telemetry.STATION_LAG.labels(name).set(lag)
            telemetry.STATION_STREAMS.labels(name).set(streams)

    def health(self, now: float | None = None) -> list[StationHealth]:
        """How every station stands, without waiting for anything.

        A step is taken every second, so one that does not come back is a stall as well.
        """
        at = time.monotonic() if now is None else now
        sealed = self._stations.sealed
        hangs = bool(self._error) or at - self._stepped > _LONGEST_S
        known = self._known or dict.fromkeys(self._stations.names, (sealed, 0, 0))
        found = []
        for name, (position, buckets, streams) in known.items():
            lag = max(0, sealed - position)
            stalled = at - self._moved.get(name, self._stepped) if lag or hangs else 0.0
            found.append(StationHealth(name, lag, stalled, buckets, streams, self._error))
        return found
