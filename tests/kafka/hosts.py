"""A deployment of many hosts: ``make chaos``'s, but each part a process on a host of its own.

What agents send comes in as in production: by the gateway, or by the receiver as a Collector would
write it to Kafka.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from ingest.producer import let_go
from tests.chaos.harness import DRIFTLINE, Bed, Size
from tests.chaos.log import Record
from tests.support.kafka_cluster import Cluster
from tests.support.network import Host, Network
from tests.support.processes import kill, last_line, listens, start, stop, until

_GATEWAY_PORT, _ENGINE_PORT = 4318, 8123
_SPANS, _RECEIVERS = "otlp_spans", "driftline-door"
_TICK_S = 0.25

PATIENCE_S = 180
"""For any condition, on a machine whose cores are busy."""


@dataclass
class Part:
    """A process on a host; whoever kills it starts it again."""

    host: Host
    command: list[str]
    log: Path
    variables: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = start(self.host.command(self.command), self.log, self.variables)

    def kill(self) -> None:
        assert self.process is not None
        kill(self.process)

    def check(self) -> None:
        """Nothing ends by itself, whoever is away."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{' '.join(self.command)} ended: {last_line(self.log)}")


class Deployment(Bed):
    """ClickHouse, gateway, receiver and workers, each on a host of its own beside the cluster's."""

    def __init__(self, network: Network, cluster: Cluster, folder: Path, size: Size) -> None:
        self._network = network
        self.worker_hosts: list[Host] = []
        super().__init__(cluster, folder, _ENGINE_PORT, 1, size, [])
        self.store.host = store = self._host("clickhouse")
        self.gateway = self._part("gateway", "gateway")
        self.receiver = self._part("receiver", "receiver")
        # The embedded engine listens on its own loopback only.
        relay = [sys.executable, "-m", "tests.support.network", store.address, str(_ENGINE_PORT)]
        self.relay = Part(store, relay, folder / "relay.log", {})

    def _host(self, name: str) -> Host:
        return self._network.host(f"{name}-{len(self._network.hosts)}")

    def _part(self, name: str, *command: str) -> Part:
        variables = dict(self.variables)
        return Part(
            self._host(name), [*DRIFTLINE, *command], self.folder / f"{name}.log", variables
        )

    def open(self) -> None:
        """Start everything but workers, and make a token to send with."""
        self.relay.start()
        super().open()
        token = self.driftline("tokens", "add", "agents").stdout.split()[-1]
        self.gateway.variables |= {
            "DRIFTLINE_GATEWAY_HOST": self.gateway.host.address,
            "DRIFTLINE_GATEWAY_PORT": str(_GATEWAY_PORT),
        }
        self.gateway.start()
        self.receiver.start()
        until(lambda: listens(self.gateway.host.address, _GATEWAY_PORT), PATIENCE_S, "the gateway")
        self.senders = Senders(self, token)

    def worker(self, command: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a worker on a new host, the last of ``worker_hosts``, or what a command says."""
        if not command:
            self.worker_hosts.append(self._host("worker"))
            command = self.worker_hosts[-1].command([*DRIFTLINE, "worker"])
        return super().worker(command)

    def close(self) -> None:
        for part in (self.gateway, self.receiver, self.relay):
            if part.process is not None:
                stop(part.process)
        super().close()

    def lost(self, log: list[Record]) -> set[Any]:
        """What Kafka or, by their ids, senders were told is safe, and is not there."""
        there = {json.loads(line)["event_id"] for r in log for line in r.value.split(b"\n")}
        return super().lost(log) - there

    def lag(self) -> dict[str, dict[int, int]]:
        """What the receiver has not committed as well: it is the way to what workers read."""
        spans = {p: n for p, n in self.cluster.lag(_RECEIVERS, _SPANS).items() if n}
        return super().lag() | ({_SPANS: spans} if spans else {})

    def until_at_work(self, within_s: float = PATIENCE_S) -> None:
        """Return when more is stored than now."""
        super().until_at_work(within_s)

    def check_workers(self) -> None:
        self.gateway.check()
        self.receiver.check()
        super().check_workers()


class Senders:
    """Agents that send events to the gateway, and a Collector that writes spans to Kafka.

    Both send again what they are not told is safe. Use it as a context manager; ``sent`` counts
    what is safe, by way.
    """

    def __init__(self, bed: Deployment, token: str) -> None:
        self._bed = bed
        self._url = f"http://{bed.gateway.host.address}:{_GATEWAY_PORT}/v1/events"
        self._headers = {
            "Content-Type": "application/x-ndjson",
            "Authorization": f"Bearer {token}",
        }
        self._random = random.Random(bed.seed)
        self._ending = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(send,), daemon=True)
            for send in (self._agents, self._collector)
        ]
        self.sent = {"gateway": 0, "receiver": 0}

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()

    def finish(self) -> None:
        """Stop when everything is safe."""
        self._ending.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a sender is still at it"
        if self._failures:
            raise self._failures[0]

    def _run(self, send: Callable[[], None]) -> None:
        try:
            send()
        except BaseException as error:  # the one who calls `finish` raises it
            self._failures.append(error)

    def _agents(self) -> None:
        traffic, count = self._bed.traffic, round(self._bed.size.per_second * _TICK_S)
        while not self._ending.wait(_TICK_S):
            self._post(traffic.lines(count, time.time_ns()))
        self._post(traffic.rest())

    def _post(self, lines: list[bytes]) -> None:
        for body in self._bed.traffic.records(lines):
            request = urllib.request.Request(self._url, body, self._headers)
            while True:
                try:
                    urllib.request.urlopen(request, timeout=10).close()
                except OSError:  # also what HTTP refuses
                    time.sleep(_TICK_S)
                else:
                    break
            ids = {json.loads(line)["event_id"] for line in body.split(b"\n")}
            self._note("gateway", ids)

    def _collector(self) -> None:
        producer = self._producer()
        try:
            while not self._ending.wait(_TICK_S):
                body, ids = self._spans(time.time_ns())
                while True:
                    try:
                        producer.send(_SPANS, body).get(30)
                    except KafkaError:
                        # kafka-python may look for minutes for what it lost; a Collector does not.
                        let_go(producer)
                        producer = self._producer()
                    else:
                        break
                self._note("receiver", ids)
        finally:
            let_go(producer)

    def _producer(self) -> KafkaProducer:
        servers = self._bed.cluster.bootstrap_servers.split(",")
        while True:
            try:
                return KafkaProducer(
                    bootstrap_servers=servers, acks="all", delivery_timeout_ms=20_000,
                    request_timeout_ms=10_000, bootstrap_timeout_ms=10_000,
                )  # fmt: skip
            except KafkaError:
                time.sleep(_TICK_S)

    def _note(self, way: str, ids: set[str]) -> None:
        self._bed.acknowledged |= ids
        self.sent[way] += len(ids)

    def _spans(self, now: int) -> tuple[bytes, set[str]]:
        """An interaction as OTLP in JSON, and the ids of its events."""
        rng, name = self._random, f"collected-{self.sent['receiver']}"
        trace, root = rng.randbytes(16).hex(), rng.randbytes(8).hex()
        common = {
            "gen_ai.agent.name": "collected", "gen_ai.conversation.id": name, "user.id": name,
        }  # fmt: skip
        works: list[dict[str, Any]] = [
            {"gen_ai.operation.name": "invoke_agent"},
            {
                "gen_ai.operation.name": "chat", "gen_ai.request.model": "m",
                "gen_ai.usage.input_tokens": str(rng.randrange(4_000)),
            },
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
        ]  # fmt: skip
        spans = [
            {
                "traceId": trace,
                "spanId": rng.randbytes(8).hex() if n else root,
                "parentSpanId": root if n else "",
                "name": "work",
                "startTimeUnixNano": str(now - (6 - n) * 10**9),
                "endTimeUnixNano": str(now - (n and 4 - n) * 10**9),
                "attributes": _attributes(common | work),
                "status": {"code": 2} if rng.random() < 0.2 else {},
            }
            for n, work in enumerate(works)
        ]
        resource = {"attributes": _attributes({"deployment.environment.name": "production"})}
        body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
        return json.dumps(body).encode(), {f"{trace}:{s['spanId']}:span" for s in spans}


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue" if value.isdigit() else "stringValue": value}}
        for key, value in values.items()
    ]
