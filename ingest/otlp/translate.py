"""One span becomes one event, by the tables of `ingest.otlp.conventions`; some say more than one.

A translation looks at one span alone, so it does not matter in which pieces, order or number of
copies a trace arrives. What only other spans know is joined where events are read: an interaction
is told of the agent of its root, and belongs to the session that any of its spans names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.otlp import chat_messages, conventions
from ingest.otlp.attributes import (
    MappedAttributes,
    Span,
    gather,
    is_human_interrupt,
    kind_of,
    string,
)
from ingest.otlp.truncation import MAX_LABEL, attributes, content, label
from ingest.prices import Prices, TokenUsage, installed

MS: Final = 1_000_000

_NEVER: Final = 4_102_444_800_000_000_000


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
        When the span ends before it starts, or has no time that the contract can hold.

    Notes
    -----
    The event is a function of the span, ``agent`` and ``prices`` alone, so a span sent twice is one
    event, and one id with two payloads stays visible as a collision. A span without an end counts
    as complete at its start, with no duration.

    The agent is, in this order: ``gen_ai.agent.name`` of the resource, by which a process says that
    all it does is this agent's; the workflow that a span belongs to; the span's own agent; the
    given one; the service. A span that names no agent thus belongs to its service.
    """
    return _translated(span, agent, prices)[0]


def events_of(span: Span, prices: Prices | None = None) -> list[Event]:
    """All that a span says: its event, and at an entry what the user said and was told.

    An entry that is itself a call of a model or a tool is followed by an event that closes the
    interaction. Judgements among the span's moments become scores.

    Raises
    ------
    Rejected
        As `event_of`.
    """
    event, found = _translated(span, None, prices)
    events = _entry(event, span, found) if span.is_entry else [event]
    for number, moment in enumerate(span.moments):
        if moment.name == conventions.EVALUATION_EVENT:
            time_ns = moment.time_ns or event.time_unix_nano
            events.append(score_of(moment.attributes, event, time_ns, f"score{number}"))
    return events


def _entry(event: Event, span: Span, found: MappedAttributes) -> list[Event]:
    said, told = _conversation(event, found)
    events = [_message_event(event, span, "user", said)] if said else []
    if event.kind == "interaction":
        events.append(replace(event, content=None) if told else event)
    else:
        events += (event, _closing(event))
    if told:
        events.append(_message_event(event, span, "agent", told))
    return events


def agent_of(spans: Sequence[Span]) -> str | None:
    """Name of the agent that a trace's spans speak of: the root's, else the first one given."""
    ordered = sorted(spans, key=lambda span: span.parent_id is not None)
    known = tuple(conventions.table("decision"))
    agents = [name for name in known if conventions.table("decision")[name].field == "agent"]
    texts = (string(span.attributes.get(name)) for span in ordered for name in agents)
    return next((text for text in texts if text), None)


def cost_of(
    span_attributes: Mapping[str, Any], input_tokens: int | None, output_tokens: int | None
) -> float | None:
    """Cost of a model call in US dollars, as its attributes say; None when any part is not known.

    Instrumentations write 0 for a price they do not know, so a zero for tokens used is no cost.
    """
    return _cost_said(gather(span_attributes, "llm_call"), input_tokens, output_tokens)


def score_of(judged: Mapping[str, Any], about: Event, time_ns: int, role: str) -> Event:
    """Translate ``gen_ai.evaluation.result``, which judges the interaction of ``about``.

    A score outside 0 to 1 is of a scale that the event does not say: it stays an attribute, and the
    label decides if it is one of pass and fail.
    """
    score = judged.get("gen_ai.evaluation.score.value")
    labelled = string(judged.get("gen_ai.evaluation.score.label"))
    value = _LABELS.get((labelled or "").lower())
    if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1:
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
    start_ns, end_ns = span.start_ns, span.end_ns
    time_ns = start_ns if end_ns is None else end_ns
    if time_ns < start_ns:
        raise Rejected(RejectionCode.INVALID_FIELD, "span: ends before it starts")
    if not 0 < time_ns <= _NEVER or start_ns < 0:
        raise Rejected(RejectionCode.INVALID_FIELD, "span: its time is missing or out of range")
    kind = kind_of(span)
    found = gather(span.attributes, kind)
    values, sources, _, rest = found
    get = values.get
    failed = (span.failed or "error.type" in span.attributes) and not is_human_interrupt(span)
    if not failed:  # an exception that was dealt with is no error of the span
        for field in ("error_type", "error_message"):
            if field in values:
                rest[sources[field][1]] = values.pop(field)
    fields: dict[str, Any] = {}
    if kind == "llm_call" or kind == "retrieval":
        fields = _of_model(span, found, prices)
    if kind in _CALLS:
        fields["name"] = _label(_tool_name(get("tool") or span.name))
        fields["tool_arguments"] = content(chat_messages.arguments(get("tool_arguments")))
        fields["tool_result"] = content(chat_messages.plain(get("tool_result")))
    else:
        if "output" in values or found.flat:
            fields["content"] = content(_said(found, "output"))
        if kind == "retrieval" or kind == "decision":
            fields["name"] = _label(span.name)
            if "input" in values:
                rest[sources["input"][1]] = string(values["input"])
    if "parameters" in values:
        rest[sources["parameters"][1]] = string(values["parameters"])
    resource = span.resource.get
    version = (
        get("agent_version")
        or resource("gen_ai.agent.version")
        or get("service_version")
        or resource("service.version")
    )
    if version is None and kind == "llm_call":
        version = _computed_version(found)
    for field, attribute in _KEPT_AS:
        if field in values:
            rest[attribute] = str(values[field])
    rest["span.name"] = span.name
    if service := resource("service.name"):
        rest["service.name"] = string(service)  # settings of a service hold for all it sends
    trace = span.trace_id
    event = Event(
        event_id=f"{trace}:{span.span_id}:span",
        time_unix_nano=time_ns,
        duration_ms=None if end_ns is None or not start_ns else (end_ns - start_ns) / MS,
        environment=_label(
            get("environment")
            or resource("deployment.environment.name")
            or resource("deployment.environment")
        )
        or "production",
        agent=_label(
            resource("gen_ai.agent.name")
            or get("workflow")
            or get("agent")
            or agent
            or get("service")
            or resource("service.name")
        )
        or conventions.DEFAULT_SERVICE,
        agent_version=_label(version),
        session_id=_label(get("session_id")),
        interaction_id=trace,
        parent_id=f"{trace}:{span.parent_id}:span" if span.parent_id else None,
        user_id=_label(get("user_id")),
        kind=kind,
        status="error" if failed else "ok",
        error_type=_label(get("error_type") or "error") if failed else None,
        error_message=content(span.status_message or get("error_message")),
        attributes=attributes(rest),
        **fields,
    )
    return event, found


_CALLS: Final = frozenset({"tool_call", "handoff", "human_input"})
_KEPT_AS: Final = tuple(conventions.KEPT_AS.items())


def _of_model(span: Span, found: MappedAttributes, prices: Prices | None) -> dict[str, Any]:
    get = found.values.get
    usage = TokenUsage(
        input=_count(get("input_tokens")),
        output=_count(get("output_tokens")),
        cached=_count(get("cached_tokens")),
        cache_write=_count(get("cache_write_tokens")),
        reasoning=_count(get("reasoning_tokens")),
    ).inside()
    model = get("model")
    cost = _cost_said(found, usage.input, usage.output)
    if cost is None and model is not None:
        table = installed() if prices is None else prices
        priced = table.cost(
            string(get("provider")),
            string(model),
            usage,
            service=next(filter(None, map(found.rest.get, _SERVICE_TIERS)), None),
            time_ns=span.end_ns or span.start_ns,
        )
        cost = None if priced is None else priced.usd
    return {
        "model": _label(model),
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cached_tokens": usage.cached,
        "cost_usd": cost,
        "time_to_first_token_ms": _first_token_ms(span, found.values),
    }


_SERVICE_TIERS: Final = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
)
"""Attributes that say by which service, at which price, a provider answered."""


def _first_token_ms(span: Span, values: Mapping[str, Any]) -> float | None:
    if "first_token_s" in values:
        first: float = values["first_token_s"] * 1e3
        # Some write milliseconds under a name that means seconds; none came after the last token.
        late = span.end_ns is not None and first > (span.end_ns - span.start_ns) / MS
        return first / 1e3 if late else first
    if "first_token_ms" in values:
        return float(values["first_token_ms"])
    if not span.moments:
        return None
    tokens = [m.time_ns for m in span.moments if m.name in conventions.FIRST_TOKEN_EVENTS]
    return max(min(tokens) - span.start_ns, 0) / MS if tokens and span.start_ns else None


def _cost_said(
    found: MappedAttributes, input_tokens: int | None, output_tokens: int | None
) -> float | None:
    total = found.get("cost_usd")
    if total is not None:
        return None if total == 0 and (input_tokens or output_tokens) else total
    cost = 0.0
    for field, tokens in (("input_cost", input_tokens), ("output_cost", output_tokens)):
        part = found.get(field)
        if part is None or (part == 0 and tokens):
            return None
        cost += part
    return cost


def _computed_version(found: MappedAttributes) -> str | None:
    given = found.get("system")
    if given is not None:
        system = chat_messages.text_of(given)
    elif found.flat:
        system = chat_messages.flattened_system(found.flat)
    else:
        system = chat_messages.system_text(chat_messages.parse(found.get("input")) or ())
    if system is None:
        return None
    tools = found.get("tools")
    if tools is None and found.flat:
        tools = [v for n, v in sorted(found.flat.items()) if n.startswith(_TOOL_LISTS)]
    return chat_messages.version_of(system, tools, _requested_model(found))


def _requested_model(found: MappedAttributes) -> str | None:
    parameters = found.get("parameters")
    if isinstance(parameters, str) and '"model"' in parameters:
        try:
            asked = msgspec.json.decode(parameters, type=dict[str, Any]).get("model")
        except (ValueError, RecursionError):
            asked = None
        if isinstance(asked, str):
            return asked
    for name in ("gen_ai.request.model", "llm.request.model_name"):
        if name in found.rest:
            return string(found.rest[name])
    return string(found.get("model"))


_TOOL_LISTS: Final = ("llm.tools.", "llm.request.functions.")
_PREFIXES: Final = {
    "input": ("llm.input_messages.", "gen_ai.prompt."),
    "output": ("llm.output_messages.", "gen_ai.completion."),
}


def _flattened(flat: Mapping[str, Any], which: str) -> list[chat_messages.Message]:
    if not flat:
        return []
    return next((m for p in _PREFIXES[which] if (m := chat_messages.unflatten(flat, p))), [])


def _said(found: MappedAttributes, which: str) -> str | None:
    """Text of an output: of its messages where it is written so, else as it stands."""
    if found.flat and (text := chat_messages.answered(_flattened(found.flat, which))):
        return text
    given = found.get(which)
    if given is None:
        return None
    parsed = chat_messages.parse(given)
    return (
        chat_messages.plain(given)
        if parsed is None
        else chat_messages.answered(parsed) or string(given)
    )


def _conversation(event: Event, found: MappedAttributes) -> tuple[str | None, str | None]:
    """What the user said and what he was told, as an entry's input and output have it."""
    of_user = chat_messages.requested if event.kind == "interaction" else chat_messages.asked
    given = found.get("input")
    heard = _flattened(found.flat, "input") or chat_messages.parse(given)
    said = of_user(heard) if heard else chat_messages.plain(given)
    output = found.get("output")
    told = _flattened(found.flat, "output") or chat_messages.parse(output)
    if told is not None and told:
        answer = chat_messages.answered(m for m in told if not m.calls_tools)
    else:
        answer = chat_messages.plain(output)
    return said, answer


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
        attributes=_of_service(event),
    )


def _of_service(event: Event) -> dict[str, str] | None:
    """Attributes by which an event that says a part of another one names the same service."""
    service = (event.attributes or {}).get("service.name")
    return {"service.name": service} if service else None


def _closing(event: Event) -> Event:
    return replace(
        event,
        event_id=f"{event.event_id.removesuffix(':span')}:interaction",
        parent_id=event.parent_id,
        kind="interaction",
        name=None,
        model=None,
        input_tokens=None,
        output_tokens=None,
        cached_tokens=None,
        cost_usd=None,
        time_to_first_token_ms=None,
        content=None,
        tool_arguments=None,
        tool_result=None,
        attributes=_of_service(event),
    )


def _tool_name(name: str) -> str:
    """Return a tool's name, or of one that hands over the agent it hands over to."""
    match = conventions.HANDOFF.match(name)
    return (match and match["to"]) or name


def _label(value: Any) -> str | None:
    """Return a name as `ingest.otlp.truncation.label` does, whatever it was written as."""
    if isinstance(value, str) and 0 < len(value) <= MAX_LABEL and value.isascii():
        return value
    return label(string(value))


def _count(number: float | None) -> int | None:
    return None if number is None else int(number)
