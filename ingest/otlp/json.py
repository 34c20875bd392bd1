"""OTLP requests in JSON, by the mapping of the OTLP specification 1.8, which is not protobuf's own.

Names are in lower camel case, ids in hexadecimal, 64-bit integers strings or numbers. What
protobuf's own mapping writes instead is read, too: ids in base64, names of enums, snake case.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ingest.core.errors import Rejected
from ingest.core.events import RejectionCode
from ingest.limits import Limits
from ingest.otlp.attributes import SERVER, Span, SpanEvent, with_moments
from ingest.otlp.log_records import Record
from ingest.otlp.shared import (
    ERRORS,
    REMOTE,
    SERVERS,
    bound,
    checked_id,
    cut,
    optional_id,
    short,
)
from ingest.otlp.structures import without_lone_surrogates

_Item = TypeVar("_Item")


class Source(NamedTuple):
    """Where spans or records come from: attributes of the resource, name of the scope."""

    resource: dict[str, Any]
    scope: str


_Number = int | float | str | None
"""An integer as protobuf's own mapping takes it: also as text, with an exponent, or null for 0."""


class _Camel(msgspec.Struct, rename="camel", gc=False):
    pass


class _AnyValue(_Camel):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: _Number = None
    double_value: float | str | None = None
    array_value: _Array | None = None
    kvlist_value: _KeyValues | None = None
    bytes_value: str | None = None


class _Array(_Camel):
    values: list[_AnyValue] | None = None


class _KeyValue(_Camel):
    key: str | None = ""
    value: _AnyValue | None = None


class _KeyValues(_Camel):
    values: list[_KeyValue] | None = None


class _SpanEvent(_Camel):
    time_unix_nano: _Number = 0
    name: str | None = ""
    attributes: list[_KeyValue] | None = None


class _Status(_Camel):
    code: _Number = 0
    message: str | None = None


class _Span(_Camel):
    trace_id: str | None = ""
    span_id: str | None = ""
    parent_span_id: str | None = None
    flags: _Number = 0
    name: str | None = ""
    kind: _Number = 0
    start_time_unix_nano: _Number = 0
    end_time_unix_nano: _Number = 0
    attributes: list[_KeyValue] | None = None
    events: list[_SpanEvent] | None = None
    status: _Status | None = None


class _Scope(_Camel):
    name: str | None = None


class _ScopeSpans(_Camel):
    scope: _Scope | None = None
    spans: list[msgspec.Raw] | None = None


class _Resource(_Camel):
    attributes: list[_KeyValue] | None = None


class _ResourceSpans(_Camel):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Traces(_Camel):
    resource_spans: list[_ResourceSpans] | None = None


class _LogRecord(_Camel):
    time_unix_nano: _Number = 0
    observed_time_unix_nano: _Number = 0
    event_name: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    body: _AnyValue | None = None
    attributes: list[_KeyValue] | None = None


class _ScopeLogs(_Camel):
    scope: _Scope | None = None
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
        source = _source(of_resource.resource, of_scope.scope, limits)
        for raw in of_scope.spans or ():
            yield _one(_span, _decode_span, raw, source, limits)


def _span(span: _Span, source: Source, limits: Limits) -> Span:
    moments = [
        SpanEvent(
            event.name or "", _int(event.time_unix_nano), _attributes(event.attributes, limits)
        )
        for event in span.events or ()
    ]
    status = span.status or _Status()
    return Span(
        trace_id=_hex_id(span.trace_id, 16),
        span_id=_hex_id(span.span_id, 8),
        parent_id=_optional_id(span.parent_span_id, 8),
        name=span.name or "",
        start_ns=_int(span.start_time_unix_nano),
        end_ns=_int(span.end_time_unix_nano) or None,
        failed=_upper(status.code) in ERRORS,
        status_message=status.message or None,
        attributes=with_moments(_attributes(span.attributes, limits), moments),
        resource=source.resource,
        kind=SERVER if _upper(span.kind) in SERVERS else 0,
        remote_parent=_int(span.flags) & REMOTE == REMOTE,
        moments=moments,
        scope=source.scope,
    )


def records(body: bytes, limits: Limits) -> Iterator[Record | Rejected]:
    """Yield the records of a log request, or why one is none; raises when all of it is none."""
    request = _decoded(body, _decode_logs)
    bound(len(request.resource_logs or ()), limits)
    groups = [(r, s) for r in request.resource_logs or () for s in r.scope_logs or ()]
    bound(len(groups), limits)
    bound(sum(len(scope.log_records or ()) for _, scope in groups), limits)
    for of_resource, of_scope in groups:
        source = _source(of_resource.resource, of_scope.scope, limits)
        for raw in of_scope.log_records or ():
            yield _one(_record, _decode_record, raw, source, limits)


def _record(record: _LogRecord, source: Source, limits: Limits) -> Record:
    return Record(
        name=record.event_name or "",
        time_ns=_int(record.time_unix_nano) or _int(record.observed_time_unix_nano),
        trace_id=_optional_id(record.trace_id, 16),
        span_id=_optional_id(record.span_id, 8),
        body=_value(record.body, limits.max_depth),
        attributes=_attributes(record.attributes, limits),
        resource=source.resource,
        scope=source.scope,
    )


def _one(
    build: Callable[[Any, Source, Limits], _Item],
    decode: Callable[[msgspec.Raw], Any],
    raw: msgspec.Raw,
    source: Source,
    limits: Limits,
) -> _Item | Rejected:
    try:
        return build(decode(raw), source, limits)
    except Rejected as rejected:
        return Rejected(rejected.code, rejected.detail, bytes(raw))
    except msgspec.ValidationError as error:
        return Rejected(RejectionCode.INVALID_FIELD, str(error), bytes(raw))
    except (ValueError, OverflowError):
        return Rejected(RejectionCode.INVALID_FIELD, "a number is none", bytes(raw))


def _source(resource: _Resource | None, scope: _Scope | None, limits: Limits) -> Source:
    try:
        found = _attributes(resource.attributes if resource else None, limits)
        return Source(found, (scope.name if scope else None) or "")
    except (ValueError, OverflowError):
        # Everything of the request may stand under it.
        text = "an attribute of a resource says a number that is none"
        raise Rejected(RejectionCode.INVALID_FIELD, text) from None


def _attributes(pairs: list[_KeyValue] | None, limits: Limits) -> dict[str, Any]:
    longest = limits.max_attribute_length
    found = {pair.key or "": _value(pair.value, limits.max_depth) for pair in pairs or ()}
    for name, value in found.items():
        if isinstance(value, str) and len(value) > longest:
            found[name] = short(name, value, limits)
    return found if len(found) <= limits.max_attributes else cut(found, limits.max_attributes)


def _value(value: _AnyValue | None, depth: int) -> Any:
    if depth == 0:
        raise Rejected(RejectionCode.TOO_DEEP, "an attribute is nested too deeply")
    match value:
        case None:
            return None
        case _AnyValue(string_value=str(text)):
            return text
        case _AnyValue(int_value=int() | float() | str() as number):
            return _int(number)
        case _AnyValue(double_value=float() | str() as number):
            return float(number)
        case _AnyValue(bool_value=bool(flag)):
            return flag
        case _AnyValue(array_value=_Array(values=values)):
            return [_value(item, depth - 1) for item in values or ()]
        case _AnyValue(kvlist_value=_KeyValues(values=pairs)):
            return {pair.key or "": _value(pair.value, depth - 1) for pair in pairs or ()}
    return value.bytes_value


def _int(number: _Number) -> int:
    if isinstance(number, str):
        try:
            return int(number or 0)
        except ValueError:
            number = float(number)
    if isinstance(number, float) and not number.is_integer():
        raise ValueError(number)
    return int(number or 0)


def _hex_id(text: str | None, size: int) -> str:
    return checked_id(_bytes_of_id(text or "", size), size)


def _optional_id(text: str | None, size: int) -> str | None:
    return optional_id(_bytes_of_id(text, size), size) if text else None


def _bytes_of_id(text: str, size: int) -> bytes:
    """Bytes of an id in hexadecimal, or in base64, which is of another length."""
    try:
        if len(text.rstrip("=")) == -(-size * 4 // 3):
            return b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise Rejected(RejectionCode.INVALID_FIELD, "an id is not hexadecimal") from None


_HEAD: Final = 1024
_MARK: Final = b"\xef\xbb\xbf"
"""Byte order mark, with which programs on Windows begin files."""

_SNAKE: Final = re.compile(rb'"resource_(?:spans|logs)"')


def _camel_case(body: bytes) -> bytes:
    """Return a request whose fields are in snake case, protobuf's own, in camel case."""

    def camel(value: Any) -> Any:
        if isinstance(value, dict):
            return {_UNDERSCORE.sub(lambda m: m[1].upper(), k): camel(v) for k, v in value.items()}
        return [camel(item) for item in value] if isinstance(value, list) else value

    return msgspec.json.encode(camel(msgspec.json.decode(body)))


_UNDERSCORE: Final = re.compile(r"_([a-z])")


def _upper(code: _Number) -> _Number:
    return code.upper() if isinstance(code, str) else code


def _decoded(body: bytes, decode: Any) -> Any:
    try:
        body.decode()
        body = body.removeprefix(_MARK)
        if b'"instrumentationLibrary' in body:  # as exporters before OTLP 0.15 write scopes
            body = body.replace(b'"instrumentationLibraryLogs"', b'"scopeLogs"')
            body = body.replace(b'"instrumentationLibrarySpans"', b'"scopeSpans"')
            body = body.replace(b'"instrumentationLibrary"', b'"scope"')
        body = _camel_case(body) if _SNAKE.search(body, 0, _HEAD) else body
        try:
            return decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            mended = without_lone_surrogates(body)
            if mended is body:
                raise
            return decode(mended)
    except UnicodeDecodeError as error:
        raise Rejected(RejectionCode.INVALID_UTF8, f"byte {error.start}") from None
    except RecursionError:
        raise Rejected(RejectionCode.TOO_DEEP, "nested too deeply") from None
    except msgspec.ValidationError as error:
        raise Rejected(RejectionCode.INVALID_FIELD, str(error)) from None
    except msgspec.DecodeError as error:
        raise Rejected(RejectionCode.INVALID_JSON, str(error)) from None
