"""tau2-bench files: the exact counts, costs and durations that the recorded runs have."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean

import msgspec
import pytest

from ingest.core.errors import Rejected
from ingest.core.events import Event
from ingest.replay import Options, load_info, read
from tests.support.common import data_file

SFT = "ft:gpt-4.1-2025-04-14:sierra:tau2-full-sft:BzrYdMNm"
RETAIL = "tau2_retail_gpt41_vs_sft_simulations.jsonl.gz"
TELECOM = "tau2_telecom_gpt41_vs_sft_simulations.jsonl.gz"
SOLO = "tau2_telecom_solo_gpt41_vs_sft_simulations.jsonl.gz"
GPT4O = "tau2_telecom_gpt4o_simulations.jsonl.gz"


def events_of(name: str, **options: object) -> list[Event]:
    infos = load_info(data_file("tau2_run_info.jsonl.gz"))
    items = list(read(data_file(name), Options(infos=infos, **options)))  # type: ignore[arg-type]
    assert [item for item in items if isinstance(item, Rejected)] == []
    return items  # type: ignore[return-value]


def sessions(events: list[Event]) -> dict[tuple[str | None, str], list[Event]]:
    by_session = defaultdict(list)
    for event in events:
        assert event.session_id is not None
        by_session[event.agent_version, event.session_id].append(event)
    return by_session


def span_s(events: list[Event]) -> float:
    start = min(e.time_unix_nano - (e.duration_ms or 0) * 1e6 for e in events)
    return (max(e.time_unix_nano for e in events) - start) / 1e9


def by_version(name: str) -> dict[str | None, list[list[Event]]]:
    versions = defaultdict(list)
    for (version, _), events in sessions(events_of(name)).items():
        versions[version].append(events)
    return versions


@pytest.mark.parametrize(
    ("name", "agent", "versions", "events", "interactions"),
    [
        (RETAIL, "retail", {"gpt-4.1", SFT}, 3416, 526),
        (TELECOM, "telecom", {"gpt-4.1", SFT}, 5963, 779),
        (SOLO, "telecom", {"gpt-4.1", SFT}, 2690, 80),
        (GPT4O, "telecom", {"gpt-4o"}, 928, 139),
    ],
)
def test_counts(name: str, agent: str, versions: set[str], events: int, interactions: int) -> None:
    found = events_of(name)
    assert len(found) == len({event.event_id for event in found}) == events
    assert sum(event.kind == "interaction" for event in found) == interactions
    assert {event.agent for event in found} == {agent}
    assert {event.agent_version for event in found} == versions


@pytest.mark.parametrize(
    ("name", "version", "succeeded", "of"),
    [
        (RETAIL, "gpt-4.1", 34, 40),
        (RETAIL, SFT, 34, 40),
        (TELECOM, "gpt-4.1", 18, 40),
        (TELECOM, SFT, 30, 40),
        (SOLO, "gpt-4.1", 20, 40),
        (SOLO, SFT, 34, 40),
        (GPT4O, "gpt-4o", 14, 20),
    ],
)
def test_reward_is_the_outcome_of_the_session(
    name: str, version: str, succeeded: int, of: int
) -> None:
    outcomes = {
        events[-1].target: events[-1]
        for ((v, _), events) in sessions(events_of(name)).items()
        if v == version
    }
    assert all(e.kind == "outcome" and e.target == e.session_id for e in outcomes.values())
    assert len(outcomes) == of
    assert sum(event.value == 1 for event in outcomes.values()) == succeeded
    assert all((event.value == 1) == (event.reason is None) for event in outcomes.values())


def test_runs_that_were_cut_off_are_failures_with_their_reason() -> None:
    events = events_of(TELECOM)
    expected = Counter({"max_steps": 5, "too_many_errors": 1})
    assert (
        Counter(e.error_type for e in events if e.kind == "interaction") - Counter({None: 10**6})
        == expected
    )
    reasons = Counter(e.reason for e in events if e.kind == "outcome")
    assert {reason: reasons[reason] for reason in expected} == expected
    assert reasons == {
        None: 48,
        "outcome_env_assertion": 24,
        "outcome_action": 2,
        "max_steps": 5,
        "too_many_errors": 1,
    }


@pytest.mark.parametrize(("version", "seconds"), [("gpt-4.1", 24.2), (SFT, 39.2)])
def test_mean_session_duration(version: str, seconds: float) -> None:
    assert mean(map(span_s, by_version(RETAIL)[version])) == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize("name", [RETAIL, TELECOM, SOLO])
def test_every_session_lasts_as_long_as_its_simulation(name: str) -> None:
    found = {session: span_s(events) for (_, session), events in sessions(events_of(name)).items()}
    with gzip.open(data_file(name)) as lines:
        recorded = {r["id"]: r["duration"] for r in map(json.loads, lines)}
    assert found == pytest.approx(recorded, abs=0.02)


def test_interactions_tile_their_session_in_order() -> None:
    for events in sessions(events_of(TELECOM)).values():
        closing = [event for event in events if event.kind == "interaction"]
        ends = [event.time_unix_nano for event in closing]
        starts = [e.time_unix_nano - (e.duration_ms or 0) * 1e6 for e in closing]
        assert ends == sorted(ends)
        assert all(start >= end - 1e3 for start, end in zip(starts[1:], ends, strict=False))
        for event in events:
            if event.interaction_id is not None:
                number = int(event.interaction_id.rpartition(":")[2])
                assert starts[number] - 1e3 <= event.time_unix_nano <= ends[number]


def test_cost_is_the_agents_own() -> None:
    costs = defaultdict(list)
    for version, found in by_version(RETAIL).items():
        for events in found:
            calls = [event.cost_usd for event in events if event.kind == "llm_call"]
            costs[version].append(calls)
            assert all(e.cost_usd is None for e in events if e.kind != "llm_call")
    assert mean(sum(calls) for calls in costs["gpt-4.1"]) == pytest.approx(0.0472, abs=5e-5)
    assert {cost for calls in costs[SFT] for cost in calls} == {None}, "not free: unknown"


def test_tools_of_the_user_are_not_the_agents() -> None:
    kinds = Counter(event.kind for event in events_of(TELECOM))
    assert (kinds["human_input"], kinds["tool_call"]) == (902, 863)
    assert all(e.name for e in events_of(TELECOM) if e.kind in ("human_input", "tool_call"))


def test_tool_errors_keep_name_arguments_and_message() -> None:
    errors = [e for e in events_of(RETAIL) if e.kind == "tool_call" and e.status == "error"]
    assert len(errors) == 35
    for event in errors:
        assert event.error_type == "tool_error"
        assert event.error_message == event.tool_result
        assert event.error_message is not None
        assert event.error_message.startswith("Error")
        json.loads(event.tool_arguments or "")


def test_an_original_results_file_carries_its_own_info(tmp_path: Path) -> None:
    with gzip.open(data_file(RETAIL)) as lines:
        simulations = [json.loads(line) for line in lines]
    with gzip.open(data_file("tau2_run_info.jsonl.gz")) as lines:
        infos = [json.loads(line) for line in lines]
    source = simulations[0]["_source"]
    info = next(i["info"] for i in infos if i["_source"]["path"] == source["path"])
    original = [dict(s) for s in simulations if s["_source"]["path"] == source["path"]]
    for simulation in original:
        del simulation["_source"]
    whole = {"timestamp": "x", "info": info, "tasks": [], "simulations": original}
    for indent in (None, 2):
        path = tmp_path / f"results{indent}.json"
        path.write_text(json.dumps(whole, indent=indent))
        expected = [event for event in events_of(RETAIL) if event.agent_version == "gpt-4.1"]
        assert list(read(path)) == expected


def test_without_info_a_simulation_is_refused_with_what_to_do() -> None:
    items = list(read(data_file(RETAIL)))
    assert len(items) == 80
    for item in items:
        assert isinstance(item, Rejected)
        assert item.code == "missing_field"
        assert "--info" in item.detail
        assert "--agent" in item.detail


def test_agent_and_environment_can_be_overridden() -> None:
    items = list(read(data_file(RETAIL), Options(agent="shop", environment="staging")))
    assert {(e.agent, e.agent_version, e.environment) for e in items} == {("shop", None, "staging")}  # type: ignore[union-attr]


def test_one_bad_simulation_costs_only_itself(tmp_path: Path) -> None:
    with gzip.open(data_file(RETAIL)) as lines:
        good, wrong_time, wrong_type = (json.loads(next(lines)) for _ in range(3))
    wrong_time["messages"][3]["timestamp"] = "yesterday secret"
    wrong_type["messages"][0]["usage"] = "secret"
    path = tmp_path / "mixed.jsonl"
    lines_out = [json.dumps(r) for r in (good, wrong_time, wrong_type)]
    path.write_text("\n".join([*lines_out, '{"id": tru', lines_out[0]]))
    items = list(read(path, Options(agent="shop")))
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert [item.code for item in rejected] == ["invalid_field", "invalid_field", "invalid_json"]
    assert not any("secret" in str(item) for item in rejected)
    events = [item for item in items if isinstance(item, Event)]
    assert Counter(event.session_id for event in events) == {
        good["id"]: 2 * len({event.event_id for event in events})
    }


def test_events_survive_msgspec() -> None:
    events = events_of(GPT4O)
    assert [
        msgspec.json.decode(msgspec.json.encode(event), type=Event) for event in events
    ] == events
