"""Three hours of made-up conversations in the tables of results, with an incident and its finding.

Until an hour ago every agent is well; since then version v15 of `support` fails in a tool.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from processors.clickhouse import Store
from tests.support.findings import finding_row, insert_findings
from tests.support.results import rollups

HOSTILE = (
    '<img src=x onerror=alert(1)>\u202e\x1b[31m=HYPERLINK("http://evil.example")\'\\ $__x ${agent}'
)
"""A name with markup, a change of direction, a terminal code, a formula, quotes and macros."""

FINDING = "f0f0f0f0f0f0f0f0"
FAILED = "i-broken"
SESSION = "s-broken"
_NS = pl.Datetime("ns", "UTC")


def fill(store: Store, now: datetime | None = None, interactions: int = 240) -> datetime:
    """Store it all; returns the moment that counts as now."""
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    rng = random.Random(7)
    results, events = [], []
    for number in range(interactions):
        agent, version = [("support", "v14"), ("support", "v15"), ("booking", "v3"), (HOSTILE, "")][
            number % 4
        ]
        end = now - timedelta(seconds=30 + number * 10_800 // interactions)
        broken = version == "v15" and end > now - timedelta(hours=1) and rng.random() < 0.6
        name, session = f"i-{number}", f"s-{number // 8}-{number % 4}"
        results.append(_result(name, session, agent, version, end, broken, rng))
        events += _events(results[-1], broken)
    special = _result(FAILED, SESSION, "support", "v15", now - timedelta(seconds=20), True, rng)
    special["request"], special["answer"] = "Where is my parcel?", f"No {HOSTILE}."
    results.append(special)
    events += _events(special, True)
    _store(store, results, events)
    _evaluations(store, now)
    insert_findings(
        store,
        finding_row(
            FINDING, now, agent="support", agent_version="v15", severity="page",
            began=now - timedelta(hours=1),
            title="support: failure rate rose from 1.0% to 27.0%",
            evidence=json.dumps([
                {"fingerprint": "f", "reason": "tool_failed", "tool": "search_articles",
                 "template": "503 from <url>", "since": 13, "before": 0},
            ]),
        ),
        finding_row("hostile", now, agent=HOSTILE, title=HOSTILE, status="resolved", ended=now,
                    evidence=json.dumps([{"reason": HOSTILE, "tool": HOSTILE, "template": HOSTILE,
                                          "since": 1, "before": 0}])),
    )  # fmt: skip
    return now


def _result(
    name: str,
    session: str,
    agent: str,
    version: str,
    end: datetime,
    broken: bool,
    rng: random.Random,
) -> dict[str, Any]:
    duration = 10.0 * rng.randint(80, 400)  # so that parts of it are whole microseconds
    return {
        "cell": _cell(end), "interaction_id": name, "version": 1, "live": 1, "seen": 5,
        "trace_id": name, "environment": "production", "agent": agent, "agent_version": version,
        "session_id": session, "user_id": f"u-{session}",
        "start": end - timedelta(milliseconds=duration), "end": end, "state": "ended",
        "status": "error" if broken else "ok", "duration_ms": duration,
        "waiting_ms": None, "time_to_first_token_ms": duration / 5, "events": 5, "steps": 2,
        "llm_calls": 1, "llm_errors": 0, "tool_calls": 1, "tool_errors": int(broken), "handoffs": 0,
        "human_inputs": 0, "input_tokens": 900, "output_tokens": 120, "cached_tokens": 0,
        "cost_usd": 0.004, "priced": 1, "unpriced": 0, "success": int(not broken),
        "success_source": "status", "reasons": ["tool_failed"] if broken else [],
        "failure_reason": "tool_failed" if broken else "",
        "failure_tool": "search_articles" if broken else "",
        "failure_template": "503 from <url>" if broken else "",
        "fingerprint": "f" if broken else "", "satisfaction": None, "satisfaction_n": 0,
        "models": ["small"], "tools": ["search_articles"],
        "language": "en", "request": "How do I change my booking?", "answer": "Like this.",
        "rules_version": "1",
    }  # fmt: skip


def _events(result: dict[str, Any], broken: bool) -> list[dict[str, Any]]:
    start, end = result["start"], result["end"]
    length = end - start
    common = {
        k: result[k]
        for k in (
            "environment",
            "agent",
            "agent_version",
            "session_id",
            "interaction_id",
            "user_id",
        )
    }
    parts = [
        ("user_message", "", 0.0, None, {"content": result["request"]}),
        ("llm_call", "chat", 0.3, 0.3, {
            "model": "small", "input_tokens": 900, "output_tokens": 120, "cost_usd": 0.004,
        }),
        ("tool_call", "search_articles", 0.8, 0.5, {
            "status": "error" if broken else "ok", "error_type": "HTTPError" if broken else "",
            "error_message": "503 from https://search.example/7" if broken else "",
            "tool_arguments": json.dumps({"query": HOSTILE}), "tool_result": "" if broken else "[]",
        }),
        ("agent_message", "", 0.95, None, {"content": result["answer"]}),
        ("interaction", "answer", 1.0, 1.0, {"status": result["status"]}),
    ]  # fmt: skip
    root = f"{result['interaction_id']}-4"
    return [
        {
            "schema_version": 1, "event_id": f"{result['interaction_id']}-{i}",
            "payload_hash": i + 1, "parent_id": "" if kind == "interaction" else root,
            "time": start + length * at,
            "kind": kind, "name": name, "model": "", "status": "ok", "error_type": "",
            "error_message": "",
            "duration_ms": None if share is None else result["duration_ms"] * share,
            "input_tokens": None, "output_tokens": None, "cost_usd": None, "content": "",
            "tool_arguments": "", "tool_result": "", "attributes": "{}", **common, **more,
        }
        for i, (kind, name, at, share, more) in enumerate(parts)
    ]  # fmt: skip


def _store(store: Store, results: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    times = {"start": _NS, "end": _NS, "cell": pl.Datetime("ms", "UTC")}
    empty = {"waiting_ms": pl.Float64, "satisfaction": pl.Float64, "models": pl.List(pl.String)}
    frame = pl.DataFrame(
        results, schema_overrides={**times, **empty, "reasons": pl.List(pl.String)}
    )
    frame = frame.with_columns(pl.col("cell").dt.epoch("s").cast(pl.UInt32))
    store.insert("interaction_results", frame)
    # As the processors do: every cell in which a trace has an event, not only that of its end.
    cells = {(event["interaction_id"], _cell(event["time"])) for event in events}
    index = pl.DataFrame(sorted(cells), schema=("interaction_id", "cell"), orient="row")
    index = index.with_columns(pl.col("cell").dt.epoch("s").cast(pl.UInt32))
    store.insert("interaction_index", index)
    store.insert("session_index", frame.select("session_id", "cell", "interaction_id"))
    store.insert("interaction_cells", frame.select(
        "cell", "interaction_id", "version", "environment", "agent", "agent_version", "session_id",
        "start", "end", "status", pl.lit(1, pl.UInt8).alias("root"),
        pl.lit(5, pl.UInt64).alias("events"),
    ))  # fmt: skip
    overrides = {
        "time": _NS, "duration_ms": pl.Float64, "input_tokens": pl.UInt64,
        "output_tokens": pl.UInt64,
        "cost_usd": pl.Float64, "payload_hash": pl.UInt64, "schema_version": pl.UInt8,
    }  # fmt: skip
    store.insert("events", pl.DataFrame(events, schema_overrides=overrides))
    store.command(
        "INSERT INTO session_results (cell, session_id, version, live, environment, agent,"
        " agent_version, user_id, start, end, interactions, succeeded, failed, success)"
        " SELECT max(r.cell), session_id, 1, 1, any(environment), any(agent), any(agent_version),"
        " any(user_id), min(r.start), max(r.end), count(), countIf(r.success = 1),"
        " countIf(r.success = 0), argMax(r.success, r.end)"
        " FROM interaction_results AS r GROUP BY session_id"
    )
    lists = {"reasons": pl.String, "reason_counts": pl.UInt64, "duration_bins": pl.Int64}
    summed = pl.DataFrame(
        rollups(results, "interactions"),
        schema_overrides={name: pl.List(kind) for name, kind in lists.items()},
    )
    store.insert("rollups", summed)
    for width, unit in ((60, "MINUTE"), (3600, "HOUR"), (86400, "DAY")):
        store.command(
            "INSERT INTO windows (environment, agent, width_s, start, agent_version, scope,"
            " version, events, ok, error, tool_calls, tool_errors)"
            f" SELECT environment, agent, {width},"
            f" toStartOfInterval(r.cell, INTERVAL 1 {unit}) AS at,"
            " agent_version, 'all', 1, sum(r.events), sum(r.events), 0, sum(r.tool_calls),"
            " sum(r.tool_errors) FROM interaction_results AS r"
            " GROUP BY environment, agent, at, agent_version"
        )


def _evaluations(store: Store, now: datetime) -> None:
    store.insert(
        "evaluations",
        pl.DataFrame(
            {
                "target": [FAILED], "kind": ["feedback"], "name": ["thumbs"], "user_id": ["u-1"],
                "time": [now], "event_id": ["e-1"], "payload_hash": [1],
                "environment": ["production"], "agent": ["support"], "value": [0.0],
                "reason": [f"useless {HOSTILE}"],
            },
            schema_overrides={"time": _NS, "payload_hash": pl.UInt64},
        ),
    )  # fmt: skip


def _cell(moment: datetime) -> datetime:
    return moment - timedelta(seconds=moment.timestamp() % 10)
