"""What is fuzzed: each takes any bytes and must end in time, refuse by a code, or keep a promise.

A target raises only when a promise is broken, so whatever drives it, a fuzzer or a test, has
nothing else to check.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Final

from backports import zstd

from ingest import codec
from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.gateway import routes
from ingest.gateway.admission import ANYONE, admit
from ingest.gateway.feedback import Memory
from ingest.limits import ENCODINGS, Limits, check_depth, decompress
from ingest.otlp import events_of_logs, events_of_traces
from ingest.redaction import RedactionConfig, Redactor

NOW_NS: Final = 1_790_000_000 * 10**9
LIMITS: Final = Limits(max_body_bytes=2**20, max_decompressed_bytes=2**20, max_records=1000)
_CODES: Final = set(RejectionCode)
_REDACTOR: Final = Redactor(RedactionConfig(key=b"key"))


def lines(data: bytes) -> None:
    """Canonical events as a worker reads them: every line is a row or a rejection."""
    decoded = codec.decode([data, b"{}", data], [NOW_NS, NOW_NS, NOW_NS])
    assert int(decoded.lines.sum()) == len(decoded.frame) + len(decoded.rejections)
    assert decoded.lines[0] == decoded.lines[2], "one record's verdict is no other's"
    assert all(rejection.code in _CODES for rejection in decoded.rejections)
    once = codec.decode([data], [NOW_NS]).frame
    assert once.equals(once.clone())


def events(data: bytes) -> None:
    """Canonical events at the gateway; what is accepted there a worker accepts."""
    encoding = "ndjson" if data[:1] == b"n" else "json"
    _door(lambda: routes.events(data[1:], encoding, LIMITS, NOW_NS))


def feedback(data: bytes) -> None:
    """Ratings and comments."""
    _door(lambda: routes.feedback(data, "json", LIMITS, NOW_NS, Memory(), None))


def otlp(data: bytes) -> None:
    """OTLP traces and logs, protobuf and JSON."""
    decode = events_of_traces if data[:1] <= b"m" else events_of_logs
    encoding = "json" if data[1:2] <= b"m" else "protobuf"
    body = data[2:]

    def read() -> routes.Found:
        if encoding == "json":
            check_depth(body, LIMITS)
        translation = decode(body, encoding=encoding, limits=LIMITS)  # type: ignore[arg-type]
        return routes.Found(
            translation.events, [routes.Refusal(r.code, r.detail) for r in translation.rejected]
        )

    _door(read)


def unpacking(data: bytes) -> None:
    """Compressed bodies: never more than allowed, and packing it again unpacks to the same."""
    encoding = ENCODINGS[data[0] % len(ENCODINGS)] if data else "gzip"
    try:
        out = decompress(data[1:], encoding, LIMITS)
    except Rejected as rejected:
        assert rejected.code in _CODES
        return
    assert len(out) <= LIMITS.max_decompressed_bytes
    for name, packed in (
        ("gzip", gzip.compress(out, 1)), ("deflate", zlib.compress(out, 1)),
        ("zstd", zstd.compress(out, 1)),
    ):  # fmt: skip
        if len(packed) <= LIMITS.max_body_bytes and len(out) <= 200 * len(packed):
            assert decompress(packed, name, LIMITS) == out


def redaction(data: bytes) -> None:
    """Redaction of any text: what is planted goes, and other texts make no difference."""
    text = data.decode("utf-8", "replace")
    once = _REDACTOR.redact_text(text)
    secrets = "ann@example.org", "AKIAIOSFODNN7EXAMPLE"
    planted = _REDACTOR.redact_text(f"{text} ; {secrets[0]} ; {secrets[1]} ;")
    for secret in secrets:  # the text may hold one as a part of a longer word, which is none
        assert planted.count(secret) <= once.count(secret)
    one = Event(event_id="e", time_unix_nano=1, agent="a", kind="llm_call", content=text)
    other = Event(event_id="f", time_unix_nano=1, agent="a", kind="llm_call", content="b@c.io")
    together = _REDACTOR.apply([other, one, other])
    assert together[1].content == once[:65_536]
    assert together[0].content == together[2].content == "[email]"


def _door(read: Callable[[], routes.Found]) -> None:
    """Read, redact and pack; every event that is accepted must be one to a worker, too."""
    try:
        found = read()
    except Rejected as rejected:
        assert rejected.code in _CODES
        return
    assert all(refusal.code in _CODES for refusal in found.refusals)
    admitted = admit(found.events, found.refusals, ANYONE, _REDACTOR.apply, 4, NOW_NS)
    assert admitted.accepted + len(admitted.refusals) == len(found.events) + len(found.refusals)
    records = [batch.lines for batch in admitted.batches]
    decoded = codec.decode(records, [NOW_NS] * len(records))
    assert not decoded.rejections, decoded.rejections
    assert len(decoded.frame) == admitted.accepted


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target for target in (lines, events, feedback, otlp, unpacking, redaction)
}

_EVENT: Final = {
    "event_id": "e", "time_unix_nano": NOW_NS, "agent": "a", "kind": "tool_call", "name": "t",
    "duration_ms": 1.5, "status": "error", "attributes": {"k": "v"}, "content": "b@c.io",
}  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """Good input for a target, from which a fuzzer starts."""
    line = json.dumps(_EVENT).encode()
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "chat",
        "kind": 3, "startTimeUnixNano": str(NOW_NS - 10**9), "endTimeUnixNano": str(NOW_NS),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
            {"key": "gen_ai.agent.name", "value": {"stringValue": "shop"}},
            {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}]}}},
        ],
        "status": {"code": 2, "message": "m"}, "events": [{"name": "exception", "attributes": []}],
    }  # fmt: skip
    resource = {
        "attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "process.pid", "value": {"intValue": "7"}},
            {"key": "load", "value": {"doubleValue": "1.5"}},
        ]
    }
    traces = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    record = {
        "timeUnixNano": str(NOW_NS), "traceId": span["traceId"], "spanId": span["spanId"],
        "eventName": "gen_ai.user.message", "body": {"stringValue": "hello"},
        "attributes": span["attributes"],
    }  # fmt: skip
    logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    return {
        "lines": [line, line + b"\n" + line, b'{"event_id":"\\ud800"}'],
        "events": [b"j" + line, b"j[" + line + b"]", b"n" + line + b"\n" + line],
        "feedback": [b'{"session_id":"s","stars":4}', b'{"trace_id":"' + b"a" * 32 + b'",'
                     b'"csat":3,"scale":[1,7],"comment":"c","time":"2026-01-01T00:00:00Z"}'],
        "otlp": [b"aa" + json.dumps(traces).encode(), b"za" + json.dumps(logs).encode(),
                 b"az" + _protobuf(traces, "trace"), b"zz" + _protobuf(logs, "logs")],
        "unpacking": [b"\0abc", b"\1" + gzip.compress(b"abc" * 9), b"\2" + zlib.compress(b"abc"),
                      b"\3" + zstd.compress(b"abc" * 99)],
        "redaction": [b"b@c.io, +4930123456 4111 1111 1111 1111", b'{"password":"x1","k":4111}',
                      b"-----BEGIN PRIVATE KEY-----\\nabc", b"DE89 3704 0044 0532 0130 00"],
    }[name]  # fmt: skip


def _protobuf(request: object, kind: str) -> bytes:
    import importlib

    from google.protobuf.json_format import ParseDict

    module = importlib.import_module(f"opentelemetry.proto.collector.{kind}.v1.{kind}_service_pb2")
    name = {"trace": "ExportTraceServiceRequest", "logs": "ExportLogsServiceRequest"}[kind]
    message: bytes = ParseDict(request, getattr(module, name)()).SerializeToString()
    return message
