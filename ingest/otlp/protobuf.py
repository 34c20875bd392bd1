"""OTLP requests in protobuf, read with the published classes on protobuf's C core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.core.errors import Rejected
from ingest.core.events import RejectionCode
from ingest.limits import Limits
from ingest.otlp.attributes import Span, SpanEvent, with_moments
from ingest.otlp.conventions import FIRST_TOKEN_EVENTS
from ingest.otlp.log_records import Record
from ingest.otlp.shared import ERROR, REMOTE, bound, checked_id, cut, optional_id, short


def spans(body: bytes, limits: Limits) -> Iterator[Span | Rejected]:
    """Yield the spans of a trace request, or why one is none; raises when all of it is none."""
    request = _parsed(ExportTraceServiceRequest, body)
    bound(len(request.resource_spans), limits)
    bound(sum(len(r.scope_spans) for r in request.resource_spans), limits)
    bound(sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans), limits)
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes, limits)
        for of_scope in of_resource.scope_spans:
            scope = of_scope.scope.name
            for span in of_scope.spans:
                yield _span(span, resource, scope, limits)


def _span(span: Any, resource: Mapping[str, Any], scope: str, limits: Limits) -> Span | Rejected:
    try:
        attributes = _attributes(span.attributes, limits)
        moments = []
        if span.events:
            moments = [_moment(event, limits) for event in span.events]
            attributes = with_moments(attributes, moments)
        return Span(
            trace_id=checked_id(span.trace_id, 16),
            span_id=checked_id(span.span_id, 8),
            parent_id=optional_id(span.parent_span_id, 8),
            name=span.name,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano or None,
            failed=span.status.code == ERROR,
            status_message=span.status.message or None,
            attributes=attributes,
            resource=resource,
            kind=span.kind,
            remote_parent=span.flags & REMOTE == REMOTE,
            moments=moments,
            scope=scope,
        )
    except Rejected as rejected:
        return _refused(span, rejected)


def _moment(event: Any, limits: Limits) -> SpanEvent:
    name = event.name
    # A streamed answer has one of these for each token, of which only the times matter.
    attributes = {} if name in FIRST_TOKEN_EVENTS else _attributes(event.attributes, limits)
    return SpanEvent(name, event.time_unix_nano, attributes)


def records(body: bytes, limits: Limits) -> Iterator[Record | Rejected]:
    """Yield the records of a log request, or why one is none; raises when all of it is none."""
    request = _parsed(ExportLogsServiceRequest, body)
    bound(len(request.resource_logs), limits)
    bound(sum(len(r.scope_logs) for r in request.resource_logs), limits)
    bound(sum(len(s.log_records) for r in request.resource_logs for s in r.scope_logs), limits)
    for of_resource in request.resource_logs:
        resource = _attributes(of_resource.resource.attributes, limits)
        for of_scope in of_resource.scope_logs:
            scope = of_scope.scope.name
            for record in of_scope.log_records:
                yield _record(record, resource, scope, limits)


def _record(
    record: Any, resource: Mapping[str, Any], scope: str, limits: Limits
) -> Record | Rejected:
    try:
        return Record(
            name=record.event_name,
            time_ns=record.time_unix_nano or record.observed_time_unix_nano,
            trace_id=optional_id(record.trace_id, 16),
            span_id=optional_id(record.span_id, 8),
            body=_value(record.body, limits.max_depth),
            attributes=_attributes(record.attributes, limits),
            resource=resource,
            scope=scope,
        )
    except Rejected as rejected:
        return _refused(record, rejected)


def _refused(message: Any, rejected: Rejected) -> Rejected:
    return Rejected(rejected.code, rejected.detail, MessageToJson(message, indent=None).encode())


def _parsed(message: Any, body: bytes) -> Any:
    try:
        return message.FromString(body)
    except DecodeError:
        raise Rejected(RejectionCode.INVALID_PROTOBUF, "not an OTLP request") from None


def _attributes(pairs: Any, limits: Limits) -> dict[str, Any]:
    found = {}
    longest = limits.max_attribute_length
    for pair in pairs:
        value = pair.value
        # Most are strings, and asking which field is set costs as much as reading it.
        text = value.string_value
        if not text:
            found[pair.key] = _value(value, limits.max_depth)
        else:
            found[pair.key] = text if len(text) <= longest else short(pair.key, text, limits)
    return found if len(found) <= limits.max_attributes else cut(found, limits.max_attributes)


def _value(value: Any, depth: int) -> Any:
    if depth == 0:
        raise Rejected(RejectionCode.TOO_DEEP, "an attribute is nested too deeply")
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
