"""Findings as rows, for tests of what reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from processors.clickhouse import ClickHouseConfig, Store

_MS = pl.Datetime("ms", "UTC")


def store_of(clickhouse: Any, user: str = "driftline") -> Store:
    """Store on a test's database."""
    password = clickhouse.reader_password if user == "reader" else clickhouse.password
    return Store(ClickHouseConfig(clickhouse.url, user, password, clickhouse.database))


def finding_row(finding_id: str, now: datetime, **fields: Any) -> dict[str, Any]:
    """A finding of three minutes ago that is open, unless ``fields`` say otherwise."""
    return {
        "finding_id": finding_id,
        "version": 1,
        "detector": "failure_rate",
        "kind": "failure_rate_up",
        "environment": "production",
        "agent": f"agent-{finding_id}",
        "agent_version": "",
        "status": "open",
        "severity": "critical",
        "began": now - timedelta(minutes=3),
        "found": now,
        "ended": None,
        "e_value": 1e6,
        "baseline": 0.01,
        "observed": 0.27,
        "n": 900,
        "title": f"agent-{finding_id}: failure rate rose from 1.0% to 27.0%",
        "evidence": '[{"reason":"tool_failed","tool":"search","template":"503","since":13}]',
        **fields,
    }


def recovered(row: dict[str, Any]) -> dict[str, Any]:
    """The row that ends a finding."""
    return {
        **row,
        "version": row["version"] + 1,
        "status": "resolved",
        "ended": datetime.now(UTC),
    }


def insert_findings(store: Store, *rows: dict[str, Any]) -> None:
    """Store rows of `finding_row`."""
    overrides = {"version": pl.UInt64, "n": pl.UInt64, "ended": _MS, "began": _MS, "found": _MS}
    store.insert("findings", pl.DataFrame(list(rows), schema_overrides=overrides))
