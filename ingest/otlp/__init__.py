"""OTLP trace and log requests, protobuf or JSON, become events; a bad span costs only itself.

``protobuf`` and ``json`` decode, each to the same `attributes.Span` and `log_records.Record`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.limits import Limits
from ingest.otlp import json, protobuf
from ingest.otlp.log_records import events_of as events_of_record
from ingest.otlp.translate import events_of as events_of_span
from ingest.prices import Prices

Encoding = Literal["protobuf", "json"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one span or log record is no event; ``detail`` names fields and quotes no content."""

    code: RejectionCode
    detail: str


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
        Log records that speak of no agent; they are neither.
    """

    events: list[Event] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    ignored: int = 0


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
    return _translated(spans, lambda span: events_of_span(span, prices))


def events_of_logs(body: bytes, *, encoding: Encoding, limits: Limits) -> Translation:
    """Events of an ``ExportLogsServiceRequest``; parameters and errors as `events_of_traces`."""
    records = json.records(body, limits) if encoding == "json" else protobuf.records(body, limits)
    return _translated(records, lambda record: list(events_of_record(record)))


_Item = TypeVar("_Item")


def _translated(
    items: Iterable[_Item | Rejected], events_of: Callable[[_Item], list[Event]]
) -> Translation:
    events: list[Event] = []
    rejected: list[Rejection] = []
    ignored = 0
    for item in items:
        try:
            if isinstance(item, Rejected):
                raise item
            found = events_of(item)
        except Rejected as error:
            rejected.append(Rejection(RejectionCode(error.code), error.detail))
        else:
            events += found
            ignored += not found
    return Translation(events, rejected, ignored)
