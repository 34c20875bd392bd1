"""Log events of the semantic conventions: what was said to a model and by it, and judgements.

A log record has no id of its own; its event's id is a hash of all that it says, so that the same
record sent twice is one event. Records that speak of no agent yield nothing, and so do those that
repeat the history of a conversation, whose system prompts, answers and results others tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from xxhash import xxh3_64_hexdigest

from ingest.core.events import Event
from ingest.otlp import chat_messages
from ingest.otlp import conventions as names
from ingest.otlp.attributes import Span
from ingest.otlp.translate import event_of, score_of
from ingest.otlp.truncation import content

_encode = msgspec.json.Encoder(order="deterministic").encode

_DETAILS = "gen_ai.client.inference.operation.details"


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A log record in OpenTelemetry's terms, whatever its encoding was.

    Attributes
    ----------
    name
        Name of the event; that of the attribute ``event.name`` when empty.
    trace_id, span_id
        Lower-case hexadecimal; None when the record stands alone.
    """

    name: str
    time_ns: int
    trace_id: str | None = None
    span_id: str | None = None
    body: Any = None
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)
    resource: Mapping[str, Any] = msgspec.field(default_factory=dict)


def events_of(record: Record) -> Iterator[Event]:
    """Yield the events of a log record, none when it says nothing of an agent.

    Raises
    ------
    Rejected
        When the record has no time that the contract can hold.

    Notes
    -----
    Instrumentations of the older conventions log the user's messages again at every call; each of
    them is an event.
    """
    name = record.name or record.attributes.get("event.name")
    if name == names.EVALUATION_EVENT:
        judged = {**_mapping(record.body), **record.attributes}
        base = _base(record)
        score = score_of(judged, base, record.time_ns, f"score:{_identity(record)}")
        parent = f"{record.trace_id}:{record.span_id}:span" if record.span_id else None
        yield msgspec.structs.replace(score, parent_id=parent)
    elif name == _DETAILS:
        found = {**_mapping(record.body), **record.attributes}
        said = chat_messages.parse(found.get("gen_ai.input.messages")) or []
        told = chat_messages.parse(found.get("gen_ai.output.messages")) or []
        yield from _message(record, "user", chat_messages.asked(said))
        yield from _message(record, "agent", _final(told))
    elif name == "gen_ai.user.message":
        message = chat_messages.of_event(name, _mapping(record.body) or record.attributes)
        yield from _message(
            record, "user", chat_messages.asked(chat_messages.parse([message]) or [])
        )
    elif name == "gen_ai.choice":
        message = chat_messages.of_event(name, _mapping(record.body) or record.attributes)
        yield from _message(record, "agent", _final(chat_messages.parse([message]) or []))


def _final(told: list[chat_messages.Message]) -> str | None:
    """Text of an answer to the user; a message that calls tools is none."""
    return chat_messages.answered(m for m in told if not m.calls_tools)


def _message(record: Record, role: Literal["user", "agent"], text: str | None) -> Iterator[Event]:
    if text:
        base = _base(record)
        yield msgspec.structs.replace(
            base,
            event_id=f"{base.event_id.removesuffix(':span')}:{role}:{_identity(record)}",
            parent_id=f"{record.trace_id}:{record.span_id}:span" if record.span_id else None,
            kind="user_message" if role == "user" else "agent_message",
            content=content(text),
        )


def _base(record: Record) -> Event:
    """Return who, when and where, as of a span at that moment."""
    known = {n: v for n, v in record.attributes.items() if n in names.table("decision")}
    event = event_of(
        Span(
            trace_id=record.trace_id or "log",
            span_id=record.span_id or "log",
            parent_id=record.span_id or "log",
            name=record.name,
            start_ns=record.time_ns,
            end_ns=None,
            attributes=known,
            resource=record.resource,
        )
    )
    return msgspec.structs.replace(
        event,
        interaction_id=record.trace_id,
        parent_id=None,
        name=None,
        status="ok",
        error_type=None,
        error_message=None,
        content=None,
        attributes=None,
    )


def _identity(record: Record) -> str:
    said = [record.name, record.time_ns, record.body, record.attributes, record.resource]
    return xxh3_64_hexdigest(_encode(said))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
