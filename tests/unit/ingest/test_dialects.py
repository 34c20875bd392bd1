"""Every dialect says the same thing of the same call, whatever it calls its attributes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import codec
from ingest.core.errors import Rejected, UsageError
from ingest.core.events import Event
from ingest.otlp import conventions
from ingest.otlp.agent_versions import version_of
from ingest.otlp.attributes import SERVER, Span, SpanEvent, with_moments
from ingest.otlp.translate import event_of, events_of
from ingest.prices import Price, Prices, TokenUsage, load

CHILD = "c" * 16


def span(parent: str | None = CHILD, **fields: Any) -> Span:
    given_: dict[str, Any] = {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "parent_id": parent,
        "name": "s",
        "start_ns": 1_000_000_000,
        "end_ns": 3_500_000_000,
    }
    return Span(**{**given_, **fields})


def chat(attributes: dict[str, Any], **fields: Any) -> Event:
    return event_of(span(attributes=attributes, **fields))


SYSTEM, ASKED, ANSWERED = "You sell shoes.", "Do you have boots?", "We do."
TOOL = {"type": "function", "name": "stock", "parameters": {"type": "object"}}
SPOKEN = {
    "gen_ai": {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m-1",
        "gen_ai.provider.name": "lab",
        "gen_ai.usage.input_tokens": 90,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 8,
        "gen_ai.conversation.id": "talk",
        "user.id": "u",
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": SYSTEM}]),
        "gen_ai.input.messages": json.dumps(
            [{"role": "user", "parts": [{"type": "text", "content": ASKED}]}]
        ),
        "gen_ai.output.messages": json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": ANSWERED}]}]
        ),
        "gen_ai.tool.definitions": json.dumps([TOOL]),
    },
    "gen_ai, deprecated": {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m-1",
        "gen_ai.system": "lab",
        "gen_ai.usage.prompt_tokens": 90,
        "gen_ai.usage.completion_tokens": 30,
        "gen_ai.usage.cache_read_input_tokens": 40,
        "gen_ai.usage.reasoning_tokens": 8,
        "session.id": "talk",
        "enduser.id": "u",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": SYSTEM,
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": ASKED,
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": ANSWERED,
        "gen_ai.tool.definitions": json.dumps([TOOL]),
    },
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "m-1",
        "llm.provider": "lab",
        "llm.token_count.prompt": 90,
        "llm.token_count.completion": 30,
        "llm.token_count.prompt_details.cache_read": 40,
        "llm.token_count.completion_details.reasoning": 8,
        "session.id": "talk",
        "user.id": "u",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": SYSTEM,
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.contents.0.message_content.type": "text",
        "llm.input_messages.1.message.contents.0.message_content.text": ASKED,
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": ANSWERED,
        "llm.tools.0.tool.json_schema": json.dumps(TOOL),
        "input.value": "{}",
        "output.value": "{}",
    },
    "openllmetry": {
        "llm.request.type": "chat",
        "gen_ai.request.model": "m-1",
        "gen_ai.system": "lab",
        "gen_ai.usage.input_tokens": 90,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read_input_tokens": 40,
        "llm.usage.reasoning_tokens": 8,
        "traceloop.association.properties.session_id": "talk",
        "traceloop.association.properties.user_id": "u",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": SYSTEM,
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": ASKED,
        "gen_ai.completion.0.content": ANSWERED,
        "gen_ai.tool.definitions": json.dumps([TOOL]),
    },
}


@pytest.mark.parametrize("dialect", SPOKEN)
def test_a_call_of_a_model_in_every_dialect(dialect: str) -> None:
    event = chat(SPOKEN[dialect])
    assert event.kind == "llm_call"
    assert (event.input_tokens, event.output_tokens, event.cached_tokens) == (90, 30, 40)
    assert (event.model, event.session_id, event.user_id) == ("m-1", "talk", "u")
    assert event.content == ANSWERED
    assert event.attributes is not None
    assert event.reasoning_tokens == 8
    assert event.attributes["gen_ai.provider.name"] == "lab"
    assert event.agent_version == chat(SPOKEN["gen_ai"]).agent_version
    assert str(event.agent_version).startswith("auto-")
    said = {e.kind: e for e in events_of(span(None, attributes=SPOKEN[dialect]))}
    assert list(said) == ["user_message", "llm_call", "agent_message"]
    assert (said["user_message"].attributes or {})["driftline.from"] == "llm_call"
    assert said["user_message"].content == ASKED
    assert said["user_message"].time_unix_nano == 1_000_000_000
    assert said["agent_message"].content == ANSWERED
    assert {e.session_id for e in said.values()} == {"talk"}
    assert len({e.event_id for e in said.values()}) == 3


def test_a_version_changes_with_prompt_tools_and_model_and_with_nothing_else() -> None:
    before = version_of("Sell. Today is Monday, 3 March 2025.", [TOOL], "m")
    assert before == version_of(" Sell.  Today is Friday, 7 March 2025.", [TOOL], "m")
    assert before == version_of("Sell. Today is Monday, 3 March 2025.", json.dumps([TOOL]), "m")
    others = {
        before,
        version_of("Buy. Today is Monday, 3 March 2025.", [TOOL], "m"),
        version_of("Sell. Today is Monday, 3 March 2025.", [], "m"),
        version_of("Sell. Today is Monday, 3 March 2025.", [TOOL], "n"),
    }
    assert len(others) == 4
    assert version_of(None, [TOOL], "m") is None
    assert version_of("Sell.", [TOOL], None) is None


def test_a_given_version_goes_before_a_computed_one() -> None:
    said = SPOKEN["gen_ai"]
    assert chat(said, resource={"service.version": "2"}).agent_version == "2"
    assert chat({**said, "gen_ai.agent.version": "3"}, resource={}).agent_version == "3"


def test_whose_agent_a_span_is() -> None:
    resource = {"service.name": "shop"}
    own = {"gen_ai.agent.name": "own"}
    assert chat({}, resource=resource).agent == "shop"
    assert chat(own, resource=resource).agent == "own"
    flow = {"traceloop.workflow.name": "flow"}
    assert chat({**own, **flow}, resource=resource).agent == "own"
    assert chat(flow, resource=resource).agent == "flow"
    mine = {**resource, "gen_ai.agent.name": "mine"}
    assert chat(own, resource=mine).agent == "own"
    assert chat({}, resource=mine).agent == "mine"
    assert (chat({}, resource=resource).attributes or {})["driftline.agent_from"] == "service"
    assert "driftline.agent_from" not in (chat(own, resource=resource).attributes or {})


@pytest.mark.parametrize(
    ("attributes", "name", "kind", "called"),
    [
        ({"gen_ai.operation.name": "execute_tool"}, "transfer_to_billing", "handoff", "billing"),
        ({"openinference.span.kind": "TOOL"}, "handoff to refunds", "handoff", "refunds"),
        ({"traceloop.span.kind": "tool", "gen_ai.tool.name": "ask_human"}, "x", "human_input",
         "ask_human"),
        ({"traceloop.span.kind": "tool", "traceloop.entity.name": "find"}, "x", "tool_call",
         "find"),
        ({"mcp.method.name": "tools/call", "gen_ai.tool.name": "find"}, "x", "tool_call", "find"),
        ({"openinference.span.kind": "AGENT", "tool.name": "lookup_agent_status"},
         "lookup_agent_status", "tool_call", "lookup_agent_status"),
        ({"openinference.span.kind": "AGENT", "tool.name": "transfer_to_billing_agent"},
         "transfer_to_billing_agent", "handoff", "billing_agent"),
        ({"mcp.method.name": "elicitation/create"}, "ask", "human_input", "ask"),
        ({"mcp.method.name": "resources/read"}, "read", "retrieval", "read"),
        ({"mcp.method.name": "tools/list"}, "list", "span", "list"),
        ({"gen_ai.operation.name": "plan"}, "plan", "decision", "plan"),
        ({"gen_ai.operation.name": "search_memory"}, "s", "retrieval", "s"),
        ({"llm.request.type": "rerank"}, "r", "retrieval", "r"),
        ({"db.system": "qdrant"}, "q", "retrieval", "q"),
        ({"db.system": "postgresql"}, "q", "span", "q"),
    ],
)  # fmt: skip
def test_kinds(attributes: dict[str, str], name: str, kind: str, called: str) -> None:
    event = event_of(span(attributes=attributes, name=name))
    assert (event.kind, event.name) == (kind, called)


def test_a_call_over_mcp_counts_where_it_was_made() -> None:
    call = {"mcp.method.name": "tools/call", "gen_ai.tool.name": "find"}
    assert event_of(span(attributes=call, kind=3)).kind == "tool_call"
    assert event_of(span(attributes=call, kind=SERVER)).kind == "span"
    assert event_of(span(None, attributes=call, kind=SERVER)).kind == "tool_call"


def test_waiting_for_a_person_is_no_error() -> None:
    raised = {
        "openinference.span.kind": "TOOL",
        "exception.type": "langgraph.errors.GraphInterrupt",
    }
    event = event_of(span(attributes=raised, failed=True))
    assert (event.kind, event.status, event.error_type) == ("human_input", "ok", None)
    raised["exception.type"] = "ValueError"
    event = event_of(span(attributes=raised, failed=True))
    assert (event.kind, event.status, event.error_type) == ("tool_call", "error", "ValueError")


def test_an_exception_that_was_dealt_with_stays_an_attribute() -> None:
    event = event_of(span(attributes={"exception.type": "KeyError", "exception.message": "no"}))
    assert (event.status, event.error_type, event.error_message) == ("ok", None, None)
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "KeyError"


@pytest.mark.parametrize(
    ("attributes", "moments", "expected"),
    [
        ({"gen_ai.response.time_to_first_chunk": 0.25}, [], 250.0),
        ({"gen_ai.server.time_to_first_token": 250}, [], 250.0),  # milliseconds after all
        ({"ai.response.msToFirstChunk": 250.0}, [], 250.0),
        ({}, [("First Token Stream Event", 250)], 250.0),
        ({}, [("gen_ai.content.completion.chunk", 300), ("llm.content.completion.chunk", 250)],
         250.0),
        ({}, [("other", 250)], None),
    ],
)  # fmt: skip
def test_time_to_first_token(attributes: Any, moments: Any, expected: float | None) -> None:
    event = event_of(
        span(
            attributes={"gen_ai.operation.name": "chat", **attributes},
            moments=[SpanEvent(name, 1_000_000_000 + ms * 1_000_000) for name, ms in moments],
        )
    )
    assert event.time_to_first_token_ms == expected


def test_messages_as_events_of_a_span() -> None:
    moments = [
        SpanEvent("gen_ai.system.message", 1, {"content": SYSTEM}),
        SpanEvent("gen_ai.user.message", 1, {"content": ASKED}),
        SpanEvent(
            "gen_ai.choice",
            2,
            {"finish_reason": "stop", "message": json.dumps([{"text": ANSWERED}])},
        ),
    ]
    attributes = with_moments(
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, moments
    )
    found = {e.kind: e for e in events_of(span(None, attributes=attributes, moments=moments))}
    assert found["user_message"].content == ASKED
    assert found["agent_message"].content == ANSWERED
    assert found["llm_call"].agent_version == version_of(SYSTEM, None, "m")


def test_judgements_of_a_span_are_scores_of_its_interaction() -> None:
    judged = {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.75,
        "gen_ai.evaluation.score.label": "relevant",
        "gen_ai.evaluation.explanation": "it answers",
    }
    moments = [
        SpanEvent("gen_ai.evaluation.result", 4_000_000_000, judged),
        SpanEvent("gen_ai.evaluation.result", 0, {**judged, "gen_ai.evaluation.score.value": 4}),
        SpanEvent("gen_ai.evaluation.result", 0, {"gen_ai.evaluation.score.label": "pass"}),
    ]
    event, *scores = events_of(span(moments=moments))
    assert [score.kind for score in scores] == ["score"] * 3
    assert [score.value for score in scores] == [0.75, None, 1.0]
    assert [score.time_unix_nano for score in scores] == [4_000_000_000, *[3_500_000_000] * 2]
    assert {score.interaction_id for score in scores} == {event.interaction_id}
    assert (scores[0].name, scores[0].reason, scores[0].content) == (
        "relevance",
        "relevant",
        "it answers",
    )
    assert len({score.event_id for score in scores}) == 3


def test_an_agent_is_an_interaction_at_any_depth_and_a_step_at_an_entry() -> None:
    agent = {"gen_ai.operation.name": "invoke_agent"}
    assert event_of(span(attributes=agent)).kind == "interaction"
    step = {"langfuse.observation.type": "span"}
    assert event_of(span(attributes=step)).kind == "span"
    assert event_of(span(attributes=step, remote_parent=True)).kind == "interaction"
    assert event_of(span(None, attributes=step)).kind == "interaction"


def test_a_call_that_continues_with_results_is_nothing_new_from_the_user() -> None:
    history = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "3 pairs"},
    ]
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": history}
    assert [e.kind for e in events_of(span(None, attributes=attributes))] == ["llm_call"]
    run = {"gen_ai.operation.name": "invoke_agent", "pydantic_ai.all_messages": json.dumps(history)}
    first = events_of(span(None, attributes=run))[0]
    assert (first.kind, first.content) == ("user_message", ASKED)


def test_cost_is_what_was_said_else_by_the_table_else_not_known(tmp_path: Any) -> None:
    prices = Prices({"m-1": Price(input=1.0, output=2.0, cached_input=0.5)})
    said = SPOKEN["gen_ai"]
    cost = event_of(span(attributes=said), prices=prices).cost_usd
    assert cost == pytest.approx((50 * 1.0 + 40 * 0.5 + 30 * 2.0) / 1e6)
    own = {**said, "gen_ai.usage.cost": 0.5}
    assert event_of(span(attributes=own), prices=prices).cost_usd == 0.5
    assert chat(said).cost_usd is None
    assert chat({**said, "gen_ai.response.model": "gpt-4o-2024-08-06"}).cost_usd == pytest.approx(
        (50 * 2.5 + 40 * 1.25 + 30 * 10) / 1e6
    )
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"M-1": {"input": 1, "output": 1}}}')
    priced = load(path).cost(None, "m-1", TokenUsage(10, 0))
    assert priced is not None
    assert priced.usd == pytest.approx(10 / 1e6)
    path.write_text('{"models": {"m": {"input": "dear"}}}')
    for wrong in (path, tmp_path / "absent.json"):
        with pytest.raises(UsageError, match=wrong.name):
            load(wrong)


@given(
    st.permutations(list(SPOKEN["openinference"].items())),
    st.permutations(list(SPOKEN["gen_ai"].items())),
)
def test_the_order_of_attributes_does_not_matter(first: Any, second: Any) -> None:
    both = {**SPOKEN["openinference"], **SPOKEN["gen_ai"]}
    expected = codec.payload_hash(event_of(span(attributes=both)))
    shuffled = {**dict(first), **dict(second)}
    assert codec.payload_hash(event_of(span(attributes=shuffled))) == expected
    shuffled = {**dict(second), **dict(first)}
    shuffled.update({k: both[k] for k in shuffled})
    assert codec.payload_hash(event_of(span(attributes=shuffled))) == expected


def test_times_that_no_span_has() -> None:
    for start, end in ((0, None), (-5, 3), (1, 5 * 10**18)):
        with pytest.raises(Rejected):
            event_of(span(start_ns=start, end_ns=end))
    skewed = event_of(span(start_ns=5, end_ns=4))
    assert (skewed.duration_ms, skewed.time_unix_nano) == (None, 4)
    assert (skewed.attributes or {})["driftline.clock"] == "skewed"
    assert event_of(span(start_ns=0, end_ns=7)).duration_ms is None


def test_no_attribute_means_two_things_on_one_kind() -> None:
    for kind in conventions.FIELDS_OF:
        ranks = [(m.field, m.source[0]) for m in conventions.table(kind).values()]
        assert len(ranks) == len(set(ranks))
