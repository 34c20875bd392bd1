"""kill -9 in mid-replay: the numbers in the end are those of an undisturbed run, to the byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka import KafkaConsumer

from ingest.core.events import FINDINGS_TOPIC
from tests.conftest import Runtime, run_driftline
from tests.support.common import eventually, free_port

SMALL_BATCHES = {
    "DRIFTLINE_PROCESSING_BATCH_MB": "1",
    "DRIFTLINE_PROCESSING_SESSION_TIMEOUT_S": "6",
}


@contextmanager
def running(home: Path, environment: dict[str, str] | None = None) -> Iterator[Runtime]:
    """Run `driftline up` with a home, ports and settings of its own."""
    runtime = Runtime(home, free_port(16))
    started = runtime.driftline("up", "--detach", environment=environment or {})
    assert started.returncode == 0, started.stderr
    try:
        yield runtime
    finally:
        runtime.driftline("down")


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file of simulated events, and how many."""
    path = tmp_path_factory.mktemp("traffic") / "events.ndjson"
    made = run_driftline(
        "simulate", "--to-file", str(path), "--duration", "3h", "--rate", "1/s", "--seed", "5",
        "--end", "2025-10-09T12:00", "--incident", "tool_outage@2h:support", "--json",
        home=path.parent,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    count = json.loads(made.stdout)["accepted"]
    assert 80_000 < count < 150_000
    return path, count


@pytest.fixture(scope="module")
def undisturbed(
    traffic: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """Metrics and books of a run in which nothing dies, with batches of another size."""
    with running(tmp_path_factory.mktemp("calm") / "home") as runtime:
        done = runtime.driftline("replay", str(traffic[0]), "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return numbers(runtime)


def numbers(runtime: Runtime) -> tuple[str, dict[str, Any]]:
    """What `driftline metrics` prints, and the books without what depends on batches."""
    printed = runtime.driftline("metrics", "--json")
    assert printed.returncode == 0, printed.stderr
    done = runtime.driftline("accounting", "--json")
    books = json.loads(done.stdout)
    assert books["balanced"], books
    names = ("accepted", "stored", "duplicates", "collisions", "dead_lettered")
    return printed.stdout, {name: books[name] for name in names}


def findings(runtime: Runtime) -> set[tuple[str, str]]:
    """Id and status of every finding as `driftline findings` lists it."""
    listed = runtime.driftline("findings", "--json")
    assert listed.returncode == 0, listed.stderr
    return {(row["finding_id"], row["status"]) for row in json.loads(listed.stdout)}


def told_findings(runtime: Runtime, expected: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The same of the messages on the topic of findings, until all that are expected were there."""
    consumer = KafkaConsumer(
        FINDINGS_TOPIC,
        bootstrap_servers=runtime.status()["addresses"]["kafka"],
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
    )
    told = set()
    try:
        for record in consumer:
            told.add((record.key.decode(), json.loads(record.value)["status"]))
            if expected <= told:
                break
    finally:
        consumer.close()
    return told


class Watch:
    """Kills parts of a runtime while it works, at moments that a seed chooses."""

    def __init__(self, runtime: Runtime, seed: int) -> None:
        self._runtime = runtime
        self._rng = random.Random(seed)
        self._seen = 0
        self.moments: list[int] = []
        secrets = json.loads((runtime.home / "credentials.json").read_text())
        self._client = clickhouse_connect.get_client(
            dsn=runtime.status()["addresses"]["clickhouse"],
            username="reader",
            password=secrets["reader_password"],
            database="driftline",
            autogenerate_session_id=False,
        )

    def lines(self) -> int:
        """How many lines are in the books; as before while ClickHouse is away."""
        try:
            found = self._client.command("SELECT sum(lines) FROM ledger FINAL")
        except (ClickHouseError, OSError):
            return self._seen
        return int(found)

    def kill_at_work(self, name: str) -> None:
        """Kill it at some moment after events have begun to move again."""
        eventually(lambda: self.lines() > self._seen, within_s=60, every_s=0.05)
        self.kill(name, within_s=0.8)
        self.moments.append(self._seen)

    def kill(self, name: str, within_s: float) -> None:
        """Kill it at some moment within so many seconds, whatever it does."""
        time.sleep(self._rng.uniform(0, within_s))
        (pid,) = [p["pid"] for p in self._runtime.status()["components"] if p["name"] == name]
        self._seen = self.lines()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self._is_back(name, pid), within_s=40)

    def _is_back(self, name: str, pid: int) -> bool:
        parts = [p for p in self._runtime.status()["components"] if p["name"] == name]
        return parts[0]["state"] == "running" and parts[0]["pid"] != pid


def replay(runtime: Runtime, path: Path, speed: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "DRIFTLINE_HOME": str(runtime.home)}
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "replay", str(path), "--speed", str(speed), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_worker_killed_three_times_in_mid_replay(
    traffic: tuple[Path, int], undisturbed: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Twice at work and once while it starts."""

    def disturb(watch: Watch) -> None:
        watch.kill_at_work("worker-1")
        watch.kill("worker-1", within_s=4)
        watch.kill_at_work("worker-1")

    check(traffic, undisturbed, tmp_path / "home", 260, disturb, {"worker-1": 3})


@pytest.mark.slow
def test_clickhouse_killed_in_mid_replay(
    traffic: tuple[Path, int], undisturbed: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    def disturb(watch: Watch) -> None:
        watch.kill_at_work("clickhouse")

    check(traffic, undisturbed, tmp_path / "home", 1_100, disturb, {"clickhouse": 1})


def check(
    traffic: tuple[Path, int],
    undisturbed: tuple[str, dict[str, Any]],
    home: Path,
    speed: int,
    disturb: Callable[[Watch], None],
    expected_restarts: dict[str, int],
) -> None:
    """As soon as replay returns, which is when everything is worked off, nothing is missing."""
    path, count = traffic
    with running(home, SMALL_BATCHES) as runtime:
        watch = Watch(runtime, seed=1)
        with replay(runtime, path, speed) as process:
            try:
                disturb(watch)
                output, errors = process.communicate(timeout=600)  # a busy machine takes its time
            finally:
                process.kill()
        assert process.returncode == 0, errors
        assert "note:" not in errors  # that is how it says that it has given up waiting
        assert json.loads(output)["accepted"] == count
        after = numbers(runtime)
        # Stations follow sealed event time, an hour a step.
        eventually(lambda: bool(findings(runtime)), within_s=240, every_s=2.0)
        found = findings(runtime)
        told = told_findings(runtime, found)
        restarts = {p["name"]: p["restarts"] for p in runtime.status()["components"]}
    assert all(0 < lines < count for lines in watch.moments), watch.moments
    assert after[1] == undisturbed[1]
    assert after[0] == undisturbed[0]
    assert {name: n for name, n in restarts.items() if n} == expected_restarts
    assert found
    assert found <= told
