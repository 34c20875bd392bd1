"""A few seconds of what `make fuzz` does for ten minutes each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_understood(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)


def test_decoders(tmp_path: Path) -> None:
    run = _run("tests.fuzz.decoders", "all", "--seconds", "5", "--corpus", str(tmp_path))
    assert run.returncode == 0, run.stderr[-3000:]
    executed = re.search(r"number_of_executed_units: (\d+)", run.stderr)
    assert executed is not None
    assert int(executed[1]) > 100
    assert not list(tmp_path.glob("*/crash-*"))


def test_gateway_over_http() -> None:
    run = _run("tests.fuzz.http", "--seconds", "60", "--requests", "60")
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    total = re.search(r"(\d+) requests, peak memory (\d+) MB", run.stdout)
    assert total is not None
    assert int(total[1]) == 60
    assert int(total[2]) < 1024


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if module.endswith("decoders"):
        pytest.importorskip("atheris", reason="atheris has no wheel for this platform")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
