"""Results for stations, without a broker or a database."""

from __future__ import annotations

import polars as pl

from processors.findings import Finding
from processors.stations.base import BUCKETS, FLEET, RESULTS
from processors.stations.runner import Stations
from processors.stations.storage import MemoryStations

ALL = [*map(str, range(BUCKETS)), FLEET]
"""Buckets of a worker that holds everything."""

T0 = 1_767_571_200
"""Monday 2026-01-05 00:00 UTC."""

_PLAIN = {
    "environment": "production", "agent": "shop", "agent_version": "v1", "session_id": "s",
    "user_id": "u", "state": "ended", "duration_ms": 1000.0, "steps": 3, "llm_calls": 1,
    "llm_errors": 0, "tool_calls": 1, "tool_errors": 0, "handoffs": 0, "human_inputs": 0,
    "input_tokens": 100, "output_tokens": 50, "cost_usd": 0.001, "unpriced": 0, "success": 1,
    "success_source": "status", "reasons": [], "failure_reason": "", "failure_tool": "",
    "failure_template": "", "models": ["gpt-4.1"], "tools": ["find"], "language": "en",
    "request": "where is my parcel", "answered": 1,
}  # fmt: skip


def results(rows):
    """Results of ``rows``: each a decided second and what differs from a plain success."""
    made = [
        {**_PLAIN, "interaction_id": f"i{n:06}", **values, "decided": decided}
        for n, (decided, values) in enumerate(rows)
    ]
    found = pl.DataFrame(made, infer_schema_length=None)
    missing = [pl.lit(None, dtype=t).alias(c) for c, t in RESULTS.items() if c not in found.columns]
    return found.with_columns(missing).select(
        pl.col(name).cast(kind) for name, kind in RESULTS.items()
    ).sort("decided", "interaction_id")  # fmt: skip


def failed(reason="tool_failed", tool="find", template="503 from <num>"):
    """What makes a result a failure."""
    return {
        "success": 0, "reasons": [reason], "failure_reason": reason, "failure_tool": tool,
        "failure_template": template,
    }  # fmt: skip


def run(store: MemoryStations, stations: Stations, buckets=None) -> list[Finding]:
    """Step until nothing waits; returns what was found."""
    found: list[Finding] = []
    more = True
    while more:
        fresh, more = stations.step(ALL if buckets is None else buckets)
        stations.told()
        found += fresh
    return found
