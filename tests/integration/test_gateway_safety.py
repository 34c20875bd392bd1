"""What is meant to hurt the gateway is refused by its code, or taken by rule, and costs little."""

from __future__ import annotations

import gzip
import json
import resource
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from backports import zstd

from ingest.access import Grant
from ingest.redaction import RedactionConfig, Redactor
from tests.unit.ingest.gateway_harness import Answer, Served, served

ROUTES = ("/v1/traces", "/v1/logs", "/v1/events", "/v1/feedback")
NOW_NS = 1_790_000_000 * 10**9


@pytest.fixture(scope="module")
def gateway() -> Iterator[Served]:
    redact = Redactor(RedactionConfig(key=b"key")).apply
    with served(redact=redact, now_ns=lambda: NOW_NS) as running:
        yield running


@pytest.fixture(autouse=True)
def _cheap(gateway: Served) -> Iterator[None]:
    """Nothing here may take long or much memory, and the gateway must stay well."""
    gateway.producer.stored.clear()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert time.process_time() - start < 5
    assert after.ru_maxrss - before.ru_maxrss < 300 * 1024
    assert gateway.request("GET", "/readyz").status == 200


def code(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.headers.get("Driftline-Code")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("coding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(2**28))),
        ("deflate", zlib.compress(bytes(2**28))),
        ("zstd", zstd.compress(bytes(2**30))),
    ],
)
def test_bombs(gateway: Served, route: str, coding: str, bomb: bytes) -> None:
    assert code(gateway.post(route, bomb, Content_Encoding=coding)) == (413, "ratio_too_high")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"attributes":[{"value":{"arrayValue":'])
def test_a_million_levels(gateway: Served, route: str, opening: bytes) -> None:
    levels = min(10**6, 2**23 // len(opening))
    assert code(gateway.post(route, opening * levels)) == (400, "too_deep")


def test_a_million_levels_of_protobuf(gateway: Served) -> None:
    """Each level of a value wraps the one before: array, values, array ..."""
    value = b""
    while len(value) < 2**19:
        for field in (0x0A, 0x2A):
            value = bytes([field]) + _varint(len(value)) + value
        if len(value) > 60_000:  # deep enough for any recursive reader; longer is only slower
            break
    attribute = b"\x0a\x01k\x12" + _varint(len(value)) + value
    for number in (0x4A, 0x0A):
        span = bytes([number]) + _varint(len(attribute)) + attribute
        body = span
        for _ in range(2):
            body = b"\x12" + _varint(len(body)) + body
        body = b"\x0a" + _varint(len(body)) + body
        for route in ("/v1/traces", "/v1/logs"):
            status, _ = code(gateway.post(route, body, "application/x-protobuf"))
            assert status in (200, 400)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "body", [b'{"agent":"\xff"}', b"\xff\xfe{", b'{"a":"\xed\xa0\x80"}', b"\x00", b""]
)
def test_what_is_not_text(gateway: Served, route: str, body: bytes) -> None:
    status, name = code(gateway.post(route, body))
    assert status == 400
    assert name in ("invalid_utf8", "invalid_json", "empty_line", "invalid_field")
    assert gateway.events() == []


def event(**fields: Any) -> dict[str, Any]:
    given = {"event_id": "e", "time_unix_nano": NOW_NS, "agent": "a", "kind": "tool_call"}
    return given | fields


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"duration_ms": -1}, (400, "invalid_field")),
        ({"duration_ms": 1e400}, (400, "invalid_field")),
        ({"time_unix_nano": 0}, (200, None)),  # 1970: late, which is for the worker to say
        ({"time_unix_nano": -1}, (400, "invalid_field")),
        ({"time_unix_nano": 4_102_444_800 * 10**9}, (400, "future_time")),  # 2100
        ({"time_unix_nano": 2**64}, (400, "invalid_field")),
        ({"input_tokens": -1}, (400, "invalid_field")),
        ({"attributes": {str(n): "" for n in range(257)}}, (400, "invalid_field")),
        ({"content": "x" * 65_537}, (400, "invalid_field")),
        ({"content": "x" * 300_000}, (400, "line_too_long")),
    ],
)
def test_events_out_of_bounds(
    gateway: Served, fields: dict[str, Any], expected: tuple[int, str | None]
) -> None:
    body = json.dumps(event(**fields)).replace("Infinity", "1e400").encode()
    assert code(gateway.post("/v1/events", body)) == expected
    assert len(gateway.events()) == (expected[0] == 200)


def span(begun: int, ended: int) -> dict[str, Any]:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.agent.name": "a"}
    given = [{"key": key, "value": {"stringValue": text}} for key, text in attributes.items()]
    one = {
        "traceId": "a" * 32, "spanId": "b" * 16, "name": "chat", "attributes": given,
        "startTimeUnixNano": str(begun), "endTimeUnixNano": str(ended),
    }  # fmt: skip
    return {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}


@pytest.mark.parametrize(
    ("begun", "ended"),
    [
        (NOW_NS, NOW_NS - 10**9), (0, 0), (0, NOW_NS), (10**9, 2 * 10**9),
        (4_102_444_800 * 10**9, 4_102_444_801 * 10**9), (2**64 - 1, 2**64 - 1), (-5, NOW_NS),
    ],
)  # fmt: skip
def test_spans_out_of_time(gateway: Served, begun: int, ended: int) -> None:
    answer = gateway.post("/v1/traces", span(begun, ended))
    assert answer.status == 200, "OTLP tells of refused spans in a partial success"
    partial = answer.json().get("partialSuccess", {})
    kept = gateway.events()
    assert bool(kept) != bool(int(partial.get("rejectedSpans", 0)))
    for one in kept:
        assert 0 <= one["time_unix_nano"] <= NOW_NS + 300 * 10**9
        assert one.get("duration_ms", 0) >= 0
    if not kept:
        assert partial["errorMessage"].split()[0] in ("invalid_field", "future_time")


def test_nothing_secret_reaches_kafka(gateway: Served) -> None:
    secrets = ("ann@example.org", "4111 1111 1111 1111", "+49 30 1234567", "hunter2x!")
    said = f"I am {secrets[0]}, card {secrets[1]}, phone {secrets[2]}, password: {secrets[3]}"
    body = event(content=said, tool_arguments=json.dumps({"q": said}), user_id=secrets[0],
                 attributes={"note": said})  # fmt: skip
    assert gateway.post("/v1/events", body).status == 200
    rating = {"session_id": "s", "stars": 1, "comment": said}
    assert gateway.post("/v1/feedback", rating).status == 200
    stored = b"".join(record for _, record in gateway.producer.stored).decode()
    assert len(gateway.events()) == 2
    assert not any(secret in stored for secret in secrets)
    assert stored.count("[card]") == 4


def test_a_token_bounds_environment_and_agents() -> None:
    grants = {"Bearer good": Grant("team", "staging", frozenset({"a"}))}
    with served(grant=grants.get, now_ns=lambda: NOW_NS) as gateway:
        assert code(gateway.post("/v1/events", event())) == (401, "unauthenticated")
        assert code(gateway.post("/v1/events", event(agent="b"), Authorization="Bearer good")) == (
            403, "forbidden",
        )  # fmt: skip
        assert gateway.post("/v1/events", event(), Authorization="Bearer good").status == 200
        assert [one["environment"] for one in gateway.events()] == ["staging"]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
