"""Health by progress: whether what waits is being worked off, not whether a process runs. Pure.

A partition with lag of which nothing has been stored for a while is stalled, however busy its
process looks; one without lag is fine, however quiet it is. `ProgressTracker` follows one
partition, `judge` turns what is known at one moment into a verdict with its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

LOOP_SECONDS: Final = 5.0
"""A process that has not said where it stands for so long is itself stuck."""


@dataclass(frozen=True, slots=True)
class Limits:
    """After how many seconds without progress a process is unready, and unhealthy."""

    unready_after: float = 15.0
    unhealthy_after: float = 120.0


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """Where one partition stands.

    Attributes
    ----------
    lag
        Records that wait; None while the broker has not said.
    stalled_s
        How long there has been lag without anything having been stored; 0 without lag.
    age_s
        How long ago its newest row was stored; None when this process has stored none.
    silent_s
        How long ago the broker last answered a request for its records; None when not known.
    parked
        Why it is not read for now; '' when it is.
    """

    topic: str
    partition: int
    lag: int | None
    stalled_s: float = 0.0
    age_s: float | None = None
    silent_s: float | None = None
    parked: str = ""


@dataclass(frozen=True, slots=True)
class StationHealth:
    """How one station, or the audit, stands in this process.

    Attributes
    ----------
    lag_s
        Seconds of event time that are sealed and not read, of its bucket furthest behind.
    stalled_s
        Seconds since it last moved, while something waits; 0 when nothing does.
    buckets, streams
        What this process holds.
    error
        Why the last step failed, '' when it did not.
    """

    station: str
    lag_s: int
    stalled_s: float
    buckets: int = 0
    streams: int = 0
    error: str = ""


@dataclass(slots=True)
class ProgressTracker:
    """Follows one partition; times are seconds of any steady clock.

    Examples
    --------
    >>> track = ProgressTracker("events", 0, since=100.0)
    >>> track.update(lag=3, position=7, now=110.0).at(115.0).stalled_s
    5.0
    >>> track.update(lag=9, position=7, now=120.0).at(120.0).stalled_s  # lag grows, nothing moves
    10.0
    >>> track.update(lag=2, position=14, now=121.0).at(121.0).stalled_s
    0.0
    """

    topic: str
    partition: int
    since: float
    lag: int | None = None
    position: int | None = None
    stored_at: float | None = None
    moved_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.moved_at = self.since

    def update(self, lag: int | None, position: int | None, now: float) -> ProgressTracker:
        """Take how many records wait and the next offset to store, None while not known."""
        if position != self.position and self.position is not None:
            self.stored_at = now
        if position != self.position or not lag or not self.lag:
            self.moved_at = now
        self.lag, self.position = lag, position
        return self

    def at(self, now: float, silent_s: float | None = None) -> PartitionHealth:
        """Where it stands at this moment."""
        return PartitionHealth(
            self.topic,
            self.partition,
            self.lag,
            now - self.moved_at if self.lag else 0.0,
            None if self.stored_at is None else now - self.stored_at,
            silent_s,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a process knows of its own progress at ``at`` (seconds of its steady clock).

    Attributes
    ----------
    joined
        Whether it has joined its group; until then ``at`` is when it began to.
    loops
        Seconds since each of its loops last went round, by name.
    doing
        What it waits for, with the seconds since: told as the cause of a stall.
    """

    at: float
    joined: bool = False
    standings: Sequence[PartitionHealth] = ()
    stations: Sequence[StationHealth] = ()
    loops: Mapping[str, float] = field(default_factory=dict)
    doing: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a process is not ready: a code for programs, a text for people, and for how long.

    ``partition`` is None when it is the process as a whole.
    """

    code: str
    text: str
    for_s: float
    topic: str | None = None
    partition: int | None = None
    lag: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to ``/readyz`` and ``/healthz``."""

    ready: bool
    healthy: bool
    reasons: tuple[Reason, ...] = ()
    standings: tuple[PartitionHealth, ...] = ()
    stations: tuple[StationHealth, ...] = ()

    @property
    def status(self) -> str:
        """``ready``, ``unready`` or ``unhealthy``."""
        return "ready" if self.ready else "unready" if self.healthy else "unhealthy"

    def body(self, component: str) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "component": component,
            "status": self.status,
            "reasons": [_plain(reason) for reason in self.reasons],
            "partitions": [_plain(standing) for standing in self.standings],
            "stations": [_plain(station) for station in self.stations],
        }


def judge(facts: Snapshot, now: float, limits: Limits) -> Verdict:
    """Judge what was known at ``facts.at`` as of ``now``.

    Examples
    --------
    >>> judge(Snapshot(at=10.0, joined=True), 11.0, Limits()).status
    'ready'
    >>> stuck = PartitionHealth("events", 2, lag=70, stalled_s=31.0)
    >>> doing = {"insert into events": 30.0}
    >>> facts = Snapshot(at=10.0, joined=True, standings=[stuck], doing=doing)
    >>> verdict = judge(facts, 11.0, Limits())
    >>> verdict.status, verdict.reasons[0].text
    ('unready', 'nothing stored for 31 s while 70 records wait (insert into events: 30 s)')
    """
    standings = tuple(facts.standings)
    since = now - facts.at
    if not facts.joined:
        starting = Reason("starting", f"not yet in its consumer group after {since:.0f} s", since)
        return Verdict(False, since < limits.unhealthy_after, (starting,), standings)
    reasons = [reason for s in standings if (reason := _stalled(s, facts.doing)) is not None]
    reasons += [_still(station) for station in facts.stations]
    reasons += [
        Reason("loop_stuck", f"the loop {name!r} has not gone round for {age:.0f} s", age)
        for name, age in facts.loops.items()
    ]
    if since > LOOP_SECONDS:
        text = f"the process has not said where it stands for {since:.0f} s"
        reasons.append(Reason("process_stuck", text, max(since, limits.unready_after)))
    valid = sorted((r for r in reasons if r.for_s >= limits.unready_after), key=lambda r: -r.for_s)
    healthy = all(r.for_s < limits.unhealthy_after for r in valid)
    valid += [  # to be started again would not help
        Reason("too_many_bad_lines", s.parked, s.stalled_s, s.topic, s.partition, s.lag)
        for s in standings
        if s.parked
    ]
    return Verdict(not valid, healthy, tuple(valid), standings, tuple(facts.stations))


def _still(station: StationHealth) -> Reason:
    cause = f" ({station.error})" if station.error else ""
    text = (
        f"station {station.station} has not moved for {station.stalled_s:.0f} s,"
        f" {station.lag_s} s of event time wait{cause}"
    )
    return Reason("station_stalled", text, station.stalled_s)


def _stalled(standing: PartitionHealth, doing: Mapping[str, float]) -> Reason | None:
    where = (standing.topic, standing.partition, standing.lag)
    if standing.parked:
        return None
    if standing.lag:
        longest = sorted(doing.items(), key=lambda item: -item[1])[:3]
        told = ", ".join(f"{what}: {age:.0f} s" for what, age in longest)
        cause = f" ({told})" if told else ""
        text = f"nothing stored for {standing.stalled_s:.0f} s while {standing.lag} records wait"
        return Reason("stalled", text + cause, standing.stalled_s, *where)
    if standing.silent_s is not None:
        text = f"the broker has not answered for {standing.silent_s:.0f} s"
        return Reason("broker_silent", text, standing.silent_s, *where)
    return None


def _plain(value: Reason | PartitionHealth | StationHealth) -> dict[str, Any]:
    return {name: round(v, 1) if isinstance(v, float) else v for name, v in asdict(value).items()}
