"""What is broken on purpose is noticed from outside as well: the black box has eyes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.common import REPOSITORY

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("_kafka_possible"),
]


@pytest.mark.parametrize(
    ("mutation", "fault", "words"),
    [
        ("commit_before_insert", "kill_worker", ("watch: partition", "booked")),
        ("read_without_final", "duplicates", ("windows:", "wrong")),
    ],
)
def test_chaos_fails_for_a_broken_worker(mutation: str, fault: str, words: tuple[str, ...]) -> None:
    broken = f"{sys.executable} -m tests.kafka.mutant {mutation}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", "--only", fault, "--worker", broken],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
