"""A pipeline to break: real Kafka, the embedded engine, and workers as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dashboards.accounting import account
from infra.embedded.process import last_line, start, stop
from infra.topics import create_topics, driftline_topics, log_id
from ingest.core.events import DIRTY_TOPIC, EVENTS_TOPIC, Event
from ingest.core.kafka import KafkaConfig
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive import sealing
from tests.conftest import ClickHouse
from tests.kafka import truth
from tests.support.common import eventually
from tests.support.kafka_cluster import Cluster

SINK_GROUP = "driftline-sink"
RECOMPUTE_GROUP = "driftline"


@dataclass
class Bed:
    """Topics and tables of their own for one test."""

    cluster: Cluster
    clickhouse: ClickHouse
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def variables(self) -> dict[str, str]:
        return {
            "DRIFTLINE_HOME": str(self.folder / "home"),
            "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap_servers,
            "DRIFTLINE_CLICKHOUSE_URL": self.clickhouse.url,
            "DRIFTLINE_CLICKHOUSE_USER": self.clickhouse.user,
            "DRIFTLINE_CLICKHOUSE_PASSWORD": self.clickhouse.password,
            "DRIFTLINE_CLICKHOUSE_DATABASE": self.clickhouse.database,
            **self.environment,
        }

    @property
    def kafka(self) -> KafkaConfig:
        """The listeners without encryption or login."""
        return KafkaConfig(bootstrap_servers=self.cluster.bootstrap_servers)

    @property
    def store(self) -> Store:
        return Store(
            ClickHouseConfig(
                self.clickhouse.url,
                self.clickhouse.user,
                self.clickhouse.password,
                self.clickhouse.database,
            )
        )

    def worker(self, mutation: str | None = None, **more: str) -> subprocess.Popen[bytes]:
        """Start a worker, perhaps a broken one; it reads the id of the topic as it is now."""
        broken = ["tests.kafka.mutant", mutation] if mutation else ["infra.cli", "worker"]
        process = start(
            [sys.executable, "-m", *broken],
            self.folder / f"worker-{len(self.workers) + 1}.log",
            self.variables() | more,
        )
        self.workers.append(process)
        return process

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of driftline to its end."""
        return subprocess.run(
            [sys.executable, "-m", "infra.cli", *arguments],
            env={**os.environ, **self.variables(), **more},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def make_topics(self, partitions: int = 4) -> None:
        create_topics(self.kafka, driftline_topics(partitions, 24))

    def lag(self) -> int:
        """Records that the workers have yet to work off."""
        waiting = sum(self.cluster.lag(SINK_GROUP, EVENTS_TOPIC).values())
        return waiting + sum(self.cluster.lag(RECOMPUTE_GROUP, DIRTY_TOPIC).values())

    def stored(self) -> int:
        """Events in the store, repeats included."""
        return int(self.store.query("SELECT count() AS n FROM events")["n"][0])

    def settle(self, within_s: float = 90.0, *, reported: bool = True) -> None:
        """Return when both groups have committed what was produced, and the workers say so too."""

        def done() -> bool:
            for number, worker in enumerate(self.workers, 1):
                if worker.poll() not in (None, -9, 0, -15):
                    log = self.folder / f"worker-{number}.log"
                    raise AssertionError(f"worker {number} ended: {last_line(log)}")
            return self.lag() == 0

        eventually(done, within_s, 0.5)
        if reported:
            eventually(self._reported, 30, 0.5)

    def _reported(self) -> bool:
        """Whether the workers' own reports say the same: nothing waits."""
        log = log_id(self.kafka, EVENTS_TOPIC)
        rows = sealing.read(self.store, log).filter(topic=EVENTS_TOPIC)
        return not rows.is_empty() and rows["lag"].sum() == 0

    def check(self, events: Iterable[Event], repeats_allowed: bool = False) -> None:
        """Hold the tables against the produced events, exactly; the books against both."""
        sent = list(events)
        true = truth.distinct(sent)
        store = self.store
        for name, sql, columns, expected in (
            ("events", truth.EVENTS, 1, truth.events(true)),
            ("windows", truth.WINDOWS, 6, truth.windows(true)),
            ("interactions", truth.INTERACTIONS, 1, truth.interactions(true)),
            ("sessions", truth.SESSIONS, 1, truth.sessions(true)),
            ("rollups", truth.ROLLUPS, 5, truth.rollups(true)),
            ("evaluations", truth.EVALUATIONS, 5, truth.evaluations(true)),
        ):
            wrong = truth.differences(truth.keyed(store.query(sql), columns), expected)
            assert not wrong, "\n".join([f"{name} differ from what was produced:", *wrong])
        books = account(store)
        assert books["balanced"], books
        assert (books["stored"], books["collisions"]) == (len(true), 0), books
        # A producer that was not answered sends again.
        accepted = books["accepted"]
        assert accepted == len(sent) or (repeats_allowed and accepted > len(sent)), books

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.terminate()
        for worker in self.workers:
            stop(worker, 15)
