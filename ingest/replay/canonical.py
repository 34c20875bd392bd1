"""Canonical events, one per line: nothing to translate, everything to check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ingest import codec
from ingest.core.errors import Rejected
from ingest.core.events import MAX_LINE_BYTES, Event

_decode = msgspec.json.Decoder(Event).decode


def recognises(record: Any) -> bool:
    """Tell whether a decoded JSON value looks like a canonical event."""
    return isinstance(record, dict) and {"event_id", "kind"} <= record.keys()


def read(record: bytes) -> Iterator[Event | Rejected]:
    """Yield the event of one line, or why it is none, by the rules of the worker."""
    try:
        if len(record) <= MAX_LINE_BYTES:
            record.decode()
            yield _decode(record)
            return
    except (ValueError, RecursionError):
        pass
    for rejection in codec.decode([record], [_FAR_FUTURE_NS]).rejections:
        yield Rejected(rejection.code, rejection.detail)


# Whether a time lies in the future only a caller who knows the present can say.
_FAR_FUTURE_NS = 4 * 10**18
