"""Samples of progress: what a process knows of its partitions, as facts to be judged and metrics.

Shared by all that consume a topic: the worker's event writer and the OTLP Kafka receiver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ingest.core import telemetry
from ingest.core.events import DIRTY_TOPIC
from ingest.core.health.verdict import PartitionHealth, ProgressTracker, Snapshot


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """What the sink, or the recomputation, knows of one of its partitions.

    ``position`` is the next offset to store and ``end`` the one after the last record, None while
    not known; ``heard_ms`` is when the broker last answered for it, ms since 1970. ``parked`` says
    why it is not read for now.
    """

    topic: str
    partition: int
    position: int | None
    end: int | None
    heard_ms: int | None = None
    parked: str = ""

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
        self._tracks: dict[tuple[str, int], ProgressTracker] = {}

    def sample(
        self,
        places: Iterable[PartitionPosition],
        loop_last_seen: Mapping[str, float],
        now: float,
        clock_ms: int,
    ) -> Snapshot:
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
        return Snapshot(
            at=now,
            joined=bool(loop_last_seen),
            standings=standings,
            loops={name: now - at for name, at in loop_last_seen.items()},
            doing=telemetry.under_way(now),
        )

    def _standing(self, place: PartitionPosition, now: float, clock_ms: int) -> PartitionHealth:
        key = (place.topic, place.partition)
        track = self._tracks.setdefault(key, ProgressTracker(*key, since=now))
        track.update(place.lag, place.position, now)
        # A broker that has not answered yet is silent since the partition became ours.
        since = now - track.since
        heard = since if place.heard_ms is None else (clock_ms - place.heard_ms) / 1000
        standing = track.at(now, min(max(heard, 0.0), since))
        if place.parked:
            return replace(standing, parked=place.parked)
        if place.topic == DIRTY_TOPIC:
            rested = max(0.0, standing.stalled_s - self._marks_rest)
            return replace(standing, stalled_s=rested, silent_s=None)
        return standing


def _measure(standing: PartitionHealth) -> None:
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
    """A partition that has moved away is reported by its new holder."""
    if topic == DIRTY_TOPIC:
        telemetry.MARKS_PENDING.remove(str(partition))
        return
    for gauge in (telemetry.LAG, telemetry.AGE, telemetry.STALLED):
        gauge.remove(topic, str(partition))
