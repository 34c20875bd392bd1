"""A model that does what it is told: an OpenAI-compatible server with a script and a journal.

What the user says decides what the model answers, so that a test knows beforehand what an agent
will do; the journal holds what was asked of the model and what it said it spent.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

MODEL = "stub-1-2026"
"""The model that answers, whichever was asked for."""

CACHED, REASONING = 40, 8

HANDOFF = "transfer_to_refunds"
"""The tool by which an agent hands over to another, of frameworks that have such."""

SCENARIOS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("scenarios.json").read_text())
TURNS = [turn for scenario in SCENARIOS for turn in scenario["turns"]]


class Model:
    """The routes of the server, and its journal: per client one entry per request, in order."""

    def __init__(self) -> None:
        self.journal: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.router.add_post("/{client}/v1/chat/completions", self._chat)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        messages = asked["messages"]
        entry: dict[str, Any] = {
            "request_model": asked["model"],
            "agent": _agent(messages),
            "stream": bool(asked.get("stream")),
            "error": None,
            "tools": [],
        }
        journal = self.journal[request.match_info["client"]]
        journal.append(entry)
        said, answered = _turn(messages)
        entry["turn"] = said
        if "model fails" in said:
            entry["error"] = 400
            message = {"message": "the stub refuses", "type": "invalid_request_error"}
            return web.json_response({"error": message}, status=400)
        calls = [] if answered else _calls(said, asked)
        text = "Done: " + said
        if not calls and "final_answer" in _offered(asked):  # frameworks whose end is a tool
            calls = [("final_answer", {"answer": text})]
        entry["tools"] = [name for name, _ in calls]
        usage = _usage(len(messages), len(calls))
        entry.update(input=usage["prompt_tokens"], output=usage["completion_tokens"], cached=CACHED)
        answer: dict[str, Any] = {
            "role": "assistant",
            "content": None if calls else text,
        }
        if calls:
            answer["tool_calls"] = [
                {
                    "index": n,
                    "id": f"call_{len(journal)}_{n}",
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(arguments)},
                }
                for n, (name, arguments) in enumerate(calls)
            ]
        reason = "tool_calls" if calls else "stop"
        head = {"id": f"chatcmpl-{len(journal)}", "created": 1_760_000_000, "model": MODEL}
        if not asked.get("stream"):
            choice = {"index": 0, "message": answer, "finish_reason": reason}
            body = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response(body)
        return await _stream(request, head, answer, reason, usage)


@contextmanager
def serving(model: Model) -> Iterator[int]:
    """Serve a model from a thread of its own; yields the port."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(model.app())
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield runner.addresses[0][1]
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stream(
    request: web.Request, head: dict[str, Any], answer: dict[str, Any], reason: str, usage: Any
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    head = {**head, "object": "chat.completion.chunk"}

    async def send(choices: list[Any], **more: Any) -> None:
        await response.write(
            f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n".encode()
        )

    text = answer.pop("content") or ""
    await asyncio.sleep(0.02)
    await send([{"index": 0, "delta": {**answer, "content": ""}, "finish_reason": None}])
    for word in re.findall(r"\S+ *", text):
        await send([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        await asyncio.sleep(0.002)
    await send([{"index": 0, "delta": {}, "finish_reason": reason}])
    await send([], usage=usage)
    await response.write(b"data: [DONE]\n\n")
    return response


def _usage(messages: int, calls: int) -> dict[str, Any]:
    prompt, completion = 100 + 10 * messages, 20 + 5 * calls
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": REASONING, "audio_tokens": 0},
    }


def _calls(said: str, asked: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Tools that a user's words ask for: each city's weather at once, an order, another agent."""
    offered = _offered(asked)
    cities = re.findall(r"weather in (\w+)|and (\w+)", said) if "weather" in said else []
    calls: list[tuple[str, dict[str, Any]]] = [
        ("get_weather", {"city": first or second}) for first, second in cities
    ]
    if "order" in said:
        calls.append(("find_order", {"number": "A-17"}))
    if "refund" in said:
        calls.append((HANDOFF, {}))
    # Plugins put their own name before that of a tool.
    return [(name, given) for tool, given in calls for name in offered if name.endswith(tool)]


def _offered(asked: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in asked.get("tools") or ()]


def _turn(messages: list[dict[str, Any]]) -> tuple[str, bool]:
    """Return what the user said last, however wrapped, and whether work on it has come back."""
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message["role"] == "user":
            text = _text(message)
            found = max(TURNS, key=lambda turn: (text.rfind(turn), len(turn)))
            if found in text:
                return found, place < len(messages) - 1
    return "", False


def _agent(messages: list[dict[str, Any]]) -> str | None:
    """Return the system prompt, which says which of several agents is asking."""
    return next((_text(m) for m in messages if m["role"] in ("system", "developer")), None)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)
