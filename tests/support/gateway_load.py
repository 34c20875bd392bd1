"""Load on a gateway: standard OTLP exporters that retry, and senders that do not care."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)


class _Kept(SpanExporter):
    """Collects spans so that they can be exported in batches of our choosing."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def spans(count: int, agent: str = "shop") -> list[ReadableSpan]:
    """Spans as an instrumented agent makes them: an interaction with its model calls."""
    kept = _Kept()
    provider = TracerProvider(resource=Resource.create({"service.name": agent}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("tests")
    while len(kept.spans) < count:
        invoked = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}
        with tracer.start_as_current_span("invoke_agent", attributes=invoked):
            for _ in range(4):
                called = {"gen_ai.operation.name": "chat", "gen_ai.response.model": "m"}
                with tracer.start_as_current_span("chat", attributes=called):
                    pass
    provider.shutdown()
    return kept.spans[:count]


@dataclass
class Exporters:
    """Standard exporters that send at once until told to stop, each span of its own.

    Parameters
    ----------
    url
        Of the gateway.
    threads, batch, pause_s
        How many, how many spans a time, and the pause between two times.
    patience_s
        The exporter's own timeout, retries included, as OTEL_EXPORTER_OTLP_TIMEOUT sets it.
    """

    url: str
    threads: int = 4
    batch: int = 50
    pause_s: float = 0.2
    patience_s: float = 300.0
    sent: set[str] = field(default_factory=set)
    outcomes: Counter[SpanExportResult] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._running = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(self.threads)
        ]
        for thread in self._running:
            thread.start()

    def finish(self, within_s: float) -> None:
        """Let every exporter end the export it is at."""
        self._stop.set()
        deadline = time.monotonic() + within_s
        for thread in self._running:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "an exporter is still at it"

    def _run(self, number: int) -> None:
        exporter = OTLPSpanExporter(
            f"{self.url}/v1/traces",
            timeout=self.patience_s,
            compression=Compression.Gzip if number % 2 else None,
        )
        while not self._stop.is_set():
            batch = spans(self.batch)
            self.outcomes[exporter.export(batch)] += 1
            for span in batch:
                context = span.get_span_context()
                assert context is not None
                self.sent.add(f"{context.trace_id:032x}:{context.span_id:016x}:span")
            time.sleep(self.pause_s)
        exporter.shutdown()


@dataclass
class Flood:
    """Senders that post as fast as they are answered and never send anything again."""

    url: str
    threads: int = 4
    events: int = 200
    text: int = 1000
    stored: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._running = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(self.threads)
        ]
        for thread in self._running:
            thread.start()

    def finish(self) -> None:
        """Stop when every sender has its answer."""
        self._stop.set()
        for thread in self._running:
            thread.join(30)
            assert not thread.is_alive(), "a sender is still at it"

    def _run(self, number: int) -> None:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        turn = 0
        while not self._stop.is_set():
            turn += 1
            batch = [self._event(f"flood-{number}-{turn}-{n}") for n in range(self.events)]
            began = time.monotonic()
            connection.request(
                "POST", "/v1/events", json.dumps(batch), {"Content-Type": "application/json"}
            )
            with connection.getresponse() as answer:
                answer.read()
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.stored |= {event["event_id"] for event in batch}
            else:
                time.sleep(0.05)
        connection.close()

    def _event(self, name: str) -> dict[str, Any]:
        return {
            "event_id": name, "time_unix_nano": time.time_ns(), "agent": "flood",
            "kind": "tool_call", "session_id": name, "content": "x" * self.text,
        }  # fmt: skip


class Memory:
    """Watches the resident memory of a process until stopped; sizes in bytes."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/statm")
        self._stop = threading.Event()
        self.first = self.most = self._now()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        return int(self._status.read_text().split()[1]) * 4096
