"""Rows of results as the derive step writes them, and the rollups that follow from them.

The rollups are plain Python over single rows: an oracle that shares nothing with the product but
the definition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from detectors import sketch

Row = dict[str, Any]

WIDTHS = (60, 3600, 86_400)


def floor(moment: datetime, width: int) -> datetime:
    return datetime.fromtimestamp(int(moment.timestamp()) // width * width, UTC)


def interaction(number: int, end: datetime, **fields: Any) -> Row:
    """An interaction that succeeded; ``success``, ``reason`` and all others may be given."""
    duration = fields.pop("duration_ms", 1000.0)
    reason, tool, template = fields.pop("reason", ("", "", ""))
    name = fields.pop("interaction_id", f"i{number}")
    row = {
        "cell": floor(end, 10), "interaction_id": name, "version": 2, "live": 1, "trace_id": name,
        "environment": "production", "agent": "a", "agent_version": "v1", "session_id": name,
        "user_id": "", "start": end - timedelta(milliseconds=duration or 0), "end": end,
        "state": "ended", "duration_ms": duration, "events": 3, "steps": 2, "llm_calls": 1,
        "tool_calls": 2, "tool_errors": int(bool(reason)), "input_tokens": None,
        "output_tokens": None, "cost_usd": None, "success": 0 if reason else 1,
        "success_source": "status", "reasons": [reason] if reason else [],
        "failure_reason": reason, "failure_tool": tool, "failure_template": template,
        "fingerprint": f"{reason}/{tool}" if reason else "", "satisfaction": None,
        "satisfaction_n": 0, "models": ["m"], "tools": [], "request": "please", "answer": "done",
    }  # fmt: skip
    assert fields.keys() <= row.keys(), fields
    return row | fields


def session(parts: list[Row]) -> Row:
    """The session of some interactions, success as that of the last."""
    parts = sorted(parts, key=lambda row: (row["start"], row["interaction_id"]))
    first, last = parts[0], max(parts, key=lambda row: row["end"])
    ratings = [p["satisfaction"] for p in parts if p["satisfaction"] is not None]
    costs = [p["cost_usd"] for p in parts]
    return {
        **{k: first[k] for k in ("session_id", "environment", "agent", "agent_version", "user_id")},
        "cell": floor(last["end"], 10), "version": 2, "live": 1, "start": first["start"],
        "end": last["end"],
        "duration_ms": (last["end"] - first["start"]) / timedelta(milliseconds=1),
        "interactions": len(parts), "succeeded": sum(p["success"] == 1 for p in parts),
        "failed": sum(p["success"] == 0 for p in parts), "success": last["success"],
        "cost_usd": None if None in costs else sum(costs),
        "satisfaction": float(np.mean(ratings)) if ratings else None,
        "satisfaction_n": len(ratings), "request": first["request"], "answer": last["answer"],
    }  # fmt: skip


def rollups(rows: Iterable[Row], unit: str) -> list[Row]:
    """Rows of ``rollups`` of every width."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        for width in WIDTHS:
            at = floor(row["cell"], width)
            key = (row["environment"], row["agent"], width, at, row["agent_version"])
            groups[key].append(row)
    return [_rollup(key, group, unit) for key, group in groups.items()]


def _rollup(key: tuple[Any, ...], group: list[Row], unit: str) -> Row:
    environment, agent, width, start, version = key

    def known(name: str) -> list[Any]:
        return [row[name] for row in group if row.get(name) is not None]

    def total(name: str) -> int:
        return sum(row.get(name) or 0 for row in group)

    bins, counts = sketch.histogram(np.array(known("duration_ms")))
    reasons: dict[str, int] = defaultdict(int)
    for row in group:
        if row.get("failure_reason"):
            reasons[row["failure_reason"]] += 1
    rated = [row["satisfaction"] for row in group if row["satisfaction_n"]]
    return {
        "environment": environment, "agent": agent, "width_s": width, "start": start,
        "agent_version": version, "unit": unit, "version": 2, "n": len(group),
        "open": sum(row.get("state") == "open" for row in group),
        "unfinished": sum(row.get("state") == "unfinished" for row in group),
        "succeeded": sum(known("success")), "success_known": len(known("success")),
        "duration_n": len(known("duration_ms")), "duration_ms": sum(known("duration_ms")),
        "duration_bins": bins.tolist(), "duration_counts": counts.tolist(),
        "llm_calls": total("llm_calls"), "tool_calls": total("tool_calls"),
        "tool_errors": total("tool_errors"), "input_tokens": total("input_tokens"),
        "output_tokens": total("output_tokens"), "tokens_n": len(known("input_tokens")),
        "cost_usd": float(sum(known("cost_usd"))), "cost_n": len(known("cost_usd")),
        "satisfaction": float(sum(rated)), "satisfaction_n": len(rated),
        "reasons": sorted(reasons), "reason_counts": [reasons[r] for r in sorted(reasons)],
        "seen_reasons": sorted(reasons), "seen_counts": [reasons[r] for r in sorted(reasons)],
    }  # fmt: skip


def insert(client: Any, table: str, rows: Iterable[Row]) -> None:
    rows = list(rows)
    columns = list(rows[0])
    client.insert(table, [[row[c] for c in columns] for row in rows], column_names=columns)


def fill(client: Any, interactions: list[Row], version: int = 2) -> list[Row]:
    """Store interactions and all that follows from them; returns their sessions."""
    versioned = {"version": version}
    by_session: dict[str, list[Row]] = defaultdict(list)
    for row in interactions:
        by_session[row["session_id"]].append(row)
    sessions = [session(parts) for parts in by_session.values()]
    insert(client, "interaction_results", [row | versioned for row in interactions])
    insert(client, "session_results", [row | versioned for row in sessions])
    insert(
        client,
        "interaction_index",
        [{"interaction_id": row["trace_id"], "cell": row["cell"]} for row in interactions],
    )
    insert(
        client,
        "session_index",
        [{k: row[k] for k in ("session_id", "cell", "interaction_id")} for row in interactions],
    )
    for unit, rows in (("interactions", interactions), ("sessions", sessions)):
        insert(client, "rollups", [row | versioned for row in rollups(rows, unit)])
    return sessions
