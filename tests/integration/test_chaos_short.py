"""Chaos in a minute: workers and store killed under hostile traffic, the same checks as in full."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.common import REPOSITORY, REQUIRED


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m tests.chaos``; skip where Kafka cannot be had, fail where it must."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--json", *arguments],
        cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True, timeout=880,
        check=False,
    )  # fmt: skip
    if done.returncode == 3:
        (pytest.fail if REQUIRED else pytest.skip)(done.stderr.strip())
    return done


@pytest.mark.slow
def test_everything_at_once_and_nothing_is_lost_or_doubled() -> None:
    done = chaos("--short", "--only", "everything", "--seed", "5")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.keys() == {"bench", "seed", "machine", "versions", "results"}
    figures = {entry["metric"]: entry for entry in report["results"]}
    assert figures["everything.exact"]["value"] == 1.0
    assert figures["everything.exact"]["n"] > 5_000
    for entry in report["results"]:
        assert entry.keys() == {"metric", "value", "unit", "peer", "low", "high", "n"}


def test_faults_are_listed_and_unknown_ones_refused() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--list"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert {"kill_worker", "zombie", "broker_lost", "disk_full", "cardinality"} <= set(names)
    assert len(names) == len(set(names))
    refused = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--only", "no_such_fault"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "no_such_fault" in refused.stderr
