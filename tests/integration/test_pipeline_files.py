"""Real recordings through the whole pipeline: from the command line to the numbers it prints."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingest.codec import encode
from ingest.core.events import Event
from ingest.replay import Options, load_info, read
from tests.conftest import Runtime
from tests.integration.pipeline_reference import Truth
from tests.support.common import data_file, eventually

RETAIL = "tau2_retail_gpt41_vs_sft_simulations.jsonl.gz"
TELECOM = "tau2_telecom_gpt41_vs_sft_simulations.jsonl.gz"
SPANS = "any_agent_otel_traces.jsonl.gz"
GPT, TUNED = "gpt-4.1", "fine-tuned"


def replay(runtime: Runtime, name: str, *options: str) -> dict[str, Any]:
    """Replay a file; returns when all numbers include it."""
    done = runtime.driftline("replay", str(data_file(name)), *options, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(json.loads(done.stdout))


def metrics(runtime: Runtime, *options: str) -> dict[str, dict[str, Any]]:
    """Whole agents by version, the fine-tuned model under a short name."""
    done = runtime.driftline("metrics", *options, "--json")
    assert done.returncode == 0, done.stderr
    return {
        TUNED if "sft" in (e["agent_version"] or "") else GPT: e
        for e in json.loads(done.stdout)
        if e["scope"] == "all"
    }


def books(runtime: Runtime) -> dict[str, Any]:
    return dict(json.loads(runtime.driftline("accounting", "--json").stdout))


def info() -> tuple[str, str]:
    return "--info", str(data_file("tau2_run_info.jsonl.gz"))


@pytest.fixture(scope="module")
def retail(runtime: Runtime) -> dict[str, Any]:
    return replay(runtime, RETAIL, *info())


@pytest.fixture(scope="module")
def telecom(runtime: Runtime) -> dict[str, Any]:
    return replay(runtime, TELECOM, *info())


def test_retail(runtime: Runtime, retail: dict[str, Any]) -> None:
    found = metrics(runtime, "--agent", "retail")
    assert found.keys() == {GPT, TUNED}
    for version, mean_s in ((GPT, 24.2), (TUNED, 39.2)):
        sessions = found[version]["sessions"]
        assert sessions["n"] == 40
        assert (sessions["success"]["yes"], sessions["success"]["known"]) == (34, 40)
        assert sessions["success"]["rate"] == 0.85
        assert sessions["duration_ms"]["mean"] / 1e3 == pytest.approx(mean_s, abs=0.1)
        assert found[version]["interactions"]["n"] > 40
    assert found[GPT]["sessions"]["cost_usd"]["mean"] == pytest.approx(0.0472, abs=5e-5)
    assert found[TUNED]["sessions"]["cost_usd"] == {"sum": None, "mean": None, "n": 0}
    assert found[TUNED]["input_tokens"] > 0


def test_telecom(runtime: Runtime, telecom: dict[str, Any]) -> None:
    found = metrics(runtime, "--agent", "telecom")
    known = {
        version: (e["sessions"]["success"]["yes"], e["sessions"]["success"]["known"])
        for version, e in found.items()
    }
    assert known == {GPT: (18, 40), TUNED: (30, 40)}
    reasons = [e["failure_reasons"] for e in found.values()]
    assert sum(r.get("max_steps", 0) for r in reasons) == 5
    assert sum(r.get("too_many_errors", 0) for r in reasons) == 1


def test_failures_that_can_be_seen_are_failures_though_nobody_says_so(
    runtime: Runtime, tmp_path: Path
) -> None:
    """The rewards of a recording are held back: what is left shows most of what they said."""
    options = Options(infos=load_info(data_file("tau2_run_info.jsonl.gz")))
    events = [e for e in read(data_file(TELECOM), options) if isinstance(e, Event)]
    failed = {
        f"blind:{e.session_id}" for e in events if e.kind == "outcome" and (e.value or 0.0) < 1
    }
    blind = [
        msgspec.structs.replace(
            e,
            agent="blind",
            event_id=f"blind:{e.event_id}",
            session_id=f"blind:{e.session_id}",
            interaction_id=f"blind:{e.interaction_id}",
            parent_id=e.parent_id and f"blind:{e.parent_id}",
        )
        for e in events
        if e.kind != "outcome"
    ]
    (tmp_path / "blind.ndjson").write_bytes(encode(blind))
    done = runtime.driftline("replay", str(tmp_path / "blind.ndjson"), "--json")
    assert done.returncode == 0, done.stderr
    found = metrics(runtime, "--agent", "blind").values()
    sessions = [e["sessions"]["success"] for e in found]
    seen = sum(s["known"] - s["yes"] for s in sessions)
    reasons: Counter[str] = Counter()
    for entry in found:
        reasons.update(entry["session_failure_reasons"])
    assert sum(reasons.values()) == seen
    assert reasons["problem_persists"] >= 15
    with runtime.client() as client:
        rows = client.query(
            "SELECT session_id, success_source, reasons FROM sessions"
            " WHERE agent = 'blind' AND success = 0"
        ).result_rows
    assert len(rows) == seen
    right = sum(session in failed for session, _, _ in rows)
    assert right / seen >= 0.8  # nearly all that is called a failure is one
    assert right / len(failed) >= 0.8  # and in telecom most failures can be seen
    assert {source for _, source, _ in rows} <= {"structure", "status"}
    assert all(codes for _, _, codes in rows)
    estimated = [e["interactions"]["satisfaction"]["estimated"] for e in found]
    assert all(e["n"] > 100 and 0.0 < e["mean"] < 1.0 for e in estimated)
    assert all(0.4 < e["coverage"] <= 0.5 for e in estimated)  # English, and no later turn is read


@pytest.mark.usefixtures("retail", "telecom")
def test_a_file_that_is_replayed_again_changes_no_byte(runtime: Runtime) -> None:
    before, counted = runtime.driftline("metrics", "--json").stdout, books(runtime)
    again = replay(runtime, RETAIL, *info())
    assert runtime.driftline("metrics", "--json").stdout == before
    after = books(runtime)
    assert after["balanced"]
    assert after["accepted"] == counted["accepted"] + again["accepted"]
    assert after["duplicates"] == counted["duplicates"] + again["accepted"]
    assert after["stored"] == counted["stored"]
    assert after["collisions"] == counted["collisions"]


def test_spans_of_any_agent(runtime: Runtime) -> None:
    """Repeats and conflicting payloads, all accounted for; the audit finds them by itself."""
    before = books(runtime)
    sent = replay(runtime, SPANS)
    events = [event for event in read(data_file(SPANS)) if isinstance(event, Event)]
    truth = Truth(events)
    assert sent["accepted"] == len(events) > 773  # spans, and messages that they carry
    assert sent["rejected"] == {}
    after = books(runtime)
    gained = {
        name: after[name] - before[name]
        for name in ("accepted", "stored", "collisions", "duplicates", "dead_lettered")
    }
    assert after["balanced"]
    assert gained == {
        "accepted": len(events),
        "stored": len(truth.counted),
        "collisions": len(truth.losers),
        "duplicates": len(events) - truth.stored,
        "dead_lettered": 0,
    }
    assert truth.losers
    with runtime.client() as client:
        letters = "SELECT count() FROM dead_letters FINAL WHERE code = 'id_collision'"
        eventually(lambda: client.command(letters) == len(truth.losers), within_s=30, every_s=0.5)
        counted = "SELECT sum(events) FROM windows FINAL WHERE width_s = 10 AND scope = 'all'"
        eventually(lambda: client.command(counted) == after["stored"], within_s=10, every_s=0.5)
