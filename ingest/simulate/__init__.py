"""Seeded traffic of several agents, with incidents on a schedule and the truth about both.

``agents`` is the world as data, ``incidents`` what goes wrong in it, ``sessions`` plays one
session; `Simulation` plays them all in order of time and keeps the books.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from random import Random
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_hexdigest

from ingest.core.events import Event
from ingest.simulate.agents import AGENTS, Agent
from ingest.simulate.incidents import Incident
from ingest.simulate.sessions import Conditions, Request, Session

_S: Final = 1_000_000_000
_time = attrgetter("time_unix_nano")


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """What to simulate.

    Attributes
    ----------
    start_ns
        When the first session may begin, ns since 1970.
    duration_s
        How long traffic lasts. What has not happened by its end is left out, so that the last
        sessions are still open.
    rate
        Mean user requests per second, all agents together.
    seed
        The same seed and config give the same events.
    incidents
        From `ingest.simulate.incidents.parse_incident`.
    rollout
        When new versions begin to come and when all sessions have them, as parts of the duration.
    """

    start_ns: int
    duration_s: float
    rate: float
    seed: int = 0
    incidents: Sequence[Incident] = ()
    environment: str = "production"
    rollout: tuple[float, float] = (0.5, 0.6)
    agents: Sequence[Agent] = AGENTS

    @property
    def run(self) -> str:
        """Short name of these events: ids of different runs never meet."""
        what = f"{self.seed} {self.start_ns} {self.duration_s} {self.rate} {self.environment}"
        planned = " ".join(f"{i.id} {i.agent} {i.start_ns} {i.end_ns}" for i in self.incidents)
        return xxh3_64_hexdigest(f"{what} {planned}".encode())[:8]


@dataclass(slots=True)
class Simulation:
    """Traffic as an iterator of events, and the truth once it has run.

    Examples
    --------
    >>> simulation = Simulation(SimulationConfig(start_ns=0, duration_s=60, rate=1, seed=7))
    >>> events = list(simulation.events())
    >>> len(events), simulation.truth()["events"]
    (272, 272)
    """

    config: SimulationConfig
    _sent: int = 0
    _sessions: int = 0
    _requests: list[Request] = field(default_factory=list)
    _conditions: Conditions = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        start, end = (int(part * config.duration_s * _S) for part in config.rollout)
        self._conditions = Conditions(
            config.start_ns, start, end, config.incidents, config.environment
        )

    def events(self) -> Iterator[Event]:
        """Yield all events in order of time; memory holds the open sessions only."""
        config = self.config
        end_ns = config.start_ns + int(config.duration_s * _S)
        pending: list[Event] = []
        for number, (start_ns, agent) in enumerate(self._arrivals()):
            if number % 256 == 0:
                pending.sort(key=_time)
                cut = bisect_left(pending, start_ns, key=_time)
                self._sent += cut
                yield from pending[:cut]
                del pending[:cut]
            session = self._play(number, start_ns, agent)
            pending += (event for event in session.events if _time(event) <= end_ns)
            self._requests += (r for r in session.requests if r.end_ns <= end_ns)
            self._sessions += 1
        pending.sort(key=_time)
        self._sent += len(pending)
        yield from pending

    def truth(self) -> dict[str, Any]:
        """What really happened in the events yielded so far, as plain JSON types.

        ``agents`` counts requests and successes per version with the reasons of failure, also of
        those that no event admits (a refusal, a wrong answer); ``failed`` names them. ``incidents``
        says what was done to whom and which way the metrics should move.
        """
        config, c = self.config, self._conditions
        rollout = _span(c.origin_ns + c.rollout_start_ns, c.origin_ns + c.rollout_end_ns)
        return {
            "run": config.run,
            "seed": config.seed,
            "environment": config.environment,
            "rate": config.rate,
            **_span(config.start_ns, config.start_ns + int(config.duration_s * _S)),
            "events": self._sent,
            "sessions": self._sessions,
            "agents": {agent.name: self._versions(agent) for agent in config.agents},
            "rollouts": [
                {
                    "agent": agent.name,
                    "from": agent.versions[0].name,
                    "to": agent.versions[1].name,
                    **rollout,
                }
                for agent in config.agents
            ],
            "incidents": [self._incident(incident) for incident in config.incidents],
            "failed": {r.interaction_id: r.reason for r in self._requests if not r.succeeded},
        }

    def _play(self, number: int, start_ns: int, agent: Agent) -> Session:
        config = self.config
        session = Session(
            id=f"{agent.name}-{config.run}-{number}",
            agent=agent,
            start_ns=start_ns,
            conditions=self._conditions,
            rng=Random(f"{config.seed} {agent.name} {start_ns - config.start_ns}"),  # noqa: S311
        )
        session.play()
        return session

    def _arrivals(self) -> list[tuple[int, Agent]]:
        """Start of every session, in order: a Poisson process by the hour of the day."""
        arrivals: list[tuple[int, Agent]] = []
        for index, agent in enumerate(self.config.agents):
            starts = self._starts(agent, np.random.default_rng([self.config.seed, index]))
            arrivals += ((int(start_ns), agent) for start_ns in starts)
        return sorted(arrivals, key=lambda arrival: (arrival[0], arrival[1].name))

    def _starts(self, agent: Agent, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        config = self.config
        offsets_s = np.linspace(0.0, config.duration_s, int(config.duration_s // 60) + 2)
        hours = (config.start_ns / _S + offsets_s) / 3600 % 24
        # Busiest in mid-afternoon, quietest before dawn.
        load = 1 + agent.swing * np.sin(2 * np.pi * (hours - 9) / 24)
        reached = np.concatenate(
            ([0.0], np.cumsum((load[1:] + load[:-1]) / 2 * np.diff(offsets_s)))
        )
        count = rng.poisson(config.rate * agent.share / agent.turns * config.duration_s)
        starts_s = np.interp(np.sort(rng.random(count)) * reached[-1], reached, offsets_s)
        return np.asarray(config.start_ns + (starts_s * _S).astype(np.int64))

    def _versions(self, agent: Agent) -> dict[str, Any]:
        mine = [request for request in self._requests if request.agent == agent.name]
        return {
            version: {
                "interactions": len(some := [r for r in mine if r.version == version]),
                "succeeded": sum(request.succeeded for request in some),
                "reasons": dict(Counter(r.reason for r in some if r.reason is not None)),
            }
            for version in sorted({request.version for request in mine})
        }

    def _incident(self, incident: Incident) -> dict[str, Any]:
        hit = [request for request in self._requests if incident.id in request.incidents]
        origin_ns = self.config.start_ns
        return {
            "id": incident.id,
            "kind": incident.kind,
            "agent": incident.agent,
            "agent_version": incident.version,
            "tool": incident.tool,
            **_span(origin_ns + incident.start_ns, origin_ns + incident.end_ns),
            "error_type": incident.what.error_type,
            "error_template": incident.what.error_template,
            "expected": incident.what.expected,
            "interactions": len(hit),
            "failed": sum(not request.succeeded for request in hit),
        }


def _span(start_ns: int, end_ns: int) -> dict[str, Any]:
    return {
        "start": _iso(start_ns),
        "end": _iso(end_ns),
        "start_unix_nano": start_ns,
        "end_unix_nano": end_ns,
    }


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")
