"""How much of what is said an agent's events keep, and what a technical fact is.

Where content is not captured everything goes that is not known to be a technical fact: attributes
that are not on a list, messages of errors, names of unknown form. A dialect that nobody has heard
of thus keeps nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from msgspec.structs import replace

from ingest.core.events import Event
from ingest.otlp.conventions import carries_content


class Capture(StrEnum):
    """How much of what is said an agent's events keep, the least first."""

    OFF = "off"
    """Nothing: only technical facts stay, and they are redacted."""
    HASHED = "hashed"
    """A keyed hash in its place, which shows repetition and nothing else."""
    REDACTED = "redacted"
    """Everything but secrets and personal data."""
    FULL = "full"
    """Everything, untouched."""


_MESSAGES: Final = ("user_message", "agent_message")
"""Parts of the event that they name as their parent, made from the same span."""
_STRICTNESS: Final = {capture: rank for rank, capture in enumerate(Capture)}
SERVICE: Final = "service.name"
"""Attribute by which an event says what service it comes from."""

CONTENT: Final = ("content", "tool_arguments", "tool_result")
_PROSE: Final = (*CONTENT, "error_message")

_ALLOWED: Final = frozenset(
    {
        SERVICE, "service.version", "service.namespace", "service.instance.id", "server.address",
        "server.port", "client.port", "error.type", "http.request.method", "http.method",
        "http.response.status_code", "http.status_code", "http.route", "url.scheme", "db.system",
        "db.system.name", "db.operation", "db.operation.name", "messaging.system",
        "messaging.operation", "messaging.operation.name", "messaging.operation.type",
        "rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code",
        "rpc.response.status_code", "rpc.jsonrpc.error_code", "rpc.jsonrpc.version",
        "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.request.model",
        "gen_ai.response.model", "gen_ai.response.id", "gen_ai.response.finish_reasons",
        "gen_ai.request.max_tokens", "gen_ai.request.temperature", "gen_ai.request.top_p",
        "gen_ai.request.top_k", "gen_ai.request.frequency_penalty", "gen_ai.request.stream",
        "gen_ai.request.presence_penalty", "gen_ai.request.seed", "gen_ai.request.choice.count",
        "gen_ai.output.type", "gen_ai.tool.type", "gen_ai.tool.call.id", "gen_ai.agent.id",
        "gen_ai.evaluation.score.value", "gen_ai.response.time_to_first_chunk", "llm.provider",
        "llm.system", "llm.model_name", "llm.request.type", "llm.is_streaming",
        "openai.response.service_tier", "openai.request.service_tier", "openai.api.type",
        "gen_ai.openai.response.service_tier", "gen_ai.openai.request.service_tier",
        "openinference.span.kind", "traceloop.span.kind", "mcp.method.name", "mcp.session.id",
        "mcp.protocol.version", "jsonrpc.protocol.version", "network.transport",
        "network.protocol.name", "network.protocol.version", "ai.operationId", "ai.model.id",
        "ai.model.provider", "ai.response.finishReason", "ai.response.id", "ai.response.model",
        "ai.settings.maxRetries", "ai.settings.maxOutputTokens", "langfuse.observation.type",
        "langfuse.observation.level", "langfuse.environment", "langfuse.release",
        "langfuse.version", "mlflow.spanType", "spring.ai.kind", "cloud.region", "aws.region",
    }
)  # fmt: skip
_ALLOWED_BELOW: Final = (
    "gen_ai.usage.", "llm.token_count.", "llm.usage.", "llm.cost.", "gen_ai.cost.", "ai.usage.",
    "ai.response.msTo", "ai.response.avg", "driftline.", "telemetry.sdk.", "otel.",
)  # fmt: skip
"""Attributes, and beginnings of attributes, that hold technical facts."""

_FACT: Final = re.compile(r"[A-Za-z0-9_.:/@+\-\[\]\"',{}*]{1,128}")
"""A number, a code, a name, a list of such: anything without blanks."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/$<>\[\]-]{0,127}")
_CODE: Final = re.compile(r"[a-z]+(?:[_ -][a-z]+)?(?:_[a-z]+){0,5}")
_OPERATION: Final = re.compile(
    r"(?:chat|text_completion|generate_content|embeddings?|rerank|retrieval|execute_tool|plan"
    r"|invoke_agent|create_agent|invoke_workflow|call_llm|tools/call|resources/read|initialize"
    r"|tools/list|search_memory|GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS"
    r"|(?:ai|claude_code|codex|gemini_cli|gen_ai|mcp)\.[A-Za-z_.]+)(?: (?P<of>\S+))?"
)
"""Names that conventions give to spans: an operation, and of what."""

Hide = Callable[[str], str | None]


def captures_of(
    events: Sequence[Event], default: Capture, settings: Mapping[str, Capture]
) -> list[Capture]:
    """Decide what is captured of each event of one request.

    Parameters
    ----------
    events
        All of the request.
    default
        For agents without a setting.
    settings
        By name of an agent or of a service.

    Notes
    -----
    An event that has no setting of its own, by its agent or its service, takes the strictest
    setting that any event of its trace in this request has, where that is stricter than the
    default: it may be a part of that agent's work that does not name the agent.
    """
    if not settings:
        return [default] * len(events)
    own = [_setting(event, settings) for event in events]
    of_id = {event.event_id: capture for event, capture in zip(events, own, strict=True)}
    own = [
        _stricter(capture, of_id.get(event.parent_id or "")) if event.kind in _MESSAGES else capture
        for event, capture in zip(events, own, strict=True)
    ]
    traces: dict[str, Capture] = {}
    for event, capture in zip(events, own, strict=True):
        if capture is not None and event.interaction_id is not None:
            known = traces.get(event.interaction_id, capture)
            traces[event.interaction_id] = strictest(known, capture)
    return [
        strictest(default, traces.get(event.interaction_id or "", default))
        if capture is None
        else capture
        for event, capture in zip(events, own, strict=True)
    ]


def _setting(event: Event, settings: Mapping[str, Capture]) -> Capture | None:
    """The setting of an event's agent or service, the stricter one; None where there is none."""
    service = (event.attributes or {}).get(SERVICE)
    names = (event.agent, service or "")
    return _stricter(*map(settings.get, names))


def strictest(*captures: Capture) -> Capture:
    """Return the one that keeps least."""
    return min(captures, key=_STRICTNESS.__getitem__)


def _stricter(one: Capture | None, other: Capture | None) -> Capture | None:
    given = [capture for capture in (one, other) if capture is not None]
    return strictest(*given) if given else None


def keeps_text(capture: Capture) -> bool:
    """Whether what is said may be kept, redacted or not."""
    return _STRICTNESS[capture] >= _STRICTNESS[Capture.REDACTED]


def conceal(event: Event, hide: Hide) -> Event:
    """Return an event of which only technical facts are left.

    Parameters
    ----------
    event
        Any event.
    hide
        What stands for a text that was said, if anything.
    """
    changes: dict[str, Any] = {}
    for field in _PROSE:
        text = getattr(event, field)
        if text is not None:
            changes[field] = hide(text)
    if event.error_type is not None and not _IDENTIFIER.fullmatch(event.error_type):
        changes["error_type"] = hide(event.error_type) or "error"
    if event.reason is not None and not _CODE.fullmatch(event.reason):
        changes["reason"] = hide(event.reason)
    if event.name is not None and not _is_fact_name(event, event.name):
        changes["name"] = hide(event.name)
    for field in ("model", "agent_version", "rule_version"):
        text = getattr(event, field)
        if text is not None and not _FACT.fullmatch(text):
            changes[field] = hide(text)
    if event.attributes:
        changes["attributes"] = _facts(event, event.attributes, hide)
    return replace(event, **changes) if changes else event


def _facts(event: Event, attributes: Mapping[str, str], hide: Hide) -> dict[str, str] | None:
    kept: dict[str, str] = {}
    for name, value in attributes.items():
        if name == "span.name":
            shown = value if _is_operation(event, value) else hide(value)
        elif is_allowed(name):
            shown = value if _FACT.fullmatch(value) else hide(value)
        else:
            shown = hide(value) if carries_content(name) else None
        if shown is not None:
            kept[name] = shown
    return kept or None


def is_allowed(name: str) -> bool:
    """Whether an attribute of this name holds a technical fact.

    >>> is_allowed("gen_ai.usage.input_tokens"), is_allowed("acme.prompt")
    (True, False)
    """
    return name in _ALLOWED or name.startswith(_ALLOWED_BELOW)


def _is_fact_name(event: Event, name: str) -> bool:
    """Whether a name is that of a tool, a score or an operation."""
    if event.kind in ("tool_call", "handoff", "human_input", "feedback", "score", "outcome"):
        return _IDENTIFIER.fullmatch(name) is not None
    return _is_operation(event, name)


def _is_operation(event: Event, name: str) -> bool:
    match = _OPERATION.fullmatch(name)
    if match is None:
        return event.kind == "tool_call" and name == event.name and _is_fact_name(event, name)
    return match["of"] is None or match["of"] in _names_known(event)


def _names_known(event: Event) -> tuple[str | None, ...]:
    get = (event.attributes or {}).get
    return (
        event.model, event.agent, event.name, get("gen_ai.request.model"), get("http.route"),
        get("mcp.method.name"), get(SERVICE),
    )  # fmt: skip
