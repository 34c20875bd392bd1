"""A rating, a label or a comment becomes an event, whenever it arrives.

One rating per item, as the interface that asked knows it:

* ``thumbs``: "up" or "down"; true and false, 1 and 0 do as well
* ``stars``: 1 to 5
* ``csat``: a number on ``scale``, which is [1, 5] unless given; the scale may run downwards
* ``comment``: text, alone or with a rating
* ``label``: "pass" or "fail", what somebody who looked says of the work itself: an event of kind
  outcome, against which judges are measured

It speaks of exactly one of ``session_id``, ``interaction_id`` and ``trace_id``. ``time`` says when
it was given, ISO 8601 or nanoseconds since 1970. The event's id is a function of all that, so a
retry counts once; without a time, a repetition of the last rating within `RETRY_NS` is taken for a
retry.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from xxhash import xxh3_128_hexdigest

from ingest.core.errors import Rejected
from ingest.core.events import LABEL, Event, RejectionCode
from ingest.otlp.conventions import DEFAULT_SERVICE
from ingest.otlp.truncation import content, ns_from_iso

RETRY_NS: Final = 10 * 60 * 10**9
"""The same rating of the same target by the same user within ten minutes is one."""

_REMEMBERED: Final = 50_000
_NS_RANGE: Final = (10**17, 4_102_444_800_000_000_000)
"""1973 to 2100: a smaller number was meant as seconds or milliseconds."""

_Id = Annotated[str, Meta(min_length=1, max_length=256)]
_Name = Annotated[str, Meta(max_length=256)]


class Feedback(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """What a client posts; an unknown field is an error, for it may be the rating misspelt."""

    session_id: _Id | None = None
    interaction_id: _Id | None = None
    trace_id: _Id | None = None
    agent: _Id | None = None
    environment: _Id | None = None
    user_id: _Name | None = None
    name: _Name | None = None
    thumbs: str | bool | int | None = None
    stars: int | float | None = None
    csat: int | float | None = None
    scale: tuple[float, float] | None = None
    label: Literal["pass", "fail"] | None = None
    comment: Annotated[str, Meta(max_length=65_536)] | None = None
    reason: _Name | None = None
    time: int | str | None = None


_decode = msgspec.json.Decoder(Feedback).decode
_TARGETS: Final = ("session_id", "interaction_id", "trace_id")
_RATINGS: Final = ("thumbs", "stars", "csat", "label")
_THUMBS: Final[dict[Any, float]] = {"up": 1.0, "down": 0.0, 1: 1.0, 0: 0.0}


@dataclass(slots=True)
class Memory:
    """The last rating per target, name and user that came without a time, and when it came."""

    seen: OrderedDict[tuple[str | None, ...], tuple[str, int]] = field(default_factory=OrderedDict)

    def time_of(self, key: tuple[str | None, ...], said: str, now_ns: int) -> int:
        """When this was said first, if it repeats the last thing said; else now."""
        last = self.seen.pop(key, None)
        if last is not None and last[0] == said and now_ns - last[1] <= RETRY_NS:
            now_ns = last[1]
        self.seen[key] = said, now_ns
        if len(self.seen) > _REMEMBERED:
            self.seen.popitem(last=False)
        return now_ns


def event_of(raw: bytes | msgspec.Raw, memory: Memory, now_ns: int, agent: str | None) -> Event:
    """Read one feedback.

    Parameters
    ----------
    raw
        A JSON object.
    memory
        What was said lately.
    now_ns
        The present, for a feedback that does not say when.
    agent
        Agent of a feedback that names none.

    Raises
    ------
    Rejected
        ``invalid_json``, ``missing_field`` or ``invalid_field``; the message says what is expected.

    Examples
    --------
    >>> event = event_of(b'{"session_id": "s", "stars": 4}', Memory(), 10**18, "shop")
    >>> event.kind, event.name, event.value, event.session_id
    ('feedback', 'stars', 0.75, 's')
    """
    given = _read(raw)
    targets = [name for name in _TARGETS if getattr(given, name) is not None]
    if len(targets) != 1:
        raise Rejected(
            RejectionCode.MISSING_FIELD if not targets else RejectionCode.INVALID_FIELD,
            f"expected exactly one of {', '.join(_TARGETS)}, got {' and '.join(targets) or 'none'}",
        )
    ratings = [name for name in _RATINGS if getattr(given, name) is not None]
    if len(ratings) > 1 or not (ratings or given.comment):
        raise Rejected(
            RejectionCode.MISSING_FIELD if not ratings else RejectionCode.INVALID_FIELD,
            f"expected one of {', '.join(_RATINGS)}, or a comment, got"
            f" {' and '.join(ratings) or 'none'}",
        )
    if given.scale is not None and given.csat is None:
        raise Rejected(RejectionCode.INVALID_FIELD, "scale: only csat has a scale")
    value = _value(given, ratings[0]) if ratings else None
    name = LABEL if given.label else given.name or (ratings[0] if ratings else "comment")
    interaction = given.interaction_id or (_trace(given.trace_id) if given.trace_id else None)
    event = Event(
        event_id="feedback",
        time_unix_nano=0,
        agent=given.agent or agent or DEFAULT_SERVICE,
        environment=given.environment or "production",
        kind="outcome" if given.label else "feedback",
        session_id=given.session_id,
        interaction_id=interaction,
        user_id=given.user_id or None,
        name=name,
        value=value,
        content=content(given.comment),
        reason=given.reason or None,
    )
    said = xxh3_128_hexdigest(msgspec.json.encode(event))
    if given.time is None:
        key = (event.environment, given.session_id, interaction, name, event.user_id)
        time_ns = memory.time_of(key, said, now_ns)
    else:
        time_ns = _time(given.time)
    event_id = f"feedback:{xxh3_128_hexdigest(f'{said}:{time_ns}'.encode())}"
    return msgspec.structs.replace(event, event_id=event_id, time_unix_nano=time_ns)


def _read(raw: bytes | msgspec.Raw) -> Feedback:
    try:
        return _decode(raw)
    except msgspec.ValidationError as error:
        # These messages name types and paths, not values, save for the names of unknown fields.
        text = str(error)
        if "unknown field" in text:
            text = f"an unknown field; known are {', '.join(Feedback.__struct_fields__)}"
        raise Rejected(RejectionCode.INVALID_FIELD, text) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(RejectionCode.INVALID_JSON, str(error)) from None
    except RecursionError:
        raise Rejected(RejectionCode.TOO_DEEP, "nested too deeply") from None


def _value(given: Feedback, rating: str) -> float:
    """The rating from 0, worst, to 1, best."""
    if rating == "label":
        return float(given.label == "pass")
    if rating == "thumbs":
        thumbs = given.thumbs.lower() if isinstance(given.thumbs, str) else given.thumbs
        if thumbs not in _THUMBS:
            raise Rejected(RejectionCode.INVALID_FIELD, 'thumbs: expected "up" or "down"')
        return _THUMBS[thumbs]
    low, high = (1.0, 5.0) if given.scale is None or rating == "stars" else given.scale
    if not math.isfinite(high - low) or low == high:
        raise Rejected(
            RejectionCode.INVALID_FIELD, "scale: expected two different numbers, not too far apart"
        )
    number = given.stars if rating == "stars" else given.csat
    if number is None or not min(low, high) <= number <= max(low, high):
        raise Rejected(
            RejectionCode.INVALID_FIELD, f"{rating}: expected a number from {low:g} to {high:g}"
        )
    return (number - low) / (high - low)


def _trace(text: str) -> str:
    """Trace id as events carry it: 32 hexadecimal digits, lower case."""
    digits = text.replace("-", "").lower()
    if len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):
        raise Rejected(RejectionCode.INVALID_FIELD, "trace_id: expected 32 hexadecimal digits")
    return digits


def _time(given: int | str) -> int:
    try:
        time_ns = ns_from_iso(given) if isinstance(given, str) else given
    except (ValueError, OverflowError):
        time_ns = -1
    if not _NS_RANGE[0] <= time_ns <= _NS_RANGE[1]:
        raise Rejected(
            RejectionCode.INVALID_FIELD, "time: expected ISO 8601 or nanoseconds since 1970"
        )
    return time_ns
