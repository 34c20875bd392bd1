"""When the embedded broker's log may be replaced, and what a home keeps to itself."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from infra.embedded import health, supervisor
from infra.embedded.rotation import is_booked
from infra.runtime_home import Component, RuntimeHome, State
from infra.settings import Settings
from ingest.core.errors import UsageError
from ingest.core.fetch_wait import (
    QUIET_AFTER_S,
    QUIET_MAX_WAIT_MS,
    SLEEPING_AFTER_S,
    SLEEPING_MAX_WAIT_MS,
    FetchWait,
)
from ingest.core.kafka import FETCH_MAX_WAIT_MS


@pytest.mark.parametrize(
    ("ends", "committed", "booked"),
    [
        ({}, {}, True),
        ({("t", 0): 0}, {}, True),
        ({("t", 0): 5}, {("t", 0): 5}, True),
        ({("t", 0): 5}, {("t", 0): 6}, True),  # the end leaves out the length of the last batch
        ({("t", 0): 5}, {("t", 0): 4}, False),
        ({("t", 0): 5, ("t", 1): 1}, {("t", 0): 5}, False),
    ],
)
def test_a_log_is_booked_when_each_partition_is_committed(
    ends: dict[tuple[str, int], int], committed: dict[tuple[str, int], int], booked: bool
) -> None:
    assert is_booked(ends, committed) is booked


def test_the_log_is_not_replaced_while_a_command_writes_to_it(tmp_path: Path) -> None:
    home = RuntimeHome(tmp_path)
    with home.alone_with_log() as alone:
        assert alone
    home.hold_log()
    with home.alone_with_log() as alone:
        assert not alone


def test_fetches_wait_longer_once_nothing_comes() -> None:
    now, position = 0.0, 0
    wait = FetchWait(lambda: position, lambda: now)
    assert int.__index__(wait.__index__()) == FETCH_MAX_WAIT_MS
    now = QUIET_AFTER_S + 1
    assert wait.__index__() == QUIET_MAX_WAIT_MS
    now = SLEEPING_AFTER_S + 1
    assert wait.__index__() == SLEEPING_MAX_WAIT_MS
    position = 7
    assert wait.__index__() == FETCH_MAX_WAIT_MS


def test_files_of_a_home_made_before_become_private(tmp_path: Path) -> None:
    home = RuntimeHome(tmp_path / "home")
    for folder in (home.path, home.logs, home.data):
        folder.mkdir()
        folder.chmod(0o755)
    files = [home.path / "credentials.json", home.path / "tokens.json", home.logs / "worker-1.log"]
    for file in files:
        file.write_text("{}")
        file.chmod(0o644)
    (home.path / "notes.txt").write_text("not ours")
    (home.path / "notes.txt").chmod(0o644)
    home.acquire()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in files}
    assert modes == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (home.path, home.logs, home.data)} == {0o700}
    assert stat.S_IMODE((home.path / "notes.txt").stat().st_mode) == 0o644


def test_a_state_that_cannot_be_written_is_said_once_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    watched = supervisor.Supervisor(Settings(home=tmp_path), said.append)
    full = True

    def write(self: RuntimeHome, state: State) -> None:
        if full:
            raise UsageError("cannot write: No space left on device")

    monkeypatch.setattr(RuntimeHome, "write", write)
    watched._publish()
    watched._publish()
    assert len(said) == 1
    assert "No space left" in said[0]
    assert watched._write_again_at is not None
    full = False
    watched._publish()
    assert watched._write_again_at is None


def test_a_log_on_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    def say(_: str) -> None:
        raise OSError(28, "No space left on device")

    supervisor.Supervisor(Settings(home=tmp_path), say)._say("x")


def test_a_full_disk_is_reported_and_not_its_consequences(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, tuple[int, dict[str, Any]]] = {
        "engine": (503, {"reasons": [{"code": "disk_full", "text": "the disk is full"}]}),
        "worker": (503, {"status": "unhealthy", "reasons": [{"code": "loop_stuck", "text": "x"}]}),
    }
    monkeypatch.setattr(health, "ask", answers.get)
    parts = [Component(name, "running", health=name) for name in answers]
    found = health.verdict(State(pid=1, ready=True, components=parts))
    assert [reason.code for reason in found.reasons] == ["disk_full"]
    answers["engine"] = (200, {})
    found = health.verdict(State(pid=1, ready=True, components=parts))
    assert [reason.code for reason in found.reasons] == ["loop_stuck"]
