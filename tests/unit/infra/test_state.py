"""The home of a runtime: one owner, state in one step, passwords for this user only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from infra.runtime_home import Component, RuntimeHome, State
from ingest.core.errors import UsageError


def test_only_one_can_have_a_home(tmp_path: Path) -> None:
    home = RuntimeHome(tmp_path / "home")
    assert home.running() is None
    lock = home.acquire()
    with pytest.raises(UsageError, match=r"already runs in .*driftline down"):
        RuntimeHome(tmp_path / "home").acquire()
    home.write(State(pid=7, ready=True, components=[Component("kafka", "running", pid=8)]))
    running = home.running()
    assert running is not None
    assert (running.pid, running.ready, running.components[0].pid) == (7, True, 8)
    os.close(lock)
    assert home.running() is None  # the file is still there, its writer is not


def test_state_left_by_a_killed_runtime_is_not_believed(tmp_path: Path) -> None:
    home = RuntimeHome(tmp_path)
    home.write(State(pid=os.getpid(), ready=True))
    assert home.running() is None


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*--home"):
        RuntimeHome(tmp_path / "file").acquire()


def test_passwords_are_made_once_and_kept_private(tmp_path: Path) -> None:
    home = RuntimeHome(tmp_path)
    first = home.credentials(None, None)
    assert home.credentials(None, None) == first
    assert first.password != first.reader_password
    assert len(first.password) > 24
    assert first.password not in repr(first)
    mode = stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode)
    assert mode == 0o600
    assert home.credentials("mine", None).password == "mine"
    assert home.credentials(None, None).reader_password == first.reader_password
