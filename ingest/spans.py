"""One span becomes one event, by the tables of `ingest.conventions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ingest import conventions as names
from ingest.errors import Rejected
from ingest.events import Event, Kind, RejectionCode
from ingest.values import attributes, content, label

MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """A span in OpenTelemetry's terms, whatever its encoding was.

    Attributes
    ----------
    trace_id, span_id, parent_id
        Lower-case hexadecimal, 32 and 16 digits; no parent at the root.
    end_ns
        None when the exporter did not say.
    attributes
        The span's own, and below them those of its exception events.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int | None
    failed: bool = False
    status_message: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    resource: Mapping[str, Any] = field(default_factory=dict)


def event_of(span: Span, agent: str | None = None) -> Event:
    """Translate a span; what no field of the contract takes stays an attribute.

    Parameters
    ----------
    span
        Any span, of an agent or not.
    agent
        Name of the agent when the span does not say, for instance that of its trace.

    Raises
    ------
    Rejected
        When the span ends before it starts.

    Notes
    -----
    The event is a function of the span and ``agent`` alone, so a span sent twice is one event, and
    one id with two payloads stays visible as a collision. A span without an end counts as complete
    at its start, with no duration. Tokens, cost and model belong to model calls only: agent spans
    repeat the sums of their children.
    """
    if span.end_ns is not None and span.end_ns < span.start_ns:
        raise Rejected(RejectionCode.INVALID_FIELD, "span: ends before it starts")
    rest = dict(span.attributes)
    kind = _kind(span)
    is_tool, is_model = kind == "tool_call", kind == "llm_call"
    error_type = _text(rest, names.ERROR_TYPE)
    failed = span.failed or error_type is not None
    model_fields: dict[str, Any] = {}
    if is_model:
        input_tokens = _take_count(rest, names.INPUT_TOKENS)
        output_tokens = _take_count(rest, names.OUTPUT_TOKENS)
        first_token_s = _number(rest, names.TIME_TO_FIRST_TOKEN_S)
        model_fields = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cached_tokens": _take_count(rest, names.CACHED_TOKENS),
            "cost_usd": cost_of(rest, input_tokens, output_tokens),
            "model": label(_take(rest, names.MODEL)),
            "time_to_first_token_ms": None if first_token_s is None else first_token_s * 1e3,
        }
    trace = span.trace_id
    name = _take(rest, names.TOOL) if is_tool else None
    return Event(
        event_id=f"{trace}:{span.span_id}:span",
        time_unix_nano=span.start_ns if span.end_ns is None else span.end_ns,
        duration_ms=None if span.end_ns is None else (span.end_ns - span.start_ns) / MS,
        environment=label(_text({**span.resource, **rest}, names.ENVIRONMENT)) or "production",
        agent=label(_agent(span, agent)) or names.DEFAULT_SERVICE,
        agent_version=label(
            _take(rest, names.AGENT_VERSION) or _text(span.resource, names.AGENT_VERSION)
        ),
        session_id=label(_take(rest, names.SESSION)),
        interaction_id=trace,
        parent_id=f"{trace}:{span.parent_id}:span" if span.parent_id else None,
        user_id=label(_take(rest, names.USER)),
        kind=kind,
        name=label(name or span.name) if kind in ("tool_call", "retrieval", "decision") else None,
        status="error" if failed else "ok",
        error_type=label(error_type or ("error" if failed else None)),
        error_message=content(span.status_message or _take(rest, names.ERROR_MESSAGE)),
        tool_arguments=content(_take(rest, names.TOOL_ARGUMENTS)) if is_tool else None,
        tool_result=content(_take(rest, names.TOOL_RESULT)) if is_tool else None,
        content=None if is_tool else content(_take(rest, names.CONTENT)),
        attributes=attributes({k: _string(v) for k, v in rest.items()} | {"span.name": span.name}),
        **model_fields,
    )


def agent_of(spans: Sequence[Span]) -> str | None:
    """Name of the agent that a trace's spans speak of: the root's, else the first one given."""
    ordered = sorted(spans, key=lambda span: span.parent_id is not None)
    return next((name for s in ordered if (name := _text(s.attributes, names.AGENT))), None)


def cost_of(
    span_attributes: Mapping[str, Any], input_tokens: int | None, output_tokens: int | None
) -> float | None:
    """Cost of a model call in US dollars; None when any part of it has no known price.

    Instrumentations write 0 for a price they do not know, so a zero for tokens used is no cost.
    """
    total = _number(span_attributes, names.COST)
    if total is not None:
        return None if total == 0 and (input_tokens or output_tokens) else total
    parts = (
        (_number(span_attributes, names.INPUT_COST), input_tokens),
        (_number(span_attributes, names.OUTPUT_COST), output_tokens),
    )
    cost = 0.0
    for part, tokens in parts:
        if part is None or (part == 0 and tokens):
            return None
        cost += part
    return cost


def _kind(span: Span) -> Kind:
    operation = _text(span.attributes, names.OPERATION)
    span_kind = _text(span.attributes, names.SPAN_KIND)
    kind = names.KIND_BY_OPERATION.get(operation or "") or names.KIND_BY_SPAN_KIND.get(
        (span_kind or "").upper(), names.DEFAULT_KIND
    )
    return names.AT_ROOT.get(kind, kind) if span.parent_id is None else kind


def _agent(span: Span, fallback: str | None) -> str | None:
    own = _text(span.attributes, names.AGENT)
    service = _text({**span.resource, **span.attributes}, names.SERVICE)
    return own or fallback or service


def _take(values: dict[str, Any], table: Sequence[str]) -> str | None:
    """Remove and return the first of the named values that is there."""
    for name in table:
        if name in values and (text := _string(values[name])):
            del values[name]
            return text
    return None


def _text(values: Mapping[str, Any], table: Sequence[str]) -> str | None:
    return next((text for name in table if (text := _string(values.get(name)))), None)


def _take_count(values: dict[str, Any], table: Sequence[str]) -> int | None:
    number = _number(values, table)
    if number is None:
        return None
    _take(values, table)
    return int(number)


def _number(values: Mapping[str, Any], table: Sequence[str]) -> float | None:
    """Return the first of the named values that is a number the contract can hold."""
    for name in table:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15:
            return value
    return None


def _string(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
