"""OTLP requests in JSON, by the mapping of the OTLP specification 1.8, which is not protobuf's own.

Names are in lower camel case, ids in hexadecimal, 64-bit integers strings or numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from ingest.core.errors import Rejected
from ingest.core.events import RejectionCode
from ingest.limits import Limits
from ingest.otlp.attributes import SERVER, Span, SpanEvent, with_moments
from ingest.otlp.log_records import Record
from ingest.otlp.shared import ERROR, REMOTE, bound, checked_id, cut

_Item = TypeVar("_Item")


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


class _LogRecord(_Camel):
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    event_name: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    body: _AnyValue | None = None
    attributes: list[_KeyValue] | None = None


class _ScopeLogs(_Camel):
    log_records: list[msgspec.Raw] | None = None


class _ResourceLogs(_Camel):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _Logs(_Camel):
    resource_logs: list[_ResourceLogs] | None = None


_decode_traces = msgspec.json.Decoder(_Traces).decode
_decode_logs = msgspec.json.Decoder(_Logs).decode
_decode_record = msgspec.json.Decoder(_LogRecord).decode
_decode_span = msgspec.json.Decoder(_Span).decode


def spans(body: bytes, limits: Limits) -> Iterator[Span | Rejected]:
    """Yield the spans of a trace request, or why one is none; raises when all of it is none."""
    request = _decoded(body, _decode_traces)
    bound(len(request.resource_spans or ()), limits)
    groups = [(r, s) for r in request.resource_spans or () for s in r.scope_spans or ()]
    bound(len(groups), limits)
    bound(sum(len(scope.spans or ()) for _, scope in groups), limits)
    for of_resource, of_scope in groups:
        resource = _resource(of_resource.resource, limits)
        for raw in of_scope.spans or ():
            yield _one(_span, _decode_span, raw, resource, limits)


def _span(span: _Span, resource: Mapping[str, Any], limits: Limits) -> Span:
    moments = [
        SpanEvent(event.name, int(event.time_unix_nano), _attributes(event.attributes, limits))
        for event in span.events or ()
    ]
    status = span.status or _Status()
    return Span(
        trace_id=_hex_id(span.trace_id, 16),
        span_id=_hex_id(span.span_id, 8),
        parent_id=_hex_id(span.parent_span_id, 8) if span.parent_span_id else None,
        name=span.name,
        start_ns=int(span.start_time_unix_nano),
        end_ns=int(span.end_time_unix_nano) or None,
        failed=status.code in (ERROR, "STATUS_CODEERROR"),
        status_message=status.message or None,
        attributes=with_moments(_attributes(span.attributes, limits), moments),
        resource=resource,
        kind=SERVER if span.kind in (SERVER, "SPAN_KIND_SERVER") else 0,
        remote_parent=span.flags & REMOTE == REMOTE,
        moments=moments,
    )


def records(body: bytes, limits: Limits) -> Iterator[Record | Rejected]:
    """Yield the records of a log request, or why one is none; raises when all of it is none."""
    request = _decoded(body, _decode_logs)
    bound(len(request.resource_logs or ()), limits)
    groups = [(r, s) for r in request.resource_logs or () for s in r.scope_logs or ()]
    bound(len(groups), limits)
    bound(sum(len(scope.log_records or ()) for _, scope in groups), limits)
    for of_resource, of_scope in groups:
        resource = _resource(of_resource.resource, limits)
        for raw in of_scope.log_records or ():
            yield _one(_record, _decode_record, raw, resource, limits)


def _record(record: _LogRecord, resource: Mapping[str, Any], limits: Limits) -> Record:
    return Record(
        name=record.event_name or "",
        time_ns=int(record.time_unix_nano) or int(record.observed_time_unix_nano),
        trace_id=_hex_id(record.trace_id, 16) if (record.trace_id or "").strip("0") else None,
        span_id=_hex_id(record.span_id, 8) if (record.span_id or "").strip("0") else None,
        body=_value(record.body, limits.max_depth),
        attributes=_attributes(record.attributes, limits),
        resource=resource,
    )


def _one(
    build: Callable[[Any, Mapping[str, Any], Limits], _Item],
    decode: Callable[[msgspec.Raw], Any],
    raw: msgspec.Raw,
    resource: Mapping[str, Any],
    limits: Limits,
) -> _Item | Rejected:
    try:
        return build(decode(raw), resource, limits)
    except Rejected as rejected:
        return rejected
    except msgspec.ValidationError as error:
        return Rejected(RejectionCode.INVALID_FIELD, str(error))
    except ValueError:
        return Rejected(RejectionCode.INVALID_FIELD, "a number is none")


def _resource(resource: _Resource | None, limits: Limits) -> dict[str, Any]:
    try:
        return _attributes(resource.attributes if resource else None, limits)
    except (ValueError, OverflowError):
        # Everything of the request may stand under it.
        text = "an attribute of a resource says a number that is none"
        raise Rejected(RejectionCode.INVALID_FIELD, text) from None


def _attributes(pairs: list[_KeyValue] | None, limits: Limits) -> dict[str, Any]:
    longest = limits.max_attribute_length
    found = {pair.key: _value(pair.value, limits.max_depth) for pair in pairs or ()}
    for name, value in found.items():
        if isinstance(value, str) and len(value) > longest:
            found[name] = value[:longest]
    return found if len(found) <= limits.max_attributes else cut(found, limits.max_attributes)


def _value(value: _AnyValue | None, depth: int) -> Any:
    if depth == 0:
        raise Rejected(RejectionCode.TOO_DEEP, "an attribute is nested too deeply")
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
            return [_value(item, depth - 1) for item in values or ()]
        case _AnyValue(kvlist_value=_KeyValues(values=pairs)):
            return {pair.key: _value(pair.value, depth - 1) for pair in pairs or ()}
    return value.bytes_value


def _hex_id(text: str | None, size: int) -> str:
    try:
        return checked_id(bytes.fromhex(text or ""), size)
    except ValueError:
        raise Rejected(RejectionCode.INVALID_FIELD, "an id is not hexadecimal") from None


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
