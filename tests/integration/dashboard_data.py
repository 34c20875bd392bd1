"""An hour of made-up traffic in the tables, and the same in Python to compare with.

Rows go in as the processors would write them, each in a stale and in a current version, so that a
query without FINAL reads wrong numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from detectors import sketch

QUOTED = "o'brien\\ agent"
AGENTS = [
    ("production", "booking", "v1"),
    ("production", "booking", "v2"),
    ("production", QUOTED, ""),
    ("staging", "search", "v7"),
]
# agent version: share of failures, price known, tokens reported
FAILING = {"v1": 0.05, "v2": 0.4, "": 0.0, "v7": 0.2}
PRICED = {"v1": "all", "v2": "none", "": "none", "v7": "some"}
REASONS = [
    ("timeout", "lookup", "no answer after <n> s"),
    ("bad_arguments", "book", "field <s> is missing"),
    ("refusal", "", ""),
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WIDTHS = (10, 60, 3600)


@dataclass
class Interaction:
    id: str
    environment: str
    agent: str
    version: str
    session: str
    end: datetime
    duration_ms: float
    status: str
    reason: tuple[str, str, str] | None
    cost: float | None


@dataclass
class Call:
    environment: str
    agent: str
    version: str
    time: datetime
    kind: str
    name: str
    failed: bool
    duration_ms: float | None
    tokens: tuple[int, int, int] | None = None
    cost: float | None = None


@dataclass
class Traffic:
    """Everything that happened; ``now`` is the end of the hour."""

    now: datetime
    interactions: list[Interaction] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    ratings: list[tuple[str, str, str, datetime, float | None]] = field(default_factory=list)
    # target, name of the judge, value
    outcomes: list[tuple[str, str, float]] = field(default_factory=list)

    def success(self, target: str, status: str) -> bool | None:
        """Whether something succeeded: by its lowest outcome, else by its status."""
        given = [value for judged, _, value in self.outcomes if judged == target]
        if given:
            return min(given) >= 0.5
        return {"ok": True, "error": False, "": None}[status]

    def rating(self, *targets: str) -> float | None:
        """Mean of the feedback on any of the targets; of one user under one name the latest."""
        latest = {}
        for target, user, name, _, value in sorted(self.ratings, key=lambda r: r[3]):
            if value is not None and target in targets:
                latest[target, user, name] = value
        return float(np.mean(list(latest.values()))) if latest else None

    @property
    def start(self) -> datetime:
        return self.now - timedelta(hours=1)


def traffic(now: datetime, seed: int = 7) -> Traffic:
    rng = random.Random(seed)
    made = Traffic(now)
    for number in range(400):
        environment, agent, version = AGENTS[number % 4]
        end = now - timedelta(seconds=rng.uniform(30, 3500))
        duration = 0.0 if number == 40 else rng.lognormvariate(7, 1)
        drawn = rng.random()
        status = "" if drawn > 0.97 else "error" if rng.random() < FAILING[version] else "ok"
        known = {"all": True, "none": False, "some": number % 8 == 3}[PRICED[version]]
        made.interactions.append(
            Interaction(
                f"i{number}",
                environment,
                agent,
                version,
                f"s{number // 8}-{agent}",
                end,
                duration,
                status,
                rng.choice(REASONS) if status == "error" else None,
                0.01 * (1 + number % 5) if known else None,
            )
        )
        place = (environment, agent, version)
        made.calls.append(Call(*place, end, "interaction", "", status == "error", duration))
        for tool in ("lookup", "book"):
            failed = rng.random() < (0.3 if tool == "book" else 0.05)
            made.calls.append(Call(*place, end, "tool_call", tool, failed, rng.expovariate(0.01)))
        tokens = None if version == "" else (100 + number, 20, 50)
        cost = made.interactions[-1].cost
        made.calls.append(Call(*place, end, "llm_call", "", False, 800.0, tokens, cost))
    # Feedback: a first opinion, for some another later, for some only words.
    for number in range(0, 400, 5):
        at = made.interactions[number].end + timedelta(minutes=1)
        made.ratings.append((f"i{number}", "u1", "thumbs", at, float(number % 3 > 0)))
        if number % 10 == 0:
            made.ratings.append((f"i{number}", "u1", "thumbs", at + timedelta(hours=5), 0.5))
        if number % 20 == 0:
            made.ratings.append((f"i{number}", "u2", "thumbs", at, 1.0))
        if number % 25 == 0:
            made.ratings.append((f"i{number}", "u3", "thumbs", at, None))
            made.ratings.append((f"i{number}", "u1", "thumbs", at + timedelta(hours=9), None))
    made.ratings.append(("s0-booking", "u1", "csat", now, 0.25))
    made.ratings.append(("nobody-knows", "u1", "csat", now, 0.0))
    # Outcomes: some agree with the status, some do not, some are all that is known.
    for number in range(0, 400, 7):
        made.outcomes.append((f"i{number}", "reward", float(number % 2)))
        if number % 3 == 0:
            made.outcomes.append((f"i{number}", "judge", 0.5))
    for number in range(0, 100, 3):
        made.outcomes.append((made.interactions[number].session, "reward", number % 4 / 3))
    made.outcomes = sorted(set(made.outcomes))
    return made


def insert(client: Any, table: str, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    columns = list(rows[0])
    client.insert(table, [[row[c] for c in columns] for row in rows], column_names=columns)


def _keep_stale_rows(client: Any, *tables: str) -> None:
    """Stop merges, which may drop stale rows before a test looks."""
    for table in tables:
        client.command(f"SYSTEM STOP MERGES {table}")


def fill(client: Any, made: Traffic) -> None:
    """Write everything, stale versions first."""
    _keep_stale_rows(client, "interaction_cells", "windows", "evaluations")
    rows = [cell for i in made.interactions for cell in interaction_cells(i)]
    stale = {"version": 1, "status": "error", "error_type": "old", "cost_usd": 1e6, "events": 1}
    insert(client, "interaction_cells", [{**row, **stale} for row in rows])
    insert(client, "interaction_cells", rows)
    for width in WIDTHS:
        cells = window_rows(made.calls, width)
        insert(
            client,
            "windows",
            [{**c, "version": 1, "tool_errors": 999, "cost_usd": 1e6} for c in cells],
        )
        insert(client, "windows", cells)
    ratings = [
        {
            "target": target, "kind": "feedback", "name": name, "user_id": user, "time": at,
            "event_id": f"e{n}", "payload_hash": n, "environment": "production",
            "agent": "booking", "value": value,
        }
        for n, (target, user, name, at, value) in enumerate(made.ratings)
    ]  # fmt: skip
    outcomes = [
        {
            **ratings[0], "kind": "outcome", "target": target, "name": name, "user_id": "",
            "event_id": f"o{n}", "payload_hash": n, "value": value,
        }
        for n, (target, name, value) in enumerate(made.outcomes)
    ]  # fmt: skip
    score = {**outcomes[0], "kind": "score", "target": "i1", "value": 0.0}
    insert(client, "evaluations", [*ratings, *outcomes, score])
    insert(client, "evaluations", [*ratings, *outcomes])


def interaction_cells(i: Interaction) -> list[dict[str, Any]]:
    """Two cells of an interaction: what happened, and how it closed, if it has."""
    reason, tool, template = i.reason or ("", "", "")
    begun = i.end - timedelta(milliseconds=i.duration_ms)
    shared = {
        "interaction_id": i.id, "version": 2, "environment": i.environment, "agent": i.agent,
        "agent_version": i.version, "session_id": i.session, "start": begun,
    }  # fmt: skip
    middle = {
        "cell": begun - timedelta(seconds=60), "root": 0, "end": begun, "events": 3,
        "cost_usd": i.cost or 0.0, "priced": int(i.cost is not None),
        "unpriced": int(i.cost is None), "closed": EPOCH, "status": "", "error_type": "",
        "error_template": "", "last_error": begun if tool else EPOCH,
        "last_error_type": "Oops" if tool else "", "last_error_tool": tool,
    }  # fmt: skip
    closing = {
        "cell": i.end, "root": int(bool(i.status)), "end": i.end, "events": 1, "cost_usd": 0.0,
        "priced": 0, "unpriced": 0, "closed": i.end if i.status else EPOCH, "status": i.status,
        "error_type": reason, "error_template": template, "last_error": EPOCH,
        "last_error_type": "", "last_error_tool": "",
    }  # fmt: skip
    cells = [{**shared, **middle}, {**shared, **closing}]
    for cell in cells:
        second = int(cell["cell"].timestamp()) // 10 * 10
        cell["cell"] = datetime.fromtimestamp(second, UTC)
    return cells


def window_rows(calls: list[Call], width: int) -> list[dict[str, Any]]:
    """Cells of one width, by all, kind and name, as the processors write them."""
    groups: dict[tuple[Any, ...], list[Call]] = {}
    for call in calls:
        at = int(call.time.timestamp()) // width * width
        named = f"{call.kind}:{call.name}" if call.name else call.kind
        for scope in ("all", named):
            key = (call.environment, call.agent, call.version, at, scope)
            groups.setdefault(key, []).append(call)
    rows = []
    for (environment, agent, version, at, scope), group in groups.items():
        timed = [c.duration_ms for c in group if c.duration_ms is not None]
        bins, counts = sketch.histogram(np.array(timed))
        tools = [c for c in group if c.kind == "tool_call"]
        tokens = [c.tokens or (0, 0, 0) for c in group]
        rows.append(
            {
                "environment": environment, "agent": agent, "width_s": width,
                "start": datetime.fromtimestamp(at, UTC), "agent_version": version,
                "scope": scope, "version": 2, "events": len(group),
                "ok": sum(not c.failed for c in group), "error": sum(c.failed for c in group),
                "tool_calls": len(tools), "tool_errors": sum(c.failed for c in tools),
                "input_tokens": sum(t[0] for t in tokens),
                "output_tokens": sum(t[1] for t in tokens),
                "cached_tokens": sum(t[2] for t in tokens),
                "cost_usd": sum(c.cost or 0.0 for c in group),
                "priced": sum(c.cost is not None for c in group),
                "unpriced": sum(c.cost is None and c.tokens is not None for c in group),
                "duration_n": len(timed), "duration_ms": sum(timed),
                "duration_bins": bins.tolist(), "duration_counts": counts.tolist(),
            }
        )  # fmt: skip
    return rows


def fill_monitor(client: Any, now: datetime) -> None:
    """The monitor's own tables: books, partitions, findings, alerts, signs of life."""
    _keep_stale_rows(client, "ledger", "dead_letters", "watermarks", "findings", "alert_events")

    def ago(**parts: float) -> datetime:
        return now - timedelta(**parts)

    records = [
        {
            "log_id": "l1", "topic": "driftline.events", "partition": p, "offset": o,
            "lines": 100, "rows": 98 if o == 3 else 100, "dead_lettered": 2 if o == 3 else 0,
            "late": 5 if o == 4 else 0, "ingested": ago(minutes=30 - o),
        }
        for p in (0, 1)
        for o in range(10)
        if (p, o) != (1, 7)  # one record is missing from the books
    ]  # fmt: skip
    insert(client, "ledger", records)
    insert(client, "ledger", records)
    letters = [
        {
            "log_id": "l1", "topic": "driftline.events", "partition": p, "offset": 3, "line": line,
            "code": code, "detail": "x", "bytes": 10, "sha256": "00", "ingested": ago(minutes=27),
        }
        for p in (0, 1)
        for line, code in ((4, "invalid_json"), (9, "missing_field"))
    ]  # fmt: skip
    insert(client, "dead_letters", letters)
    insert(client, "dead_letters", letters)
    for age in (50, 5):
        insert(
            client,
            "watermarks",
            [
                {
                    "log_id": "l1", "topic": "driftline.events", "partition": p,
                    "watermark": ago(seconds=age + 10 * p), "offset": 10, "lag": 3 * age,
                    "updated": ago(seconds=age),
                }
                for p in (0, 1)
            ],
        )  # fmt: skip
    dirty = {"log_id": "l1", "topic": "driftline.dirty", "partition": 0, "watermark": EPOCH}
    insert(client, "watermarks", [{**dirty, "offset": 5, "lag": 2, "updated": ago(seconds=5)}])
    insert(
        client,
        "detector_state",
        [
            {"stream": name, "position": ago(seconds=behind), "version": 1, "state": "{}"}
            for name, behind in (("a", 20), ("b", 140))
        ],
    )
    finding = {
        "finding_id": "x", "version": 1, "detector": "failure_rate", "kind": "failure_rate_up",
        "environment": "production", "agent": "booking", "agent_version": "v2", "status": "open",
        "severity": "critical", "began": ago(minutes=20), "found": ago(minutes=18), "ended": None,
        "e_value": 1e5, "baseline": 0.05, "observed": 0.4, "n": 90, "title": "t", "evidence": "[]",
    }  # fmt: skip
    closed = {**finding, "finding_id": "y", "version": 2, "status": "resolved"}
    insert(client, "findings", [{**finding, "finding_id": "y"}])
    insert(
        client,
        "findings",
        [
            finding,
            {**closed, "ended": ago(minutes=5)},
            {**closed, "finding_id": "before", "found": ago(hours=9), "ended": ago(hours=8)},
            {**finding, "finding_id": "long", "found": ago(hours=9), "began": ago(hours=9)},
        ],
    )
    insert(client, "alert_events", [alert(now, **event) for event in ALERTS])
    insert(client, "alert_events", [alert(now, **event) for event in ALERTS])
    insert(
        client,
        "heartbeats",
        [
            {"ts": ago(seconds=s), "component": c, "instance": f"{c}-1", "detail": f"{s}"}
            for c, ages in (("processors", (5, 65, 125)), ("sink", (400, 460)))
            for s in ages
        ],
    )


# key, agent, status, minutes ago, score, minutes since the episode began, severity
ALERTS: list[dict[str, Any]] = [
    {"key": "fresh", "agent": "booking", "status": "firing", "ago": 14, "score": 1e4, "since": 20},
    {"key": "fresh", "agent": "booking", "status": "firing", "ago": 4, "score": 1e6, "since": 20},
    {"key": "silent", "agent": "booking", "status": "firing", "ago": 16, "score": 1e5, "since": 16},
    {"key": "over", "agent": "search", "status": "firing", "ago": 30, "score": 1e5, "since": 30},
    {"key": "over", "agent": "search", "status": "resolved", "ago": 10, "score": 0.0, "since": 30},
    {"key": "again", "agent": QUOTED, "status": "firing", "ago": 50, "score": 1e5, "since": 50},
    {"key": "again", "agent": QUOTED, "status": "resolved", "ago": 45, "score": 0.0, "since": 50},
    {"key": "again", "agent": QUOTED, "status": "firing", "ago": 2, "score": 0.0, "since": 2},
]


def alert(
    now: datetime, *, key: str, agent: str, status: str, ago: float, score: float, since: float
) -> dict[str, Any]:
    ts = now - timedelta(minutes=ago)
    return {
        "ts": ts, "alert_key": key, "kind": "failure_rate", "agent": agent,
        "severity": "critical", "status": status, "score": score, "title": f"{key} title",
        "description": "described", "episode_start": now - timedelta(minutes=since),
        "event_time": ts,
    }  # fmt: skip
