"""The words of a person or an agent in an input or output that is not written as messages."""

from __future__ import annotations

import re
from ast import literal_eval
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from ingest.otlp import chat_messages
from ingest.otlp.structures import (
    CONTAINERS,
    decode,
    encode,
    looks_like_json,
    mapping,
    media,
    shown,
    structure,
    without_media,
)

_ASKED: Final = (
    "input", "question", "query", "prompt", "task", "userinput", "usermessage", "usermsg",
    "userprompt", "userquery", "userquestion", "chatinput", "inputtext", "humaninput", "querystr",
    "sys.query",
    "message", "messages", "request", "text", "content", "goal", "newmessage", "data", "value",
    "inputs",
)  # fmt: skip
_TOLD: Final = (
    "output", "answer", "finalanswer", "response", "result", "finaloutput", "finalresponse",
    "finalreport", "outputtext", "text", "content", "reply", "replies", "message", "messages",
    "completion", "generation", "summary", "raw", "value", "outputs", "combinedchunkcontent",
)  # fmt: skip
"""Keys in lower case without underscores, as some write them in camel case."""

_ARGUMENTS: Final = ("args", "kwargs")
_PRINTED: Final = re.compile(r"[A-Z]\w*\(\w+=|<[\w.]+ object at 0x")
"""How Python prints an object: data of a program, and no words (LlamaIndex's steps)."""


def asked(value: Any, of_messages: Any = chat_messages.requested) -> str | None:
    """Words of the user in an input; None when it is data and no words.

    ``of_messages`` finds them where messages are among the arguments of a function.

    Examples
    --------
    >>> asked('{"task": "compare"}'), asked('{"args": ["hello"], "kwargs": {"n": 1}}'), asked("hi")
    ('compare', 'hello', 'hi')
    >>> asked('{"order": 7, "lines": [1]}') is None
    True
    """
    return _words(structure(value), _ASKED, of_messages)


def told(value: Any) -> str | None:
    """Words of the agent in an output; an object of plain values is an answer as it is."""
    found = structure(value)
    text = _words(found, _TOLD, chat_messages.final)
    if text is None and isinstance(found, dict) and found and not _is_no_answer(found):
        return encode(found).decode()
    return text


def _is_no_answer(found: dict[str, Any]) -> bool:
    """Tell the state of a program, a call of a tool, and nothing from an answer."""
    if all(item is None or item == "" for item in found.values()):
        return True
    is_state = any(isinstance(item, CONTAINERS) for item in found.values()) or "resume" in found
    return is_state or chat_messages.is_call(found)


def _words(found: Any, keys: tuple[str, ...], of_messages: Any, depth: int = 4) -> str | None:
    if isinstance(found, str):
        found = _printed_message(found).get("content", found)
        is_object = looks_like_json(found) or _PRINTED.match(found)
        return None if is_object else shown(found)
    if depth == 0 or not isinstance(found, CONTAINERS):
        return None
    messages = chat_messages.items(found)
    if messages:
        text: str | None = of_messages(messages)
        return text
    if isinstance(found, list):
        return _words(found[0], keys, of_messages, depth - 1) if len(found) == 1 else None
    if found.keys() >= {*_ARGUMENTS}:
        named = _words(mapping(found["kwargs"]), keys, of_messages, depth - 1)
        args = map(structure, _values(found["args"]))
        said = (_words(item, keys, of_messages, depth - 1) for item in args)
        others = (item for item in _values(found["kwargs"]) if isinstance(item, str))
        return named or next(filter(None, chain(said, others)), None)
    given = {key.replace("_", "").lower(): item for key, item in found.items() if item}
    for key in keys:
        if key in given:
            return _words(structure(given[key]), keys, of_messages, depth - 1)
    if all(isinstance(item, dict) for item in found.values()):
        # Inputs or outputs of the parts of a pipeline, by their names (Haystack).
        agreed = {_words(item, keys, of_messages, depth - 1) for item in found.values()} - {None}
        return agreed.pop() if len(agreed) == 1 else None
    texts = [item for item in found.values() if isinstance(item, str) and item]
    return texts[0] if len(found) == 1 and texts else None


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
    if isinstance(found, list) and found and all(map(_is_block, found)):
        return chat_messages.text_of(found)
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
    if found.get("type") in _OUTPUTS and found.keys() == {"type", "value"}:
        value = found["value"]
        return value if isinstance(value, str) else encode(value).decode()
    if isinstance(found.get("content"), list) and found.keys() <= _OF_MCP:
        return chat_messages.text_of(found["content"])
    return None


def _is_block(part: Any) -> bool:
    """Tell whether an item of a list is a block of content, as MCP returns them."""
    return isinstance(part, dict) and (part.get("type") == "text" or media(part) is not None)


_FAILED_OUTPUTS: Final = ("error-text", "error-json")
_OUTPUTS: Final = (*_FAILED_OUTPUTS, "text", "json")
"""Types of what the AI SDK puts around a tool's output."""

_OF_MCP: Final = frozenset(
    {"content", "isError", "is_error", "_meta", "structuredContent", "meta", "toolUseId", "status"}
)
"""Keys of a result of MCP, and of Bedrock."""


def _of_langchain(found: Any) -> Any:
    """A tool's message out of what LangSmith and OpenLLMetry put around it."""
    if isinstance(found, dict) and found.keys() <= _AROUND and "output" in found:
        found = structure(found["output"])
    if isinstance(found, str):
        return _printed_message(found) or found
    if isinstance(found, dict) and found.get("lc") == 1:
        return {**mapping(found.get("kwargs")), "type": "tool"}
    return found


def _printed_message(text: str) -> dict[str, Any]:
    """A tool's message of LangChain out of how Python prints it; empty when it is none."""
    match = _MESSAGE.match(text)
    if match is None:
        return {}
    with suppress(ValueError, SyntaxError):
        status = "error" if "status='error'" in text[match.end(1) :] else "success"
        return {"type": "tool", "content": literal_eval(match[1]), "status": status}
    return {}


_MESSAGE: Final = re.compile(
    r"""content=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*") (?:additional_kwargs|name|tool_call_id)="""
)
_AROUND: Final = frozenset({"output", "kwargs"})


def arguments(value: Any) -> Any:
    """Arguments of a call as JSON text; of a Python function's, which are by name, only these.

    >>> arguments('{"args": [], "kwargs": {"city": "Paris"}}'), arguments("Paris")
    ('{"city":"Paris"}', '"Paris"')
    """
    if not isinstance(value, str):
        return value
    if value.startswith(('{"args"', '{"kwargs"', '{"input_str"')):
        found = structure(value)
        if not isinstance(found, dict):
            return value
        if "input_str" in found:  # what OpenLLMetry puts around LangChain's
            return arguments(encode(found.get("inputs") or found["input_str"]).decode())
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


def printed(text: str) -> dict[str, Any]:
    """Object that a text is, as JSON or as Python prints it; empty when it is none.

    >>> printed("{'a': None}"), printed('{"a": 1}'), printed("{a")
    ({'a': None}, {'a': 1}, {})
    """
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return mapping(literal_eval(text))
    return mapping(structure(text))


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
        or (found.get("type") in _FAILED_OUTPUTS and "value" in found)
        or (bool(said) and "result" not in found)
    )
    if not failed:
        return None
    if isinstance(said, dict):
        said = said.get("message")
    elif said is True:
        said = found.get("message")
    said = found["value"] if said is None and found.get("type") in _FAILED_OUTPUTS else said
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
