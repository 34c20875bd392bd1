"""The rules of docs/senders.md, one test each; the matrix holds them together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.core.errors import Rejected
from ingest.core.events import Event
from ingest.limits import Limits
from ingest.otlp import coding_agents, events_of_logs, events_of_traces, words
from ingest.otlp.attributes import Span, SpanEvent, with_moments
from ingest.otlp.log_records import Record
from ingest.otlp.log_records import translate as translate_record
from ingest.otlp.shared import cut
from ingest.otlp.structures import media, structure, without_media
from ingest.otlp.translate import event_of, events_of
from tests.unit.ingest.test_otlp import BOTH, Encoding, traces, translate
from tests.unit.ingest.test_otlp import span as of_wire

PARENT = "c" * 16
AGENT = {"gen_ai.operation.name": "invoke_agent"}


def span(attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
    given: dict[str, Any] = {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "parent_id": PARENT,
        "name": "s",
        "start_ns": 10**18,
        "end_ns": 10**18 + 5_000_000,
        "attributes": attributes or {},
    }
    return Span(**{**given, **fields})


def said(attributes: dict[str, Any]) -> tuple[str | None, str | None]:
    found = {e.kind: e.content for e in events_of(span({**AGENT, **attributes}))}
    return found.get("user_message"), found.get("agent_message")


class TestA_UnknownDialects:
    def test_a_model_and_token_counts_are_a_model_call(self) -> None:
        counted = {"model": "gpt-4o", "gen_ai.usage.input_tokens": "12"}
        event = event_of(span(counted))
        assert (event.kind, event.input_tokens, event.model) == ("llm_call", 12, "gpt-4o")
        assert (event.attributes or {})["driftline.dialect"] == "generic"
        assert event_of(span({"model": "gpt-4o"})).kind == "span"

    def test_what_is_not_understood_says_no_dialect(self) -> None:
        assert "driftline.dialect" not in (event_of(span({"mine": 1})).attributes or {})
        assert event_of(span(scope="shop")).attributes == {
            "driftline.agent_from": "service",
            "otel.scope.name": "shop",
            "span.name": "s",
        }

    @pytest.mark.parametrize(
        "usage",
        [
            {"input": 19, "output": 5, "cache_read_input_tokens": 400},
            {"prompt_tokens": 419, "completion_tokens": 5,
             "prompt_tokens_details": {"cached_tokens": 400}},
            {"input_tokens": 419, "output_tokens": 5, "cache_read_input_tokens": 400},
            {"input": 419, "output": 5, "input_token_details": {"cache_read": 400}},
        ],
    )  # fmt: skip
    def test_usage_objects(self, usage: dict[str, Any]) -> None:
        told = {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(usage),
        }
        event = event_of(span(told))
        assert (event.input_tokens, event.output_tokens, event.cached_tokens) == (419, 5, 400)

    def test_a_usage_object_that_python_printed(self) -> None:
        details = {"reasoning_tokens": 8, "text_tokens": None}
        printed = str({"prompt_tokens": 419, "completion_tokens_details": details})
        told = {"gen_ai.operation.name": "acompletion", "metadata.usage_object": printed}
        event = event_of(span(told))
        assert (event.input_tokens, event.reasoning_tokens) == (419, 8)

    def test_a_response_says_what_attributes_do_not(self) -> None:
        usage = {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4},
                 "completion_tokens_details": {"reasoning_tokens": 3}}  # fmt: skip
        generation = {"generation_info": {"model_name": "m-2026"}, "text": "hi"}
        told = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
        event = event_of(span({**told, "llm.token_count.prompt": 9,
                               "output.value": json.dumps([{"usage": usage}])}))  # fmt: skip
        assert (event.input_tokens, event.cached_tokens, event.reasoning_tokens) == (9, 4, 3)
        answered = json.dumps({"generations": [[generation]]})
        assert event_of(span({**told, "output.value": answered})).model == "m-2026"
        talked = json.dumps({"role": "assistant", "content": answered})
        assert event_of(span({**told, "output.value": talked})).model == "m"

    def test_details_that_providers_name_their_way(self) -> None:
        details = {"cache_read_input_tokens": 30, "cache_creation_input_tokens": 9}
        details["thoughts_tokens"] = 5
        told = {f"gen_ai.usage.details.{name}": count for name, count in details.items()}
        event = event_of(span({"gen_ai.operation.name": "chat", **told}))
        counted = event.cached_tokens, event.cache_write_tokens, event.reasoning_tokens
        assert counted == (30, 9, 5)

    def test_parts_that_a_usage_object_tells_beside_its_totals(self) -> None:
        usage = {"input": 56, "output": 8, "input_cache_read": 64, "input_audio": 3,
                 "output_reasoning": 10, "output_priority": 8}  # fmt: skip
        told = {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(usage),
        }
        event = event_of(span(told))
        assert (event.input_tokens, event.output_tokens, event.reasoning_tokens) == (123, 18, 10)

    @pytest.mark.parametrize(
        ("told", "kind"),
        [
            ({"gen_ai.operation.name": "invoke_swarm"}, "interaction"),
            ({"gen_ai.operation.name": "invoke_graph"}, "interaction"),
            ({"gen_ai.operation.name": "execute_event_loop_cycle"}, "span"),
            ({"gen_ai.operation.name": "vectordb"}, "retrieval"),
            ({"agentops.span.kind": "session"}, "span"),
            ({"messaging.operation": "process"}, "span"),
            ({"executor.id": "writer"}, "span"),
        ],
    )
    def test_what_frameworks_call_their_steps(self, told: dict[str, Any], kind: str) -> None:
        event = event_of(span(told))
        assert event.kind == kind
        assert "driftline.dialect" in (event.attributes or {})

    def test_a_handoff_names_who_comes_next(self) -> None:
        told = {"traceloop.span.kind": "handoff", "gen_ai.handoff.to_agent": "billing"}
        event = event_of(span(told, name="Desk \u2192 billing.handoff"))
        assert (event.kind, event.name) == ("handoff", "billing")

    def test_a_name_that_may_mean_anything_comes_last(self) -> None:
        told = {"mlflow.spanType": '"CHAT_MODEL"', "model": '"m"', "mlflow.llm.model": '"m-2026"'}
        assert event_of(span(told)).model == "m-2026"


class TestB_TheRootDoesNotDecide:
    @pytest.mark.parametrize(
        "told",
        [
            {"http.request.method": "GET"},
            {"rpc.system": "grpc"},
            {"db.system.name": "postgresql"},
            {"messaging.system": "kafka"},
            {"anything": "else"},
            {},
        ],
    )
    def test_work_of_a_service_is_a_span(self, told: dict[str, Any]) -> None:
        event = event_of(span(told, parent_id=None, failed=True, status_message="500"))
        assert (event.kind, event.status, event.name) == ("span", "error", "s")

    def test_an_agent_is_an_interaction_at_any_depth_and_says_its_sums(self) -> None:
        told = {"gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 100}  # fmt: skip
        event = event_of(span({**AGENT, **told}))
        assert (event.kind, event.model) == ("interaction", None)
        assert (event.input_tokens, event.cost_usd) == (1000, pytest.approx(0.00021))
        assert (event.attributes or {})["gen_ai.request.model"] == "gpt-4o-mini"
        said = event_of(span({"openinference.span.kind": "AGENT", "llm.token_count.prompt": 21,
                              "llm.cost.total": 0.01}))  # fmt: skip
        assert (said.input_tokens, said.cost_usd) == (21, 0.01)
        assert event_of(span({**AGENT, "gen_ai.usage.input_tokens": 0})).input_tokens is None

    @pytest.mark.parametrize(
        ("told", "scope", "says"),
        [
            ({"openinference.span.kind": "AGENT"}, "openinference", True),
            ({"traceloop.span.kind": "workflow", "traceloop.workflow.name": "Agent Workflow"},
             "opentelemetry", True),
            ({"openinference.span.kind": "AGENT", "agent.name": "triage"}, "openinference", False),
            ({"openinference.span.kind": "AGENT", "output.value": "Done."}, "openinference", False),
        ],
    )  # fmt: skip
    def test_a_root_that_is_always_ok_says_so(
        self, told: dict[str, Any], scope: str, says: bool
    ) -> None:
        scope += ".instrumentation.openai_agents"
        for given, expected in ((scope, says), ("another", False)):
            marks = event_of(span(told, parent_id=None, scope=given)).attributes or {}
            assert (marks.get("driftline.status_from") == "parts") is expected
        failed = event_of(span(told, failed=True, scope=scope))
        assert "driftline.status_from" not in (failed.attributes or {})

    @pytest.mark.parametrize("operation", ["user_prompt", "llm_call", "tool_call"])
    def test_spans_of_which_log_events_tell_all_are_context(self, operation: str) -> None:
        told = {"gen_ai.operation.name": operation, "gen_ai.request.model": "m",
                "gen_ai.usage.input_tokens": 5}  # fmt: skip
        event = event_of(span(told, scope="gemini-cli"))
        assert (event.kind, event.input_tokens) == ("span", None)
        assert (event.attributes or {})["driftline.dialect"] == "gemini cli"

    def test_only_a_span_without_a_parent_says_that_nothing_is_above(self) -> None:
        def says(event: Event) -> bool:
            return "driftline.root" in (event.attributes or {})

        assert says(event_of(span(parent_id=None)))
        assert not says(event_of(span()))
        # A log record has no parent because it never has one.
        assert not says(event_of(span(parent_id=None, of_log=True)))

    def test_a_common_name_means_something_in_its_scope_only(self) -> None:
        named = {"name": "invocation", "parent_id": None}
        assert event_of(span(**named)).kind == "span"
        assert event_of(span(**named, scope="gcp.vertex.agent")).kind == "interaction"
        counted = {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 9}
        assert event_of(span(counted, name="llm_node")).kind == "llm_call"
        assert event_of(span(counted, name="llm_node", scope="livekit-agents")).kind == "span"
        summed = {**counted, "model_name": "m"}
        assert event_of(span(summed, name="agent run", scope="pydantic-ai")).kind == "interaction"

    @pytest.mark.parametrize(
        ("tool", "kind", "name"),
        [
            ("transfer_to_billing", "handoff", "billing"),
            ("transferToBilling", "handoff", "Billing"),
            ("transferTokens", "tool_call", "transferTokens"),
            ("askHuman", "human_input", "askHuman"),
            ("getUserInput", "human_input", "getUserInput"),
            ("get_user_inputs", "tool_call", "get_user_inputs"),
        ],
    )
    @pytest.mark.parametrize(
        ("told", "by"),
        [
            ({"ai.operationId": "ai.toolCall"}, "ai.toolCall.name"),
            ({"openinference.span.kind": "TOOL"}, "tool.name"),
            ({"gen_ai.operation.name": "execute_tool"}, "gen_ai.tool.name"),
        ],
    )
    def test_the_name_of_a_tool_tells_handoffs_and_questions(
        self, told: dict[str, Any], by: str, tool: str, kind: str, name: str
    ) -> None:
        event = event_of(span({**told, by: tool}, name="ai.toolCall"))
        assert (event.kind, event.name) == (kind, name)

    def test_what_prepares_a_call_of_a_model_is_none(self) -> None:
        told = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
        assert event_of(span(told, name="OpenAI.achat")).kind == "llm_call"
        assert event_of(span(told, name="OpenAI._prepare_chat_with_tools")).kind == "span"

    def test_what_merges_results_of_tools_is_none(self) -> None:
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "(merged tools)"}
        assert event_of(span(told, name="execute_tool (merged)")).kind == "span"

    def test_a_generation_around_calls_is_none(self) -> None:
        told = {"mastra.span.type": "model_generation"}
        assert event_of(span({**told, "gen_ai.operation.name": "chat"})).kind == "llm_call"
        around = event_of(span({**told, "gen_ai.operation.name": "model_generation"}))
        assert (around.kind, (around.attributes or {})["driftline.dialect"]) == ("span", "mastra")

    def test_a_node_of_a_graph_is_a_span(self) -> None:
        chain = {"openinference.span.kind": "CHAIN"}
        assert event_of(span(chain)).kind == "interaction"
        node = {**chain, "metadata": '{"langgraph_node": "model"}'}
        assert event_of(span(node)).kind == "span"
        assert event_of(span(chain, name="Step 3")).kind == "span"


class TestC_Wire:
    def test_long_attributes_are_cut_at_a_character_and_say_so(self) -> None:
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [{
            "traceId": "a" * 32, "spanId": "b" * 16, "name": "s", "endTimeUnixNano": "9",
            "attributes": [{"key": "long", "value": {"stringValue": "\u00e9" * 500}}],
        }]}]}]}  # fmt: skip
        found = events_of_traces(
            json.dumps(body).encode(), encoding="json", limits=Limits(max_attribute_length=100)
        )
        [event] = found.events
        text = (event.attributes or {})["long"]
        assert len(text) == 100
        assert "...[500 characters, " in text
        assert text.startswith("\u00e9" * 50)

    @pytest.mark.parametrize(
        ("escaped", "expected"),
        [
            (r"cut \ud83e", "cut ?"),
            (r"\ude7e\ud83e\udd7e\ud83e.", "?\U0001f97e?."),
            (r"no escape \\ud83e\\\ud83e", "no escape \\ud83e\\?"),
        ],
    )
    def test_half_a_character_becomes_a_question_mark(self, escaped: str, expected: str) -> None:
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [
            {"traceId": "a" * 32, "spanId": id_ * 16, "name": "s", "endTimeUnixNano": "9",
             "attributes": [{"key": "note", "value": {"stringValue": f"NOTE{id_}"}}]}
            for id_ in "bc"
        ]}]}]}).replace("NOTEb", escaped)  # fmt: skip
        found = events_of_traces(body.encode(), encoding="json", limits=Limits())
        notes = [(event.attributes or {})["note"] for event in found.events]
        assert notes == [expected, "NOTEc"]

    def test_a_span_that_ends_before_its_stream_begins_has_no_duration(self) -> None:
        told = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
        for after_ms, duration_ms in ((2, 5.0), (70, None)):
            first = SpanEvent("First Token Stream Event", 10**18 + after_ms * 1_000_000)
            event = event_of(span(told, moments=[first]))
            assert (event.time_to_first_token_ms, event.duration_ms) == (after_ms, duration_ms)

    def test_scopes_of_the_first_exporters_are_read(self) -> None:
        def body(spans: str, scope: str) -> bytes:
            scoped = {scope: {"name": "gcp.vertex.agent"}, spans: []}
            of_span = {"traceId": "a" * 32, "spanId": "b" * 16, "name": "invocation",
                       "endTimeUnixNano": "9"}  # fmt: skip
            return json.dumps(
                {"resourceSpans": [{spans: [{**scoped, "spans": [of_span]}]}]}
            ).encode()

        old = body("instrumentationLibrarySpans", "instrumentationLibrary")
        new = body("scopeSpans", "scope")
        found = [events_of_traces(raw, encoding="json", limits=Limits()) for raw in (old, new)]
        assert found[0].events == found[1].events
        assert found[0].events[0].kind == "interaction"

    def test_null_is_the_default_and_a_number_may_have_an_exponent(self) -> None:
        attributes = [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 4e1}},
            {"key": None, "value": None},
        ]
        nulls = dict.fromkeys(("parentSpanId", "kind", "flags", "name", "events"))
        times = {"startTimeUnixNano": 1.75e18, "endTimeUnixNano": "1.750000001e+18"}
        given = of_wire() | nulls | times | {"attributes": attributes}
        given["status"] = {"code": None, "message": None}
        (event,) = translate(traces(given), "json").events
        assert (event.status, event.input_tokens, event.duration_ms) == ("ok", 40, 1000.0)

    @pytest.mark.parametrize("number", [1.5, "1.5", "nan", "1e999"])
    def test_a_number_that_is_no_integer_is_refused_and_not_rounded(self, number: object) -> None:
        given = of_wire() | {"attributes": [{"key": "n", "value": {"intValue": number}}]}
        assert [r.code for r in translate(traces(given), "json").rejected] == ["invalid_field"]

    def test_a_byte_order_mark_is_no_part_of_a_request(self) -> None:
        body = b"\xef\xbb\xbf" + json.dumps(traces(of_wire())).encode()
        assert len(events_of_traces(body, encoding="json", limits=Limits()).events) == 1

    def test_a_refused_span_keeps_what_it_was(self) -> None:
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [{
            "traceId": "xy", "spanId": "b" * 16, "name": "s"}]}]}]}  # fmt: skip
        found = events_of_traces(json.dumps(body).encode(), encoding="json", limits=Limits())
        assert json.loads(found.rejected[0].raw)["traceId"] == "xy"


class TestD_Attribution:
    def test_what_only_the_service_says_is_marked(self) -> None:
        event = event_of(span(AGENT, resource={"service.name": "shop"}))
        assert (event.agent, (event.attributes or {})["driftline.agent_from"]) == (
            "shop",
            "service",
        )
        named = event_of(span({**AGENT, "gen_ai.agent.name": "a"}, resource={"service.name": "x"}))
        assert (named.agent, (named.attributes or {})["service.name"]) == ("a", "x")

    def test_session_and_user_of_the_resource_where_the_span_says_none(self) -> None:
        resource = {"session.id": "s-1", "user.id": "u-1"}
        event = event_of(span(AGENT, resource=resource))
        assert (event.session_id, event.user_id) == ("s-1", "u-1")
        event = event_of(span({**AGENT, "gen_ai.conversation.id": "c"}, resource=resource))
        assert event.session_id == "c"

    @pytest.mark.parametrize(
        ("session", "user"),
        [
            ("ai.telemetry.metadata.session_id", "ai.telemetry.metadata.user.id"),
            ("ai.telemetry.metadata.chat_id", "ai.telemetry.metadata.user_id"),
            ("traceloop.association.properties.conversationId", "gen_ai.request.user"),
            ("langsmith.metadata.sessionId", "langsmith.metadata.userId"),
            ("session.id", "enduser.pseudo.id"),
        ],
    )
    def test_ids_have_many_names(self, session: str, user: str) -> None:
        event = event_of(span({**AGENT, session: "s", user: "u"}))
        assert (event.session_id, event.user_id) == ("s", "u")

    def test_ids_within_metadata_have_many_names(self) -> None:
        told = {"metadata": json.dumps({"threadId": "s", "userId": "u"})}
        event = event_of(span({"openinference.span.kind": "AGENT", **told}))
        assert (event.session_id, event.user_id) == ("s", "u")


class TestE_Money:
    def test_a_cost_of_zero_is_unknown(self) -> None:
        told = {"gen_ai.operation.name": "chat", "gen_ai.cost.total_cost": 0.0}
        assert event_of(span(told)).cost_usd is None
        assert event_of(span({**told, "gen_ai.cost.total_cost": 0.25})).cost_usd == 0.25

    @pytest.mark.parametrize(
        "told",
        [
            {"openinference.span.kind": "LLM", "llm.model_name": "gpt-realtime",
             "llm.provider": "openai",
             "llm.token_count.prompt": 3000, "llm.token_count.completion": 1000,
             "llm.token_count.prompt_details.audio": 2000,
             "llm.token_count.completion_details.audio": 800},
            {"langfuse.observation.type": "generation",
             "langfuse.observation.model.name": "gpt-realtime",
             "langfuse.observation.usage_details": json.dumps({
                 "prompt_tokens": 3000, "completion_tokens": 1000,
                 "prompt_tokens_details": {"audio_tokens": 2000},
                 "completion_tokens_details": {"audio_tokens": 800}})},
        ],
        ids=["attributes", "usage object"],
    )  # fmt: skip
    def test_audio_costs_as_audio(self, told: dict[str, Any]) -> None:
        right = 1000 * 4e-6 + 2000 * 32e-6 + 200 * 16e-6 + 800 * 64e-6
        assert event_of(span(told)).cost_usd == pytest.approx(right, abs=1e-9)

    def test_cache_reads_and_writes_are_part_of_the_input(self) -> None:
        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 19,
            "gen_ai.usage.cache_read.input_tokens": 100,
            "gen_ai.usage.cache_creation.input_tokens": 50,
        }
        event = event_of(span(told))
        assert (event.input_tokens, event.cached_tokens, event.cache_write_tokens) == (169, 100, 50)

    @pytest.mark.parametrize(
        ("provider", "counts", "said", "expected"),
        [
            # Of these the input never contains what a cache took part in.
            ("anthropic.messages", (5000, 50), {"ai.usage.cachedInputTokens": 3000},
             (8000, 50, 3000, None)),
            ("amazon-bedrock", (5000, 50), {"ai.usage.cachedInputTokens": 3000},
             (8000, 50, 3000, None)),
            ("openai.responses", (5000, 50), {"ai.usage.cachedInputTokens": 3000},
             (5000, 50, 3000, None)),
            # Later versions say the whole.
            ("anthropic.messages", (8000, 50),
             {"ai.usage.inputTokenDetails.cacheReadTokens": 3000}, (8000, 50, 3000, None)),
            ("anthropic.messages", (19, 50),
             {"ai.usage.cachedInputTokens": 0, "ai.response.providerMetadata": json.dumps(
                 {"anthropic": {"cacheCreationInputTokens": 39000}})}, (39019, 50, 0, 39000)),
            ("anthropic.messages", (19, 50), {"ai.response.providerMetadata": json.dumps(
                {"anthropic": {"usage": {"cache_read_input_tokens": 39000, "input_tokens": 19}}})},
             (39019, 50, 39000, None)),
            ("amazon-bedrock", (19, 50), {"ai.response.providerMetadata": json.dumps(
                {"bedrock": {"usage": {"cacheWriteInputTokens": 39000}}})},
             (39019, 50, None, 39000)),
            ("google.generative-ai", (1000, 500), {"ai.usage.reasoningTokens": 400},
             (1000, 900, None, None)),
            ("google.generative-ai", (1000, 500), {"ai.response.providerMetadata": json.dumps(
                {"google": {"usageMetadata": {"thoughtsTokenCount": 400}}})},
             (1000, 900, None, None)),
            ("openai.responses", (1000, 500), {"ai.usage.reasoningTokens": 400},
             (1000, 500, None, None)),
        ],
    )  # fmt: skip
    def test_what_the_ai_sdk_counts_depends_on_the_provider(
        self,
        provider: str,
        counts: tuple[int, int],
        said: dict[str, Any],
        expected: tuple[int, int, int | None, int | None],
    ) -> None:
        told = {"ai.operationId": "ai.streamText.doStream", "ai.model.provider": provider,
                "ai.usage.inputTokens": counts[0], "ai.usage.outputTokens": counts[1]}  # fmt: skip
        event = event_of(span({**told, **said}))
        found = (event.input_tokens, event.output_tokens, event.cached_tokens)
        assert (*found, event.cache_write_tokens) == expected


def _logged(name: str, body: dict[str, Any]) -> list[Event]:
    found = translate_record(Record(name=name, time_ns=10**18, span_id="b" * 16, body=body))
    return found if isinstance(found, list) else []


class TestF_Words:
    def test_media_become_placeholders(self) -> None:
        picture = "A" * 69_905
        content = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        ]
        asked, _ = said({"gen_ai.input.messages": [{"role": "user", "content": content}]})
        assert asked == "What is this?\n[image/png 51 KB]"
        assert without_media(f"see data:image/png;base64,{picture}!") == "see [image/png 51 KB]!"
        assert media({"type": "image", "source": {"media_type": "image/gif", "data": "AAAA"}}) == (
            "[image/gif 3 bytes]"
        )
        assert media({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}) == (
            "[image/png 3 bytes]"
        )
        assert media({"type": "file", "mediaType": "application/pdf", "url": "https://x/y"}) == (
            "[application/pdf]"
        )
        bedrock = {"format": "png", "source": {"bytes": "A" * 4096}}
        assert media({"image": bedrock}) == "[png 3 KB]"
        assert media({"document": {**bedrock, "format": "pdf", "name": "bill"}}) == "[pdf 3 KB]"
        pydantic = {"type": "binary", "media_type": "image/png", "content": "A" * 4096}
        assert media(pydantic) == "[image/png 3 KB]"
        assert media({"type": "image-url", "url": "https://x/y.png"}) == "[image]"
        assert media({"type": "text", "text": "x"}) is None

    def test_no_system_prompt_and_no_history(self) -> None:
        messages = [
            {"role": "system", "content": "Secret rules"},
            {"role": "user", "content": "old"},
            {"role": "assistant", "content": "older answer"},
            {"role": "user", "content": "new"},
        ]
        assert said({"input.value": json.dumps({"messages": messages})})[0] == "new"

    def test_half_a_character_in_a_message_costs_only_itself(self) -> None:
        messages = [
            {"role": "user", "content": "old"},
            {"role": "assistant", "content": "cut \ud83e"},
            {"role": "user", "content": "new \ud83e"},
        ]
        assert said({"gen_ai.input.messages": json.dumps(messages)})[0] == "new ?"

    @pytest.mark.parametrize("encoding", BOTH)
    @pytest.mark.parametrize("limits", [Limits(), Limits(max_words_length=70_000)])
    def test_of_a_long_history_the_last_turn_counts_or_none(
        self, encoding: Encoding, limits: Limits
    ) -> None:
        turns = [
            {"type": "human" if n % 2 == 0 else "ai", "content": f"turn {n} " + "lorem " * 300}
            for n in range(40)
        ]
        heard = [*turns, {"type": "human", "content": "And now cancel it"}]
        told = [*heard, {"type": "ai", "content": "Done."}]
        request = traces(of_wire(attributes={
            "openinference.span.kind": "CHAIN",
            "input.value": json.dumps({"messages": heard}),
            "output.value": json.dumps({"messages": told}),
        }))  # fmt: skip
        found = {e.kind: e.content for e in translate(request, encoding, limits).events}
        is_whole = limits == Limits()
        assert found.get("user_message") == ("And now cancel it" if is_whole else None)
        assert found.get("agent_message") == ("Done." if is_whole else None)

    @pytest.mark.parametrize("encoding", BOTH)
    @pytest.mark.parametrize("limits", [Limits(), Limits(max_words_length=66_000)])
    def test_text_behind_a_large_picture_stays(self, encoding: Encoding, limits: Limits) -> None:
        picture = "data:image/png;base64," + "A" * 69_905
        parts = [{"type": "image_url", "image_url": {"url": picture}},
                 {"type": "text", "text": "What is this?"}]  # fmt: skip
        text = json.dumps([{"role": "user", "content": parts}])
        request = traces(of_wire(attributes={**AGENT, "gen_ai.input.messages": text}))
        words = [e.content for e in translate(request, encoding, limits).events]
        assert words[0] == "[image/png 51 KB]\nWhat is this?"

    @pytest.mark.parametrize(
        ("ends", "request_", "answer"),
        [
            ("first que", "first que", None),
            ("first question", "first question", None),
            ("first answ", None, None),
            ("second que", None, None),
            ("second answ", None, None),
        ],
    )
    def test_a_list_that_was_cut_has_no_last_message(
        self, ends: str, request_: str | None, answer: str | None
    ) -> None:
        messages = [{"role": "system", "content": "You help."}] + [
            {"role": role, "content": f"{number} {what}"}
            for number in ("first", "second")
            for role, what in (("user", "question"), ("assistant", "answer"))
        ]
        whole = json.dumps(messages)
        text = whole[: whole.index(ends) + len(ends)]
        assert said({"input.value": text, "output.value": text}) == (request_, answer)
        call = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": text}
        words = [e.content for e in events_of(span(call)) if e.kind == "user_message"]
        assert words == ([request_] if request_ else [])

    def test_of_an_answer_that_was_cut_the_beginning_counts(self) -> None:
        text = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "a b c"}]}])
        assert said({"gen_ai.output.messages": text[: text.index("b c") + 1]})[1] == "a b"

    def test_of_a_flattened_history_that_was_cut_the_last_turn_stays(self) -> None:
        flat = {
            f"llm.input_messages.{n}.message.{leaf}": value
            for n in range(40)
            for leaf, value in (
                ("role", "system" if n == 0 else "user" if n % 2 else "assistant"),
                ("content", f"turn {n}"),
            )
        }
        kept = cut({**flat, "openinference.span.kind": "LLM", "mine": 1}, 20)
        words = [e.content for e in events_of(span(kept)) if e.kind == "user_message"]
        assert (len(kept), words) == (20, ["turn 39"])
        assert kept["llm.input_messages.0.message.content"] == "turn 0"
        assert "mine" not in kept

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"messages": [{"role": "user", "content": "where is my or', "where is my or"),
            ('{"task": "compare"}', "compare"),
            ('{"args": ["hi", 3], "kwargs": {"n": 1}}', "hi"),
            ('{"args": [[{"role": "user", "content": "hi"}]], "kwargs": {}}', "hi"),
            (
                '{"args": ["[{\\"role\\": \\"user\\", \\"content\\": \\"hi\\"}]"], "kwargs": {}}',
                "hi",
            ),
            ('{"args": [{"question": "hi"}], "kwargs": {}}', "hi"),
            ('{"args": ["<shop.Bot object at 0x7f1>", "hi"], "kwargs": {}}', "hi"),
            ('{"args": [], "kwargs": {"session_id": "s-1", "user_msg": "hi"}}', "hi"),
            ('{"user_msg": "hi", "ctx": "<Context>", "max_iterations": 20}', "hi"),
            ('{"data": {"embedder": {"text": "hi"}, "builder": {"question": "hi"}}}', "hi"),
            ('{"data": {"embedder": {"text": "hi"}, "builder": {"question": "ho"}}}', None),
            ('"\\"quoted\\" words"', '"quoted" words'),
            ("{name} is [not] JSON", "{name} is [not] JSON"),
            ('{"order": 7, "lines": [1, 2]}', None),
            ("[REDACTED]", None),
            ("__REDACTED__", None),
            ('{"chatInput": "hello", "sessionId": "s", "action": "send"}', "hello"),
            ('{"user_query": "hello", "order": 7, "shop": "b"}', "hello"),
            ('{"input": null, "question": "hello"}', "hello"),
            ('{"sys.query": "hello", "sys.user_id": "u"}', "hello"),
            ('{"cut": {"deep": [1, 2', None),
        ],
    )
    def test_inputs_that_are_no_messages(self, text: str, expected: str | None) -> None:
        assert words.asked(text) == expected

    def test_what_openllmetry_puts_around_the_words(self) -> None:
        messages = [{"type": "human", "content": "hi"}, {"type": "ai", "content": "hello"}]
        heard = {"inputs": {"messages": messages[:1]}, "tags": [], "kwargs": {"name": "graph"}}
        told = {"outputs": {"messages": messages}, "kwargs": {"tags": []}}
        assert words.asked(json.dumps(heard)) == "hi"
        assert words.told(json.dumps(told)) == "hello"
        result = {"output": {"lc": 1, "kwargs": {"content": "21 C"}}, "kwargs": {}}
        assert words.plain(json.dumps(result)) == "21 C"

    def test_messages_in_a_list_of_texts_and_quoted_thrice(self) -> None:
        message = json.dumps({"role": "user", "content": "hi"})
        assert said({"gen_ai.input.messages": [message]})[0] == "hi"
        assert said({"gen_ai.input.messages": json.dumps(json.dumps(f"[{message}]"))})[0] == "hi"

    def test_the_source_of_a_message_is_its_role(self) -> None:
        messages = [
            {"source": source, "content": content, "type": "TextMessage", "models_usage": None}
            for source, content in (("user", "old"), ("poet", "ok"), ("user", "new"), ("poet", "!"))
        ]
        told = {"input.value": {"messages": messages[:3]}, "output.value": {"messages": messages}}
        assert said({name: json.dumps(value) for name, value in told.items()}) == ("new", "!")

    def test_flattened_parts_are_in_the_order_of_their_numbers(self) -> None:
        part = "llm.input_messages.0.message.contents.{}.message_content.{}"
        flat = {part.format(n, "text"): f"p{n}" for n in range(12)}
        flat |= {part.format(n, "type"): "text" for n in range(12)}
        asked, _ = said({"llm.input_messages.0.message.role": "user", **flat})
        assert asked == "\n".join(f"p{n}" for n in range(12))

    @pytest.mark.parametrize("name", ["ai.response.object", "final_result"])
    def test_an_answer_of_a_form_that_was_asked_for(self, name: str) -> None:
        answer = json.dumps({"city": "Paris", "days": [1, 2]})
        assert said({name: answer}) == (None, answer)

    def test_messages_and_blocks_that_are_results(self) -> None:
        printed = "content='it\\'s 21 C' name='look' tool_call_id='1'"
        assert words.plain(printed) == words.asked(printed) == "it's 21 C"
        assert words.error_of(printed + " status='error'") == "it's 21 C"
        picture = {"type": "image", "mimeType": "image/png", "data": "A" * 4096}
        blocks = [{"type": "text", "text": "21 C"}, picture]
        assert words.plain(json.dumps(blocks)) == "21 C\n[image/png 3 KB]"
        of_bedrock = {"toolUseId": "1", "status": "success", "content": [{"text": "21 C"}]}
        assert words.plain(of_bedrock) == "21 C"

    def test_an_object_of_nothing_is_no_answer(self) -> None:
        assert words.told('{"output": null, "answer": ""}') is None
        assert words.told('{"found": false}') == '{"found":false}'

    def test_the_answer_of_a_part_of_a_pipeline(self) -> None:
        parts = {"llm": {"replies": ["21 degrees."], "meta": [{}]}, "retriever": {"documents": []}}
        assert words.told(json.dumps(parts)) == "21 degrees."

    def test_an_answer_beside_the_state_that_it_came_of(self) -> None:
        state = {"question": "Q?", "documents": ["a"]}
        for key in ("generation", "final_response", "finalReport"):
            assert words.told(json.dumps({**state, key: "the answer"})) == "the answer"

    @pytest.mark.parametrize(
        "told",
        [
            {"output.value": '{"choices": [{"index": 0, "text": "Hi!", "finish_reason": "stop"}]}'},
            {"output.value": '{"generations": [[{"text": "Hi!", "generation_info": {}}]]}'},
            {"llm.choices.0.completion.text": "Hi!"},
        ],
    )
    def test_answers_to_a_prompt_without_messages(self, told: dict[str, str]) -> None:
        assert said({"llm.prompts.0.prompt.text": "Say hi", **told}) == ("Say hi", "Hi!")

    def test_a_refusal_is_an_answer(self) -> None:
        for message in (
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ):
            assert said({"gen_ai.output.messages": json.dumps([message])})[1] == "No."

    def test_structured_answers_and_states(self) -> None:
        assert words.told('{"city": "Paris", "temp": 21}') == '{"city":"Paris","temp":21}'
        assert words.told('{"answer": "21 degrees", "documents": [1]}') == "21 degrees"
        assert words.told('{"documents": [1], "step": 2}') is None
        assert words.told('{"type": "function_call", "name": "find", "arguments": "{}"}') is None

    def test_json_is_read_as_far_as_it_goes(self) -> None:
        assert structure('{"a": 1, "b": "tex') == {"a": 1, "b": "tex"}
        assert structure('{"a": 1, "b') == {"a": 1}
        assert structure('[{"a": 1}, {"b"') == [{"a": 1}, {}] or structure('[{"a": 1}, {"b"') == [
            {"a": 1}
        ]
        assert structure("[" * 100_000) is None

    @pytest.mark.parametrize(
        "told",
        [
            {"gen_ai.output.messages": json.dumps(
                [{"role": "assistant", "parts": [{"type": "tool_call", "name": "find"}]}])},
            {"output.value": json.dumps({"generations": [[{"text": "", "message": {
                "lc": 1, "id": ["AIMessage"], "kwargs": {"content": ""}}}]]})},
            {"llm.output_messages.0.message.role": "assistant",
             "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "find",
             "output.value": "{}"},
        ],
        ids=["parts", "langchain", "flattened"],
    )  # fmt: skip
    def test_a_call_that_only_asks_for_tools_says_nothing(self, told: dict[str, Any]) -> None:
        call = {"gen_ai.operation.name": "chat", **told}
        assert [(e.kind, e.content) for e in events_of(span(call))] == [("llm_call", None)]

    def test_a_run_that_ends_without_an_answer_says_nothing(self) -> None:
        messages = [
            {"type": "human", "content": "hello"},
            {"type": "ai", "content": "older answer"},
            {"type": "human", "content": "refund"},
            {"type": "ai", "content": "", "tool_calls": [{"name": "find"}]},
            {"type": "tool", "content": "{}"},
        ]
        told = {**AGENT, "output.value": json.dumps({"messages": messages})}
        assert [(e.kind, e.content) for e in events_of(span(told))] == [("interaction", None)]

    def test_a_printed_object_is_no_answer(self) -> None:
        assert words.told("StopEvent(result=AgentOutput(response='Done'))") is None
        assert words.told("Use f(x=1), or F(x).") == "Use f(x=1), or F(x)."

    def test_arguments_by_name_alone_are_unwrapped(self) -> None:
        assert words.arguments('{"kwargs": {"city": "Paris"}}') == '{"city":"Paris"}'
        assert words.arguments('{"kwargs": {}, "other": 1}') == '{"kwargs": {}, "other": 1}'

    def test_results_and_arguments_are_unwrapped(self) -> None:
        told = {
            "openinference.span.kind": "TOOL",
            "input.value": '{"args": [], "sanitize_inputs_outputs": true, "kwargs": {"a": 1}}',
            "output.value": '{"type": "tool", "data": {"content": "21 C", "status": "success"}}',
        }
        event = event_of(span(told))
        assert (event.tool_arguments, event.tool_result) == ('{"a":1}', "21 C")

    @pytest.mark.parametrize(
        "asked",
        [
            "New task:\nwhere is it?",
            "\nCurrent Task: where is it?\n\nThis is the expected criteria for your final answer: "
            "An answer.\nyou MUST return the actual complete content.",
        ],
    )
    def test_words_without_what_a_framework_puts_around_them(self, asked: str) -> None:
        call = {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": asked,
        }
        assert [e.content for e in events_of(span(call)) if e.kind == "user_message"] == [
            "where is it?"
        ]

    def test_a_call_whose_messages_are_an_argument_gives_new_words_only(self) -> None:
        heard = [{"role": "user", "content": "New task:\nwhere is it?"}]
        for messages, words_ in ((heard, ["where is it?"]), ([*heard, {"role": "tool"}], [])):
            given = json.dumps({"args": [messages], "kwargs": {}})
            call = {"openinference.span.kind": "LLM", "input.value": given}
            found = [e.content for e in events_of(span(call)) if e.kind == "user_message"]
            assert found == words_

    def test_gemini_says_who_speaks_within_the_content_of_a_log_record(self) -> None:
        def content(role: str, **part: Any) -> dict[str, Any]:
            return {"content": {"parts": [part], "role": role}}

        records = [
            ("gen_ai.user.message", content("user", text="How hot is it?")),
            ("gen_ai.user.message", content("model", text="Let me see.")),
            ("gen_ai.user.message", content("user", function_response={"name": "look"})),
            ("gen_ai.choice", content("model", text="21 degrees.")),
            ("gen_ai.user.message", {"content": "<elided>"}),
        ]
        found = [
            (event.kind, event.content) for name, body in records for event in _logged(name, body)
        ]
        assert found == [("user_message", "How hot is it?"), ("agent_message", "21 degrees.")]

    def test_of_messages_that_a_call_logs_the_last_of_the_user_is_new(self) -> None:
        name = {"key": "event.name", "value": {"stringValue": "gen_ai.user.message"}}
        records = [
            {
                "timeUnixNano": "9",
                "traceId": "a" * 32,
                "spanId": call * 16,
                "attributes": [name],
                "body": {"stringValue": json.dumps({"role": "user", "content": text})},
            }
            for call, text in (("b", "hello"), ("b", "where is it?"), ("c", "thanks"))
        ]
        logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
        found = events_of_logs(json.dumps(logs).encode(), encoding="json", limits=Limits())
        assert [(event.kind, event.content) for event in found.events] == [
            ("user_message", "where is it?"),
            ("user_message", "thanks"),
        ]
        assert dict(found.ignored) == {("", "", "gen_ai.user.message", "history"): 1}


_APPROVAL = '{"error": "This tool call requires confirmation, please approve or reject."}'


class TestG_Failures:
    def test_the_exception_then_the_status_then_the_type(self) -> None:
        error = {"exception.type": "ValueError", "exception.message": "no such order"}
        failed = {"failed": True, "status_message": "boom\nTraceback (most recent call last):\n x"}
        assert event_of(span({**AGENT, **error}, **failed)).error_message == "no such order"
        assert event_of(span(AGENT, **failed)).error_message == "boom"
        named = event_of(span({**AGENT, "error.type": "timeout"}))
        assert (named.error_type, named.error_message) == ("timeout", "timeout")

    @pytest.mark.parametrize(
        ("result", "message"),
        [
            ('{"isError": true, "content": [{"type": "text", "text": "no index"}]}', "no index"),
            ('{"status": "error", "error_message": "no index"}', "no index"),
            ('{"error": {"message": "no index"}}', "no index"),
            ('{"type": "tool", "data": {"content": "no index", "status": "error"}}', "no index"),
            ('{"output": {"type": "tool", "content": "no index", "status": "error"}}', "no index"),
            (
                '{"output": {"lc": 1, "kwargs": {"content": "no index", "status": "error"}},'
                ' "kwargs": {}}',
                "no index",
            ),
            ('{"error": true, "message": "no index"}', "no index"),
            ('{"status": "Error", "error_message": "no index"}', "no index"),
            ('"Error: no index"', "Error: no index"),
            ("Error executing tool find: no index", "Error executing tool find: no index"),
            (
                "meta=None content=[TextContent(type='text', text='no index')] isError=True",
                "no index",
            ),
        ],
    )
    def test_a_result_that_says_error_is_a_tool_error(self, result: str, message: str) -> None:
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.result": result}
        event = event_of(span(told))
        assert (event.status, event.error_type) == ("error", "tool_error")
        assert event.error_message == message

    @pytest.mark.parametrize(
        "result",
        [
            '{"error": null, "rows": 3}',
            '{"result": 1, "error": "none"}',
            '"error"',
            "3",
            "Errors: 0",
            "the last line was Error: no index",
            '{"success": false, "error": ""}',
            "meta=None content=[TextContent(text='isError=True')] isError=False",
        ],
    )
    def test_a_result_that_only_speaks_of_errors_is_none(self, result: str) -> None:
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.result": result}
        assert event_of(span(told)).status == "ok"

    def test_a_tool_that_only_says_that_it_failed_has_its_result_for_a_message(self) -> None:
        told = {"lk.function_tool.is_error": True, "lk.function_tool.output": "no index"}
        event = event_of(span(told, name="function_tool", scope="livekit-agents"))
        assert (event.status, event.error_message) == ("error", "no index")

    def test_attributes_of_older_conventions_that_say_error(self) -> None:
        told = {"gen_ai.operation.name": "execute_tool"}
        flagged = event_of(span({**told, "error": True, "error.message": "no index"}))
        assert (flagged.status, flagged.error_message) == ("error", "no index")
        described = {"otel.status_code": "ERROR", "otel.status_description": "no index"}
        assert event_of(span({**told, **described})).error_message == "no index"
        assert event_of(span({**told, "error": "none"})).status == "ok"

    def test_a_call_that_finishes_with_error_has_failed(self) -> None:
        told = {"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": ["error"]}
        assert event_of(span(told)).status == "error"
        assert event_of(span({**told, "gen_ai.response.finish_reasons": ["stop"]})).status == "ok"

    def test_a_stream_that_breaks_has_failed(self) -> None:
        told = {"ai.operationId": "ai.streamText", "ai.response.text": "It is 2"}
        for reason, status in (("error", "error"), ("stop", "ok"), ("unknown", "ok")):
            event = event_of(span({**told, "ai.response.finishReason": reason}))
            assert (event.status, "driftline.end" in (event.attributes or {})) == (status, False)

    @pytest.mark.parametrize(
        "said", [{}, {"ai.response.finishReason": "unknown", "ai.response.text": ""}]
    )
    def test_a_stream_that_was_stopped_says_no_reason(self, said: dict[str, str]) -> None:
        event = event_of(span({"ai.operationId": "ai.streamText", **said}))
        assert (event.status, (event.attributes or {})["driftline.end"]) == ("ok", "cancelled")
        assert event.attributes["driftline.status_from"] == "parts"
        failed = event_of(span({"ai.operationId": "ai.streamText", **said}, failed=True))
        assert failed.status == "error"
        assert "driftline.end" not in (
            event_of(span({"ai.operationId": "ai.generateText", **said})).attributes or {}
        )

    @pytest.mark.parametrize("name", ["exception.type", "error.type"])
    def test_going_on_in_another_agent_is_no_failure(self, name: str) -> None:
        told = {"traceloop.span.kind": "tool", "traceloop.entity.name": "transfer_to_billing"}
        raised = {name: "langgraph.errors.ParentCommand", "exception.message": "Command()"}
        event = event_of(span({**told, **raised}, failed=True))
        assert (event.kind, event.status, event.error_message) == ("handoff", "ok", None)
        assert "driftline.end" not in (event.attributes or {})

    def test_a_run_that_finishes_with_an_interrupt_waits_for_a_person(self) -> None:
        moments = [SpanEvent("gen_ai.choice", 9, {"message": "x", "finish_reason": "interrupt"})]
        event = event_of(span(with_moments(AGENT, moments), moments=moments))
        assert (event.status, (event.attributes or {})["driftline.end"]) == ("ok", "interrupted")

    def test_what_stands_for_nothing_is_no_value(self) -> None:
        told = {"error.type": "undefined", "session.id": "undefined", "user.id": "None"}
        event = event_of(span({**AGENT, **told}, failed=True))
        assert (event.error_type, event.session_id, event.user_id) == ("error", None, None)

    def test_a_score_may_be_text(self) -> None:
        judged = SpanEvent("gen_ai.evaluation.result", 5, {"gen_ai.evaluation.score.value": "0.8"})
        assert events_of(span(AGENT, moments=[judged]))[-1].value == 0.8

    def test_a_printed_class_is_its_name(self) -> None:
        event = event_of(span({"error.type": "<class 'shop.Gone'>"}, failed=True))
        assert event.error_type == "shop.Gone"

    @pytest.mark.parametrize(
        "kind", ["asyncio.exceptions.CancelledError", "AbortError", "ResponseAborted"]
    )
    def test_cancellation_is_an_end_of_its_own(self, kind: str) -> None:
        event = event_of(span({**AGENT, "exception.type": kind}, failed=True))
        assert (event.status, event.error_type) == ("ok", None)
        assert (event.attributes or {})["driftline.end"] == "cancelled"

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("*url.Error", 'Post "http://model": context canceled'),
            ("20", "This operation was aborted"),
            ("ABORT_ERR", "The operation was aborted"),
            ("Error", "Request was aborted."),
            ("smolagents.utils.AgentError", "Agent interrupted."),
            ("agno.exceptions.RunCancelledException", "Run 7 was cancelled"),
            ("workflows.errors.WorkflowCancelledByUser", ""),
            ("kotlinx.coroutines.JobCancellationException", "Job was cancelled"),
        ],
    )
    def test_cancellation_has_many_names(self, kind: str, message: str) -> None:
        raised = {"exception.type": kind, "exception.message": message}
        event = event_of(span({**AGENT, **raised}, failed=True, status_message=message))
        assert (event.status, (event.attributes or {})["driftline.end"]) == ("ok", "cancelled")

    @pytest.mark.parametrize(
        "told",
        [
            {"gen_ai.thread.run.status": "cancelled"},
            {"gen_ai.response.finish_reasons": ["cancelled"]},
        ],
    )
    def test_a_status_of_ones_own_says_cancelled(self, told: dict[str, Any]) -> None:
        event = event_of(span({**AGENT, **told}))
        assert (event.status, (event.attributes or {})["driftline.end"]) == ("ok", "cancelled")

    def test_claude_code_says_so_in_an_event(self) -> None:
        told = {"event.name": "claude_code.api_error", "error": "Request was aborted."}
        (event,) = events_of(span(told, failed=True, of_log=True))
        assert (event.status, (event.attributes or {})["driftline.end"]) == ("ok", "cancelled")

    def test_a_timeout_is_no_cancellation(self) -> None:
        for message in ("context deadline exceeded", "The operation was aborted due to timeout"):
            assert event_of(span(AGENT, failed=True, status_message=message)).status == "error"

    def test_an_event_says_that_a_span_was_cancelled(self) -> None:
        cancelled = SpanEvent("span.cancelled", 5, {"reason": "by the user"})
        event = event_of(span(with_moments(AGENT, [cancelled])))
        assert (event.status, (event.attributes or {})["driftline.end"]) == ("ok", "cancelled")

    def test_the_last_exception_ended_the_span(self) -> None:
        retried = [
            SpanEvent("exception", 5, {"exception.type": kind, "exception.message": message})
            for kind, message in (("RateLimitError", "slow down"), ("Timeout", "too late"))
        ]
        event = event_of(span(with_moments(AGENT, retried), failed=True))
        assert (event.error_type, event.error_message) == ("Timeout", "too late")

    @pytest.mark.parametrize(
        "told",
        [
            {"exception.type": "workflows.runtime.types.results.WaitingForEvent"},
            {"exception.type": "strands.interrupt.InterruptException"},
            {"gen_ai.tool.call.result": _APPROVAL},
            {"gcp.vertex.agent.tool_response": _APPROVAL.replace(" ", "", 1)},
        ],
    )
    def test_a_tool_that_waits_for_a_person_has_not_failed(self, told: dict[str, str]) -> None:
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "refund"}
        event = event_of(span({**tool, **told}, failed="exception.type" in told))
        assert (event.kind, event.status) == ("human_input", "ok")
        assert (event.attributes or {})["driftline.end"] == "interrupted"

    def test_a_human_interrupt_is_an_end_of_its_own(self) -> None:
        paused = {"openinference.span.kind": "TOOL", "exception.type": "x.GraphInterrupt"}
        event = event_of(span(paused))
        assert (event.kind, event.status) == ("human_input", "ok")
        assert (event.attributes or {})["driftline.end"] == "interrupted"
        deferred = {"gen_ai.operation.name": "execute_tool",
                    "pydantic_ai.tool.deferral.name": "ApprovalRequired"}  # fmt: skip
        event = event_of(span(deferred))
        assert event.kind == "human_input"
        assert (event.attributes or {})["driftline.end"] == "interrupted"
        resume = {"openinference.span.kind": "CHAIN", "input.value": '{"resume": true}'}
        assert (event_of(span(resume)).attributes or {})["driftline.resumes"] == "true"

    @pytest.mark.parametrize(
        ("printed", "kind", "end"),
        [
            ("GraphInterrupt((Interrupt(value='Pay?', id='1'),))", "human_input", "interrupted"),
            ("CancelledError()", "tool_call", "cancelled"),
            ("RuntimeError('no index')", "tool_call", None),
        ],
    )
    def test_an_exception_that_is_printed_with_its_traceback(
        self, printed: str, kind: str, end: str | None
    ) -> None:
        frames = "".join(f'  File "graph.py", line {n}, in run\n' for n in range(90))
        message = f"{printed}Traceback (most recent call last):\n\n{frames}"
        error = {"exception.type": "Exception", "exception.message": message}
        event = event_of(span({"langsmith.span.kind": "tool", **error}, failed=True))
        assert (event.kind, (event.attributes or {}).get("driftline.end")) == (kind, end)
        if end is None:
            assert (event.error_type, event.error_message) == ("RuntimeError", printed)

    def test_a_pause_that_is_only_the_message_of_a_status(self) -> None:
        message = "langfuse.observation.status_message"
        told = {"langfuse.observation.type": "tool", "langfuse.observation.level": "DEFAULT"}
        event = event_of(span({**told, message: "(Interrupt(value='Pay?', id='1'),)"}))
        assert event.kind == "human_input"
        assert (event.attributes or {})["driftline.end"] == "interrupted"
        other = event_of(span({**told, message: "Command(goto='billing')"}))
        assert (other.kind, other.status) == ("tool_call", "ok")

    def test_what_claude_code_says_of_a_person(self) -> None:
        waits = {"span.type": "tool.blocked_on_user"}
        assert event_of(span({**waits, "source": "user_temporary"})).kind == "human_input"
        assert event_of(span({**waits, "source": "config"})).kind == "span"
        asks = {"span.type": "tool", "tool_name": "AskUserQuestion"}
        assert event_of(span(asks)).kind == "human_input"

    def test_claude_code_does_not_say_how_a_prompt_ended(self) -> None:
        told = {"span.type": "interaction", "user_prompt": "hello"}
        assert (event_of(span(told)).attributes or {})["driftline.end"] == "open"
        assert "driftline.end" not in (event_of(span(told, failed=True)).attributes or {})

    def test_a_failed_execution_fails_its_tool_call(self) -> None:
        def told(name: str, id_: str, parent: str, **values: str) -> dict[str, Any]:
            pairs = [{"key": k, "value": {"stringValue": v}} for k, v in values.items()]
            return {"traceId": "a" * 32, "spanId": id_, "parentSpanId": parent, "name": name,
                    "endTimeUnixNano": "9", "attributes": pairs}  # fmt: skip

        tool = told("claude_code.tool", "b" * 16, "c" * 16, tool_name="Bash")
        execution = told(
            "claude_code.tool.execution", "d" * 16, "b" * 16, success="false", error="exit 1"
        )
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [execution, tool]}]}]}
        found = events_of_traces(json.dumps(body).encode(), encoding="json", limits=Limits())
        assert [(e.kind, e.status, e.error_message) for e in found.events] == [
            ("span", "error", "exit 1"),
            ("tool_call", "error", "exit 1"),
        ]


class TestI_Silence:
    @pytest.mark.parametrize(
        ("name", "attributes", "span_id", "reason"),
        [
            ("claude_code.api_request", {}, "b" * 16, "told_by_spans"),
            ("claude_code.tool_decision", {"source": "config"}, None, "decided_by_configuration"),
            ("claude_code.tool_decision", {"source": "user_reject"}, None, None),
            ("claude_code.plugin_loaded", {}, None, "no_meaning"),
            ("claude_code.assistant_response", {}, "b" * 16, None),
            (
                "claude_code.assistant_response",
                {"query_source": "repl_main_thread"},
                None,
                None,
            ),
            ("claude_code.assistant_response", {"query_source": "Explore"}, None, "of_a_subagent"),
            ("codex.api_request", {"attempt": 1}, None, "told_by_completion"),
            ("codex.sse_event", {"event.kind": "response.created"}, None, "stream_event"),
            ("codex.sse_event", {"event.kind": "response.completed"}, None, "stream_event"),
            (
                "codex.sse_event",
                {"event.kind": "response.completed", "input_token_count": "9"},
                None,
                None,
            ),
        ],
    )
    def test_why_events_of_coding_agents_are_not_needed(
        self, name: str, attributes: dict[str, Any], span_id: str | None, reason: str | None
    ) -> None:
        assert coding_agents.ignored(name, attributes, span_id) == reason

    def test_the_event_of_codex_is_an_attribute_and_its_prompt_the_conversation(self) -> None:
        records = [
            {
                "timeUnixNano": "9",
                "traceId": trace,
                "eventName": "event otel/src/events/session_telemetry.rs:7",
                "attributes": [
                    {"key": key, "value": {"stringValue": value}}
                    for key, value in {"conversation.id": "c", **told}.items()
                ],
            }
            for trace, told in (
                ("a" * 32, {"event.name": "codex.user_prompt", "prompt": "hi"}),
                ("", {"event.name": "codex.sse_event", "event.kind": "response.completed",
                      "input_token_count": "9"}),
                ("", {"event.name": "codex.tool_result", "agent_name": "/root"}),
            )
        ]  # fmt: skip
        said = {"env": "test", "service.name": "codex_exec"}
        given = [{"key": k, "value": {"stringValue": v}} for k, v in said.items()]
        resource = {"attributes": given}
        logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
        found = events_of_logs(json.dumps(logs).encode(), encoding="json", limits=Limits()).events
        kinds = ["user_message", "interaction", "llm_call", "tool_call"]
        assert [event.kind for event in found] == kinds
        assert {(event.interaction_id, event.environment) for event in found} == {("c", "test")}
        # "/root" is a thread of it.
        assert {event.agent for event in found} == {"codex_exec"}
        assert (found[-1].attributes or {})["thread"] == "/root"

    def test_ignored_records_are_counted_by_name_and_reason(self) -> None:
        records = [{"timeUnixNano": "9", "body": {"stringValue": "x"}}] * 3
        body = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
        found = events_of_logs(json.dumps(body).encode(), encoding="json", limits=Limits())
        assert found.events == []
        assert dict(found.ignored) == {("", "", "(no event name)", "no_agent_work"): 3}

    def test_words_that_a_distribution_moved_from_spans_to_log_records(self) -> None:
        def message(role: str, **said: str) -> dict[str, Any]:
            values = [{"key": k, "value": {"stringValue": v}} for k, v in said.items()]
            content = {"kvlistValue": {"values": values}}
            pairs = [{"key": "role", "value": {"stringValue": role}},
                     {"key": "content", "value": content}]  # fmt: skip
            one = {"kvlistValue": {"values": pairs}}
            listed = {"key": "messages", "value": {"arrayValue": {"values": [one]}}}
            return {"kvlistValue": {"values": [listed]}}

        heard = message("user", content='[{"text": "hello"}]')
        told = message("assistant", message="hi", finish_reason="end_turn")
        both = [{"key": "input", "value": heard}, {"key": "output", "value": told}]
        record = {"timeUnixNano": "9", "traceId": "a" * 32, "spanId": "b" * 16,
                  "body": {"kvlistValue": {"values": both}}}  # fmt: skip
        body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        found = events_of_logs(json.dumps(body).encode(), encoding="json", limits=Limits())
        assert [(e.kind, e.content) for e in found.events] == [
            ("user_message", "hello"),
            ("agent_message", "hi"),
        ]

    def test_answers_of_claude_code_belong_to_the_prompt_or_to_its_span(self) -> None:
        def told(response: str, **fields: str) -> list[Event]:
            said = {"event.name": "assistant_response", "prompt.id": "p", "response": response}
            pairs = [{"key": k, "value": {"stringValue": v}} for k, v in said.items()]
            record = {"timeUnixNano": "9", "attributes": pairs, **fields,
                      "body": {"stringValue": "claude_code.assistant_response"}}  # fmt: skip
            body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
            read = events_of_logs(json.dumps(body).encode(), encoding="json", limits=Limits())
            assert len(read.events) + sum(read.ignored.values()) == 1
            return read.events

        (alone,) = told("Fixed it.")
        assert (alone.kind, alone.content, alone.interaction_id) == (
            "agent_message", "Fixed it.", "p",
        )  # fmt: skip
        (traced,) = told("Fixed it.", traceId="a" * 32, spanId="b" * 16)
        assert (traced.interaction_id, traced.parent_id) == (
            "a" * 32, f"{'a' * 32}:{'b' * 16}:span",
        )  # fmt: skip
        assert told("<REDACTED>") == []

    def test_a_failed_call_that_only_a_log_record_tells_of(self) -> None:
        told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
        told["error.type"] = "Timeout"
        name = "gen_ai.client.inference.operation.details"
        (event,) = translate_record(Record(name=name, time_ns=10**18, attributes=told))
        assert (event.kind, event.status, event.error_type) == ("llm_call", "error", "Timeout")

    def test_log_events_of_calls_that_spans_tell(self) -> None:
        told = {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7}
        name = "gen_ai.client.inference.operation.details"
        for scope, reason in (("copilot-chat", "told_by_spans"), ("another", None)):
            record = Record(name=name, time_ns=10**18, attributes=told, scope=scope)
            found = translate_record(record)
            assert getattr(found, "reason", None) == reason

    def test_a_fork_of_a_coding_agent_says_the_same(self) -> None:
        assert coding_agents.name_of("qwen-code.api_response", None, {}) == (
            "gemini_cli.api_response"
        )

    def test_a_call_that_only_a_log_record_tells_of(self) -> None:
        told = {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": "7"}
        pairs = [{"key": k, "value": {"stringValue": v}} for k, v in told.items()]
        record = {"timeUnixNano": "9", "attributes": pairs,
                  "eventName": "gen_ai.client.inference.operation.details"}  # fmt: skip
        body = {
            "resourceLogs": [
                {"scopeLogs": [{"logRecords": [record, record | {"timeUnixNano": "10"}]}]}
            ]
        }
        found = events_of_logs(json.dumps(body).encode(), encoding="json", limits=Limits()).events
        assert [(event.kind, event.input_tokens) for event in found] == [("llm_call", 7)] * 2
        # Of no trace, they are nobody's but their own.
        assert len({event.interaction_id for event in found}) == 2
        assert not any("driftline.root" in (event.attributes or {}) for event in found)


def test_times_that_are_none_are_still_refused() -> None:
    with pytest.raises(Rejected, match="missing or out of range"):
        event_of(span(start_ns=0, end_ns=None))
    assert isinstance(event_of(span(end_ns=None)), Event)


class TestLogfire:
    """Templates of messages tell kinds; one attribute holds what was heard and said."""

    AGENT = "Agent run: {name!r}"
    EVENTS = (
        {"event.name": "gen_ai.user.message", "content": "Where is A-17?", "role": "user"},
        {"event.name": "gen_ai.choice", "message": {"role": "assistant", "content": "Sent."}},
    )

    @pytest.mark.parametrize(
        ("template", "told", "found"),
        [
            ("Agent run: {name!r}", {"name": "shop"}, ("interaction", None)),
            ("Function: {name}", {"name": "find", "input": "{}"}, ("tool_call", "find")),
            ("Handoff: {from_agent} → {to_agent}", {"to_agent": "b"}, ("handoff", "b")),
            ("Guardrail {name!r} {triggered=}", {"name": "pii"}, ("decision", "s")),
            ("my own {thing}", {}, ("span", "s")),
        ],
    )
    def test_kinds(
        self, template: str, told: dict[str, Any], found: tuple[str, str | None]
    ) -> None:
        event = event_of(span({"logfire.msg_template": template, **told}))
        assert (event.kind, event.name) == found
        assert (event.attributes or {})["driftline.dialect"] == "logfire"

    def test_who_and_which_conversation(self) -> None:
        run = {"logfire.msg_template": self.AGENT, "name": "shop", "group_id": "th-7"}
        event = event_of(span(run))
        assert (event.agent, event.session_id) == ("shop", "th-7")
        assert event_of(span({"group_id": "consumers"})).session_id is None

    def test_what_was_heard_and_said_in_one_attribute(self) -> None:
        called = {"gen_ai.operation.name": "chat", "events": json.dumps(self.EVENTS)}
        words = [(e.kind, e.content) for e in events_of(span(called)) if e.kind != "llm_call"]
        assert words == [("user_message", "Where is A-17?"), ("agent_message", "Sent.")]

    def test_what_clients_ask_and_answer(self) -> None:
        usage = {"prompt_tokens": 120, "prompt_tokens_details": {"cached_tokens": 64}}
        called = {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.raw": json.dumps(usage),
            "request_data": json.dumps({"messages": [{"role": "user", "content": "Hi"}]}),
            "response_data": json.dumps({"message": {"role": "assistant", "content": "Ho"}}),
        }
        asked, call, answer = events_of(span(called))
        assert (asked.content, call.cached_tokens, answer.content) == ("Hi", 64, "Ho")

    def test_of_a_stream_the_span_that_tells_its_end_is_the_call(self) -> None:
        asked = {"gen_ai.operation.name": "chat", "request_data": '{"model":"m","stream":true}'}
        told = {**asked, "logfire.span_type": "log"}
        told["response_data"] = '{"combined_chunk_content":"Ho","chunk_count":2}'
        assert event_of(span(asked)).kind == "span"
        assert event_of(span(asked, failed=True)).kind == "llm_call"
        assert [e.content for e in events_of(span(told))][1:] == ["Ho"]

    def test_a_level_says_that_it_failed(self) -> None:
        error = {"message": "Error running tool", "data": {"error": "no order"}}
        told = {"logfire.msg_template": "Function: {name}", "logfire.level_num": 17}
        event = event_of(span({**told, "error": json.dumps(error)}))
        assert (event.status, event.error_message) == ("error", "no order")

    def test_a_span_that_has_only_begun_is_no_call(self) -> None:
        begun = {"gen_ai.operation.name": "chat", "logfire.span_type": "pending_span"}
        assert event_of(span(begun)).kind == "span"


class TestGateways:
    def test_litellm_version_2(self) -> None:
        called = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 10,
            "litellm.cost.total": 0.0042,
        }
        assert event_of(span(called)).cost_usd == 0.0042
        guard = {"litellm.guardrail.name": "pii", "litellm.guardrail.mode": "pre_call"}
        assert event_of(span(guard)).kind == "decision"

    @pytest.mark.parametrize(
        ("operation", "kind"),
        [("amoderation", "decision"), ("aimage_generation", "llm_call"),
         ("litellm.passthrough", "llm_call"), ("agenerate_content", "llm_call")],
    )  # fmt: skip
    def test_what_litellm_was_asked_for(self, operation: str, kind: str) -> None:
        assert event_of(span({"gen_ai.operation.name": operation})).kind == kind

    def test_a_server_of_models_says_when_its_first_token_came(self) -> None:
        told = {"gen_ai.response.model": "m", "gen_ai.usage.prompt_tokens": 1,
                "gen_ai.latency.time_to_first_token": 0.004}  # fmt: skip
        assert event_of(span(told)).time_to_first_token_ms == 4.0

    @pytest.mark.parametrize(
        "told",
        [
            {"mlflow.spanOutputs": '{"model":"m-1","choices":[]}'},
            {"mlflow.spanInputs": '{"model":"m-1","messages":[]}'},
            {"invocation_params": '{"model":"m-1"}'},
            {"mlflow.spanOutputs": '{"generations":[],"llm_output":{"model_name":"m-1"}}'},
        ],
    )
    def test_the_model_where_only_request_or_response_name_it(self, told: dict[str, str]) -> None:
        assert event_of(span({"mlflow.spanType": '"CHAT_MODEL"', **told})).model == "m-1"

    def test_usage_of_a_message_of_langchain(self) -> None:
        usage = {"input_tokens": 9, "input_token_details": {"cache_read": 4}}
        message = {"message": {"kwargs": {"content": "hi", "usage_metadata": usage}}}
        told = {"langsmith.span.kind": "llm", "gen_ai.usage.input_tokens": 9}
        told["gen_ai.completion"] = json.dumps({"generations": [[message]]})
        assert event_of(span(told)).cached_tokens == 4


class TestNames:
    @pytest.mark.parametrize(
        "told",
        [
            {"openinference.span.kind": "AGENT", "graph.node.id": "Researcher"},
            {"traceloop.span.kind": "agent", "crewai.agent.role": "Researcher"},
            {"openinference.span.kind": "AGENT", "agent.name": "Researcher", "graph.node.id": "1a"},
        ],
    )
    def test_agents_by_what_their_frameworks_call_them(self, told: dict[str, str]) -> None:
        assert event_of(span(told)).agent == "Researcher"

    def test_an_id_is_no_name(self) -> None:
        unnamed = {"openinference.span.kind": "AGENT", "graph.node.id": "9f86d081884c7d65"}
        assert (event_of(span(unnamed)).attributes or {})["driftline.agent_from"] == "service"

    def test_a_node_of_a_graph_is_not_the_name_of_an_agent(self) -> None:
        node = {"langfuse.observation.type": "agent"}
        assert event_of(span(node, name="bot")).agent == "bot"
        node["langfuse.observation.metadata.langgraph_node"] = "agent"
        assert (event_of(span(node, name="agent")).attributes or {})["driftline.agent_from"]

    def test_to_whom_a_tool_hands_over(self) -> None:
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "transfer_to_agent"}
        told["gcp.vertex.agent.tool_call_args"] = '{"agent_name": "billing"}'
        assert (event_of(span(told)).kind, event_of(span(told)).name) == ("handoff", "billing")

    def test_arguments_without_what_is_put_around_them(self) -> None:
        around = json.dumps({"input_str": "{'a': 1}", "tags": [], "inputs": {"a": 1}})
        assert words.arguments(around) == '{"a":1}'
        assert words.arguments('{"input_str": "Paris", "inputs": null}') == '"Paris"'

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            ("{'message': 'Failed', 'data': {'tool': 'x', 'error': 'no order'}}", "no order"),
            ("{'message': 'Max turns exceeded', 'data': None}", "Max turns exceeded"),
            ("{'message': 'cut", "{'message': 'cut"),
        ],
    )
    def test_an_error_that_was_sent_as_a_whole(self, status: str, message: str) -> None:
        assert event_of(span(failed=True, status_message=status)).error_message == message
