"""OTLP requests for the gateway's benchmark, and a client that sends them: a program of its own.

Run as ``python -m bench.otlp_load`` it reads a task as JSON from standard input and prints
what it measured. It is its own process, so that its processor time is not counted as a gateway's.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

SPANS: Final = 100
"""Spans of a request."""

_DISTINCT: Final = 64
_CONNECTIONS: Final = 8
_WORDS: Final = [
    "the",
    "customer",
    "wants",
    "to",
    "change",
    "the",
    "delivery",
    "of",
    "order",
    "and",
    "asks",
    "whether",
    "a",
    "refund",
    "is",
    "possible",
    "when",
    "the",
    "parcel",
    "has",
    "not",
    "left",
    "our",
    "warehouse",
    "yet",
    "please",
    "check",
    "the",
    "policy",
    "before",
    "you",
    "answer",
    "and",
    "tell",
    "them",
    "about",
    "the",
    "store",
    "credit",
    "as",
    "well",
    "thank",
    "you",
    "for",
    "your",
    "patience",
    "we",
    "are",
    "looking",
    "into",
    "it",
]


def bodies(seed: int, content_bytes: int) -> list[bytes]:
    """Requests of 100 spans as an instrumented agent sends them.

    A trace has an agent span, model calls and tool calls, ten in all. With ``content_bytes`` every
    span carries messages or arguments of about that size, one in ten of them with an address, a
    telephone number or a card in it.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    rng = np.random.default_rng(seed)
    made = []
    for _ in range(_DISTINCT):
        request = ExportTraceServiceRequest()
        of_resource = request.resource_spans.add()
        _set(of_resource.resource.attributes, "service.name", "shop")
        _set(of_resource.resource.attributes, "deployment.environment.name", "production")
        _set(of_resource.resource.attributes, "telemetry.sdk.language", "python")
        target = of_resource.scope_spans.add()
        target.scope.name = "opentelemetry.instrumentation.openai_v2"
        for _ in range(SPANS // 10):
            trace_id, parent = rng.bytes(16), b""
            session = int(rng.integers(2**31))
            for number in range(10):
                span = target.spans.add(trace_id=trace_id, span_id=rng.bytes(8))
                span.parent_span_id, parent = parent, parent or span.span_id
                _fill(span, number, session, rng, content_bytes)
        made.append(request.SerializeToString())
    return made


def _fill(span: Any, number: int, session: int, rng: np.random.Generator, size: int) -> None:
    end = time.time_ns() - int(rng.integers(10**9))
    span.end_time_unix_nano = end
    span.start_time_unix_nano = end - int(rng.integers(10**9))
    given = span.attributes
    _set(given, "gen_ai.agent.name", "shop")
    _set(given, "gen_ai.conversation.id", f"session-{session}")
    if number == 0:
        span.name, operation = "invoke_agent shop", "invoke_agent"
        _set(given, "user.id", f"user-{session % 1000}")
    elif number % 2:
        span.name, operation = "chat gpt-4.1-mini", "chat"
        _set(given, "gen_ai.provider.name", "openai")
        _set(given, "gen_ai.request.model", "gpt-4.1-mini")
        _set(given, "gen_ai.response.model", "gpt-4.1-mini-2025-04-14")
        _set(given, "gen_ai.response.id", f"chatcmpl-{session}")
        _set(given, "gen_ai.usage.input_tokens", int(rng.integers(4000)))
        _set(given, "gen_ai.usage.output_tokens", int(rng.integers(400)))
        if size:
            _set(given, "gen_ai.output.messages", _messages(_text(rng, size - 300)))
    else:
        span.name, operation = "execute_tool lookup_order", "execute_tool"
        _set(given, "gen_ai.tool.name", "lookup_order")
        _set(given, "gen_ai.tool.call.id", f"call_{session}")
        if size:
            half = (size - 300) // 2
            _set(given, "gen_ai.tool.call.arguments", json.dumps({"note": _text(rng, half)}))
            _set(given, "gen_ai.tool.call.result", json.dumps({"found": _text(rng, half)}))
    _set(given, "gen_ai.operation.name", operation)


def _messages(text: str) -> str:
    return json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": text}]}])


def _text(rng: np.random.Generator, size: int) -> str:
    words = [_WORDS[i] for i in rng.integers(len(_WORDS), size=size // 5)]
    if rng.random() < 0.1:
        secret = ("ann@example.org", "+1 212 555 0123", "4111 1111 1111 1111")
        words.insert(int(rng.integers(len(words))), secret[int(rng.integers(3))])
    return " ".join(words)[:size]


def _set(attributes: Any, key: str, value: str | int) -> None:
    given = attributes.add(key=key).value
    if isinstance(value, int):
        given.int_value = value
    else:
        given.string_value = value


@dataclass(slots=True)
class _Client:
    """Sends requests over kept connections, as exporters do."""

    host: str
    port: int
    requests: list[bytes]
    turn: int = 0
    stored: int = 0
    refused: int = 0

    async def send(self, wire: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.turn += 1
        reader, writer = wire
        writer.write(self.requests[self.turn % len(self.requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.lower().partition(b"content-length:")[2]
        await reader.readexactly(int(fields.partition(b"\r\n")[0] or 0))
        if head.startswith(b"HTTP/1.1 200"):
            self.stored += 1
        else:
            self.refused += 1

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    async def as_fast_as_answered(self, seconds: float) -> None:
        end = time.perf_counter() + seconds

        async def one() -> None:
            wire = await self.connect()
            while time.perf_counter() < end:
                await self.send(wire)
            wire[1].close()

        await asyncio.gather(*(one() for _ in range(_CONNECTIONS)))

    async def at_a_rate(self, per_second: float, seconds: float, seed: int) -> list[float]:
        """Seconds from when a request was due to its answer; it waits for no other."""
        free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        taken: list[float] = []

        async def one(due: float) -> None:
            wire = free.pop() if free else await self.connect()
            await self.send(wire)
            taken.append(time.perf_counter() - due)
            free.append(wire)

        gaps = np.random.default_rng(seed).exponential(1 / per_second, int(per_second * seconds))
        began = time.perf_counter()
        tasks = []
        for due in began + np.cumsum(gaps):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(float(due))))
        await asyncio.gather(*tasks)
        for _, writer in free:
            writer.close()
        return taken


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _measure(task: dict[str, Any]) -> dict[str, Any]:
    address = urlsplit(task["url"])
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Content-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
    )
    made = bodies(task["seed"], task["content_bytes"])
    client = _Client(
        str(address.hostname),
        int(address.port or 80),
        [(head % len(body)).encode() + body for body in made],
    )
    await client.as_fast_as_answered(task["warm_s"])
    client.stored = client.refused = 0
    before, began = cpu_seconds(task["pid"]), time.perf_counter()
    taken: list[float] = []
    if task["per_second"] is None:
        await client.as_fast_as_answered(task["seconds"])
    else:
        taken = await client.at_a_rate(task["per_second"], task["seconds"], task["seed"])
    return {
        "requests": client.stored,
        "refused": client.refused,
        "cpu_s": cpu_seconds(task["pid"]) - before,
        "wall_s": time.perf_counter() - began,
        "bytes": float(np.mean([len(body) for body in made])),
        "latencies_s": taken,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_measure(json.load(sys.stdin)))))
