"""Attribute names of the span dialects, as tables: what stands where, first match wins.

Sources: OpenTelemetry semantic conventions for generative AI, schema 1.41, and the names they
deprecated (``gen_ai.usage.prompt_tokens``, ...); OpenInference semantic conventions; and what
any-agent wrote before it settled (``genai.output``, ``cost_prompt``, ...).
"""

from __future__ import annotations

from typing import Final

from ingest.events import Kind

KIND_BY_OPERATION: Final[dict[str, Kind]] = {
    "chat": "llm_call",
    "call_llm": "llm_call",
    "text_completion": "llm_call",
    "generate_content": "llm_call",
    "execute_tool": "tool_call",
    "invoke_agent": "decision",
    "create_agent": "decision",
    "invoke_workflow": "decision",
    "embeddings": "retrieval",
    "retrieval": "retrieval",
}
"""``gen_ai.operation.name``. An agent is an interaction at the root, see `AT_ROOT`."""

KIND_BY_SPAN_KIND: Final[dict[str, Kind]] = {
    "LLM": "llm_call",
    "TOOL": "tool_call",
    "AGENT": "decision",
    "CHAIN": "decision",
    "GUARDRAIL": "decision",
    "EVALUATOR": "decision",
    "PROMPT": "decision",
    "RETRIEVER": "retrieval",
    "RERANKER": "retrieval",
    "EMBEDDING": "retrieval",
}
"""``openinference.span.kind``."""

AT_ROOT: Final[dict[Kind, Kind]] = {"decision": "interaction"}
"""A step of an agent that nobody called is the whole interaction."""

DEFAULT_KIND: Final[Kind] = "decision"
"""A span of no known operation is a step of the agent."""

OPERATION: Final = ("gen_ai.operation.name",)
SPAN_KIND: Final = ("openinference.span.kind",)
AGENT: Final = ("gen_ai.agent.name", "agent.name")
AGENT_VERSION: Final = ("gen_ai.agent.version", "service.version")
SERVICE: Final = ("service.name",)
ENVIRONMENT: Final = ("deployment.environment.name", "deployment.environment")
SESSION: Final = ("gen_ai.conversation.id", "session.id")
USER: Final = ("user.id", "enduser.id")
TOOL: Final = ("gen_ai.tool.name", "tool.name")
MODEL: Final = (
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.model_name",
    "embedding.model_name",
)
INPUT_TOKENS: Final = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "token_count_prompt",
)
OUTPUT_TOKENS: Final = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "token_count_completion",
)
CACHED_TOKENS: Final = (
    "gen_ai.usage.cache_read.input_tokens",
    "llm.token_count.prompt_details.cache_read",
)
COST: Final = ("gen_ai.usage.cost", "llm.cost.total")
INPUT_COST: Final = ("gen_ai.usage.input_cost", "llm.cost.prompt", "cost_prompt")
OUTPUT_COST: Final = ("gen_ai.usage.output_cost", "llm.cost.completion", "cost_completion")
TIME_TO_FIRST_TOKEN_S: Final = ("gen_ai.response.time_to_first_chunk",)
ERROR_TYPE: Final = ("error.type", "exception.type")
ERROR_MESSAGE: Final = ("exception.message",)
TOOL_ARGUMENTS: Final = ("gen_ai.tool.call.arguments", "gen_ai.tool.args", "input.value")
TOOL_RESULT: Final = ("gen_ai.tool.call.result", "gen_ai.output", "genai.output", "output.value")
CONTENT: Final = (
    "gen_ai.output.messages",
    "gen_ai.completion",
    "gen_ai.output",
    "genai.output",
    "output.value",
)

DEFAULT_SERVICE: Final = "unknown_service"
"""What OpenTelemetry calls a service that nobody named."""
