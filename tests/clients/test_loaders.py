"""Exported cases in the frameworks' own loaders, in an environment of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from processors.regressions import export, write
from tests.unit.processors.test_regressions import HOSTILE, failure, made, turn

pytestmark = pytest.mark.clients
HERE = Path(__file__).parent
PYTHON = HERE / "env-loaders" / "bin" / "python"
PROMPTFOO = HERE / "env-promptfoo" / "node_modules" / ".bin" / "promptfoo"


def cases():
    return made(
        failure(1), failure(2, session="t", tools=["find"]), failure(3, request=HOSTILE),
        turns=[turn(1, session="t")],
    )  # fmt: skip


def test_inspect_deepeval_and_langsmith_load_what_was_exported(tmp_path):
    found = cases()
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


def test_openai_evals_grades_what_was_exported(tmp_path):
    found = cases()
    write(found, "openai-evals", tmp_path)
    done = subprocess.run(
        [HERE / "env-evals" / "bin" / "python", HERE / "loaders" / "grade.py", tmp_path],
        env=os.environ | {"OPENAI_API_KEY": "unused"},
        capture_output=True, text=True, check=False, timeout=170, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ran = json.loads(done.stdout.splitlines()[-1])
    # The agent answers one of them, and the grader passes whoever is answered.
    assert ran["report"]["score"] == pytest.approx(1 / len(found))
    assert len(ran["asked"]) == len(ran["graded"]) == len(found)
    for case in found:
        said = case.messages[-1]["content"].strip()
        assert any(said in asked for asked in ran["asked"])
        # It doubles braces, so that they are no places to fill in.
        said = re.sub(r"([{}])+", r"\1", said)
        graded = [re.sub(r"([{}])+", r"\1", text) for text in ran["graded"]]
        assert any(case.rubric in text and said in text for text in graded)


@pytest.mark.skipif(not PROMPTFOO.exists(), reason="promptfoo needs npm: make clients")
def test_promptfoo_runs_what_was_exported(tmp_path):
    found = cases()
    (tmp_path / "tests.jsonl").write_text(export(found, "promptfoo"))
    (tmp_path / "promptfooconfig.yaml").write_text(
        "prompts: ['{{question}}']\nproviders: [echo]\ntests: file://tests.jsonl\n"
    )
    quiet = {"DISABLE_TELEMETRY": "1", "DISABLE_UPDATE": "1", "CONFIG_DIR": str(tmp_path / "home")}
    done = subprocess.run(
        [PROMPTFOO, "eval", "--grader", "echo", "--no-cache", "--no-table", "--no-write",
         "--no-progress-bar", "-o", "out.json"],
        env=os.environ | {f"PROMPTFOO_{name}": value for name, value in quiet.items()}
        | {"secret": "taken"},
        capture_output=True, text=True, check=False, timeout=170, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    ran = json.loads((tmp_path / "out.json").read_text())["results"]["results"]
    ran = {row["testCase"]["description"]: row for row in ran}
    assert ran.keys() == {case.id for case in found}
    for case in found:
        row = ran[case.id]
        assert row["testCase"]["assert"][0]["value"] == case.rubric
        said = row["response"]["output"].replace("\u200b", "")
        assert said.strip().endswith(case.messages[-1]["content"].strip())
        assert "taken" not in said
