"""What the gateway refuses or ignores is reported, redacted and within bounds."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.gateway.admission import Refusal
from ingest.gateway.reports import MAX_LETTERS, MAX_NAMES, Reports
from ingest.otlp import IgnoredRecords
from ingest.redaction import Redactor
from processors.write.dead_letters import beat_rows, foreign_rows, ignored_rows
from tests.support.common import eventually
from tests.unit.ingest.gateway_harness import served

GOOD = {"traceId": "a" * 32, "spanId": "b" * 16, "name": "s", "endTimeUnixNano": "9"}
BAD = {**GOOD, "traceId": "xy", "attributes": [
    {"key": "gen_ai.prompt", "value": {"stringValue": "I am ann@example.org"}}]}  # fmt: skip


def traces(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def logs(count: int) -> dict[str, Any]:
    records = [{"timeUnixNano": "9", "body": {"stringValue": "hello"}}] * count
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}


def test_a_refused_span_becomes_a_redacted_dead_letter() -> None:
    with served(redact_text=Redactor().redact_text) as gateway:
        assert gateway.post("/v1/traces", traces(GOOD, BAD)).status == 200
        assert gateway.post("/v1/traces", b"{no json").status == 400
    rows = foreign_rows(gateway.producer.reported).to_dicts()
    assert [row["code"] for row in rows] == ["invalid_field", "invalid_json"]
    assert [row["topic"] for row in rows] == ["v1/traces"] * 2
    assert "[email]" in rows[0]["text"]
    assert "ann@" not in str(rows)
    assert len({(row["log_id"], row["offset"], row["line"]) for row in rows}) == 2


def test_where_content_is_not_kept_only_a_fingerprint_is() -> None:
    with served() as gateway:
        gateway.post("/v1/traces", traces(BAD))
    [row] = foreign_rows(gateway.producer.reported).to_dicts()
    assert (row["text"], row["kept"]) == ("", "")
    assert row["bytes"] > 0
    assert len(row["sha256"]) == 64


def test_ignored_records_are_counted_and_repeats_do_not_add_up() -> None:
    with served() as gateway:
        for count in (3, 4):
            assert gateway.post("/v1/logs", logs(count)).json() == {}
    rows = ignored_rows(gateway.producer.reported)
    assert foreign_rows(gateway.producer.reported).is_empty()
    assert rows["records"].max() == 7
    assert rows["reason"].unique().to_list() == ["no_agent_work"]


def test_a_gateway_says_that_it_lives() -> None:
    before = datetime.now(UTC)
    with served() as gateway:
        eventually(lambda: gateway.producer.reported, 10)
    [row] = beat_rows(gateway.producer.reported).to_dicts()
    assert row["component"] == "gateway"
    assert row["instance"].endswith(f":{os.getpid()}")
    assert before - timedelta(seconds=1) <= row["ts"] <= datetime.now(UTC)
    assert foreign_rows(gateway.producer.reported).is_empty()
    assert ignored_rows(gateway.producer.reported).is_empty()


def test_letters_and_names_have_bounds() -> None:
    sent: list[bytes] = []

    async def send(records: list[bytes]) -> None:
        sent.extend(records)

    reports = Reports(send, None)
    reports.refused("traces", [Refusal("invalid_field", "x")] * (MAX_LETTERS + 9))
    kinds = [IgnoredRecords("s", "", f"event {n}", "no_meaning") for n in range(MAX_NAMES + 50)]
    reports.ignored(Counter(kinds), 120 * 10**9)
    asyncio.run(reports.flush())
    told = [json.loads(record) for record in sent]
    ignored = [one for one in told if one.get("report") == "ignored"]
    assert len(told) - len(ignored) == MAX_LETTERS
    assert len(ignored) == MAX_NAMES + 1
    assert sum(one["records"] for one in ignored) == MAX_NAMES + 50
    assert {one["minute"] for one in ignored} == {120}
    asyncio.run(reports.flush())
    assert len(sent) == len(told)
