"""Log events: what was said to a model and by it, judgements, and the work of coding agents.

A log record has no id of its own; its event's id is a hash of all that it says, so that the same
record sent twice is one event. Records that speak of no agent yield nothing but a reason, and so do
those that repeat the history of a conversation, whose system prompts, answers and results others
tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
from xxhash import xxh3_64_hexdigest

from ingest.core.events import Event
from ingest.otlp import chat_messages, coding_agents
from ingest.otlp import conventions as names
from ingest.otlp.attributes import Span
from ingest.otlp.dialects import TOLD_BY_SPANS
from ingest.otlp.structures import encode, mapping, structure
from ingest.otlp.translate import SAID_BY, event_of, events_of, score_of
from ingest.otlp.truncation import content

DETAILS: Final = "gen_ai.client.inference.operation.details"
_SPOKEN: Final = ("gen_ai.user.message", "gen_ai.choice")
_HISTORY: Final = frozenset(names.MESSAGE_EVENTS) - {*_SPOKEN}
_TWICE: Final = "installation.id"
"""Attribute of Gemini CLI, which logs each call under a name of its own as well."""

_FAILED_CALL: Final = frozenset({"gen_ai.operation.name", "error.type"})
"""Attributes of a log event of a call that failed, which has no tokens."""


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A log record in OpenTelemetry's terms, whatever its encoding was.

    Attributes
    ----------
    name
        Name of the event; that of the attribute ``event.name`` when empty.
    trace_id, span_id
        Lower-case hexadecimal; None when the record stands alone.
    scope
        Name of the instrumentation scope.
    """

    name: str
    time_ns: int
    trace_id: str | None = None
    span_id: str | None = None
    body: Any = None
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)
    resource: Mapping[str, Any] = msgspec.field(default_factory=dict)
    scope: str = ""


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A record that yields nothing: the name of its event, and why."""

    name: str
    reason: str


def name_of(record: Record) -> str:
    """Full name of a record's event."""
    return coding_agents.name_of(record.name, record.body, record.attributes)


def translate(record: Record) -> list[Event] | Ignored:
    """Events of a log record, or why there are none.

    Raises
    ------
    Rejected
        When the record has no time that the contract can hold.

    Notes
    -----
    Instrumentations of the older conventions log the user's messages again at every call; each of
    them is an event here, the last of a call in `ingest.otlp.events_of_logs`.
    """
    name = name_of(record)
    if coding_agents.speaks(name):
        reason = coding_agents.ignored(name, record.attributes, record.span_id)
        if reason:
            return Ignored(name, reason)
        return _of_coding_agent(name, record) or Ignored(name, "no_words")
    if name == names.EVALUATION_EVENT:
        return [_score(record)]
    if name == DETAILS and record.span_id is None and record.scope in TOLD_BY_SPANS:
        return Ignored(name, "told_by_spans")
    if name == DETAILS:
        return list(_details(record)) or Ignored(name, "no_words")
    if name in _SPOKEN:
        return list(_spoken(name, record)) or Ignored(name, "no_words")
    if name in _HISTORY:
        return Ignored(name, "history")
    said = _body(record) if record.span_id and isinstance(record.body, dict) else {}
    if "input" in said or "output" in said:
        return list(_words(said.get("input"), said.get("output"), record)) or Ignored(
            name, "no_words"
        )
    return Ignored(name, "no_agent_work")


def _of_coding_agent(name: str, record: Record) -> list[Event]:
    return coding_agents.events(
        name,
        record.time_ns,
        record.trace_id,
        record.attributes,
        record.resource,
        record.scope,
        _identity(record),
        record.span_id,
    )


def _score(record: Record) -> Event:
    judged = {**_body(record), **record.attributes}
    score = score_of(judged, _base(record), record.time_ns, f"score:{_identity(record)}")
    return msgspec.structs.replace(score, parent_id=_parent(record))


def _details(record: Record) -> Iterator[Event]:
    found = {**_body(record), **record.attributes}
    ended = not names.TOKENS.isdisjoint(found) or found.keys() >= _FAILED_CALL
    is_call = ended and not names.MODELS.isdisjoint(found)
    if is_call and record.span_id is None and _TWICE not in found:
        yield from _call(found, record)
        return
    yield from _words(
        found.get("gen_ai.input.messages"), found.get("gen_ai.output.messages"), record
    )


def _words(heard: Any, told: Any, record: Record) -> Iterator[Event]:
    yield from _message(record, "user", chat_messages.asked(chat_messages.parse(heard) or []))
    yield from _message(record, "agent", chat_messages.final(chat_messages.parse(told) or []))


def _call(found: Mapping[str, Any], record: Record) -> list[Event]:
    """A call that no span tells of."""
    return events_of(
        Span(
            trace_id=record.trace_id or _identity(record),
            span_id=_identity(record),
            parent_id=None,
            name=DETAILS,
            start_ns=record.time_ns,
            end_ns=None,
            attributes=found,
            resource=record.resource,
            scope=record.scope,
            of_log=True,
        )
    )


def _spoken(name: str, record: Record) -> Iterator[Event]:
    message = chat_messages.of_event(name, _body(record) or record.attributes)
    messages = chat_messages.parse([message]) or []
    if name == "gen_ai.choice":
        yield from _message(record, "agent", chat_messages.final(messages))
    else:
        yield from _message(record, "user", chat_messages.asked(messages))


def _message(record: Record, role: Literal["user", "agent"], text: str | None) -> Iterator[Event]:
    if text:
        base = _base(record)
        yield msgspec.structs.replace(
            base,
            event_id=f"{base.event_id.removesuffix(':span')}:{role}:{_identity(record)}",
            parent_id=_parent(record),
            kind="user_message" if role == "user" else "agent_message",
            content=content(text),
            attributes={SAID_BY: "llm_call"},
        )


def _body(record: Record) -> dict[str, Any]:
    """The object that a body is, also as JSON text (from Python's logging)."""
    return mapping(structure(record.body))


def _parent(record: Record) -> str | None:
    return f"{record.trace_id}:{record.span_id}:span" if record.span_id else None


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
            scope=record.scope,
            of_log=True,
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
    return xxh3_64_hexdigest(encode(said))
