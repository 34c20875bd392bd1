"""The audit tells health how it stands."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from ingest.core.errors import Unavailable
from ingest.core.health.verdict import Limits, Snapshot, judge
from processors.audit import Audit


def away(*_: Any) -> None:
    raise Unavailable("no ClickHouse")


def test_an_audit_that_fails_or_hangs_is_told_by_health() -> None:
    results: Any = SimpleNamespace(store=SimpleNamespace(query=away))
    audit = Audit(results, "log", lambda: True, lambda: 60.0)

    def verdict(later: float) -> tuple[str, list[str]]:
        now = (audit._since or 1_000.0) + later
        facts = Snapshot(now, joined=True, stations=[audit.health(now)])
        found = judge(facts, now, Limits())
        return found.status, [reason.text for reason in found.reasons]

    assert verdict(1e6) == ("ready", [])  # it rests
    asyncio.run(audit._try())
    asyncio.run(audit._try())
    assert verdict(5)[0] == "ready"
    status, (text,) = verdict(20)
    assert status == "unready"
    assert "station audit" in text and "no ClickHouse" in text
    assert verdict(121)[0] == "unhealthy"
    audit._look = lambda: None  # type: ignore[method-assign]
    asyncio.run(audit._try())
    assert verdict(1e6) == ("ready", [])
    audit._since = 1_000.0  # a look that does not come back
    assert verdict(1_000)[0] == "ready"
    assert verdict(1_830)[0] == "unready"
