"""A few seconds of what `make fuzz` does for ten minutes each."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds
from tests.support.common import REPOSITORY


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


def test_statements_of_a_reader() -> None:
    run = _run("tests.fuzz.sql", "--seconds", "100", "--requests", "1500", "--seed", "1")
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-6000:]
    total = re.search(r"(\d+) statements, (\d+) ran, no token, nothing written", run.stdout)
    assert total is not None
    assert int(total[1]) == 1500
    assert int(total[2]) > 30  # not everything is refused


def test_the_fuzzer_finds_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check that names of functions alone are refused is taken out of a copy of the engine."""
    package = tmp_path / "infra"
    shutil.copytree(REPOSITORY / "infra", package, ignore=shutil.ignore_patterns("kafka"))
    for name in ("ingest", "tests", "processors", "dashboards", "detectors"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    holey = package / "embedded" / "readers.py"
    text = holey.read_text()
    assert "elif name in forbidden:" in text
    holey.write_text(text.replace("elif name in forbidden:", "elif not name:"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = _run("tests.fuzz.sql", "--seconds", "100", "--requests", "3000", "--seed", "1")
    assert run.returncode != 0
    assert "an answer holds the token" in run.stderr


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if module.endswith("decoders"):
        pytest.importorskip("atheris", reason="atheris has no wheel for this platform")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
