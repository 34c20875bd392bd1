"""Span exports as JSON: OTLP requests as the Collector writes them to files, and two others.

These are what the Python SDK prints and what any-agent writes to its trace files. Their record is a
trace: ``{"spans": [...]}`` or an array of spans, bare or under ``record``; a span is an object or a
string holding one. Ids are integers or hexadecimal, times integers or ISO 8601.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.limits import Limits
from ingest.otlp import json
from ingest.otlp.attributes import Span
from ingest.otlp.translate import agent_of, event_of
from ingest.otlp.truncation import ns_from_iso


class _Context(msgspec.Struct):
    trace_id: int | str
    span_id: int | str


class _Parent(msgspec.Struct):
    span_id: int | str | None = None


class _Status(msgspec.Struct):
    status_code: str | None = None
    description: str | None = None


class _SpanEvent(msgspec.Struct):
    name: str = ""
    attributes: dict[str, Any] | None = None


class _Resource(msgspec.Struct):
    attributes: dict[str, Any] | None = None


class _Span(msgspec.Struct):
    name: str
    context: _Context
    start_time: int | str
    end_time: int | str | None = None
    status: _Status = msgspec.field(default_factory=_Status)
    parent: _Parent | None = None
    parent_id: int | str | None = None
    attributes: dict[str, Any] | None = None
    events: list[_SpanEvent] | None = None
    resource: _Resource = msgspec.field(default_factory=_Resource)


class _Trace(msgspec.Struct):
    spans: list[msgspec.Raw] | None = None
    record: list[msgspec.Raw] | None = None


_trace = msgspec.json.Decoder(_Trace)
_array = msgspec.json.Decoder(list[msgspec.Raw])
_string = msgspec.json.Decoder(str)
_span = msgspec.json.Decoder(_Span)


def recognises(record: Any) -> bool:
    """Tell whether a decoded JSON value is a trace or an OTLP request."""
    if isinstance(record, dict) and "resourceSpans" in record:
        return True
    if isinstance(record, dict):
        record = record.get("spans", record.get("record"))
    if not (isinstance(record, list) and record):
        return False
    first = record[0]
    if isinstance(first, str):
        return '"context"' in first
    return isinstance(first, dict) and "context" in first


def read(record: bytes, agent: str | None = None) -> Iterator[Event | Rejected]:
    """Yield one event, or one rejection, per span.

    Parameters
    ----------
    record
        JSON text of a trace.
    agent
        Name to use instead of the one in the spans.
    """
    items = list(spans_of(record))
    spans = [item for item in items if isinstance(item, Span)]
    by_trace: defaultdict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    # An export is of one program: a trace whose root is missing has the agent of the others.
    whole = agent_of(spans)
    agents = {trace: agent_of(of_trace) or whole for trace, of_trace in by_trace.items()}
    for item in items:
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            event = event_of(item, agents[item.trace_id])
        except Rejected as rejected:
            yield rejected
        else:
            yield msgspec.structs.replace(event, agent=agent) if agent else event


def spans_of(record: bytes) -> Iterator[Span | Rejected]:
    """Yield the spans of a trace, or why one is none."""
    if record[:_HEAD].lstrip().startswith(_OTLP):
        return json.spans(record, _UNBOUNDED)
    return map(_parse, _spans(record))


_OTLP: Final = b'{"resourceSpans"'
_HEAD: Final = 64
_UNBOUNDED: Final = Limits(max_records=2**62)


def _spans(record: bytes) -> Iterator[bytes]:
    if record.lstrip().startswith(b"["):
        parts = _array.decode(record)
    else:
        trace = _trace.decode(record)
        parts = trace.spans if trace.spans is not None else trace.record or []
    for part in map(bytes, parts):
        yield _string.decode(part).encode() if part.startswith(b'"') else part


def _parse(raw: bytes) -> Span | Rejected:
    try:
        s = _span.decode(raw)
        parent = s.parent.span_id if s.parent else s.parent_id
        exceptions = [e.attributes or {} for e in s.events or () if e.name == "exception"]
        return Span(
            trace_id=_hex(s.context.trace_id, 32),
            span_id=_hex(s.context.span_id, 16),
            parent_id=None if parent is None else _hex(parent, 16),
            name=s.name,
            start_ns=_ns(s.start_time),
            end_ns=None if s.end_time is None else _ns(s.end_time),
            failed=(s.status.status_code or "").lower() == "error",
            status_message=s.status.description,
            attributes={**(exceptions[-1] if exceptions else {}), **(s.attributes or {})},
            resource=s.resource.attributes or {},
        )
    except (msgspec.DecodeError, ValueError) as error:
        return Rejected(RejectionCode.INVALID_FIELD, f"span: {error}")


def _hex(number: int | str, digits: int) -> str:
    try:
        value = int(number, 16) if isinstance(number, str) else number
    except ValueError:
        raise ValueError("an id is not hexadecimal") from None
    if not 0 < value < 1 << 4 * digits:
        raise ValueError("an id out of range")
    return f"{value:0{digits}x}"


def _ns(time: int | str) -> int:
    return time if isinstance(time, int) else ns_from_iso(time)
