"""Findings and alerts as rows: keys and values are functions of a change alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import polars as pl

DETECTOR: Final = "failure_rate"
_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Change:
    """A stream that began or ceased to be in a detected change. Times in ns of event time."""

    environment: str
    agent: str
    firing: bool
    began: int
    found: int
    at: int
    e_value: float
    baseline: float
    observed: float
    n: int


def title(change: Change) -> str:
    """What happened, in one line."""
    if not change.firing:
        return f"{change.agent}: failure rate is back near {change.baseline:.1%}"
    return f"{change.agent}: failure rate rose from {change.baseline:.1%} to {change.observed:.1%}"


def _severity(change: Change) -> str:
    return "critical" if change.observed - change.baseline >= 0.1 else "warning"


def _when(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / _NS, UTC)


def finding_rows(change: Change, evidence: list[dict[str, Any]]) -> pl.DataFrame:
    """Row of ``findings``; one id for an episode, a resolved row replacing the open one."""
    key = f"{DETECTOR}:{change.environment}:{change.agent}:{change.began}"
    return pl.DataFrame(
        {
            "finding_id": [hashlib.blake2b(key.encode(), digest_size=8).hexdigest()],
            "version": [change.at // _NS],
            "detector": [DETECTOR],
            "kind": ["failure_rate_up"],
            "environment": [change.environment],
            "agent": [change.agent],
            "status": ["open" if change.firing else "resolved"],
            "severity": [_severity(change)],
            "began": [_when(change.began)],
            "found": [_when(change.found)],
            "ended": [None if change.firing else _when(change.at)],
            "e_value": [change.e_value],
            "baseline": [change.baseline],
            "observed": [change.observed],
            "n": [change.n],
            "title": [title(change)],
            "evidence": [msgspec.json.encode(evidence).decode()],
        },
        schema_overrides={
            "version": pl.UInt64,
            "n": pl.UInt64,
            "began": pl.Datetime("ms", "UTC"),
            "found": pl.Datetime("ms", "UTC"),
            "ended": pl.Datetime("ms", "UTC"),
        },
    )


def message(finding: pl.DataFrame) -> bytes:
    """A row of ``findings`` as it stands on the topic: JSON, its evidence a list."""
    row = finding.row(0, named=True)
    return msgspec.json.encode(row | {"evidence": msgspec.Raw(row["evidence"].encode())})


def alert_rows(change: Change, ts: int, evidence: list[dict[str, Any]]) -> pl.DataFrame:
    """Row of ``alert_events``: entry, heartbeat (``ts`` after the change) or exit."""
    worst = evidence[0] if evidence else None
    described = (
        f"{change.n} interactions since {_when(change.began):%H:%M:%S},"
        f" e-value {change.e_value:.3g}."
        + (f" Most frequent: {worst['reason']} in {worst['tool'] or 'the agent'}" if worst else "")
    )
    return pl.DataFrame(
        {
            "ts": [_when(ts)],
            "alert_key": [f"{DETECTOR}:{change.environment}:{change.agent}"],
            "kind": [DETECTOR],
            "agent": [change.agent],
            "severity": [_severity(change)],
            "status": ["firing" if change.firing else "resolved"],
            "score": [change.e_value if change.firing else 0.0],
            "title": [title(change)],
            "description": [described],
            "episode_start": [_when(change.began)],
            "event_time": [_when(ts)],
        },
        schema_overrides={
            "ts": pl.Datetime("ms", "UTC"),
            "episode_start": pl.Datetime("ms", "UTC"),
            "event_time": pl.Datetime("ms", "UTC"),
        },
    )
