"""Helpers of the tests: data files, free ports, waiting within bounds."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
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
    """Return the first of ``count`` ports in a row that are free, below the ephemeral range."""
    start = 18000 + os.getpid() * 37 % 12000
    for base in range(start, start + 2000, count):
        if all(_free(base + offset) for offset in range(count)):
            return base
    pytest.fail("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def eventually(check: Callable[[], Any], within_s: float, every_s: float = 0.1) -> Any:
    """Return the first true value of ``check``; fail when none comes in ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"still {value!r} after {within_s} s")
        time.sleep(every_s)
