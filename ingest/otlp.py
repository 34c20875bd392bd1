"""OTLP trace and log requests, protobuf or JSON, become events; a bad span costs only itself.

Protobuf is read with the published classes of OpenTelemetry on protobuf's C core; JSON by the
mapping of the OTLP specification 1.8 (lower camel case, ids in hexadecimal, 64-bit integers as
strings or numbers), which is not protobuf's own. Both come to the same `ingest.spans.Span`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.errors import Rejected
from ingest.events import Event, RejectionCode
from ingest.limits import Limits
from ingest.spans import Span, event_of

Encoding = Literal["protobuf", "json"]

_ERROR: Final = 2
"""STATUS_CODE_ERROR."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one span or log record is no event; ``detail`` names fields and quotes no content."""

    code: RejectionCode
    detail: str


@dataclass(frozen=True, slots=True)
class Translation:
    """What a request came to.

    Attributes
    ----------
    events
        In the order of the request.
    rejected
        One for each span or log record that cannot become an event.
    ignored
        Log records that speak of no agent; they are neither.
    """

    events: list[Event] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    ignored: int = 0


def events_of_traces(body: bytes, *, encoding: Encoding, limits: Limits) -> Translation:
    """Events of an ``ExportTraceServiceRequest``.

    Parameters
    ----------
    body
        The request, unpacked.
    encoding
        How it is written.
    limits
        ``max_records`` bounds the spans, ``max_depth`` nested values; attributes beyond
        ``max_attributes`` and text beyond ``max_attribute_length`` are cut.

    Raises
    ------
    Rejected
        When the request as a whole cannot be read.
    """
    spans = _protobuf_spans(body, limits) if encoding == "protobuf" else _json_spans(body, limits)
    translation = Translation()
    for item in spans:
        try:
            if isinstance(item, Rejected):
                raise item
            translation.events.append(event_of(item))
        except Rejected as rejected:
            translation.rejected.append(Rejection(RejectionCode(rejected.code), rejected.detail))
    return translation


def events_of_logs(body: bytes, *, encoding: Encoding, limits: Limits) -> Translation:
    """Events of an ``ExportLogsServiceRequest``; parameters and errors as `events_of_traces`."""
    return Translation()


def _protobuf_spans(body: bytes, limits: Limits) -> Iterator[Span | Rejected]:
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise Rejected(RejectionCode.INVALID_PROTOBUF, "not an OTLP request") from None
    _bound_records(sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans), limits)
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes, limits)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield _protobuf_span(span, resource, limits)


def _protobuf_span(span: Any, resource: Mapping[str, Any], limits: Limits) -> Span | Rejected:
    try:
        attributes = _attributes(span.attributes, limits)
        for event in span.events:
            if event.name == "exception":
                attributes = {**_attributes(event.attributes, limits), **attributes}
        parent = span.parent_span_id
        return Span(
            trace_id=_id(span.trace_id, 16),
            span_id=_id(span.span_id, 8),
            parent_id=_id(parent, 8) if parent else None,
            name=span.name,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano or None,
            failed=span.status.code == _ERROR,
            status_message=span.status.message or None,
            attributes=attributes,
            resource=resource,
        )
    except Rejected as rejected:
        return rejected


def _attributes(pairs: Iterable[Any], limits: Limits) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        value = pair.value
        # Most are strings, and asking which field is set costs as much as reading it.
        found[pair.key] = value.string_value or _value(value, limits.max_depth)
    return found


def _value(value: Any, depth: int) -> Any:
    if depth == 0:
        raise Rejected(RejectionCode.TOO_DEEP, "span: an attribute is nested too deeply")
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_value(item, depth - 1) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: _value(pair.value, depth - 1) for pair in value.kvlist_value.values}
        case "bytes_value":
            return value.bytes_value.hex()
        case name:
            return getattr(value, name)


def _id(raw: bytes, size: int) -> str:
    if len(raw) != size or not any(raw):
        raise Rejected(RejectionCode.INVALID_FIELD, "span: an id is missing or has a wrong length")
    return raw.hex()


def _bound_records(count: int, limits: Limits) -> None:
    if count > limits.max_records:
        raise Rejected(RejectionCode.TOO_MANY_RECORDS, f"{count}, at most {limits.max_records}")


class _Camel(msgspec.Struct, rename="camel", gc=False):
    pass


class _AnyValue(_Camel):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: _Array | None = None
    kvlist_value: _KeyValues | None = None
    bytes_value: str | None = None


class _Array(_Camel):
    values: list[_AnyValue] | None = None


class _KeyValue(_Camel):
    key: str = ""
    value: _AnyValue | None = None


class _KeyValues(_Camel):
    values: list[_KeyValue] | None = None


class _SpanEvent(_Camel):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: list[_KeyValue] | None = None


class _Status(_Camel):
    code: int | str = 0
    message: str | None = None


class _Span(_Camel):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    flags: int = 0
    name: str = ""
    kind: int | str = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_KeyValue] | None = None
    events: list[_SpanEvent] | None = None
    status: _Status | None = None


class _ScopeSpans(_Camel):
    spans: list[msgspec.Raw] | None = None


class _Resource(_Camel):
    attributes: list[_KeyValue] | None = None


class _ResourceSpans(_Camel):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Traces(_Camel):
    resource_spans: list[_ResourceSpans] | None = None


_decode_traces = msgspec.json.Decoder(_Traces).decode
_decode_span = msgspec.json.Decoder(_Span).decode


def _json_spans(body: bytes, limits: Limits) -> Iterator[Span | Rejected]:
    request = _decoded(body, _decode_traces)
    _bound_records(
        sum(len(s.spans or ()) for r in request.resource_spans or () for s in r.scope_spans or ()),
        limits,
    )
    for of_resource in request.resource_spans or ():
        attributes = of_resource.resource.attributes if of_resource.resource else None
        resource = _json_attributes(attributes, limits)
        for of_scope in of_resource.scope_spans or ():
            for raw in of_scope.spans or ():
                yield _json_span(raw, resource, limits)


def _json_span(raw: msgspec.Raw, resource: Mapping[str, Any], limits: Limits) -> Span | Rejected:
    try:
        span = _decode_span(raw)
        attributes = _json_attributes(span.attributes, limits)
        for event in span.events or ():
            if event.name == "exception":
                attributes = {**_json_attributes(event.attributes, limits), **attributes}
        status = span.status or _Status()
        return Span(
            trace_id=_hex_id(span.trace_id, 16),
            span_id=_hex_id(span.span_id, 8),
            parent_id=_hex_id(span.parent_span_id, 8) if span.parent_span_id else None,
            name=span.name,
            start_ns=int(span.start_time_unix_nano),
            end_ns=int(span.end_time_unix_nano) or None,
            failed=status.code in (_ERROR, "STATUS_CODE_ERROR"),
            status_message=status.message or None,
            attributes=attributes,
            resource=resource,
        )
    except Rejected as rejected:
        return rejected
    except msgspec.ValidationError as error:
        return Rejected(RejectionCode.INVALID_FIELD, f"span: {error}")
    except ValueError:
        return Rejected(RejectionCode.INVALID_FIELD, "span: a number is none")


def _json_attributes(pairs: list[_KeyValue] | None, limits: Limits) -> dict[str, Any]:
    return {pair.key: _json_value(pair.value, limits.max_depth) for pair in pairs or ()}


def _json_value(value: _AnyValue | None, depth: int) -> Any:
    if depth == 0:
        raise Rejected(RejectionCode.TOO_DEEP, "span: an attribute is nested too deeply")
    match value:
        case None:
            return None
        case _AnyValue(string_value=str(text)):
            return text
        case _AnyValue(int_value=int() | str() as number):
            return int(number)
        case _AnyValue(double_value=float() | str() as number):
            return float(number)
        case _AnyValue(bool_value=bool(flag)):
            return flag
        case _AnyValue(array_value=_Array(values=values)):
            return [_json_value(item, depth - 1) for item in values or ()]
        case _AnyValue(kvlist_value=_KeyValues(values=pairs)):
            return {pair.key: _json_value(pair.value, depth - 1) for pair in pairs or ()}
    return value.bytes_value


def _hex_id(text: str, size: int) -> str:
    try:
        return _id(bytes.fromhex(text), size)
    except ValueError:
        raise Rejected(RejectionCode.INVALID_FIELD, "span: an id is not hexadecimal") from None


def _decoded(body: bytes, decode: Any) -> Any:
    try:
        body.decode()
        return decode(body)
    except UnicodeDecodeError as error:
        raise Rejected(RejectionCode.INVALID_UTF8, f"byte {error.start}") from None
    except RecursionError:
        raise Rejected(RejectionCode.TOO_DEEP, "nested too deeply") from None
    except msgspec.ValidationError as error:
        raise Rejected(RejectionCode.INVALID_FIELD, str(error)) from None
    except msgspec.DecodeError as error:
        raise Rejected(RejectionCode.INVALID_JSON, str(error)) from None
