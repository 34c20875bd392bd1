"""What the user said to a span and what it told him, whatever form its input and output have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingest.core.events import Kind
from ingest.otlp import chat_messages, words
from ingest.otlp.agent_versions import version_of
from ingest.otlp.attributes import MappedAttributes, string
from ingest.otlp.conventions import ASKED
from ingest.otlp.dialects import ANSWERS, TURNS
from ingest.otlp.structures import mapping, structure

_PREFIXES: Final = {
    "input": ("llm.input_messages.", "gen_ai.prompt.", "llm.prompts."),
    "output": ("llm.output_messages.", "gen_ai.completion.", "llm.choices."),
}
_TOOL_LISTS: Final = ("llm.tools.", "llm.request.functions.")


def asked(found: MappedAttributes, kind: Kind) -> str | None:
    """Words of the last turn of the user; of a model call None when it continues with results."""
    heard = _messages(found, "input")
    if kind == "interaction":
        if heard:
            return chat_messages.requested(heard)
        return words.asked(found.get("input"))
    said = (
        chat_messages.asked(heard)
        if heard
        else words.asked(found.get("input"), chat_messages.asked)
    )
    wrapped = None if said is None else ASKED.fullmatch(said)
    return wrapped[1] or wrapped[2] if wrapped else said


def told(found: MappedAttributes) -> str | None:
    """Text of the answer that a span ends with."""
    answered = _messages(found, "output")
    if answered:
        return chat_messages.final(answered)
    is_answer = "output" in found.sources and found.sources["output"][1] in ANSWERS
    return (words.plain if is_answer else words.told)(found.get("output"))


def output_text(found: MappedAttributes, kind: Kind) -> str | None:
    """Text of an output: of its messages where it is written so, else as it stands.

    A call that only asks for tools has none. Of a run, whose messages may be all that was ever
    said, the answer counts alone.
    """
    answered = _messages(found, "output")
    if not answered:
        return words.plain(found.get("output"))
    of_messages = chat_messages.final if kind == "interaction" else chat_messages.answered
    return of_messages(answered)


def _messages(found: MappedAttributes, which: str) -> chat_messages.Items:
    """Messages of an input or output, looked for once."""
    known = found.messages.get(which)
    if known is None:
        known = _flattened(found.flat, which)
        given = found.get(which)
        if not known and given is not None:
            known = chat_messages.items(given) or ()
        if "input" in found.sources and found.sources["input"][1] in TURNS:
            heard, said = chat_messages.turns(chat_messages.items(found.get("input")) or ())
            known = heard if which == "input" else known or said
        found.messages[which] = known
    return known


def resumes(found: MappedAttributes) -> bool:
    """Tell whether a run goes on where it stopped to ask a person (LangGraph's ``Command``)."""
    given = found.get("input")
    if not (isinstance(given, str) and '"resume"' in given):
        return False
    return mapping(structure(given)).get("resume") is not None


def computed_version(found: MappedAttributes) -> str | None:
    """A version of the agent from prompt, tools and model; None when prompt or model is unseen."""
    given = found.get("system")
    if given is None and not found.flat and "input" not in found.values:
        return None
    if given is not None:
        system = chat_messages.text_of(structure(given))
    elif found.flat:
        system = chat_messages.flattened_system(found.flat)
    else:
        system = chat_messages.system_text(_messages(found, "input"))
    if system is None:
        return None
    tools = found.get("tools")
    if tools is None and found.flat:
        tools = [v for n, v in sorted(found.flat.items()) if n.startswith(_TOOL_LISTS)]
    return version_of(system, tools, _requested_model(found))


def _requested_model(found: MappedAttributes) -> str | None:
    parameters = found.get("parameters")
    if isinstance(parameters, str) and '"model"' in parameters:
        asked_for = mapping(structure(parameters)).get("model")
        if isinstance(asked_for, str):
            return asked_for
    for name in ("gen_ai.request.model", "llm.request.model_name"):
        if name in found.rest:
            return string(found.rest[name])
    return string(found.get("model"))


def _flattened(flat: Mapping[str, Any], which: str) -> chat_messages.Items:
    if not flat:
        return ()
    return next((m for p in _PREFIXES[which] if (m := chat_messages.unflatten(flat, p))), ())
