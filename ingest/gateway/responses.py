"""What the gateway answers, in the encoding of the request.

OTLP prescribes its own messages, which are small enough to write by hand: a response whose
``partial_success`` tells what was refused, and for errors a ``google.rpc.Status``. Everything else
is JSON: ``{"code", "message"}`` for an error. The code is also in the header `CODE_HEADER`, since a
``Status`` has no place for it.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec
from aiohttp import web

from ingest.core.errors import DriftlineError, Overloaded, Rejected
from ingest.core.events import RejectionCode
from ingest.gateway.admission import AdmissionResult
from ingest.gateway.batcher import KafkaAway

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
CODE_HEADER: Final = "Driftline-Code"

_MAX_REASONS: Final = 20

_STATUS: Final[dict[str, int]] = {
    RejectionCode.UNAUTHENTICATED: 401,
    RejectionCode.FORBIDDEN: 403,
    "unknown_host": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    RejectionCode.BODY_TOO_LARGE: 413,
    RejectionCode.DECOMPRESSED_TOO_LARGE: 413,
    RejectionCode.RATIO_TOO_HIGH: 413,
    RejectionCode.TOO_MANY_RECORDS: 413,
    RejectionCode.UNSUPPORTED_MEDIA_TYPE: 415,
    RejectionCode.UNSUPPORTED_ENCODING: 415,
}
"""Status of a refused request by code; 400 for what is not here."""

_GRPC: Final = {401: 16, 403: 7, 404: 5, 408: 4, 413: 8, 429: 8, 503: 14}
"""Code in a ``google.rpc.Status`` by HTTP status; 3, invalid argument, for the rest."""


def otlp(
    admitted: AdmissionResult, kind: Literal["spans", "log_records"], encoding: str
) -> web.Response:
    """Answer an OTLP request of which every accepted event is stored."""
    rejected, reasons = len(admitted.refusals), admitted.reasons()
    if encoding == "protobuf":
        partial = _varint(1, rejected) + _text(2, reasons) if rejected else b""
        return web.Response(body=_bytes(1, partial) if partial else b"", content_type=PROTOBUF)
    name = "rejectedSpans" if kind == "spans" else "rejectedLogRecords"
    body = {"partialSuccess": {name: str(rejected), "errorMessage": reasons}} if rejected else {}
    return web.Response(body=msgspec.json.encode(body), content_type=JSON)


def plain(admitted: AdmissionResult, status: int = 200) -> web.Response:
    """Answer canonical events or feedback: how many are stored, and why the others are not."""
    body: dict[str, object] = {"accepted": admitted.accepted, "rejected": len(admitted.refusals)}
    headers = {}
    if admitted.refusals:
        some = admitted.refusals[:_MAX_REASONS]
        body["reasons"] = [{"code": str(r.code), "message": r.detail} for r in some]
    if status != 200:
        first = admitted.refusals[0]
        body = {"code": str(first.code), "message": first.detail, **body}
        headers[CODE_HEADER] = str(first.code)
    return web.Response(
        body=msgspec.json.encode(body), content_type=JSON, status=status, headers=headers
    )


def status_of(code: str) -> int:
    """HTTP status of a refused request."""
    return _STATUS.get(code, 400)


def code_of(error: DriftlineError) -> str:
    """Machine-readable code of an error that a request ends with."""
    match error:
        case Rejected():
            return str(error.code)
        case Overloaded():
            return "overloaded"
    return "kafka_away"


def refusal(error: Rejected | Overloaded | KafkaAway, *, protobuf: bool) -> web.Response:
    """Answer a request of which nothing is stored, or not all of it yet."""
    code = code_of(error)
    headers = {CODE_HEADER: code}
    match error:
        case Rejected():
            status, message = status_of(code), error.detail or code
        case Overloaded() | KafkaAway():
            status, message = (429 if isinstance(error, Overloaded) else 503), str(error)
            headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if protobuf:
        body = _varint(1, _GRPC.get(status, 3)) + _text(2, f"{code}: {message}")
        return web.Response(body=body, content_type=PROTOBUF, status=status, headers=headers)
    body = msgspec.json.encode({"code": code, "message": message})
    return web.Response(body=body, content_type=JSON, status=status, headers=headers)


def _varint(field: int, value: int) -> bytes:
    """A protobuf field of an integer that is not negative."""
    encoded = bytearray([field << 3])
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _bytes(field: int, value: bytes) -> bytes:
    length = _varint(field, len(value))
    return bytes([length[0] | 2]) + length[1:] + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
