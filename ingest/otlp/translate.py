"""One span becomes one event, by the tables of `ingest.otlp.dialects`, and events of what was said.

A translation looks at one span alone, so it does not matter in which pieces, order or number of
copies a trace arrives. What only other spans know is joined where events are read: whose agent,
session, user and version a span inherits, and which of a trace's agent spans is the interaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import force_setattr

from ingest.core.errors import Rejected
from ingest.core.events import Event, Kind, RejectionCode
from ingest.otlp import conventions, conversation, usage, words
from ingest.otlp.attributes import (
    MappedAttributes,
    Span,
    Told,
    gather,
    is_broken_off,
    is_cancelled,
    is_control_flow,
    is_human_interrupt,
    is_unfinished,
    number,
    says,
    string,
    told,
)
from ingest.otlp.dialects import (
    CANCELLED_IF,
    FAILED_IF,
    FINISHES_WITH,
    GRAPH_NODES,
    HANDED_TO,
    NAMED_BY,
    PAUSED_IF,
    PAUSED_WITH,
    RAISES,
    RESUMED_WITH,
    UNSAID_ENDS,
    UNSAID_STATUS,
)
from ingest.otlp.structures import mapping, structure
from ingest.otlp.truncation import MAX_LABEL, attributes, content, label
from ingest.prices import Prices

MS: Final = usage.MS

_NEVER: Final = 4_102_444_800_000_000_000

# Attributes of ours, read where interactions are derived and by `driftline senders`.
CLOCK: Final = "driftline.clock"
ROOT: Final = "driftline.root"
END: Final = "driftline.end"
RESUMES: Final = "driftline.resumes"
AGENT_FROM: Final = "driftline.agent_from"
STATUS_FROM: Final = "driftline.status_from"
SAID_BY: Final = "driftline.from"
DIALECT: Final = "driftline.dialect"
SCOPE: Final = "otel.scope.name"
SERVICE: Final = "service.name"


def event_of(span: Span, agent: str | None = None, prices: Prices | None = None) -> Event:
    """Translate a span; what no field of the contract takes stays an attribute.

    Parameters
    ----------
    span
        Any span, of an agent or not.
    agent
        Name of the agent when the span does not say, for instance that of its trace.
    prices
        For calls whose cost nobody said; None is the table of this process.

    Raises
    ------
    Rejected
        When the span has no time that the contract can hold.

    Notes
    -----
    The event is a function of the span, ``agent`` and ``prices`` alone, so a span sent twice is one
    event, and one id with two payloads stays visible as a collision. A span without an end counts
    as complete at its start, with no duration. One that ends before it starts (clocks are set back)
    has no duration either, and says ``driftline.clock`` = ``skewed``.

    The agent is, in this order: the span's own; the workflow that it belongs to; that of the
    resource; the given one; the service, and then ``driftline.agent_from`` says ``service``.
    """
    event, found = _translated(span, agent, prices)
    _add_output(event, found)
    return event


def events_of(span: Span, prices: Prices | None = None, agent: str | None = None) -> list[Event]:
    """All that a span says: its event, what the user said and was told, judgements as scores.

    Words are those of agents' runs and of model calls; events of the latter say ``driftline.from``
    = ``llm_call``, for where the run says them itself they are the better ones.

    Raises
    ------
    Rejected
        As `event_of`.
    """
    event, found = _translated(span, agent, prices)
    if event.kind in _SPEAKS:
        events = _with_words(event, span, found)
    else:
        _add_output(event, found)
        events = [event]
    for place, moment in enumerate(span.moments):
        if moment.name == conventions.EVALUATION_EVENT:
            time_ns = moment.time_ns or event.time_unix_nano
            events.append(score_of(moment.attributes, event, time_ns, f"score{place}"))
    return events


_SPEAKS: Final = frozenset({"interaction", "llm_call"})


def _with_words(event: Event, span: Span, found: MappedAttributes) -> list[Event]:
    if not found.flat and "input" not in found.values and "output" not in found.values:
        return [event]
    said = conversation.asked(found, event.kind)
    answer = conversation.told(found) if event.status == "ok" else None
    events = [_message_event(event, span, "user", said)] if said else []
    events.append(event)
    if answer:  # once is enough: what an answer says is most of what a span costs
        events.append(_message_event(event, span, "agent", answer))
    else:
        _add_output(event, found)
    return events


def _add_output(event: Event, found: MappedAttributes) -> None:
    """Set the content of an event that nobody else has seen yet."""
    if event.kind in _OUTPUTS and ("output" in found.values or found.flat):
        answers = event.kind == "agent_message"
        text = conversation.told(found) if answers else conversation.output_text(found, event.kind)
        force_setattr(event, "content", content(text))


_OUTPUTS: Final = frozenset({"interaction", "llm_call", "retrieval", "decision", "agent_message"})


def agent_of(spans: Sequence[Span]) -> str | None:
    """Name of the agent that a trace's spans speak of: the root's, else the first one given."""
    ordered = sorted(spans, key=lambda span: span.parent_id is not None)
    table = conventions.table("decision")
    known = [name for name, meaning in table.items() if meaning.field in ("agent", "workflow")]
    texts = (string(span.attributes.get(name)) for span in ordered for name in known)
    return next((text for text in texts if text), None)


def score_of(judged: Mapping[str, Any], about: Event, time_ns: int, role: str) -> Event:
    """Translate ``gen_ai.evaluation.result``, which judges the interaction of ``about``.

    A score outside 0 to 1 is of a scale that the event does not say: it stays an attribute, and the
    label decides if it is one of pass and fail.
    """
    score = number(judged.get("gen_ai.evaluation.score.value"))
    labelled = string(judged.get("gen_ai.evaluation.score.label"))
    value = _LABELS.get((labelled or "").lower())
    if score is not None and score <= 1:
        value = float(score)
    rest = {name: string(v) for name, v in judged.items() if name not in _TAKEN_BY_SCORES}
    return Event(
        event_id=f"{about.event_id.removesuffix(':span')}:{role}",
        time_unix_nano=time_ns,
        environment=about.environment,
        agent=about.agent,
        agent_version=about.agent_version,
        session_id=about.session_id,
        interaction_id=about.interaction_id,
        parent_id=about.event_id,
        user_id=about.user_id,
        kind="score",
        name=label(string(judged.get("gen_ai.evaluation.name"))),
        value=value,
        reason=label(labelled),
        content=content(string(judged.get("gen_ai.evaluation.explanation"))),
        attributes=attributes(rest),
    )


_LABELS: Final = {"pass": 1.0, "passed": 1.0, "fail": 0.0, "failed": 0.0}
_TAKEN_BY_SCORES: Final = frozenset(
    {
        "gen_ai.evaluation.name",
        "gen_ai.evaluation.score.label",
        "gen_ai.evaluation.explanation",
    }
)


def _translated(
    span: Span, agent: str | None, prices: Prices | None
) -> tuple[Event, MappedAttributes]:
    what = told(span)
    kind = what.kind
    time_ns, duration_ms, skewed = _times(span)
    found = gather(span.attributes, kind)
    values, rest = found.values, found.rest
    if "metadata" in values:
        _read_metadata(found)
    ours = {SCOPE: span.scope, DIALECT: what.dialect}
    if skewed:
        ours[CLOCK] = "skewed"
    if span.parent_id is None and not span.of_log:
        ours[ROOT] = "true"
    fields: dict[str, Any] = {}
    if kind == "llm_call" or kind == "retrieval":
        fields = usage.fields_of(span, found, prices, what.dialect)
        fields["model"] = _label(values.get("model"))
        if duration_ms is not None and (fields["time_to_first_token_ms"] or 0) > duration_ms:
            duration_ms = None  # the span ended before its stream began
    elif kind == "interaction":
        fields = usage.sums_of(span, found, prices, what.dialect)
        _keep(found, "model")
    if kind in _CALLS:
        fields |= _of_call(span, values)
    elif kind == "retrieval" or kind == "decision":
        _keep(found, "input")
    if kind in _NAMED:
        fields["name"] = _label(span.name)
    if kind == "interaction" and (
        conversation.resumes(found) or not RESUMED_WITH.isdisjoint(span.attributes)
    ):
        ours[RESUMES] = "true"
    if any(field in found.sources for field in _KEPT):
        for field in _KEPT:
            _keep(found, field)
    if "provider" in values:
        rest[conventions.KEPT_AS["provider"]] = string(values["provider"])
    failure = _failure(span, found, fields.get("tool_result"), ours)
    if kind == "interaction" and failure["status"] == "ok" and not span.of_log:
        if what.dialect in UNSAID_ENDS:
            ours.setdefault(END, "open")
        unsaid = span.scope in UNSAID_STATUS and _NAMED_OR_SAID.isdisjoint(values)
        if unsaid or is_broken_off(span.attributes) or is_unfinished(span):
            ours[STATUS_FROM] = "parts"
    if "group" in values:
        values.setdefault("session_id", values["group"])
    service = values.get("service") or span.resource.get("service.name")
    name = _agent_name(span, what, values) or agent
    if name is None:
        ours[AGENT_FROM] = "service"
    elif service:
        ours[SERVICE] = string(service) or ""
    rest["span.name"] = span.name
    rest.update(ours)
    trace = span.trace_id
    event = Event(
        event_id=f"{trace}:{span.span_id}:span",
        time_unix_nano=time_ns,
        duration_ms=duration_ms,
        environment=_environment(span, values),
        agent=_label(name or service) or conventions.DEFAULT_SERVICE,
        agent_version=_label(_version(span, found, kind)),
        session_id=_label(values.get("session_id") or span.resource.get("session.id")),
        interaction_id=trace,
        parent_id=f"{trace}:{span.parent_id}:span" if span.parent_id else None,
        user_id=_label(values.get("user_id") or span.resource.get("user.id")),
        kind=kind,
        attributes=attributes(rest),
        **failure,
        **fields,
    )
    return event, found


_KEPT: Final = ("parameters", "usage", "cost", "metadata")
_CALLS: Final = frozenset({"tool_call", "handoff", "human_input"})
_NAMED: Final = frozenset({"retrieval", "decision", "span"})
_NAMED_OR_SAID: Final = frozenset({"agent", "input", "output"})


def _times(span: Span) -> tuple[int, float | None, bool]:
    """When a span was complete, how long it took, and whether its clock ran backwards."""
    start_ns, end_ns = span.start_ns, span.end_ns
    time_ns = start_ns if end_ns is None else end_ns
    if not 0 < time_ns <= _NEVER or start_ns < 0:
        raise Rejected(RejectionCode.INVALID_FIELD, "span: its time is missing or out of range")
    if end_ns is None or not start_ns:
        return time_ns, None, False
    if end_ns < start_ns:
        return time_ns, None, True
    return time_ns, (end_ns - start_ns) / MS, False


def _read_metadata(found: MappedAttributes) -> None:
    """Take what LangChain says in one JSON attribute, where no attribute of its own says it."""
    given = found.values["metadata"]
    if isinstance(given, str) and not _SAYS_WHO.search(given):
        return
    metadata = mapping(structure(given))
    for field, keys in _METADATA.items():
        value = next((metadata[key] for key in keys if metadata.get(key)), None)
        if isinstance(value, str | int):
            found.values.setdefault(field, str(value))


_METADATA: Final = {
    "session_id": (
        "session_id", "thread_id", "conversation_id", "sessionId", "threadId", "conversationId",
    ),
    "user_id": ("user_id", "userId"),
    "agent": ("lc_agent_name", "agent_name"),
}  # fmt: skip
_SAYS_WHO: Final = re.compile(r'(?:_id|Id|agent_name)"')


def _keep(found: MappedAttributes, field: str) -> None:
    if field in found.sources:
        found.rest[found.sources[field][1]] = string(found.values[field])


def _of_call(span: Span, values: Mapping[str, Any]) -> dict[str, Any]:
    arguments = words.arguments(values.get("tool_arguments"))
    return {
        "name": _label(_tool_name(values.get("tool") or span.name, arguments)),
        "tool_arguments": content(string(arguments)),
        "tool_result": content(words.plain(values.get("tool_result"))),
    }


def _failure(
    span: Span, found: MappedAttributes, result: str | None, ours: dict[str, str]
) -> dict[str, Any]:
    """Status, type and message: of the exception, else of the status, else what attributes say."""
    values, sources = found.values, found.sources
    silent = _SIGNS.isdisjoint(span.attributes) and not is_unfinished(span)
    if silent and not span.failed and result is None:
        return _OK
    if is_human_interrupt(span):
        ours[END] = "interrupted"
    elif is_cancelled(span):
        ours[END] = "cancelled"
    failed = span.failed or _says_failed(span)
    if failed and (END in ours or is_control_flow(span)):
        failed = False
    told_by_result = None
    if not failed and result is not None and END not in ours:
        told_by_result = words.error_of(values.get("tool_result"))
        failed = told_by_result is not None
    if not failed:  # an exception that was dealt with is no error of the span
        for field in ("error_type", "error_message", "exception_message"):
            if field in values:
                found.rest[sources[field][1]] = values.pop(field)
        return _OK
    kind = values.get("error_type")
    if kind in (None, *_NO_TYPE):
        kind = span.attributes.get("exception.type") or (
            "error" if told_by_result is None else "tool_error"
        )
    if kind in conventions.UNTOLD:
        kind = _printed_type(values.get("exception_message")) or kind
    message = (
        _without_traceback(values.get("exception_message"))
        or _of_object(_without_traceback(span.status_message))
        or _of_object(values.get("error_message"))
        or (told_by_result if told_by_result is not None else result)
    )
    return {
        "status": "error",
        "error_type": _label(_printed_class(kind)),
        "error_message": content(message or string(kind)),
    }


def _printed_type(message: str | None) -> str | None:
    """Name of an exception that a message begins with, where its traceback follows."""
    if message is None or _TRACEBACK not in message:
        return None
    printed = conventions.PRINTED.match(message)
    return printed and printed[1]


def _printed_class(kind: Any) -> Any:
    """Name of an exception of which Python's ``str(type(error))`` was sent."""
    if isinstance(kind, str) and kind.startswith("<class '"):
        return kind[8:].removesuffix("'>")
    return kind


_OK: Final = {"status": "ok"}
_SIGNS: Final = (
    frozenset((*FAILED_IF, *PAUSED_IF, *PAUSED_WITH, *CANCELLED_IF, *FINISHES_WITH))
    | {
        name
        for name, meaning in conventions.table("decision").items()
        if meaning.field in ("error_type", "error_message", "exception_message")
    }
    | {"strands.cancellation.type", "pydantic_ai.tool.deferral.name"}
)
"""Attributes without which a span of status ok has neither failed nor been stopped."""

_NO_TYPE: Final = ("_OTHER", "unknown", "error")
_TRACEBACK: Final = "Traceback (most recent call last)"


def _says_failed(span: Span) -> bool:
    given = span.attributes
    if "error.type" in given:
        return given["error.type"] not in (None, "")
    return says(given, FAILED_IF) or (span.scope in RAISES and "exception.type" in given)


def _of_object(message: str | None) -> str | None:
    """Message of an error that was sent as a whole, as JSON or as Python prints it."""
    if message is None or not _IS_OBJECT.match(message):
        return message
    found = words.printed(message)
    told = mapping(found.get("data")).get("error") or found.get("message")
    return told if isinstance(told, str) else message


_IS_OBJECT: Final = re.compile(r"\{[\"']message[\"']:")


def _without_traceback(message: str | None) -> str | None:
    """What stands before a traceback, which is of no use for telling failures apart."""
    if message is None or _TRACEBACK not in message:
        return message
    before, _, after = message.partition(_TRACEBACK)
    return before.strip() or after.strip().rpartition("\n")[2]


def _environment(span: Span, values: Mapping[str, Any]) -> str:
    resource = span.resource.get
    return (
        _label(
            values.get("environment")
            or resource("deployment.environment.name")
            or resource("deployment.environment")
            or resource("langfuse.environment")
            or resource("env")
        )
        or "production"
    )


def _agent_name(span: Span, what: Told, values: Mapping[str, Any]) -> str | None:
    name = values.get("agent") or values.get("workflow")
    if not name and what.kind == "interaction" and what.by in _NAMING:
        # Only of an agent: a chain is named after a function, as is a node of a graph.
        told_kind = (string(span.attributes.get(what.by)) or "").strip('"').lower()
        named_by = NAMED_BY.get((what.by, told_kind))
        if named_by:
            given = string(span.attributes.get(named_by))
            name = given if given and not _RANDOM.fullmatch(given) else None
        elif named_by is not None and _NODES.isdisjoint(span.attributes):
            # Words are what the agent does, not who it is, and may be the user's own.
            named = _IDENTIFIER.fullmatch(span.name)
            name = span.name.removesuffix(".agent") if named else None
    return _label(name or span.resource.get("gen_ai.agent.name"))


_IDENTIFIER: Final = re.compile(r"\S{1,128}")
_RANDOM: Final = re.compile(r"[0-9a-f]{8}[0-9a-f-]*")
"""Ids that a run of an agent without a name is given (Agno)."""
_NAMING: Final = frozenset(attribute for attribute, _ in NAMED_BY)
_NODES: Final = frozenset(GRAPH_NODES)


def _version(span: Span, found: MappedAttributes, kind: Kind) -> Any:
    values, resource = found.values, span.resource.get
    version = (
        values.get("agent_version")
        or resource("gen_ai.agent.version")
        or values.get("service_version")
        or resource("service.version")
    )
    if version is None and kind == "llm_call":
        version = conversation.computed_version(found)
    return version


def _message_event(event: Event, span: Span, role: str, text: str) -> Event:
    by_user = role == "user"
    return Event(
        event_id=f"{span.trace_id}:{span.span_id}:{role}",
        time_unix_nano=(span.start_ns or event.time_unix_nano) if by_user else event.time_unix_nano,
        environment=event.environment,
        agent=event.agent,
        agent_version=event.agent_version,
        session_id=event.session_id,
        interaction_id=event.interaction_id,
        parent_id=event.event_id,
        user_id=event.user_id,
        kind="user_message" if by_user else "agent_message",
        content=content(text),
        attributes={SAID_BY: "llm_call"} if event.kind == "llm_call" else None,
    )


def _tool_name(name: str, arguments: Any) -> str:
    """Return a tool's name, or of one that hands over the agent it hands over to."""
    match = conventions.HANDOFF.match(name)
    if match is None:
        return name
    if match["to"] == "agent":
        given = mapping(structure(arguments))
        to = next((given[key] for key in HANDED_TO if isinstance(given.get(key), str)), None)
        return to or name
    return match["to"] or name


def _label(value: Any) -> str | None:
    """Return a name as `ingest.otlp.truncation.label` does, whatever it was written as."""
    if isinstance(value, str) and 0 < len(value) <= MAX_LABEL and value.isascii():
        return value
    return label(string(value))
