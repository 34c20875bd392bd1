"""The gateway described in OpenAPI 3.1, derived from the contracts that it decodes with.

Bodies of OTLP JSON are described as far as they are looked into; OTLP itself is the authority.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingest.core.events import Event
from ingest.gateway.feedback import Feedback
from ingest.limits import ENCODINGS

_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"

_STATUSES: Final = {
    "400": "the body is damaged or says nothing that is understood",
    "401": "no known token",
    "403": "the token is not for this agent",
    "408": "the body did not arrive in time",
    "413": "too large: as sent, as unpacked, or in records",
    "415": "another media type or content coding than those that are known",
    "429": "more waits than may; try again after Retry-After seconds",
    "503": "Kafka has not acknowledged; try again after Retry-After seconds",
}


def openapi(version: str) -> dict[str, Any]:
    """The description, as plain JSON types.

    Parameters
    ----------
    version
        Of driftline.
    """
    _, schemas = msgspec.json.schema_components(
        [Event, Feedback], ref_template="#/components/schemas/{name}"
    )
    schemas |= {
        "Error": _object({"code": _text(), "message": _text()}, "code", "message"),
        "Stored": _object(
            {
                "accepted": _integer(),
                "rejected": _integer(),
                "reasons": _list(_ref("Error")),
            },
            "accepted",
            "rejected",
        ),
        **_otlp_schemas(),
    }
    event, feedback = _ref("Event"), _ref("Feedback")
    lines = {"schema": _text(), "example": ""}
    return {
        "openapi": "3.1.0",
        "info": {"title": "driftline gateway", "version": version},
        "security": [{}, {"token": []}],
        "paths": {
            "/v1/traces": _otlp("OTLP traces", _ref("Traces")),
            "/v1/logs": _otlp("OTLP logs", _ref("Logs")),
            "/v1/events": _plain(
                "Canonical events: one, an array, or one a line",
                {
                    _JSON: {"schema": {"anyOf": [event, _list(event)]}},
                    "application/x-ndjson": lines,
                },
            ),
            "/v1/feedback": _plain(
                "Ratings and comments: one, an array, or one a line",
                {
                    _JSON: {"schema": {"anyOf": [feedback, _list(feedback)]}},
                    "application/x-ndjson": lines,
                },
            ),
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _otlp(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    partial = {"schema": _object({"partialSuccess": {"type": "object"}})}
    return _operation(
        summary,
        {_JSON: {"schema": schema}, _PROTOBUF: binary},
        {_JSON: partial, _PROTOBUF: binary},
        {_JSON: {"schema": _ref("Error")}, _PROTOBUF: binary},
    )


def _plain(summary: str, body: dict[str, Any]) -> dict[str, Any]:
    stored = {_JSON: {"schema": _ref("Stored")}}
    return _operation(summary, body, stored, {_JSON: {"schema": _ref("Error")}})


def _operation(
    summary: str, body: dict[str, Any], success: dict[str, Any], failure: dict[str, Any]
) -> dict[str, Any]:
    codes = {
        status: {"description": text, "content": failure} for status, text in _STATUSES.items()
    }
    coding = {"type": "string", "enum": list(ENCODINGS)}
    return {
        "post": {
            "summary": summary,
            "parameters": [{"name": "Content-Encoding", "in": "header", "schema": coding}],
            "requestBody": {"required": True, "content": body},
            "responses": {
                "200": {"description": "Kafka has acknowledged it", "content": success},
                **codes,
            },
        }
    }


def _otlp_schemas() -> dict[str, Any]:
    value = {
        "type": "object",
        "properties": {
            "stringValue": _text(),
            "boolValue": {"type": "boolean"},
            "intValue": {"anyOf": [_text(r"^-?\d{1,19}$"), {"type": "integer"}]},
            "doubleValue": {"type": "number"},
            "bytesValue": _text(),
            "arrayValue": _object({"values": _list(_ref("AnyValue"))}),
            "kvlistValue": _object({"values": _list(_ref("KeyValue"))}),
        },
        "maxProperties": 1,
    }
    nanos = {"anyOf": [_text(r"^\d{1,19}$"), {"type": "integer", "minimum": 0}]}
    attributes = _list(_ref("KeyValue"))
    resource = _object({"attributes": attributes})
    trace_id, span_id = _text("^[0-9a-fA-F]{32}$"), _text("^[0-9a-fA-F]{16}$")
    span = {
        "traceId": trace_id, "spanId": span_id, "parentSpanId": _text("^([0-9a-fA-F]{16})?$"),
        "name": _text(), "kind": _integer(), "startTimeUnixNano": nanos, "endTimeUnixNano": nanos,
        "attributes": attributes,
        "events": _list(
            _object({"name": _text(), "timeUnixNano": nanos, "attributes": attributes})
        ),
        "status": _object({"code": _integer(), "message": _text()}),
    }  # fmt: skip
    record = {
        "timeUnixNano": nanos, "observedTimeUnixNano": nanos, "traceId": trace_id,
        "spanId": span_id, "severityNumber": _integer(), "severityText": _text(),
        "eventName": _text(), "body": _ref("AnyValue"), "attributes": attributes,
    }  # fmt: skip
    return {
        "AnyValue": value,
        "KeyValue": _object({"key": _text(), "value": _ref("AnyValue")}, "key"),
        "Traces": _request("resourceSpans", "scopeSpans", "spans", resource, span),
        "Logs": _request("resourceLogs", "scopeLogs", "logRecords", resource, record),
    }


def _request(
    resources: str, scopes: str, items: str, resource: dict[str, Any], item: dict[str, Any]
) -> dict[str, Any]:
    scope = _object({"scope": _object({"name": _text()}), items: _list(_object(item))})
    return _object({resources: _list(_object({"resource": resource, scopes: _list(scope)}))})


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _text(pattern: str | None = None) -> dict[str, Any]:
    return {"type": "string"} if pattern is None else {"type": "string", "pattern": pattern}


def _integer() -> dict[str, Any]:
    return {"type": "integer", "minimum": 0}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
