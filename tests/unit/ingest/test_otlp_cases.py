"""Recorded telemetry of real senders: what translation alone decides has its right values.

The cases lie beside the repository (``DRIFTLINE_DATA``); what needs a whole trace (success, who
inherits what) is tested where interactions are derived.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import Any

import pytest

from ingest.core.events import Event
from ingest.limits import Limits
from ingest.otlp import Translation, events_of_logs, events_of_traces
from ingest.replay import read
from tests.support.common import DATA

CASES = DATA / "otlp_cases"
EXPECTED: dict[str, Any] = (
    json.loads((CASES / "expected.json").read_text()) if CASES.exists() else {}
)

pytestmark = pytest.mark.skipif(not EXPECTED, reason=f"no recorded cases in {CASES}")


def translated(name: str) -> list[Event]:
    found: list[Event] = []
    for file in EXPECTED[name].get("files", [name]):
        body = gzip.decompress((CASES / f"{file}.gz").read_bytes())
        decode = events_of_logs if ".logs." in file else events_of_traces
        result: Translation = decode(body, encoding="json", limits=Limits())
        assert result.rejected == []
        found += result.events
    return found


def topmost(events: list[Event]) -> list[Event]:
    """Interactions that no other is above."""
    by_id = {event.event_id: event for event in events}

    def above(event: Event) -> Event | None:
        return by_id.get(event.parent_id or "")

    def is_top(event: Event) -> bool:
        at = above(event)
        while at is not None:
            if at.kind == "interaction":
                return False
            at = above(at)
        return True

    return [event for event in events if event.kind == "interaction" and is_top(event)]


def measured(events: list[Event]) -> dict[str, Any]:
    def of(kind: str, status: str | None = None) -> list[Event]:
        return [e for e in events if e.kind == kind and status in (None, e.status)]

    tops = {event.event_id for event in topmost(events)}
    calls, tools = of("llm_call"), of("tool_call")
    broken = Counter(e.name for e in tools if e.status == "error")
    said = {
        kind: sorted((e.content or "").strip() for e in of(kind) if e.parent_id in tops)
        for kind in ("user_message", "agent_message")
    }
    first = [e.time_to_first_token_ms for e in calls if e.time_to_first_token_ms is not None]
    return {
        "llm_calls": len(of("llm_call", "ok")),
        "llm_errors": len(of("llm_call", "error")),
        "input_tokens": sum(e.input_tokens or 0 for e in calls),
        "output_tokens": sum(e.output_tokens or 0 for e in calls),
        "cached_tokens": sum(e.cached_tokens or 0 for e in calls),
        "tools": {name: [n, broken[name]] for name, n in Counter(e.name for e in tools).items()},
        "handoffs": sorted(str(e.name) for e in of("handoff")),
        "human_inputs": len(of("human_input")),
        "session_ids": sorted({e.session_id for e in events if e.session_id}),
        "user_ids": sorted({e.user_id for e in events if e.user_id}),
        "agent_version": sorted(
            {e.agent_version for e in events if e.agent_version and e.event_id in tops}
        ),
        "environment": sorted({e.environment for e in events}),
        "requests": said["user_message"],
        "answers": said["agent_message"],
        "error_types": sorted({e.error_type or "" for e in events} - {"", "error"}),
        "first_token_ms": first,
        "null_durations": sum(e.duration_ms is None for e in calls + tools + of("interaction")),
    }


def same(key: str, got: Any, right: Any) -> bool:
    if isinstance(right, dict) and "any" in right:
        return any(same(key, got, one) for one in right["any"])
    if key == "first_token_ms":
        return got == pytest.approx(right, rel=0.01)
    if key in ("requests", "answers"):
        got = [next((r for r in right if r[0] == "~" and r[1:] in g), g) for g in got]
    return got == (sorted(right) if isinstance(right, list) else right)


NOT_ALONE = {
    # The run whose root never came: its words and version are only on calls of models.
    "08-smolagents-openinference.json": {"requests", "agent_version"},
    # A bare model call: whether it is an interaction is decided where traces are seen.
    "06-litellm-otel.json": {"requests"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_translation_decides(name: str) -> None:
    right, got = EXPECTED[name], measured(translated(name))
    skipped = NOT_ALONE.get(name, set())
    wrong = {
        key: (got[key], right[key])
        for key in got
        if key in right and key not in skipped and not same(key, got[key], right[key])
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "interactions", "failed"),
    [
        ("01-aisdk5.json", 3, 1),
        ("03-langgraph-openinference.json", 6, 1),
        ("03f-langgraph-errors.json", 3, 3),
        ("05-langfuse-sdk.json", 3, 2),
        ("06-litellm-otel.json", 0, 0),
        ("08-smolagents-openinference.json", 1, 0),
        ("10-zero-parent.json", 1, 1),
        ("13-negative-duration.json", 2, 2),
        ("14-anthropic-cache.json", 8, 0),
        ("15a-claude-code.logs.json", 1, 0),
        ("15b-claude-code-spans.json", 1, 0),
        ("18-fastapi-langgraph.json", 3, 2),
        ("20c-agent.json", 1, 1),
        ("25d-mcp-iserror.json", 1, 0),
        ("26-spaced.json", 1, 1),
    ],
)
def test_the_topmost_agent_spans(name: str, interactions: int, failed: int) -> None:
    found = topmost(translated(name))
    assert (len(found), sum(e.status == "error" for e in found)) == (interactions, failed)


def test_three_different_failures_have_three_messages() -> None:
    tops = topmost(translated("03f-langgraph-errors.json"))
    assert len({e.error_message for e in tops}) == 3
    assert not any("Traceback" in (e.error_message or "") for e in tops)


def test_an_interrupted_run_and_its_resume_say_so() -> None:
    events = translated("03-langgraph-openinference.json")
    resumed = [e for e in events if (e.attributes or {}).get("driftline.resumes")]
    assert [e.kind for e in resumed] == ["interaction"]
    asked = [e for e in events if e.kind == "human_input"]
    assert [(e.name, e.status) for e in asked] == [("issue_refund", "ok")]
    assert (asked[0].attributes or {})["driftline.end"] == "interrupted"


def test_input_and_cache_per_call() -> None:
    calls = {e.agent: e for e in translated("14-anthropic-cache.json") if e.kind == "llm_call"}
    right = EXPECTED["14-anthropic-cache.json"]["per_agent"]
    assert {name: e.input_tokens for name, e in calls.items()} == {
        name: one["input_tokens"] for name, one in right.items()
    }
    assert calls["case14b-excl-write"].cache_write_tokens == 39_000


def test_a_spaced_file_is_read_by_replay() -> None:
    [event] = read(CASES / "26-spaced.json.gz")
    assert isinstance(event, Event)
    assert (event.kind, event.status, event.session_id) == ("interaction", "error", "s10")
