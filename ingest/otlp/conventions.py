"""How the tables of `ingest.otlp.dialects` are looked up, and what all dialects have in common.

`told` finds what a span is, `table` what each attribute says of a span of one kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final, Literal, NamedTuple

from ingest.core.events import Kind
from ingest.otlp.dialects import CHAIN, DECISION, DIALECTS, ENTRY, FIRST_ASKED

__all__ = ("CHAIN", "DECISION", "DIALECTS", "ENTRY")

DEFAULT_KIND: Final[Kind] = "span"
"""A span that nothing tells the kind of is work of its service, not of an agent."""

GENERIC: Final = "generic"
"""Dialect of a span that is a model call only because it says a model and token counts."""

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


KEPT_AS: Final = {"provider": "gen_ai.provider.name"}
"""Fields that the contract does not have become attributes of one name, whatever the dialect."""

FIRST_TOKEN_EVENTS: Final = frozenset(
    {
        "First Token Stream Event",
        "gen_ai.content.completion.chunk",
        "llm.content.completion.chunk",
        "mlflow.chunk.item.0",
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

MESSAGE_KEYS: Final = frozenset({"content", "message", "gen_ai.event.content"})
"""Attributes of such an event that hold its message."""

TOOL_SAID: Final = {
    "input": "gen_ai.tool.call.arguments",
    "output": "gen_ai.tool.call.result",
}
"""What messages are on the span of a tool."""

EVALUATION_EVENT: Final = "gen_ai.evaluation.result"

HANDOFF: Final = re.compile(
    r"(?:handoff-)?(?:transfer|hand_?off|handover|escalate)(?: from \S.*?)?"
    r"(?:[_ ](?:back_)?to[_ ]|(?-i:To(?=[A-Z])))(?P<to>.+)"
    r"|delegate[_ ]work[_ ]to[_ ].+",
    re.IGNORECASE,
)
"""Names of tools and steps by which one agent passes the user on to another."""

HUMAN_INPUT: Final = re.compile(
    r"(?:get_?|request_?|ask_?(?:for_?)?)?(?:human|user)_?(?:input|assistance|approval|feedback)"
    r"|ask_?(?:human|user)(?:_?questions?)?|(?:vscode_)?ask_?questions|human_in_the_loop|human",
    re.IGNORECASE,
)
"""Names of tools by which an agent waits for a person."""

INNER_CHAIN: Final = re.compile(r"Step \d+")
"""Names of chains that are always steps of an agent (smolagents)."""

PREPARATION: Final = "._prepare_chat_with_tools"
"""End of the name of what LlamaIndex says is a model call, and only prepares one."""

ASKED: Final = re.compile(
    r"(?:New task|Based on the above, please provide an answer to the following user task):\n(.*)"
    r"|\s*Current Task: (.*?)\s+This is the expect\w* criteria for your final answer:.*",
    re.DOTALL,
)
"""The words of the user within what smolagents and CrewAI put around them for a model."""

PAUSES: Final = frozenset(
    {"GraphInterrupt", "NodeInterrupt", "ApprovalRequired", "CallDeferred", "Interrupt",
     "InterruptException", "NodeInterruptedError", "WaitingForEvent"}
)  # fmt: skip
"""Exceptions, without their module, by which frameworks stop and wait for a person."""

ASKS_APPROVAL: Final = "This tool call requires confirmation"
"""What ADK gives a model for the result of a tool that waits for a person's approval."""

PRINTED: Final = re.compile(r"\(?([A-Za-z_][\w.]*)\(")
"""How a message begins that is an exception, or several, as Python prints them."""

UNTOLD: Final = frozenset({"Exception", "Error"})
"""Types of exceptions that say less than a message that is one as Python prints it."""

CONTROL_FLOW: Final = frozenset({"ParentCommand"})
"""Exceptions, without their module, by which frameworks go on elsewhere: neither error nor end."""

CANCELLATIONS: Final = frozenset(
    {
        "cancellederror",
        "keyboardinterrupt",
        "aborterror",
        "abort_err",
        "apiuseraborterror",
        "responseaborted",
        "cancelederror",
        "generatorexit",
        "cancellationexception",
        "jobcancellationexception",
        "taskcanceledexception",
        "operationcanceledexception",
        "operationcancelledexception",
        "runcancelledexception",
        "workflowcancelledbyuser",
        "cancelled",
        "canceled",
    }
)
"""Exceptions and error types, in lower case, that say that somebody stopped the work."""

CANCELLED: Final = (
    "context canceled", "operation was aborted", "request was aborted", "agent interrupted",
)  # fmt: skip
"""How messages end that say so where types do not: of Go, of browsers and Node, of the SDKs of
OpenAI and Anthropic, of smolagents."""

CANCELLED_EVENT: Final = "span.cancelled"
"""Event of a span, whose status is ok, by which LlamaIndex's instrumentation says so."""

Form = Literal["text", "number", "any"]
"""A text; a number that the contract can hold; or a structure as it is."""

_FORMS: Final[Mapping[str, Form]] = {
    **dict.fromkeys(
        (
            "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens",
            "cache_write_tokens", "input_audio", "output_audio", "cost_usd", "input_cost",
            "output_cost", "first_token_s", "first_token_ms",
        ),
        "number",
    ),
    **dict.fromkeys(
        (
            "input", "output", "system", "tools", "parameters", "usage", "cost", "metadata",
            "tool_arguments", "tool_result",
        ),
        "any",
    ),
}  # fmt: skip

_ALWAYS: Final = (
    "agent", "agent_version", "environment", "service", "service_version", "session_id", "user_id",
    "workflow", "error_type", "error_message", "exception_message", "metadata",
)  # fmt: skip
_MODEL: Final = (
    "model", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens",
    "cache_write_tokens", "input_audio", "output_audio", "cost_usd", "input_cost", "output_cost",
    "usage", "cost", "provider", "input", "output",
)  # fmt: skip
_TOOL: Final = ("tool", "tool_arguments", "tool_result")

FIELDS_OF: Final[Mapping[Kind, tuple[str, ...]]] = {
    "llm_call": (*_ALWAYS, *_MODEL, "system", "tools", "parameters", "first_token_s",
                 "first_token_ms", "first_token_at"),
    "retrieval": (*_ALWAYS, *_MODEL),
    "tool_call": (*_ALWAYS, *_TOOL),
    "handoff": (*_ALWAYS, *_TOOL),
    "human_input": (*_ALWAYS, *_TOOL),
    "decision": (*_ALWAYS, "input", "output"),
    "interaction": (*_ALWAYS, *_MODEL, "group"),
    "agent_message": (*_ALWAYS, "output"),
    "span": _ALWAYS,
}  # fmt: skip
"""Tokens and cost belong to calls of models. What the span of an agent says of them repeats the
sums of its parts, and counts only where no call says any."""


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


def _kinds() -> dict[str, dict[str, tuple[str, str]]]:
    found: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in FIRST_ASKED}
    for dialect in DIALECTS:
        for attribute, values in dialect.kinds.items():
            means = found.setdefault(attribute, {})
            for value, meaning in values.items():
                means.setdefault(value, (meaning, dialect.name))
    return found


KIND_ATTRIBUTES: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = _kinds()
"""By attribute, in the order in which they are asked: value to its meaning and dialect."""

KIND_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    name: (meaning, dialect.name) for dialect in DIALECTS for name, meaning in dialect.names.items()
}
"""The same by the name of the span."""

KIND_PREFIXES: Final[Mapping[str, tuple[str, str]]] = {
    name[:-1]: told for name, told in KIND_NAMES.items() if name.endswith("*")
}
"""The same by how the name of the span begins."""


def named(*fields: str) -> Iterator[str]:
    """Yield the attributes that some dialect has for fields, the first first."""
    for dialect in DIALECTS:
        for field_ in fields:
            yield from dialect.fields.get(field_, ())


MODELS: Final = frozenset(named("model"))
TOKENS: Final = frozenset(named("input_tokens", "output_tokens"))
"""A span that says one of each is a model call, whatever it is called."""

TOOL_CALL: Final = frozenset({"gen_ai.tool.name", "gen_ai.tool.call.id"})
"""A span that says both is a call of a tool, if nothing says what it is."""

KNOWN: Final = frozenset(
    name for dialect in DIALECTS for names in dialect.fields.values() for name in names
) | frozenset(KIND_ATTRIBUTES)
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
