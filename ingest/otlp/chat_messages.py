"""What was said to a model and by it, read from the forms in which instrumentations write it.

A list of messages is JSON text or structured; its messages have ``content`` as OpenAI has it,
``parts`` as the semantic conventions and Gemini do, or the forms in which LangChain serialises. Or
it is flattened to one attribute per leaf (``llm.input_messages.0.message.content``,
``gen_ai.prompt.0.content``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ingest.otlp.conventions import MESSAGE_EVENTS
from ingest.otlp.structures import CONTAINERS, Cut, array, mapping, media, shown, structure

_SYSTEM: Final = ("system", "developer")
_RESULTS: Final = ("tool", "function")
_HEARD: Final = (*_SYSTEM, *_RESULTS, "user")
_ROLES: Final = {
    "human": "user", "ai": "assistant", "model": "assistant", "chatbot": "assistant",
    "aimessagechunk": "assistant", "user_message": "user", "ipython": "tool",
}  # fmt: skip
_SPEAKERS: Final = frozenset({*_SYSTEM, *_RESULTS, "user", "assistant", *_ROLES})
_CALLS: Final = frozenset({"tool_call", "tool-call", "tool_use", "function_call"})
_ANSWERS: Final = frozenset(
    {"tool_call_response", "tool_result", "tool-result", "function_call_output",
     "function_response"}
)  # fmt: skip
_LISTS: Final = ("messages", "contents", "choices", "candidates", "generations", "all_messages")
_TEXTS: Final = ("text", "input_text", "output_text", "refusal", None)


class Message(NamedTuple):
    """One message; ``text`` is None when it holds none, as one that only calls tools."""

    role: str
    text: str | None
    calls_tools: bool = False


Items = Sequence[Any]
"""Messages as they were written, or as `Message`: reading one costs more than finding it."""


def items(value: Any) -> Items | None:
    """Messages of an attribute's value, not yet read; None when it is no list of messages."""
    found = _items(structure(value))
    is_list = found and (read(found[-1]) is not None or any(map(read, found)))
    return found if is_list else None


def parse(value: Any) -> list[Message] | None:
    """Messages of an attribute's value; None when it is no list of messages."""
    found = items(value)
    return None if found is None else [m for item in found if (m := read(item)) is not None]


def _items(value: Any, depth: int = 4) -> list[Any]:
    """Messages as they were written, wherever in the value they are."""
    if depth == 0:
        return []
    if isinstance(value, dict):
        if "role" in value or "role" in mapping(value.get("message")) or _langchain(value):
            return [value]
        for key in _LISTS:
            if isinstance(value.get(key), list):
                return _items(value[key], depth - 1)
        inner = value.get("update", value.get("prompt"))
        return _items(inner, depth - 1) if isinstance(inner, CONTAINERS) else []
    found = array(value)
    if found and isinstance(found[0], str) and found[0][:1] == "{":
        found = [structure(item) for item in found]
    if len(found) == 1 and isinstance(found[0], CONTAINERS) and read(found[0]) is None:
        return _items(found[0], depth - 1)
    return found


def of_event(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message of an event such as ``gen_ai.user.message``, by its attributes or body."""
    given = structure(body.get("gen_ai.event.content"))
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if given is not None:
        body = {**body, **(given if isinstance(given, dict) else {"content": given})}
    message = structure(body.get("message"))
    if isinstance(message, str | list):
        message = {"content": message}
    found = {**body, **mapping(message)}
    role = found.get("role") or MESSAGE_EVENTS.get(name) or "assistant"
    content = structure(found.get("content"))
    if isinstance(content, dict) and "parts" in content:  # as Gemini has it
        return {"role": role, **content}
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


def system_text(messages: Items) -> str | None:
    """Text of the system's messages."""
    texts = (
        message.text
        for item in messages
        if not (type(item) is dict and item.get("role") in _OTHERS)
        and (message := read(item)) is not None
        and message.role in _SYSTEM
    )
    return "\n".join(text for text in texts if text) or None


_OTHERS: Final = ("user", "assistant", "tool")


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


def asked(messages: Items) -> str | None:
    """Text of the user's message that these messages end with; None when they end otherwise.

    A call that continues with the results of tools repeats the user's words, it does not hear new
    ones.
    """
    messages = _up_to_the_last(messages)
    last = read(messages[-1]) if messages else None
    return last.text if last and last.role == "user" else None


def requested(messages: Items) -> str | None:
    """Text of the last thing that the user said, in the record of a whole run."""
    messages = _up_to_the_last(messages)
    read_ = filter(None, map(read, reversed(messages)))
    return next((m.text for m in read_ if m.role == "user" and m.text), None)


def answered(messages: Items) -> str | None:
    """Text of what a model said."""
    read_ = filter(None, map(read, messages))
    return "\n".join(m.text for m in read_ if m.text and m.role not in _HEARD) or None


def final(messages: Items) -> str | None:
    """Text of the answer that these messages end with; one that calls tools is none."""
    messages = _up_to_the_last(messages)
    last = read(messages[-1]) if messages else None
    return last.text if last and last.role == "assistant" and not last.calls_tools else None


def turns(messages: Items) -> tuple[Items, Items]:
    """What a model heard, and what it said at the end of the same list."""
    end = len(messages)
    while end and (last := read(messages[end - 1])) is not None and last.role == "assistant":
        end -= 1
    return messages[:end], messages[end:]


def _up_to_the_last(messages: Items) -> Items:
    """Messages, none of a list that was cut, unless it has but one beside the system's.

    What a history was cut within is an old turn of it.
    """
    if not isinstance(messages, Cut):
        return messages
    said = [m for m in map(read, messages) if m is None or m.role not in _SYSTEM]
    return said if len(said) == 1 and not messages.goes_on else ()


def read(item: Any) -> Message | None:
    """Read one message; None when it is none."""
    if type(item) is Message:
        return item
    if type(item) is dict:
        # Nearly all are one text by a known speaker.
        role, parts = item.get("role"), item.get("parts")
        if role in _PLAIN and type(parts) is list and len(parts) == 1 and type(parts[0]) is dict:
            text = parts[0].get("content")
            if parts[0].get("type") == "text" and type(text) is str:
                return Message(role, shown(text))
        if role in _PLAIN and type(item.get("content")) is str and "tool_calls" not in item:
            return Message(role, text_of(item["content"]))
    return _message(item)


_PLAIN: Final = ("user", "assistant", "system")


def _message(item: Any) -> Message | None:
    if isinstance(item, list):
        if len(item) == 2 and isinstance(item[0], str) and item[0] in _SPEAKERS:
            return Message(_ROLES.get(item[0], item[0]), text_of(item[1]))
        return None
    if not isinstance(item, dict):
        return None
    inner = mapping(item.get("message"))
    if inner:
        return read({"role": "assistant", **inner})
    given = _langchain(item)
    if given is None:
        if not isinstance(item.get("role"), str):
            content = mapping(item.get("content"))  # as Gemini has it
            if not _COMPLETES.isdisjoint(item) and isinstance(item.get("text"), str):
                content = {"parts": [item["text"]]}
            return _message({"role": "model", **content}) if "parts" in content else None
        given = item["role"], item
    role, said = given
    role = role.lower()
    parts = said.get("parts")
    blocks = parts if isinstance(parts, list) else said.get("content")
    calls = bool(said.get("tool_calls")) or any(map(is_call, array(blocks)))
    if array(blocks) and all(map(_is_result, array(blocks))):
        role = "tool"
    return Message(_ROLES.get(role, role), text_of(blocks) or text_of(said.get("refusal")), calls)


_COMPLETES: Final = frozenset({"finish_reason", "generation_info"})
"""Keys of an answer to a prompt that is no list of messages, of OpenAI and LangChain."""


def _langchain(item: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Role and content of a message as LangChain or AutoGen writes it."""
    if isinstance(item.get("data"), dict) and item.get("type") in _SPEAKERS:
        return item["type"], item["data"]
    if item.get("lc") == 1 and isinstance(item.get("kwargs"), dict):
        kind = str((array(item.get("id")) or [""])[-1]).removesuffix("Chunk")
        return kind.removesuffix("Message").lower(), item["kwargs"]
    if item.get("type") in ("human", "ai") and "content" in item:
        return item["type"], item
    source = item.get("source")  # of AutoGen's
    if isinstance(source, str) and str(item.get("type")).endswith("Message"):
        return ("user" if source == "user" else "assistant"), item
    return None


def is_call(part: Any) -> bool:
    """Tell whether a part of a message asks for a tool."""
    part = mapping(part)
    return part.get("type") in _CALLS or any(
        key in part for key in ("toolUse", "functionCall", "function_call", "toolRequest")
    )


def _is_result(part: Any) -> bool:
    part = mapping(part)
    return part.get("type") in _ANSWERS or any(
        key in part
        for key in ("toolResult", "functionResponse", "function_response", "toolResponse")
    )


def _flat_message(leaves: Mapping[str, Any]) -> Message:
    content = leaves.get("content")
    if content is None:
        content = _flat_parts(leaves)
    role = str(leaves.get("role") or ("user" if "prompt.text" in leaves else "assistant"))
    calls = any(name.startswith(("tool_calls.", "function_call")) for name in leaves)
    return Message(_ROLES.get(role, role), text_of(content), calls)


def _flat_parts(leaves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parts of a message whose content is flattened, too."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in leaves.items():
        before, found, leaf = name.rpartition(".message_content.")
        if found:
            parts.setdefault(before, {})[leaf.rpartition(".")[2]] = value
        elif name.endswith(".text"):
            parts.setdefault(name, {})["text"] = value
    return [parts[place] for place in sorted(parts, key=_by_number)]


def _by_number(place: str) -> tuple[int, str]:
    number = next((part for part in place.split(".") if part.isdecimal()), "")
    return (int(number) if 0 < len(number) < 8 else 0), place


def text_of(content: Any) -> str | None:
    """Text of parts, as JSON text or structured, or of plain text; media as placeholders."""
    if isinstance(content, dict) and "type" not in content:  # as AWS's distribution logs it
        content = content.get("content", content.get("message", content))
    content = structure(content) if isinstance(content, str) and content[:2] == "[{" else content
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        texts = map(_text_of_part, content)
        content = "\n".join(text for text in texts if text)
    return shown(content) if isinstance(content, str) else None


def _text_of_part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    part = mapping(part)
    shown = media(part)
    if shown is not None:
        return shown
    if part.get("type") not in _TEXTS or part.get("thought"):
        return None
    text = part.get("content", part.get("text", part.get("refusal")))
    return text if isinstance(text, str) else None
