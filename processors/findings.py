"""A finding: one change that somebody should know, with its causes and its life cycle.

A finding is *open*, and *recovered* when its stream is back near the baseline, when somebody takes
its level for normal or when nobody watches it any more: ``ending`` says which. When the same stream
changes again soon, the new finding is *regressed* and names the previous one. Findings with one
cause are one incident: the first stands for it (``incident`` is empty), the others are members and
carry its id. `docs/schemas/finding.json` is the contract of the topic ``driftline.findings``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec
import polars as pl

from ingest.core.text import printable
from processors.signals import BY_NAME
from processors.stations.base import Change, moment

ENDINGS: Final = {
    "recovered": "back near {back} (n {n})",
    "accepted": "accepted as the new normal",
    "retired": "no longer watched: no traffic",
    "unwatched": "no longer watched",
    "resolved": "said to be fixed",
}
"""Why a change is over, by what stations call it, and how a title says so."""

ACTIVE: Final = ("open", "regressed")
"""States in which a finding is not over."""

_TEXT: Final = 80  # characters of a name in a title
_OTHERS: Final = {
    "version_success": "failures of version {value} beside the one before",
    "version_satisfaction": "dissatisfied ratings of version {value} beside the one before",
    "version_duration_ms": "duration of version {value} beside the one before",
    "version_cost_usd": "cost of version {value} beside the one before",
    "version_tokens": "tokens of version {value} beside the one before",
    "version_tool_errors": "tool errors of version {value} beside the one before",
    "judge_drift": "departures of judge {value} from its own verdicts on anchors",
    "judged": "passes by judge {value}, which did not change itself,",
    "cluster_surge": "failures of cluster {value}",
    "cluster_emerging": "failures of the new cluster {value}",
    "cluster_regressed": "failures of cluster {value}, which had ended",
}
"""Titles of what other stations than detection find."""

_TELLING: Final = 1.5  # lift of a cause that is worth a place in a title


@dataclass(frozen=True, slots=True)
class Cause:
    """What the interactions hit have in common.

    Attributes
    ----------
    lift, low, high
        How much more frequent it is among them than among the others, with its interval.
    share
        Of the interactions hit.
    """

    attribute: str
    value: str
    lift: float
    low: float
    high: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One record of ``findings``. Times in seconds since 1970."""

    table: ClassVar[str] = "findings"
    schema: ClassVar[Mapping[str, Any]] = {
        "version": pl.UInt64(),
        "began": pl.Datetime("ms", "UTC"),
        "found": pl.Datetime("ms", "UTC"),
        "ended": pl.Datetime("ms", "UTC"),
        "e_value": pl.Float64(),
        "baseline": pl.Float64(),
        "observed": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n": pl.UInt64(),
        "users": pl.UInt64(),
        "sessions": pl.UInt64(),
        "cost_usd": pl.Float64(),
        "examples": pl.List(pl.String()),
        "members": pl.List(pl.String()),
    }

    finding_id: str
    version: int
    kind: str
    signal: str
    severity: str
    status: str
    environment: str
    agent: str
    agent_version: str = ""
    attribute: str = ""
    value: str = ""
    label: str = ""
    tool: str = ""
    cluster: str = ""
    began: int
    found: int
    ended: int | None = None
    e_value: float = 0.0
    baseline: float | None = None
    observed: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int = 0
    users: int | None = None
    sessions: int | None = None
    cost_usd: float | None = None
    causes: Sequence[Cause] = ()
    examples: Sequence[str] = ()
    members: Sequence[str] = ()
    incident: str = ""
    previous: str = ""
    ending: str = ""
    detector: str = "detection"
    evidence: Sequence[Mapping[str, Any]] = field(default=())

    @property
    def active(self) -> bool:
        """Whether it is not over."""
        return self.status in ACTIVE

    @property
    def title(self) -> str:
        """What happened, in one line."""
        return title(self)

    def row(self) -> dict[str, Any]:
        """Values by column."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "ending"}
        return values | {
            "began": moment(self.began),
            "found": moment(self.found),
            "ended": None if self.ended is None else moment(self.ended),
            "causes": msgspec.json.encode(self.causes).decode(),
            "evidence": msgspec.json.encode(self.evidence).decode(),
            "examples": list(self.examples),
            "members": list(self.members),
            "title": self.title,
        }

    def message(self) -> bytes:
        """The record as it stands on the topic: JSON, times in RFC 3339."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["title"] = self.title
        for name in ("began", "found", "ended"):
            values[name] = None if values[name] is None else moment(values[name])
        return msgspec.json.encode(values)


def title(finding: Finding) -> str:
    """A page in one line: who, what changed how much, since when, why, and whom it hits.

    A finding that is over says how it was and for how long.
    """
    where = f"{_name(finding.agent) or 'fleet'} ({_name(finding.environment)})"
    what = _what(finding)
    if not finding.active:
        return f"{where}: {what} {_over(finding)}"
    parts = [f"{where}: {what} {_moved(finding)} since {_since(finding)}"]
    causes = [c for c in finding.causes if _tells(c, finding)][:2]
    if causes:
        parts.append(", ".join(_cause(cause) for cause in causes))
    if finding.users:
        parts.append(f"{finding.users} user{'s' if finding.users > 1 else ''}")
    if finding.status == "regressed":
        brought = finding.signal == "cluster_regressed" and finding.agent_version
        parts.append(f"it is back with version {_name(brought)}" if brought else "it is back")
    return "; ".join(parts)


def _tells(cause: Cause, finding: Finding) -> bool:
    """Whether a cause says more than the title does; people are never named in one."""
    said = cause.value in (finding.value, finding.agent) or cause.attribute in ("user", "cluster")
    return cause.low >= _TELLING and not said


def _what(finding: Finding) -> str:
    signal = BY_NAME.get(finding.signal)
    text = _OTHERS.get(finding.signal, finding.signal) if signal is None else signal.title
    return text.replace("{value}", _name(finding.label or finding.value))


def _moved(finding: Finding) -> str:
    if finding.signal == "silence":
        return f"stopped ({_number(finding.baseline, '')} expected)"
    return f"{_number(finding.baseline, finding.unit)} -> {_number(finding.observed, finding.unit)}"


def _over(finding: Finding) -> str:
    lasted = duration((finding.ended or finding.found) - finding.began)
    was, back = (_number(v, finding.unit) for v in (finding.observed, finding.baseline))
    ending = ENDINGS.get(finding.ending or "recovered", finding.ending)
    if finding.signal == "silence":
        was, ending = "missing", ending if finding.ending not in ("", "recovered") else "back now"
    return f"were {was} for {lasted}, {ending.format(back=back, n=format(finding.n, ','))}"


def _cause(cause: Cause) -> str:
    value = _name(cause.value) or "unknown"
    name = value if cause.attribute in ("tool", "reason", "error") else f"{cause.attribute} {value}"
    return f"{name} ({cause.share:.0%} of them)"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown"
    if unit == "share":
        return f"{value:.1%}"
    if unit == "USD":
        return f"${value:.4g}"
    if unit == "ms":
        return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.0f} ms"
    text = f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"
    return f"{text} {unit}".strip()


def _name(text: str) -> str:
    """A name that cannot pretend to be markup, another line or another direction of text."""
    return printable(text, _TEXT)


def _since(finding: Finding) -> str:
    """When it began; with the day, once that is not clear by itself."""
    old = max(finding.found, finding.version) - finding.began > 86_400
    began = datetime.fromtimestamp(finding.began, UTC)
    return began.strftime("%Y-%m-%d %H:%M UTC" if old else "%H:%M UTC")


def duration(seconds: int) -> str:
    """Length of time for people.

    >>> duration(45), duration(1980), duration(20_700)
    ('45 s', '33 min', '5 h 45 min')
    """
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def of_change(change: Change, **values: Any) -> Finding:
    """The finding of a change of one stream."""
    kind = (
        change.station if change.station != "detection" else f"{change.signal}_{change.direction}"
    )
    known: dict[str, Any] = {
        "finding_id": change.change_id,
        "version": change.at,
        "kind": {"versions": "version", "clusters": "cluster"}.get(change.station, kind),
        "signal": change.signal,
        "severity": change.severity,
        "status": "open" if change.status == "open" else "recovered",
        "environment": change.environment,
        "agent": change.agent,
        "agent_version": change.value if change.attribute == "agent_version" else "",
        "attribute": change.attribute,
        "value": change.value,
        "label": change.label,
        "tool": change.value if change.attribute == "tool" else "",
        "cluster": change.value if change.attribute == "cluster" else "",
        "began": change.began,
        "found": change.found,
        "ended": change.at if change.status != "open" else None,
        "ending": change.status if change.status != "open" else "",
        "e_value": change.e_value,
        "baseline": change.baseline,
        "observed": change.observed,
        "low": change.low,
        "high": change.high,
        "unit": change.unit,
        "n": change.n,
        "detector": change.station,
    }
    return Finding(**{**known, **values})
