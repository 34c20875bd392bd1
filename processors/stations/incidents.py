"""Incidents: changes of many streams with one cause are one thing to look at, and one page.

The station of the whole fleet reads what the other stations decided, in order of event time. A
change joins an incident of its agent that is going on when it began about when that did; changes of
several agents that began together are an incident of the fleet. The first change stands for the
incident; the figures shown are those of the change that says most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from processors.findings import Finding, of_change
from processors.signals import SIGNALS
from processors.stations.base import SETTLED, Change, Output, Sealed
from processors.stations.streams import change_fields, compress, ended, expand

_LAYOUT: Final = 1
_SAME_S: Final = 3600
"""Changes of one agent that began so close together share a cause."""

_FLEET_S: Final = 300
"""Changes of several agents that began so close together share a cause."""

_LINGER_S: Final = 900
"""An incident takes changes that began so long after it was over."""

_STALE_S: Final = 300
"""What ended so long ago does not stand for an incident that lasts."""

_RANK: Final = {"cluster_regressed": -1} | {signal.name: i for i, signal in enumerate(SIGNALS)}
"""What says most first: a kind of failure that is known and back, then signals in their order."""

_FLEETWIDE: Final = frozenset(
    (
        "failure", "reason", "model_error", "duration", "first_token", "unknown_tokens",
        "unanswered", "silence", "volume",
    )
)  # fmt: skip
"""Signals that a provider, the way in or a holiday moves for several agents at once."""


@dataclass(frozen=True, slots=True)
class IncidentsConfig:
    """What becomes of changes.

    Attributes
    ----------
    regressed_days
        For so long a stream that recovered and changes again counts as regressed.
    severities
        The most that a change of an agent can be, by its name: "notice", or "off" for none.
    """

    regressed_days: int = 14
    severities: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Incident:
    """Changes that share a cause; the first stands for it."""

    head: str
    environment: str
    began: int
    changes: dict[str, Change] = field(default_factory=dict)
    ended: int | None = None
    previous: str = ""

    @property
    def agents(self) -> set[str]:
        """Agents that are hit."""
        return {change.agent for change in self.changes.values()}

    @property
    def severity(self) -> str:
        """The worst of its members."""
        return "page" if any(c.severity == "page" for c in self.changes.values()) else "notice"

    def lead(self, at: int) -> Change:
        """The member that says most: a page before a notice, what lasts first, then by `_RANK`."""

        def order(c: Change) -> tuple[bool, bool, int, int, str]:
            stale = self.ended is None and c.status != "open" and at - c.at > _STALE_S
            return c.severity != "page", stale, _RANK.get(c.signal, 99), c.began, c.change_id

        return min(self.changes.values(), key=order)

    @property
    def over(self) -> bool:
        """Whether the members that decide have recovered; a notice does not keep a page open."""
        severity = self.severity
        return all(c.status != "open" for c in self.changes.values() if c.severity == severity)


@dataclass(slots=True)
class IncidentsState:
    """Incidents of late, and when each stream last recovered under which finding."""

    incidents: list[Incident] = field(default_factory=list)
    recovered: dict[tuple[str, ...], tuple[str, int]] = field(default_factory=dict)


class Incidents:
    """The station; see `processors.stations.base.Station`."""

    name = "incidents"
    fleet = True

    def __init__(self, config: IncidentsConfig | None = None) -> None:
        self.config = config or IncidentsConfig()
        self.parameters: Mapping[str, Any] = asdict(self.config)

    def begin(self) -> IncidentsState:
        """State before anything was read."""
        return IncidentsState()

    def step(
        self, sealed: Sealed, state: IncidentsState
    ) -> tuple[IncidentsState, Sequence[Output]]:
        """Take the changes of a stretch of event time; returns findings."""
        found: dict[tuple[str, int], Finding] = {}
        changes = [Change(**row) for row in sealed.changes.iter_rows(named=True)]
        for change in self._ended(state, sealed.lo) + changes:
            for finding in self._take(change, state):
                found[finding.finding_id, finding.version] = finding
        self._forget(state, sealed.hi)
        return state, list(found.values())

    def _take(self, change: Change, state: IncidentsState) -> list[Finding]:
        incident = _of(change, state)
        most = self.config.severities.get(change.agent, "page")
        if most == "off" and change.status == "open":
            return []
        if most == "notice":
            # Who was told of a page is told of its end.
            told = incident.changes[change.change_id].severity if incident else "notice"
            change = replace(change, severity=told)
        incident = incident or _joined(change, state)
        if change.status == "open":
            if incident is None:
                incident = Incident(change.change_id, change.environment, change.began)
                incident.previous = self._previous(change, state)
                state.incidents.append(incident)
        elif incident is None:
            return []
        elif change.status != "accepted":
            state.recovered[_thing(change)] = (incident.head, change.at)
        incident.changes[change.change_id] = change
        if change.signal == "cluster_regressed":
            incident.previous = incident.previous or self._previous(change, state)
        incident.began = min(incident.began, change.began)
        if not incident.over:
            incident.ended = None
        elif incident.ended is None:
            incident.ended = change.at
        member = [] if change.change_id == incident.head else [_member(change, incident)]
        return [*member, _finding(incident, change.at)]

    def _ended(self, state: IncidentsState, at: int) -> list[Change]:
        """Ends of the changes of agents that are not watched any more."""
        return [
            ended(change, at, "unwatched")
            for incident in state.incidents for change in incident.changes.values()
            if change.status == "open" and self.config.severities.get(change.agent) == "off"
        ]  # fmt: skip

    def _previous(self, change: Change, state: IncidentsState) -> str:
        finding, at = state.recovered.get(_thing(change), ("", 0))
        recent = change.began - at <= self.config.regressed_days * 86_400
        own = _of(change, state)
        return finding if recent and not (own and own.head == finding) else ""

    def _forget(self, state: IncidentsState, now: int) -> None:
        horizon = now - self.config.regressed_days * 86_400
        state.incidents = [
            i for i in state.incidents if i.ended is None or i.ended >= now - _LINGER_S - SETTLED
            or any(c.status == "open" for c in i.changes.values())
        ]  # fmt: skip
        state.recovered = {k: v for k, v in state.recovered.items() if v[1] >= horizon}

    def size(self, state: IncidentsState) -> int:
        """Incidents that are remembered."""
        return len(state.incidents)

    def dump(self, state: IncidentsState) -> bytes:
        """State as bytes."""
        return compress(
            {
                "layout": _LAYOUT,
                "incidents": [
                    [i.head, i.environment, i.began, i.ended, i.previous,
                     [change_fields(c) for c in i.changes.values()]]
                    for i in state.incidents
                ],
                "recovered": [[list(k), *v] for k, v in state.recovered.items()],
            }
        )  # fmt: skip

    def load(self, raw: bytes) -> IncidentsState:
        """Build the state of `dump`."""
        found = expand(raw, _LAYOUT)
        incidents = [
            Incident(
                head, environment, began, {c["change_id"]: Change(**c) for c in changes},
                ended, previous,
            )
            for head, environment, began, ended, previous, changes in found["incidents"]
        ]  # fmt: skip
        return IncidentsState(incidents, {tuple(k): (f, at) for k, f, at in found["recovered"]})


def _thing(change: Change) -> tuple[str, ...]:
    """What recovers and comes back: a stream, and of a cluster whatever was said of it."""
    if change.attribute == "cluster":
        return change.environment, change.agent, "cluster", change.attribute, change.value
    return change.stream


def _of(change: Change, state: IncidentsState) -> Incident | None:
    return next((i for i in state.incidents if change.change_id in i.changes), None)


def _joined(change: Change, state: IncidentsState) -> Incident | None:
    """The incident that a new change belongs to; the latest, when there are several."""
    if change.status != "open":
        return None
    fitting = [i for i in state.incidents if _belongs(change, i)]
    return max(fitting, key=lambda i: i.began, default=None)


def _belongs(change: Change, incident: Incident) -> bool:
    if change.environment != incident.environment:
        return False
    if incident.ended is not None and change.began > incident.ended + _LINGER_S:
        return False
    apart = abs(change.began - incident.began)
    if change.agent in incident.agents:
        return apart <= _SAME_S or any(
            change.value and change.value == c.value for c in incident.changes.values()
        )
    return (
        apart <= _FLEET_S
        and change.signal in _FLEETWIDE
        and any(c.signal == change.signal for c in incident.changes.values())
    )


def _member(change: Change, incident: Incident) -> Finding:
    return of_change(change, incident=incident.head)


def _finding(incident: Incident, at: int) -> Finding:
    """The finding that stands for an incident, with the figures of the change that says most."""
    lead = incident.lead(at)
    agents = incident.agents
    back = incident.previous or lead.signal == "cluster_regressed"
    status = "regressed" if back else "open"
    found = min(c.found for c in incident.changes.values())
    # Feedback comes late: what the title tells did not last as long as that.
    told = (lead.signal, lead.severity)
    ends = [c.at for c in incident.changes.values() if (c.signal, c.severity) == told]
    finding = of_change(
        lead,
        finding_id=incident.head,
        version=at,
        severity=incident.severity,
        status=status if incident.ended is None else "recovered",
        agent=lead.agent if len(agents) == 1 else "",
        began=incident.began if len(agents) > 1 else lead.began,
        found=found,
        ended=None if incident.ended is None else max(ends),
        ending="" if incident.ended is None else lead.status,
        members=sorted(c for c in incident.changes if c != incident.head),
        previous=incident.previous,
    )
    return replace(finding, agent_version=finding.agent_version if len(agents) == 1 else "")
