"""satisfaction fit and evaluate, on the public recordings and on files of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import dialogues
from bench import satisfaction as bench
from bench.outcomes import frame
from detectors.satisfaction import Estimator
from detectors.satisfaction.calibration import expected_error
from detectors.satisfaction.quality import auc, f1, intervals_that_cover
from infra.cli import app
from ingest.core.errors import Rejected, UsageError
from tests.support.common import data_file

RUNNER = CliRunner()


def events(path: Path, sessions: int) -> Path:
    """Sessions of two turns; every other one ends angrily and is rated low."""
    lines: list[dict[str, Any]] = []
    for number in range(sessions):
        angry = number % 2
        texts = ["where is my order", "no, that is useless" if angry else "thank you"]
        for turn, text in enumerate(texts):
            base = {
                "agent": "a", "session_id": f"s{number}", "interaction_id": f"s{number}:{turn}",
                "time_unix_nano": 10**18 + turn * 10**9,
            }  # fmt: skip
            kinds = (("user_message", text), ("agent_message", "It is on its way."))
            for kind, content in kinds:
                event = {"event_id": f"{number}:{turn}:{kind}", "kind": kind, "content": content}
                lines.append({**base, **event})
        rated = {"event_id": f"{number}:f", "kind": "feedback", "value": 0.0 if angry else 1.0}
        lines.append({**base, **rated, "target": f"s{number}:0"})
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def run(*arguments: object) -> Any:
    found = RUNNER.invoke(app, ["satisfaction", *map(str, arguments)])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_fit_to_feedback_and_evaluate(tmp_path: Path) -> None:
    path, model = events(tmp_path / "events.ndjson", 80), tmp_path / "model.json"
    assert run("fit", path, "-o", model).exit_code == 0
    assert Estimator.load(model.read_text()).trained_on == {
        "events.ndjson": {"rows": 80, "dissatisfied": 40}
    }
    found = json.loads(run("evaluate", path, "--model", model, "--json").stdout)
    assert (found["n"], found["dissatisfied"], found["auc"]) == (80, 40, 1.0)
    assert found["ece"] < 0.1
    shipped = json.loads(run("evaluate", path, "--json").stdout)
    assert shipped["auc"] == 1.0  # the shipped one tells anger from thanks, too


def test_what_cannot_be_fitted_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to fit"):
        run("fit")
    with pytest.raises(UsageError, match="name at least one file"):
        run("evaluate")
    with pytest.raises(Rejected, match="at least 5"):
        run("fit", events(tmp_path / "few.ndjson", 4), "-o", tmp_path / "m.json")
    plain = events(tmp_path / "plain.ndjson", 2)
    plain.write_text(
        "\n".join(line for line in plain.read_text().split("\n") if "value" not in line)
    )
    with pytest.raises(Rejected, match="feedback or an outcome"):
        run("evaluate", plain)
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(Rejected, match="not an estimator"):
        run("evaluate", plain, "--model", broken)
    with pytest.raises(UsageError, match="no such file"):
        run("evaluate", plain, "--model", tmp_path / "none.json")


@pytest.mark.slow
def test_the_shipped_estimator_is_the_one_that_the_recordings_give(tmp_path: Path) -> None:
    shipped_from = Estimator.load().trained_on
    assert len(shipped_from) == 4
    for name in shipped_from:
        data_file(f"{name}.jsonl.gz")
    assert run("fit", "--recordings", "-o", tmp_path / "model.json").exit_code == 0
    again, shipped = Estimator.load((tmp_path / "model.json").read_text()), Estimator.load()
    assert again.trained_on == shipped.trained_on
    grid = np.linspace(-4, 0, 50)
    for now, then in ((again.within, shipped.within), (again.alone, shipped.alone)):
        assert now.weights == pytest.approx(then.weights, abs=1e-3)
        assert now.calibration(grid).p == pytest.approx(then.calibration(grid).p, abs=5e-3)


@pytest.mark.slow
def test_dialogues_known_by_their_acts() -> None:
    data_file("betold_valid.jsonl.gz")
    acts = dialogues.betold()
    assert acts is not None
    assert (len(acts.dialogues), int(acts.failed.sum())) == (1352, 451)
    found, groups = bench.left_out(acts.dialogues, acts.failed, seed=7)
    assert len(set(groups.tolist())) == len(set(acts.dialogues))
    assert (auc(found.p, acts.failed) or 0) >= 0.86
    assert (f1(found.p > 0.5, acts.failed) or 0) >= 0.70
    assert expected_error(found.p, acts.failed) <= 0.05
    assert (intervals_that_cover(found, acts.failed).value or 0) >= 0.9
    early, _ = bench.left_out(acts.without_last(2), acts.failed, seed=7)
    assert (auc(early.p, acts.failed) or 0) >= 0.78


@pytest.mark.slow
def test_rated_turns_are_told_better_than_by_chance() -> None:
    data_file("topicalchat_valid_freq.jsonl.gz")
    rated = dialogues.topical_chat()
    assert rated is not None
    results = {(r["metric"], r["peer"]): r for r in bench._topical(frame(rated), seed=7)}
    assert results["topical_chat_auc", None]["low"] >= 0.6
    margin = results["topical_chat_margin", None]["value"]
    assert margin == pytest.approx(results["topical_chat_auc", None]["low"] - 0.5)
    assert results["topical_chat_ece", None]["value"] <= 0.05
    for peer in ("length_only", "lexicon_only"):
        assert (
            results["topical_chat_auc", peer]["value"] < results["topical_chat_auc", None]["value"]
        )
