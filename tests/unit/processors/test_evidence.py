"""Which of several explanations comes first."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from processors.evidence import explain
from processors.findings import Finding, of_change
from processors.stations.base import Change
from tests.support.stations import T0, failed, results


def finding(signal: str, agent: str) -> Finding:
    change = Change(
        change_id="c", at=T0 + 4_000, status="open", severity="page", station="detection",
        signal=signal, direction="up", environment="production", agent=agent, began=T0 + 3_600,
        found=T0 + 4_000, e_value=1e9,
    )  # fmt: skip
    return of_change(change)


def served(at: int, agent: str, model: str, fails: bool):
    said = {"agent": agent, "models": [model], **(failed("model_error", "") if fails else {})}
    return T0 + at, said | {"llm_errors": int(fails), "user_id": f"u{at % 400}"}


@pytest.mark.parametrize(("agent", "first"), [("", "provider"), ("shop", "model")])
def test_of_several_agents_with_one_model_the_provider_is_the_first_cause(agent, first):
    rows = [
        served(at, name, model, fails=at >= 3_600 and model.startswith("claude"))
        for at in range(0, 4_000, 10)
        for name, model in (("shop", "claude-sonnet-4-5"), ("bank", "claude-sonnet-4-5"),
                            ("desk", "gpt-4.1"))
        if not agent or agent == name
    ]  # fmt: skip
    # Where nothing fails nothing is said of models.
    rows += [(T0 + 10 * n, {"agent": "desk", "llm_errors": 1, "models": ["gpt-4.1"]})
             for n in range(20) if not agent]  # fmt: skip
    found = explain(finding("model_error", agent), results(rows))
    causes = [(c.attribute, c.value) for c in found.causes]
    value = {"provider": "anthropic", "model": "claude-sonnet-4-5"}[first]
    assert causes[0] == (first, value)


def test_of_new_requests_the_words_come_before_the_tools_that_they_need():
    rows = [
        (T0 + at, {"request": "a warranty claim" if new else "where is my parcel",
                   "tools": ["search"] if new or at % 20 in (5, 6) else ["track"],
                   "user_id": f"u{at % 400}"})
        for at in range(4_600)
        for new in [at >= 3_600 and at % 10 < 3]
    ]  # fmt: skip
    found = explain(finding("new_request", "shop"), results(rows))
    causes = [(c.attribute, c.value) for c in found.causes]
    assert causes[0] in (("topic", "claim"), ("topic", "warranty"))
    assert ("tool", "search") in causes


@pytest.mark.parametrize(
    ("signal", "bad", "fine", "hit"),
    [
        ("version_duration_ms", {"duration_ms": 9_000.0}, {"duration_ms": 500.0}, 90),
        ("version_cost_usd", {"cost_usd": 0.5}, {"cost_usd": 0.0005}, 90),
        ("version_satisfaction", {"satisfaction": 0.0}, {"satisfaction": 1.0}, 90),
        ("version_tool_errors", {"tool_errors": 2}, {"tool_errors": 0}, 90),
        ("version_success", failed(), {}, 90),
        ("version_tokens", {}, {}, 180),
    ],
)
def test_a_version_hits_whose_interactions_are_worse_than_usual(signal, bad, fine, hit):
    rows = [
        (T0 + at, {"agent_version": "v1", "satisfaction": 1.0, "user_id": f"old {at}"})
        for at in range(3_600)
    ] + [
        (T0 + 3_600 + 20 * n, {"agent_version": "v2", "user_id": f"u{n}", **(bad, fine)[n % 2]})
        for n in range(180)
    ]
    context = results(rows).with_columns(cluster=pl.lit(""))
    found = replace(finding(signal, "shop"), kind="version", agent_version="v2")
    explained = explain(found, context)
    assert explained.users == hit
    assert explained.examples
