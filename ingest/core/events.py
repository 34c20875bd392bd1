"""The canonical event: one NDJSON line on the topic, one row in the table ``events``.

`Event` is the contract. The JSON Schema that ``driftline schema`` prints, the strict decoder of
`ingest.codec` and the column types of the pipeline are all derived from it, so they cannot drift
apart. Names follow the OpenTelemetry GenAI semantic conventions, flattened to snake case.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION: Final = 1

EVENTS_TOPIC: Final = "driftline.events"
DIRTY_TOPIC: Final = "driftline.dirty"
DEAD_LETTERS_TOPIC: Final = "driftline.deadletters"
FINDINGS_TOPIC: Final = "driftline.findings"
EVALUATE_TOPIC: Final = "driftline.evaluate"

MAX_FUTURE_NS: Final = 5 * 60 * 10**9
"""An event dated further ahead than this is dead-lettered, never clamped."""

MAX_LINE_BYTES: Final = 256 * 1024
"""A longer line is dead-lettered; producers cap content well below it."""

Kind = Literal[
    "interaction",
    "user_message",
    "agent_message",
    "llm_call",
    "tool_call",
    "retrieval",
    "decision",
    "handoff",
    "human_input",
    "span",
    "feedback",
    "score",
    "outcome",
    "span",
]

LABEL: Final = "label"
"""Name of the outcome that a person gives who looked at the work: the truth for judges."""

EVALUATION_KINDS: Final = ("feedback", "score", "outcome")
"""Kinds that speak of another event; they never open an interaction or a session."""

SCOPE: Final = "driftline.scope"
"""Attribute of an event that a bound token sent: the environment and the agents it may speak of, as
`ingest.access.Grant.scope` writes them."""


class RejectionCode(StrEnum):
    """Why a line did not become an event: dead-letter code, metric label and text in one."""

    EMPTY_LINE = "empty_line"
    LINE_TOO_LONG = "line_too_long"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    INVALID_FIELD = "invalid_field"
    MISSING_FIELD = "missing_field"
    UNSUPPORTED_VERSION = "unsupported_version"
    FUTURE_TIME = "future_time"
    ID_COLLISION = "id_collision"
    EXPIRED = "expired"
    # Of a whole request, at the gateway:
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    BODY_TOO_LARGE = "body_too_large"
    DECOMPRESSED_TOO_LARGE = "decompressed_too_large"
    RATIO_TOO_HIGH = "ratio_too_high"
    CORRUPT_BODY = "corrupt_body"
    INVALID_PROTOBUF = "invalid_protobuf"
    TOO_MANY_RECORDS = "too_many_records"


Key = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=65_536)]
MAX_ATTRIBUTES: Final = 256
Attributes = Annotated[dict[Label, Text], Meta(max_length=MAX_ATTRIBUTES)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=2**53)]
Unit = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0, le=1e15)]


class Event(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    gc=False,
    kw_only=True,
):
    """Something an agent, its user or its judge did. Unknown fields are ignored.

    An absent or null field means "not known"; it is never written as 0 or an empty string.
    """

    event_id: Annotated[
        Key,
        Meta(description="Unique id of the event. A repeat with the same payload counts once."),
    ]
    time_unix_nano: Annotated[
        int,
        Meta(
            ge=0,
            le=4_102_444_800_000_000_000,
            description="Event time, ns since 1970 UTC: when the event was complete. "
            "It began duration_ms earlier.",
        ),
    ]
    agent: Annotated[Key, Meta(description="Name of the agent (gen_ai.agent.name).")]
    kind: Annotated[Kind, Meta(description="What happened.")]
    schema_version: Annotated[int, Meta(ge=1, le=1, description="Version of this contract.")] = (
        SCHEMA_VERSION
    )
    environment: Annotated[
        Key, Meta(description="Deployment environment (deployment.environment.name).")
    ] = "production"
    agent_version: Annotated[
        Label | None,
        Meta(description="Given, or a hash of system prompt, tools and model."),
    ] = None
    session_id: Annotated[
        Key | None, Meta(description="Conversation (gen_ai.conversation.id).")
    ] = None
    interaction_id: Annotated[
        Key | None,
        Meta(description="One user request to its final answer; for OTLP the trace id."),
    ] = None
    parent_id: Annotated[
        Key | None, Meta(description="event_id of the event that caused this one.")
    ] = None
    user_id: Annotated[Label | None, Meta(description="Pseudonymous user.")] = None
    duration_ms: Annotated[
        NonNegative | None, Meta(description="How long it took, in milliseconds.")
    ] = None
    time_to_first_token_ms: Annotated[
        NonNegative | None, Meta(description="Until the first token arrived, in milliseconds.")
    ] = None
    name: Annotated[
        Label | None,
        Meta(description="Tool, operation or score (gen_ai.tool.name, gen_ai.evaluation.name)."),
    ] = None
    model: Annotated[
        Label | None, Meta(description="Model that answered (gen_ai.response.model).")
    ] = None
    status: Annotated[Literal["ok", "error"], Meta(description="How it ended.")] = "ok"
    error_type: Annotated[
        Label | None, Meta(description="Class of error or reason code (error.type).")
    ] = None
    error_message: Annotated[Text | None, Meta(description="Message of the error.")] = None
    input_tokens: Annotated[
        NonNegativeInt | None,
        Meta(description="gen_ai.usage.input_tokens; on kind interaction a total, not summed."),
    ] = None
    output_tokens: Annotated[
        NonNegativeInt | None, Meta(description="gen_ai.usage.output_tokens.")
    ] = None
    cached_tokens: Annotated[
        NonNegativeInt | None,
        Meta(description="Input tokens read from a cache, part of input_tokens."),
    ] = None
    cache_write_tokens: Annotated[
        NonNegativeInt | None,
        Meta(description="Input tokens written to a cache, part of input_tokens."),
    ] = None
    reasoning_tokens: Annotated[
        NonNegativeInt | None,
        Meta(description="Output tokens spent on reasoning, part of output_tokens."),
    ] = None
    cost_usd: Annotated[
        NonNegative | None, Meta(description="Price in US dollars; null when not known.")
    ] = None
    content: Annotated[Text | None, Meta(description="Message or completion, redacted.")] = None
    tool_arguments: Annotated[
        Text | None, Meta(description="Arguments of the tool call, JSON text, redacted.")
    ] = None
    tool_result: Annotated[Text | None, Meta(description="Result of the tool call, redacted.")] = (
        None
    )
    attributes: Annotated[Attributes | None, Meta(description="Anything else, as strings.")] = None
    value: Annotated[
        Unit | None,
        Meta(description="Feedback, score or outcome, 0 worst to 1 best."),
    ] = None
    reason: Annotated[
        Label | None, Meta(description="Machine-readable reason of a feedback, score or outcome.")
    ] = None
    rule_version: Annotated[
        Label | None, Meta(description="Version of the rule or judge that gave the value.")
    ] = None
    target: Annotated[
        Key | None,
        Meta(
            description="Interaction, session or event that a feedback, score or outcome judges; "
            "when absent its own interaction_id, else its session_id."
        ),
    ] = None


FIELDS: Final[tuple[str, ...]] = Event.__struct_fields__
"""Field names in the order of the struct, which is the order of the columns."""


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one canonical event.

    Returns
    -------
    dict
        The schema as plain JSON types, with ``$id`` carrying the contract's version.
    """
    schema = msgspec.json.schema(Event)
    body = schema["$defs"].pop("Event")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:driftline:event:{SCHEMA_VERSION}",
        **body,
        **({"$defs": schema["$defs"]} if schema["$defs"] else {}),
    }
