"""An incident from traffic to page, recovery and relapse, over workers that die and join."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from infra import wiring
from infra.settings import load
from ingest.core.events import Event
from ingest.replay.publish import replay
from ingest.simulate import Simulation, SimulationConfig
from ingest.simulate.incidents import parse_incident
from processors.clickhouse import Store
from processors.derive.result_store import ResultStore
from processors.stations.base import BUCKETS, bucket_of
from processors.stations.detection import DetectionConfig
from processors.stations.runner import STEP_S, Stations
from processors.stations.service import all_stations
from processors.stations.storage import ClickHouseStations, MemoryStations
from tests.conftest import Runtime
from tests.support.common import eventually, free_port
from tests.support.processes import start, stop
from tests.support.receivers import Hook, webhook
from tests.support.stations import T0, run

PAUSE_S = 90
START_S = T0 + 9 * 3600
RELAPSE_S = START_S + (85 + 95) * 60 + 2 * PAUSE_S
AGENT, TOOL = "support", "search_articles"
SECRET = "end-to-end-secret"
WARM_UP = 600.0
EXPLAINED = (
    "agent_version", "causes", "cost_usd", "evidence", "examples", "sessions", "title", "users"
)  # fmt: skip
"""Fields of a finding that are read from the interactions known at the moment."""


def traffic() -> Iterator[Iterator[Event]]:
    """Four agents: an outage of a tool in the end, quiet hours, and the same outage again.

    Between the parts is a pause: when nothing more comes, event time goes on for a minute, and
    nothing of the next part shall be late.
    """
    start = START_S
    for seed, (minutes, outage) in enumerate(((85, 60), (95, None), (25, 0))):
        incident = [] if outage is None else [f"tool_outage@{outage}m+25m:{AGENT}/{TOOL}"]
        config = SimulationConfig(
            start_ns=start * 10**9, duration_s=minutes * 60.0, rate=0.7, seed=seed,
            incidents=[parse_incident(text, 1) for text in incident], rollout=(2.0, 3.0),
        )  # fmt: skip
        yield Simulation(config).events()
        start += minutes * 60 + PAUSE_S


class Deployment:
    """A runtime with two workers that pages a local webhook."""

    def __init__(
        self, runtime: Runtime, hook: Hook, collector: Hook, environment: dict[str, str]
    ) -> None:
        self.runtime, self.hook, self.collector = runtime, hook, collector
        self.environment = environment
        self.settings = load({"home": runtime.home, "port_base": runtime.port_base})
        self.store = Store(wiring.clickhouse(self.settings))

    def send(self, events: Iterable[Event]) -> None:
        with wiring.producer(self.settings) as producer:
            replay(events, producer)

    def pages(self, event: str) -> list[dict[str, Any]]:
        """What was told of the agent, each incident as it was told first."""
        told = [r.json for r in self.hook.got if AGENT in r.json["agents"]]
        return [page for page in told if page["event"] == event]

    def exported(self) -> set[str]:
        """Findings that the collector of log events knows."""
        events = [
            event
            for request in self.collector.got
            for event in request.json["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        ]
        return {
            attribute["value"]["stringValue"]
            for event in events
            for attribute in event["attributes"]
            if attribute["key"] == "driftline.finding.finding_id"
        }

    def ask(self, *arguments: str) -> Any:
        done = self.runtime.driftline(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def part(self, name: str) -> dict[str, Any]:
        return next(p for p in self.runtime.status()["components"] if p["name"] == name)

    def shares(self, *more: str) -> list[int]:
        """Buckets of detection that each worker holds; empty unless they hold all of them."""
        at = [*(self.part(f"worker-{n}")["health"] for n in (1, 2)), *more]
        held = [_buckets(address) for address in at]
        return held if all(held) and sum(held) == BUCKETS else []

    def position(self) -> int:
        """Event time, s, up to which stations have read the agent."""
        rows = self.store.query(
            "SELECT toInt64(toUnixTimestamp(min(position))) AS at FROM station_progress FINAL"
            " WHERE bucket = {bucket:String}",
            {"bucket": str(bucket_of(AGENT))},
        )
        return int(rows["at"][0])

    def at_rest(self) -> int:
        """Event time, s, that all stations have reached; 0 while some still read."""
        rows = self.store.query(
            "SELECT toInt64(toUnixTimestamp(min(position))) AS low,"
            " toInt64(toUnixTimestamp(max(position))) AS high FROM station_progress FINAL"
        )
        low, high = rows.row(0)
        return int(low) if low == high else 0

    def holder(self) -> dict[str, Any]:
        """The worker that holds the stations of the agent; nothing while none does."""
        for part in (self.part("worker-1"), self.part("worker-2")):
            health = _answer(f"{part['health']}/readyz")
            held = {(p["topic"], p["partition"]) for p in health.get("partitions", ())}
            if ("driftline.dirty", bucket_of(AGENT)) in held:
                return part
        return {}


def _answer(url: str) -> Any:
    """What a worker says of itself, also while it is busy; nothing while it is not there."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as busy:
        return json.load(busy)
    except OSError:
        return {}


def _buckets(address: str) -> int:
    stations = _answer(f"{address}/healthz").get("stations", ())
    return next((s["buckets"] for s in stations if s["station"] == "detection"), 0)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    runtime = Runtime(tmp_path / "home", free_port(16))
    with webhook(secret=SECRET) as hook, webhook() as collector:
        environment = {
            "DRIFTLINE_HOME": str(runtime.home),
            "DRIFTLINE_PORT_BASE": str(runtime.port_base),
            "DRIFTLINE_KAFKA_PARTITIONS": str(BUCKETS),  # of four, a third worker gets none
            "DRIFTLINE_PROCESSING_WORKERS": "2",
            "DRIFTLINE_DETECTION_WARM_UP": str(WARM_UP),
            "DRIFTLINE_NOTIFY_WEBHOOK_URL": hook.url,
            "DRIFTLINE_NOTIFY_WEBHOOK_SECRET": SECRET,
            "DRIFTLINE_NOTIFY_OTLP_URL": f"http://127.0.0.1:{collector.port}",
            "DRIFTLINE_NOTIFY_MAX_AGE_H": "100000",  # event time is of long ago
        }
        started = runtime.driftline("up", "--detach", environment=environment)
        assert started.returncode == 0, started.stderr
        try:
            yield Deployment(runtime, hook, collector, environment)
        finally:
            runtime.driftline("down")


def in_memory(store: Store, until: int) -> MemoryStations:
    """What one process that never dies finds in the stored results up to ``until`` (s)."""
    memory = MemoryStations()
    real = ClickHouseStations(store, "", ResultStore(store))
    stations = Stations(memory, all_stations(DetectionConfig(warm_up=WARM_UP)))
    for lo in range(START_S, until, STEP_S):
        hi = min(lo + STEP_S, until)
        memory.feed(real.results(lo, hi), hi)
        run(memory, stations)
    return memory


def rows(found: Iterable[Mapping[str, Any]], *left_out: str) -> list[dict[str, Any]]:
    """Rows of a table in one order, times in seconds."""
    plain = [
        {
            name: int(value.timestamp()) if isinstance(value, datetime) else value
            for name, value in row.items() if name not in left_out
        }
        for row in found
    ]  # fmt: skip
    return sorted(plain, key=str)


def test_incident_page_recovery_and_relapse_over_workers_that_come_and_go(
    deployment: Deployment, tmp_path: Path
) -> None:
    parts = traffic()

    # 1. The outage is found and paged, with its cause, examples and cluster.
    deployment.send(next(parts))
    page = eventually(lambda: deployment.pages("firing"), within_s=120)[0]
    (found,) = [f for f in page["findings"] if not f["incident"]]
    listed = deployment.ask("clusters", "list", "--agent", AGENT)
    (cluster,) = [c["cluster"] for c in listed if c["tool"] == TOOL]
    causes = [(c["attribute"], c["value"]) for c in found["causes"]]
    assert (page["severity"], causes[0]) == ("page", ("tool", TOOL))
    assert ("cluster", cluster) in causes
    (example,) = deployment.ask("interaction", found["examples"][0])["interactions"]
    assert (example["agent"], example["success"], example["failure_tool"]) == (AGENT, 0, TOOL)

    # 2. The worker that steps the agent's stations dies at it, and another goes on.
    eventually(lambda: len(deployment.shares()) == 2, within_s=120)
    begun = deployment.position()
    deployment.send(next(parts))
    eventually(lambda: deployment.position() > begun + PAUSE_S, within_s=120)
    os.kill(eventually(deployment.holder, within_s=120)["pid"], signal.SIGKILL)
    (ended,) = eventually(lambda: deployment.pages("resolved"), within_s=120)
    assert ended["incident"] == page["incident"]

    # 3. A third worker joins; the same outage is a relapse, and its page says so.
    health = free_port()
    third = start(
        [sys.executable, "-m", "infra.cli", "worker", "--health-port", str(health)],
        tmp_path / "third.log", deployment.environment,
    )  # fmt: skip
    try:
        at = f"http://127.0.0.1:{health}"
        eventually(lambda: len(deployment.shares(at)) == 3, within_s=120)
        deployment.send(next(parts))
        again = eventually(lambda: deployment.pages("firing")[1:], within_s=120)[0]
        sealed = eventually(deployment.at_rest, within_s=120)
        stored = {f["finding_id"]: f for f in deployment.ask("findings", "list", "--members")}
        eventually(lambda: deployment.exported() == set(stored), within_s=120)
    finally:
        stop(third)
    relapse = stored[again["incident"]]
    assert (relapse["status"], relapse["cluster"]) == ("regressed", cluster)
    assert relapse["previous"] == found["finding_id"]
    assert "it is back" in again["title"]
    began = datetime.fromisoformat(relapse["began"]).timestamp()
    assert abs(began - RELAPSE_S) <= 120
    known = deployment.ask("clusters", "show", cluster)
    assert (known["status"], known["episode"]) == ("regressed", 1)

    # Nothing was late or told twice, and all is as one process finds it that never dies.
    told = [(r.json["event"], r.json["incident"]) for r in deployment.hook.got]
    assert told == [
        ("firing", page["incident"]), ("resolved", page["incident"]), ("firing", again["incident"])
    ]  # fmt: skip
    assert deployment.ask("watching")["late"] == 0
    memory = in_memory(deployment.store, sealed)
    for table in ("station_changes", "findings", "clusters", "cluster_members"):
        expected = memory.rows(table)
        left_out = EXPLAINED if table == "findings" else ()
        real = deployment.store.query(f"SELECT * FROM {table} FINAL").to_dicts()
        names = expected[0].keys()
        real = [{name: row[name] for name in names} for row in real]
        assert rows(real, *left_out) == rows(expected, *left_out), table
