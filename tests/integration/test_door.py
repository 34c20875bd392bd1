"""OTLP on Kafka as a Collector writes it, read back from ClickHouse: exact, also after kill -9.

Messages carry the encodings and compressions that the Collector's Kafka exporter offers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import Runtime
from tests.support.common import eventually, free_port

MAIL = "ann.lee@example.org"
COMPRESSIONS = (None, "gzip", "snappy", "lz4", "zstd")
MESSAGES, SPANS = 600, 50


@pytest.fixture(scope="module")
def doored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime whose door gives up its partitions quickly when it dies."""
    runtime = Runtime(tmp_path_factory.mktemp("door") / "home", free_port(16))
    soon = {"DRIFTLINE_PROCESSING_SESSION_TIMEOUT_S": "6"}
    started = runtime.driftline("up", "--detach", environment=soon)
    assert started.returncode == 0, started.stderr
    yield runtime
    runtime.driftline("down")


def proto_message(rng: random.Random) -> tuple[bytes, set[str]]:
    """A request of model calls, and their ids as `trace:span`."""
    made = ExportTraceServiceRequest()
    of_resource = made.resource_spans.add()
    service = of_resource.resource.attributes.add()
    service.key, service.value.string_value = "service.name", "collected"
    spans, trace = of_resource.scope_spans.add().spans, rng.randbytes(16)
    now, ids = time.time_ns(), set()
    for _ in range(SPANS):
        span = spans.add()
        span.trace_id, span.span_id, span.parent_span_id = trace, rng.randbytes(8), b"\x01" * 8
        span.name, span.start_time_unix_nano, span.end_time_unix_nano = "chat", now - 10**9, now
        for key, value in (("gen_ai.operation.name", "chat"), ("gen_ai.completion", MAIL)):
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = key, value
        ids.add(f"{trace.hex()}:{span.span_id.hex()}")
    return made.SerializeToString(), ids


def json_message(rng: random.Random) -> tuple[bytes, set[str]]:
    now, trace = time.time_ns(), rng.randbytes(16).hex()
    spans = [
        {
            "traceId": trace,
            "spanId": rng.randbytes(8).hex(),
            "parentSpanId": "01" * 8,
            "name": "chat",
            "startTimeUnixNano": str(now - 10**9),
            "endTimeUnixNano": str(now),
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                {"key": "gen_ai.agent.name", "value": {"stringValue": "collected"}},
            ],
        }
        for _ in range(SPANS)
    ]
    body = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    return json.dumps(body).encode(), {f"{trace}:{span['spanId']}" for span in spans}


def produce(runtime: Runtime, topic: str, values: list[bytes]) -> None:
    """Every fifth message under another compression, as other Collectors would."""

    async def send() -> None:
        for number, compression in enumerate(COMPRESSIONS):
            producer = AIOKafkaProducer(
                bootstrap_servers=runtime.kafka.bootstrap_servers,
                compression_type=compression,
                max_batch_size=1,  # a batch per message, as the embedded broker counts right
            )
            async with producer:
                mine = values[number :: len(COMPRESSIONS)]
                await asyncio.gather(*[await producer.send(topic, value) for value in mine])

    asyncio.run(send())


def door(runtime: Runtime) -> dict[str, Any]:
    return next(p for p in runtime.status()["components"] if p["name"] == "receiver")


def events(runtime: Runtime) -> int:
    with runtime.client() as client:
        return int(client.command("SELECT uniqExact(event_id) FROM events WHERE kind = 'llm_call'"))


def produced(runtime: Runtime) -> float:
    """Events that this life of the door has produced; -1 while it does not answer."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{runtime.port_base + 4}/metrics", timeout=2
        ) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return -1.0
    name = 'driftline_events_produced_total{topic="otlp_spans"} '
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


def test_killed_again_and_again_it_loses_and_doubles_nothing(doored: Runtime) -> None:
    rng = random.Random(11)
    messages = [(proto_message if n % 3 else json_message)(rng) for n in range(MESSAGES)]
    garbage = [b"no otlp " + bytes([n]) for n in range(3)] + [
        b'{"resourceSpans": 1, "to": "%b"}' % MAIL.encode()
    ]
    values = [value for value, _ in messages] + garbage
    rng.shuffle(values)
    eventually(lambda: produced(doored) == 0, within_s=30)
    pids = [door(doored)["pid"]]
    sending = threading.Thread(target=produce, args=(doored, "otlp_spans", values))
    sending.start()
    for _ in range(2):
        eventually(lambda: produced(doored) > 0, within_s=60, every_s=0.01)
        time.sleep(rng.uniform(0, 0.1))
        assert produced(doored) < MESSAGES * SPANS, "it was done before it could be killed"
        os.kill(pids[-1], signal.SIGKILL)
        eventually(lambda: produced(doored) == 0, within_s=30)
        pids.append(door(doored)["pid"])
    sending.join(60)
    assert len(set(pids)) == 3
    expected = set().union(*(ids for _, ids in messages))
    eventually(lambda: events(doored) >= len(expected), within_s=90, every_s=0.5)
    count = "SELECT count() FROM dead_letters FINAL WHERE topic = 'otlp_spans'"
    with doored.client() as client:
        eventually(lambda: client.command(count) == len(garbage), within_s=30)
        rows = client.query(
            "SELECT event_id FROM events FINAL WHERE kind = 'llm_call'"
        ).result_columns[0]
        said = client.query("SELECT content, attributes FROM events FINAL").result_rows
    found = [":".join(row.split(":")[:2]) for row in rows]
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected
    assert MAIL not in str(said)
    books = json.loads(doored.driftline("accounting", "--json").stdout)
    assert books["balanced"]
    assert books["collisions"] == 0


def test_its_dead_letters_are_shown_redacted_with_their_place(doored: Runtime) -> None:
    shown = doored.driftline("deadletters", "show", "--topic", "otlp_spans", "--json")
    assert shown.returncode == 0, shown.stderr
    assert MAIL not in shown.stdout
    letters = json.loads(shown.stdout)
    assert (
        sorted(letter["code"] for letter in letters) == ["invalid_field"] + ["invalid_protobuf"] * 3
    )
    assert all(letter["place"].startswith("otlp_spans/") for letter in letters)
    assert all(letter["log_id"] for letter in letters)


def test_logs_come_in_as_well(doored: Runtime) -> None:
    now = str(time.time_ns())
    record = {
        "timeUnixNano": now,
        "eventName": "gen_ai.evaluation.result",
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "attributes": [
            {"key": "gen_ai.evaluation.name", "value": {"stringValue": "helpful"}},
            {"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 0.5}},
        ],
    }
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    produce(doored, "otlp_logs", [json.dumps(body).encode()])
    with doored.client() as client:
        query = "SELECT count() FROM events FINAL WHERE interaction_id = '" + "ab" * 16 + "'"
        eventually(lambda: client.command(query) >= 1, within_s=30)


def test_every_part_gives_a_sign_of_life(doored: Runtime) -> None:
    with doored.client() as client:
        query = "SELECT groupUniqArray(toString(component)) FROM heartbeats"
        parts = {"gateway", "receiver", "processors"}
        eventually(lambda: parts <= set(client.query(query).result_rows[0][0]), within_s=90)


def test_a_topic_full_of_something_else_stops_the_door_with_its_reason(doored: Runtime) -> None:
    """Last, for it leaves the door stopped."""
    produce(doored, "otlp_spans", [b"jaeger says no" * 3] * 1300)
    stopped = eventually(
        lambda: door(doored) if door(doored)["state"] == "stopped" else None, within_s=60
    )
    for word in ("too_many_bad_messages", "invalid_protobuf", "otlp_spans", "encoding"):
        assert word in stopped["detail"]
    status, body = ask(doored.status()["addresses"]["health"])
    assert status == 503
    assert "receiver is stopped: too_many_bad_messages" in json.dumps(body)
    assert doored.driftline("status").returncode == 1
    with doored.client() as client:
        assert client.command("SELECT 1") == 1  # the others go on


def ask(address: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
