"""Which incidents there are, and what each receiver must be told. No I/O, no clock.

A finding joins the incident that it names or that names it as a member. Where nothing has grouped
findings (they have no signal), one joins the incident of its environment that began about when it
did. Else it starts one. An incident keeps its id, and a finding its incident, so that labels never
change while an alert fires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from processors.notify.finding import QUIET, Finding

FIRING: Final = "firing"
UPDATE: Final = "update"
RESOLVED: Final = "resolved"
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds a receiver waits for more of an incident: at first, and between updates."""

    wait: float = 5.0
    interval: float = 300.0


@dataclass(frozen=True, slots=True)
class Rules:
    """When findings make one incident, and when they are too old to be sent.

    Parameters
    ----------
    window
        Findings of one environment that began within this time of each other are one incident.
    max_age
        A finding that was found longer ago is not announced, so that a replay of last month
        pages nobody.
    since
        Nothing that had ended before this time is announced: when notifications were switched on.
    """

    window: timedelta = timedelta(minutes=10)
    max_age: timedelta = timedelta(hours=24)
    since: datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class Told:
    """The last message planned for a receiver about an incident."""

    seq: int
    event: str
    findings: frozenset[str]
    at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """What a receiver must be told. ``silenced`` ones are kept for the record and not sent."""

    incident: str
    receiver: str
    seq: int
    event: str
    findings: tuple[Finding, ...]
    at: datetime
    silenced: bool = False


@dataclass(slots=True)
class Incident:
    """Findings of one cause, and what was told of them."""

    id: str
    environment: str
    began: datetime
    seen: datetime
    members: dict[str, Finding] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether any of its findings lasts."""
        return any(finding.active for finding in self.members.values())


Silenced = Callable[[Finding], bool]


class State:
    """All incidents that are of interest now."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}
        self._home: dict[str, str] = {}

    def restore(self, incident: str, receiver: str, told: Told) -> None:
        """Take over what was told before a restart."""
        kept = self.incidents.setdefault(incident, Incident(incident, "", told.at, told.at))
        kept.told[receiver] = told
        for finding_id in told.findings:
            self._home.setdefault(finding_id, incident)

    def merge(self, findings: Iterable[Finding], rules: Rules, now: datetime) -> None:
        """Take findings in; of each the highest version counts."""
        fresh = [f for f in findings if f.severity not in QUIET]
        for finding in fresh:
            for member in finding.member_ids:
                self._home.setdefault(
                    member, self._home.get(finding.finding_id, finding.finding_id)
                )
        for finding in sorted(fresh, key=lambda f: (not f.members, _began(f), f.finding_id)):
            incident = self._incident_of(finding, rules, now)
            known = incident.members.get(finding.finding_id)
            if known is None or finding.version >= known.version:
                incident.members[finding.finding_id] = finding

    def plan(
        self, paces: Mapping[str, Pace], rules: Rules, silenced: Silenced, now: datetime
    ) -> list[Message]:
        """What each receiver must be told now; the state remembers it as told."""
        messages = [
            message
            for incident in self.incidents.values()
            for receiver, pace in paces.items()
            if (message := _message(incident, receiver, pace, rules, silenced, now)) is not None
        ]
        for m in messages:
            ids = frozenset(f.finding_id for f in m.findings)
            self.incidents[m.incident].told[m.receiver] = Told(m.seq, m.event, ids, m.at)
        return messages

    def forget(self, rules: Rules, now: datetime) -> None:
        """Drop incidents that ended long ago; a finding of one would be too old to announce."""
        old = [
            i.id
            for i in self.incidents.values()
            if not i.active
            and all(now - (f.ended or _began(f)) > rules.max_age for f in i.members.values())
            and now - max((t.at for t in i.told.values()), default=i.seen) > rules.max_age
        ]
        for incident in old:
            del self.incidents[incident]
        self._home = {f: i for f, i in self._home.items() if i in self.incidents}

    def active(self) -> Iterator[tuple[Incident, Finding]]:
        """Every finding that lasts, with its incident."""
        for incident in self.incidents.values():
            for finding in incident.members.values():
                if finding.active:
                    yield incident, finding

    def _incident_of(self, finding: Finding, rules: Rules, now: datetime) -> Incident:
        homes = (self._home.get(i) for i in (finding.finding_id, *finding.member_ids))
        home = next((h for h in homes if h is not None), None) or finding.incident
        if not home and not finding.signal and not finding.members:
            home = self._neighbour(finding, rules, now) or ""
        home = home or finding.finding_id
        self._home[finding.finding_id] = home
        incident = self.incidents.setdefault(
            home, Incident(home, finding.environment, _began(finding), now)
        )
        if not incident.members:  # only its history was known
            incident.environment, incident.began = finding.environment, _began(finding)
        return incident

    def _neighbour(self, finding: Finding, rules: Rules, now: datetime) -> str | None:
        near = [
            (abs(_began(finding) - i.began), i.id)
            for i in self.incidents.values()
            if i.environment == finding.environment
            and i.members
            and abs(_began(finding) - i.began) <= rules.window
            and (i.active or now - i.seen <= rules.window)
        ]
        return min(near)[1] if near else None


def _began(finding: Finding) -> datetime:
    return finding.began or finding.found or _EPOCH


def _message(
    incident: Incident, receiver: str, pace: Pace, rules: Rules, silenced: Silenced, now: datetime
) -> Message | None:
    if not incident.members:
        return None
    told = incident.told.get(receiver)
    event = _event(incident, told, pace, rules, now)
    if event is None:
        return None
    findings = tuple(sorted(incident.members.values(), key=lambda f: (_began(f), f.finding_id)))
    concerned = [f for f in findings if f.active] or findings
    quiet = all(f.is_muted(now) or silenced(f) for f in concerned)
    if quiet and event != RESOLVED:
        return None  # announced when the silence ends, if it lasts until then
    return Message(incident.id, receiver, told.seq + 1 if told else 1, event, findings, now, quiet)


def _event(
    incident: Incident, told: Told | None, pace: Pace, rules: Rules, now: datetime
) -> str | None:
    """What has happened since a receiver was told; None when nothing has."""
    if told is None and not _is_news(incident, rules, now):
        return None
    if told is None or told.event == RESOLVED:
        if incident.active:
            waited = told is not None or now - incident.seen >= timedelta(seconds=pace.wait)
            return FIRING if waited else None
        return RESOLVED if told is None else None
    if not incident.active:
        return RESOLVED
    grown = not told.findings.issuperset(incident.members)
    return UPDATE if grown and now - told.at >= timedelta(seconds=pace.interval) else None


def _is_news(incident: Incident, rules: Rules, now: datetime) -> bool:
    ends = [f.ended or f.found or incident.seen for f in incident.members.values()]
    latest = max((f.found or _began(f) for f in incident.members.values()), default=incident.seen)
    recent = now - latest <= rules.max_age
    return recent and (incident.active or max(ends) >= rules.since)
