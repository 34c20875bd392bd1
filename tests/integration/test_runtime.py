"""`driftline up` as a user runs it: processes, ports, signals. Nothing is imported of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runtime, run_driftline
from tests.integration.test_runtime_broker import alive
from tests.support.common import eventually, free_port
from tests.support.receivers import is_listening


def pids(status: dict[str, Any]) -> dict[str, int]:
    return {part["name"]: part["pid"] for part in status["components"]}


def test_status_tells_where_everything_is(runtime: Runtime) -> None:
    status = json.loads(runtime.driftline("status", "--json").stdout)
    assert status["running"]
    assert status["ready"]
    for name, address in {
        "kafka": f"127.0.0.1:{runtime.port_base}",
        "clickhouse": f"http://127.0.0.1:{runtime.port_base + 1}",
        "gateway": f"http://127.0.0.1:{runtime.port_base + 2}",
        "health": f"http://127.0.0.1:{runtime.port_base + 3}",
    }.items():
        assert status["addresses"][name] == address
    assert set(pids(status)) >= {"kafka", "clickhouse", "worker-1", "gateway"}
    assert all(alive(pid) for pid in pids(status).values())
    assert runtime.driftline("status").returncode == 0
    assert Path(status["credentials"]).stat().st_mode & 0o077 == 0


def test_everything_listens_on_loopback_only(runtime: Runtime) -> None:
    other = socket.gethostbyname(socket.gethostname())
    if other.startswith("127."):
        pytest.skip("this machine has no other address")
    for address in runtime.status()["addresses"].values():
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((other, int(address.rsplit(":", 1)[1]))) != 0


def test_analysts_ask_with_sql(runtime: Runtime) -> None:
    done = runtime.driftline("sql", "SELECT count() AS n, '3' AS s FROM events", "--json")
    assert json.loads(done.stdout) == [{"n": 0, "s": "3"}]
    done = runtime.driftline("sql", "SHOW TABLES LIKE 'led%'")
    assert done.stdout.splitlines() == ["name", "ledger"]
    done = runtime.driftline("sql", "SELECT number FROM numbers(10)", "--limit", "3")
    assert done.stdout.split() == ["number", "0", "1", "2"]
    assert "--limit" in done.stderr
    for wrong in ("DROP TABLE events", "SELECT * FROM missing", "SELECT file('/etc/hostname')"):
        done = runtime.driftline("sql", wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = runtime.driftline("sql", "-", input="SELECT 1 AS one;")
    assert done.stdout.split() == ["one", "1"]


def test_a_second_up_says_it_already_runs(runtime: Runtime) -> None:
    for arguments in (["up"], ["up", "--detach"]):
        done = runtime.driftline(*arguments)
        assert done.returncode == 2
        assert "already runs" in done.stderr
        assert "driftline down" in done.stderr
    assert runtime.status()["ready"]


def test_migrate_changes_nothing_on_a_running_runtime(runtime: Runtime) -> None:
    done = runtime.driftline("migrate")
    assert done.stdout.splitlines() == ["applied: nothing new", "created: nothing new"]


def test_a_port_in_use_is_named(runtime: Runtime, tmp_path: Path) -> None:
    for arguments in (["up"], ["up", "--detach"]):
        done = run_driftline(*arguments, home=tmp_path / "home", port_base=runtime.port_base)
        assert done.returncode == 2
        assert done.stderr == (
            f"driftline: port {runtime.port_base} is in use; choose others with --port-base\n"
        )
    assert run_driftline("status", home=tmp_path / "home").returncode == 1


@pytest.mark.parametrize("name", ["clickhouse", "worker-1", "kafka"])
def test_who_dies_comes_back(runtime: Runtime, name: str) -> None:
    """Last the broker: its records are gone, so the log gets a new id and new workers."""
    before = runtime.status()
    if name == "clickhouse":
        with runtime.client() as client:
            client.command("CREATE TABLE kept (a Int8) ENGINE = MergeTree ORDER BY a")
            client.insert("kept", [[1]], ["a"])
    os.kill(pids(before)[name], signal.SIGKILL)

    def is_back() -> bool:
        now = runtime.status()
        return now["healthy"] and pids(now)[name] not in (None, pids(before)[name])

    eventually(is_back, within_s=20)
    after = runtime.status()
    assert (after["log_id"] == before["log_id"]) is (name != "kafka")
    assert (pids(after)["worker-1"] == pids(before)["worker-1"]) is (name == "clickhouse")
    with runtime.client() as client:
        assert client.command("SELECT count() FROM kept") == 1


def test_a_killed_supervisor_leaves_nothing_and_loses_nothing(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "home", free_port(16))
    assert runtime.driftline("up", "--detach").returncode == 0
    try:
        status = runtime.status()
        with runtime.client() as client:
            client.command("CREATE TABLE kept (a Int8) ENGINE = MergeTree ORDER BY a")
            client.insert("kept", [[1]], ["a"])
            client.command(
                "INSERT INTO events (event_id, agent, time, log_id, offset) VALUES"
                " ('e', 'a', now(), 'the log that dies', 3)"
            )
        os.kill(status["pid"], signal.SIGKILL)
        eventually(lambda: not any(map(alive, pids(status).values())), within_s=5)
        assert runtime.driftline("status").returncode == 1
        assert runtime.driftline("up", "--detach").returncode == 0
        with runtime.client() as client:
            assert client.command("SELECT count() FROM kept") == 1
            # No worker reads again what one had stored and not booked.
            booked = "SELECT rows FROM ledger WHERE log_id = 'the log that dies'"
            assert client.command(booked) == 1
    finally:
        assert runtime.driftline("down").returncode == 0
    assert runtime.driftline("status").returncode == 1
    ports = [int(address.rsplit(":", 1)[1]) for address in status["addresses"].values()]
    eventually(lambda: not any(map(is_listening, ports)), within_s=5)


def test_ctrl_c_stops_everything_in_order(tmp_path: Path) -> None:
    base = free_port(16)
    environment = {**os.environ, "DRIFTLINE_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "up", "--port-base", str(base)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    runtime = Runtime(tmp_path / "home", base)
    eventually(lambda: runtime.status()["ready"], within_s=30)
    children = pids(runtime.status()).values()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    assert output.splitlines()[-2:] == ["stopping", "stopped"]
    assert f"127.0.0.1:{base}" in output
    assert "Traceback" not in output
    assert not any(map(alive, children))


def test_only_the_missing_parts_are_started(runtime: Runtime, tmp_path: Path) -> None:
    """Kafka and ClickHouse that are somewhere else: here those of the other runtime."""
    there = runtime.status()
    secrets = json.loads((runtime.home / "credentials.json").read_text())
    environment = {
        "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": there["addresses"]["kafka"],
        "DRIFTLINE_CLICKHOUSE_URL": there["addresses"]["clickhouse"],
        "DRIFTLINE_CLICKHOUSE_PASSWORD": secrets["password"],
        "DRIFTLINE_CLICKHOUSE_DATABASE": "other",
    }
    here = tmp_path / "home"
    try:
        done = run_driftline(
            "up", "--detach", home=here, port_base=free_port(16), environment=environment
        )
        assert done.returncode == 0, done.stderr
        status = json.loads(run_driftline("status", "--json", home=here).stdout)
        states = {part["name"]: part["state"] for part in status["components"]}
        assert states == {
            "kafka": "external", "clickhouse": "external", "worker-1": "running",
            "gateway": "running", "receiver": "running", "board": "running",
        }  # fmt: skip
        for name in ("kafka", "clickhouse"):
            assert status["addresses"][name] == there["addresses"][name]
        assert status["log_id"] == there["log_id"]
        assert not (here / "clickhouse").exists()
        done = run_driftline("sql", "SHOW TABLES LIKE 'events'", home=here, environment=environment)
        assert done.stdout.split() == ["name", "events"]
        # The writing user's, and yet it only reads.
        done = run_driftline("sql", "DROP TABLE events", home=here, environment=environment)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "readonly" in done.stderr
        wrong = {**environment, "DRIFTLINE_CLICKHOUSE_PASSWORD": "wrong"}
        done = run_driftline("sql", "SELECT 1", home=here, environment=wrong)
        assert (done.returncode, done.stderr.count("\n")) == (3, 1)
        assert "Authentication failed" in done.stderr
    finally:
        run_driftline("down", home=here)
    assert runtime.status()["healthy"]


def test_services_that_are_away_are_named_at_start(tmp_path: Path) -> None:
    base = free_port(17)
    port = base + 16  # of nobody
    for variable, value in (
        ("DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{port}"),
        ("DRIFTLINE_CLICKHOUSE_URL", f"http://127.0.0.1:{port}"),
    ):
        done = run_driftline(
            "up",
            "--detach",
            home=tmp_path / "home",
            port_base=base,
            environment={variable: value},
        )
        assert (done.returncode, done.stderr.count("\n")) == (3, 1)
        assert f"127.0.0.1:{port}" in done.stderr
