"""Structural outcomes on the recordings, with the rewards hidden."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest

from bench import outcomes
from detectors.outcomes import REASONS
from tests.support.common import data_file


@pytest.fixture(scope="module")
def sessions() -> dict[str, pl.DataFrame]:
    found = {}
    for name in outcomes.FILES[:5]:
        data_file(f"{name}.jsonl.gz")
        recording = outcomes.load(name)
        assert recording is not None
        assert "outcome" not in recording.events["kind"].unique()
        found[name] = outcomes.of_sessions(recording)
    return found


def test_failures_that_show_are_found(sessions: dict[str, pl.DataFrame]) -> None:
    together = pl.concat(sessions.values())
    assert (len(together), together["failed"].sum()) == (362, 105)
    flagged = together.filter("fails")
    assert flagged["failed"].mean() >= 0.9  # measured 0.96
    assert flagged["failed"].sum() / 105 >= 0.45  # measured 0.50


def test_what_fails_by_default_has_the_precision_for_it(sessions: dict[str, pl.DataFrame]) -> None:
    together = pl.concat(sessions.values())
    for reason in REASONS:
        flagged = together.filter(pl.col("reasons").list.contains(reason.code))
        if reason.severity != "marks" and len(flagged):
            assert flagged["failed"].mean() >= 0.8, reason.code
        elif len(flagged) >= 5:  # fewer say nothing
            assert flagged["failed"].mean() < 0.8, reason.code


def test_tool_errors_are_exact() -> None:
    for name in outcomes.FILES:
        recording = outcomes.load(name)
        assert recording is not None
        calls = recording.events.filter(pl.col("kind") == "tool_call")
        with gzip.open(data_file(f"{name}.jsonl.gz")) as lines:
            expected = sum(_errors(json.loads(line)) for line in lines)
        assert (calls["status"] == "error").sum() == expected, name


def _errors(record: dict) -> int:  # type: ignore[type-arg]
    if "messages" in record:
        messages = record["messages"]
        return sum(
            m["role"] == "tool" and m.get("requestor") != "user" and m.get("error") is True
            for m in messages
        )
    if "traj" in record:
        return sum(
            m["role"] == "tool" and (m["content"] or "").startswith("Error") for m in record["traj"]
        )
    steps = record.get("trajectory", ())
    return sum("introduced new syntax error(s)" in step["observation"][:60] for step in steps)


def test_figures_of_a_flag() -> None:
    truth = np.array([True, True, False, False])
    precision, recall, lift = outcomes._figures(
        "f", "r", np.array([True, False, False, False]), truth
    )
    assert (precision["value"], precision["n"], precision["file"]) == (1.0, 1, "f")
    assert (recall["value"], recall["n"]) == (0.5, 2)
    assert lift["value"] == 2.0
    nothing, none_found, _ = outcomes._figures("f", "r", np.zeros(4, bool), truth)
    assert (nothing["value"], none_found["value"]) == (None, 0.0)
