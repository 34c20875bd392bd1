"""A worker's health: how far the sink and the recomputation have come, judged by progress.

`Health` samples twice a second what the event loop knows without asking anybody; threads of
`ingest.probes` judge the last sample against the clock. So a worker is found out whether its
ClickHouse hangs, its broker is silent, one of its loops is stuck, or the event loop itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mode import Service

from ingest import probes, telemetry
from ingest.events import DIRTY_TOPIC
from ingest.progress import Facts, Limits, Standing, Track, Verdict, judge

_SAMPLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Where health is served, and when a lack of progress counts.

    ``port`` is None to serve nothing; ``marks_rest`` is how many seconds marks may wait on purpose.
    """

    port: int | None = None
    limits: Limits = field(default_factory=Limits)
    marks_rest: float = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """What the sink, or the recomputation, knows of one of its partitions.

    ``position`` is the next offset to store and ``end`` the one after the last record, None while
    not known; ``heard_ms`` is when the broker last answered for it, ms since 1970.
    """

    topic: str
    partition: int
    position: int | None
    end: int | None
    heard_ms: int | None = None

    @property
    def lag(self) -> int | None:
        """Records that wait, None while not known."""
        if self.position is None or self.end is None:
            return None
        return max(0, self.end - self.position)


class Sampler:
    """Turns places, as they are seen again and again, into facts. Pure but for the metrics."""

    def __init__(self, marks_rest: float) -> None:
        self._marks_rest = marks_rest
        self._tracks: dict[tuple[str, int], Track] = {}

    def sample(
        self,
        places: Iterable[Place],
        turned: Mapping[str, float],
        now: float,
        clock_ms: int,
    ) -> Facts:
        """What is known now.

        Parameters
        ----------
        places
            Of every partition that is held; what is missing has moved away.
        turned
            When each loop last went round, seconds of the steady clock.
        now
            Steady clock, seconds.
        clock_ms
            Wall clock, ms since 1970, as brokers' answers are dated.
        """
        held = {(place.topic, place.partition): place for place in places}
        for gone in self._tracks.keys() - held.keys():
            del self._tracks[gone]
            _forget(*gone)
        standings = [self._standing(place, now, clock_ms) for place in held.values()]
        for standing in standings:
            _measure(standing)
        return Facts(
            at=now,
            joined=bool(turned),
            standings=standings,
            loops={name: now - at for name, at in turned.items()},
            doing=telemetry.under_way(now),
        )

    def _standing(self, place: Place, now: float, clock_ms: int) -> Standing:
        key = (place.topic, place.partition)
        track = self._tracks.setdefault(key, Track(*key, since=now))
        track.update(place.lag, place.position, now)
        # A broker that has not answered yet is silent since the partition became ours.
        since = now - track.since
        heard = since if place.heard_ms is None else (clock_ms - place.heard_ms) / 1000
        standing = track.at(now, min(max(heard, 0.0), since))
        if place.topic == DIRTY_TOPIC:
            rested = max(0.0, standing.stalled_s - self._marks_rest)
            return replace(standing, stalled_s=rested, silent_s=None)
        return standing


class Health(Service):  # type: ignore[misc]
    """Samples progress in the event loop, for the probes to judge.

    Parameters
    ----------
    config
        Limits and port.
    places
        Where every partition stands, without waiting for anything.
    turned
        When each loop of the sink last went round; empty until it has joined its group.
    """

    def __init__(
        self,
        config: HealthConfig,
        places: Callable[[], Iterable[Place]],
        turned: Mapping[str, float],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._config = config
        self._places = places
        self._turned = turned
        self._sampler = Sampler(config.marks_rest)
        self._facts = Facts(at=time.monotonic())

    def serve(self) -> None:
        """Answer probes from now on, where a port is configured.

        Raises
        ------
        UsageError
            The port is in use.
        """
        if self._config.port is not None:
            probes.serve(self._config.port, "worker", self.verdict)

    def verdict(self) -> Verdict:
        """Judge the last sample. From any thread."""
        return judge(self._facts, time.monotonic(), self._config.limits)

    @Service.task  # type: ignore[untyped-decorator]
    async def _sample(self) -> None:
        while not self.should_stop:
            if self._turned:
                self._facts = self._sampler.sample(
                    self._places(), self._turned, time.monotonic(), time.time_ns() // 1_000_000
                )
            await self.sleep(_SAMPLE_S)


def _measure(standing: Standing) -> None:
    partition = str(standing.partition)
    if standing.topic == DIRTY_TOPIC:
        telemetry.MARKS_PENDING.labels(partition).set(standing.lag or 0)
        return
    if standing.lag is not None:
        telemetry.LAG.labels(standing.topic, partition).set(standing.lag)
    if standing.age_s is not None:
        telemetry.AGE.labels(standing.topic, partition).set(standing.age_s)
    telemetry.STALLED.labels(standing.topic, partition).set(standing.stalled_s)


def _forget(topic: str, partition: int) -> None:
    """A partition that has moved away is told of by whoever holds it now."""
    if topic == DIRTY_TOPIC:
        telemetry.MARKS_PENDING.remove(str(partition))
        return
    for gauge in (telemetry.LAG, telemetry.AGE, telemetry.STALLED):
        gauge.remove(topic, str(partition))
