"""Codex CLI's own log events, while its model does what it is told."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.clients.stub import CACHED, REASONING, serving
from tests.support.common import REQUIRED
from tests.unit.ingest.gateway_harness import served

pytestmark = pytest.mark.clients
ENVIRONMENT = Path(__file__).parent / "env-codex"
ARGUMENTS = ('{"cmd": "echo hi"}', '{"cmd": 7}')
"""Of the commands that the model asks for; the second cannot be run."""
CONFIG = """
model = "stub-1"
model_provider = "stub"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.stub]
name = "stub"
base_url = "http://127.0.0.1:{model}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
request_max_retries = 0
[analytics]
enabled = false
[otel]
environment = "test"
log_user_prompt = true
exporter = {{otlp-http = {{endpoint = "http://127.0.0.1:{gateway}/v1/logs", protocol = "binary"}}}}
"""


class Responses:
    """A model that asks for each command, then answers."""

    def __init__(self) -> None:
        self.calls = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/v1/responses", self._respond)
        return app

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        item: dict[str, Any] = {
            "type": "message", "id": "m", "role": "assistant",
            "content": [{"type": "output_text", "text": "Done."}],
        }  # fmt: skip
        if self.calls < len(ARGUMENTS):
            item = {"type": "function_call", "id": "f", "call_id": f"call_{self.calls}",
                    "name": "exec_command", "arguments": ARGUMENTS[self.calls]}  # fmt: skip
        self.calls += 1
        usage = {
            "input_tokens": 120, "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": 25, "output_tokens_details": {"reasoning_tokens": REASONING},
            "total_tokens": 145,
        }  # fmt: skip
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in (
            {"type": "response.created", "response": {"id": "r"}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {"id": "r", "usage": usage}},
        ):
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return response


def test_what_codex_did_is_what_its_log_events_say(tmp_path: Path) -> None:
    if not (ENVIRONMENT / ".built").exists():
        (pytest.fail if REQUIRED else pytest.skip)("its environment is not built; `make clients`")
    with serving(Responses()) as model, served() as gateway:
        (tmp_path / "config.toml").write_text(CONFIG.format(model=model, gateway=gateway.port))
        done = subprocess.run(
            [ENVIRONMENT / "node_modules/.bin/codex", "exec", "--skip-git-repo-check", "say hi"],
            env={"PATH": os.environ["PATH"], "CODEX_HOME": str(tmp_path), "HOME": str(tmp_path),
                 "OPENAI_API_KEY": "sk-none"},
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        events = gateway.events()
    kinds = Counter(event["kind"] for event in events)
    assert kinds == {"interaction": 1, "user_message": 1, "llm_call": 3, "tool_call": 2}
    assert len({(event["session_id"], event["interaction_id"]) for event in events}) == 1
    version = json.loads((ENVIRONMENT / "package.json").read_text())["dependencies"]
    assert {(e["agent"], e["agent_version"], e["environment"]) for e in events} == {
        ("codex_exec", version["@openai/codex"], "test")
    }
    assert [e["content"] for e in events if e["kind"] == "user_message"] == ["say hi"]
    counts = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "model")
    calls = [tuple(e[count] for count in counts) for e in events if e["kind"] == "llm_call"]
    assert calls == [(120, 25, CACHED, REASONING, "stub-1")] * 3
    tools = [e for e in events if e["kind"] == "tool_call"]
    assert [(e["name"], e["tool_arguments"], e.get("status", "ok")) for e in tools] == [
        ("exec_command", ARGUMENTS[0], "ok"),
        ("exec_command", ARGUMENTS[1], "error"),
    ]
