"""Helpers of the tests: data files, free ports, waiting within bounds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import free_ports

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("DRIFTLINE_DATA") or REPOSITORY.parent / "shared" / "data")
REQUIRED = os.environ.get("DRIFTLINE_REQUIRE_SERVICES") == "1"


def data_file(name: str) -> Path:
    """Return a file of real data, or skip the test; fail it where services are required."""
    path = DATA / name
    if not path.is_file():
        reason = f"{path} is not there; set DRIFTLINE_DATA to the folder of test data"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def free_port(count: int = 1) -> int:
    """Return the first of ``count`` ports in a row that are free."""
    return free_ports(count)


def eventually(check: Callable[[], Any], within_s: float, every_s: float = 0.1) -> Any:
    """Return the first true value of ``check``; fail when none comes in ``within_s`` seconds.

    It waits three times as long, for machines whose cores are busy: a limit is no measurement.
    """
    deadline = time.monotonic() + 3 * within_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"still {value!r} after {3 * within_s} s")
        time.sleep(every_s)
