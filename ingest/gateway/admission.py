"""Rules for every incoming event, of any format, and how events are packed into batches.

An event keeps its own time: one of 1970 is late, one more than five minutes ahead is refused, as
the worker would. The environment of the token replaces that of the event, its agents bound it. What
a bound token sends says so in its attribute `SCOPE`, whatever ids it names: the results of others
are not its to change (docs/decisions/0016-token-scope.md).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple

from msgspec.structs import force_setattr, replace

from ingest import codec
from ingest.access import Grant
from ingest.core.events import (
    MAX_ATTRIBUTES,
    MAX_FUTURE_NS,
    MAX_LINE_BYTES,
    SCOPE,
    Event,
    RejectionCode,
)
from ingest.otlp import IgnoredRecords
from ingest.otlp.conventions import DEFAULT_SERVICE
from ingest.producer import ProducerConfig, locality_key, partition_of

MAX_EVENTS: Final = ProducerConfig().max_events
MAX_BYTES: Final = ProducerConfig().max_bytes

Redact = Callable[[list[Event]], list[Event]]

_time_of = attrgetter("time_unix_nano")


ANYONE: Final = Grant("anyone")
"""The grant of a gateway without tokens, which only this machine can reach."""


class Refusal(NamedTuple):
    """Why one item of a request is no event; ``detail`` quotes no content.

    ``raw`` is what the item was, for its dead letter; empty when that is not kept.
    """

    code: str
    detail: str
    raw: bytes = b""


class EncodedRecord(NamedTuple):
    """Lines for one partition, at most one record."""

    partition: int
    lines: bytes
    events: int


@dataclass(slots=True)
class AdmissionResult:
    """What a request came to: ready to send, how many events that is, and what was refused."""

    batches: list[EncodedRecord] = field(default_factory=list)
    accepted: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    ignored: Counter[IgnoredRecords] = field(default_factory=Counter)

    @property
    def size(self) -> int:
        """Bytes of the batches."""
        return sum(len(batch.lines) for batch in self.batches)

    def reasons(self) -> str:
        """Refusals in one line: each code with its count and first detail.

        Examples
        --------
        >>> refusals = [Refusal("future_time", "late"), Refusal("future_time", "later")]
        >>> AdmissionResult(refusals=refusals).reasons()
        'future_time (2): late'
        """
        details: dict[str, str] = {}
        for refusal in self.refusals:
            details.setdefault(refusal.code, refusal.detail)
        counts = Counter(refusal.code for refusal in self.refusals)
        return "; ".join(
            f"{code} ({counts[code]}): {detail}".removesuffix(": ")
            for code, detail in details.items()
        )


def admit(
    events: list[Event],
    refusals: Iterable[Refusal],
    grant: Grant,
    redact: Redact,
    partitions: int,
    now_ns: int,
    item_of: Callable[[Event], Hashable] = id,
) -> AdmissionResult:
    """Apply the rules, redact, and pack.

    Parameters
    ----------
    events
        As decoded. Their environment is changed in place.
    refusals
        What the decoder refused.
    grant
        Of the sender.
    redact
        Makes events fit to be kept.
    partitions
        Of the topic.
    now_ns
        The present.
    item_of
        Which item of the request an event came from: itself, but of one span come several.
    """
    result = AdmissionResult(refusals=list(refusals))
    if not events:
        return result
    events = _bounded(events, grant, now_ns, result.refusals, item_of)
    if grant.environment is not None:
        for event in events:
            if event.environment != grant.environment:
                force_setattr(event, "environment", grant.environment)
    events = redact(events)
    if grant.scope is not None:
        events = [_within(event, grant.scope) for event in events]
    result.batches = pack(events, partitions, result.refusals)
    result.accepted = sum(batch.events for batch in result.batches)
    return result


def _within(event: Event, scope: str) -> Event:
    attributes = event.attributes or {}
    if len(attributes) >= MAX_ATTRIBUTES:  # the contract has no room for another
        attributes = dict(islice(attributes.items(), MAX_ATTRIBUTES - 1))
    return replace(event, attributes={**attributes, SCOPE: scope})


def span_of(event: Event) -> str:
    """Trace and span id of an event that came by OTLP, without its role.

    Examples
    --------
    >>> span_of(Event(event_id="t:s:span", time_unix_nano=1, agent="shop", kind="llm_call"))
    't:s'
    """
    return event.event_id.rpartition(":")[0]


def _bounded(
    events: list[Event],
    grant: Grant,
    now_ns: int,
    refusals: list[Refusal],
    item_of: Callable[[Event], Hashable],
) -> list[Event]:
    limit = now_ns + MAX_FUTURE_NS
    if max(map(_time_of, events)) > limit:
        detail = "more than 5 minutes ahead of the gateway"
        ahead = {item_of(e): e for e in events if e.time_unix_nano > limit}
        refusals += [
            Refusal(RejectionCode.FUTURE_TIME, detail, codec.encode([e])) for e in ahead.values()
        ]
        events = [event for event in events if event.time_unix_nano <= limit]
    agents = grant.agents
    if agents is not None:
        events = _attributed(events, agents)
        foreign = Refusal(RejectionCode.FORBIDDEN, "this token may not send for that agent")
        refusals += [foreign] * len({item_of(e) for e in events if e.agent not in agents})
        events = [event for event in events if event.agent in agents]
    return events


def _attributed(events: list[Event], agents: frozenset[str]) -> list[Event]:
    """Give events that name no agent the one of their trace in this request, else the only one.

    Such an event carries the name of its service instead.
    """
    of_trace = {event.interaction_id: event.agent for event in events if event.agent in agents}
    only = next(iter(agents)) if len(agents) == 1 else None
    services = {event.agent for event in events if _is_of_service(event)} | {DEFAULT_SERVICE}
    return [
        replace(event, agent=of_trace.get(event.interaction_id) or only or event.agent)
        if event.agent in services and event.agent not in agents
        else event
        for event in events
    ]


def _is_of_service(event: Event) -> bool:
    """Whether an event bears the name of its service, because it names no agent."""
    get = (event.attributes or {}).get
    return get("service.name") == event.agent or get("driftline.agent_from") == "service"


def pack(events: Sequence[Event], partitions: int, refusals: list[Refusal]) -> list[EncodedRecord]:
    """Encode events and group them by partition, each batch small enough for one record.

    An event whose line is longer than a worker takes is refused here.
    """
    by_partition: dict[int, list[Event]] = defaultdict(list)
    by_key: dict[str, list[Event]] = {}
    for event in events:
        key = locality_key(event)
        group = by_key.get(key)
        if group is None:
            group = by_key[key] = by_partition[partition_of(key, partitions)]
        group.append(event)
    batches: list[EncodedRecord] = []
    for partition, group in by_partition.items():
        for start in range(0, len(group), MAX_EVENTS):
            some = group[start : start + MAX_EVENTS]
            lines = codec.encode(some)
            if len(lines) <= MAX_BYTES:
                batches.append(EncodedRecord(partition, lines, len(some)))
            else:
                batches += _split(partition, lines, refusals)
    return batches


def _split(partition: int, encoded: bytes, refusals: list[Refusal]) -> list[EncodedRecord]:
    batches: list[EncodedRecord] = []
    lines: list[bytes] = []
    size = 0
    for line in encoded.split(b"\n"):
        if len(line) > MAX_LINE_BYTES:
            refusals.append(
                Refusal(RejectionCode.LINE_TOO_LONG, f"{len(line)} bytes, at most {MAX_LINE_BYTES}")
            )
            continue
        if lines and size + len(line) >= MAX_BYTES:
            batches.append(EncodedRecord(partition, b"\n".join(lines), len(lines)))
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        batches.append(EncodedRecord(partition, b"\n".join(lines), len(lines)))
    return batches
