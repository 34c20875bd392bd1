"""Canonical events to NDJSON and back, columnar, one bad line at a time.

msgspec is the only JSON parser: strict, validating against the contract, and applied with ``map``,
so that no Python code runs per event. A record with a bad line is decoded line by line instead;
the good lines come out the same either way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec.structs import astuple
from xxhash import xxh3_64_intdigest

from ingest.core.events import (
    FIELDS,
    MAX_FUTURE_NS,
    MAX_LINE_BYTES,
    Event,
    RejectionCode,
)

_decoder = msgspec.json.Decoder(Event)
_encode = msgspec.json.Encoder(order="deterministic").encode

_NUMBERS: Final[dict[str, pl.DataType]] = {
    "schema_version": pl.UInt8(),
    "time_unix_nano": pl.Int64(),
    "duration_ms": pl.Float64(),
    "time_to_first_token_ms": pl.Float64(),
    "input_tokens": pl.UInt64(),
    "output_tokens": pl.UInt64(),
    "cached_tokens": pl.UInt64(),
    "cache_write_tokens": pl.UInt64(),
    "reasoning_tokens": pl.UInt64(),
    "cost_usd": pl.Float64(),
    "value": pl.Float64(),
}

_OPEN, _CLOSE = b"{}"

_CHUNK: Final = 1_500
"""Events turned into columns at a time: few enough to stay in the processor's cache."""

_TOGETHER: Final = 250
"""Lines parsed in one call, of several records where these are short."""

CANONICAL_HEADER: Final = ("content-type", b"application/x-ndjson; profile=driftline-canonical")
"""Kafka header of a record whose lines are as `encode` writes them, so that nobody who reads it
needs to write them again to tell one payload from another."""

SCHEMA: Final[dict[str, pl.DataType]] = {
    **{name: _NUMBERS.get(name, pl.String()) for name in FIELDS},
    "payload_hash": pl.UInt64(),
    "record": pl.UInt32(),
    "line": pl.UInt32(),
}
"""Columns of a decoded frame: the contract's fields, then hash and coordinates."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that is not an event, with where it stood but not what it said.

    ``record`` indexes the decoded sequence, ``line`` counts from 0 within the record, ``detail``
    names the offending field and never quotes content.
    """

    record: int
    line: int
    code: RejectionCode
    detail: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a sequence of records came to.

    Attributes
    ----------
    frame
        Accepted events, columns as in `SCHEMA`, in the order of the lines.
    lines
        Lines per record, shape (n_records,): accepted plus rejected.
    rejections
        The other lines.
    """

    frame: pl.DataFrame
    lines: npt.NDArray[np.int64]
    rejections: list[Rejection]


def concat(parts: Sequence[Decoded]) -> Decoded:
    """Several sequences of records as one; the frame is copied into one chunk.

    Whatever looks at rows would otherwise copy it first, each time.
    """
    starts = np.cumsum([0, *(len(part.lines) for part in parts)])
    frames = [
        part.frame.with_columns(pl.col("record") + int(start))
        for part, start in zip(parts, starts[:-1], strict=True)
    ]
    rejections = [
        replace(rejection, record=rejection.record + int(start))
        for part, start in zip(parts, starts[:-1], strict=True)
        for rejection in part.rejections
    ]
    lines = np.concatenate([part.lines for part in parts])
    return Decoded(pl.concat(frames, rechunk=True), lines, rejections)


def encode(events: Iterable[Event]) -> bytes:
    r"""Encode events as NDJSON, canonical form: fields in contract order, nulls left out.

    Examples
    --------
    >>> encode([Event(event_id="a", time_unix_nano=1, agent="shop", kind="tool_call")])
    b'{"event_id":"a","time_unix_nano":1,"agent":"shop","kind":"tool_call"}'
    """
    return b"\n".join(map(_encode, events))


def payload_hash(event: Event) -> int:
    """Identify a payload: xxh3-64 of the event's canonical form."""
    return xxh3_64_intdigest(_encode(event))


def split_lines(value: bytes | None) -> list[bytes]:
    """Lines of a record; a final newline ends the last line and opens none."""
    lines = (value or b"").split(b"\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def decode(
    values: Sequence[bytes | None],
    timestamps_ns: Sequence[int],
    canonical: Sequence[bool] | None = None,
) -> Decoded:
    """Decode Kafka record values to a frame and rejections.

    Parameters
    ----------
    values
        Record values, each one or many NDJSON lines.
    timestamps_ns
        Timestamp of each record, ns since 1970. An event dated `MAX_FUTURE_NS` after its record is
        rejected; measuring against the record, not the clock, gives a replay the same verdict.
    canonical
        Which records claim, by `CANONICAL_HEADER`, to be in canonical form: their lines are hashed
        as they are. A false claim harms only the books, for an event that is repeated in another
        form is then a collision instead of a duplicate.

    Returns
    -------
    Decoded
        Every line is either a row of the frame or a rejection.
    """
    rejections: list[Rejection] = []
    counts = np.zeros(len(values), dtype=np.int64)
    frames: list[pl.DataFrame] = []
    chunk = _Chunk()
    for records, lines in _groups(values, counts, canonical):
        believed = canonical is not None and canonical[records[0]]
        for good in _decode_group(records, lines, counts, rejections):
            chunk.add(good, believed)
        if len(chunk.events) >= _CHUNK:
            frames.append(chunk.frame())
            chunk = _Chunk()
    frames.append(chunk.frame())
    return _without_future(Decoded(_whole(frames), counts, rejections), values, timestamps_ns)


@dataclass(slots=True)
class _Good:
    """Events, the lines they were, and where each stands: record, and line within it."""

    events: list[Event]
    written: list[bytes]
    records: npt.NDArray[np.uint32]
    lines: npt.NDArray[np.uint32]


def _groups(
    values: Sequence[bytes | None],
    counts: npt.NDArray[np.int64],
    canonical: Sequence[bool] | None,
) -> Iterator[tuple[list[int], list[bytes]]]:
    """Records that make the same claim, and their lines, some hundred at a time; fills ``counts``.

    Of records with one event each, every one would else cost as much as a hundred lines.
    """
    records: list[int] = []
    lines: list[bytes] = []
    for record, value in enumerate(values):
        claims_other = canonical and records and canonical[record] != canonical[records[0]]
        if claims_other or len(lines) >= _TOGETHER:
            yield records, lines
            records, lines = [], []
        found = split_lines(value)
        counts[record] = len(found)
        records.append(record)
        lines += found
    if records:
        yield records, lines


def _decode_group(
    records: list[int],
    lines: list[bytes],
    counts: npt.NDArray[np.int64],
    rejections: list[Rejection],
) -> Iterator[_Good]:
    sizes = counts[records]
    starts = sizes.cumsum() - sizes
    try:
        events = _decode_together(lines)
    except (ValueError, RecursionError):
        for record, start, size in zip(records, starts.tolist(), sizes.tolist(), strict=True):
            mine = lines[start : start + size]
            if len(records) > 1:
                yield from _decode_group([record], mine, counts, rejections)
            else:
                yield _decode_singly(record, mine, rejections)
        return
    at = np.arange(len(lines)) - starts.repeat(sizes)
    record_of = np.array(records).repeat(sizes)
    yield _Good(events, lines, record_of.astype(np.uint32), at.astype(np.uint32))


def _decode_together(lines: list[bytes]) -> list[Event]:
    """Every line; raises when one is no event, without saying which.

    The parser takes any whitespace between values for the end of a line, so lines are first seen to
    begin with ``{`` and end with ``}``: then each holds one value or more, and equal counts say
    that each holds one.
    """
    sizes = np.fromiter(map(len, lines), np.int64, len(lines))
    if sizes.max() > MAX_LINE_BYTES:
        raise _LineTooLong
    value = b"\n".join(lines)
    ends = sizes.cumsum() + np.arange(len(lines))
    octets = np.frombuffer(value, dtype=np.uint8)
    if (
        sizes.min() == 0
        or (octets[ends - sizes] != _OPEN).any()
        or (octets[ends - 1] != _CLOSE).any()
    ):
        raise _NotLines
    if not value.isascii():
        value.decode()  # msgspec does not look into the strings of unknown fields
    events = _decoder.decode_lines(value)
    if len(events) != len(lines):
        raise _NotLines
    return events


def _decode_singly(record: int, lines: list[bytes], rejections: list[Rejection]) -> _Good:
    good: list[Event] = []
    positions: list[int] = []
    for position, line in enumerate(lines):
        try:
            good.append(_decode_line(line))
            positions.append(position)
        except (ValueError, RecursionError) as error:
            code, detail = _explain(line, error)
            rejections.append(_reject(record, position, code, detail, line))
    return _Good(
        good,
        [lines[position] for position in positions],
        np.full(len(good), record, np.uint32),
        np.array(positions, np.uint32),
    )


def _decode_line(line: bytes) -> Event:
    if len(line) > MAX_LINE_BYTES:
        raise _LineTooLong
    if not line.isascii():
        line.decode()
    return _decoder.decode(line)


class _LineTooLong(ValueError):
    pass


class _NotLines(ValueError):
    pass


def _explain(line: bytes, error: Exception) -> tuple[RejectionCode, str]:
    """Code and detail of a refused line; msgspec's messages name types and paths, not values."""
    match error:
        case _LineTooLong():
            return RejectionCode.LINE_TOO_LONG, f"{len(line)} bytes, at most {MAX_LINE_BYTES}"
        case RecursionError():
            return RejectionCode.TOO_DEEP, "nested too deeply"
        case UnicodeDecodeError():
            return RejectionCode.INVALID_UTF8, f"byte {error.start}"
    if not line.strip():
        return RejectionCode.EMPTY_LINE, ""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return RejectionCode.INVALID_JSON, text
    if "$.schema_version" in text:
        return RejectionCode.UNSUPPORTED_VERSION, text
    if text.startswith("Object missing required field"):
        return RejectionCode.MISSING_FIELD, text
    if text.startswith("Expected `object`, got") and " - at " not in text:
        return RejectionCode.NOT_AN_OBJECT, text
    # An enum's message quotes the value it refused; the path is enough.
    path = text.rpartition(" - at ")[2]
    return RejectionCode.INVALID_FIELD, path if "Invalid enum value" in text else text


def _reject(record: int, line: int, code: RejectionCode, detail: str, raw: bytes) -> Rejection:
    return Rejection(record, line, code, detail[:256], len(raw), hashlib.sha256(raw).hexdigest())


@dataclass(slots=True)
class _Chunk:
    """Events that become columns together."""

    events: list[Event] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    records: list[npt.NDArray[np.uint32]] = field(default_factory=list)
    lines: list[npt.NDArray[np.uint32]] = field(default_factory=list)

    def add(self, good: _Good, canonical: bool) -> None:
        """Add events; of canonical lines what is written is what is hashed."""
        self.events += good.events
        written = good.written if canonical else map(_encode, good.events)
        self.hashes += map(xxh3_64_intdigest, written)
        self.records.append(good.records)
        self.lines.append(good.lines)

    def frame(self) -> pl.DataFrame:
        """Columns of the fields that are there at all, hash and coordinates."""
        if not self.events:
            return pl.DataFrame(schema=SCHEMA)
        columns = zip(*map(astuple, self.events), strict=True)
        series = [
            _series(name, values)
            for name, values in zip(FIELDS, columns, strict=True)
            if values[0] is not None or values.count(None) < len(values)
        ]
        series.append(pl.Series("payload_hash", self.hashes, pl.UInt64))
        series.append(pl.Series("record", np.concatenate(self.records)))
        series.append(pl.Series("line", np.concatenate(self.lines)))
        return pl.DataFrame(series)


def _whole(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The chunks as one frame with every column of `SCHEMA`."""
    frame = pl.concat(frames, how="diagonal")
    return frame.select(
        name if name in frame.columns else pl.lit(None, kind).alias(name)
        for name, kind in SCHEMA.items()
    )


def _series(name: str, values: tuple[Any, ...]) -> pl.Series:
    if name != "attributes":
        return pl.Series(name, values, SCHEMA[name])
    encoded = pl.Series(name, list(map(_encode, values)), pl.Binary).cast(pl.String)
    return encoded.replace("null", None) if None in values else encoded


def _without_future(
    decoded: Decoded, values: Sequence[bytes | None], timestamps_ns: Sequence[int]
) -> Decoded:
    limits = np.asarray(timestamps_ns, dtype=np.int64) + MAX_FUTURE_NS
    frame = decoded.frame
    future = frame["time_unix_nano"].to_numpy() > limits[frame["record"].to_numpy()]
    if not future.any():
        return decoded
    for record, line in frame.filter(future).select("record", "line").iter_rows():
        raw = split_lines(values[record])[line]
        decoded.rejections.append(
            _reject(record, line, RejectionCode.FUTURE_TIME, "$.time_unix_nano", raw)
        )
    return Decoded(frame.filter(~future), decoded.lines, decoded.rejections)
