"""Events that already happened are sent again: in order, at a chosen pace, or moved to now."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Final

from msgspec.structs import replace
from xxhash import xxh3_128_hexdigest

from ingest.core.errors import Rejected
from ingest.core.events import MAX_FUTURE_NS, Event, RejectionCode
from ingest.otlp.translate import DIALECT
from ingest.producer import Producer

ORDERED: Final = 100_000
"""Events that are put in order of time together; a smaller file is in order as a whole."""

TICK_S: Final = 0.1
"""Paced events that fall due within a tick are sent together."""

BURST: Final = 1_000
"""Events sent between two reports."""

MAX_KEY: Final = 256

_NS: Final = 10**9


@dataclass(slots=True)
class Tally:
    """What came of the items so far: read, of these accepted, and rejected by code.

    ``details`` holds the first explanation per code, ``last_ns`` the time of the event that came
    last, None before the first. ``unknown`` counts accepted spans of no known dialect.
    """

    read: int = 0
    accepted: int = 0
    unknown: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    last_ns: int | None = None

    def reject(self, code: str, detail: str, count: int = 1) -> None:
        """Count rejections of one kind."""
        self.rejected[str(code)] += count
        self.details.setdefault(str(code), detail)


@dataclass(frozen=True, slots=True)
class Clock:
    """The present and a way to wait for the future."""

    now_ns: Callable[[], int] = time.time_ns
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Shift:
    """Moves events in time and gives them identities of their own.

    The new ids follow from the old ones and the distance, so moving by the same distance again
    yields the same events.

    Parameters
    ----------
    delta_ns
        How far, in nanoseconds.

    Examples
    --------
    >>> event = Event(event_id="a", time_unix_nano=1, agent="shop", kind="tool_call")
    >>> moved = Shift(16)(event)
    >>> moved.event_id, moved.time_unix_nano, moved.session_id
    ('a+10', 17, None)
    """

    delta_ns: int

    def __call__(self, event: Event) -> Event:
        """Return the event at its new time under its new ids."""
        return replace(
            event,
            time_unix_nano=event.time_unix_nano + self.delta_ns,
            event_id=self._id(event.event_id),
            **{
                name: self._id(old)
                for name in ("session_id", "interaction_id", "parent_id", "target")
                if (old := getattr(event, name)) is not None
            },
        )

    def _id(self, old: str) -> str:
        new = f"{old}{self.delta_ns:+x}"
        return new if len(new) <= MAX_KEY else xxh3_128_hexdigest(new.encode())


def shift_to_now(
    items: Iterable[Event | Rejected], now_ns: int, speed: float = math.inf
) -> Shift | None:
    """Shift after which the last of the items happens at the moment it is sent.

    At full speed that is now; at a pace it is when the replay will be over, so that no event is
    ever sent before its time. None when there is no event.
    """
    first, last = None, None
    for item in items:
        if isinstance(item, Event):
            at = item.time_unix_nano
            first = at if first is None else min(first, at)
            last = at if last is None else max(last, at)
    if first is None or last is None:
        return None
    return Shift(end_ns(now_ns, last - first, speed) - last)


def end_ns(now_ns: int, span_ns: int, speed: float) -> int:
    """When events that span ``span_ns`` end, if none of them may be sent before its time."""
    return now_ns if math.isinf(speed) else now_ns + int(span_ns / max(speed, 1.0))


def replay(
    items: Iterable[Event | Rejected],
    producer: Producer,
    *,
    speed: float = math.inf,
    clock: Clock = Clock(),
    report: Callable[[Tally], None] = lambda tally: None,
    redact: Callable[[list[Event]], list[Event]] = lambda events: events,
) -> Tally:
    """Send events, oldest first, and count what happened.

    Parameters
    ----------
    items
        Events and rejections, as `ingest.replay.read` yields them.
    producer
        Where to; when this returns, it has acknowledged everything.
    speed
        Seconds of event time per second; infinite for as fast as possible.
    clock
        The present.
    report
        Called now and then with the tally so far.
    redact
        What takes secrets and personal data out of events, as `ingest.redaction.Redactor.apply`.

    Raises
    ------
    Unavailable
        When the producer cannot keep the events.

    Notes
    -----
    Order holds within each `ORDERED` events. An event of the future is rejected here already, by
    the rule of the worker.
    """
    tally = Tally()
    for burst in _bursts(_in_order(items, tally), speed, clock):
        limit = clock.now_ns() + MAX_FUTURE_NS
        present = [event for event in burst if event.time_unix_nano <= limit]
        producer.send(redact(present))
        if not math.isinf(speed):
            producer.flush()
        tally.accepted += len(present)
        tally.unknown += sum(map(_is_unknown, present))
        tally.last_ns = burst[-1].time_unix_nano
        if len(present) < len(burst):
            future = len(burst) - len(present)
            tally.reject(RejectionCode.FUTURE_TIME, "more than 5 minutes ahead", future)
        report(tally)
    producer.flush()
    report(tally)
    return tally


def _is_unknown(event: Event) -> bool:
    return event.kind == "span" and DIALECT not in (event.attributes or {})


def _in_order(items: Iterable[Event | Rejected], tally: Tally) -> Iterator[Event]:
    iterator = iter(items)
    while some := list(islice(iterator, ORDERED)):
        tally.read += len(some)
        for item in some:
            if isinstance(item, Rejected):
                tally.reject(item.code, item.detail)
        events = (item for item in some if isinstance(item, Event))
        yield from sorted(events, key=attrgetter("time_unix_nano"))


def _bursts(events: Iterator[Event], speed: float, clock: Clock) -> Iterator[list[Event]]:
    """Cut events into lists, each handed out when its last event is due."""
    if math.isinf(speed):
        while burst := list(islice(events, BURST)):
            yield burst
        return
    burst, origin_ns, started_ns = [], None, clock.now_ns()
    for event in events:
        origin_ns = event.time_unix_nano if origin_ns is None else origin_ns
        due_ns = started_ns + (event.time_unix_nano - origin_ns) / speed
        if burst and (len(burst) == BURST or due_ns > clock.now_ns()):
            yield burst
            burst = []
        wait_s = (due_ns - clock.now_ns()) / _NS
        if wait_s > 0:
            clock.sleep(max(wait_s, TICK_S))
        burst.append(event)
    if burst:
        yield burst
