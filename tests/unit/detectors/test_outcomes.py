"""Every reason: when it is found, when it is not, and where its threshold lies."""

# ruff: noqa: RUF001

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.outcomes import (
    REASONS,
    AgentOutcomes,
    Budget,
    OutcomeConfig,
    interaction_reasons,
)
from tests.unit.detectors.outcome_events import (
    SCHEMA,
    agent,
    closing,
    failing,
    frame,
    model,
    reasons_of,
    session_of,
    sessions,
    tool,
    user,
)

DONE = agent("Here it is.")
NOT_FOUND = "Error: order not found"


def changed(**fields: Any) -> OutcomeConfig:
    return OutcomeConfig(AgentOutcomes(**fields))


CASES: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    # code, found in, not found in
    ("tool_loop", [tool("a")] * 3 + [DONE], [tool("a")] * 2 + [DONE]),
    (
        "tool_loop",
        [tool("a"), tool("b"), tool("a"), tool("a"), DONE],
        [tool("a", result=str(i)) for i in range(3)] + [DONE],
    ),
    ("oscillation", [tool("a"), tool("b")] * 3 + [DONE], [tool("a"), tool("b")] * 2 + [DONE]),
    (
        "oscillation",
        [tool("a", '{"x":1}'), tool("a", '{"x":2}')] * 3 + [DONE],
        [tool("a")] * 6 + [DONE],
    ),
    ("retry_storm", [failing("a")] * 3 + [tool("a"), DONE], [failing("a")] * 2 + [tool("a"), DONE]),
    (
        "retry_storm",
        [failing("a", str(i)) for i in range(3)] + [DONE],
        [failing("a"), failing("b"), failing("a"), DONE],
    ),
    (
        "unknown_tool",
        [failing("x", "Unknown tool: x"), tool("a"), DONE],
        [failing("x", "order not found"), tool("a"), DONE],
    ),
    (
        "bad_arguments",
        [failing("x", "missing required parameter id"), tool("a"), DONE],
        [failing("x", "the parcel is missing"), tool("a"), DONE],
    ),
    (
        "hallucinated_identifier",
        [failing("x", NOT_FOUND, '{"id":"W1234567"}'), tool("a"), DONE],
        [tool("find", result="W1234567"), failing("x", NOT_FOUND, '{"id":"W1234567"}'), tool("a")],
    ),
    (
        "hallucinated_identifier",
        [failing("x", NOT_FOUND, '{"id":"88776655"}'), tool("a"), DONE],
        [failing("x", NOT_FOUND, '{"limit":"12"}'), tool("a"), DONE],
    ),
    ("tool_error_unrecovered", [tool("a"), failing("b"), DONE], [failing("b"), tool("a"), DONE]),
    (
        "success_claimed_after_error",
        [failing("b"), agent("Your order has been updated.")],
        [failing("b"), tool("b"), agent("Your order has been updated.")],
    ),
    (
        "success_claimed_after_error",
        [failing("b"), agent("已为您取消订单。")],
        [failing("b"), agent("Sorry, the order has not been updated: it failed.")],
    ),
    ("error_shown_to_user", [agent("KeyError: 'id'")], [agent("Here is how to handle errors.")]),
    (
        "error_shown_to_user",
        [failing("b", "plan P7 expired"), tool("a"), agent("So: plan P7 expired.")],
        [agent("So: plan P7 expired."), failing("b", "plan P7 expired"), tool("a")],
    ),
    ("error_shown_to_user", [agent("抱歉，系统错误，请稍后再试。")], [agent("订单已发货。")]),
    ("unanswered", [tool("a")], [tool("a"), DONE]),
    ("unanswered", [tool("a")], [tool("transfer_to_human_agents")]),
    ("unanswered", [model(status="error")], [model(content="It is 7.")]),
    ("empty_answer", [agent("  ")], [DONE]),
    (
        "truncated_answer",
        [model(attributes='{"gen_ai.response.finish_reasons":"[\\"length\\"]"}'), DONE],
        [model(attributes='{"gen_ai.response.finish_reasons":"[\\"stop\\"]"}'), DONE],
    ),
    (
        "truncated_answer",
        [model(attributes='{"gen_ai.response.finish_reasons":["max_tokens"]}'), DONE],
        [model(attributes='{"gen_ai.response.finish_reasons":["length"]}'), model(), DONE],
    ),
    (
        "refusal",
        [agent("I'm sorry, but I can't help with that.")],
        [agent("You can't go wrong here.")],
    ),
    (
        "refusal",
        [agent("很抱歉，我无法提供该信息。")],
        [agent("x" * 400 + " I cannot help with that.")],
    ),
    ("handoff_to_human", [tool("transfer_to_human_agents"), DONE], [tool("transfer_money"), DONE]),
    (
        "handoff_to_human",
        [{"kind": "handoff", "name": "human_support"}, DONE],
        [{"kind": "handoff", "name": "billing_agent"}, DONE],
    ),
    (
        "problem_persists",
        [tool("test", result="Speed test failed."), DONE],
        [tool("test", result="Speed test failed."), tool("test", result="Speed: 90 Mbps"), DONE],
    ),
    (
        "problem_persists",
        [{"kind": "human_input", "name": "check", "tool_result": "无法连接"}, DONE],
        [
            tool("search", result='{"title": "why logins failed"}'),
            tool("doc", result="failed " * 99),
            DONE,
        ],
    ),
    ("budget_exceeded", [model()] * 61 + [DONE], [model()] * 60 + [DONE]),
]


@pytest.mark.parametrize(("code", "found", "missing"), CASES)
def test_a_reason_is_found_where_it_is_and_nowhere_else(
    code: str, found: list[dict[str, Any]], missing: list[dict[str, Any]]
) -> None:
    assert code in reasons_of(*found)
    assert code not in reasons_of(*missing)


def test_every_reason_of_an_interaction_has_a_case() -> None:
    of_sessions = {"restarted_conversation", "repeated_request", "abandoned"}
    assert {case[0] for case in CASES} == {reason.code for reason in REASONS} - of_sessions


def test_an_ordinary_interaction_has_no_reason() -> None:
    found = interaction_reasons(frame([user("hello"), model(), tool("a"), DONE, closing()]))
    assert found.select("interaction_id", "reasons", "fails", "examples").row(0) == (
        "0",
        [],
        False,
        [],
    )


def test_no_events_give_no_rows() -> None:
    assert interaction_reasons(pl.DataFrame(schema=SCHEMA)).is_empty()
    assert sessions(pl.DataFrame(schema=SCHEMA)).is_empty()


@pytest.mark.parametrize("events", [[user(None), tool("a")], [user("x"), model()], [user("x")]])
def test_without_recorded_text_nothing_is_known_of_the_answer(events: list[dict[str, Any]]) -> None:
    assert interaction_reasons(frame([*events, closing()]))["reasons"].to_list() == [[]]


def test_a_request_that_ended_in_an_error_was_not_answered() -> None:
    found = interaction_reasons(frame([user("x"), model(), closing(status="error")]))
    assert found["reasons"].to_list() == [["unanswered"]]


def test_a_shell_is_no_check() -> None:
    shell = [tool("bash", f'{{"command":"{c}"}}', "it failed") for c in ("make", "ls")]
    assert "problem_persists" not in reasons_of(*shell, DONE)
    assert "problem_persists" in reasons_of(shell[0], shell[0], DONE)


def test_an_open_interaction_whose_user_waits_is_abandoned() -> None:
    assert "abandoned" in reasons_of(model(), close=False)
    assert "abandoned" not in reasons_of(DONE, close=False)
    assert "abandoned" not in reasons_of(model())


def test_a_session_that_ends_with_a_question_is_abandoned() -> None:
    asked = [user("cancel it"), agent("Which order do you mean?"), closing()]
    assert "abandoned" in session_of(asked)
    assert "abandoned" not in session_of(asked, [user("this one"), agent("Done."), closing()])


def test_a_repeated_request() -> None:
    first = [user("please cancel my order today"), agent("Your order is nice."), closing()]
    again = [user("Please CANCEL my order, today!"), DONE, closing()]
    other = [user("what is the weather in Rome"), DONE, closing()]
    assert "repeated_request" in session_of(first, again)
    assert "repeated_request" in session_of(first, other, other[:1] + again[1:], again)
    assert "repeated_request" not in session_of(first, other)
    assert "repeated_request" not in session_of(
        [user("yes please"), DONE], [user("yes please"), DONE]
    )
    chinese = [user("我想取消订单"), agent("好的"), closing()]
    assert "repeated_request" in session_of(chinese, chinese)


def test_a_restarted_conversation() -> None:
    greeting = agent("Hi! How can I help you today?")
    begun = [greeting, closing()]
    late = [user("my order is late"), agent("Which one?"), closing()]
    assert "restarted_conversation" in session_of(
        begun, late, [user("number 7"), greeting, closing()]
    )
    assert "restarted_conversation" not in session_of(begun, [user("hello"), greeting, closing()])
    assert "restarted_conversation" not in session_of(begun, late, [user("number 7"), DONE])


def test_an_interaction_of_a_session_is_not_judged_by_its_identifiers_nor_its_greeting() -> None:
    call = [user("x"), failing("x", NOT_FOUND, '{"id":"W1234567"}'), tool("a"), DONE, closing()]
    assert interaction_reasons(frame(call))["reasons"].to_list() == [[]]


def test_a_check_persists_in_a_session_until_it_is_fine() -> None:
    broken = [user("x"), tool("test", result="Speed test failed."), DONE, closing()]
    other = [user("x"), tool("test", '{"x":1}', "Speed test failed."), DONE, closing()]
    mended = [user("x"), tool("test", result="Speed: 90 Mbps"), DONE, closing()]
    assert "problem_persists" in session_of(broken)
    assert "problem_persists" in session_of(mended, broken, [user("bye"), DONE, closing()])
    assert "problem_persists" not in session_of(broken, mended)
    assert "problem_persists" not in session_of(broken, other)


def test_an_error_that_a_later_interaction_made_good() -> None:
    failed = [user("x"), failing("find"), agent("What is your name?"), closing()]
    helped = [user("Jo"), tool("find"), DONE, closing()]
    found = interaction_reasons(frame(failed, helped))
    assert found["reasons"].to_list() == [["tool_error_unrecovered"], []]
    assert session_of(failed, helped) == []
    assert sessions(frame(failed))["fails"].to_list() == [True]


def test_a_session_has_what_an_interaction_alone_can_tell() -> None:
    silent = [user("x"), tool("a"), closing()]
    assert "unanswered" in session_of(silent, [user("y"), DONE, closing()])


@pytest.mark.parametrize(
    ("budget", "fields"),
    [
        (Budget(duration_ms=1000), [{"duration_ms": 1001.0}, {"duration_ms": 1000.0}]),
        (Budget(tokens=100), [{"input_tokens": 60, "output_tokens": 41}, {"input_tokens": 100}]),
        (Budget(cost_usd=0.5), [{"cost_usd": 0.51}, {"cost_usd": 0.5}]),
    ],
)
def test_budgets_are_exceeded_by_more_than_the_budget(
    budget: Budget, fields: list[dict[str, Any]]
) -> None:
    over, within = fields
    kind = "interaction" if "duration_ms" in over else "llm_call"
    for given_fields, expected in ((over, True), (within, False)):
        events = [user("x"), {"kind": kind, **given_fields}, DONE]
        found = interaction_reasons(frame(events), changed(budget=budget))
        assert ("budget_exceeded" in found["reasons"][0]) is expected


def test_totals_of_a_closing_event_do_not_count_twice() -> None:
    events = [user("x"), model(input_tokens=60), DONE, closing(input_tokens=60)]
    found = interaction_reasons(frame(events), changed(budget=Budget(tokens=100)))
    assert found["reasons"].to_list() == [[]]


@pytest.mark.parametrize("error", ["max_steps", "too_many_errors", "GraphRecursionError"])
def test_a_run_stopped_at_a_limit_exceeded_a_budget(error: str) -> None:
    events = [user("x"), DONE, closing(status="error", error_type=error)]
    assert interaction_reasons(frame(events))["reasons"].to_list() == [["budget_exceeded"]]


def test_tools_that_the_agent_has() -> None:
    config = changed(tools=frozenset({"find"}))
    assert "unknown_tool" in reasons_of(tool("fnid"), DONE, config=config)
    assert "unknown_tool" not in reasons_of(tool("find"), DONE, config=config)


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ('{"id": 7}', True),
        ('{"id": "7"}', False),
        ("{}", False),
        ('{"id": 7, "x": 1}', False),
        ("not JSON", False),
    ],
)
def test_arguments_are_held_to_the_schema_of_the_tool(arguments: str, fits: bool) -> None:
    schema = {
        "type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"],
        "additionalProperties": False,
    }  # fmt: skip
    config = changed(schemas={"find": schema})
    assert ("bad_arguments" not in reasons_of(tool("find", arguments), DONE, config=config)) is fits
    assert "bad_arguments" not in reasons_of(tool("other", arguments), DONE, config=config)


def test_a_threshold_of_one_marks_every_invented_identifier() -> None:
    config = changed(thresholds={"hallucinated_identifier": 1})
    call = tool("pay", '{"card":"gift_card_0000001"}')
    assert "hallucinated_identifier" in reasons_of(call, DONE, config=config)
    assert "hallucinated_identifier" not in reasons_of(call, DONE)
    told = [agent("Use gift_card_0000001?"), call, DONE]
    assert "hallucinated_identifier" not in reasons_of(*told, config=config)


def test_switch_threshold_and_severity_of_one_agent() -> None:
    strict = AgentOutcomes(
        off=frozenset({"refusal"}), thresholds={"tool_loop": 2}, severities={"tool_loop": "fails"}
    )
    events = [user("x"), tool("a"), tool("a"), agent("I'm unable to do that."), closing()]
    config = OutcomeConfig(agents={"a": strict})
    mine = interaction_reasons(frame(events), config)
    assert mine.select("reasons", "fails").rows() == [(["tool_loop"], True)]
    other = interaction_reasons(frame(events, agent="b"), config)
    assert other.select("reasons", "fails").rows() == [(["refusal"], False)]


def test_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no reason 'tool_lop'"):
        AgentOutcomes(off=frozenset({"tool_lop"}))
    with pytest.raises(ValueError, match="must be above 0"):
        AgentOutcomes(thresholds={"tool_loop": 0})


def test_failing_reasons_come_first_and_have_examples() -> None:
    events = [user("x"), *[tool("a")] * 4, closing(status="error", error_type="max_steps")]
    found = interaction_reasons(frame(events))
    assert found["reasons"].to_list() == [["budget_exceeded", "unanswered", "tool_loop"]]
    assert found["examples"].to_list() == [[["s:6"], ["s:6"], ["s:5"]]]


def test_empty_strings_and_times_of_the_store_mean_the_same() -> None:
    events = frame([user("x"), tool("a"), failing("b"), closing()])
    stored = events.with_columns(
        pl.col(pl.String).fill_null(""), time=pl.from_epoch("time_unix_nano", time_unit="ns")
    ).drop("time_unix_nano")
    assert interaction_reasons(stored).equals(interaction_reasons(events))


_EVENTS = st.sampled_from(
    [
        user("please cancel my order now"),
        agent("Hi! How can I help?"),
        agent("All done."),
        model(),
        tool("a"),
        tool("b"),
        failing("a"),
        failing("b", NOT_FOUND, '{"id":"W99999"}'),
        closing(),
        agent("I cannot help with that."),
        tool("test", result="it failed"),
    ]
)


@settings(max_examples=25, deadline=None)
@given(
    interactions=st.lists(st.lists(_EVENTS, max_size=12), min_size=1, max_size=3),
    same_time=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_neither_row_order_nor_repeats_matter(
    interactions: list[list[dict[str, Any]]], same_time: bool, seed: int
) -> None:
    events = frame(*interactions)
    if same_time:
        events = events.with_columns(time_unix_nano=pl.lit(7, pl.Int64))
    shuffled = pl.concat([events, events.sample(fraction=0.5, seed=seed)]).sample(
        fraction=1.0, shuffle=True, seed=seed
    )
    assert interaction_reasons(shuffled).equals(interaction_reasons(events))
    assert sessions(shuffled).equals(sessions(events))


def test_two_payloads_under_one_id_count_as_one_whatever_their_order() -> None:
    events = frame([user("x"), agent("I cannot help with that."), closing()])
    other = events.with_columns(
        pl.when(pl.col("kind") == "agent_message")
        .then(pl.lit("Yes."))
        .otherwise("content")
        .alias("content")
    )
    forth, back = pl.concat([events, other]), pl.concat([other, events])
    assert interaction_reasons(forth).equals(interaction_reasons(back))


def test_codes_are_distinct_and_every_one_is_explained() -> None:
    codes = [reason.code for reason in REASONS]
    assert len(codes) == len(set(codes)) == 19
    assert all(reason.sentence.endswith(".") and reason.unit for reason in REASONS)
