"""Incidents on a schedule: what goes wrong, where, when, and what a monitor should notice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingest.core.durations import seconds
from ingest.core.errors import UsageError
from ingest.simulate.agents import AGENTS, Agent


@dataclass(frozen=True, slots=True)
class Effect:
    """What an incident does to the requests it affects.

    Rates are chances per request or call and add to those of an ordinary day; latency and tokens
    are factors.
    """

    tool_errors: float = 0.0
    model_errors: float = 0.0
    refusals: float = 0.0
    loops: float = 0.0
    wrong: float = 0.0
    latency: float = 1.0
    tokens: float = 1.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of incident: its effect and what moves which way."""

    effect: Effect
    expected: dict[str, str]
    agent: str
    tool: str | None = None
    version: str | None = None
    error_type: str | None = None
    error_template: str | None = None
    length_s: float = 1200


KINDS: Final[dict[str, Kind]] = {
    "tool_outage": Kind(
        Effect(tool_errors=0.9),
        {"success": "down", "tool_errors": "up"},
        agent="retail",
        tool="get_order",
        error_type="http_503",
        error_template="503 service unavailable from {tool}, node {n} (request {id})",
    ),
    "model_outage": Kind(
        Effect(model_errors=0.6),
        {"success": "down", "errors": "up"},
        agent="support",
        error_type="overloaded",
        error_template="529 overloaded, request {id} dropped after {n} ms",
    ),
    "bad_version": Kind(
        Effect(refusals=0.25, loops=0.1),
        {"success": "down"},
        agent="support",
        version="v15-hotfix",
    ),
    "latency_regression": Kind(Effect(latency=3.0), {"duration": "up"}, agent="coding"),
    "token_regression": Kind(
        Effect(tokens=4.0), {"cost": "up", "input_tokens": "up"}, agent="retail"
    ),
    "silent_regression": Kind(
        Effect(wrong=0.4), {"satisfaction": "down", "success": "down"}, agent="research"
    ),
}
"""What can be scheduled. ``bad_version`` goes to half of the sessions that start meanwhile."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident; times in nanoseconds since the simulation began."""

    id: str
    kind: str
    agent: str
    version: str | None
    tool: str | None
    start_ns: int
    end_ns: int

    @property
    def what(self) -> Kind:
        """The kind of incident this is."""
        return KINDS[self.kind]

    def affects(self, agent: str, version: str, since_ns: int) -> bool:
        """Tell whether a request that began ``since_ns`` into the simulation suffers."""
        if agent != self.agent:
            return False
        if self.version is not None:
            return version == self.version
        return self.start_ns <= since_ns < self.end_ns


def parse_incident(text: str, number: int, agents: Sequence[Agent] = AGENTS) -> Incident:
    """Read ``KIND@START[+LENGTH][:AGENT[/TOOL]]``, START counted from the simulation's beginning.

    Parameters
    ----------
    text
        What to schedule.
    number
        Tells incidents apart.
    agents
        Whom it can hit.

    Raises
    ------
    UsageError
        When the text is none, with what is wrong.

    Examples
    --------
    >>> parse_incident("tool_outage@40m+10m:support", 1).tool
    'search_articles'
    """
    match = re.fullmatch(r"(\w+)@(\d[\w.]*)(?:\+(\d[\w.]*))?(?::([^/]+)(?:/(.+))?)?", text)
    if match is None:
        raise UsageError(f"{text!r} is no incident; write KIND@START[+LENGTH][:AGENT[/TOOL]]")
    name, start, length, agent_name, tool = match.groups()
    if name not in KINDS:
        raise UsageError(f"no incident {name!r}; choose one of {', '.join(KINDS)}")
    kind = KINDS[name]
    by_name = {agent.name: agent for agent in agents}
    agent = by_name.get(agent_name or kind.agent)
    if agent is None:
        raise UsageError(
            f"no agent {agent_name or kind.agent!r}; choose one of {', '.join(by_name)}"
        )
    if kind.tool is None and tool is not None:
        raise UsageError(f"{name} hits no tool; leave /{tool} out")
    start_ns = int(seconds(start, or_none=True) * 1e9)
    length_ns = int((seconds(length) if length else kind.length_s) * 1e9)
    version = kind.version and (
        kind.version if agent.name == kind.agent else f"{agent.versions[1].name}-hotfix"
    )
    return Incident(
        id=f"{number}-{name}",
        kind=name,
        agent=agent.name,
        version=version,
        tool=_tool(agent, kind, tool),
        start_ns=start_ns,
        end_ns=start_ns + length_ns,
    )


def _tool(agent: Agent, kind: Kind, asked: str | None) -> str | None:
    if kind.tool is None:
        return None
    names = [tool.name for tool in agent.tools if tool.kind != "human_input"]
    if asked is None:
        return kind.tool if kind.tool in names else names[0]
    if asked not in names:
        raise UsageError(f"{agent.name} has no tool {asked!r}; choose one of {', '.join(names)}")
    return asked
