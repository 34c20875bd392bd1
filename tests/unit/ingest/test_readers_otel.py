"""Span exports: any-agent's recorded traces, and each rule of the translation."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import codec
from ingest.core.errors import Rejected
from ingest.core.events import Event
from ingest.otlp.attributes import Span
from ingest.otlp.translate import event_of
from ingest.replay import Options, otel, read
from tests.support.common import data_file

FILE = "any_agent_otel_traces.jsonl.gz"


def span(**fields: Any) -> Span:
    given_: dict[str, Any] = {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "parent_id": None,
        "name": "s",
        "start_ns": 1_000_000,
        "end_ns": 3_500_000,
    }
    return Span(**{**given_, **fields})


def test_the_books_of_the_recorded_traces() -> None:
    items = list(read(data_file(FILE)))
    assert all(isinstance(item, Event) for item in items)
    events = [e for e in items if isinstance(e, Event) and e.event_id.endswith(":span")]
    assert len(events) == 773
    payloads = defaultdict(set)
    for event in events:
        payloads[event.event_id].add(codec.payload_hash(event))
    assert len(payloads) == 623
    assert Counter(map(len, payloads.values())) == {1: 583, 2: 40}
    repeats = len(events) - sum(map(len, payloads.values()))
    assert repeats == 773 - 623 - 40


def test_every_recorded_span_is_understood() -> None:
    events = list(read(data_file(FILE)))
    kinds = Counter(event.kind for event in events if isinstance(event, Event))
    assert kinds == {
        "llm_call": 353,
        "tool_call": 255,
        "interaction": 129,  # of 109 runs, 20 nodes of graphs that call themselves agents
        "span": 36,
        "user_message": 118,
        "agent_message": 61,
    }
    for event in events:
        assert isinstance(event, Event)
        if event.kind == "tool_call":
            assert event.name
        if event.kind == "llm_call":
            assert event.model
            assert event.input_tokens
            assert event.output_tokens
        elif event.kind != "interaction":
            assert event.input_tokens is None
            assert event.cost_usd is None


def test_tool_calls_carry_what_was_recorded_of_them() -> None:
    tools = [e for e in read(data_file(FILE)) if isinstance(e, Event) and e.kind == "tool_call"]
    assert sum(event.tool_arguments is not None for event in tools) == 249
    assert sum(event.tool_result is not None for event in tools) == 242


def test_a_span_without_an_end_has_no_duration() -> None:
    open_ended = [
        event
        for event in read(data_file(FILE))
        if isinstance(event, Event)
        and event.duration_ms is None
        and event.event_id.endswith(":span")
    ]
    assert len(open_ended) == 30
    assert event_of(span(end_ns=None)).time_unix_nano == 1_000_000


def test_times_and_durations() -> None:
    event = event_of(span())
    assert (event.time_unix_nano, event.duration_ms) == (3_500_000, 2.5)
    backwards = event_of(span(end_ns=999_999))
    assert (backwards.time_unix_nano, backwards.duration_ms) == (999_999, None)


@pytest.mark.parametrize(
    ("attributes", "parent", "kind"),
    [
        ({"gen_ai.operation.name": "chat"}, "c" * 16, "llm_call"),
        ({"gen_ai.operation.name": "chat"}, None, "llm_call"),
        ({"gen_ai.operation.name": "execute_tool"}, "c" * 16, "tool_call"),
        ({"gen_ai.operation.name": "invoke_agent"}, None, "interaction"),
        ({"gen_ai.operation.name": "invoke_agent"}, "c" * 16, "interaction"),
        ({"gen_ai.operation.name": "embeddings"}, "c" * 16, "retrieval"),
        ({"openinference.span.kind": "LLM"}, "c" * 16, "llm_call"),
        ({"openinference.span.kind": "CHAIN"}, None, "interaction"),
        ({"openinference.span.kind": "RETRIEVER"}, "c" * 16, "retrieval"),
        (
            {"gen_ai.operation.name": "new", "openinference.span.kind": "TOOL"},
            "c" * 16,
            "tool_call",
        ),
        ({}, None, "span"),
        ({}, "c" * 16, "span"),
    ],
)
def test_kinds(attributes: dict[str, str], parent: str | None, kind: str) -> None:
    assert event_of(span(attributes=attributes, parent_id=parent)).kind == kind


def call_of(attributes: dict[str, Any], read: int, written: int) -> Event:
    said = {"gen_ai.usage.input_tokens": read, "gen_ai.usage.output_tokens": written}
    return event_of(span(attributes={"gen_ai.operation.name": "chat", **said, **attributes}))


@pytest.mark.parametrize(
    ("attributes", "cost"),
    [
        ({}, None),
        ({"gen_ai.usage.cost": 0.5}, 0.5),
        ({"gen_ai.usage.cost": 0.0}, None),
        ({"gen_ai.usage.input_cost": 0.1, "gen_ai.usage.output_cost": 0.2}, pytest.approx(0.3)),
        ({"cost_prompt": 0.1, "cost_completion": 0.0}, None),
        ({"llm.cost.prompt": 0.1}, None),
        ({"gen_ai.usage.cost": -1.0}, None),
    ],
)
def test_a_zero_for_tokens_used_is_no_price(attributes: dict[str, float], cost: Any) -> None:
    assert call_of(attributes, 10, 5).cost_usd == cost


def test_nothing_used_has_no_price() -> None:
    assert call_of({"gen_ai.usage.cost": 0.0}, 0, 0).cost_usd is None


def test_errors_from_status_attribute_and_exception() -> None:
    by_status = event_of(span(failed=True, status_message="boom"))
    assert (by_status.status, by_status.error_type, by_status.error_message) == (
        "error",
        "error",
        "boom",
    )
    by_attribute = event_of(span(attributes={"error.type": "timeout"}))
    assert (by_attribute.status, by_attribute.error_type) == ("error", "timeout")
    record = {
        "spans": [
            {
                "name": "s",
                "context": {"trace_id": 1, "span_id": 2},
                "start_time": 1,
                "end_time": 2,
                "status": {"status_code": "ERROR"},
                "events": [
                    {
                        "name": "exception",
                        "attributes": {"exception.type": "ValueError", "exception.message": "bad"},
                    }
                ],
            }
        ]
    }
    (event,) = otel.read(json.dumps(record).encode())
    assert isinstance(event, Event)
    assert (event.status, event.error_type, event.error_message) == ("error", "ValueError", "bad")


def test_what_no_field_takes_stays_an_attribute() -> None:
    event = event_of(
        span(
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.response.model": "m-2",
                "gen_ai.request.model": "m",
                "gen_ai.usage.input_tokens": 7,
                "custom": [1, {"a": True}],
                "nothing": None,
            }
        )
    )
    assert event.model == "m-2"
    assert event.attributes == {
        "custom": '[1,{"a":true}]',
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "span.name": "s",
        "driftline.agent_from": "service",
        "driftline.dialect": "gen_ai",
        "driftline.root": "true",
    }


def test_a_bad_span_costs_only_itself(tmp_path: Path) -> None:
    good = {"name": "s", "context": {"trace_id": 5, "span_id": "0x7"}, "start_time": 1}
    bad: list[dict[str, Any]] = [
        {**good, "context": {"trace_id": "secret", "span_id": 1}},
        {**good, "start_time": "secret"},
        {**good, "start_time": None},
        {**good, "context": {"trace_id": 0, "span_id": 1}},
        {**good, "start_time": 5 * 10**18},
    ]
    path = tmp_path / "spans.json"
    path.write_text(json.dumps([*bad, good, json.dumps(good)], indent=1))
    items = list(read(path))
    assert [isinstance(item, Event) for item in items] == [False] * 5 + [True] * 2
    assert {item.code for item in items if isinstance(item, Rejected)} == {"invalid_field"}
    assert not any("secret" in str(item) for item in items)
    assert items[-1] == items[-2]


def test_requests_as_the_collector_writes_them_to_files(tmp_path: Path) -> None:
    span_ = {
        "traceId": "A" * 32,
        "spanId": "b" * 16,
        "name": "chat",
        "startTimeUnixNano": "5",
        "endTimeUnixNano": "9",
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
    }
    bad = {**span_, "spanId": "b"}
    request = {"resourceSpans": [{"scopeSpans": [{"spans": [span_, bad]}]}]}
    path = tmp_path / "traces.jsonl"
    path.write_text(f"{json.dumps(request)}\n{json.dumps(request)}\n")
    items = list(read(path))
    assert [isinstance(item, Event) for item in items] == [True, False] * 2
    assert items[0] == items[2]
    assert isinstance(items[0], Event)
    assert (items[0].kind, items[0].interaction_id) == ("llm_call", "a" * 32)


def test_agent_comes_from_span_trace_service_or_caller() -> None:
    assert event_of(span()).agent == "unknown_service"
    assert event_of(span(resource={"service.name": "shop"})).agent == "shop"
    assert event_of(span(resource={"service.name": "shop"}), agent="trace").agent == "trace"
    named = span(attributes={"gen_ai.agent.name": "own"})
    assert event_of(named, agent="trace").agent == "own"
    options = Options(agent="mine", environment="test")
    found = {(e.agent, e.environment) for e in read(data_file(FILE), options)}  # type: ignore[union-attr]
    assert found == {("mine", "test")}


texts = st.text(max_size=40)
values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.lists(texts))
known = st.sampled_from(
    [
        "gen_ai.operation.name",
        "openinference.span.kind",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.cost",
        "gen_ai.response.model",
        "gen_ai.conversation.id",
        "gen_ai.tool.name",
        "error.type",
        "deployment.environment",
    ]
)


@given(
    st.dictionaries(known | texts, values, max_size=8),
    st.sampled_from(["chat", "execute_tool", "invoke_agent", ""]),
    st.booleans(),
)
def test_any_span_makes_an_event_that_the_contract_accepts(
    attributes: dict[str, Any], operation: str, root: bool
) -> None:
    record = (
        json.dumps(
            [
                {
                    "name": "x",
                    "context": {"trace_id": 1, "span_id": 2},
                    "parent_id": None if root else 3,
                    "start_time": 5,
                    "end_time": 9,
                    "attributes": {"gen_ai.operation.name": operation, **attributes},
                }
            ],
            allow_nan=True,
        )
        .replace("NaN", "null")
        .replace("-Infinity", "null")
        .replace("Infinity", "null")
    )
    (item,) = otel.read(record.encode())
    assert isinstance(item, Event)
    line = codec.encode([item])
    decoded = codec.decode([line], [10**18])
    assert decoded.rejections == []
    assert decoded.frame.height == 1


def test_each_recorded_trace_has_one_topmost_run() -> None:
    events = {e.event_id: e for e in read(data_file(FILE)) if isinstance(e, Event)}

    def above(event: Event) -> list[str]:
        parent = events.get(event.parent_id or "")
        return [] if parent is None else [parent.kind, *above(parent)]

    runs = [e for e in events.values() if e.kind == "interaction" and "interaction" not in above(e)]
    per_trace = Counter(run.interaction_id for run in runs)
    assert set(per_trace.values()) == {1}
    assert len(per_trace) == len({e.interaction_id for e in events.values()})
