"""Coding agents that send log events and no spans: each event of theirs is read as a span.

A span that stands for an event is named after it, ends when it was logged and began
``duration_ms`` earlier; `ingest.otlp.dialects` says what its attributes mean. One prompt is one
interaction: ``prompt.id`` or ``prompt_id`` names it, else the trace, else the conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from ingest.core.events import Event
from ingest.otlp import conventions
from ingest.otlp.attributes import Span, by_person, number, string
from ingest.otlp.translate import END, MS, SAID_BY, events_of

_EVENT: Final = "event.name"
_EVENTS: Final = conventions.KIND_ATTRIBUTES[_EVENT]
_PROMPTS: Final = ("prompt.id", "prompt_id")
_CONVERSATIONS: Final = ("conversation.id", "session.id")
_PARTLY_TRACED: Final = "codex."
"""Events of which some name a trace and others of the same prompt do not."""

_TRACED: Final = "claude_code."
"""Events that lie in the spans of the same prompt, if these are sent at all."""

_AGENTS: Final = ("claude_code", "codex", "gemini_cli")


def name_of(name: str, body: Any, attributes: Mapping[str, Any]) -> str:
    """Full name of an event: some write it as an attribute only, or as the body.

    Codex CLI's own name of an event is a place in its source.
    """
    given = string(attributes.get(_EVENT)) or ""
    for text in (name, given, body):
        if isinstance(text, str) and text.startswith(_FORK):
            return _ORIGINAL + text[len(_FORK) :]
        if isinstance(text, str) and (text in _EVENTS or text.startswith(_PREFIXES)):
            return text
    return name or given


_FORK: Final = "qwen-code."
_ORIGINAL: Final = "gemini_cli."
"""Qwen Code is a fork of Gemini CLI, and says the same things under its own name."""


_PREFIXES: Final = tuple(f"{agent}." for agent in _AGENTS)


def speaks(name: str) -> bool:
    """Tell whether an event is of a coding agent."""
    return name.startswith(_PREFIXES)


def ignored(name: str, attributes: Mapping[str, Any], span_id: str | None) -> str | None:
    """Why an event of a coding agent is not needed; None when it is."""
    if name not in _EVENTS:
        return "no_meaning"
    if _EVENTS[name][0] == "agent_message":
        asked_by = string(attributes.get("query_source")) or _MAIN[0]
        return None if asked_by.startswith(_MAIN) else "of_a_subagent"
    if name.startswith("claude_code.") and span_id is not None:
        return "told_by_spans"
    failed = "error.message" in attributes
    if name in ("codex.sse_event", "codex.websocket_event"):
        # The end of the stream is logged as well, without the tokens.
        completed = (
            attributes.get("event.kind") == "response.completed"
            and "input_token_count" in attributes
        )
        return None if completed or failed else "stream_event"
    if name == "codex.api_request":
        return None if failed else "told_by_completion"
    if name.endswith(".tool_decision"):
        return None if by_person(attributes) else "decided_by_configuration"
    return None


_MAIN: Final = ("repl_main_thread", "sdk")
"""How Claude Code's names begin for the thread that answers the user; others are subagents or
chores, such as making a conversation shorter."""


def events(
    name: str,
    time_ns: int,
    trace_id: str | None,
    attributes: Mapping[str, Any],
    resource: Mapping[str, Any],
    scope: str,
    identity: str,
    span_id: str | None = None,
) -> list[Event]:
    """Events of a needed event; where spans tell the rest, ``span_id`` is the one it belongs to.

    Raises
    ------
    Rejected
        As `ingest.otlp.translate.events_of`.
    """
    prompt = _first(attributes, _PROMPTS)
    conversation = _first(attributes, _CONVERSATIONS)
    if name.startswith(_PARTLY_TRACED):
        trace_id = None
    if span_id is not None and name.startswith(_TRACED) and trace_id is not None:
        prompt = None
    else:
        span_id = None
    interaction = prompt or trace_id or conversation or identity
    is_prompt = _EVENTS[name][0] == "interaction"
    span = Span(
        trace_id=interaction[:200],
        span_id=_PROMPT if is_prompt and prompt else identity,
        parent_id=span_id if is_prompt or not prompt else _PROMPT,
        name=name,
        start_ns=time_ns - int((number(attributes.get("duration_ms")) or 0) * MS),
        end_ns=None if is_prompt else time_ns,
        failed=name.endswith("_error") or "error.message" in attributes,
        attributes={**_named(attributes), _EVENT: name},
        resource=resource,
        scope=scope,
        of_log=True,
    )
    found = events_of(span)
    if _EVENTS[name][0] == "agent_message":
        return [_said_by_call(event) for event in found if event.content]
    return [_open(event) if event.kind == "interaction" else event for event in found]


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of an event, where the name of an agent is no path.

    Codex CLI says which of its threads called a tool: "/root", "/root/explorer".
    """
    path = string(attributes.get("agent_name")) or ""
    if not path.startswith("/"):
        return dict(attributes)
    return {("thread" if k == "agent_name" else k): v for k, v in attributes.items()}


_PROMPT: Final = "prompt"


def _open(event: Event) -> Event:
    """A prompt tells when a run began; nothing tells when and how it ended."""
    return replace(event, attributes={**(event.attributes or {}), END: "open"})


def _said_by_call(event: Event) -> Event:
    """Each call answers something; the last one of a run is the run's answer."""
    said_by = {**(event.attributes or {}), SAID_BY: "llm_call"}
    return replace(event, duration_ms=None, attributes=said_by)


def _first(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((text for name in names if (text := string(attributes.get(name)))), None)
