"""The audit tells health how it stands."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.core.errors import Unavailable
from ingest.core.health.verdict import Limits, Snapshot, judge
from processors import audit as module
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


def test_an_engine_that_stood_still_once_does_not_put_looks_off_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sixty seconds at a share of three percent would be a pause of more than half an hour."""
    clock = [1_000.0]
    took = [0.1, 60.0, 0.1, *[60.0] * 9]
    pauses = []

    def search(_: Any) -> None:
        clock[0] += took.pop(0)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Audit, "_search", search)
    monkeypatch.setattr(module, "differences", away)
    monkeypatch.setattr(module.sealing, "read", lambda *_: None)
    audit = Audit(SimpleNamespace(store=None), "log", lambda: True, lambda: 60.0)  # type: ignore[arg-type]
    for _ in range(len(took)):
        audit._due = 1e9
        audit._look()
        pauses.append(audit._rest)
    assert pauses[:4] == [10, 20, 10, 20]
    assert pauses[-1] == pytest.approx(2_000)  # what always takes long rests as long as it must

    def frozen(_: Any) -> None:
        clock[0] += 60
        away()

    monkeypatch.setattr(Audit, "_search", lambda _: None)
    monkeypatch.setattr(module, "differences", frozen)
    audit._due = 0.0
    with pytest.raises(Unavailable):
        audit._look()
    assert audit._due - clock[0] == 20
