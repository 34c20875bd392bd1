"""`driftline up` as a user runs it: processes, ports, signals. Nothing is imported of it."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runtime, run_driftline
from tests.integration.test_runtime_broker import alive
from tests.support import eventually, free_port


def pids(status: dict[str, Any]) -> dict[str, int]:
    return {part["name"]: part["pid"] for part in status["components"]}


def test_status_tells_where_everything_is(runtime: Runtime) -> None:
    status = runtime.status()
    assert status["running"]
    assert status["ready"]
    assert status["addresses"] == {
        "kafka": f"127.0.0.1:{runtime.port_base}",
        "clickhouse": f"http://127.0.0.1:{runtime.port_base + 1}",
    }
    assert set(pids(status)) == {"kafka", "clickhouse", "worker-1"}
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
    runtime = Runtime(tmp_path / "home", free_port(8))
    assert runtime.driftline("up", "--detach").returncode == 0
    try:
        status = runtime.status()
        with runtime.client() as client:
            client.command("CREATE TABLE kept (a Int8) ENGINE = MergeTree ORDER BY a")
            client.insert("kept", [[1]], ["a"])
        os.kill(status["pid"], signal.SIGKILL)
        eventually(lambda: not any(map(alive, pids(status).values())), within_s=5)
        assert runtime.driftline("status").returncode == 1
        assert runtime.driftline("up", "--detach").returncode == 0
        with runtime.client() as client:
            assert client.command("SELECT count() FROM kept") == 1
    finally:
        assert runtime.driftline("down").returncode == 0
    assert runtime.driftline("status").returncode == 1
    for address in status["addresses"].values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(address.rsplit(":", 1)[1]))) != 0
