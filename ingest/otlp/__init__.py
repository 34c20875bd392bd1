"""OTLP trace and log requests, protobuf or JSON, become events; a bad span costs only itself.

``protobuf`` and ``json`` decode, each to the same `attributes.Span` and `log_records.Record`;
``dialects`` says what their attributes mean, ``translate`` and ``log_records`` make events of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec.structs import replace

from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.limits import Limits
from ingest.otlp import json, protobuf
from ingest.otlp.attributes import Span, string
from ingest.otlp.dialects import EXECUTIONS
from ingest.otlp.log_records import Ignored, Record, name_of
from ingest.otlp.log_records import translate as translate_record
from ingest.otlp.structures import encode
from ingest.otlp.translate import events_of as events_of_span
from ingest.otlp.truncation import capped
from ingest.prices import Prices

Encoding = Literal["protobuf", "json"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one span or log record is no event; ``detail`` names fields and quotes no content.

    ``raw`` is the span or record as JSON text.
    """

    code: RejectionCode
    detail: str
    raw: bytes = field(default=b"", repr=False, compare=False)


class IgnoredRecords(NamedTuple):
    """Log records that are no events are counted by these."""

    service: str
    scope: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Translation:
    """What a request came to.

    Attributes
    ----------
    events
        In the order of the request.
    rejected
        One for each span or log record that cannot become an event.
    ignored
        Log records that are neither: they speak of no agent, or repeat what others say.
    """

    events: list[Event] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    ignored: Counter[IgnoredRecords] = field(default_factory=Counter)


def events_of_traces(
    body: bytes, *, encoding: Encoding, limits: Limits, prices: Prices | None = None
) -> Translation:
    """Events of an ``ExportTraceServiceRequest``.

    Parameters
    ----------
    body
        The request, unpacked.
    encoding
        How it is written.
    limits
        ``max_records`` bounds the spans, ``max_depth`` nested values; attributes beyond
        ``max_attributes`` and text beyond ``max_attribute_length`` are cut.
    prices
        See `ingest.otlp.translate.event_of`.

    Raises
    ------
    Rejected
        When the request as a whole cannot be read.
    """
    spans = protobuf.spans(body, limits) if encoding == "protobuf" else json.spans(body, limits)
    out = Translation()
    for span in spans:
        try:
            if isinstance(span, Rejected):
                raise span
            out.events.extend(events_of_span(span, prices))
        except Rejected as error:
            out.rejected.append(_rejection(error, span))
    _fail_calls_of_executions(out.events)
    return out


def events_of_logs(body: bytes, *, encoding: Encoding, limits: Limits) -> Translation:
    """Events of an ``ExportLogsServiceRequest``; parameters and errors as `events_of_traces`."""
    records = json.records(body, limits) if encoding == "json" else protobuf.records(body, limits)
    out = Translation()
    heard: dict[str, tuple[int, IgnoredRecords]] = {}
    repeated: set[int] = set()
    for record in records:
        try:
            if isinstance(record, Rejected):
                raise record
            found = translate_record(record)
        except Rejected as error:
            out.rejected.append(_rejection(error, record))
            continue
        if isinstance(found, Ignored):
            out.ignored[_counted(record, found)] += 1
            continue
        if len(found) == 1 and found[0].kind == "user_message" and found[0].parent_id:
            # A call logs its whole history: only what the user said last is new.
            before = heard.get(found[0].parent_id)
            if before is not None:
                repeated.add(before[0])
                out.ignored[before[1]] += 1
            counted = _counted(record, Ignored(name_of(record), "history"))
            heard[found[0].parent_id] = len(out.events), counted
        out.events.extend(found)
    if repeated:
        out.events[:] = [e for n, e in enumerate(out.events) if n not in repeated]
    return out


def _rejection(error: Rejected, item: Span | Record | Rejected) -> Rejection:
    raw = error.raw if isinstance(item, Rejected) else encode(item)
    return Rejection(RejectionCode(error.code), error.detail, raw)


def _counted(record: Record, ignored: Ignored) -> IgnoredRecords:
    service = string(record.resource.get("service.name")) or ""
    texts = (service, record.scope, ignored.name or "(no event name)", ignored.reason)
    return IgnoredRecords(*(capped(text, 128) for text in texts))


def _fail_calls_of_executions(events: list[Event]) -> None:
    """A tool call that came with the span of its execution has failed when that has.

    Where they come apart, only the span says that it failed.
    """
    failed = {
        event.parent_id: event
        for event in events
        if event.status == "error"
        and event.kind == "span"
        and (event.attributes or {}).get("span.name") in EXECUTIONS
    }
    if failed:
        for place, event in enumerate(events):
            cause = failed.get(event.event_id)
            if cause is not None and event.kind == "tool_call" and event.status == "ok":
                events[place] = replace(
                    event,
                    status="error",
                    error_type=cause.error_type,
                    error_message=cause.error_message,
                )
