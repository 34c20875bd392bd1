"""Agents of published frameworks send what they did; ClickHouse must say the same.

Each runs in a locked environment of its own, built by ``make clients``, on a model that does what
it is told. Nothing of driftline is in it: it is given an address in the variable that every
OpenTelemetry exporter reads. `scenarios.json` says what users say to it; the model's journal and
the agent's own book say what came of it; `senders.CLIENTS` what a sender leaves out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.clients.recorder import Recorder
from tests.clients.senders import CLIENTS, HERE, Client
from tests.clients.stub import CACHED, HANDOFF, MODEL, REASONING, SCENARIOS, Model, serving
from tests.conftest import Runtime
from tests.support.common import REQUIRED, eventually, free_port
from tests.unit.ingest.test_canary import passed

pytestmark = [pytest.mark.clients, pytest.mark.timeout(1800)]  # the first test runs them all

RATES = {"input": 2.0, "cached_input": 0.5, "output": 8.0}
"""Dollars for a million tokens of the stub's model."""


@dataclass(frozen=True)
class Done:
    """What a client did: its own book by scenario, the calls that its model saw, what it sent."""

    turns: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def of(self, scenario: str) -> Done:
        turns = [turn for turn in self.turns if turn["scenario"] == scenario]
        said = {turn["said"] for turn in turns}
        calls = [call for call in self.calls if call["turn"] in said]
        return Done(turns, calls)

    @property
    def tools(self) -> list[dict[str, Any]]:
        return [tool for turn in self.turns for tool in turn["tools"]]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime that knows a price of the stub's model and does not wait long for lost ends."""
    home = tmp_path_factory.mktemp("clients")
    prices = {MODEL: RATES, "stub-1": RATES}
    (home / "prices.json").write_text(json.dumps({"models": prices}))
    running = Runtime(home / "home", free_port(16))
    started = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "up"],
        env={
            **os.environ,
            "DRIFTLINE_HOME": str(running.home),
            "DRIFTLINE_PORT_BASE": str(running.port_base),
            "DRIFTLINE_PRICES_FILE": str(home / "prices.json"),
            "DRIFTLINE_RESULTS_INACTIVITY_S": "30",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: running.status()["healthy"], within_s=600, every_s=1)
    yield running
    started.terminate()
    started.wait(60)


@pytest.fixture(scope="module")
def done(runtime: Runtime, request: pytest.FixtureRequest) -> Iterator[dict[str, Done | str]]:
    """Run every client that is built and asked for, two at a time; a text says why one failed."""
    asked = {item.callspec.params["client"].name for item in request.session.items
             if "client" in getattr(getattr(item, "callspec", None), "params", {})}  # fmt: skip
    built = [client for client in CLIENTS if client.is_built and client.name in asked]
    address = runtime.status()["addresses"]["gateway"]
    model, wire = Model(), Recorder(address)
    with serving(model) as port, serving(wire) as way, ThreadPoolExecutor(2) as pool:
        books = list(pool.map(lambda client: _run(client, port, way), built))
    yield {
        client.name: book
        if isinstance(book, str)
        else Done(book["turns"], model.journal[client.name], wire.sent[client.name])
        for client, book in zip(built, books, strict=True)
    }


def _run(client: Client, port: int, way: int) -> dict[str, Any] | str:
    resource = "deployment.environment.name=test"
    if client.version:
        resource += f",service.version={client.version}"
    if client.named_by_process:
        resource += f",gen_ai.agent.name={client.agent}"
    script = HERE / "agents" / client.script
    if script.suffix == ".mjs":  # modules are looked for beside the script
        for file in script.parent.glob("*.mjs"):
            shutil.copy(file, client.environment)
        script = client.environment / client.script
    ended = subprocess.run(
        [client.program, script],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(client.environment),
            "OPENAI_API_KEY": "sk-none",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/{client.name}/v1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{way}/{client.name}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": client.name,
            "OTEL_RESOURCE_ATTRIBUTES": resource,
            "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return dict(json.loads(ended.stdout.splitlines()[-1])) if not ended.returncode else ended.stderr


@dataclass(frozen=True)
class Stored:
    """Rows about one session of a client."""

    interactions: list[dict[str, Any]]
    events: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]


@pytest.fixture
def expected(client: Client, scenario: str, done: dict[str, Done | str]) -> Done:
    if not client.is_built:
        (pytest.fail if REQUIRED else pytest.skip)("its environment is not built; `make clients`")
    whole = done[client.name]
    assert isinstance(whole, Done), whole
    found = whole.of(scenario)
    if not found.turns:
        pytest.skip("a web server is not usual for it")
    return found


@pytest.fixture
def stored(client: Client, scenario: str, expected: Done, runtime: Runtime) -> Stored:
    """Read what ClickHouse has, once all of it has come and is settled."""
    given = {"session": f"{client.name}/{scenario.replace(' ', '-')}"}
    of_session = "SELECT trace_id FROM interactions WHERE session_id = {session:String}"
    runs = "SELECT * FROM interactions WHERE session_id = {session:String} ORDER BY start"
    events = f"SELECT * FROM events FINAL WHERE interaction_id IN ({of_session}) ORDER BY time"

    with runtime.client() as database:

        def rows(sql: str) -> list[dict[str, Any]]:
            return list(database.query(sql, given).named_results())

        eventually(
            lambda: (
                len(found := rows(runs)) >= len(expected.turns)
                and all(run["state"] != "open" for run in found)
                and sum(run["llm_calls"] for run in found) >= len(expected.calls)
            ),
            within_s=300,  # the last are settled by inactivity
            every_s=0.5,
        )
        return Stored(rows(runs), rows(events))


CELLS = [
    pytest.param(client, scenario["name"], id=f"{client.name}-{scenario['name']}")
    for client in CLIENTS
    for scenario in SCENARIOS
]


@pytest.mark.parametrize(("client", "scenario"), CELLS)
def test_what_an_agent_did_is_what_is_stored(
    client: Client, scenario: str, expected: Done, stored: Stored
) -> None:
    assert _understood(client, stored) == _right(client, expected)


def _right(client: Client, expected: Done) -> dict[str, Any]:
    streaming = any(turn["stream"] for turn in expected.turns)

    def says(what: str) -> bool:
        return not client.lacks(what, streaming)

    answered = [call for call in expected.calls if not call["error"]]
    if client.counts_reasoning_twice:
        answered = [{**call, "output": call["output"] + REASONING} for call in answered]
    cached = CACHED if says("cached") else 0
    tools = [(t["tool"], client.arguments(t["arguments"]), "error" if t["error"] else "ok")
             for t in expected.tools]  # fmt: skip
    handoffs = [HANDOFF.removeprefix("transfer_to_")
                for c in expected.calls if HANDOFF in c["tools"]]  # fmt: skip
    tools += [(client.ends_with, client.arguments({"answer": "Done: " + c["turn"]}), "ok")
              for c in expected.calls if client.ends_with in c["tools"]]  # fmt: skip
    failed = sum(turn.get("error") is not None for turn in expected.turns)
    return {
        "interactions": len(expected.turns),
        "failed": failed if says("failure") else 0,
        "agents": {client.agent},
        "environments": {"test" if says("environment") else "production"},
        "users": {"user-42" if says("user") else ""},
        "versions": {client.version or "auto"} if answered else set(),
        "own versions": 1 + len(handoffs) if answered else 0,
        "run versions": {
            client.version
            or ("" if turn.get("error") and not says("version of a call that fails") else "auto")
            for turn in expected.turns
        },
        "handoffs": handoffs,
        "calls": Counter("error" if call["error"] else "ok" for call in expected.calls),
        "tokens": [
            sum(call["input"] for call in answered),
            sum(call["output"] for call in answered),
            cached * len(answered),
            REASONING * len(answered) if says("reasoning") else 0,
        ],
        "models": {MODEL if says("answering model") else client.model} if answered else set(),
        "cost": pytest.approx(sum(_cost(call, cached) for call in answered), abs=1e-9),
        "tools": sorted(tools),
        "requests": [turn["said"] for turn in expected.turns] if says("words") else [],
        "answers": [turn["answer"] for turn in expected.turns if turn.get("answer")],
    }


def _understood(client: Client, stored: Stored) -> dict[str, Any]:
    runs, calls = stored.interactions, stored.of("llm_call")
    ok = [call for call in calls if call["status"] == "ok"]
    return {
        "interactions": len(runs),
        "failed": sum(run["success"] == 0 for run in runs),
        "agents": {run["agent"] for run in runs},
        "environments": {run["environment"] for run in runs},
        "users": {run["user_id"] for run in runs},
        "versions": {_version(call["agent_version"], client) for call in ok},
        "own versions": len({call["agent_version"] for call in ok}),
        "run versions": {_version(run["agent_version"], client) for run in runs},
        "handoffs": [handoff["name"] for handoff in stored.of("handoff")],
        "calls": Counter(call["status"] for call in calls),
        "tokens": [
            sum(call[f"{kind}_tokens"] or 0 for call in ok)
            for kind in ("input", "output", "cached", "reasoning")
        ],
        "models": {call["model"] for call in ok},
        "cost": sum(run["cost_usd"] or 0 for run in runs),
        "tools": sorted(
            (t["name"], client.arguments(json.loads(t["tool_arguments"])), t["status"])
            for t in stored.of("tool_call")
        ),
        "requests": [run["request"] for run in runs if run["request"]],
        "answers": [run["answer"].strip() for run in runs if run["answer"]],
    }


def _cost(call: dict[str, Any], cached: int) -> float:
    read = (call["input"] - cached) * RATES["input"] + cached * RATES["cached_input"]
    return float(read + call["output"] * RATES["output"]) / 1e6


def _version(version: str, client: Client) -> str:
    return version if client.version else version.partition("-")[0]


STREAMING = [pytest.param(c, "streaming", id=c.name) for c in CLIENTS if not c.lacks("first token")]


@pytest.mark.parametrize(("client", "scenario"), STREAMING)
def test_first_tokens_of_streamed_calls(client: Client, scenario: str, stored: Stored) -> None:
    calls = stored.of("llm_call")
    assert calls
    if client.lacks("duration", streaming=True):
        assert all(call["time_to_first_token_ms"] > 0 for call in calls)
        assert [call["duration_ms"] for call in calls] == [None] * len(calls)
    else:
        assert all(0 < call["time_to_first_token_ms"] <= call["duration_ms"] for call in calls)


@pytest.mark.parametrize("mode", ["off", "hashed", "redacted", "per service"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_no_client_gets_a_canary_through(
    client: Client, mode: str, done: dict[str, Done | str]
) -> None:
    if not client.is_built:
        (pytest.fail if REQUIRED else pytest.skip)("its environment is not built; `make clients`")
    whole = done[client.name]
    assert isinstance(whole, Done), whole
    stored = [passed(mode, route, body) for route, body in whole.sent]
    assert sum(len(lines.splitlines()) for lines in stored) > len(whole.turns)


def test_a_version_does_not_depend_on_the_exporter(
    done: dict[str, Done | str], runtime: Runtime
) -> None:
    if not {"openinference_openai", "otlp_json"} <= done.keys():
        (pytest.fail if REQUIRED else pytest.skip)("environments are not built; `make clients`")
    sql = """
        SELECT uniqExact(agent_version), uniqExact(agent) FROM events FINAL
        WHERE agent IN ('openinference_openai', 'otlp_json') AND agent_version != ''
    """
    with runtime.client() as database:
        eventually(lambda: database.query(sql).first_row == (1, 2), within_s=150, every_s=0.5)
