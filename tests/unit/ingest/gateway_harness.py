"""A gateway on loopback with a producer in memory, in a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingest.access import Grant
from ingest.gateway.admission import ANYONE, Redact
from ingest.gateway.batcher import Batcher
from ingest.gateway.config import GatewayConfig
from ingest.gateway.record_producer import MemoryRecordProducer, Settled
from ingest.gateway.server import Gateway, Policy, serve


@dataclass
class EagerProducer(MemoryRecordProducer):
    """Acknowledges at once, or fails at once while it has an error."""

    error: Exception | None = None
    hold: bool = False

    def send(self, partition: int, record: bytes, settled: Settled) -> None:
        super().send(partition, record, settled)
        if not self.hold:
            self.settle(self.error)


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    port: int
    producer: EagerProducer
    box: Batcher
    loop: asyncio.AbstractEventLoop = field(repr=False)

    def events(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for _, record in self.producer.stored for line in record.split(b"\n")
        ]

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, kind: str = "application/json", **more: str) -> Answer:
        headers = {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in more.items()}}
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.request("POST", path, body, headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


_CONFIG = GatewayConfig(port=0)


@contextmanager
def served(
    config: GatewayConfig = _CONFIG,
    grant: Callable[[str | None], Grant | None] = lambda header: ANYONE,
    redact: Redact = lambda events: events,
    **policy: Any,
) -> Iterator[Served]:
    """Serve until the block ends; the gateway must then end by itself."""
    started = threading.Event()
    found: list[Served] = []
    problems: list[BaseException] = []
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        producer = EagerProducer(partitions=2)
        box = Batcher(
            lambda: producer, lambda: None, config.queue_bytes, config.linger_s, config.answer_s
        )
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(end.set))
        async with serve(config, Gateway(config, Policy(grant, redact, **policy), box)) as port:
            found.append(Served(port, producer, box, loop))
            started.set()
            await end.wait()
        await box.close(1.0)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            problems.append(error)
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(60)
    if problems:
        raise problems[0]
    try:
        yield found[0]
    finally:
        stop[0]()
        thread.join(15)
    assert not thread.is_alive()
    assert not problems
