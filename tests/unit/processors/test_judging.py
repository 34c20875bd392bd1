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
    given_up_before: int = 0,
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
    found = results.interaction_results(of_scope, evaluations, config, given_up_before)
    found = found.filter(pl.col("live") == 1)
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


@pytest.mark.parametrize(
    ("asked", "waiting_ms"),
    [
        ([], 0.0),
        ([(2, 8)], 6_000.0),
        ([(2, 8), (4, 9), (4, 6)], 7_000.0),
        ([(-5, 3), (8, 20)], 5_000.0),
        ([(11, 71)], 0.0),
        ([(None, 5)], 0.0),
    ],
    ids=["none", "one", "at the same time", "over both ends", "after the close", "not timed"],
)
def test_a_person_is_waited_for_within_an_interaction(
    asked: list[tuple[int | None, int]], waiting_ms: float
) -> None:
    at = 1_760_000_000 * S
    waits = [
        {"kind": "human_input", "ns": at + until * S, "start_ns": at + (since or until) * S}
        for since, until in asked
    ]
    closing = CLOSED | {"start_ns": at, "ns": at + 10 * S, "duration_ms": 10_000.0}
    (row,), _ = rows([ASKED, *waits, ANSWERED, closing])
    assert (row["duration_ms"], row["waiting_ms"]) == (10_000.0, waiting_ms)


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


def test_tools_come_in_the_order_of_their_first_call() -> None:
    called = [{"kind": "tool_call", "name": name} for name in ("pay", "book", "pay", "ask")]
    (row,), _ = rows([ASKED, *called, ANSWERED, CLOSED])
    assert row["tools"] == ["pay", "book", "ask"]
    assert row["tool_calls"] == 4
    # Who began first may be done last.
    called[3]["start_ns"] = 1
    (row,), _ = rows([ASKED, *called, ANSWERED, CLOSED])
    assert row["tools"] == ["ask", "pay", "book"]


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


TOP = CLOSED | {"event_id": "top"}
UNDER = {"parent_id": "top"}
TOTALS = {"input_tokens": 900, "output_tokens": 9, "cost_usd": 0.5}


@pytest.mark.parametrize(
    ("events", "tokens", "cost"),
    [
        # What agents say of all their calls counts only where no call says any.
        ([TOP | TOTALS], 900, 0.5),
        ([MODEL | UNDER, TOP | TOTALS], 900, 0.5),
        ([MODEL | UNDER | {"input_tokens": 7, "cost_usd": 0.25}, TOP | TOTALS], 7, 0.25),
        ([MODEL | UNDER | {"input_tokens": 7}, TOP | TOTALS], 7, None),
        # Each contains those below it.
        ([CLOSED | UNDER | TOTALS | {"event_id": "one"}, CLOSED | TOTALS | {"parent_id": "one"},
          CLOSED | UNDER | TOTALS, TOP], 1800, 1.0),
        ([TOP | TOTALS | {"cost_usd": None}], 900, None),
        ([TOP], None, None),
    ],
)  # fmt: skip
def test_sums_of_agents(
    events: list[dict[str, Any]], tokens: int | None, cost: float | None
) -> None:
    (row,), _ = rows(events)
    assert (row["input_tokens"], row["cost_usd"]) == (tokens, cost)
    assert row["llm_calls"] == sum(e["kind"] == "llm_call" for e in events)


ALWAYS_OK = TOP | {"by_parts": True}
TRIAGE = CLOSED | UNDER | {"is_root": False}
LIMITED = {"status": "error", "error_type": "429"}


@pytest.mark.parametrize(
    ("events", "success"),
    [
        ([MODEL | UNDER | LIMITED, TRIAGE, ALWAYS_OK], 0),
        ([MODEL | UNDER, TRIAGE | LIMITED, ALWAYS_OK], 0),
        # A call that succeeds when it is tried again.
        ([MODEL | UNDER | LIMITED, MODEL | UNDER, TRIAGE, ALWAYS_OK], 1),
        ([WORKED | UNDER | LIMITED, MODEL | UNDER, ALWAYS_OK], 1),
        ([MODEL | UNDER | LIMITED, TOP], 1),
        ([WEB | UNDER | LIMITED, ALWAYS_OK], 1),
        ([ALWAYS_OK], 1),
    ],
)
def test_below_a_root_that_is_always_ok_the_last_work_decides(
    events: list[dict[str, Any]], success: int
) -> None:
    (row,), _ = rows(events)
    assert verdict(row) == ((1, "status", "") if success else (0, "status", "429"))


def test_a_stream_that_was_stopped_has_failed_where_its_last_call_did() -> None:
    silent = ALWAYS_OK | {"ending": "cancelled"}
    (row,), _ = rows([MODEL | UNDER | LIMITED, silent])
    assert verdict(row) == (0, "status", "429")
    (row,), _ = rows([MODEL | UNDER, silent])
    assert verdict(row) == (None, "", "")


def test_who_only_its_service_names_is_called_as_the_first_agent_below() -> None:
    service = TOP | {"agent": "svc", "of_service": True}
    second = TRIAGE | {"agent": "billing", "start_ns": 5}
    first = TRIAGE | {"agent": "root", "start_ns": 3}
    (row,), _ = rows([MODEL | UNDER | {"agent": "other"}, second, first, service])
    assert row["agent"] == "root"
    (row,), _ = rows([second, TOP | {"agent": "own"}])
    assert row["agent"] == "own"
    (row,), _ = rows([MODEL | UNDER, service])
    assert row["agent"] == "svc"


def test_what_fails_around_an_agent_is_not_its_failure() -> None:
    web = {"kind": "span", "event_id": "web", "parent_id": "remote"}
    broken = web | {"status": "error", "error_type": "500"}
    for around in (web, broken):
        found = _unfinished([ASKED, MODEL | BELOW, ANSWERED, around])
        assert (found["state"], *verdict(found)) == ("unfinished", None, "", "")
    failed = FAILED | UNDER | {"error_template": "too slow"}
    database = broken | UNDER | {"event_id": "db", "error_template": "db down"}
    (row,), _ = rows([ASKED, failed, database, TOP | {"status": "error"}])
    assert (row["failure_reason"], row["failure_tool"]) == ("timeout", "find")
    assert row["failure_template"] == "too slow"


def _unfinished(events: list[dict[str, Any]]) -> dict[str, Any]:
    (row,), _ = rows(events, given_up_before=2**62)
    return row


def call(name: str, above: str, tokens: int | None, cost: float | None) -> dict[str, Any]:
    told = {"event_id": name, "parent_id": above, "input_tokens": tokens, "cost_usd": cost}
    return MODEL | told


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([("c", "b", 100, 0.01), ("b", "a", None, None), ("a", "top", 100, 0.01)], (1, 100, 0.01)),
        ([("c", "b", 100, 0.01), ("b", "a", None, None), ("a", "top", None, None)], (1, 100, 0.01)),
        ([("c", "a", 100, 0.01), ("a", "top", 100, None)], (1, 100, 0.01)),
        ([("c", "a", 100, None), ("a", "top", None, 0.01)], (1, 100, 0.01)),
        ([("c", "a", None, None), ("a", "top", None, None)], (1, None, None)),
        # An outer one that knows nothing may be around several.
        ([("d", "a", 7, 0.5), ("c", "a", 100, 0.25), ("a", "top", None, None)], (2, 107, 0.75)),
        ([("d", "a", 7, None), ("c", "a", 100, None), ("a", "top", None, 0.5)], (2, 107, 0.5)),
        ([("d", "a", 7, 0.5), ("c", "a", 100, 0.25), ("a", "top", 107, None)], (1, 107, 0.75)),
    ],
)
def test_one_call_that_several_instrumentations_tell(
    calls: list[tuple[str, str, int | None, float | None]],
    expected: tuple[int, int | None, float | None],
) -> None:
    (row,), _ = rows([*(call(*told) for told in calls), TOP])
    assert (row["llm_calls"], row["input_tokens"], row["cost_usd"]) == expected


def test_a_question_within_the_wait_for_its_answer_is_one() -> None:
    at = 1_760_000_000 * S
    asks = {"kind": "human_input", "start_ns": at + S, "ns": at + 6 * S}
    inner = asks | {"parent_id": "ask", "start_ns": at + 2 * S, "ns": at + 5 * S}
    whole = TOP | {"start_ns": at, "ns": at + 10 * S, "duration_ms": 10_000.0}
    (row,), _ = rows([inner, asks | UNDER | {"event_id": "ask"}, whole])
    assert (row["human_inputs"], row["waiting_ms"]) == (1, 5_000.0)
