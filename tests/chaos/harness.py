"""A pipeline to break: topics, tables and workers of its own, watched all the time."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.load import Load
from tests.chaos.log import Record
from tests.chaos.proxy import Proxy
from tests.chaos.store import DATABASE, USER, Store
from tests.chaos.traffic import Shape, Traffic
from tests.chaos.watch import Watch
from tests.support.kafka_cluster import Cluster
from tests.support.processes import kill, last_line, start, stop, until

EVENTS, DIRTY = "driftline.events", "driftline.dirty"
AWAY = 3
"""Exit code for "a service is away": whoever runs a worker starts it again."""

SINK_GROUP, RECOMPUTE_GROUP = "driftline-sink", "driftline"
SESSION_S = 6
PARTITIONS = 4
TOPICS = 4


@dataclass(frozen=True)
class Size:
    """How much of everything. A worker needs a second or two for every kill that hits its work."""

    per_second: int = 2_500
    kills: int = 20
    changes: int = 8
    calm_s: float = 20.0
    agents: int = 100_000
    settle_s: float = 150.0


SHORT = Size(per_second=1_500, kills=3, changes=2, calm_s=6.0, agents=3_000, settle_s=90.0)


@dataclass
class Bed:
    """One fault's pipeline; `close` it.

    Attributes
    ----------
    worker_command
        How a worker is started.
    expected_deaths
        Workers that the fault itself has ended.
    """

    cluster: Cluster
    folder: Path
    ports: int
    seed: int
    size: Size
    worker_command: list[str]
    shape: Shape = field(default_factory=Shape)
    disk_mib: int | None = None
    through_proxy: bool = False
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    expected_deaths: set[int] = field(default_factory=set)
    acknowledged: set[Any] = field(default_factory=set)
    proxy: Proxy | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.store = Store(self.folder, self.ports, self.disk_mib)
        self.traffic = Traffic(self.seed, self.shape)
        self.watch = Watch(self.cluster, self.store, SINK_GROUP, EVENTS)
        self.load: Load | None = None

    # ---- start and end ----

    def open(self) -> None:
        """Start the engine, make tables and topics, start to watch."""
        self.cluster.delete_topics()
        self.store.start()
        if self.through_proxy:
            self.proxy = Proxy(self.ports + 1, self.ports, self.seed)
        made = self.driftline("migrate")
        if made.returncode:
            raise RuntimeError(f"driftline migrate: {made.stderr}")
        self.watch.start()

    def close(self) -> None:
        """End everything that was started."""
        if self.load is not None:
            self.load.__exit__()
        self.watch.stop()
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.terminate()
        for worker in self.workers:
            stop(worker, 10)
        if self.proxy is not None:
            self.proxy.close()
        self.store.stop()

    # ---- driftline ----

    @property
    def max_agents(self) -> int:
        """How many agents are told apart: a tenth of them where there are very many."""
        return max(100, self.shape.agents // 10)

    @property
    def evaluators(self) -> Path:
        """The file of evaluators, of a fault that has any."""
        return self.folder / "evaluators.yaml"

    @property
    def variables(self) -> dict[str, str]:
        url = self.store.url
        if self.proxy is not None:
            url = f"http://127.0.0.1:{self.proxy.port}"
        return {
            "DRIFTLINE_HOME": str(self.folder / "home"),
            "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap_servers,
            "DRIFTLINE_KAFKA_PARTITIONS": str(PARTITIONS),
            "DRIFTLINE_CLICKHOUSE_URL": url,
            "DRIFTLINE_CLICKHOUSE_USER": USER,
            "DRIFTLINE_CLICKHOUSE_PASSWORD": self.store.password,
            "DRIFTLINE_CLICKHOUSE_DATABASE": DATABASE,
            # Small batches, so that there are many to be hit in the middle of.
            # When an interaction without an end is given up depends on the clock, not on the log.
            "DRIFTLINE_RESULTS_INACTIVITY_S": str(7 * 86_400),
            "DRIFTLINE_PROCESSING_BATCH_MB": "1",
            "DRIFTLINE_PROCESSING_SESSION_TIMEOUT_S": str(SESSION_S),
            "DRIFTLINE_PROCESSING_MAX_AGENTS": str(self.max_agents),
            "DRIFTLINE_EVALUATORS_FILE": str(self.evaluators) if self.evaluators.exists() else "",
        }

    def driftline(
        self, *arguments: str, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of driftline to its end."""
        return subprocess.run(
            [*DRIFTLINE, *arguments], env={**os.environ, **self.variables}, timeout=timeout_s,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def worker(self, command: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a worker, or whatever a command starts."""
        command = list(command or self.worker_command)
        process = start(command, self._log(len(self.workers) + 1), self.variables)
        self.workers.append(process)
        self.watch.processes.append(process)
        return process

    def running(self) -> list[subprocess.Popen[bytes]]:
        """The workers that run."""
        return [worker for worker in self.workers if worker.poll() is None]

    def end_worker(self, worker: subprocess.Popen[bytes], *, politely: bool = False) -> None:
        """Kill a worker, or ask it to leave."""
        self.expected_deaths.add(worker.pid)
        if politely:
            stop(worker, 30)
        else:
            kill(worker)

    def _log(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"

    def check_workers(self) -> None:
        """Start a worker again that ended because ClickHouse was away at its start."""
        for number, worker in enumerate(tuple(self.workers), 1):
            if worker.pid not in self.expected_deaths and worker.poll() is not None:
                if worker.returncode == AWAY:
                    self.expected_deaths.add(worker.pid)
                    self.worker(worker.args)  # type: ignore[arg-type]
                    continue
                said = last_line(self._log(number))
                raise AssertionError(f"worker {number} ended with {worker.returncode}: {said}")

    # ---- load ----

    def produce(self, per_second: int | None = None) -> Load:
        """Start to produce; use it as a context manager."""
        rate = per_second or self.size.per_second
        self.load = Load(self.cluster.bootstrap_servers, self.traffic, rate)
        return self.load

    def finish(self) -> None:
        """End the load and keep its receipts."""
        assert self.load is not None
        self.load.finish()
        self.acknowledged |= self.load.acknowledged

    def lost(self, log: list[Record]) -> set[Any]:
        """What was acknowledged and is not in the log."""
        return self.acknowledged - {record.receipt for record in log}

    # ---- progress ----

    def number(self, sql: str) -> int:
        """What a SELECT says; 0 while the store is away."""
        try:
            return self.store.number(sql)
        except (OSError, RuntimeError):
            return 0

    def stored(self) -> int:
        """Records in the books; 0 while the store is away."""
        return self.number("SELECT count() FROM ledger")

    def until_at_work(self, within_s: float = 60) -> None:
        """Return when more is stored than now."""
        before = self.stored()

        def more() -> bool:
            self.check_workers()
            return self.stored() > before

        until(more, within_s, "workers to store something", 0.1)

    def lag(self) -> dict[str, dict[int, int]]:
        """Records that the workers have not committed, of each topic and partition that has any."""
        found = {
            topic: {p: n for p, n in self.cluster.lag(group, topic).items() if n}
            for group, topic in ((SINK_GROUP, EVENTS), (RECOMPUTE_GROUP, DIRTY))
        }
        return {topic: waiting for topic, waiting in found.items() if waiting}

    def settle(self) -> float:
        """Return when nothing waits any more; how many seconds that took."""
        began = time.monotonic()

        def done() -> bool:
            self.check_workers()
            return not self.lag()

        try:
            until(done, self.size.settle_s, "the lag to be back at zero", 0.5)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {self.lag()}") from None
        return time.monotonic() - began

    def books(self) -> tuple[int, dict[str, Any]]:
        """Exit code and figures of ``driftline accounting --json``."""
        done = self.driftline("accounting", "--json")
        if not done.stdout:
            raise RuntimeError(f"driftline accounting: {done.stderr}")
        return done.returncode, json.loads(done.stdout)


def _driftline() -> list[str]:
    installed = Path(sys.executable).with_name("driftline")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "infra.cli"]


DRIFTLINE = _driftline()


def worker_command(given: str | None) -> list[str]:
    """Command line of a worker; the ordinary one unless another is given."""
    return shlex.split(given) if given else [*DRIFTLINE, "worker"]
