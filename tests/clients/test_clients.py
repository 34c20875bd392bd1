"""Agents with the instrumentations of others send what they did; ClickHouse must say the same.

Each runs in a locked environment of its own, built by ``make clients``, on a model that does what
it is told. Nothing of driftline is in it: it is given an address in the variable that every
OpenTelemetry exporter reads. What the model's journal and the agent's own book say is the truth.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clients.stub import CACHED, MODEL, REASONING, Model, serving
from tests.conftest import Runtime
from tests.support.common import REQUIRED, eventually

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
REQUESTS = [
    "weather in Paris and Rome",
    "where is my order",
    "model fails",
    "tell me a story",
]


@dataclass(frozen=True)
class Client:
    """An instrumented agent, and what its instrumentation leaves out.

    Attributes
    ----------
    name
        Of its lock, and the service it says it is.
    agent
        The agent that its interactions belong to.
    version
        What it is told to be; None leaves driftline to compute a version.
    """

    name: str
    script: str
    agent: str
    version: str | None = None
    model: str = MODEL
    cached: bool = True
    reasoning: bool = True
    first_token: bool = False
    user: bool = True
    said: list[str] = field(default_factory=lambda: REQUESTS)
    failed: int = 1
    handoffs: int = 0


CLIENTS = [
    Client(
        "openinference_openai",
        "openinference_openai_agent.py",
        "openinference_openai",
        first_token=True,
    ),
    Client("otlp_json", "openinference_openai_agent.py", "otlp_json", first_token=True),
    # The SDK's traces say nothing of caches, of users' words at their root, nor there of failure.
    Client(
        "openinference_agents",
        "openinference_agents_agent.py",
        "openinference_agents",
        model="stub-1",
        cached=False,
        reasoning=False,
        said=[],
        failed=0,
        handoffs=1,
    ),
    Client(
        "opentelemetry_openai",
        "opentelemetry_openai_agent.py",
        "opentelemetry_openai",
        version="2026.11",
        cached=False,
        reasoning=False,
    ),
    Client("traceloop", "traceloop_agent.py", "shop", version="2026.11", first_token=True),
    Client("pydantic_ai", "pydantic_ai_agent.py", "pydantic_ai", user=False),
    Client(
        "strands",
        "strands_agent.py",
        "strands",
        model="stub-1",
        reasoning=False,
        first_token=True,
    ),
]


@dataclass(frozen=True)
class Done:
    """What an agent did: its own book, and the calls that its model saw."""

    book: dict[str, Any]
    calls: list[dict[str, Any]]


@pytest.fixture(scope="module")
def done(runtime: Runtime) -> Iterator[dict[str, Done]]:
    """Run every client that is built, two at a time."""
    built = [client for client in CLIENTS if (_python(client).parent.parent / ".built").exists()]
    address = runtime.status()["addresses"]["gateway"]
    model = Model()
    with serving(model) as port, ThreadPoolExecutor(2) as pool:
        books = list(pool.map(lambda client: _run(client, port, address), built))
    yield {
        client.name: Done(book, model.journal[client.name])
        for client, book in zip(built, books, strict=True)
    }


def _python(client: Client) -> Path:
    return HERE / f"env-{client.name}" / "bin" / "python"


def _run(client: Client, port: int, address: str) -> dict[str, Any]:
    resource = "deployment.environment.name=test"
    if client.version:
        resource += f",service.version={client.version}"
    # Frameworks give their agents names of their own; the process says whose all of it is.
    if client.name in ("opentelemetry_openai", "pydantic_ai", "openinference_agents", "strands"):
        resource += f",gen_ai.agent.name={client.agent}"
    ended = subprocess.run(
        [_python(client), HERE / "agents" / client.script],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(HERE / f"env-{client.name}"),
            "OPENAI_API_KEY": "sk-none",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/{client.name}/v1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_SERVICE_NAME": client.name,
            "OTEL_RESOURCE_ATTRIBUTES": resource,
            "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT",
            "SHOP_SESSION": f"session of {client.name}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


@pytest.fixture(params=CLIENTS, ids=lambda client: client.name)
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    if not (_python(chosen).parent.parent / ".built").exists():
        (pytest.fail if REQUIRED else pytest.skip)("its environment is not built; `make clients`")
    return chosen


@dataclass(frozen=True)
class Stored:
    """Rows about one client's session."""

    session: dict[str, Any]
    interactions: list[dict[str, Any]]
    events: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]


@pytest.fixture
def stored(client: Client, done: dict[str, Done], runtime: Runtime) -> Stored:
    """Read what ClickHouse has, once all of it has come."""
    session = f"session of {client.name}"
    expected = done[client.name]

    def rows(sql: str) -> list[dict[str, Any]]:
        return list(database.query(sql, {"session": session}).named_results())

    of_session = "SELECT interaction_id FROM interactions WHERE session_id = {session:String}"
    events = f"SELECT * FROM events FINAL WHERE interaction_id IN ({of_session}) ORDER BY time"
    with runtime.client() as database:
        eventually(
            lambda: (
                (found := rows("SELECT * FROM sessions WHERE session_id = {session:String}"))
                and found[0]["interactions"] == _requests(client, expected)
                and sum(e["kind"] == "llm_call" for e in rows(events)) >= len(expected.calls)
                # Runs of agents within a run are of the same kind.
                and sum(e["kind"] == "interaction" for e in rows(events))
                >= found[0]["interactions"]
            ),
            within_s=150,
            every_s=0.5,
        )
        eventually(
            lambda: (
                len(rows(events))
                == rows("SELECT events FROM sessions WHERE session_id = {session:String}")[0][
                    "events"
                ]
            ),
            within_s=60,
            every_s=0.5,
        )
        return Stored(
            rows("SELECT * FROM sessions WHERE session_id = {session:String}")[0],
            rows("SELECT * FROM interactions WHERE session_id = {session:String} ORDER BY start"),
            rows(events),
        )


def _requests(client: Client, expected: Done) -> int:
    return int(expected.book["interactions"]) + client.handoffs


def test_what_an_agent_did_is_what_is_stored(
    client: Client, done: dict[str, Done], stored: Stored
) -> None:
    expected = done[client.name]
    tools = expected.book["tools"]

    assert stored.session["interactions"] == _requests(client, expected)
    assert stored.session["failed_interactions"] == client.failed
    assert {i["agent"] for i in stored.interactions} == {client.agent}
    assert {i["environment"] for i in stored.interactions} == {"test"}
    assert {i["user_id"] for i in stored.interactions} == {"user-42" if client.user else ""}
    assert {e["agent"] for e in stored.events} == {client.agent}

    calls = stored.of("llm_call")
    assert [_call(row) for row in calls] == [_asked(call, client) for call in expected.calls]
    ok = [row for row in calls if row["status"] == "ok"]
    assert {row["model"] for row in ok} == {client.model}
    assert sum(i["llm_calls"] for i in stored.interactions) == len(expected.calls)
    assert stored.session["input_tokens"] == sum(c.get("input", 0) for c in expected.calls)
    assert stored.session["output_tokens"] == sum(c.get("output", 0) for c in expected.calls)
    if client.first_token:
        streamed = [row for row, call in zip(calls, expected.calls, strict=True) if call["stream"]]
        assert all(
            0 < row["time_to_first_token_ms"] <= row["duration_ms"]
            for row in streamed
            if row["status"] == "ok"
        )
    if client.reasoning:
        streams = client.name == "traceloop"  # which leaves them out when streaming
        counted = [row for row in ok if not (streams and row["time_to_first_token_ms"])]
        assert {
            _attributes(row).get("gen_ai.usage.reasoning.output_tokens") for row in counted
        } == {str(REASONING)}

    ran = stored.of("tool_call")
    assert [_ran(row) for row in ran] == [
        (t["tool"], t["arguments"], "error" if t["error"] else "ok") for t in tools
    ]
    assert stored.session["tool_calls"] == len(tools)
    assert stored.session["tool_errors"] == sum(t["error"] for t in tools)
    assert len(stored.of("handoff")) == client.handoffs
    assert _said(stored) == client.said


def _call(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["status"], row["input_tokens"], row["output_tokens"], row["cached_tokens"])


def _asked(call: dict[str, Any], client: Client) -> tuple[Any, ...]:
    if call["error"]:
        return ("error", None, None, None)
    return ("ok", call["input"], call["output"], CACHED if client.cached else None)


def _ran(row: dict[str, Any]) -> tuple[str, Any, str]:
    return (row["name"], json.loads(row["tool_arguments"]), row["status"])


def _said(stored: Stored) -> list[str]:
    """Words of the user in order; what a call repeats of the history counts once."""
    return list(dict.fromkeys(row["content"] for row in stored.of("user_message")))


def _attributes(row: dict[str, Any]) -> dict[str, str]:
    return dict(json.loads(row["attributes"] or "{}"))


def test_versions(client: Client, done: dict[str, Done], stored: Stored) -> None:
    versions = {row["agent_version"] for row in stored.of("llm_call") if row["status"] == "ok"}
    if client.version:
        assert versions == {client.version}
        assert {i["agent_version"] for i in stored.interactions} == {client.version}
    elif client.name == "strands":  # says its own version for that of the service
        locked = (HERE / "locks" / "strands.txt").read_text()
        assert all(f"strands-agents=={version} " in locked for version in versions)
        assert len(versions) == 1
    else:
        assert all(version.startswith("auto-") for version in versions)
        # an agent that hands over to another has a version, and so has the other
        assert len(versions) == 1 + client.handoffs


def test_a_version_does_not_depend_on_the_exporter(done: dict[str, Done], runtime: Runtime) -> None:
    if not {"openinference_openai", "otlp_json"} <= done.keys():
        (pytest.fail if REQUIRED else pytest.skip)("environments are not built; `make clients`")
    sql = """
        SELECT uniqExact(agent_version), uniqExact(agent) FROM events FINAL
        WHERE agent IN ('openinference_openai', 'otlp_json') AND agent_version != ''
    """
    with runtime.client() as database:
        eventually(lambda: database.query(sql).first_row == (1, 2), within_s=150, every_s=0.5)
