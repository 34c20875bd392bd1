"""The span dialects as data: which attribute tells the kind of a span and which fills which field.

Of several attributes for one field the first counts, dialects in the order of `DIALECTS`, names in
the order given. docs/senders.md lists the senders that speak each dialect.

========================  =========================================================================
dialect                   source
========================  =========================================================================
``gen_ai``                OpenTelemetry semantic conventions for generative AI, schema 1.41 and the
                          repository they moved to, semantic-conventions-genai, as of 2026
``gen_ai, deprecated``    the names they had up to 1.36, still what most instrumentations write
``ai sdk``                npm ai 5.0.277; version 7 with @ai-sdk/otel 1.0.173 speaks ``gen_ai``
``langfuse``              langfuse 5.0.4 (Python), @langfuse/tracing 5.11.1
``claude code``           monitoring documentation of Claude Code, traces (beta)
``codex``                 codex-rs/otel of Codex CLI 0.171.0
``gemini cli``            @google/gemini-cli-core 0.61.0
``mlflow``                mlflow 3.18.0
``spring ai``             Spring AI reference 1.0 to 2.1, observability
``pydantic ai``           pydantic-ai 2.68.0, versions 1 and 2 of its instrumentation
``logfire``               logfire as of August 2026, its wrappers of clients and the Agents SDK
``ag2``                   ag2 1.2.1
``mastra``                @mastra/otel-exporter 0.3.3
``langsmith``             langsmith 0.15.1
``haystack``              haystack-ai 3.4.1
``livekit``               livekit-agents 1.8.9, and up to 1.2
``agentops``              agentops 0.4.21
``arms``                  ``gen_ai.span.kind`` of Dify and of LoongSuite
``adk``                   google-adk 2.13.0
``litellm``               litellm 1.110.2
``mcp``                   the semantic conventions for the Model Context Protocol
``openinference``         openinference-semantic-conventions 0.1.42
``openllmetry``           opentelemetry-semantic-conventions-ai 0.5.1 (Traceloop) and before
``genkit``                the telemetry overview of Genkit (JavaScript, Go), 2026
``voltagent``             @voltagent/core 2.9.1
``pipecat``               pipecat-ai 1.7.0
``sentry``                @sentry/core 10.63.0; OpenRouter writes the same names
``copilot``               the Copilot Chat extension of VS Code, its monitoring documentation
``quarkus``               quarkus-langchain4j as of July 2026
``frameworks``            what Azure AI agents, Strands 1.62.0, Microsoft Agent Framework 1.23.0,
                          OpenLIT 1.45.0 and others add of their own
========================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ingest.core.events import Kind

ENTRY: Final = "entry"
"""In place of a kind: the work of an agent where nobody called it, else a step inside (`span`)."""

CHAIN: Final = "chain"
"""In place of a kind: an agent's run, unless its metadata says that it is a node of a graph."""

DECISION: Final = "person's decision"
"""In place of a kind: a person's decision where its ``source`` says so, else a step inside."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of instrumentations speaks.

    Attributes
    ----------
    name
        Shown by ``driftline senders`` and ``driftline replay --explain``.
    kinds
        Attribute that tells what a span is, and what each of its values means: a kind, `ENTRY` or
        `CHAIN`; values in lower case.
    names
        The same by the name of the span, for senders that write no such attribute. A ``*`` at the
        end stands for anything, and is asked last.
    fields
        Names per field. Names that are no field of an event, such as ``usage``, help
        to find one.
    """

    name: str
    kinds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _of(kind: Kind, *values: str) -> dict[str, str]:
    return dict.fromkeys(values, kind)


def _ids(prefix: str, *things: str) -> tuple[str, ...]:
    """Names that people, who choose them freely, give to the ids of things."""
    return tuple(prefix + thing + end for thing in things for end in ("_id", "Id", ".id"))


_SESSIONS: Final = ("session", "conversation", "thread", "chat")

COPILOT: Final = Dialect(
    name="copilot",
    kinds={"gen_ai.operation.name": _of("span", "execute_hook", "content_event")},
    fields={
        # What its calls of models say of a conversation is the request.
        "session_id": ("copilot_chat.session_id",),
        "first_token_ms": ("copilot_chat.time_to_first_token",),
    },
)

GEN_AI: Final = Dialect(
    name="gen_ai",
    kinds={
        "gen_ai.operation.name": {
            **_of("llm_call", "chat", "text_completion", "generate_content"),
            **_of("tool_call", "execute_tool"),
            **_of("interaction", "invoke_agent", "invoke_workflow"),
            **_of("retrieval", "embeddings", "retrieval", "search_memory", "rerank"),
            **_of("decision", "plan"),
            **_of("span", "create_agent", "agent_step", "invoke_node"),
        },
    },
    fields={
        "agent": ("gen_ai.agent.name",),
        "workflow": ("gen_ai.workflow.name",),
        "agent_version": ("gen_ai.agent.version",),
        "environment": ("deployment.environment.name", "deployment.environment"),
        "service": ("service.name",),
        "service_version": ("service.version",),
        "session_id": ("gen_ai.conversation.id",),
        "user_id": ("user.id", "enduser.id", "enduser.pseudo.id"),
        "tool": ("gen_ai.tool.name",),
        "tool_arguments": ("gen_ai.tool.call.arguments",),
        "tool_result": ("gen_ai.tool.call.result",),
        "model": ("gen_ai.response.model", "gen_ai.request.model"),
        "input_tokens": ("gen_ai.usage.input_tokens",),
        "output_tokens": ("gen_ai.usage.output_tokens",),
        "cached_tokens": ("gen_ai.usage.cache_read.input_tokens",),
        "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens",),
        "cache_write_tokens": ("gen_ai.usage.cache_creation.input_tokens",),
        "first_token_s": (
            "gen_ai.response.time_to_first_chunk",
            "gen_ai.client.operation.time_to_first_chunk",
        ),
        "error_type": ("error.type", "exception.type"),
        "exception_message": ("exception.message",),
        "error_message": ("error.message", "otel.status_description"),
        "input": ("gen_ai.input.messages", "gen_ai.retrieval.query.text"),
        "output": ("gen_ai.output.messages", "gen_ai.retrieval.documents"),
        "system": ("gen_ai.system_instructions",),
        "tools": ("gen_ai.tool.definitions",),
        "provider": ("gen_ai.provider.name",),
    },
)

DEPRECATED: Final = Dialect(
    name="gen_ai, deprecated",
    kinds={
        "gen_ai.operation.name": {
            **_of("llm_call", "chat.completions", "text.completions", "text_completions"),
            **_of("llm_call", "chat.streaming_completions", "text.streaming_completions"),
        },
    },
    fields={
        "input_tokens": ("gen_ai.usage.prompt_tokens",),
        "output_tokens": ("gen_ai.usage.completion_tokens",),
        "cached_tokens": (
            "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.cached_input_tokens",
            "gen_ai.usage.input_cached_tokens",
            "gen_ai.usage.prompt_tokens_details.cached_tokens",
        ),
        "cache_write_tokens": (
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.cache_write_input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.prompt_tokens_details.cache_creation_tokens",
        ),
        "reasoning_tokens": ("gen_ai.usage.completion_tokens_details.reasoning_tokens",),
        "input_audio": (
            "gen_ai.usage.audio.input_tokens",
            "gen_ai.usage.input_audio_tokens",
            "gen_ai.usage.audio_input_tokens",
        ),
        "output_audio": (
            "gen_ai.usage.audio.output_tokens",
            "gen_ai.usage.output_audio_tokens",
            "gen_ai.usage.audio_output_tokens",
            "gen_ai.usage.completion_tokens_details.audio_tokens",
        ),
        "first_token_s": (
            "gen_ai.server.time_to_first_token",
            "gen_ai.latency.time_to_first_token",
        ),
        "input": ("gen_ai.prompt", "gen_ai.prompt_json"),
        "output": ("gen_ai.completion", "gen_ai.completion_json"),
        "provider": ("gen_ai.system", "gen_ai.model.provider"),
        "cost_usd": ("gen_ai.usage.cost",),
        "input_cost": ("gen_ai.usage.input_cost",),
        "output_cost": ("gen_ai.usage.output_cost",),
    },
)

_AI_CALLS: Final = ("generatetext", "streamtext", "generateobject", "streamobject")
AI_SDK: Final = Dialect(
    name="ai sdk",
    kinds={
        "ai.operationId": {
            **_of("interaction", *(f"ai.{call}" for call in _AI_CALLS), "ai.workflowagent.stream"),
            **_of("llm_call", "ai.generatetext.dogenerate", "ai.streamtext.dostream"),
            **_of("llm_call", "ai.generateobject.dogenerate", "ai.streamobject.dostream"),
            **_of("tool_call", "ai.toolcall"),
            **_of("retrieval", "ai.embed.doembed", "ai.embedmany.doembed", "ai.rerank.dorerank"),
            **_of("span", "ai.embed", "ai.embedmany", "ai.rerank"),
        },
    },
    fields={
        "agent": ("ai.telemetry.functionId",),
        "session_id": (
            *_ids("ai.telemetry.metadata.", *_SESSIONS),
            *_ids("ai.settings.context.", *_SESSIONS),
        ),
        "user_id": (
            *_ids("ai.telemetry.metadata.", "user"),
            *_ids("ai.settings.context.", "user"),
        ),
        "tool": ("ai.toolCall.name",),
        "tool_arguments": ("ai.toolCall.args",),
        "tool_result": ("ai.toolCall.result",),
        "model": ("ai.response.model", "ai.model.id"),
        "input_tokens": ("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
        "output_tokens": ("ai.usage.outputTokens", "ai.usage.completionTokens"),
        "cached_tokens": (
            "ai.usage.inputTokenDetails.cacheReadTokens",
            "ai.usage.cachedInputTokens",
        ),
        "cache_write_tokens": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
        "reasoning_tokens": (
            "ai.usage.outputTokenDetails.reasoningTokens",
            "ai.usage.reasoningTokens",
        ),
        "usage": ("ai.response.providerMetadata",),
        "first_token_ms": ("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk"),
        "input": ("ai.prompt.messages", "ai.prompt", "ai.value"),
        "output": (
            "ai.response.text",
            "ai.response.object",
            "ai.result.text",
            "ai.result.object",
        ),
        "tools": ("ai.prompt.tools",),
        "provider": ("ai.model.provider",),
    },
)

LANGFUSE: Final = Dialect(
    name="langfuse",
    kinds={
        "langfuse.observation.type": {
            **_of("llm_call", "generation"),
            **_of("tool_call", "tool"),
            **_of("interaction", "agent"),
            **_of("retrieval", "retriever", "embedding"),
            **_of("decision", "guardrail", "evaluator"),
            **_of("span", "event"),
            "chain": CHAIN,
            "span": ENTRY,
        },
    },
    fields={
        "session_id": ("langfuse.session.id",),
        "user_id": ("langfuse.user.id",),
        "environment": ("langfuse.environment",),
        "agent_version": ("langfuse.version", "langfuse.release"),
        "model": ("langfuse.observation.model.name",),
        "usage": ("langfuse.observation.usage_details",),
        "cost": ("langfuse.observation.cost_details",),
        "input": ("langfuse.observation.input", "langfuse.trace.input"),
        "output": ("langfuse.observation.output", "langfuse.trace.output"),
        "tool_arguments": ("langfuse.observation.input",),
        "tool_result": ("langfuse.observation.output",),
        "parameters": ("langfuse.observation.model.parameters",),
        "first_token_at": ("langfuse.observation.completion_start_time",),
        "error_message": ("langfuse.observation.status_message",),
    },
)

CLAUDE_CODE: Final = Dialect(
    name="claude code",
    kinds={
        "event.name": {
            **_of("interaction", "claude_code.user_prompt"),
            **_of("llm_call", "claude_code.api_request", "claude_code.api_error"),
            **_of("tool_call", "claude_code.tool_result"),
            **_of("human_input", "claude_code.tool_decision"),
            **_of("agent_message", "claude_code.assistant_response"),
        },
        "span.type": {
            **_of("interaction", "interaction"),
            **_of("llm_call", "llm_request"),
            **_of("tool_call", "tool"),
            **_of("span", "tool.execution", "hook"),
            "tool.blocked_on_user": DECISION,
        },
    },
    names={
        "claude_code.interaction": "interaction",
        "claude_code.llm_request": "llm_call",
        "claude_code.tool": "tool_call",
    },
    fields={
        "tool": ("tool_name",),
        "tool_arguments": ("tool_parameters", "tool_input"),
        "model": ("model",),
        "input_tokens": ("input_tokens",),
        "output_tokens": ("output_tokens",),
        "cached_tokens": ("cache_read_tokens",),
        "cache_write_tokens": ("cache_creation_tokens",),
        "cost_usd": ("cost_usd",),
        "first_token_ms": ("ttft_ms",),
        "agent_version": ("app.version",),
        "session_id": ("session.id",),
        "input": ("user_prompt", "prompt"),
        "output": ("response",),
        "error_message": ("error",),
        "error_type": ("status_code",),
    },
)

CODEX: Final = Dialect(
    name="codex",
    kinds={
        "event.name": {
            **_of("interaction", "codex.user_prompt"),
            **_of("llm_call", "codex.api_request", "codex.sse_event", "codex.websocket_event"),
            **_of("tool_call", "codex.tool_result"),
            **_of("human_input", "codex.tool_decision"),
        },
    },
    fields={
        "session_id": ("conversation.id",),
        "user_id": ("user.account_id", "user.email"),
        "tool_arguments": ("arguments",),
        "tool_result": ("output",),
        "input_tokens": ("input_token_count",),
        "output_tokens": ("output_token_count",),
        "cached_tokens": ("cached_token_count",),
        "cache_write_tokens": ("cache_write_token_count",),
        "reasoning_tokens": ("reasoning_token_count", "codex.usage.reasoning_output_tokens"),
    },
)

GEMINI_CLI: Final = Dialect(
    name="gemini cli",
    kinds={
        "event.name": {
            **_of("interaction", "gemini_cli.user_prompt"),
            **_of("llm_call", "gemini_cli.api_response", "gemini_cli.api_error"),
            **_of("tool_call", "gemini_cli.tool_call"),
        },
    },
    fields={
        "tool": ("function_name",),
        "tool_arguments": ("function_args",),
        "model": ("model_name",),
        "cached_tokens": ("cached_content_token_count",),
        "reasoning_tokens": ("thoughts_token_count",),
        "output": ("response_text",),
        "error_type": ("error_type",),
    },
)

MLFLOW: Final = Dialect(
    name="mlflow",
    kinds={
        "mlflow.spanType": {
            **_of("llm_call", "llm", "chat_model"),
            **_of("tool_call", "tool"),
            **_of("interaction", "agent"),
            **_of("retrieval", "retriever", "embedding", "reranker", "memory"),
            **_of("decision", "guardrail", "evaluator"),
            **_of("span", "parser", "task"),
            "chain": CHAIN,
            "workflow": CHAIN,
            "unknown": ENTRY,
        },
    },
    fields={
        "session_id": ("mlflow.trace.session",),
        "user_id": ("mlflow.trace.user",),
        "model": ("mlflow.llm.model",),
        "provider": ("mlflow.llm.provider",),
        "usage": ("mlflow.chat.tokenUsage",),
        "cost": ("mlflow.llm.cost",),
        "input": ("mlflow.spanInputs",),
        "output": ("mlflow.spanOutputs",),
        "tool_arguments": ("mlflow.spanInputs",),
        "tool_result": ("mlflow.spanOutputs",),
        "tools": ("mlflow.chat.tools",),
        "parameters": ("invocation_params",),
    },
)

SPRING_AI: Final = Dialect(
    name="spring ai",
    kinds={
        "spring.ai.kind": {
            **_of("interaction", "chat_client"),
            **_of("tool_call", "tool_call"),
            **_of("retrieval", "vector_store"),
            **_of("span", "advisor"),
        },
    },
    fields={
        "session_id": ("spring.ai.chat.client.conversation.id",),
        "tool": ("spring.ai.tool.definition.name",),
        "tool_arguments": ("spring.ai.tool.call.arguments",),
        "tool_result": ("spring.ai.tool.call.result",),
        "input": ("spring.ai.chat.client.user.text", "db.vector.query.content"),
        "output": ("db.vector.query.response.documents",),
    },
)

PYDANTIC_AI: Final = Dialect(
    name="pydantic ai",
    names={"agent run": "interaction", "running tool": "tool_call", "running tools": "span"},
    fields={
        "agent": ("agent_name",),
        "tool_arguments": ("tool_arguments",),
        "tool_result": ("tool_response",),
        "cached_tokens": (
            "gen_ai.usage.details.cache_read_tokens",
            "gen_ai.usage.details.cache_read_input_tokens",
            "gen_ai.usage.details.cached_tokens",
        ),
        "cache_write_tokens": (
            "gen_ai.usage.details.cache_write_tokens",
            "gen_ai.usage.details.cache_creation_input_tokens",
        ),
        "reasoning_tokens": (
            "gen_ai.usage.details.reasoning_tokens",
            "gen_ai.usage.details.thoughts_tokens",
        ),
        "cost_usd": ("operation.cost",),
        "input": ("pydantic_ai.all_messages", "all_messages_events"),
        "output": ("final_result",),
    },
)

LOGFIRE: Final = Dialect(
    name="logfire",
    kinds={
        "logfire.span_type": _of("span", "pending_span"),
        "logfire.msg_template": {
            **_of("interaction", "openai agents trace: {name}", "agent run: {name!r}"),
            **_of("tool_call", "function: {name}"),
            **_of("handoff", "handoff: {from_agent} → {to_agent}"),
            **_of("decision", "guardrail {name!r} {triggered=}"),
            **_of("llm_call", "responses api", "responses api with {gen_ai.request.model!r}"),
            **_of("llm_call", "chat completion with {gen_ai.request.model!r}"),
        },
        "gen_ai.operation.name": _of("llm_call", "image_generation"),
    },
    fields={
        "group": ("group_id",),
        "tool": ("to_agent", "name"),
        "tool_arguments": ("input",),
        "tool_result": ("output",),
        "usage": ("gen_ai.usage.raw",),
        "input": ("events", "request_data"),
        "output": ("response_data",),
    },
)

AG2: Final = Dialect(
    name="ag2",
    kinds={
        "ag2.span.type": {
            **_of("interaction", "agent"),
            **_of("llm_call", "llm"),
            **_of("tool_call", "tool"),
            **_of("human_input", "human_input"),
            **_of("span", "usage", "envelope", "task", "channel", "agent_lifetime", "agent_event"),
        },
    },
    fields={
        "tool_arguments": ("ag2.human_input.prompt",),
        "tool_result": ("ag2.human_input.response",),
        "error_type": ("ag2.error.type",),
        "error_message": ("ag2.error.message",),
    },
)

MASTRA: Final = Dialect(
    name="mastra",
    kinds={
        "mastra.span.type": {
            **_of("interaction", "agent_run"),
            # Of a generation its operation decides: it is one call, or the loop around them.
            **_of("llm_call", "model_inference"),
            **_of("tool_call", "tool_call", "mcp_tool_call"),
            **_of("span", "model_chunk", "model_step", "workflow_step", "generic"),
            "workflow_run": CHAIN,
        },
    },
    fields={
        "agent": ("gen_ai.agent.id",),
        "session_id": (
            "threadId",
            "sessionId",
            *_ids("mastra.metadata.", "thread", "session", "conversation"),
        ),
        "user_id": ("userId", "resourceId", *_ids("mastra.metadata.", "user", "resource")),
        "tool_arguments": ("gen_ai.tool.input",),
        "tool_result": ("gen_ai.tool.output",),
        "input": ("mastra.agent_run.input", "mastra.workflow_run.input", "input"),
        "output": ("mastra.agent_run.output", "mastra.workflow_run.output", "output"),
        "first_token_at": ("mastra.completion_start_time",),
    },
)

LANGSMITH: Final = Dialect(
    name="langsmith",
    kinds={
        "langsmith.span.kind": {
            **_of("llm_call", "llm"),
            **_of("tool_call", "tool"),
            **_of("retrieval", "retriever", "embedding"),
            **_of("span", "prompt", "parser"),
            "chain": CHAIN,
        },
    },
    fields={
        "agent": ("langsmith.metadata.lc_agent_name",),
        "session_id": _ids("langsmith.metadata.", "thread", "session", "conversation"),
        "user_id": _ids("langsmith.metadata.", "user"),
        "tool_arguments": ("gen_ai.prompt",),
        "tool_result": ("gen_ai.completion",),
    },
)

HAYSTACK: Final = Dialect(
    name="haystack",
    names={
        "haystack.agent.run": "interaction",
        "haystack.pipeline.run": CHAIN,
        "haystack.async_pipeline.run": CHAIN,
        "haystack.component.run": "span",
        "haystack.agent.step": "span",
        "haystack.agent.step.llm": "span",
        "haystack.agent.step.tool": "span",
    },
    fields={
        "input": ("haystack.agent.input", "haystack.pipeline.input_data"),
        "output": ("haystack.agent.output", "haystack.pipeline.output_data"),
    },
)

LIVEKIT: Final = Dialect(
    name="livekit",
    names={
        "agent_turn": "interaction",
        "llm_request": "llm_call",
        "function_tool": "tool_call",
        "agent_session": "span",
        "user_turn": "span",
        "llm_node": "span",
        "llm_request_run": "span",
        "tts_node": "span",
        "tts_request": "span",
        "tts_request_run": "span",
    },
    fields={
        "agent": ("lk.agent_label",),
        "tool": ("lk.function_tool.name",),
        "tool_arguments": ("lk.pii.function_tool.arguments", "lk.function_tool.arguments"),
        "tool_result": ("lk.pii.function_tool.output", "lk.function_tool.output"),
        "input": ("lk.pii.user_input", "lk.user_input"),
        "output": ("lk.pii.response.text", "lk.response.text"),
    },
)

AGENTOPS: Final = Dialect(
    name="agentops",
    kinds={
        "agentops.span.kind": {
            **_of("interaction", "agent"),
            **_of("llm_call", "llm", "llm.call"),
            **_of("tool_call", "tool"),
            **_of("decision", "guardrail"),
            **_of("span", "task", "operation", "workflow.step", "tool.usage", "request", "http"),
            "workflow": CHAIN,
            "chain": CHAIN,
            "session": ENTRY,
        },
    },
    fields={
        "tool": ("operation.name",),
        "tool_arguments": ("agentops.tool.input", "agentops.entity.input"),
        "tool_result": ("agentops.tool.output", "agentops.entity.output"),
        "input": (
            "agentops.agent.input",
            "agentops.session.input",
            "agentops.workflow.input",
            "agentops.entity.input",
        ),
        "output": (
            "agentops.agent.output",
            "agentops.session.output",
            "agentops.workflow.output",
            "agentops.entity.output",
        ),
    },
)

ARMS: Final = Dialect(
    name="arms",
    kinds={
        "gen_ai.span.kind": {
            **_of("llm_call", "llm"),
            **_of("tool_call", "tool"),
            **_of("interaction", "agent", "workflow"),
            **_of("retrieval", "retriever", "reranker", "embedding"),
            **_of("span", "task", "step"),
            "chain": CHAIN,
            "entry": ENTRY,
        },
    },
    fields={
        "session_id": ("gen_ai.session.id",),
        "user_id": ("gen_ai.user.id",),
        "model": ("gen_ai.model_name",),
    },
)

ADK: Final = Dialect(
    name="adk",
    kinds={"gen_ai.operation.name": {**_of("llm_call", "call_llm")}},
    names={
        "invocation": ENTRY,
        "call_llm": "llm_call",
        "execute_tool (merged)": "span",
        "execute_tool (merged tools)": "span",
    },
    fields={
        "session_id": ("gcp.vertex.agent.session_id",),
        "input": ("gcp.vertex.agent.llm_request",),
        "output": ("gcp.vertex.agent.llm_response",),
        "tool_arguments": ("gcp.vertex.agent.tool_call_args",),
        "tool_result": ("gcp.vertex.agent.tool_response",),
        "reasoning_tokens": ("gen_ai.usage.experimental.reasoning_tokens",),
    },
)

LITELLM: Final = Dialect(
    name="litellm",
    kinds={
        "gen_ai.operation.name": {
            **_of("llm_call", "completion", "acompletion", "atext_completion"),
            **_of("llm_call", "responses", "aresponses", "anthropic_messages"),
            **_of("llm_call", "text_completion", "agenerate_content", "agenerate_content_stream"),
            **_of("llm_call", "aimage_generation", "pass_through_endpoint", "litellm.passthrough"),
            **_of("llm_call", "allm_passthrough_route", "_arealtime"),
            **_of("retrieval", "embedding", "aembedding", "arerank"),
            **_of("decision", "moderation", "amoderation", "litellm.moderation"),
        },
        "litellm.guardrail.mode": _of("decision", "pre_call", "during_call", "post_call"),
    },
    names={"raw_gen_ai_request": "span"},
    fields={
        "session_id": ("metadata.session_id", "metadata.trace_session_id"),
        "user_id": (
            "metadata.user_api_key_end_user_id",
            "litellm.end_user.id",
            "llm.user",
            "metadata.user_api_key_user_id",
        ),
        "cost_usd": ("gen_ai.cost.total_cost", "litellm.cost.total_cost", "litellm.cost.total"),
        "input_cost": ("gen_ai.cost.input_cost",),
        "output_cost": ("gen_ai.cost.output_cost",),
        "usage": ("metadata.usage_object",),
        "model": ("litellm.provider.model",),
    },
)

MCP: Final = Dialect(
    name="mcp",
    kinds={
        "mcp.method.name": {
            "tools/call": "tool_call",
            "resources/read": "retrieval",
            "elicitation/create": "human_input",
            "sampling/createmessage": "llm_call",
        },
    },
    fields={
        "tool": ("mcp.tool.name", "mcp.resource.uri"),
        "tool_arguments": ("mcp.request.argument",),
        "tool_result": ("mcp.response.value",),
        "error_type": ("rpc.response.status_code", "rpc.jsonrpc.error_code"),
        "error_message": ("rpc.jsonrpc.error_message",),
    },
)

OPENINFERENCE: Final = Dialect(
    name="openinference",
    kinds={
        "openinference.span.kind": {
            **_of("llm_call", "llm"),
            **_of("tool_call", "tool"),
            **_of("interaction", "agent"),
            **_of("retrieval", "retriever", "reranker", "embedding"),
            **_of("decision", "decision", "guardrail", "evaluator", "prompt"),
            "chain": CHAIN,
            "unknown": ENTRY,
        },
    },
    fields={
        "agent": ("agent.name",),
        "session_id": ("session.id",),
        "metadata": ("metadata",),
        "tool": ("tool.name",),
        "model": (
            "llm.response.model_name",
            "llm.model_name",
            "llm.request.model_name",
            "embedding.model_name",
            "reranker.model_name",
        ),
        "input_tokens": ("llm.token_count.prompt",),
        "output_tokens": ("llm.token_count.completion",),
        "cached_tokens": (
            "llm.token_count.prompt_details.cache_read",
            "llm.token_count.prompt_details.cache_input",
        ),
        "reasoning_tokens": ("llm.token_count.completion_details.reasoning",),
        "input_audio": ("llm.token_count.prompt_details.audio",),
        "output_audio": ("llm.token_count.completion_details.audio",),
        "cache_write_tokens": ("llm.token_count.prompt_details.cache_write",),
        "cost_usd": ("llm.cost.total",),
        "input_cost": ("llm.cost.prompt",),
        "output_cost": ("llm.cost.completion",),
        "input": ("input.value",),
        "output": ("output.value",),
        "tool_arguments": ("input.value",),
        "tool_result": ("output.value",),
        "provider": ("llm.provider", "llm.system"),
        "parameters": ("llm.invocation_parameters",),
    },
)

OPENLLMETRY: Final = Dialect(
    name="openllmetry",
    kinds={
        "traceloop.span.kind": {
            **_of("interaction", "workflow", "agent"),
            **_of("tool_call", "tool"),
            **_of("handoff", "handoff"),
            "task": ENTRY,
        },
        "llm.request.type": {
            **_of("llm_call", "chat", "completion"),
            **_of("retrieval", "embedding", "rerank"),
        },
        "db.system": _of(
            "retrieval",
            "pinecone", "chroma", "qdrant", "milvus", "weaviate", "lancedb", "marqo",
        ),
    },
    fields={
        "workflow": ("traceloop.workflow.name",),
        "agent": ("traceloop.association.properties.lc_agent_name",),
        "session_id": _ids(
            "traceloop.association.properties.", "session", "conversation", "chat", "thread"
        ),
        "user_id": (*_ids("traceloop.association.properties.", "user"), "gen_ai.user"),
        "tool": ("traceloop.entity.name", "gen_ai.handoff.to_agent"),
        "tool_arguments": ("traceloop.entity.input",),
        "tool_result": ("traceloop.entity.output",),
        "reasoning_tokens": ("gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens"),
        "input": ("traceloop.entity.input",),
        "output": ("traceloop.entity.output", "crewai.crew.result"),
    },
)  # fmt: skip

GENKIT: Final = Dialect(
    name="genkit",
    kinds={
        "genkit:metadata:subtype": {
            **_of("interaction", "flow", "agent"),
            **_of("llm_call", "model", "background-model"),
            **_of("tool_call", "tool", "tool.v2"),
            **_of("retrieval", "retriever", "reranker", "embedder"),
            **_of("decision", "evaluator"),
            **_of("span", "util", "prompt", "executable-prompt", "indexer", "resource", "custom"),
        },
        "genkit:type": _of("span", "util", "flowstep", "dotprompt", "prompttemplate", "helper"),
    },
    fields={
        "session_id": ("genkit:sessionId",),
        "model": ("genkit:name",),
        "tool": ("genkit:name",),
        "tool_arguments": ("genkit:input",),
        "tool_result": ("genkit:output",),
        "input": ("genkit:input",),
        "output": ("genkit:output",),
    },
)

VOLTAGENT: Final = Dialect(
    name="voltagent",
    kinds={
        # Everything below an agent says whose it is.
        "span.type": {
            **_of("llm_call", "llm"),
            **_of("tool_call", "tool"),
            **_of("retrieval", "retriever", "embedding", "vector"),
            **_of("decision", "guardrail", "scorer"),
            **_of("span", "agent", "memory", "middleware", "summary", "workflow-step"),
        },
        "entity.type": _of("interaction", "agent", "workflow"),
    },
    fields={
        "agent": ("subagent.name", "entity.name"),
        "session_id": ("conversation.id",),
        "model": ("llm.model", "ai.model.name"),
        "input_tokens": ("llm.usage.prompt_tokens", "usage.prompt_tokens"),
        "output_tokens": ("llm.usage.completion_tokens", "usage.completion_tokens"),
        "cached_tokens": ("llm.usage.cached_tokens", "usage.cached_tokens"),
        "reasoning_tokens": ("usage.reasoning_tokens",),
        "cost_usd": ("usage.cost",),
        "system": ("agent.instructions",),
        "input": ("llm.messages", "input"),
        "output": ("output",),
        "tool_arguments": ("input",),
        "tool_result": ("output",),
    },
)

PIPECAT: Final = Dialect(
    name="pipecat",
    kinds={
        "gen_ai.operation.name": {
            **_of("llm_call", "llm_response"),
            **_of("tool_call", "llm_tool_result"),
            **_of("span", "stt", "tts", "llm_setup", "llm_request", "llm_tool_call"),
        },
    },
    names={"turn": "interaction", "conversation": "span"},
    fields={
        "tool": ("tool.function_name",),
        "tool_arguments": ("tool.arguments",),
        "tool_result": ("tool.result",),
        "first_token_s": ("metrics.ttfb",),
    },
)

SENTRY: Final = Dialect(
    name="sentry",
    kinds={
        "gen_ai.operation.name": {
            **_of("llm_call", "messages", "completions"),
            **_of("handoff", "handoff"),
        },
        "sentry.op": {
            **_of("interaction", "gen_ai.invoke_agent"),
            **_of("llm_call", "gen_ai.chat", "gen_ai.responses", "gen_ai.messages"),
            **_of("llm_call", "gen_ai.generate_content", "gen_ai.request"),
            **_of("llm_call", "gen_ai.generate_text", "gen_ai.stream_text"),
            **_of("llm_call", "gen_ai.generate_object", "gen_ai.stream_object"),
            **_of("tool_call", "gen_ai.execute_tool"),
            **_of("handoff", "gen_ai.handoff"),
            **_of("retrieval", "gen_ai.embeddings", "gen_ai.rerank"),
            **_of("span", "gen_ai.create_agent"),
        },
    },
    fields={
        "workflow": ("gen_ai.pipeline.name",),
        "cached_tokens": ("gen_ai.usage.input_tokens.cached",),
        "cache_write_tokens": ("gen_ai.usage.input_tokens.cache_write",),
        "reasoning_tokens": ("gen_ai.usage.output_tokens.reasoning",),
        "cost_usd": ("gen_ai.usage.total_cost",),
        "input": ("gen_ai.request.messages", "gen_ai.embeddings.input"),
        "output": ("gen_ai.response.text", "gen_ai.response.object"),
        "tools": ("gen_ai.request.available_tools",),
    },
)

QUARKUS: Final = Dialect(
    name="quarkus",
    names={"langchain4j.aiservices.*": "interaction", "langchain4j.tools.*": "tool_call"},
)

FRAMEWORKS: Final = Dialect(
    name="frameworks",
    kinds={
        "gen_ai.operation.name": {
            **_of("interaction", "process_thread_run", "start_thread_run"),
            **_of("interaction", "invoke_swarm", "invoke_graph", "orchestrate_tools"),
            **_of("retrieval", "memory.search", "vectordb", "vector_db_retrieve"),
            **_of("span", "execute_event_loop_cycle", "memory.add", "execute_task"),
            **_of("span", "create_thread", "create_message", "list_messages", "list_run_steps"),
            **_of("span", "get_thread_run", "submit_tool_outputs"),
        },
        "n8n.node.type": {
            **_of("interaction", "@n8n/n8n-nodes-langchain.agent"),
            **_of("span", "n8n-nodes-base.httprequest"),
        },
    },
    names={
        "AutoFunctionInvocationLoop": "span",
        "workflow.run": "interaction",
        "workflow_invoke": "interaction",
        "workflow.build": "span",
        "message.send": "span",
    },
    fields={
        "agent": ("n8n.workflow.name",),
        "workflow": ("workflow.name",),
        "session_id": ("langgraph.thread_id", "gen_ai.thread.id"),
        "user_id": ("gen_ai.request.user",),
        "input_tokens": ("token_count_prompt",),
        "output_tokens": ("token_count_completion",),
        "input_cost": ("cost_prompt",),
        "output_cost": ("cost_completion",),
        "tool_arguments": ("gen_ai.tool.args",),
        "tool_result": ("gen_ai.output", "genai.output"),
        "input": ("gen_ai.workflow.input",),
        "output": ("gen_ai.output", "genai.output", "gen_ai.workflow.output"),
    },
)

DIALECTS: Final = (
    COPILOT,
    GEN_AI,
    DEPRECATED,
    AI_SDK,
    LANGFUSE,
    MLFLOW,
    SPRING_AI,
    PYDANTIC_AI,
    AG2,
    MASTRA,
    LANGSMITH,
    ARMS,
    ADK,
    LITELLM,
    MCP,
    OPENINFERENCE,
    OPENLLMETRY,
    HAYSTACK,
    LIVEKIT,
    AGENTOPS,
    SENTRY,
    GENKIT,
    PIPECAT,
    QUARKUS,
    FRAMEWORKS,
    CLAUDE_CODE,
    CODEX,
    GEMINI_CLI,
    LOGFIRE,
    VOLTAGENT,
)
"""Those whose names may mean anything (``model``, ``prompt``, ``output``) come last."""

FIRST_ASKED: Final = (
    "langfuse.observation.type",
    "mastra.span.type",
    "ag2.span.type",
    "spring.ai.kind",
    "ai.operationId",
    "langsmith.span.kind",
    "logfire.span_type",
)
"""Attributes that tell more of a span than ``gen_ai.operation.name`` beside them does."""

CONTEXT: Final[Mapping[str, str]] = {
    "http.request.method": "http",
    "http.method": "http",
    "http.route": "http",
    "http.status_code": "http",
    "http.response.status_code": "http",
    "asgi.event.type": "http",
    "next.span_type": "http",
    "graphql.operation.type": "graphql",
    "rpc.system": "rpc",
    "rpc.system.name": "rpc",
    "db.system": "db",
    "db.system.name": "db",
    "messaging.system": "messaging",
    "messaging.operation": "messaging",
    "celery.action": "messaging",
    "faas.trigger": "faas",
    "faas.invocation_id": "faas",
    "temporalWorkflowID": "temporal",
    "mcp.method.name": "mcp",
    "mastra.span.type": "mastra",
    "gen_ai.framework": "arms",
    "haystack.component.name": "haystack",
    "executor.id": "frameworks",
    "logfire.msg_template": "logfire",
    "edge_group.type": "frameworks",
}
"""Attributes of work that is not the agent's, and the conventions they belong to."""

GRAPH_NODES: Final = (
    "langsmith.metadata.langgraph_node",
    "langfuse.observation.metadata.langgraph_node",
    "traceloop.association.properties.langgraph_node",
)
"""Attributes that say of a chain that it is a node of a graph."""

GRAPH_NODE_KEYS: Final = ("langgraph_node", "langgraph_step")
"""The same, as keys of a ``metadata`` object."""

FAILED_IF: Final[Mapping[str, frozenset[str]]] = {
    "langfuse.observation.level": frozenset({"ERROR"}),
    "success": frozenset({"false"}),
    "gen_ai.tool.success": frozenset({"false"}),
    "gen_ai.tool.status": frozenset({"error"}),
    "lk.function_tool.is_error": frozenset({"true"}),
    "tool.result_status": frozenset({"error"}),
    "genkit:state": frozenset({"error"}),
    "otel.status_code": frozenset({"ERROR"}),
    "error": frozenset({"true"}),
    "gen_ai.response.finish_reasons": frozenset({'["error"]', "error"}),
    "gen_ai.response.finish_reason": frozenset({"error"}),
    "ai.response.finishReason": frozenset({"error"}),
    "gen_ai.thread.run.status": frozenset({"failed", "expired"}),
    "logfire.level_num": frozenset({"17", "21"}),
}
"""Attributes, beside the status and ``error.type``, whose value says that a span failed."""

PAUSED_IF: Final[Mapping[str, frozenset[str]]] = {
    "gen_ai.response.finish_reasons": frozenset({'["interrupt"]'}),
    "workflow.state": frozenset({"suspended"}),
    "workflow.step.state": frozenset({"suspended"}),
}
"""Attributes whose value says that a span ended to wait for a person."""

CANCELLED_IF: Final[Mapping[str, frozenset[str]]] = {
    "gen_ai.response.finish_reasons": frozenset({'["cancelled"]', '["aborted"]'}),
    "gen_ai.thread.run.status": frozenset({"cancelled", "cancelling"}),
    "copilot_chat.canceled": frozenset({"true"}),
    "workflow.state": frozenset({"cancelled"}),
    "workflow.step.state": frozenset({"cancelled"}),
}
"""Attributes whose value says that somebody stopped a span."""

PAUSED_WITH: Final = frozenset({"genkit:metadata:interrupt"})
"""Attributes that are only there where a span ended to wait for a person."""

RESUMED_WITH: Final = frozenset({"workflow.resumed"})
"""Attributes that are only there where a run goes on after it waited."""

PAUSES_IN: Final = ("gcp.vertex.agent.tool_response", "gen_ai.tool.call.result")
"""Attributes of a tool's result that may only say that a person is asked for approval."""

FINISHES_WITH: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "ai.operationId": {"ai.streamText": ("ai.response.finishReason", "ai.response.text")},
}
"""By attribute and value, of spans that say at their end why they finished, and what they told.

One that says no reason, or ``unknown`` and no text, was stopped."""

FINISHES_IN: Final[Mapping[str, tuple[str, str, str]]] = {
    "gen_ai": ("invoke_agent ", "gen_ai.request.model", "gen_ai.response.finish_reasons"),
}
"""By instrumentation scope, of spans that say why they finished: how their names begin, what the
names go on with, and the reason (AI SDK 7). One that says none was stopped."""

RAISES: Final = frozenset({"io.quarkus.opentelemetry", "io.smallrye.opentelemetry"})
"""Instrumentation scopes that record the exception that ended a span, and set no status."""

TOOL_IF: Final[Mapping[str, str]] = {"openinference.span.kind": "tool.name"}
"""What tells the kind of a span, and what beside it says that an agent's run is a tool's: a tool
whose name has "agent" in it is an agent to LangChain's instrumentation."""

NAMED_BY: Final[Mapping[tuple[str, str], str]] = {
    ("langfuse.observation.type", "agent"): "",
    ("mlflow.spanType", "agent"): "",
    ("agentops.span.kind", "agent"): "",
    ("genkit:metadata:subtype", "flow"): "",
    ("genkit:metadata:subtype", "agent"): "",
    ("openinference.span.kind", "agent"): "graph.node.id",
    ("traceloop.span.kind", "agent"): "crewai.agent.role",
    ("logfire.msg_template", "agent run: {name!r}"): "name",
}
"""By what told that a span is an agent, the attribute that names it; empty: the span's name."""

TURNS: Final = frozenset({"events"})
"""Attributes that hold what a model heard and, at the end, what it said."""

TOLD_WHEN_STREAMED: Final = ("request_data", re.compile(r'"stream": ?true'), "logfire.span_type")
"""An attribute and what it says of a call of which another span, a ``log``, tells the end."""

HANDED_TO: Final = ("agent_name", "agent", "coworker", "recipient")
"""Arguments of a tool that hands over, by which its caller says to whom."""

SCOPE_OF_NAME: Final[Mapping[str, str]] = {
    "invocation": "gcp.vertex.agent",
    **dict.fromkeys(("workflow.run", "workflow.build", "message.send"), "agent_framework"),
    **dict.fromkeys(PYDANTIC_AI.names, "pydantic-ai"),
    **dict.fromkeys(LIVEKIT.names, "livekit-agents"),
    **dict.fromkeys(PIPECAT.names, "pipecat.turn"),
}
"""Names too common to mean anything outside of this instrumentation scope."""

TOLD_BY_LOGS: Final[Mapping[str, str]] = {"gemini-cli": "gemini cli"}
"""Instrumentation scopes whose log events tell all that their spans tell, and their dialects."""

TOLD_BY_SPANS: Final = frozenset({"copilot-chat"})
"""Instrumentation scopes whose log events of calls, also of no span, tell what spans tell."""

ANSWERS: Final = frozenset({"ai.response.object", "final_result"})
"""Attributes of an answer in whatever form was asked for, which is never a program's state."""

UNSAID_ENDS: Final = frozenset({"claude code"})
"""Dialects whose spans of agents do not say how these ended."""

UNSAID_STATUS: Final = frozenset(
    {
        "openinference.instrumentation.openai_agents",
        "opentelemetry.instrumentation.openai_agents",
    }
)
"""Instrumentation scopes whose spans of whole runs, with no name or words of an agent, are always
ok."""

EXECUTIONS: Final = frozenset({"claude_code.tool.execution"})
"""Spans whose failure is that of the tool call above them, which does not say it itself."""

DISJOINT: Final[Mapping[str, tuple[str, ...]]] = {
    "claude code": ("",),
    "ai sdk": ("anthropic", "amazon-bedrock", "vertex.anthropic"),
}
"""Dialects whose input tokens never contain what was read from or written to a cache, each with
how the names of the providers begin of which that holds."""

REASONING_APART: Final[Mapping[str, tuple[str, ...]]] = {
    "gemini cli": ("",),
    "genkit": ("",),
    "ai sdk": ("google.",),
}
"""Likewise, dialects whose output tokens do not contain those of reasoning."""

WHOLE: Final = frozenset(
    {
        "ai.usage.inputTokenDetails.noCacheTokens",
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.inputTokenDetails.cacheWriteTokens",
        "ai.usage.outputTokenDetails.textTokens",
        "ai.usage.outputTokenDetails.reasoningTokens",
    }
)
"""Attributes by which a later version of a dialect says that its totals contain all parts."""
