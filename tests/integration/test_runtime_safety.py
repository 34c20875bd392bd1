"""A whole runtime under a poisonous statement, a full disk, a broker that has grown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.embedded.reserve import RESERVE_BYTES
from tests.conftest import Runtime
from tests.support.common import eventually, free_port


def started(home: Path, **environment: str) -> Runtime:
    running = Runtime(home, free_port(16))
    ran = running.driftline("up", "--detach", environment=environment)
    assert ran.returncode == 0, ran.stderr
    return running


def part(runtime: Runtime, name: str) -> dict[str, object]:
    return next(one for one in runtime.status()["components"] if one["name"] == name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounts a small file system, which needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=False)


def test_an_engine_that_died_of_a_statement_is_back_at_once(tmp_path: Path) -> None:
    runtime = started(tmp_path / "home")
    try:
        engine = part(runtime, "clickhouse")
        assert engine["detail"] in (
            "sandbox: landlock",
            "sandbox: none (kernel offers no Landlock)",
        )
        unbounded = dict.fromkeys(
            ("max_parser_depth", "max_ast_depth", "max_ast_elements", "max_query_size"), 10**9
        )
        with runtime.client() as client, pytest.raises((ClickHouseError, OSError)):
            client.command("SELECT 1 /* poison */" + "+1" * 200_000, settings=unbounded)
        eventually(lambda: part(runtime, "clickhouse")["restarts"] == 1, 30)
        eventually(lambda: runtime.status()["healthy"], 30)
        with runtime.client("reader") as client:
            assert client.command("SELECT 1") == 1
        log = (runtime.home / "logs" / "clickhouse.log").read_text()
        assert "fatal error of the engine while it ran" in log
        assert "poison" in log
        shown = runtime.driftline("status", "--json")
        assert json.loads(shown.stdout)["memory_bytes"]["kafka"] > 1 << 20
    finally:
        runtime.driftline("down")


def test_a_death_on_a_full_disk_stops_nothing(small_disk: Path) -> None:
    runtime = started(small_disk / "home")
    filler = small_disk / "filler"
    try:
        supervisor = runtime.status()["pid"]
        fill(filler)
        assert os.statvfs(small_disk).f_bavail * 4096 < RESERVE_BYTES // 4
        dead = int(str(part(runtime, "worker-1")["pid"]))
        os.kill(dead, signal.SIGKILL)
        shown = eventually(lambda: reasons(runtime, "the disk is full"), 30)
        assert not [text for text in shown if "has not gone round" in text]
        os.kill(supervisor, 0)
        filler.unlink()
        eventually(lambda: part(runtime, "worker-1")["pid"] not in (None, dead), 60)
        eventually(lambda: runtime.status()["healthy"] and not reasons(runtime, ""), 60)
        ran = runtime.driftline("simulate", "--duration", "5m", "--rate", "1/s", "--json")
        assert json.loads(ran.stdout)["accepted"] > 0
    finally:
        filler.unlink(missing_ok=True)
        runtime.driftline("down")


def fill(filler: Path) -> None:
    """Leave no room; a step that no longer fits, because others write too, is tried smaller."""
    step = 64 << 20
    with filler.open("wb") as file:
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), file.tell(), step)
            except OSError:
                step //= 2
            else:
                file.seek(0, os.SEEK_END)


def reasons(runtime: Runtime, words: str) -> list[str]:
    shown = json.loads(runtime.driftline("status", "--json").stdout)["reasons"]
    return shown if any(words in text for text in shown) else []


def test_a_broker_above_its_bound_begins_a_new_log_and_nothing_is_lost(tmp_path: Path) -> None:
    runtime = started(tmp_path / "home", DRIFTLINE_KAFKA_EMBEDDED_MEMORY_MB="32")
    try:
        log_id = runtime.status()["log_id"]
        accepted = 0
        for seed in range(6):
            ran = runtime.driftline(
                "simulate", "--duration", "1h", "--rate", "2/s", "--seed", str(seed), "--json"
            )
            accepted += json.loads(ran.stdout)["accepted"]
            if runtime.status()["log_id"] != log_id:
                break
        eventually(lambda: runtime.status()["log_id"] != log_id, 180)
        eventually(lambda: runtime.status()["healthy"], 180)
        ran = runtime.driftline("simulate", "--duration", "5m", "--rate", "1/s", "--json")
        accepted += json.loads(ran.stdout)["accepted"]
        deadline = time.monotonic() + 360
        while True:
            books = json.loads(runtime.driftline("accounting", "--json").stdout)
            if books["stored"] == accepted or time.monotonic() > deadline:
                break
        assert (books["stored"], books["balanced"]) == (accepted, True)
        assert part(runtime, "kafka")["restarts"] == 0  # it did not die
        assert int(str(part(runtime, "gateway")["restarts"])) >= 1
        memory = json.loads(runtime.driftline("status", "--json").stdout)["memory_bytes"]["kafka"]
        assert memory < 32 << 20
    finally:
        runtime.driftline("down")
