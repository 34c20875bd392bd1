"""Detection: all signals of all agents of a bucket, on sealed event time.

Rates are read by the cell, everything else by the minute. `processors.signals` lists what is
watched; each family of signals keeps its streams in a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, Protocol

import polars as pl

from processors.stations.base import BUCKETS, CELL, Action, Change, Output, Sealed
from processors.stations.mixes import MixStreams, mixtures
from processors.stations.novelty import Novelty
from processors.stations.rates import RateStreams, observations
from processors.stations.streams import Thresholds, compress, expand
from processors.stations.tails import TailStreams, minutes, sketches
from processors.stations.traffic import TrafficStreams, counts

_LAYOUT: Final = 1
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class AgentDetection:
    """How eager detection is about one agent.

    Attributes
    ----------
    severity
        The most that a finding of it can be; with "off" it is not watched.
    min_effect
        Smallest change of its failure rate worth a page; None as for all.
    """

    severity: Literal["page", "notice", "off"] = "page"
    min_effect: float | None = None


@dataclass(frozen=True, slots=True)
class DetectionConfig:
    """How eager detection is.

    Attributes
    ----------
    pages_per_week, notices_per_week
        Expected false ones of a deployment, over all streams.
    warm_up
        Interactions that make a baseline: with fewer, a rare failure is easily missed in it, and a
        finding then ends late.
    min_effect
        Smallest change of the failure rate worth a page.
    retire_days
        Streams without a value for so long are forgotten.
    agents
        What differs for agents, by name.
    """

    pages_per_week: float = 1.0
    notices_per_week: float = 10.0
    warm_up: float = 2_000.0
    min_effect: float = 0.01
    retire_days: int = 14
    agents: Mapping[str, AgentDetection] = field(default_factory=dict)


class Family(Protocol):
    """What the streams of all families can do."""

    def accept(self, action: Action, at: int) -> list[Change]:
        """Take the new level of a stream for normal."""


@dataclass(slots=True)
class DetectionState:
    """The streams of a bucket by family."""

    rates: RateStreams
    tails: TailStreams
    mixes: MixStreams
    traffic: TrafficStreams
    novelty: Novelty = field(default_factory=Novelty)
    day: int = 0

    @property
    def families(self) -> tuple[RateStreams, TailStreams, MixStreams, TrafficStreams]:
        """All but the vocabularies."""
        return self.rates, self.tails, self.mixes, self.traffic


class Detection:
    """The station; see `processors.stations.base.Station`."""

    name = "detection"
    fleet = False

    def __init__(self, config: DetectionConfig) -> None:
        self.config = config
        self.parameters: Mapping[str, Any] = asdict(config)
        own = config.agents.items()
        self._effects = {n: a.min_effect for n, a in own if a.min_effect is not None}
        self._off = [name for name, agent in own if agent.severity == "off"]

    def begin(self) -> DetectionState:
        """State before anything was read."""
        c = self.config
        limits = Thresholds(c.pages_per_week, c.notices_per_week, BUCKETS)
        return DetectionState(
            RateStreams(limits, c.warm_up, c.min_effect, self._effects),
            TailStreams(limits, c.warm_up / 2),
            MixStreams(limits, c.warm_up),
            TrafficStreams(limits),
        )

    def step(
        self, sealed: Sealed, state: DetectionState
    ) -> tuple[DetectionState, Sequence[Output]]:
        """Take what was sealed; returns changes in order of event time."""
        if self._off:
            watched = ~pl.col("agent").is_in(self._off)
            results, settled = sealed.results.filter(watched), sealed.settled.filter(watched)
            sealed = replace(sealed, results=results, settled=settled)
        changes: list[Change] = [
            change
            for action in sealed.actions
            for change in self._accept(action, state, sealed.lo + CELL)
        ]
        whole = minutes(sealed)
        fresh = sealed.results.filter(sealed.results["decided"] >= sealed.lo)
        if not (fresh.is_empty() and sealed.settled.is_empty()):
            changes += state.rates.step(observations(sealed, state.novelty.step(fresh)))
        if not whole.is_empty():
            changes += state.tails.step(sketches(whole))
            changes += state.mixes.step(mixtures(whole))
        changes += state.traffic.step(counts(whole), sealed.lo, sealed.hi)
        changes += self._retire(state, sealed)
        return state, sorted(changes, key=lambda c: (c.at, c.change_id, c.status))

    def _accept(self, action: Action, state: DetectionState, at: int) -> list[Change]:
        if action.action != "accept":
            return []
        families: tuple[Family, ...] = state.families
        return [change for family in families for change in family.accept(action, at)]

    def _retire(self, state: DetectionState, sealed: Sealed) -> list[Change]:
        today = sealed.hi // _DAY
        if today == state.day:
            return []
        state.day = today
        before = today * _DAY - self.config.retire_days * _DAY
        ended = [c for family in state.families for c in family.retire(before, today * _DAY)]
        state.novelty.keep({(key[1], key[2]) for key in state.traffic.register.keys})
        return ended

    def size(self, state: DetectionState) -> int:
        """Streams that are followed."""
        return sum(len(family.register.keys) for family in state.families)

    def dump(self, state: DetectionState) -> bytes:
        """State as bytes."""
        return compress(
            {
                "layout": _LAYOUT,
                "rates": state.rates.dump(),
                "tails": state.tails.dump(),
                "mixes": state.mixes.dump(),
                "traffic": state.traffic.dump(),
                "novelty": state.novelty.dump(),
                "day": state.day,
            }
        )

    def load(self, raw: bytes) -> DetectionState:
        """Build the state of `dump`, under the parameters of now."""
        found = expand(raw, _LAYOUT)
        state = self.begin()
        state.rates.load(found["rates"])
        state.tails.load(found["tails"])
        state.mixes.load(found["mixes"])
        state.traffic.load(found["traffic"])
        state.novelty.load(found["novelty"])
        state.day = found["day"]
        return state
