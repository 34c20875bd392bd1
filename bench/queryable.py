"""OTLP sent until it can be queried, by the whole runtime and by Arize Phoenix on SQLite.

Both are sent the same spans, as fast as they take them, after a request that warms them up. The
clock runs until a query counts every span; the processor time is that of all processes, for
driftline until its interactions are there too. `make bench-gateway` builds Phoenix from its lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import local
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from bench.isolated import PEERS
from bench.live import free_base, pids_of, runtime, wait
from bench.otlp_load import SPANS, bodies
from bench.report import result
from bench.throughput import cpu_seconds
from infra.embedded.process import start, stop, wait_for_port
from processors.clickhouse import ClickHouseConfig, Store

PHOENIX: Final = PEERS / "env-phoenix" / "bin" / "phoenix"
_CONTENT_BYTES: Final = 1000
_TRACE: Final = 10


class _System(NamedTuple):
    """Where spans go, how many of them a query finds, and whose processor time counts."""

    url: str
    stored: Callable[[], int]
    done: Callable[[int], bool]
    pids: list[int]


def measure(quick: bool, seed: int, say: Callable[[str], None], folder: Path) -> list[Any]:
    """Return spans per second and processor time per million, and their ratios where both ran."""
    requests = [body for n in range(1 if quick else 2) for body in bodies(seed + n, _CONTENT_BYTES)]
    say(f"{len(requests) * SPANS:,} spans through driftline until they can be queried ...")
    with _driftline() as system:
        ours = _send(system, requests, seed)
    results = _results(ours, None, len(requests))
    if PHOENIX.exists():
        say("the same through Arize Phoenix ...")
        with _phoenix(folder) as system:
            theirs = _send(system, requests, seed)
        results += _results(theirs, "phoenix", len(requests))
        results += [
            result("otlp_to_query.times_its_rate", theirs[0] / ours[0], "x", peer="phoenix"),
            result("otlp_to_query.share_of_its_cpu", ours[1] / theirs[1], "x", peer="phoenix"),
        ]
    return results


def version() -> str:
    """Version of Phoenix, or why there is none."""
    if not PHOENIX.exists():
        return "not available: not built; `make bench-gateway` builds it"
    lock = (PEERS / "phoenix.txt").read_text()
    return lock.partition("arize-phoenix==")[2].split()[0]


def _results(taken: tuple[float, float], peer: str | None, requests: int) -> list[Any]:
    wall_s, cpu_s = taken
    n = requests * SPANS
    return [
        result("otlp_to_query.spans_per_second", n / wall_s, "spans/s", peer=peer, n=n),
        result("otlp_to_query.cpu_seconds_per_million", cpu_s / n * 1e6, "CPU-s", peer=peer, n=n),
    ]


def _send(system: _System, requests: list[bytes], seed: int) -> tuple[float, float]:
    """Seconds until every span is found, and seconds of processors."""
    with ThreadPoolExecutor(8) as pool:
        wires = local()

        def post(body: bytes) -> None:
            address = urlsplit(system.url)
            if not hasattr(wires, "open"):
                wires.open = HTTPConnection(str(address.hostname), address.port, timeout=120)
            while True:
                wires.open.request(
                    "POST", address.path, body, {"Content-Type": "application/x-protobuf"}
                )
                answer = wires.open.getresponse()
                answer.read()
                if answer.status == 200:
                    return
                time.sleep(0.05)  # its queue is full

        post_one = bodies(seed - 1, _CONTENT_BYTES)[0]
        pool.submit(post, post_one).result()
        wait(lambda: system.stored() == SPANS)
        spent, begun = cpu_seconds(system.pids), time.perf_counter()
        list(pool.map(post, requests))
        spans = (len(requests) + 1) * SPANS
        wait(lambda: system.stored() == spans, within_s=1800)
        wall_s = time.perf_counter() - begun
        wait(lambda: system.done(spans))
        return wall_s, cpu_seconds(system.pids) - spent


@contextmanager
def _driftline() -> Iterator[_System]:
    with runtime() as (home, state):
        password = home.credentials(None, None).password
        store = Store(ClickHouseConfig(state.addresses["clickhouse"], "driftline", password))

        def count(sql: str) -> int:
            return int(store.query(f"SELECT {sql} AS n")["n"][0])

        spans = "uniqExact(event_id) FROM events WHERE endsWith(event_id, ':span')"
        yield _System(
            state.addresses["gateway"] + "/v1/traces",
            lambda: count(f"(SELECT {spans})"),
            lambda n: count("(SELECT count() FROM interactions)") >= n // _TRACE,
            pids_of(state),
        )


@contextmanager
def _phoenix(folder: Path) -> Iterator[_System]:
    port = free_base()
    log = folder / "phoenix.log"
    environment = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(port + 1),
        "PHOENIX_WORKING_DIR": str(folder / "phoenix"),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    (folder / "phoenix").mkdir()
    process = start([str(PHOENIX.absolute()), "serve"], log, environment)
    try:
        wait_for_port(process, port, "Phoenix", log)
        yield _System(
            f"http://127.0.0.1:{port}/v1/traces",
            lambda: _recorded(port),
            lambda _: True,
            [process.pid],
        )
    finally:
        stop(process)


def _recorded(port: int) -> int:
    wire = HTTPConnection("127.0.0.1", port, timeout=60)
    asked = json.dumps({"query": "{projects {edges {node {recordCount}}}}"})
    try:
        wire.request("POST", "/graphql", asked, {"Content-Type": "application/json"})
        edges = json.load(wire.getresponse())["data"]["projects"]["edges"]
    finally:
        wire.close()
    return sum(edge["node"]["recordCount"] for edge in edges)
