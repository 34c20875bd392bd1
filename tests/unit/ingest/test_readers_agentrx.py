"""tau-bench trajectories as AgentRx publishes them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from ingest.core.errors import Rejected
from ingest.core.events import Event
from ingest.replay import Options, read
from ingest.replay.agentrx import EPOCH_NS
from tests.support.common import data_file

FILE = "agentrx_tau_retail_trajectories.jsonl.gz"


def events_of(path: Path, agent: str | None = None) -> list[Event]:
    items = list(read(path, Options(agent=agent)))
    assert not any(isinstance(item, Rejected) for item in items)
    return items  # type: ignore[return-value]


def test_counts() -> None:
    events = events_of(data_file(FILE))
    assert len(events) == len({event.event_id for event in events}) == 4477
    assert len({event.session_id for event in events}) == 102
    assert {event.agent for event in events} == {"tau_retail"}
    outcomes = [event for event in events if event.kind == "outcome"]
    assert Counter(event.value for event in outcomes) == {1.0: 73, 0.0: 29}
    assert Counter(event.reason for event in outcomes) == {
        None: 73,
        "outcome_actions": 13,
        "outcome_outputs": 11,
        "outcome_reward": 4,
        "unfinished": 1,
    }
    kinds = Counter((event.kind, event.status) for event in events)
    assert kinds["tool_call", "error"] == 35
    assert kinds["tool_call", "ok"] == 783
    assert kinds["interaction", "error"] == 1


def test_failed_runs_are_those_with_a_human_label() -> None:
    with gzip.open(data_file("agentrx_tau_retail_failure_labels.jsonl.gz")) as lines:
        labelled = {str(json.loads(line)["trajectory_id"]) for line in lines}
    failed = {
        (event.attributes or {})["tau.task_id"]
        for event in events_of(data_file(FILE))
        if event.kind == "outcome" and event.value == 0
    }
    assert failed == labelled


def test_the_clock_is_synthetic_and_says_nothing_of_durations() -> None:
    events = events_of(data_file(FILE))
    assert events[0].time_unix_nano == EPOCH_NS + 10**9
    assert all(e.duration_ms is None for e in events if e.kind != "interaction")
    assert all(e.input_tokens is None and e.cost_usd is None for e in events)
    for earlier, later in pairwise(events):
        if earlier.session_id == later.session_id:
            assert earlier.time_unix_nano <= later.time_unix_nano


def test_an_original_array_gives_the_same_events(tmp_path: Path) -> None:
    expected = events_of(data_file(FILE))
    with gzip.open(data_file(FILE)) as lines:
        records = [json.loads(line) for line in lines]
    for record in records:
        del record["_source"]
    path = tmp_path / "array.json"
    for indent in (None, 2):
        path.write_text(json.dumps(records, indent=indent))
        assert events_of(path) == expected


def test_runs_of_other_domains_have_their_name(tmp_path: Path) -> None:
    def run(policy: str) -> str:
        traj = [
            {"role": "system", "content": policy},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
        ]
        return json.dumps({"task_id": 3, "reward": 1.0, "traj": traj, "info": {}})

    path = tmp_path / "runs.jsonl"
    path.write_text(run("# Airline agent policy\n...") + "\n" + run("Be nice."))
    agents = [event.agent for event in events_of(path) if event.kind == "outcome"]
    assert agents == ["tau_airline", "tau_bench"]
    assert {event.agent for event in events_of(path, agent="x")} == {"x"}
