"""What a span is and which of its attributes speak of what, by `ingest.otlp.conventions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ingest.core.events import Kind
from ingest.otlp import chat_messages, conventions

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

    @property
    def is_entry(self) -> bool:
        """Whether nobody of this process called it: what it does is a whole interaction."""
        return self.parent_id is None or self.remote_parent


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
    """

    values: dict[str, Any]
    sources: dict[str, tuple[int, str]]
    flat: dict[str, Any]
    rest: dict[str, str | None]

    def get(self, field: str) -> Any:
        """Value of a field, None when no attribute gave one."""
        return self.values.get(field)


def kind_of(span: Span) -> Kind:
    """Tell what a span is, by its attributes, its name and its place."""
    told = kind_attribute(span)
    kind: Kind = conventions.DEFAULT_KIND if told is None else _meaning(told, span.attributes[told])
    if kind == "tool_call":
        if (
            span.kind == SERVER
            and span.parent_id is not None
            and "mcp.method.name" in span.attributes
        ):
            return "decision"  # the other end of a call that its client counts
        tool = string(span.attributes.get("gen_ai.tool.name")) or span.name
        if conventions.HANDOFF.match(tool) or conventions.HANDOFF.match(span.name):
            return "handoff"
        if conventions.HUMAN_INPUT.fullmatch(tool) or is_human_interrupt(span):
            return "human_input"
        return kind
    if kind == "decision" and span.is_entry:
        return conventions.AT_ROOT.get(kind, kind)
    return kind


def kind_attribute(span: Span) -> str | None:
    """Name of the attribute that tells a span's kind, None when none does."""
    for attribute in _KINDS:
        if attribute in span.attributes and _meaning(attribute, span.attributes[attribute]):
            return attribute
    return None


_KINDS: Final = dict(conventions.KIND_ATTRIBUTES)


def _meaning(attribute: str, value: Any) -> Any:
    kinds = _KINDS[attribute]
    return kinds.get(value) or kinds.get(value.lower()) if isinstance(value, str) else None


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
        fits = _is_number(value) if form == "number" else value is not None and value != ""
        before = sources.get(field)
        if not fits or (before is not None and before < source):
            rest[name] = string(value)
            continue
        if before is not None:
            rest[before[1]] = string(values[field])
        sources[field] = source
        values[field] = value if isinstance(value, str) or form != "text" else string(value)
    return MappedAttributes(values, sources, flat, rest)


def with_moments(own: Mapping[str, Any], moments: Sequence[SpanEvent]) -> dict[str, Any]:
    """Return a span's attributes with what its events say of exceptions and messages."""
    merged = dict(own)
    spoken: dict[str, list[Any]] = {"input": [], "output": []}
    for moment in moments:
        if moment.name in conventions.DETAIL_EVENTS:
            merged = {**moment.attributes, **merged}
        elif moment.name in conventions.MESSAGE_EVENTS:
            which = "output" if moment.name == conventions.ANSWER_EVENT else "input"
            spoken[which].append(chat_messages.of_event(moment.name, moment.attributes))
    is_tool = merged.get("gen_ai.operation.name") == "execute_tool"
    for which, said in spoken.items():
        if said and is_tool:
            merged.setdefault(conventions.TOOL_SAID[which], said[0]["content"])
        elif said:
            merged.setdefault(f"gen_ai.{which}.messages", said)
    return merged


def is_human_interrupt(span: Span) -> bool:
    """Tell whether a span failed only because its agent stopped to wait for a person."""
    if not span.failed:
        return False
    raised = string(span.attributes.get("exception.type")) or ""
    return raised.rpartition(".")[2] in conventions.PAUSES


def _is_number(value: Any) -> bool:
    """Whether it is a number that the contract can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15


def string(value: Any) -> str | None:
    """Return a text as it is and anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
