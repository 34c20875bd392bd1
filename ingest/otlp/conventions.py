"""What the span dialects call things, as data: attribute names, their values, their order.

Each `Dialect` says which attributes tell the kind of a span and which attribute fills which field.
Of several attributes for one field the first counts, dialects in the order of `DIALECTS`, names in
the order given. `table` turns this into one look-up per attribute.

========================  =========================================================================
dialect                   source
========================  =========================================================================
``gen_ai``                OpenTelemetry semantic conventions for generative AI, schema 1.41 and the
                          repository they moved to, semantic-conventions-genai, as of 2026
``gen_ai, deprecated``    the names they had up to 1.36, still what most instrumentations write
``mcp``                   the same repository's conventions for the Model Context Protocol
``openinference``         openinference-semantic-conventions 0.1.42
``openllmetry``           opentelemetry-semantic-conventions-ai 0.5.1 (Traceloop) and before
``frameworks``            what Pydantic AI, any-agent and the Vercel AI SDK add of their own
========================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal, NamedTuple

from ingest.core.events import Kind


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of instrumentations speaks.

    Attributes
    ----------
    name
        Shown by ``driftline replay --explain``.
    kinds
        Attribute that tells what a span is, and the kind that each of its values means; values in
        lower case.
    fields
        Names per field. What is not a field of an event is one of `AUXILIARY`.
    """

    name: str
    kinds: Mapping[str, Mapping[str, Kind]] = field(default_factory=dict)
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


GEN_AI: Final = Dialect(
    name="gen_ai",
    kinds={
        "gen_ai.operation.name": {
            "chat": "llm_call",
            "text_completion": "llm_call",
            "generate_content": "llm_call",
            "execute_tool": "tool_call",
            "invoke_agent": "decision",
            "create_agent": "decision",
            "invoke_workflow": "decision",
            "plan": "decision",
            "embeddings": "retrieval",
            "retrieval": "retrieval",
            "search_memory": "retrieval",
        },
    },
    fields={
        "agent": ("gen_ai.agent.name",),
        "agent_version": ("gen_ai.agent.version",),
        "environment": ("deployment.environment.name", "deployment.environment"),
        "service": ("service.name",),
        "service_version": ("service.version",),
        "session_id": ("gen_ai.conversation.id",),
        "user_id": ("user.id", "enduser.id"),
        "tool": ("gen_ai.tool.name",),
        "tool_arguments": ("gen_ai.tool.call.arguments",),
        "tool_result": ("gen_ai.tool.call.result",),
        "model": ("gen_ai.response.model", "gen_ai.request.model"),
        "input_tokens": ("gen_ai.usage.input_tokens",),
        "output_tokens": ("gen_ai.usage.output_tokens",),
        "cached_tokens": ("gen_ai.usage.cache_read.input_tokens",),
        "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens",),
        "cache_write_tokens": ("gen_ai.usage.cache_creation.input_tokens",),
        "first_token_s": ("gen_ai.response.time_to_first_chunk",),
        "error_type": ("error.type", "exception.type"),
        "error_message": ("exception.message",),
        "input": ("gen_ai.input.messages", "gen_ai.retrieval.query.text"),
        "output": ("gen_ai.output.messages", "gen_ai.retrieval.documents"),
        "system": ("gen_ai.system_instructions",),
        "tools": ("gen_ai.tool.definitions",),
        "provider": ("gen_ai.provider.name",),
    },
)

DEPRECATED: Final = Dialect(
    name="gen_ai, deprecated",
    fields={
        "input_tokens": ("gen_ai.usage.prompt_tokens",),
        "output_tokens": ("gen_ai.usage.completion_tokens",),
        "cached_tokens": ("gen_ai.usage.cache_read_input_tokens",),
        "cache_write_tokens": ("gen_ai.usage.cache_creation_input_tokens",),
        "first_token_s": ("gen_ai.server.time_to_first_token",),
        "input": ("gen_ai.prompt",),
        "output": ("gen_ai.completion",),
        "provider": ("gen_ai.system",),
        "cost_usd": ("gen_ai.usage.cost",),
        "input_cost": ("gen_ai.usage.input_cost",),
        "output_cost": ("gen_ai.usage.output_cost",),
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
            "llm": "llm_call",
            "tool": "tool_call",
            "agent": "decision",
            "chain": "decision",
            "decision": "decision",
            "guardrail": "decision",
            "evaluator": "decision",
            "prompt": "decision",
            "retriever": "retrieval",
            "reranker": "retrieval",
            "embedding": "retrieval",
        },
    },
    fields={
        "agent": ("agent.name",),
        "session_id": ("session.id",),
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
            "workflow": "decision",
            "task": "decision",
            "agent": "decision",
            "tool": "tool_call",
        },
        "llm.request.type": {
            "chat": "llm_call",
            "completion": "llm_call",
            "embedding": "retrieval",
            "rerank": "retrieval",
        },
        "db.system": dict.fromkeys(
            ("pinecone", "chroma", "qdrant", "milvus", "weaviate", "lancedb", "marqo"), "retrieval"
        ),
    },
    fields={
        "workflow": ("traceloop.workflow.name",),
        "session_id": (
            "traceloop.association.properties.session_id",
            "traceloop.association.properties.conversation_id",
            "traceloop.association.properties.chat_id",
            "traceloop.association.properties.thread_id",
        ),
        "user_id": ("traceloop.association.properties.user_id", "gen_ai.user", "llm.user"),
        "tool": ("traceloop.entity.name",),
        "tool_arguments": ("traceloop.entity.input",),
        "tool_result": ("traceloop.entity.output",),
        "reasoning_tokens": ("gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens"),
        "input": ("traceloop.entity.input",),
        "output": ("traceloop.entity.output",),
    },
)

FRAMEWORKS: Final = Dialect(
    name="frameworks",
    kinds={"gen_ai.operation.name": {"call_llm": "llm_call"}},
    fields={
        "session_id": ("langfuse.session.id", "langgraph.thread_id"),
        "user_id": ("langfuse.user.id",),
        "input_tokens": ("token_count_prompt",),
        "output_tokens": ("token_count_completion",),
        "reasoning_tokens": ("gen_ai.usage.details.reasoning_tokens",),
        "input_cost": ("cost_prompt",),
        "output_cost": ("cost_completion",),
        "first_token_ms": ("ai.response.msToFirstChunk",),
        "tool_arguments": ("gen_ai.tool.args",),
        "tool_result": ("gen_ai.output", "genai.output"),
        "input": ("pydantic_ai.all_messages",),
        "output": ("final_result", "gen_ai.output", "genai.output"),
    },
)

DIALECTS: Final = (GEN_AI, DEPRECATED, MCP, OPENINFERENCE, OPENLLMETRY, FRAMEWORKS)

DEFAULT_KIND: Final[Kind] = "decision"
"""A span of no known operation is a step of the agent."""

AT_ROOT: Final[dict[Kind, Kind]] = {"decision": "interaction"}
"""A step of an agent that nobody called is the whole interaction."""

DEFAULT_SERVICE: Final = "unknown_service"
"""What OpenTelemetry calls a service that nobody named."""

FLATTENED: Final = (
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.tools.",
    "llm.prompts.",
    "llm.choices.",
    "llm.request.functions.",
    "gen_ai.prompt.",
    "gen_ai.completion.",
)
"""Lists written as one attribute per leaf, ``llm.input_messages.0.message.role``; see
`ingest.otlp.chat_messages`."""


def is_flattened(name: str) -> bool:
    """Tell whether an attribute is a leaf of a flattened list."""
    return name.startswith(FLATTENED) and name != "gen_ai.prompt.name"


KEPT_AS: Final = {
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "provider": "gen_ai.provider.name",
}
"""Fields that the contract does not have become attributes of one name, whatever the dialect."""

FIRST_TOKEN_EVENTS: Final = frozenset(
    {
        "First Token Stream Event",
        "gen_ai.content.completion.chunk",
        "llm.content.completion.chunk",
    }
)
"""Span events that mark the arrival of a token."""

DETAIL_EVENTS: Final = frozenset(
    {
        "exception",
        "gen_ai.content.prompt",
        "gen_ai.content.completion",
        "gen_ai.client.inference.operation.details",
    }
)
"""Span events whose attributes are as good as the span's own."""

MESSAGE_EVENTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": None,
}
"""Events of one message each, and its role when the event does not say; None is an answer."""

ANSWER_EVENT: Final = "gen_ai.choice"

TOOL_SAID: Final = {
    "input": "gen_ai.tool.call.arguments",
    "output": "gen_ai.tool.call.result",
}
"""What messages are on the span of a tool."""

EVALUATION_EVENT: Final = "gen_ai.evaluation.result"

HANDOFF: Final = re.compile(
    r"(?:transfer|hand_?off|handover|escalate)[_ ](?:back_)?to[_ ](?P<to>.+)"
    r"|delegate[_ ]work[_ ]to[_ ].+",
    re.IGNORECASE,
)
"""Names of tools and steps by which one agent passes the user on to another."""

HUMAN_INPUT: Final = re.compile(
    r"(?:get_|request_|ask_(?:for_)?)?(?:human|user)_?(?:input|assistance|approval|feedback)"
    r"|ask_(?:human|user)|human_in_the_loop|human",
    re.IGNORECASE,
)
"""Names of tools by which an agent waits for a person."""

PAUSES: Final = frozenset(
    {"GraphInterrupt", "NodeInterrupt", "ApprovalRequired", "CallDeferred", "Interrupt"}
)
"""Exceptions, without their module, by which frameworks stop and wait for a person."""

AUXILIARY: Final = frozenset(
    {
        "service", "service_version", "workflow", "tool", "input", "output", "system", "tools",
        "parameters", "first_token_s", "first_token_ms", "input_cost", "output_cost", *KEPT_AS,
    }
)  # fmt: skip
"""What is understood on the way to a field."""

Form = Literal["text", "number", "any"]
"""A text; a number that the contract can hold; or a structure as it is."""

_FORMS: Final[Mapping[str, Form]] = {
    **dict.fromkeys(
        (
            "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens",
            "cache_write_tokens", "cost_usd", "input_cost", "output_cost", "first_token_s",
            "first_token_ms",
        ),
        "number",
    ),
    **dict.fromkeys(("input", "output", "system", "tools", "parameters"), "any"),
}  # fmt: skip

_ALWAYS: Final = (
    "agent", "agent_version", "environment", "service", "service_version", "session_id", "user_id",
    "workflow", "error_type", "error_message",
)  # fmt: skip
_MODEL: Final = (
    "model", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens",
    "cache_write_tokens", "cost_usd", "input_cost", "output_cost", "provider", "input", "output",
)  # fmt: skip
_TOOL: Final = ("tool", "tool_arguments", "tool_result")

FIELDS_OF: Final[Mapping[Kind, tuple[str, ...]]] = {
    "llm_call": (*_ALWAYS, *_MODEL, "system", "tools", "parameters", "first_token_s",
                 "first_token_ms"),
    "retrieval": (*_ALWAYS, *_MODEL),
    "tool_call": (*_ALWAYS, *_TOOL),
    "handoff": (*_ALWAYS, *_TOOL),
    "human_input": (*_ALWAYS, *_TOOL),
    "decision": (*_ALWAYS, "input", "output"),
    "interaction": (*_ALWAYS, "input", "output"),
}  # fmt: skip
"""Tokens, cost and model belong to calls of models: agent spans repeat the sums of their parts."""

KIND_ATTRIBUTES: Final[tuple[tuple[str, Mapping[str, Kind]], ...]] = tuple(
    (
        attribute,
        {value: kind for d in DIALECTS for value, kind in d.kinds.get(attribute, {}).items()},
    )
    for attribute in dict.fromkeys(attribute for d in DIALECTS for attribute in d.kinds)
)
"""Attributes that tell a span's kind, in the order in which they are asked."""


KNOWN: Final = frozenset(
    name for dialect in DIALECTS for names in dialect.fields.values() for name in names
) | {attribute for attribute, _ in KIND_ATTRIBUTES}
"""Every attribute that some dialect gives a meaning."""


_SAID: Final = ("input", "output", "system", "tools", "parameters", "tool_arguments", "tool_result")

CONTENT: Final = frozenset(
    name for dialect in DIALECTS for field_ in _SAID for name in dialect.fields.get(field_, ())
) | {
    "exception.message",
    "exception.stacktrace",
    "gen_ai.evaluation.explanation",
    "gen_ai.memory.query.text",
    "gen_ai.memory.records",
    "model_request_parameters",
}
"""Attributes that hold what was said, asked or answered, whether a field takes them or not."""


def carries_content(name: str) -> bool:
    """Tell whether an attribute holds what was said, so that it goes where content is not kept.

    >>> carries_content("gen_ai.prompt.0.content"), carries_content("gen_ai.prompt.name")
    (True, False)
    """
    return name in CONTENT or is_flattened(name)


class Meaning(NamedTuple):
    """What an attribute says of a span.

    Attributes
    ----------
    field
        The field it fills.
    form
        What will do for a value.
    source
        Its rank among the attributes for that field, the least first, and its name.
    dialect
        Whose word it is.
    """

    field: str
    form: Form
    source: tuple[int, str]
    dialect: str


@cache
def table(kind: Kind) -> dict[str, Meaning]:
    """Meaning of each attribute on a span of this kind.

    Examples
    --------
    >>> table("llm_call")["llm.token_count.prompt"].field
    'input_tokens'
    >>> table("tool_call")["output.value"].field, table("llm_call")["output.value"].field
    ('tool_result', 'output')
    """
    found: dict[str, Meaning] = {}
    for field_ in FIELDS_OF[kind]:
        names = [(d.name, name) for d in DIALECTS for name in d.fields.get(field_, ())]
        for rank, (dialect, name) in enumerate(names):
            found.setdefault(
                name, Meaning(field_, _FORMS.get(field_, "text"), (rank, name), dialect)
            )
    return found
