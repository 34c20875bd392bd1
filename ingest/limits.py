"""What the gateway accepts, and how bodies are unpacked without trusting them.

Every bound is checked before the work that it bounds: a body before it is unpacked, each byte of
output as it is made, the nesting of JSON before it is parsed.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from ingest.core.errors import Rejected
from ingest.core.events import RejectionCode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENCODINGS: Final = ("identity", "gzip", "deflate", "zstd")
"""Content codings that `decompress` knows."""

_ALWAYS_FINE_BYTES: Final = 1 << 20
"""Output this small hurts nobody, whatever its ratio: a short repetitive body packs very well."""

_CHUNK: Final = 256 * 1024
_MAX_MEMBERS: Final = 1024
"""Streams in one body; block-compressed files have hundreds, an attack has a million."""

_MAX_WINDOW_LOG: Final = 23
"""8 MiB, which RFC 9659 makes the largest window of the HTTP content coding zstd."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request.

    Attributes
    ----------
    max_body_bytes
        Body as sent.
    max_decompressed_bytes
        Body as unpacked.
    max_ratio
        Unpacked to sent, looked at only above 1 MiB. Real telemetry stays below 100; gzip can
        reach 1032, zstd far more.
    max_depth
        Nested arrays and objects of a JSON body, nested values of a protobuf attribute.
    max_attributes, max_attribute_length
        Attributes of one span or event, and characters of one value; what exceeds them is cut and
        counted, not refused, for an event without its longest attribute is worth more than none.
    max_words_length
        Characters of a value that holds what was said: the last turn of a history is at its end.
    max_records
        Spans, log records or events in one request.
    """

    max_body_bytes: int = 16 * 2**20
    max_decompressed_bytes: int = 64 * 2**20
    max_ratio: float = 200.0
    max_depth: int = 64
    max_attributes: int = 256
    max_attribute_length: int = 65_536
    max_words_length: int = 8 * 2**20
    max_records: int = 50_000


class _Decompressor(Protocol):
    """What zlib's and zstd's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decompress(body: bytes, encoding: str, limits: Limits) -> bytes:
    """Unpack a body, making no more than one byte beyond what is allowed.

    Parameters
    ----------
    body
        As sent.
    encoding
        Content coding, one of `ENCODINGS` in any case; empty is identity. ``deflate`` is the zlib
        format as the standard has it, or the bare stream that some clients send.
    limits
        The bounds.

    Raises
    ------
    Rejected
        ``body_too_large``, ``decompressed_too_large``, ``ratio_too_high``,
        ``unsupported_encoding``, or ``corrupt_body`` when the stream is damaged, cut short or
        followed by something else.

    Examples
    --------
    >>> decompress(zlib.compress(b"hello"), "deflate", Limits())
    b'hello'
    """
    if len(body) > limits.max_body_bytes:
        raise Rejected(
            RejectionCode.BODY_TOO_LARGE, f"{len(body)} bytes, at most {limits.max_body_bytes}"
        )
    name = encoding.strip().lower() or "identity"
    if name not in ENCODINGS:
        raise Rejected(RejectionCode.UNSUPPORTED_ENCODING, f"one of {', '.join(ENCODINGS)}")
    if name == "identity":
        return body
    by_ratio = max(_ALWAYS_FINE_BYTES, int(limits.max_ratio * len(body)))
    bound = min(limits.max_decompressed_bytes, by_ratio)
    try:
        out = _unpack(body, _opener(name, body), bound)
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise Rejected(RejectionCode.CORRUPT_BODY, f"{name}: {error}") from None
    if out is not None:
        return out
    if bound < limits.max_decompressed_bytes:
        raise Rejected(RejectionCode.RATIO_TOO_HIGH, f"more than {limits.max_ratio:g} to 1")
    raise Rejected(
        RejectionCode.DECOMPRESSED_TOO_LARGE, f"more than {limits.max_decompressed_bytes} bytes"
    )


def _opener(name: str, body: bytes) -> Callable[[], _Decompressor]:
    if name == "zstd":
        return lambda: zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        )
    if name == "gzip":
        return lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)
    # A zlib stream begins with its method, 8, and a check of the first two bytes; a bare stream
    # that began so would be a stored block with a padding bit set, which no encoder writes.
    wrapped = len(body) >= 2 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return lambda: zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


def _unpack(body: bytes, open_: Callable[[], _Decompressor], bound: int) -> bytes | None:
    """Unpack one stream or several in a row; None when there is more than ``bound`` bytes of it."""
    parts: list[bytes] = []
    left = bound + 1  # one more than allowed, to see that there is more
    members = 0
    stream: _Decompressor | None = None
    for start in range(0, len(body), _CHUNK):
        data = body[start : start + _CHUNK]
        while data:
            if stream is None:
                members += 1
                if members > _MAX_MEMBERS:
                    raise EOFError(f"more than {_MAX_MEMBERS} streams")
                stream = open_()
            part = stream.decompress(data, left)
            parts.append(part)
            left -= len(part)
            if left <= 0:
                return None
            data = b""
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None or not members:
        raise EOFError("ends before its end")
    return b"".join(parts)


_STRUCTURE: Final = b'"[]{}'
_OTHER: Final = bytes(set(range(256)) - set(_STRUCTURE))
_STEP: Final = np.zeros(256, dtype=np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


def check_depth(body: bytes, limits: Limits) -> None:
    """Refuse a JSON body that is nested too deeply, before anything recurses into it.

    Brackets within strings do not count. The body need not be valid: up to its first error, which
    is as far as a parser goes, the depth found is the true one.

    Raises
    ------
    Rejected
        ``too_deep``.

    Examples
    --------
    >>> check_depth(b'{"a": ["[[[["]}', Limits(max_depth=2))
    """
    if body.count(b"[") + body.count(b"{") <= limits.max_depth:
        return
    if b"\\" in body:
        # Whole escapes go first, so that a quote after an escaped backslash ends its string.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    tokens = np.frombuffer(body.translate(None, _OTHER), dtype=np.uint8)
    within_string = np.cumsum(tokens == ord('"'), dtype=np.uint8) & 1
    steps = _STEP[tokens] * (1 - within_string.astype(np.int8))
    if np.cumsum(steps, dtype=np.int32).max(initial=0) > limits.max_depth:
        raise Rejected(RejectionCode.TOO_DEEP, f"more than {limits.max_depth} levels")
