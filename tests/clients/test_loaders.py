"""Exported cases in the frameworks' own loaders, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from processors.regressions import export
from tests.unit.processors.test_regressions import HOSTILE, failure, made, turn

pytestmark = pytest.mark.clients
HERE = Path(__file__).parent
PYTHON = HERE / "env-loaders" / "bin" / "python"


def test_inspect_deepeval_and_langsmith_load_what_was_exported(tmp_path):
    found = made(
        failure(1), failure(2, session="t", tools=["find"]), failure(3, request=HOSTILE),
        turns=[turn(1, session="t")],
    )  # fmt: skip
    for name in ("inspect", "deepeval", "langsmith"):
        (tmp_path / f"{name}.jsonl").write_text(export(found, name))
    done = subprocess.run(
        [PYTHON, HERE / "loaders" / "load.py", tmp_path],
        capture_output=True, text=True, check=False, timeout=170, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert set(loaded) == {"inspect", "deepeval", "langsmith"}
    for name, rows in loaded.items():
        assert [row["id"] for row in rows] == [case.id for case in found], name
        for case, row in zip(found, rows, strict=True):
            assert case.messages[-1]["content"] in row["said"], name
    assert {row["split"] for row in loaded["langsmith"]} == {"base"}
    assert {row["expected"] for row in loaded["deepeval"]} == {None}
