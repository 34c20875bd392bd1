"""Exports as JSON: OTLP requests as the Collector writes them to files, and two forms of spans.

Requests, of spans or of log records, one or an array of them, in any white space, become the same
events as at the gateway. The two others are what the Python SDK prints and what any-agent writes to
its trace files. Their record is a trace: ``{"spans": [...]}`` or an array of spans, bare or under
``record``; a span is an object or a string holding one. Ids are integers or hexadecimal, times
integers or ISO 8601.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ingest import otlp
from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.limits import Limits
from ingest.otlp import json
from ingest.otlp.attributes import Span
from ingest.otlp.translate import agent_of, events_of
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
    if _is_request(record[0] if isinstance(record, list) and record else record):
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
    """Yield the events of each span or log record, or one rejection.

    Parameters
    ----------
    record
        JSON text of a trace.
    agent
        Name to use instead of the one in the spans.
    """
    requests = _requests(record)
    if requests:
        for request in requests:
            yield from _of_request(request, agent)
        return
    items = list(spans_of(record))
    spans = [item for item in items if isinstance(item, Span)]
    by_trace: defaultdict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    # An export is of one program: a trace whose root is missing has the agent of the others.
    whole = agent_of(spans)
    agents = {trace: agent_of(of_trace) or whole for trace, of_trace in by_trace.items()}
    for item in items:
        try:
            if isinstance(item, Rejected):
                raise item
            events = events_of(item, agent=agents[item.trace_id])
        except Rejected as rejected:
            yield rejected
        else:
            yield from (_named(event, agent) for event in events)


def _of_request(request: bytes, agent: str | None) -> Iterator[Event | Rejected]:
    decode = otlp.events_of_logs if _LOGS.search(request) else otlp.events_of_traces
    found = decode(request, encoding="json", limits=_UNBOUNDED)
    yield from (_named(event, agent) for event in found.events)
    yield from (Rejected(refused.code, refused.detail) for refused in found.rejected)
    for ignored, count in found.ignored.items():
        detail = f"log records of no use, for instance {ignored.name} ({ignored.reason})"
        yield from itertools.repeat(Rejected(IGNORED, detail), count)


IGNORED: Final = "ignored_log"
"""Code of log records that are no events, and are meant to be none."""

_LOGS: Final = re.compile(rb'"resource_?[Ll]ogs"')
_REQUEST: Final = re.compile(rb'"resource_?(?:[Ll]ogs|[Ss]pans)"')
_HEAD: Final = 4096
_UNBOUNDED: Final = Limits(max_records=2**62)


def _named(event: Event, agent: str | None) -> Event:
    return msgspec.structs.replace(event, agent=agent) if agent else event


def _is_request(value: Any) -> bool:
    keys = value.keys() if isinstance(value, dict) else ()
    return any(_REQUEST.fullmatch(f'"{key}"'.encode()) for key in keys)


def _requests(record: bytes) -> list[bytes]:
    """OTLP requests of a record, one or an array; empty when it is something else."""
    if not _REQUEST.search(record, 0, _HEAD):
        return []
    items = _array.decode(record) if record.lstrip().startswith(b"[") else [record]
    return [bytes(item) for item in items]


def spans_of(record: bytes) -> Iterator[Span | Rejected]:
    """Yield the spans of a trace, or why one is none."""
    requests = _requests(record)
    if requests:
        return itertools.chain.from_iterable(json.spans(r, _UNBOUNDED) for r in requests)
    return map(_parse, _spans(record))


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
