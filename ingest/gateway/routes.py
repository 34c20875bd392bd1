"""What each route takes: an unpacked body becomes events and refusals. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from ingest import codec, otlp
from ingest.core.errors import Rejected
from ingest.core.events import MAX_LINE_BYTES, Event, RejectionCode
from ingest.gateway.admission import Refusal
from ingest.gateway.feedback import Memory, event_of
from ingest.limits import Limits, check_depth

MEDIA_TYPES: Final = {
    "application/x-protobuf": "protobuf",
    "application/protobuf": "protobuf",
    "application/json": "json",
}
LINE_TYPES: Final = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
}


class Found(NamedTuple):
    """Events of a body, what in it is none, and log records that are meant to be none."""

    events: list[Event]
    refusals: list[Refusal]
    ignored: Counter[otlp.IgnoredRecords] | None = None


def traces(body: bytes, encoding: str, limits: Limits) -> Found:
    """OTLP traces, ``encoding`` protobuf or json. Raises `Rejected`."""
    return _otlp(otlp.events_of_traces, body, encoding, limits)


def logs(body: bytes, encoding: str, limits: Limits) -> Found:
    """OTLP logs, ``encoding`` protobuf or json. Raises `Rejected`."""
    return _otlp(otlp.events_of_logs, body, encoding, limits)


def _otlp(
    decode: Callable[..., otlp.Translation], body: bytes, encoding: str, limits: Limits
) -> Found:
    if encoding == "json":
        check_depth(body, limits)
    translation = decode(body, encoding=encoding, limits=limits)
    refusals = [Refusal(found.code, found.detail, found.raw) for found in translation.rejected]
    return Found(translation.events, refusals, translation.ignored)


def events(body: bytes, encoding: str, limits: Limits, now_ns: int) -> Found:
    """Canonical events: an object, an array or lines, by the rules of the worker.

    Raises
    ------
    Rejected
        When the body as a whole cannot be read.
    """
    items = _items(body, encoding, limits)
    found: list[Event] = []
    bad: list[bytes] = []
    decode = _decode_event
    for item in items:
        if len(item) > MAX_LINE_BYTES:
            bad.append(item)
            continue
        try:
            found.append(decode(item))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            bad.append(item)
    if not bad:
        return Found(found, [])
    # The worker's own decoder says why; a line break can only be space between values here.
    lines = b"\n".join(item.replace(b"\n", b" ") for item in bad)
    reasons = codec.decode([lines], [now_ns]).rejections
    return Found(found, [Refusal(reason.code, reason.detail) for reason in reasons])


def feedback(
    body: bytes, encoding: str, limits: Limits, now_ns: int, memory: Memory, agent: str | None
) -> Found:
    """Ratings and comments; parameters as `ingest.gateway.feedback.event_of`.

    Raises
    ------
    Rejected
        When the body as a whole cannot be read.
    """
    found: list[Event] = []
    refusals: list[Refusal] = []
    for item in _items(body, encoding, limits):
        try:
            found.append(event_of(item, memory, now_ns, agent))
        except Rejected as rejected:
            refusals.append(Refusal(rejected.code, rejected.detail))
    return Found(found, refusals)


_decode_event = msgspec.json.Decoder(Event).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def _items(body: bytes, encoding: str, limits: Limits) -> list[bytes]:
    """The JSON values of a body, not yet looked into."""
    if encoding != "ndjson":  # else each line is measured by the decoder, and costs only itself
        check_depth(body, limits)
    try:
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError as error:
        raise Rejected(RejectionCode.INVALID_UTF8, f"byte {error.start}") from None
    body = body.strip()
    if not body:
        raise Rejected(RejectionCode.EMPTY_LINE, "the body is empty")
    if encoding == "ndjson":
        items: Iterable[bytes] = (line for line in codec.split_lines(body) if line.strip())
    else:
        try:
            if body.startswith(b"["):
                items = map(bytes, _decode_array(body))
            else:
                items = [bytes(_decode_any(body))]
        except msgspec.DecodeError as error:
            if b"\n" not in body:
                raise Rejected(RejectionCode.INVALID_JSON, str(error)) from None
            hint = "; for one value a line send Content-Type: application/x-ndjson"
            raise Rejected(RejectionCode.INVALID_JSON, f"{error}{hint}") from None
    found = list(items)
    if len(found) > limits.max_records:
        raise Rejected(
            RejectionCode.TOO_MANY_RECORDS, f"{len(found)}, at most {limits.max_records}"
        )
    return found
