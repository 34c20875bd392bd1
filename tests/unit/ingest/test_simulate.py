"""Simulated traffic: reproducible, within the contract, and as wrong as its truth says."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from statistics import mean, median
from typing import Any

import numpy as np
import pytest

from ingest import codec
from ingest.core.durations import seconds
from ingest.core.errors import UsageError
from ingest.core.events import EVALUATION_KINDS, Event
from ingest.simulate import Simulation, SimulationConfig
from ingest.simulate.agents import AGENTS
from ingest.simulate.incidents import KINDS, parse_incident

START = 1_754_064_000 * 10**9
INCIDENTS = (
    "tool_outage@10m+10m",
    "model_outage@25m+10m",
    "bad_version@40m+15m",
    "latency_regression@20m+20m",
    "token_regression@60m+15m",
    "silent_regression@80m+30m",
)


@cache
def run(
    seed: int = 7, incidents: tuple[str, ...] = INCIDENTS, minutes: int = 120, rate: float = 2.0
) -> tuple[list[Event], dict[str, Any]]:
    scheduled = [parse_incident(text, n) for n, text in enumerate(incidents, start=1)]
    config = SimulationConfig(START, minutes * 60.0, rate, seed, scheduled)
    simulation = Simulation(config)
    events = list(simulation.events())
    return events, simulation.truth()


def interactions(events: list[Event], **where: object) -> list[Event]:
    return [
        e
        for e in events
        if e.kind == "interaction" and all(getattr(e, k) == v for k, v in where.items())
    ]


def during(events: list[Event], incident: dict[str, Any]) -> tuple[list[Event], list[Event]]:
    """Events of the agent that began within the incident, and those that began outside of it."""
    inside, outside = [], []
    for event in events:
        if event.agent != incident["agent"]:
            continue
        began = event.time_unix_nano - (event.duration_ms or 0) * 1e6
        hit = incident["start_unix_nano"] <= began < incident["end_unix_nano"]
        (inside if hit else outside).append(event)
    return inside, outside


def incident(kind: str) -> dict[str, Any]:
    return next(i for i in run()[1]["incidents"] if i["kind"] == kind)


def test_the_same_seed_gives_the_same_traffic() -> None:
    run.cache_clear()
    first, truth = run(minutes=20)
    run.cache_clear()
    again, same = run(minutes=20)
    assert codec.encode(first) == codec.encode(again)
    assert json.dumps(truth) == json.dumps(same)
    other, _ = run(seed=8, minutes=20)
    assert codec.encode(first) != codec.encode(other)
    assert not {e.event_id for e in first} & {e.event_id for e in other}


def test_every_event_is_within_the_contract_and_unique() -> None:
    events, truth = run()
    decoded = codec.decode([codec.encode(events)], [START + 10**15])
    assert decoded.rejections == []
    assert decoded.frame.height == truth["events"] == len(events)
    assert len({event.event_id for event in events}) == len(events)


def test_events_come_in_order_of_time_and_end_in_time() -> None:
    events, truth = run()
    assert all(a.time_unix_nano <= b.time_unix_nano for a, b in pairwise(events))
    assert events[0].time_unix_nano >= truth["start_unix_nano"] == START
    assert events[-1].time_unix_nano <= truth["end_unix_nano"]


def test_rate_and_shares() -> None:
    events, _ = run(incidents=())
    found = Counter(event.agent for event in events if event.kind == "user_message")
    expected = 2.0 * 120 * 60
    assert found.total() == pytest.approx(expected, rel=0.05)
    for agent in AGENTS:
        assert found[agent.name] == pytest.approx(expected * agent.share, rel=0.15)


def test_load_follows_the_hour() -> None:
    events, _ = run(incidents=(), minutes=1440, rate=0.15)
    hours = Counter(
        e.time_unix_nano // 3_600_000_000_000 % 24 for e in events if e.kind == "user_message"
    )
    by_day = sum(hours[h] for h in range(12, 18))
    by_night = sum(hours[h] for h in range(6))
    assert by_day > 2 * by_night > 0


def test_truth_counts_what_happened() -> None:
    events, truth = run()
    for name, versions in truth["agents"].items():
        for version, counted in versions.items():
            closed = interactions(events, agent=name, agent_version=version)
            assert len(closed) == counted["interactions"]
            visible = Counter(e.error_type for e in closed if e.status == "error")
            for reason in ("tool_failed", "model_error", "max_steps"):
                assert visible[reason] == counted["reasons"].get(reason, 0)
            failed = sum(counted["reasons"].values())
            assert counted["succeeded"] == counted["interactions"] - failed
    closed_ids = {event.interaction_id for event in interactions(events)}
    assert truth["failed"].keys() <= closed_ids
    assert Counter(truth["failed"].values()) == sum(
        (Counter(c["reasons"]) for v in truth["agents"].values() for c in v.values()), Counter()
    )


def test_ordinary_days_are_mostly_good_and_never_perfect() -> None:
    events, truth = run(incidents=())
    for name, versions in truth["agents"].items():
        total = sum(v["interactions"] for v in versions.values())
        good = sum(v["succeeded"] for v in versions.values())
        assert 0.8 < good / total < 0.97, name
        errors = [e for e in interactions(events, agent=name) if e.status == "error"]
        assert 0.001 < len(errors) / total < 0.05, name


def test_messages_of_one_kind_differ() -> None:
    events, _ = run()
    by_type = defaultdict(set)
    for event in events:
        if event.status == "error" and event.kind == "tool_call":
            by_type[event.name, event.error_type].add(event.error_message)
    assert len(by_type) >= 6
    assert sum(len(messages) for messages in by_type.values()) > 20 * len(by_type)


def test_failed_calls_are_tried_again() -> None:
    events, _ = run(incidents=())
    tries = Counter(
        (e.interaction_id, e.name, e.tool_arguments) for e in events if e.kind == "tool_call"
    )
    failed = [e for e in events if e.kind == "tool_call" and e.status == "error"]
    assert all(tries[e.interaction_id, e.name, e.tool_arguments] > 1 for e in failed)


def test_latencies_have_a_heavy_tail() -> None:
    events, _ = run(incidents=())
    calls = [e.duration_ms for e in events if e.kind == "llm_call" and e.agent == "support"]
    p50, p999 = np.percentile([c for c in calls if c is not None], [50, 99.9])
    assert 450 < p50 < 650
    assert p999 > 8 * p50


def test_cost_follows_the_tokens_and_is_missing_without_a_price() -> None:
    events, _ = run(incidents=())
    calls = [e for e in events if e.kind == "llm_call"]
    for event in calls:
        if event.status == "error":
            assert event.input_tokens is None
            assert event.cost_usd is None
        elif event.agent == "research":
            assert event.input_tokens
            assert event.cost_usd is None
        else:
            assert event.cost_usd is not None
            assert event.cost_usd > 0


def test_feedback_is_sparse_late_and_mostly_right() -> None:
    events, truth = run()
    closed = {e.interaction_id: e for e in interactions(events)}
    feedback = [e for e in events if e.kind == "feedback" and e.target in closed]
    assert 0.03 < len(feedback) / len(closed) < 0.15
    assert all(e.time_unix_nano > closed[e.target].time_unix_nano for e in feedback)
    values: dict[bool, list[float]] = {True: [], False: []}
    for event in feedback:
        assert event.value is not None
        values[event.target not in truth["failed"]].append(event.value)
    assert mean(values[True]) > 0.8
    assert mean(values[False]) < 0.5


def test_sessions_keep_their_version_and_the_rollout_comes() -> None:
    events, truth = run()
    versions = defaultdict(set)
    for event in events:
        versions[event.session_id].add(event.agent_version)
    assert all(len(found) == 1 for found in versions.values())
    rollout = truth["rollouts"][0]
    later = [e for e in events if e.kind in ("user_message", "llm_call")]
    before = {e.agent_version for e in later if e.time_unix_nano < rollout["start_unix_nano"]}
    assert not before & {agent.versions[1].name for agent in AGENTS}
    after = interactions(events[-3000:], agent="support")
    assert {event.agent_version for event in after} == {"v15"}


def test_children_point_to_their_interaction() -> None:
    events, _ = run()
    closing = {event.event_id for event in interactions(events)}
    done = {event.interaction_id for event in interactions(events)}
    for event in events:
        if event.kind in ("interaction", *EVALUATION_KINDS):
            assert event.parent_id is None
        elif event.interaction_id in done:
            assert event.parent_id in closing


def failures(events: list[Event]) -> float:
    closed = interactions(events)
    return sum(event.status == "error" for event in closed) / len(closed)


def test_tool_outage() -> None:
    outage = incident("tool_outage")
    inside, outside = during(run()[0], outage)
    assert failures(inside) > 0.1 > 5 * failures(outside) / 2
    broken = [e for e in inside if e.name == outage["tool"]]
    assert mean(e.status == "error" for e in broken) > 0.75
    pattern = re.escape(outage["error_template"].replace("{tool}", outage["tool"]))
    pattern = pattern.replace(r"\{n\}", r"\d+").replace(r"\{id\}", "[0-9a-f]+")
    hits = [e for e in inside if e.error_type == outage["error_type"]]
    assert len(hits) > 60
    assert all(re.fullmatch(pattern, e.error_message or "") for e in hits)
    assert outage["failed"] / outage["interactions"] > 0.15
    closed = [e for e in inside if e.kind == "interaction"]
    assert outage["interactions"] == pytest.approx(len(closed), abs=30)


def test_model_outage() -> None:
    inside, outside = during(run()[0], incident("model_outage"))
    assert failures(inside) > 0.2 > 5 * failures(outside)


def test_bad_version_is_the_versions_fault() -> None:
    bad = incident("bad_version")
    events, truth = run()
    versions = truth["agents"]["support"]
    rates = {v: c["succeeded"] / c["interactions"] for v, c in versions.items()}
    assert (
        rates[bad["agent_version"]]
        < 0.75
        < min(rate for version, rate in rates.items() if version != bad["agent_version"])
    )
    started = {e.session_id: e.time_unix_nano for e in reversed(events) if e.kind == "user_message"}
    mine = {e.session_id for e in events if e.agent_version == bad["agent_version"]}
    assert mine
    assert all(bad["start_unix_nano"] <= started[s] < bad["end_unix_nano"] for s in mine)


def test_latency_and_token_regression() -> None:
    events, _ = run()
    inside, outside = during(events, incident("latency_regression"))

    def typical(found: list[Event], field: str) -> float:
        values = [getattr(e, field) for e in found if e.kind == "llm_call" and e.status == "ok"]
        return median(values)

    # A call within the incident may belong to a request from before it.
    assert typical(inside, "duration_ms") > 2 * typical(outside, "duration_ms")
    inside, outside = during(events, incident("token_regression"))
    assert typical(inside, "input_tokens") > 3 * typical(outside, "input_tokens")


def test_silent_regression_shows_in_no_status() -> None:
    silent = incident("silent_regression")
    assert silent["failed"] / silent["interactions"] > 0.35
    inside, outside = during(run()[0], silent)
    assert abs(failures(inside) - failures(outside)) < 0.05


def test_an_incident_changes_only_what_it_hits() -> None:
    def contents(incidents: tuple[str, ...], agent: str) -> list[tuple[object, ...]]:
        events, _ = run(incidents=incidents, minutes=30)
        return [
            (e.time_unix_nano, e.kind, e.content, e.duration_ms) for e in events if e.agent == agent
        ]

    hit = ("tool_outage@20m+5m:retail",)
    assert contents(hit, "support") == contents((), "support")
    assert contents(hit, "retail") != contents((), "retail")
    before = START + 20 * 60 * 10**9
    assert [c for c in contents(hit, "retail") if c[0] < before] == [  # type: ignore[operator]
        c
        for c in contents((), "retail")
        if c[0] < before  # type: ignore[operator]
    ]


def test_truth_is_json_and_names_every_incident() -> None:
    _, truth = run()
    json.loads(json.dumps(truth, allow_nan=False))
    assert [i["kind"] for i in truth["incidents"]] == [text.partition("@")[0] for text in INCIDENTS]
    assert {i["kind"] for i in truth["incidents"]} == set(KINDS)
    for found in truth["incidents"]:
        assert found["expected"]
        assert found["interactions"] > 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tool_outage", "KIND@START"),
        ("tool_outage@soon", "KIND@START"),
        ("flood@3m", "no incident 'flood'; choose one of tool_outage"),
        ("tool_outage@3m:bank", "no agent 'bank'"),
        ("tool_outage@3m:retail/hammer", "no tool 'hammer'"),
        ("model_outage@3m:retail/get_order", "hits no tool"),
        ("tool_outage@3m+1y", "no span of time"),
    ],
)
def test_wrong_incidents(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        parse_incident(text, 1)


def test_incidents_as_text() -> None:
    found = parse_incident("tool_outage@90s+2m:coding/run_tests", 3)
    assert (found.agent, found.tool, found.id) == ("coding", "run_tests", "3-tool_outage")
    assert (found.start_ns, found.end_ns) == (90 * 10**9, 210 * 10**9)
    assert parse_incident("bad_version@1m:coding", 1).version == "0.10.0-hotfix"
    long = parse_incident("tool_outage@0s+5h45m", 1)
    assert (long.start_ns, long.end_ns) == (0, 20_700 * 10**9)
    assert seconds("2d") == 172_800
    assert math.isclose(seconds("0.5h"), 1800)
