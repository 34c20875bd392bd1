"""The gateway as a client sees it: real HTTP on loopback, records kept in memory."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ingest.access import Grant
from ingest.gateway import responses
from ingest.gateway.admission import AdmissionResult, Refusal
from ingest.gateway.config import GatewayConfig
from ingest.limits import Limits
from tests.support.common import eventually
from tests.unit.ingest.gateway_harness import ANYONE, served

NOW = 1_780_000_000_000_000_000
PROTOBUF = "application/x-protobuf"


def span(number: int = 1, start: int = NOW, end: int = NOW + 10**9) -> dict[str, Any]:
    return {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": f"{number:016x}",
        "name": "chat",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.agent.name", "value": {"stringValue": "shop"}},
        ],
    }


def otlp_json(*spans: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def otlp_protobuf(*spans: dict[str, Any]) -> bytes:
    request = ExportTraceServiceRequest()
    target = request.resource_spans.add().scope_spans.add()
    for given in spans:
        made = target.spans.add(
            trace_id=bytes.fromhex(given["traceId"]),
            span_id=bytes.fromhex(given["spanId"]),
            name=given["name"],
            start_time_unix_nano=int(given["startTimeUnixNano"]),
            end_time_unix_nano=int(given["endTimeUnixNano"]),
        )
        for attribute in given["attributes"]:
            value = made.attributes.add(key=attribute["key"]).value
            value.string_value = attribute["value"]["stringValue"]
    return request.SerializeToString()


def status_of(body: bytes) -> tuple[int, str]:
    """Code and message of a google.rpc.Status, whose wire format this message shares."""
    status = ExportTracePartialSuccess.FromString(body)
    return status.rejected_spans, status.error_message


def event(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "time_unix_nano": NOW, "agent": "shop", "kind": "tool_call",
        **fields,
    }  # fmt: skip


def zstd(data: bytes) -> bytes:
    from backports import zstd

    return zstd.compress(data)


@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate", "zstd"])
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_traces_come_in_every_encoding(encoding: str, coding: str) -> None:
    body = (otlp_protobuf if encoding == "protobuf" else otlp_json)(span(1), span(2))
    pack = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}
    kind = PROTOBUF if encoding == "protobuf" else "application/json; charset=utf-8"
    with served() as gateway:
        answer = gateway.post("/v1/traces", pack[coding](body), kind, Content_Encoding=coding)
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind.partition(";")[0])
        assert answer.body == (b"" if encoding == "protobuf" else b"{}")
        ids = {e["event_id"] for e in gateway.events()}
        assert {f"{span()['traceId']}:{n:016x}:span" for n in (1, 2)} <= ids
        assert {e["agent"] for e in gateway.events()} == {"shop"}


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_a_refused_span_costs_only_itself_and_is_explained(encoding: str) -> None:
    """Time by rule: 1970 is late and taken, 2100 is refused, without any time too."""
    spans = (
        span(1), span(2, start=1, end=2), span(3, start=4 * 10**18, end=4_102_444_800 * 10**9),
        span(4, start=0, end=0), span(5, start=NOW, end=NOW - 1),
    )  # fmt: skip
    with served() as gateway:
        if encoding == "json":
            answer = gateway.post("/v1/traces", otlp_json(*spans))
            partial = answer.json()["partialSuccess"]
            rejected, message = int(partial["rejectedSpans"]), partial["errorMessage"]
        else:
            answer = gateway.post("/v1/traces", otlp_protobuf(*spans), PROTOBUF)
            response = ExportTraceServiceResponse.FromString(answer.body)
            rejected = response.partial_success.rejected_spans
            message = response.partial_success.error_message
        assert (answer.status, rejected) == (200, 2)
        assert "future_time (1)" in message
        assert "invalid_field (1)" in message
        assert {e["time_unix_nano"] for e in gateway.events()} == {2, NOW - 1, NOW + 10**9}


def test_the_protobuf_written_by_hand_is_what_the_published_classes_read() -> None:
    refusals = [Refusal("future_time", "über" * 50)] * 300
    body = responses.otlp(AdmissionResult(refusals=refusals), "spans", "protobuf").body
    partial = ExportTraceServiceResponse.FromString(bytes(body)).partial_success  # type: ignore[arg-type]
    assert partial.rejected_spans == 300
    assert partial.error_message == AdmissionResult(refusals=refusals).reasons()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps(event()), "application/json"),
        (json.dumps(event(), indent=2), "application/json"),
        (json.dumps([event(), event(2)], indent=1), "application/json"),
        (json.dumps(event()) + "\n" + json.dumps(event(2)) + "\n\n", "application/x-ndjson"),
        (json.dumps(event()) + "\r\n" + json.dumps(event(2)), "application/jsonl"),
    ],
)
def test_canonical_events_come_as_object_array_or_lines(body: str, kind: str) -> None:
    with served() as gateway:
        answer = gateway.post("/v1/events", body.encode(), kind)
        expected = ["e1", "e2"][: body.count("event_id")]
        assert answer.status == 200
        assert answer.json() == {"accepted": len(expected), "rejected": 0}
        assert [e["event_id"] for e in gateway.events()] == expected


def test_bad_events_are_counted_and_explained_without_quoting_them() -> None:
    items = [event(), {"event_id": "x"}, event(2, kind="sk-secret"), 3, event(4, extra=[[]])]
    with served(now_ns=lambda: NOW) as gateway:
        answer = gateway.post("/v1/events", items)
        assert (answer.status, answer.json()["accepted"], answer.json()["rejected"]) == (200, 2, 3)
        codes = [reason["code"] for reason in answer.json()["reasons"]]
        assert codes == ["missing_field", "invalid_field", "not_an_object"]
        assert b"sk-secret" not in answer.body
        lines = b"\n".join(json.dumps(item).encode() for item in items)
        answer = gateway.post("/v1/events", lines, "application/x-ndjson")
        assert [reason["code"] for reason in answer.json()["reasons"]] == codes
        answer = gateway.post("/v1/events", items[1])
        assert (answer.status, answer.json()["code"]) == (400, "missing_field")
        assert answer.headers["Driftline-Code"] == "missing_field"
        assert answer.json()["accepted"] == 0


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "code"),
    [
        ("/v1/traces", b"\xff\xff", PROTOBUF, 400, "invalid_protobuf"),
        ("/v1/traces", b"{", "application/json", 400, "invalid_json"),
        ("/v1/traces", b'{"resourceSpans": "\xff"}', "application/json", 400, "invalid_utf8"),
        ("/v1/traces", b"[" * 1_000_000, "application/json", 400, "too_deep"),
        ("/v1/traces", b"", "text/plain", 415, "unsupported_media_type"),
        ("/v1/logs", b"\xff", PROTOBUF, 400, "invalid_protobuf"),
        ("/v1/events", b'{"a":' * 1_000_000, "application/json", 400, "too_deep"),
        ("/v1/events", b"", "application/json", 400, "empty_line"),
        ("/v1/events", b"\xff", "application/json", 400, "invalid_utf8"),
        ("/v1/events", b"{}\n{}", "application/json", 400, "invalid_json"),
        ("/v1/events", b"nonsense", "application/x-ndjson", 400, "invalid_json"),
        ("/v1/events", b"{}", PROTOBUF, 415, "unsupported_media_type"),
        ("/v1/feedback", b"{}", "application/json", 400, "missing_field"),
        ("/v2/nothing", b"{}", "application/json", 404, "not_found"),
    ],
)
def test_a_body_that_cannot_be_read_gets_its_code(
    path: str, body: bytes, kind: str, status: int, code: str
) -> None:
    with served() as gateway:
        answer = gateway.post(path, body, kind, Accept="application/json")
        assert (answer.status, answer.json()["code"]) == (status, code)
        assert answer.headers["Driftline-Code"] == code
        assert answer.json()["message"]
        assert gateway.events() == []


def test_an_error_of_a_protobuf_request_is_a_status_as_otlp_prescribes() -> None:
    with served() as gateway:
        answer = gateway.post("/v1/traces", b"\xff\xff", PROTOBUF)
        assert (answer.status, answer.headers["Content-Type"]) == (400, PROTOBUF)
        assert status_of(answer.body) == (3, "invalid_protobuf: not an OTLP request")


def test_only_post_and_only_what_there_is() -> None:
    with served() as gateway:
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            assert gateway.request(method, "/v1/traces").status == 405
        assert gateway.request("GET", "/").status == 404


SMALL = Limits(max_body_bytes=100_000, max_decompressed_bytes=2_000_000, max_records=3)


@pytest.mark.parametrize(
    ("body", "coding", "status", "code"),
    [
        (b"x" * 100_001, "", 413, "body_too_large"),
        (gzip.compress(b" " * 1_500_000), "gzip", 413, "ratio_too_high"),
        (gzip.compress(bytes(range(256)) * 90_000), "gzip", 413, "decompressed_too_large"),
        (b"no gzip", "gzip", 400, "corrupt_body"),
        (gzip.compress(b"{}", mtime=0)[:-3], "gzip", 400, "corrupt_body"),
        (b"{}", "br", 415, "unsupported_encoding"),
        (json.dumps([event(n) for n in range(4)]).encode(), "", 413, "too_many_records"),
    ],
)
def test_bodies_are_bounded(body: bytes, coding: str, status: int, code: str) -> None:
    with served(GatewayConfig(port=0, limits=replace(SMALL, max_ratio=400))) as gateway:
        answer = gateway.post("/v1/events", body, Content_Encoding=coding)
        assert (answer.status, answer.json()["code"]) == (status, code)
        assert gateway.box.held_bytes == 0


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
def test_millions_of_empty_groups_are_counted_before_they_are_looked_into(path: str) -> None:
    name = "resourceSpans" if path == "/v1/traces" else "resourceLogs"
    as_json = b'{"%s":[%s{}]}' % (name.encode(), b"{}," * 2_000_000)
    with served() as gateway:
        for body, kind in ((b"\x0a\x00" * 4_000_000, PROTOBUF), (as_json, "application/json")):
            began = time.process_time()
            answer = gateway.post(path, body, kind, Accept="application/json")
            assert (answer.status, answer.json()["code"]) == (413, "too_many_records")
            assert time.process_time() - began < 2


def test_a_gigabyte_is_refused_before_it_is_sent_and_while_it_comes() -> None:
    with served(GatewayConfig(port=0, limits=SMALL)) as gateway:
        with gateway.connect() as wire:
            wire.sendall(
                b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
            )
            assert wire.recv(4096).startswith(b"HTTP/1.1 413 ")
        with gateway.connect() as wire:
            wire.sendall(
                b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
            with pytest.raises((AssertionError, ConnectionError)):
                for _ in range(16_000):
                    wire.sendall(chunk)
                    wire.setblocking(False)
                    try:
                        got = wire.recv(4096)
                    except BlockingIOError:
                        got = b""
                    wire.setblocking(True)
                    assert not got.startswith(b"HTTP/1.1 413 ")
        assert gateway.box.held_bytes == 0


def test_expect_100_continue_is_answered() -> None:
    body = json.dumps(event()).encode()
    with served() as gateway, gateway.connect() as wire:
        wire.sendall(
            b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert wire.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(body)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_who_trickles_is_shown_out() -> None:
    config = GatewayConfig(port=0, header_timeout_s=0.4, body_timeout_s=0.4)
    header = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with served(config) as gateway:
        for start, trickle, expected in (
            (b"", b"", b""),
            (header, b"X: y\r\n", b""),
            (header + b"Content-Length: 100\r\n\r\n", b" ", b"HTTP/1.1 408 Request Timeout\r\n"),
        ):
            with gateway.connect() as wire:
                began = time.monotonic()
                wire.sendall(start)
                wire.settimeout(0.1)
                got = None
                while got is None and time.monotonic() - began < 60:
                    try:
                        got = wire.recv(4096)
                    except TimeoutError:
                        # Who sends into a closed connection is answered by a reset.
                        with suppress(ConnectionError):
                            wire.sendall(trickle)
                    except ConnectionResetError:
                        got = b""
                assert got is not None
                assert got.startswith(expected)
                assert bool(got) == bool(expected)
        assert gateway.box.held_bytes == 0


def test_connections_are_bounded(caplog) -> None:
    with served(GatewayConfig(port=0, max_connections=2)) as gateway:
        wires = [gateway.connect() for _ in range(2)]
        time.sleep(0.1)
        with gateway.connect() as wire:
            assert b"too_many_connections" in wire.recv(4096)
        for wire in wires:
            wire.close()
        # It sees them closed when its loop comes to it.
        eventually(lambda: gateway.request("GET", "/healthz").status == 200, 10)
    gc.collect()
    assert "never retrieved" not in caplog.text


GRANTS = {
    "Bearer all": Grant("all"),
    "Bearer shop": Grant("shop", "staging", frozenset({"shop"})),
}


def test_tokens_decide_who_comes_in_and_for_whom() -> None:
    with served(grant=lambda header: GRANTS.get(header or "")) as gateway:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = gateway.post("/v1/events", event(), **headers)
            assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        body = [event(1, environment="production"), event(2, agent="bank")]
        answer = gateway.post("/v1/events", body, Authorization="Bearer shop")
        assert (answer.status, answer.json()["rejected"]) == (200, 1)
        assert [e["environment"] for e in gateway.events()] == ["staging"]
        for path, foreign in (("/v1/events", [event(2, agent="bank")]), ("/v1/traces", None)):
            posted = foreign or json.loads(otlp_json(span()).replace(b'"shop"', b'"bank"'))
            answer = gateway.post(path, posted, Authorization="Bearer shop")
            assert (answer.status, answer.json()["code"]) == (403, "forbidden")
        answer = gateway.post(
            "/v1/feedback", {"session_id": "s", "thumbs": "up"}, Authorization="Bearer shop"
        )
        assert answer.status == 200
        assert gateway.events()[-1]["agent"] == "shop"
        answer = gateway.post("/v1/traces", otlp_protobuf(span()), PROTOBUF)
        assert (answer.status, status_of(answer.body)[0]) == (401, 16)


def test_feedback_of_every_kind_and_a_retry_counts_once() -> None:
    items = [
        {"session_id": "s", "thumbs": "up"},
        {"interaction_id": "i", "csat": 4, "comment": "good"},
        {"trace_id": "a" * 32, "stars": "five"},
    ]
    with served() as gateway:
        answer = gateway.post("/v1/feedback", items)
        assert (answer.status, answer.json()["accepted"]) == (200, 2)
        assert answer.json()["reasons"][0]["code"] == "invalid_field"
        gateway.post("/v1/feedback", items[0])
        ids = [(e["session_id"], e["event_id"]) for e in gateway.events() if "session_id" in e]
        assert len(ids) == 2
        assert len(set(ids)) == 1


def test_200_comes_after_kafka_and_503_without_it() -> None:
    config = GatewayConfig(port=0, answer_s=0.5)
    with served(config) as gateway:
        gateway.producer.hold = True
        answers: list[int] = []
        poster = threading.Thread(
            target=lambda: answers.append(gateway.post("/v1/events", event()).status)
        )
        poster.start()
        time.sleep(0.2)
        assert answers == []
        gateway.loop.call_soon_threadsafe(gateway.producer.settle)
        poster.join(5)
        assert answers == [200]
        for _ in range(2):  # the second is refused though its body never came to Kafka
            answer = gateway.post("/v1/events", event())
            assert (answer.status, answer.json()["code"]) == (503, "kafka_away")
            assert 5 <= int(answer.headers["Retry-After"]) <= 6
        ready = gateway.request("GET", "/readyz")
        assert (ready.status, ready.json()["reasons"][0]["code"]) == (503, "kafka_away")
        assert gateway.request("GET", "/healthz").status == 200
        gateway.producer.hold = False
        assert gateway.post("/v1/events", event()).status == 200
        assert gateway.request("GET", "/readyz").status == 200


def test_a_full_queue_is_429_at_once_and_memory_stays_bounded() -> None:
    config = GatewayConfig(port=0, answer_s=2.0, queue_bytes=200_000)
    body = [event(n, content="x" * 1000) for n in range(100)]
    with served(config) as gateway:
        gateway.producer.hold = True
        found: list[tuple[int, str | None]] = []

        def post() -> None:
            answer = gateway.post("/v1/events", body)
            found.append((answer.status, answer.headers.get("Retry-After")))
            most.append(gateway.box.held_bytes)

        most: list[int] = []
        threads = [threading.Thread(target=post) for _ in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        assert found
        assert set(found) == {(429, "1")}
        assert gateway.box.held_bytes <= 200_000
        gateway.loop.call_soon_threadsafe(gateway.producer.settle)
        for thread in threads:
            thread.join(5)
        assert sum(status == 200 for status, _ in found) == 12 - found.count((429, "1")) >= 1
        assert max(most) <= 200_000
        assert gateway.box.held_bytes == 0


def test_requests_under_way_are_answered_when_it_stops() -> None:
    found: list[int] = []
    with served() as gateway:
        gateway.producer.hold = True
        poster = threading.Thread(
            target=lambda: found.append(gateway.post("/v1/events", event()).status)
        )
        poster.start()
        time.sleep(0.2)
        threading.Timer(
            0.3, lambda: gateway.loop.call_soon_threadsafe(gateway.producer.settle)
        ).start()
    poster.join(5)
    assert found == [200]


def test_metrics_tell_codes_and_never_content(caplog: pytest.LogCaptureFixture) -> None:
    def broken(events: list[Any]) -> list[Any]:
        raise RuntimeError("about sk-secret")

    caplog.set_level(logging.DEBUG)
    with served(redact=broken) as gateway:
        answer = gateway.post("/v1/events", event(content="sk-secret"))
        assert (answer.status, answer.json()["code"]) == (500, "internal_error")
        with gateway.connect() as wire:
            wire.sendall(b"sk-secret\r\n\r\n")
            assert wire.recv(4096).startswith(b"HTTP/1.0 400 ")
        metrics = gateway.request("GET", "/metrics").body.decode()
    assert 'driftline_gateway_requests_total{code="internal_error",route="events"}' in metrics
    assert "internal error RuntimeError in" in caplog.text
    assert "sk-secret" not in caplog.text + metrics


def test_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with served(GatewayConfig(port=0, tls=context)) as gateway:
        trusting = ssl.create_default_context(cafile=str(certificate))
        client = HTTPSConnection("127.0.0.1", gateway.port, context=trusting, timeout=10)
        client.request(
            "POST", "/v1/events", json.dumps(event()), {"Content-Type": "application/json"}
        )
        assert client.getresponse().status == 200
        client.close()
        with gateway.connect() as wire:
            wire.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            wire.settimeout(5)
            assert b"HTTP" not in _all(wire)
        assert len(gateway.events()) == 1


def _all(wire: socket.socket) -> bytes:
    try:
        return wire.recv(4096)
    except ConnectionError:
        return b""


def test_a_web_page_under_a_name_of_its_own_is_refused() -> None:
    """Its name points to loopback, and without tokens nothing else tells it apart."""
    event = {"event_id": "1", "time_unix_nano": 1, "agent": "a", "kind": "span"}
    with served(GatewayConfig(port=0, hosts=frozenset({"proxy.example"}))) as gateway:
        refused = gateway.post("/v1/events", event, Host="evil.example:4318")
        assert (refused.status, json.loads(refused.body)["code"]) == (403, "unknown_host")
        for name in ("localhost", "127.0.0.1:1", "Proxy.example"):
            assert gateway.post("/v1/events", event, Host=name).status == 200
    tokens = {"Bearer t": ANYONE}
    with served(grant=tokens.get) as gateway:  # type: ignore[arg-type]
        named = {"Host": "gateway.example", "Authorization": "Bearer t"}
        assert gateway.post("/v1/events", event, **named).status == 200
