"""Single spans as senders write them, and what each is understood as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.otlp.attributes import Span, SpanEvent, with_moments
from ingest.otlp.translate import events_of

MS = 1_000_000
S_1 = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
HEARD = [{"role": "system", "content": "Rules"}, {"role": "user", "content": "hi there"}]
GENKIT = {"genkit:type": "action", "genkit:name": "googleai/gemini-2.5-flash"}
VOLTAGENT = {"entity.type": "agent", "entity.name": "support", "conversation.id": "c"}
QUARKUS = "io.quarkus.opentelemetry"
THROWN = SpanEvent("exception", 9, {"exception.type": "RateLimit", "exception.message": "429"})


def seen(name: str, told: dict[str, Any], moments: list[SpanEvent], scope: str) -> dict[str, Any]:
    """Fields of the event of a span, the words, and how it ended."""
    span = Span(
        trace_id="a" * 32,
        span_id="b" * 16,
        parent_id="c" * 16,
        name=name,
        start_ns=10**18,
        end_ns=10**18 + 5000 * MS,
        attributes=with_moments(told, moments),
        moments=moments,
        scope=scope,
    )
    found = {event.kind: event for event in events_of(span)}
    user, agent = (found.pop(kind, None) for kind in ("user_message", "agent_message"))
    (event,) = found.values()
    marks = event.attributes or {}
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return fields | {
        "asked": user.content if user else None,
        "told": agent.content if agent else None,
        "end": marks.get("driftline.end"),
        "resumes": marks.get("driftline.resumes"),
        "status_from": marks.get("driftline.status_from"),
        "dialect": marks.get("driftline.dialect"),
    }


def genkit(kind: str, given: Any = None, answered: Any = None, **more: Any) -> dict[str, Any]:
    told = {**GENKIT, "genkit:metadata:subtype": kind, **more}
    told |= {} if given is None else {"genkit:input": json.dumps(given)}
    return told | ({} if answered is None else {"genkit:output": json.dumps(answered)})


def genkit_parts(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": [{"text": text}]} for role, text in turns]


def tool(name: str = "w", result: str = "") -> dict[str, Any]:
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name,
            "gen_ai.tool.call.result": result}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "told", "right"),
    [
        ("googleai/gemini-2.5-flash",
         genkit("model", {"messages": genkit_parts(("system", "Rules"), ("user", "Menu?"))},
                {"message": genkit_parts(("model", "Soup."))[0],
                 "usage": {"inputTokens": 42, "outputTokens": 17, "thoughtsTokens": 3,
                           "cachedContentTokens": 10}}),
         {"kind": "llm_call", "model": "googleai/gemini-2.5-flash", "input_tokens": 42,
          "output_tokens": 20, "reasoning_tokens": 3, "cached_tokens": 10,
          "cost_usd": pytest.approx(32 * 0.3e-6 + 10 * 0.03e-6 + 20 * 2.5e-6, rel=0.1),
          "asked": "Menu?", "told": "Soup."}),
        ("googleai/gemini-2.5-flash",
         genkit("model", {"messages": genkit_parts(("user", "Menu?"))},
                {"message": {"role": "model", "content": [{"toolRequest": {"name": "t"}}]}}),
         {"kind": "llm_call", "asked": "Menu?", "told": None}),
        ("getMenu", genkit("tool", {"day": "mon"}, "soup", **{"genkit:name": "getMenu"}),
         {"kind": "tool_call", "name": "getMenu", "tool_arguments": '{"day": "mon"}',
          "tool_result": "soup", "agent": "unknown_service"}),
        ("t", genkit("tool", **{"genkit:state": "error"}),
         {"kind": "tool_call", "status": "error"}),
        ("t", genkit("tool", **{"genkit:metadata:interrupt": "{}", "genkit:state": "error"}),
         {"kind": "human_input", "status": "ok", "end": "interrupted"}),
        ("menuFlow", genkit("flow", {"question": "Menu?"}, "Soup.", **{"genkit:sessionId": "s"}),
         {"kind": "interaction", "agent": "menuFlow", "session_id": "s", "asked": "Menu?",
          "told": "Soup."}),
        ("generate", {"genkit:type": "util", "genkit:name": "generate"}, {"kind": "span"}),
        ("step", {"genkit:type": "flowStep"}, {"kind": "span", "dialect": "genkit"}),
        ("r", genkit("retriever"), {"kind": "retrieval"}),
        ("generateText",
         {**VOLTAGENT, "input": "hi there", "output": "hello", "usage.prompt_tokens": 10,
          "usage.completion_tokens": 5, "ai.model.name": "gpt-4o-mini", "user.id": "u"},
         {"kind": "interaction", "agent": "support", "session_id": "c", "user_id": "u",
          "asked": "hi there", "told": "hello", "input_tokens": 10}),
        ("llm:streamText",
         {**VOLTAGENT, "span.type": "llm", "llm.model": "gpt-4o-mini",
          "llm.messages": json.dumps(HEARD), "llm.usage.prompt_tokens": 10,
          "llm.usage.completion_tokens": 5, "llm.usage.cached_tokens": 4,
          "llm.usage.reasoning_tokens": 2},
         {"kind": "llm_call", "model": "gpt-4o-mini", "agent": "support", "input_tokens": 10,
          "output_tokens": 5, "cached_tokens": 4, "reasoning_tokens": 2, "asked": "hi there"}),
        ("tool.execution:getWeather",
         {**VOLTAGENT, "span.type": "tool", "tool.name": "getWeather", "input": '{"city":"Oslo"}',
          "output": '{"t":3}'},
         {"kind": "tool_call", "name": "getWeather", "tool_arguments": '{"city":"Oslo"}',
          "tool_result": '{"t":3}'}),
        ("subagent:writer", {**VOLTAGENT, "subagent.name": "writer"},
         {"kind": "interaction", "agent": "writer"}),
        ("memory.read", {**VOLTAGENT, "span.type": "memory"}, {"kind": "span"}),
        ("guardrail", {**VOLTAGENT, "span.type": "guardrail"}, {"kind": "decision"}),
        ("wf", {"entity.type": "workflow", "workflow.state": "suspended"},
         {"kind": "interaction", "status": "ok", "end": "interrupted"}),
        ("wf", {"entity.type": "workflow", "workflow.state": "cancelled"}, {"end": "cancelled"}),
        ("wf", {"entity.type": "workflow", "workflow.resumed": True}, {"resumes": "true"}),
        ("chat gpt-4o",
         {**S_1, "gen_ai.request.messages": json.dumps(HEARD), "gen_ai.response.text": "hello",
          "gen_ai.usage.input_tokens": 20, "gen_ai.usage.input_tokens.cached": 5,
          "gen_ai.usage.input_tokens.cache_write": 2, "gen_ai.usage.output_tokens": 10,
          "gen_ai.usage.output_tokens.reasoning": 8, "gen_ai.usage.total_cost": 0.0035},
         {"cached_tokens": 5, "cache_write_tokens": 2, "reasoning_tokens": 8, "cost_usd": 0.0035,
          "asked": "hi there", "told": "hello"}),
        ("messages", {"gen_ai.operation.name": "messages"}, {"kind": "llm_call"}),
        ("chat", {"sentry.op": "gen_ai.chat", "gen_ai.request.model": "m"}, {"kind": "llm_call"}),
        ("handoff from Desk to Billing", {"gen_ai.operation.name": "handoff"},
         {"kind": "handoff", "name": "Billing"}),
        ("POST", {"gen_ai.request.model": "gpt-4o-mini", "gen_ai.model.provider": "openai",
                  "gen_ai.usage.input_tokens": 9, "gen_ai.prompt_json": json.dumps(HEARD),
                  "gen_ai.completion_json": '{"choices":[{"message":{"content":"4"}}]}'},
         {"kind": "llm_call", "asked": "hi there", "told": "4"}),
        ("chat gpt-4.1",
         {**S_1, "gen_ai.conversation.id": "request-9", "copilot_chat.session_id": "c",
          "copilot_chat.time_to_first_token": 840},
         {"session_id": "c", "time_to_first_token_ms": 840}),
        ("chat gpt-4.1", {**S_1, "copilot_chat.canceled": True}, {"end": "cancelled"}),
        ("execute_hook Stop", {"gen_ai.operation.name": "execute_hook"},
         {"kind": "span", "dialect": "copilot"}),
        ("orchestrate_tools", {"gen_ai.operation.name": "orchestrate_tools"},
         {"kind": "interaction"}),
        ("tool.weather",
         {"gen_ai.tool.name": "weather", "gen_ai.tool.call.id": "1", "input.value": '{"l":1}',
          "output.value": "rain"},
         {"kind": "tool_call", "name": "weather", "tool_arguments": '{"l":1}',
          "tool_result": "rain", "dialect": "generic"}),
        ("chat", {**S_1, "gen_ai.response.finish_reason": "error"}, {"status": "error"}),
        ("workflow", {"mastra.span.type": "workflow_run",
                      "mastra.workflow_run.input": '{"prompt":"hi"}'}, {"asked": "hi"}),
        ("execute_tool w", tool(result='{"type":"error-text","value":"boom"}'),
         {"status": "error", "error_message": "boom", "tool_result": "boom"}),
        ("execute_tool w", tool(result='{"type":"json","value":{"t":3}}'),
         {"status": "ok", "tool_result": '{"t":3}'}),
        ("execute_tool", tool("Handoff-transfer_to_Refunds"),
         {"kind": "handoff", "name": "Refunds"}),
        ("workflow_invoke", {"workflow.id": "1", "workflow.name": "flow"},
         {"kind": "interaction", "agent": "flow"}),
        ("execute_tool", tool("vscode_askQuestions"), {"kind": "human_input"}),
        ("m", genkit("model", {"messages": [{"role": "user", "content": [
            {"text": "see"},
            {"media": {"contentType": "image/png", "url": "data:;base64," + "A" * 4096}}]}]}),
         {"asked": "see\n[image/png 3 KB]"}),
        ("ai.streamText.doStream",
         {"ai.model.id": "m", "ai.usage.promptTokens": 9, "ai.result.text": "yo"},
         {"kind": "llm_call", "told": "yo"}),
    ],
)  # fmt: skip
def test_what_a_span_is_understood_as(
    name: str, told: dict[str, Any], right: dict[str, Any]
) -> None:
    found = seen(name, told, [], "sender")
    assert {key: found[key] for key in right} == right


@pytest.mark.parametrize(
    ("name", "told", "moments", "scope", "right"),
    [
        ("turn", {"turn.number": 1, "conversation.id": "c"}, [], "pipecat.turn",
         {"kind": "interaction", "session_id": "c"}),
        ("turn", {"turn.number": 1}, [], "game", {"kind": "span"}),
        ("conversation", {"conversation.id": "c"}, [], "pipecat.turn", {"kind": "span"}),
        ("llm",
         {**S_1, "input": json.dumps(HEARD), "output": "hello", "metrics.ttfb": 0.45}, [],
         "pipecat", {"asked": "hi there", "told": "hello", "time_to_first_token_ms": 450.0}),
        ("llm_response", {"gen_ai.operation.name": "llm_response", "output": "hello"}, [],
         "pipecat", {"kind": "llm_call", "told": "hello"}),
        ("llm_request", {"gen_ai.operation.name": "llm_request"}, [], "pipecat",
         {"kind": "span", "dialect": "pipecat"}),
        ("llm_tool_result",
         {"gen_ai.operation.name": "llm_tool_result", "tool.function_name": "w",
          "tool.result": '{"x":1}', "tool.result_status": "error"}, [], "pipecat",
         {"kind": "tool_call", "name": "w", "status": "error"}),
        ("langchain4j.aiservices.Assistant.chat", {}, [], QUARKUS,
         {"kind": "interaction", "dialect": "quarkus"}),
        ("completion gpt-4o", S_1, [THROWN], QUARKUS,
         {"status": "error", "error_type": "RateLimit", "error_message": "429"}),
        ("completion gpt-4o", S_1, [THROWN], "another", {"status": "ok"}),
        ("invoke_agent m", {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"},
         [], "gen_ai", {"kind": "interaction", "end": "cancelled", "status_from": "parts"}),
        ("invoke_agent m", {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m",
                            "gen_ai.response.finish_reasons": ["stop"]},
         [], "gen_ai", {"status": "ok", "end": None}),
        ("invoke_agent a", {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"},
         [], "gen_ai", {"status": "ok", "end": None}),
        ("text.completions", {"gen_ai.operation.name": "text.completions"},
         [SpanEvent("gen_ai.user.message", 1, {"gen_ai.event.content": "Say hi"}),
          SpanEvent("gen_ai.choice", 2, {"gen_ai.event.content": json.dumps(
              [{"index": 0, "message": {"role": "assistant", "content": "hello"}}])})],
         "sk", {"asked": "Say hi", "told": "hello"}),
    ],
)  # fmt: skip
def test_what_scopes_and_moments_tell(
    name: str, told: dict[str, Any], moments: list[SpanEvent], scope: str, right: dict[str, Any]
) -> None:
    found = seen(name, told, moments, scope)
    assert {key: found[key] for key in right} == right


@pytest.mark.parametrize("prefix", ["gen_ai.usage.{}_audio_tokens", "gen_ai.usage.audio_{}_tokens"])
def test_audio_has_many_names(prefix: str) -> None:
    told = {**S_1, "gen_ai.request.model": "gpt-realtime", "gen_ai.usage.input_tokens": 3000,
            "gen_ai.usage.output_tokens": 1000, prefix.format("input"): 2000,
            prefix.format("output"): 800}  # fmt: skip
    right = 1000 * 4e-6 + 2000 * 32e-6 + 200 * 16e-6 + 800 * 64e-6
    assert seen("chat", told, [], "sender")["cost_usd"] == pytest.approx(right, abs=1e-9)


@pytest.mark.parametrize(
    ("tier", "cost"), [("standard", 10 * 3e-6 + 1000 * 6e-6 + 5 * 15e-6), ("batch", None)]
)
def test_what_a_usage_object_says_of_the_price(tier: str, cost: float | None) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "service_tier": tier,
             "cache_creation_input_tokens": 1000,
             "cache_creation": {"ephemeral_1h_input_tokens": 1000}}  # fmt: skip
    told = {"langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "claude-sonnet-4-5",
            "langfuse.observation.usage_details": json.dumps(usage)}  # fmt: skip
    found = seen("call", told, [], "langfuse-sdk")
    assert (found["input_tokens"], found["cache_write_tokens"]) == (1010, 1000)
    assert found["cost_usd"] == (cost and pytest.approx(cost))


@pytest.mark.parametrize(
    "metadata",
    [{"gateway": {"cost": "0.0021"}}, {"openrouter": {"usage": {"cost": 0.0021, "n": 1}}}],
)
def test_what_a_gateway_says_that_a_call_cost(metadata: dict[str, Any]) -> None:
    told = {"ai.operationId": "ai.streamText.doStream", "ai.model.id": "x/unlisted",
            "ai.response.providerMetadata": json.dumps(metadata)}  # fmt: skip
    assert seen("call", told, [], "ai")["cost_usd"] == 0.0021
