"""What a span is and which of its attributes speak of what, by `ingest.otlp.conventions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

import msgspec

from ingest.core.events import Kind
from ingest.otlp import chat_messages, conventions
from ingest.otlp.dialects import (
    CANCELLED_IF,
    CONTEXT,
    FINISHES_IN,
    FINISHES_WITH,
    GRAPH_NODE_KEYS,
    GRAPH_NODES,
    PAUSED_IF,
    PAUSED_WITH,
    PAUSES_IN,
    SCOPE_OF_NAME,
    TOLD_BY_LOGS,
    TOLD_WHEN_STREAMED,
    TOOL_IF,
)

SERVER: Final = 2
"""SPAN_KIND_SERVER."""


class SpanEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a span: a token that came, an exception, a judgement."""

    name: str
    time_ns: int
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Span(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A span in OpenTelemetry's terms, whatever its encoding was.

    Attributes
    ----------
    trace_id, span_id, parent_id
        Lower-case hexadecimal, 32 and 16 digits; no parent at the root.
    start_ns, end_ns
        0 and None when the exporter did not say.
    attributes
        The span's own, and below them those of its exception events.
    kind
        SPAN_KIND by its number.
    remote_parent
        The parent is a span of another process, which may well be one that nobody sends us.
    scope
        Name of the instrumentation scope.
    of_log
        Made of a log record, which does not say what is above it.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int | None
    failed: bool = False
    status_message: str | None = None
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)
    resource: Mapping[str, Any] = msgspec.field(default_factory=dict)
    kind: int = 0
    remote_parent: bool = False
    moments: Sequence[SpanEvent] = ()
    scope: str = ""
    of_log: bool = False

    @property
    def is_entry(self) -> bool:
        """Whether nobody of this process called it: what it does is a whole interaction."""
        return self.parent_id is None or self.remote_parent or _APP_ROOT in self.attributes


_APP_ROOT: Final = "langfuse.internal.is_app_root"


class Told(NamedTuple):
    """What a span is, the attribute that told it (None: its name or nothing), and its dialect.

    ``dialect`` is empty when nothing told it.
    """

    kind: Kind
    by: str | None
    dialect: str


class MappedAttributes(NamedTuple):
    """A span's attributes, sorted.

    Attributes
    ----------
    values
        Field to what an attribute says of it.
    sources
        Field to rank and name of that attribute.
    flat
        Attributes of flattened lists.
    rest
        All others.
    messages
        Messages of ``input`` and ``output`` once somebody has looked for them.
    """

    values: dict[str, Any]
    sources: dict[str, tuple[int, str]]
    flat: dict[str, Any]
    rest: dict[str, str | None]
    messages: dict[str, Sequence[Any]]

    def get(self, field: str) -> Any:
        """Value of a field, None when no attribute gave one."""
        return self.values.get(field)


def told(span: Span) -> Told:
    """Find what a span is, by its attributes, its name and its place."""
    meaning, by, dialect = _meaning(span)
    if meaning == conventions.ENTRY:
        return Told("interaction" if span.is_entry else "span", by, dialect)
    if meaning == conventions.CHAIN:
        inner = not span.is_entry and _is_inner_chain(span)
        return Told("span" if inner else "interaction", by, dialect)
    if meaning == "tool_call" or (
        meaning == "interaction" and TOOL_IF.get(by or "", "") in span.attributes
    ):
        return Told(_kind_of_call(span), by, dialect)
    if meaning == conventions.DECISION:
        return Told("human_input" if by_person(span.attributes) else "span", by, dialect)
    if meaning == "llm_call" and (
        span.name.endswith(conventions.PREPARATION) or _is_told_when_streamed(span)
    ):
        return Told("span", by, dialect)
    return Told(cast("Kind", meaning), by, dialect)


def _is_told_when_streamed(span: Span) -> bool:
    """Tell whether a call that did not fail only began a stream, of which another span tells."""
    name, streams, kind = TOLD_WHEN_STREAMED
    request = span.attributes.get(name)
    if not isinstance(request, str) or span.failed or span.attributes.get(kind) == "log":
        return False
    return streams.search(request) is not None


def by_person(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a person decided, and not a configuration."""
    return (string(attributes.get("source")) or "").lower().startswith("user")


def _meaning(span: Span) -> tuple[str, str | None, str]:
    if span.scope in TOLD_BY_LOGS and not span.of_log:
        return "span", None, TOLD_BY_LOGS[span.scope]
    named = conventions.KIND_NAMES.get(span.name)
    if named is not None and SCOPE_OF_NAME.get(span.name, span.scope) != span.scope:
        named = None
    if named is not None and named[0] == "span":
        return "span", None, named[1]  # a step, whatever its attributes say
    attributes = span.attributes
    for name, meanings in _KINDS:
        if name in attributes:
            value = attributes[name]
            if isinstance(value, str):
                found = meanings.get(value) or meanings.get(value.strip('"').lower())
                if found is not None:
                    return found[0], name, found[1]
    if named is not None:
        return named[0], None, named[1]
    if not _MODELS.isdisjoint(attributes) and not _TOKENS.isdisjoint(attributes):
        return "llm_call", None, conventions.GENERIC
    if attributes.keys() >= conventions.TOOL_CALL:
        return "tool_call", None, conventions.GENERIC
    if span.name.startswith(_BEGINNINGS):
        found = next(t for p, t in conventions.KIND_PREFIXES.items() if span.name.startswith(p))
        return found[0], None, found[1]
    for name in attributes:
        if name in CONTEXT:
            return "span", None, CONTEXT[name]
    return conventions.DEFAULT_KIND, None, ""


_KINDS: Final = tuple(conventions.KIND_ATTRIBUTES.items())
_BEGINNINGS: Final = tuple(conventions.KIND_PREFIXES)
_MODELS: Final = conventions.MODELS
_TOKENS: Final = conventions.TOKENS


def _kind_of_call(span: Span) -> Kind:
    if span.kind == SERVER and span.parent_id is not None and "mcp.method.name" in span.attributes:
        return "span"  # the other end of a call that its client counts
    attributes = span.attributes
    tool = next((str(attributes[name]) for name in _TOOLS if name in attributes), span.name)
    if conventions.HANDOFF.match(tool) or conventions.HANDOFF.match(span.name):
        return "handoff"
    if conventions.HUMAN_INPUT.fullmatch(tool) or is_human_interrupt(span):
        return "human_input"
    return "tool_call"


_TOOLS: Final = tuple(conventions.named("tool"))
"""Attributes that name the tool, the first first."""


def _is_inner_chain(span: Span) -> bool:
    if any(name in span.attributes for name in GRAPH_NODES):
        return True
    metadata = span.attributes.get("metadata")
    if isinstance(metadata, str) and any(f'"{key}"' in metadata for key in GRAPH_NODE_KEYS):
        return True
    return conventions.INNER_CHAIN.fullmatch(span.name) is not None


def gather(span_attributes: Mapping[str, Any], kind: Kind) -> MappedAttributes:
    """Sort attributes by the fields they speak of; of several for one field the first counts."""
    table, flattened = conventions.table(kind), conventions.FLATTENED
    values: dict[str, Any] = {}
    sources: dict[str, tuple[int, str]] = {}
    flat: dict[str, Any] = {}
    rest: dict[str, str | None] = {}
    for name, value in span_attributes.items():
        meaning = table.get(name)
        if meaning is None:
            if name.startswith(flattened) and conventions.is_flattened(name):
                flat[name] = value
            else:
                rest[name] = value if isinstance(value, str) else string(value)
            continue
        field, form, source, _ = meaning
        given: Any = value
        if form == "number":
            given = number(value)
            fits = given is not None
        else:
            fits = value is not None and value != "" and (form == "any" or value not in _NOTHING)
        before = sources.get(field)
        if not fits or (before is not None and before < source):
            rest[name] = string(value)
            continue
        if before is not None:
            rest[before[1]] = string(values[field])
        sources[field] = source
        values[field] = given if form != "text" else _text(value)
    return MappedAttributes(values, sources, flat, rest, {})


def with_moments(own: Mapping[str, Any], moments: Sequence[SpanEvent]) -> dict[str, Any]:
    """Return a span's attributes with what its events say of exceptions and messages."""
    merged = {**_of_moments(moments), **own}
    spoken: dict[str, list[Any]] = {"input": [], "output": []}
    for moment in moments:
        if moment.name in conventions.MESSAGE_EVENTS:
            which = "output" if moment.name == conventions.ANSWER_EVENT else "input"
            spoken[which].append(chat_messages.of_event(moment.name, moment.attributes))
            if which == "output" and isinstance(moment.attributes.get("finish_reason"), str):
                reasons = [moment.attributes["finish_reason"]]
                merged.setdefault("gen_ai.response.finish_reasons", reasons)
    is_tool = merged.get("gen_ai.operation.name") == "execute_tool"
    for which, said in spoken.items():
        if said and is_tool:
            merged.setdefault(conventions.TOOL_SAID[which], said[0]["content"])
        elif said:
            merged.setdefault(f"gen_ai.{which}.messages", said)
    return merged


def _of_moments(moments: Sequence[SpanEvent]) -> dict[str, Any]:
    """Attributes of events that are as good as the span's own; the last exception ended it."""
    found: dict[str, Any] = {}
    for moment in moments:
        if moment.name in conventions.DETAIL_EVENTS:
            found |= moment.attributes
        elif moment.name == conventions.CANCELLED_EVENT:
            found["error.type"] = "cancelled"
    return found


def is_human_interrupt(span: Span) -> bool:
    """Tell whether a span ended only because its agent stopped to wait for a person.

    Some frameworks call that an error and some do not; the exception says it either way.
    """
    given = span.attributes
    if not PAUSED_WITH.isdisjoint(given):
        return True
    if not _PAUSED.isdisjoint(given) and (
        says(given, PAUSED_IF) or any(_raised(span, name) in conventions.PAUSES for name in _RAISED)
    ):
        return True
    return not _PAUSES_IN.isdisjoint(given) and any(_asks(given.get(name)) for name in PAUSES_IN)


def _asks(result: Any) -> bool:
    return (
        isinstance(result, str)
        and result.startswith('{"error"')
        and conventions.ASKS_APPROVAL in result
    )


_RAISED: Final = (
    "exception.type", "pydantic_ai.tool.deferral.name", "langfuse.observation.status_message",
)  # fmt: skip
_PAUSED: Final = frozenset((*_RAISED, *PAUSED_IF))
_PAUSES_IN: Final = frozenset(PAUSES_IN)


def says(span_attributes: Mapping[str, Any], table: Mapping[str, frozenset[str]]) -> bool:
    """Tell whether an attribute has one of the values that a table gives for it."""
    for name, values in table.items():
        if name in span_attributes:
            value = span_attributes[name]
            if (value if isinstance(value, str) else string(value)) in values:
                return True
    return False


def is_control_flow(span: Span) -> bool:
    """Tell whether what a span raised only says where its program goes on."""
    return any(
        _raised(span, name) in conventions.CONTROL_FLOW for name in ("exception.type", "error.type")
    )


def is_cancelled(span: Span) -> bool:
    """Tell whether a span ended because somebody stopped it."""
    if not span.failed and (is_broken_off(span.attributes) or is_unfinished(span)):
        return True
    if not _STOPPED.isdisjoint(span.attributes) and (
        any(_raised(span, name).lower() in conventions.CANCELLATIONS for name in _ENDS)
        or "strands.cancellation.type" in span.attributes
        or says(span.attributes, CANCELLED_IF)
    ):
        return True
    if not span.failed:
        return False
    messages = span.status_message, *map(span.attributes.get, _MESSAGES)
    return any(
        isinstance(text, str) and text.rstrip(".").lower().endswith(conventions.CANCELLED)
        for text in messages
    )


def is_broken_off(given: Mapping[str, Any]) -> bool:
    """Tell whether a span that ought to say why it finished does not."""
    for name, kinds in FINISHES_WITH.items():
        kind = given.get(name)
        if isinstance(kind, str) and kind in kinds:
            reason, text = kinds[kind]
            return given.get(reason) is None or (given[reason] == "unknown" and not given.get(text))
    return False


def is_unfinished(span: Span) -> bool:
    """Tell whether a span of a scope that says why its runs finished does not."""
    says_why = FINISHES_IN.get(span.scope)
    if says_why is None or not span.name.startswith(says_why[0]):
        return False
    begins, name, reason = says_why
    return reason not in span.attributes and span.name == f"{begins}{span.attributes.get(name)}"


_MESSAGES: Final = ("exception.message", "error.message", "error")
_ENDS: Final = ("exception.type", "error.type")
_STOPPED: Final = frozenset((*_ENDS, "strands.cancellation.type", *CANCELLED_IF))


def _raised(span: Span, name: str) -> str:
    """Name of an exception without its module, also of one that is printed as a message."""
    text = string(span.attributes.get(name)) or ""
    if name == "exception.type" and text in conventions.UNTOLD:
        text = string(span.attributes.get("exception.message")) or ""
    printed = conventions.PRINTED.match(text)
    return (printed[1] if printed else text).rpartition(".")[2]


def number(value: Any) -> int | float | None:
    """Return a number that the contract can hold, also of a text; None when it is none.

    >>> number("12"), number(" 1.5 "), number(-3), number(True), number("nan")
    (12, 1.5, None, None, None)
    """
    if type(value) is int:
        return value if 0 <= value <= 1e15 else None
    if isinstance(value, str):
        try:
            value = float(value) if not value.isdecimal() else int(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= 1e15 else None


_NOTHING: Final = ("", "none", "None", "N/A", "null", "undefined")
"""What senders write for a value that there is none of."""


def _text(value: Any) -> str | None:
    """Text of a value; of one that is quoted as JSON, what is in the quotes."""
    if not isinstance(value, str):
        return string(value)
    if value[0] == '"' and len(value) > 1 and value[-1] == '"':
        with suppress(ValueError):
            return msgspec.json.decode(value, type=str)
    return value


def string(value: Any) -> str | None:
    """Return a text as it is and anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
