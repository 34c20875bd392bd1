"""Health of a running worker: its ClickHouse freezes, and it says so; it thaws, and all is well."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from processors.stations.detection import DetectionConfig
from processors.stations.service import all_stations
from tests.conftest import Runtime
from tests.support.common import eventually, free_port

SOON = {
    "DRIFTLINE_HEALTH_UNREADY_AFTER_S": "4",
    "DRIFTLINE_HEALTH_UNHEALTHY_AFTER_S": "20",
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime that counts seconds."""
    runtime = Runtime(tmp_path_factory.mktemp("health") / "home", free_port(16))
    started = runtime.driftline("up", "--detach", environment=SOON)
    assert started.returncode == 0, started.stderr
    yield runtime
    runtime.driftline("down")


def ask(address: str, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(address + path, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}  # it does not listen yet, or is busy


def part(runtime: Runtime, name: str) -> dict[str, Any]:
    return next(p for p in runtime.status()["components"] if p["name"] == name)


def lags(address: str) -> list[int | None]:
    partitions = ask(address, "/readyz")[1].get("partitions", ())
    return [p["lag"] for p in partitions if p["topic"] == "driftline.events"]


def stalled(address: str) -> Any:
    reasons = ask(address, "/readyz")[1].get("reasons", ())
    return next((reason for reason in reasons if reason["code"] == "stalled"), None)


@contextmanager
def watched(address: str) -> Iterator[list[tuple[int, int]]]:
    """What ``/readyz`` and then ``/healthz`` answered, asked all the time."""
    seen: list[tuple[int, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen.append((ask(address, "/readyz")[0], ask(address, "/healthz")[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def simulate(runtime: Runtime, seed: int) -> None:
    done = runtime.driftline(
        "simulate", "--duration", "5m", "--seed", str(seed), "--no-wait", "--json"
    )
    assert done.returncode == 0, done.stderr


def test_a_frozen_store_turns_a_worker_unready_then_unhealthy_and_back(impatient: Runtime) -> None:
    worker, whole = part(impatient, "worker-1")["health"], impatient.status()["addresses"]["health"]
    eventually(lambda: ask(worker, "/readyz")[0] == 200, within_s=60)
    simulate(impatient, 1)
    eventually(lambda: lags(worker) == [0, 0, 0, 0], within_s=60)
    time.sleep(6)  # idle for longer than its patience, and ready all the same
    assert ask(worker, "/readyz")[0] == ask(whole, "/readyz")[0] == 200
    pid = part(impatient, "clickhouse")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with watched(worker) as seen:
            simulate(impatient, 2)
            # In the first moment there is no statement yet that waits.
            eventually(lambda: "insert into" in (stalled(whole) or {"text": ""})["text"], 60)
            reason = stalled(whole)
            assert ask(worker, "/readyz")[0] == ask(whole, "/readyz")[0] == 503
            eventually(lambda: ask(worker, "/healthz")[0] == 503, within_s=60)
        assert (503, 200) in seen  # it was unready first
        assert ask(worker, "/healthz")[1]["status"] == "unhealthy"
        assert reason["topic"] == "driftline.events"
        assert reason["partition"] in range(4)
        assert reason["lag"] > 0
        assert "worker-1: nothing stored" in reason["text"]
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: ask(worker, "/readyz")[0] == 200, within_s=60)
    eventually(lambda: ask(whole, "/healthz")[0] == 200, within_s=60)
    assert ask(worker, "/readyz")[1]["reasons"] == []


def test_probes_and_status_name_every_station(impatient: Runtime) -> None:
    names = [*(station.name for station in all_stations(DetectionConfig())), "audit"]
    worker, whole = part(impatient, "worker-1")["health"], impatient.status()["addresses"]["health"]

    def named() -> bool:
        told = [
            ask(at, path)[1]["stations"]
            for at in (worker, whole)
            for path in ("/readyz", "/healthz")
        ]
        told.append(json.loads(impatient.driftline("status", "--json").stdout)["stations"])
        return all([station["station"] for station in one] == names for one in told)

    eventually(named, within_s=60)
    for station in ask(whole, "/readyz")[1]["stations"]:
        assert {"lag_s", "stalled_s", "buckets", "streams", "error"} <= station.keys()
        assert station["lag_s"] >= 0
        assert station["error"] == ""
    assert "detection" in impatient.driftline("status").stdout


def test_what_a_worker_counts_agrees_with_the_books(impatient: Runtime) -> None:
    address = part(impatient, "worker-1")["health"]
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        samples = dict(
            line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#"
        )
    books = json.loads(impatient.driftline("accounting", "--json").stdout)
    assert books["accepted"] > 0
    assert float(samples["driftline_rows_stored_total"]) == books["accepted"]
    assert float(samples['driftline_insert_seconds_count{table="events"}']) >= 2
    assert float(samples["process_resident_memory_bytes"]) < 2 << 30


def test_a_worker_logs_json_lines(impatient: Runtime) -> None:
    log: Path = impatient.home / "logs" / "worker-1.log"
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert lines
    for line in lines:
        assert set(line) == {"time", "level", "component", "event", "fields"}
