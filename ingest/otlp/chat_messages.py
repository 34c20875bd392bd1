"""What was said to a model and by it, read from the forms in which instrumentations write it.

There are three: a list of messages (JSON text or structured; with ``content`` as OpenAI has it, or
``parts`` as the semantic conventions do), a list flattened to one attribute per leaf
(``llm.input_messages.0.message.content``, ``gen_ai.prompt.0.content``), and plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_hexdigest, xxh3_128_digest

from ingest.otlp.conventions import MESSAGE_EVENTS

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder(order="deterministic").encode

_SYSTEM: Final = ("system", "developer")
_RESULTS: Final = ("tool", "function")

_CHANGES_DAILY: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|\b\d\d:\d\d(?::\d\d)?\b"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2}[a-z]{0,2},? \d{4}"
    r"|\b\d{1,2} (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{4}"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
    re.IGNORECASE,
)
"""Dates, times and ids that a program writes into a prompt whose author changed nothing."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``text`` is None when it holds none, as one that only calls tools."""

    role: str
    text: str | None
    calls_tools: bool = False


def parse(value: Any) -> list[Message] | None:
    """Messages of an attribute's value; None when it is no list of messages."""
    value = _structure(value)
    if isinstance(value, dict):
        value = value.get("messages", [value] if "role" in value else None)
    if not isinstance(value, list) or not value:
        return None
    messages = [_message(item) for item in value]
    return [m for m in messages if m is not None] if any(messages) else None


def of_event(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message of an event such as ``gen_ai.user.message``, by its attributes or body."""
    given = body.get("gen_ai.event.content")
    if given is not None:
        body = {**body, **_dict(_structure(given))}
    message = _structure(body.get("message"))
    if isinstance(message, str | list):
        message = {"content": message}
    found = {**body, **_dict(message)}
    role = found.get("role") or MESSAGE_EVENTS.get(name) or "assistant"
    content = _structure(found.get("content"))
    return {**found, "role": role, "content": content, "parts": found.get("parts")}


def unflatten(flat: Mapping[str, Any], prefix: str) -> list[Message]:
    """Messages of a flattened list, in the order of their numbers."""
    by_number: dict[int, dict[str, Any]] = {}
    for name, value in flat.items():
        if name.startswith(prefix):
            number, _, leaf = name[len(prefix) :].partition(".")
            if number.isdecimal() and len(number) < 8:
                by_number.setdefault(int(number), {})[leaf.removeprefix("message.")] = value
    return [_flat_message(leaves) for _, leaves in sorted(by_number.items())]


def text_of(value: Any) -> str | None:
    """Text of parts, as JSON text or structured, or of plain text."""
    structure = _structure(value)
    return _text(structure if isinstance(structure, list) else [structure]) or plain(value)


def system_text(messages: Iterable[Message]) -> str | None:
    """Text of the system's messages."""
    return "\n".join(m.text for m in messages if m.role in _SYSTEM and m.text) or None


def flattened_system(flat: Mapping[str, Any]) -> str | None:
    """Text of the system's messages in a flattened list, without reading the others."""
    found = []
    for name, role in flat.items():
        if name.endswith("role") and role in _SYSTEM and ".output_" not in name:
            content = flat.get(name.removesuffix("role") + "content")
            if not isinstance(content, str):
                return system_text([m for p in _INPUTS for m in unflatten(flat, p)])
            found.append(content)
    return "\n".join(found) or None


_INPUTS: Final = ("llm.input_messages.", "gen_ai.prompt.")


def asked(messages: list[Message]) -> str | None:
    """Text of the user's message that these messages end with; None when they end otherwise.

    A call that continues with the results of tools repeats the user's words, it does not hear new
    ones.
    """
    last = messages[-1] if messages else None
    return last.text if last and last.role == "user" else None


def requested(messages: Iterable[Message]) -> str | None:
    """Text of the last thing that the user said, in the record of a whole run."""
    return next((m.text for m in reversed([*messages]) if m.role == "user" and m.text), None)


def answered(messages: Iterable[Message]) -> str | None:
    """Text of what a model said."""
    return "\n".join(m.text for m in messages if m.text and m.role not in _RESULTS) or None


def plain(value: Any) -> str | None:
    """Text of an input or output that is not written as messages.

    >>> plain('{"args": ["hello"], "kwargs": {}}'), plain('"hello"'), plain("hello")
    ('hello', 'hello', 'hello')
    """
    structure = _structure(value)
    if isinstance(structure, dict) and structure.keys() == {"args", "kwargs"}:
        arguments = [*_list(structure["args"]), *_dict(structure["kwargs"]).values()]
        if len(arguments) == 1 and isinstance(arguments[0], str):
            return arguments[0]
    if isinstance(structure, str) and structure:
        return structure
    return value if isinstance(value, str) or value is None else _encode(value).decode()


def arguments(value: Any) -> Any:
    """Arguments of a call; of a Python function's, which are by name, only these.

    >>> arguments('{"args": [], "kwargs": {"city": "Paris"}}')
    '{"city":"Paris"}'
    """
    if isinstance(value, str) and value.startswith('{"args": []'):
        structure = _structure(value)
        if isinstance(structure, dict) and structure.keys() == {"args", "kwargs"}:
            return _encode(structure["kwargs"]).decode()
    return value


def version_of(system: str | None, tools: Any, model: str | None) -> str | None:
    """Identify a version of an agent by its system prompt, tools and model.

    Parameters
    ----------
    system
        The prompt; dates, times and ids in it do not count.
    tools
        Their definitions, as JSON text or structured, or a list of such; none means no tools.
    model
        The model that was asked for.

    Returns
    -------
    str or None
        ``auto-`` and 16 hexadecimal digits, xxh3-64 of the three; None when prompt or model is not
        visible, for what is not seen may have changed.

    Examples
    --------
    >>> version_of("Today is 2025-08-01.", None, "m") == version_of("Today is 2026-01-31.", [], "m")
    True
    """
    if not system or not model:
        return None
    # Every call of an agent says the same again: a digest of what it says finds the version.
    said = xxh3_128_digest(_encode([system, tools, model]))
    version = _versions.get(said)
    if version is None:
        prompt = " ".join(_CHANGES_DAILY.sub("#", system).split())
        definitions = [_structure(tool) for tool in _list(_structure(tools))]
        version = f"auto-{xxh3_64_hexdigest(_encode([prompt, definitions, model]))}"
        if len(_versions) >= _REMEMBERED:
            _versions.clear()
        _versions[said] = version
    return version


_versions: dict[bytes, str] = {}
_REMEMBERED: Final = 10_000


def _message(item: Any) -> Message | None:
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        return None
    parts = item.get("parts")
    calls = bool(item.get("tool_calls"))
    role = item["role"]
    blocks = item.get("content")
    if isinstance(blocks, list):
        calls = calls or any("toolUse" in _dict(block) for block in blocks)
    if isinstance(parts, list):
        types = {part.get("type") for part in parts if isinstance(part, dict)}
        calls = "tool_call" in types
        if types == {"tool_call_response"}:
            role = "tool"
    return Message(role, _text(parts if parts is not None else item.get("content")), calls)


def _flat_message(leaves: Mapping[str, Any]) -> Message:
    content = leaves.get("content")
    if content is None:
        texts = (v for k, v in leaves.items() if k.endswith((".message_content.text", ".text")))
        content = "\n".join(text for text in texts if isinstance(text, str))
    return Message(
        str(leaves.get("role") or "assistant"),
        _text(content),
        any(name.startswith("tool_calls.") for name in leaves),
    )


def _text(content: Any) -> str | None:
    if isinstance(content, list):
        texts = (
            part if isinstance(part, str) else _dict(part).get("content", _dict(part).get("text"))
            for part in content
            if _dict(part).get("type", "text") in ("text", "input_text", "output_text")
        )
        content = "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) and content else None


def _structure(value: Any) -> Any:
    """Return the value that JSON text holds; anything else as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{", '"'):
        try:
            return _decode(value)
        except (ValueError, RecursionError):
            return value
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
