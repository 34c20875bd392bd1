"""Three hours of made-up traffic in the tables, and the same in Python to compare with.

Rows go in as the processors would write them, each in a stale and in a current version, so that a
query without FINAL reads wrong numbers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from detectors import sketch
from tests.support import results
from tests.support.results import floor, insert

QUOTED = "o'brien\\ $agent"
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
EVIDENCE = [
    {"reason": "timeout", "tool": "lookup", "template": "no answer", "before": 1, "since": 30},
    {"reason": "refusal", "tool": "", "template": "", "before": 2, "since": 3},
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOURS = 3


@dataclass
class Call:
    """One event of an interaction."""

    interaction: results.Row
    time: datetime
    kind: str
    name: str
    failed: bool
    duration_ms: float | None


@dataclass
class Traffic:
    """Everything that happened; ``now`` is the end of it."""

    now: datetime
    interactions: list[results.Row] = field(default_factory=list)
    sessions: list[results.Row] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    # target, user, time, value, comment
    feedback: list[tuple[str, str, datetime, float | None, str]] = field(default_factory=list)

    def groups(self, rows: list[results.Row]) -> dict[tuple[str, str, str], list[results.Row]]:
        """Rows by environment, agent and version."""
        found: dict[tuple[str, str, str], list[results.Row]] = {}
        for row in rows:
            key = (row["environment"], row["agent"], row["agent_version"])
            found.setdefault(key, []).append(row)
        return found


def traffic(now: datetime, seed: int = 7) -> Traffic:
    rng = random.Random(seed)
    made = Traffic(now)
    for number in range(400):
        environment, agent, version = AGENTS[number % 4]
        end = now - timedelta(seconds=rng.uniform(30, HOURS * 3600 - 100))
        failed = rng.random() < FAILING[version]
        known = {"all": True, "none": False, "some": number % 8 == 3}[PRICED[version]]
        rated = number % 5 == 0
        made.interactions.append(
            results.interaction(
                number,
                end,
                environment=environment,
                agent=agent,
                agent_version=version,
                session_id=f"s{number // 8}-{agent}",
                user_id=f"u{number % 50}",
                duration_ms=None
                if number == 44
                else 0.0
                if number == 40
                else rng.lognormvariate(7, 1),
                **({"reason": rng.choice(REASONS)} if failed else {}),
                state="open" if number % 37 == 0 else "ended",
                cost_usd=0.01 * (1 + number % 5) if known else None,
                input_tokens=None if version == "" else 100 + number,
                output_tokens=None if version == "" else 20,
                satisfaction=(number % 3) / 2 if rated else None,
                satisfaction_n=int(rated),
                tools=["lookup", "book", "docs"],
            )
        )
        row = made.interactions[-1]
        if row["state"] == "open":
            row |= {"success": None, "failure_reason": "", "reasons": [], "fingerprint": ""}
        at = end - timedelta(milliseconds=5)
        for kind, tool in (("tool_call", "lookup"), ("tool_call", "book"), ("retrieval", "docs")):
            share = {"book": 0.3, "docs": 0.5}.get(tool, 0.05)
            made.calls.append(
                Call(row, at, kind, tool, rng.random() < share, rng.expovariate(0.01))
            )
        made.calls.append(Call(row, end, "interaction", "", failed, row["duration_ms"]))
        if rated:
            made.feedback.append((row["interaction_id"], "u1", end, row["satisfaction"], "so so"))
    made.feedback.append(("s0-booking", "u1", now - timedelta(seconds=9), 0.25, "all of it"))
    made.feedback.append(("nobody-knows", "u1", now - timedelta(seconds=9), 0.0, ""))
    return made


def _keep_stale_rows(client: Any, *tables: str) -> None:
    """Stop merges, which may drop stale rows before a test looks."""
    for table in tables:
        client.command(f"SYSTEM STOP MERGES {table}")


def fill(client: Any, made: Traffic) -> None:
    """Write everything, stale versions first."""
    tables = ("interaction_results", "session_results", "rollups", "windows", "evaluations")
    _keep_stale_rows(client, *tables, "events")
    stale = {"success": 1, "cost_usd": 1e6, "satisfaction": 1.0, "satisfaction_n": 1}
    results.fill(client, [row | stale for row in made.interactions], version=1)
    # Where it counted before is told by a row that is not live.
    elsewhere = [
        row | {"cell": row["cell"] - timedelta(minutes=20), "live": 0}
        for row in made.interactions[:50]
    ]
    insert(client, "interaction_results", elsewhere)
    made.sessions = results.fill(client, made.interactions)
    for width in (10, 60, 3600, 86_400):
        windows = window_rows(made.calls, width)
        insert(
            client, "windows", [{**w, "version": 1, "error": 999, "events": 999} for w in windows]
        )
        insert(client, "windows", windows)
    events = [event_row(number, call) for number, call in enumerate(made.calls)]
    insert(client, "events", events)
    insert(client, "events", events)
    judged = evaluation_rows(made)
    insert(client, "evaluations", judged)
    insert(client, "evaluations", judged)
    insert(
        client,
        "events",
        [
            {
                **{k: row[k] for k in ("environment", "agent", "time", "event_id", "payload_hash")},
                "kind": row["kind"], "target": row["target"], "value": row["value"],
                "content": row["comment"],
            }
            for row in evaluation_rows(made, comments=True)
            if row["kind"] == "feedback"
        ],
    )  # fmt: skip


def evaluation_rows(made: Traffic, *, comments: bool = False) -> list[results.Row]:
    """Feedback, sent from somewhere else than the agent, and scores with outcomes."""
    rows = []
    for n, (target, user, at, value, comment) in enumerate(made.feedback):
        row = {
            "target": target, "kind": "feedback", "name": "thumbs", "user_id": user, "time": at,
            "event_id": f"f{n}", "payload_hash": n, "environment": "production",
            "agent": "unknown_service", "value": value,
        }  # fmt: skip
        rows.append(row | ({"comment": comment} if comments else {}))
    if not comments:
        for n, row in enumerate(made.interactions[::10]):
            known = {
                "target": row["interaction_id"], "user_id": "", "time": row["end"],
                "payload_hash": n, "environment": "production", "agent": "judge",
            }  # fmt: skip
            outcome, score = float(n % 3 > 0), 0.2 if n % 4 == 0 else 0.9
            rows.append(
                {**known, "kind": "outcome", "name": "ok", "event_id": f"o{n}", "value": outcome}
            )
            rows.append(
                {**known, "kind": "score", "name": "judge", "event_id": f"s{n}", "value": score}
            )
    return rows


def event_row(number: int, call: Call) -> results.Row:
    row = call.interaction
    return {
        "environment": row["environment"], "agent": row["agent"],
        "agent_version": row["agent_version"], "time": call.time, "event_id": f"e{number}",
        "payload_hash": number, "session_id": row["session_id"],
        "interaction_id": row["interaction_id"], "kind": call.kind, "name": call.name,
        "status": "error" if call.failed else "ok", "duration_ms": call.duration_ms,
        "attributes": json.dumps({"service.name": row["agent"], "span.name": call.kind}),
    }  # fmt: skip


def window_rows(calls: Iterable[Call], width: int) -> list[results.Row]:
    """Windows of one width, by all, kind and name, and model, as the processors write them."""
    groups: dict[tuple[Any, ...], list[Call]] = {}
    for call in calls:
        row = call.interaction
        place = (row["environment"], row["agent"], row["agent_version"], floor(call.time, width))
        named = f"{call.kind}:{call.name}" if call.name else call.kind
        for scope in ("all", named, "model:m"):
            groups.setdefault((*place, scope), []).append(call)
    rows = []
    for (environment, agent, version, start, scope), group in groups.items():
        timed = [c.duration_ms for c in group if c.duration_ms is not None]
        bins, counts = sketch.histogram(np.array(timed))
        rows.append(
            {
                "environment": environment, "agent": agent, "width_s": width, "start": start,
                "agent_version": version, "scope": scope, "version": 2, "events": len(group),
                "ok": sum(not c.failed for c in group), "error": sum(c.failed for c in group),
                "tool_calls": sum(c.kind == "tool_call" for c in group),
                "tool_errors": sum(c.kind == "tool_call" and c.failed for c in group),
                "unpriced": len(group) if version == "v2" else 0, "duration_n": len(timed),
                "duration_ms": sum(timed), "duration_bins": bins.tolist(),
                "duration_counts": counts.tolist(),
            }
        )  # fmt: skip
    return rows


def fill_monitor(client: Any, now: datetime) -> None:
    """The monitor's own tables: books, partitions, findings, alerts, signs of life."""
    _keep_stale_rows(client, "ledger", "dead_letters", "watermarks", "findings")

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
        "station_progress",
        [
            {"station": name, "bucket": "0", "position": ago(seconds=behind), "version": 1}
            for name, behind in (("a", 20), ("b", 140))
        ],
    )
    finding = {
        "finding_id": "x", "version": 1, "detector": "failure_rate", "kind": "failure_rate_up",
        "environment": "production", "agent": "booking", "agent_version": "v2", "status": "open",
        "severity": "critical", "began": ago(minutes=20), "found": ago(minutes=18), "ended": None,
        "e_value": 1e5, "baseline": 0.05, "observed": 0.4, "n": 90, "title": "t",
        "evidence": json.dumps(EVIDENCE),
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
    decided = {
        "evaluator": "judge", "evaluator_version": "v", "target_kind": "interaction",
        "end": ago(minutes=9),
    }  # fmt: skip
    insert(
        client,
        "evaluation_decisions",
        [
            {"reason": "", "value": None, **decided, **row}
            for row in (
                {"target": "x", "version": 4, "state": "failed", "reason": "timeout"},
                {"target": "y", "version": 6, "state": "done", "value": 1.0},
                {"target": "y", "version": 2, "state": "pending"},
            )
        ],
    )
    insert(
        client,
        "evaluator_agreement",
        [
            {
                "evaluator": "judge", "day": ago(days=n), "version": 1, "n": 40, "labels": 9,
                "kappa": 0.3 + n / 10, "kappa_low": 0.1, "kappa_high": 0.5, "pass_rate": 0.7,
            }
            for n in range(2)
        ],
    )  # fmt: skip
    insert(
        client,
        "clusters",
        [
            {
                "environment": "production", "agent": "booking", "cluster": f"c{n}", "version": 1,
                "name": "book refused", "status": status, "size": 40, "first_seen": ago(hours=2),
                "last_seen": ago(minutes=5), "reason": "tool_failed", "tool": "book",
                "examples": ["i0"], "opportunities": 400,
            }
            for n, status in enumerate(("open", "new", "merged"))
        ],
    )  # fmt: skip
    insert(
        client,
        "heartbeats",
        [
            {"ts": ago(seconds=s), "component": c, "instance": f"{c}-1", "detail": f"{s}"}
            for c, ages in (("processors", (5, 65, 125)), ("sink", (400, 460)))
            for s in ages
        ],
    )
