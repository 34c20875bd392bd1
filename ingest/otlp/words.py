"""The words of a person or an agent in an input or output that is not written as messages."""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.otlp import chat_messages
from ingest.otlp.structures import (
    CONTAINERS,
    decode,
    encode,
    looks_like_json,
    mapping,
    structure,
    without_media,
)

_ASKED: Final = (
    "input", "question", "query", "prompt", "task", "user_input", "user_message", "user_prompt",
    "message", "messages", "request", "text", "content", "goal", "new_message", "data", "value",
    "inputs",
)  # fmt: skip
_TOLD: Final = (
    "output", "answer", "final_answer", "response", "result", "final_output", "output_text",
    "text", "content", "reply", "message", "messages", "completion", "summary", "raw", "value",
    "outputs",
)  # fmt: skip
_ARGUMENTS: Final = ("args", "kwargs")
_PRINTED: Final = re.compile(r"[A-Z]\w*\(\w+=")
"""How Python prints an object: data of a program, and no words (LlamaIndex's steps)."""


def asked(value: Any) -> str | None:
    """Words of the user in an input; None when it is data and no words.

    Examples
    --------
    >>> asked('{"task": "compare"}'), asked('{"args": ["hello"], "kwargs": {"n": 1}}'), asked("hi")
    ('compare', 'hello', 'hi')
    >>> asked('{"order": 7, "lines": [1]}') is None
    True
    """
    return _words(structure(value), _ASKED, chat_messages.requested)


def told(value: Any) -> str | None:
    """Words of the agent in an output; an object of plain values is an answer as it is."""
    found = structure(value)
    text = _words(found, _TOLD, chat_messages.final)
    if text is None and isinstance(found, dict) and found and not _is_state(found):
        return encode(found).decode()
    return text


def _is_state(found: dict[str, Any]) -> bool:
    return any(isinstance(item, CONTAINERS) for item in found.values()) or "resume" in found


def _words(found: Any, keys: tuple[str, ...], of_messages: Any, depth: int = 4) -> str | None:
    if isinstance(found, str):
        is_object = looks_like_json(found) or _PRINTED.match(found)
        is_said = found.strip() not in _HIDDEN and not is_object
        return without_media(found) if is_said else None
    if depth == 0 or not isinstance(found, CONTAINERS):
        return None
    messages = chat_messages.items(found)
    if messages:
        text: str | None = of_messages(messages)
        return text
    if isinstance(found, list):
        return _words(found[0], keys, of_messages, depth - 1) if len(found) == 1 else None
    if found.keys() >= {*_ARGUMENTS}:
        given = [*_values(found["args"]), *_values(found["kwargs"])]
        texts = [item for item in given if isinstance(item, str)]
        named = _words(mapping(found["kwargs"]), keys, of_messages, depth - 1)
        return texts[0] if texts and not named else named
    for key in keys:
        if key in found:
            return _words(structure(found[key]), keys, of_messages, depth - 1)
    texts = [item for item in found.values() if isinstance(item, str) and item]
    return texts[0] if len(found) == 1 and texts else None


_HIDDEN: Final = ("", "[REDACTED]", "<REDACTED>")
"""What senders write where they do not say the words."""


def _values(given: Any) -> list[Any]:
    return (
        [*given.values()] if isinstance(given, dict) else given if isinstance(given, list) else []
    )


def plain(value: Any) -> str | None:
    """Text of a result: of what wraps it the content, else as it stands.

    >>> plain('{"args": ["hello"], "kwargs": {}}'), plain('"hello"'), plain("hello")
    ('hello', 'hello', 'hello')
    >>> plain('{"type": "tool", "data": {"content": "21 C"}}')
    '21 C'
    """
    found = _of_langchain(structure(value))
    if isinstance(found, dict):
        if found.keys() >= {*_ARGUMENTS}:
            given = [*_values(found["args"]), *_values(found["kwargs"])]
            if len(given) == 1 and isinstance(given[0], str):
                return given[0]
        text = _unwrapped(found)
        if text is not None:
            return text
    if isinstance(found, str) and found:
        return without_media(found)
    return value if isinstance(value, str) or value is None else encode(value).decode()


def _unwrapped(found: dict[str, Any]) -> str | None:
    """Content of a tool message of LangChain and of a result of MCP."""
    if found.get("type") == "tool" and "content" in found:
        return chat_messages.text_of(found["content"])
    if isinstance(found.get("data"), dict) and found.get("type") in ("tool", "ai", "human"):
        return chat_messages.text_of(found["data"].get("content"))
    if isinstance(found.get("content"), list) and found.keys() <= _OF_MCP:
        return chat_messages.text_of(found["content"])
    return None


_OF_MCP: Final = frozenset({"content", "isError", "is_error", "_meta", "structuredContent", "meta"})


def _of_langchain(found: Any) -> Any:
    """A tool's message out of what LangSmith and OpenLLMetry put around it."""
    if isinstance(found, dict) and found.keys() <= _AROUND and "output" in found:
        found = structure(found["output"])
    if isinstance(found, dict) and found.get("lc") == 1:
        return {**mapping(found.get("kwargs")), "type": "tool"}
    return found


_AROUND: Final = frozenset({"output", "kwargs"})


def arguments(value: Any) -> Any:
    """Arguments of a call as JSON text; of a Python function's, which are by name, only these.

    >>> arguments('{"args": [], "kwargs": {"city": "Paris"}}'), arguments("Paris")
    ('{"city":"Paris"}', '"Paris"')
    """
    if not isinstance(value, str):
        return value
    if value.startswith(('{"args"', '{"kwargs"')):
        found = structure(value)
        if not isinstance(found, dict):
            return value
        args, kwargs = (found.get(name) for name in _ARGUMENTS)
        if ("args" in found and "kwargs" in found and not (args and kwargs)) or (
            kwargs and found.keys() == {"kwargs"}
        ):
            return encode(args or kwargs).decode()
    elif value and not looks_like_json(value):
        try:
            decode(value)
        except ValueError:
            return encode(value).decode()
    return value


def error_of(result: Any) -> str | None:
    """What a result says of its own failure, empty when only that it failed; None when it did not.

    >>> error_of('{"isError": true, "content": [{"type": "text", "text": "no such index"}]}')
    'no such index'
    """
    if not (isinstance(result, dict) or (isinstance(result, str) and "rror" in result)):
        return None
    found = _of_langchain(structure(result))
    if isinstance(found, str):
        return _error_told(found)
    found = mapping(found)
    found = {**found, **mapping(found.get("data"))} if found.get("type") == "tool" else found
    said = found.get("error", found.get("error_message"))
    failed = (
        found.get("isError") is True
        or found.get("is_error") is True
        or str(found.get("status")).lower() == "error"
        or (bool(said) and "result" not in found)
    )
    if not failed:
        return None
    if isinstance(said, dict):
        said = said.get("message")
    elif said is True:
        said = found.get("message")
    return said if isinstance(said, str) else chat_messages.text_of(found.get("content")) or ""


_ERRORS: Final = ("Error: ", "Error executing tool ")
"""How text that says of itself that it is an error begins (LangChain, MCP)."""


def _error_told(text: str) -> str | None:
    if text.startswith(_ERRORS):
        return text
    # A result of MCP as Python prints it.
    if text.startswith(("meta=", "CallToolResult(")) and text.endswith(
        ("isError=True", "isError=True)")
    ):
        return text.partition("text='")[2].partition("'")[0] or text
    return None
