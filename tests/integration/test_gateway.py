"""The gateway of a running runtime: standard clients in, exact tables out, whatever Kafka does."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.conftest import Runtime
from tests.support.common import eventually, free_port
from tests.support.gateway_load import Exporters, Flood, Memory, spans

QUEUE_MB = 8


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    running = Runtime(tmp_path_factory.mktemp("gateway") / "home", free_port(16))
    impatient = {"DRIFTLINE_GATEWAY_ANSWER_S": "2", "DRIFTLINE_GATEWAY_QUEUE_MB": str(QUEUE_MB)}
    started = running.driftline("up", "--detach", environment=impatient)
    if started.returncode:
        pytest.fail(f"driftline up: {started.stderr}")
    yield running
    running.driftline("down")


def gateway(runtime: Runtime) -> str:
    return str(runtime.status()["addresses"]["gateway"])


def post(url: str, path: str, body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def pid_of(runtime: Runtime, name: str) -> int:
    return next(int(p["pid"]) for p in runtime.status()["components"] if p["name"] == name)


def stored(runtime: Runtime, agent: str) -> set[str]:
    with runtime.client() as client:
        found = client.query(
            "SELECT event_id FROM events FINAL WHERE agent = {a:String}", {"a": agent}
        )
        return {row[0] for row in found.result_rows}


def test_what_an_exporter_sends_is_stored_once(runtime: Runtime) -> None:
    url = gateway(runtime)
    batch = spans(100, agent="exporter")
    expected = {f"{s.context.trace_id:032x}:{s.context.span_id:016x}:span" for s in batch}
    for compression in (Compression.NoCompression, Compression.Gzip, Compression.Deflate):
        exporter = OTLPSpanExporter(f"{url}/v1/traces", compression=compression)
        assert exporter.export(batch) is SpanExportResult.SUCCESS
        exporter.shutdown()
    eventually(lambda: stored(runtime, "exporter") == expected, 20)
    books = json.loads(runtime.driftline("accounting", "--json").stdout)
    assert books["balanced"]
    assert books["duplicates"] == 200


def test_feedback_finds_its_interaction_and_a_retry_counts_once(runtime: Runtime) -> None:
    url = gateway(runtime)
    (span,) = spans(1, agent="rated")
    exporter = OTLPSpanExporter(f"{url}/v1/traces")
    assert exporter.export([span]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert span.context is not None
    trace = f"{span.context.trace_id:032x}"
    rating = {"trace_id": trace, "csat": 4, "user_id": "u", "time": "2026-06-01T10:00:00Z"}
    for _ in range(2):
        assert post(url, "/v1/feedback", rating) == {"accepted": 1, "rejected": 0}

    def rated() -> list[tuple[Any, ...]]:
        with runtime.client() as client:
            sql = "SELECT name, value FROM current_evaluations WHERE target = {t:String}"
            return list(client.query(sql, {"t": trace}).result_rows)

    eventually(lambda: rated() == [("csat", 0.75)], 20)
    with runtime.client() as client:
        assert client.command("SELECT count() FROM events FINAL WHERE kind = 'feedback'") == 1


def test_kafka_frozen_under_load_loses_nothing_and_memory_stays_bounded(runtime: Runtime) -> None:
    """Exporters wait and come again, others are refused; all that was answered 200 is there."""
    url = gateway(runtime)
    broker = pid_of(runtime, "kafka")
    memory = Memory(pid_of(runtime, "gateway"))
    exporters, flood = Exporters(url, threads=3), Flood(url)
    time.sleep(1)
    os.kill(broker, signal.SIGSTOP)
    try:
        eventually(lambda: flood.statuses[503] + flood.statuses[429] > 50, 8)
        time.sleep(3)
    finally:
        os.kill(broker, signal.SIGCONT)
    before = flood.statuses[200]
    eventually(lambda: flood.statuses[200] > before + 5, 10)
    flood.finish()
    exporters.finish(within_s=30)
    memory.stop()
    assert set(exporters.outcomes) == {SpanExportResult.SUCCESS}
    assert flood.slowest_s < 5
    # What is held has about twice its size on the way through Python, compression and sockets.
    assert memory.most - memory.first < (3 * QUEUE_MB + 32) << 20
    eventually(lambda: exporters.sent <= stored(runtime, "shop"), 30)
    eventually(lambda: flood.stored <= stored(runtime, "flood"), 30)
    books = json.loads(runtime.driftline("accounting", "--json").stdout)
    assert books["balanced"], books
    assert books["dead_lettered"] == 0
