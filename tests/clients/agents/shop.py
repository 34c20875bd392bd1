"""What all agents under test share: tools, what users ask for, and a book of what was done."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

PROMPT = os.environ.get("SHOP_PROMPT", "You are the assistant of a shop.")
SESSION, USER = os.environ["SHOP_SESSION"], "user-42"
REQUESTS = (
    "weather in Paris and Rome",  # two tools at once
    "where is my order",  # a tool that fails
    "model fails",  # a call that the model refuses
    "tell me a story",  # answered at once
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "description": "Where an order is.",
            "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
        },
    },
]

done: list[dict[str, object]] = []
"""Tool calls in the order of their beginning."""


def get_weather(city: str) -> str:
    """Weather of a city."""
    done.append({"tool": "get_weather", "arguments": {"city": city}, "error": False})
    return f"sunny in {city}"


def find_order(number: str) -> str:
    """Where an order is."""
    done.append({"tool": "find_order", "arguments": {"number": number}, "error": True})
    raise LookupError(f"no order {number}")


FUNCTIONS = {"get_weather": get_weather, "find_order": find_order}


def converse(client: Any, said: str, tools: Mapping[str, Callable[..., str]] = FUNCTIONS) -> str:
    """Answer one request with an OpenAI client: ask the model, run its tools, until it answers."""
    messages: list[Any] = [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": said},
    ]
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    while True:
        response = client.chat.completions.create(
            model="stub-1", messages=messages, tools=TOOLS, **(streamed if "story" in said else {})
        )
        if "story" in said:
            return "".join(c.choices[0].delta.content or "" for c in response if c.choices)
        message = response.choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            try:
                result = tools[call.function.name](**json.loads(call.function.arguments))
            except LookupError as error:
                result = str(error)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def report(**more: object) -> None:
    """Print what was done, for the test to compare with what was understood."""
    json.dump({"tools": done, "interactions": len(REQUESTS), **more}, sys.stdout)
