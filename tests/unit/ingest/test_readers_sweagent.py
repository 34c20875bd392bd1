"""SWE-agent trajectories."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

from ingest.core.errors import Rejected
from ingest.core.events import Event
from ingest.replay import Format, Options, read
from ingest.replay.agentrx import EPOCH_NS
from tests.support.common import data_file

FILE = "sweagent_trajectories.jsonl.gz"


def read_all(path: Path, **options: Any) -> tuple[list[Event], list[Rejected]]:
    items = list(read(path, Options(**options)))
    return (
        [item for item in items if isinstance(item, Event)],
        [item for item in items if isinstance(item, Rejected)],
    )


def test_counts() -> None:
    events, rejections = read_all(data_file(FILE))
    with gzip.open(data_file(FILE)) as lines:
        runs = [json.loads(line) for line in lines]
    steps = [step for run in runs for step in run.get("trajectory", ())]
    kinds = Counter((event.kind, event.status) for event in events)
    assert len({event.event_id for event in events}) == len(events)
    assert len({event.session_id for event in events}) == 12
    assert kinds["interaction", "ok"] == kinds["user_message", "ok"] == kinds["agent_message", "ok"]
    assert kinds["tool_call", "ok"] + kinds["tool_call", "error"] == len(steps) == 122
    refused = [s for s in steps if s["observation"].lstrip().startswith("Your proposed edit has")]
    assert kinds["tool_call", "error"] == len(refused) == 10
    assert not [event for event in events if event.kind == "outcome"]
    # a demonstration: it has a history and no trajectory
    assert [rejection.code for rejection in rejections] == ["invalid_field"]


def test_a_run_is_a_request_its_calls_and_a_patch(tmp_path: Path) -> None:
    run = {
        "trajectory": [
            {"action": "open a.py\n", "observation": "1: x"},
            {"action": "edit 1:1\nx =", "observation": "Usage: edit FILE"},
            {"action": "submit", "observation": "diff"},
        ],
        "history": [
            {"role": "system", "content": "You are ..."},
            {"role": "user", "content": "a demonstration", "is_demo": True},
            {"role": "user", "content": "Fix the bug"},
        ],
        "info": {
            "exit_status": "submitted",
            "submission": "diff --git a/a.py",
            "model_stats": {"instance_cost": 0.5, "tokens_sent": 0},
        },
    }
    path = tmp_path / "run.traj"
    path.write_text(json.dumps(run, indent=1))
    events, rejections = read_all(path, agent="coder")
    assert not rejections
    assert {event.agent for event in events} == {"coder"}
    assert [event.kind for event in events] == [
        "user_message", "llm_call", "tool_call", "llm_call", "tool_call", "llm_call", "tool_call",
        "agent_message", "interaction",
    ]  # fmt: skip
    calls = [event for event in events if event.kind == "tool_call"]
    assert [call.name for call in calls] == ["open", "edit", "submit"]
    assert [call.status for call in calls] == ["ok", "error", "ok"]
    assert json.loads(calls[1].tool_arguments or "") == {"command": "edit 1:1\nx ="}
    assert events[0].content == "Fix the bug"
    assert events[0].time_unix_nano >= EPOCH_NS
    assert events[-1].attributes == {
        "swe_agent.exit_status": "submitted",
        "swe_agent.instance_cost": "0.5",
    }


def test_a_run_that_was_cut_off_failed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    run: dict[str, Any] = {"trajectory": [], "history": [{"role": "user", "content": "x"}]}
    for info, reason in (({"exit_status": "exit_cost"}, "exit_cost"), ({}, "unfinished")):
        path.write_text(json.dumps({**run, "info": info}))
        events, _ = read_all(path, format=Format.SWEAGENT)
        assert (events[-1].status, events[-1].error_type) == ("error", reason)
