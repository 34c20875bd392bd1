"""Structure and estimates in results: what they decide, and what decides before them."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from detectors.outcomes import AgentOutcomes, OutcomeConfig
from infra.settings.results import results_config
from infra.settings.sections import ResultsSettings
from ingest.core.errors import UsageError
from processors.derive import results, sessions
from processors.derive.judging import RULES_VERSION, ResultsConfig
from processors.derive.result_store import FLAGS

S = 10**9
_TEXTS = (
    "parent_id", "name", "model", "error_type", "error_template", "agent_version", "user_id",
    "ending", "content", "error_message", "tool_arguments", "tool_result",
)  # fmt: skip
_NUMBERS: dict[str, Any] = {
    "duration_ms": pl.Float64, "time_to_first_token_ms": pl.Float64, "input_tokens": pl.UInt64,
    "output_tokens": pl.UInt64, "cached_tokens": pl.UInt64, "cost_usd": pl.Float64,
}  # fmt: skip

ASKED = {"kind": "user_message", "content": "please cancel my order"}
WORKED = {"kind": "tool_call", "name": "find", "tool_result": "{}"}
FAILED = WORKED | {"status": "error", "error_type": "timeout"}
ANSWERED = {"kind": "agent_message", "content": "Here you are."}
CLOSED = {"kind": "interaction", "is_root": True}


def rows(
    *interactions: list[dict[str, Any]],
    said: list[tuple[str, str, float]] | None = None,
    config: ResultsConfig | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Results of interactions i0, i1, ... one second apart, and that of their session."""
    made, at = [], 1_760_000_000 * S
    for number, events in enumerate(interactions):
        for event in events:
            at += S
            made.append(
                dict.fromkeys(_TEXTS, "")
                | dict.fromkeys(_NUMBERS)
                | dict.fromkeys(FLAGS, False)
                | {
                    "trace": f"i{number}", "event_id": str(at), "payload_hash": at, "ns": at,
                    "start_ns": at, "status": "ok", "environment": "production", "agent": "shop",
                    "session_id": "s", "counted": True, "scope": "",
                }
                | event
            )  # fmt: skip
    frame = pl.DataFrame(made, schema_overrides=_NUMBERS)
    evaluations = pl.DataFrame(
        [(target, kind, "n", "", "", 1, "", value, "", 1) for target, kind, value in said or []],
        schema={
            "target": pl.String, "kind": pl.String, "name": pl.String, "user_id": pl.String,
            "scope": pl.String, "ns": pl.Int64, "event_id": pl.String, "value": pl.Float64,
            "reason": pl.String, "n": pl.UInt64,
        },
        orient="row",
    )  # fmt: skip
    of_scope = results.owned(frame)
    found = results.interaction_results(of_scope, evaluations, config).filter(pl.col("live") == 1)
    current = found.with_columns(
        key="session_id",
        start_ns=pl.col("start").dt.epoch("ns"),
        end_ns=pl.col("end").dt.epoch("ns"),
    )
    (session,) = (
        sessions.session_results(sessions.owned(current), evaluations, config)
        .filter(pl.col("live") == 1)
        .iter_rows(named=True)
    )
    return found.sort("interaction_id").to_dicts(), session


def verdict(row: dict[str, Any]) -> tuple[int | None, str, str]:
    return row["success"], row["success_source"], row["failure_reason"]


def test_an_answer_is_a_success_and_a_missing_one_is_not() -> None:
    (good, bad), session = rows([ASKED, WORKED, ANSWERED, CLOSED], [ASKED, WORKED, CLOSED])
    assert verdict(good) == (1, "status", "")
    assert verdict(bad) == (0, "structure", "unanswered")
    assert bad["reasons"] == ["unanswered"]
    assert verdict(session) == (0, "structure", "unanswered")


def test_people_know_better_and_an_error_names_its_cause() -> None:
    silent = [ASKED, WORKED, CLOSED]
    (praised,), session = rows(silent, said=[("i0", "outcome", 1.0)])
    assert verdict(praised) == verdict(session) == (1, "outcome", "")
    assert praised["reasons"] == ["unanswered"]
    (trusted,), _ = rows(
        silent, said=[("i0", "score", 1.0)], config=ResultsConfig(trusted_scores=("n",))
    )
    assert verdict(trusted) == (1, "score", "")
    (broken,), _ = rows([ASKED, WORKED, CLOSED | {"status": "error", "error_type": "crash"}])
    assert verdict(broken) == (0, "status", "crash")
    assert broken["reasons"] == ["crash", "unanswered"]


def test_who_waits_for_a_person_has_not_failed_and_who_goes_on_has_no_reasons() -> None:
    (waiting,), _ = rows([ASKED, WORKED, CLOSED | {"ending": "interrupted"}])
    assert verdict(waiting) == (None, "", "")
    (going_on,), _ = rows([ASKED, WORKED])
    assert (going_on["state"], going_on["reasons"]) == ("open", [])
    assert going_on["dissatisfaction"] is None


def test_a_session_fails_by_its_course() -> None:
    (_, last), session = rows([ASKED, WORKED, ANSWERED, CLOSED], [ASKED, FAILED, ANSWERED, CLOSED])
    assert verdict(last) == (1, "status", "")
    assert last["reasons"] == ["tool_error_unrecovered"]
    assert verdict(session) == (0, "structure", "tool_error_unrecovered")
    _, mended = rows([ASKED, FAILED, ANSWERED, CLOSED], [ASKED, WORKED, ANSWERED, CLOSED])
    assert verdict(mended) == (1, "status", "")


def test_estimates_are_of_the_interaction_alone_and_of_the_session_with_what_followed() -> None:
    asked = [ASKED, ANSWERED, CLOSED]
    angry = [ASKED | {"content": "No! This is useless, you never listen"}, ANSWERED, CLOSED]
    (alone,), calm = rows(asked)
    (beside, _), upset = rows(asked, angry)
    assert alone["dissatisfaction"] == beside["dissatisfaction"]
    assert alone["dissatisfaction_low"] <= alone["dissatisfaction"] <= alone["dissatisfaction_high"]
    assert (alone["coverage"], alone["language"]) == (0.5, "en")
    assert upset["dissatisfaction"] > calm["dissatisfaction"]
    assert upset["coverage"] == 0.75
    (silent,), _ = rows([WORKED, CLOSED])
    assert (silent["dissatisfaction"], silent["coverage"]) == (None, None)


def test_switches_and_the_version_of_the_rules() -> None:
    off = ResultsConfig(outcomes=None, estimator=None)
    (row,), session = rows([ASKED, WORKED, CLOSED], config=off)
    assert verdict(row) == verdict(session) == (1, "status", "")
    assert row["dissatisfaction"] is None
    marks = AgentOutcomes(severities={"unanswered": "marks"})
    other = ResultsConfig(outcomes=OutcomeConfig(agents={"shop": marks}))
    (row,), _ = rows([ASKED, WORKED, CLOSED], config=other)
    assert verdict(row) == (1, "status", "")
    assert row["reasons"] == ["unanswered"]
    versions = {c.rules_version for c in (ResultsConfig(), off, other)}
    assert len(versions) == 3
    assert ResultsConfig().rules_version == RULES_VERSION


def test_settings_of_an_agent_are_those_of_all_where_it_says_nothing() -> None:
    section = ResultsSettings.model_validate(
        {
            "reasons": {"off": ["refusal"], "thresholds": {"tool_loop": 5}},
            "agents": {"shop": {"thresholds": {"retry_storm": 2}, "budget": {"tokens": 9}}},
        }
    )
    outcomes = results_config(section).outcomes
    assert outcomes is not None
    shop = outcomes.of("shop")
    assert shop.off == frozenset({"refusal"})
    assert shop.thresholds == {"tool_loop": 5, "retry_storm": 2}
    assert (shop.budget.steps, shop.budget.tokens) == (60, 9)
    assert outcomes.of("other").budget.tokens is None
    with pytest.raises(UsageError, match="there is no reason 'none'"):
        results_config(ResultsSettings.model_validate({"reasons": {"off": ["none"]}}))


MODEL = {"kind": "llm_call", "model": "m"}
ROOT = {"is_root": True}
WEB = {"kind": "span", "event_id": "web"} | ROOT
BELOW = {"parent_id": "web"}


@pytest.mark.parametrize(
    ("events", "state", "success"),
    [
        ([MODEL | ROOT], "ended", 1),
        ([MODEL | ROOT | {"status": "error", "error_type": "timeout"}], "ended", 0),
        # A retry that succeeds is a success, and what the web server says decides nothing.
        ([MODEL | BELOW | {"status": "error"}, MODEL | BELOW, WEB | {"status": "error"}],
         "ended", 1),
        ([MODEL | BELOW, MODEL | BELOW | {"status": "error"}, WEB], "ended", 0),
        ([MODEL | BELOW | {"event_id": "one"}, WORKED | {"parent_id": "one"}, WEB], "ended", 1),
        # What is above may still be an agent.
        ([MODEL | BELOW], "open", None),
        ([MODEL | BELOW, WEB | {"parent_id": "elsewhere", "is_root": False}], "open", None),
        # Events that are no spans do not say what is above them.
        ([MODEL], "open", None),
        ([MODEL | BELOW, WEB, CLOSED | {"status": "error"}], "ended", 0),
    ],
)  # fmt: skip
def test_work_without_an_agent_stands_for_one(
    events: list[dict[str, Any]], state: str, success: int | None
) -> None:
    for given in (events, events[::-1] if "error" not in str(events) else events):
        (found,), _ = rows(given)
        assert (found["state"], found["success"]) == (state, success)
        assert found["llm_calls"] == sum(e["kind"] == "llm_call" for e in events)
