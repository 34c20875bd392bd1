"""Bodies are unpacked and measured without trusting them."""

from __future__ import annotations

import gzip
import json
import resource
import time
import zlib
from collections.abc import Callable

import msgspec
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.errors import Rejected
from ingest.core.events import RejectionCode
from ingest.limits import Limits, check_depth, decompress


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
}


DEFAULT = Limits()


def refusal(body: bytes, encoding: str, limits: Limits = DEFAULT) -> str:
    with pytest.raises(Rejected) as caught:
        decompress(body, encoding, limits)
    return str(caught.value.code)


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(max_size=5_000), parts=st.integers(1, 3))
def test_unpacks_what_was_packed(name: str, data: bytes, parts: int) -> None:
    encoding, pack = PACKERS[name]
    assert decompress(pack(data), encoding.upper(), Limits()) == data
    if encoding != "deflate":  # gzip and zstd streams may follow one another
        assert decompress(pack(data) * parts, encoding, Limits()) == data * parts


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(min_size=1, max_size=2_000), cut=st.integers(1, 4_000))
def test_a_stream_cut_short_is_refused(name: str, data: bytes, cut: int) -> None:
    encoding, pack = PACKERS[name]
    packed = pack(data)
    assert refusal(packed[: -min(cut, len(packed))], encoding) == RejectionCode.CORRUPT_BODY


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(max_size=500), at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_stream_is_refused_or_read_but_nothing_else(
    name: str, data: bytes, at: int, byte: int
) -> None:
    encoding, pack = PACKERS[name]
    packed = bytearray(pack(data))
    packed[at % len(packed)] = byte
    try:
        assert isinstance(decompress(bytes(packed), encoding, Limits()), bytes)
    except Rejected as rejected:
        assert rejected.code in (RejectionCode.CORRUPT_BODY, RejectionCode.RATIO_TOO_HIGH)


@pytest.mark.parametrize("name", PACKERS)
def test_trailing_garbage_is_refused(name: str) -> None:
    encoding, pack = PACKERS[name]
    assert refusal(pack(b"data") + b"x", encoding) == RejectionCode.CORRUPT_BODY


def test_a_bomb_is_refused_before_it_inflates() -> None:
    bombs = {
        "gzip": gzip.compress(bytes(2**28)),
        "zstd": zstd.compress(bytes(2**30)),
        "deflate": zlib.compress(bytes(2**28)),
    }
    for encoding, bomb in bombs.items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        assert refusal(bomb, encoding) == RejectionCode.RATIO_TOO_HIGH
        assert time.process_time() - start < 2
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown * 1024 < 3 * Limits().max_decompressed_bytes


def test_a_bomb_of_many_streams_is_refused() -> None:
    for encoding, stream in (("gzip", gzip.compress(b"")), ("zstd", zstd.compress(b""))):
        start = time.process_time()
        assert refusal(stream * (2**23 // len(stream)), encoding) == RejectionCode.CORRUPT_BODY
        assert time.process_time() - start < 2


def test_a_window_larger_than_http_allows_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    body = packer.compress(bytes(100)) + packer.flush()
    assert refusal(body, "zstd") == RejectionCode.CORRUPT_BODY


def test_sizes_are_refused_at_the_byte() -> None:
    data = bytes(range(256)) * 8
    exact = Limits(max_body_bytes=2048, max_decompressed_bytes=2048)
    assert decompress(data, "identity", exact) == data
    assert decompress(gzip.compress(data), "gzip", exact) == data
    assert refusal(data + b"x", "", exact) == RejectionCode.BODY_TOO_LARGE
    assert refusal(gzip.compress(data + b"x"), "gzip", exact) == (
        RejectionCode.DECOMPRESSED_TOO_LARGE
    )


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x-gzip", "identity;q=1"])
def test_other_encodings_are_refused(encoding: str) -> None:
    assert refusal(b"", encoding) == RejectionCode.UNSUPPORTED_ENCODING


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(value=JSON, ascii_only=st.booleans(), indent=st.none() | st.just(2))
def test_depth_is_measured_as_a_parser_sees_it(
    value: object, ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    true = depth(value)
    check_depth(body, Limits(max_depth=true))
    if true:
        with pytest.raises(Rejected, match=RejectionCode.TOO_DEEP):
            check_depth(body, Limits(max_depth=true - 1))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"\\"":'])
def test_a_million_levels_are_refused_at_once(opening: bytes) -> None:
    start = time.process_time()
    with pytest.raises(Rejected, match=RejectionCode.TOO_DEEP):
        check_depth(opening * 10**6, Limits())
    assert time.process_time() - start < 1


@given(st.binary(max_size=300).map(lambda noise: noise.replace(b"x", b'[{"\\')))
def test_what_passes_never_exhausts_the_parser(body: bytes) -> None:
    try:
        check_depth(body, Limits())
        msgspec.json.decode(body)
    except (Rejected, msgspec.DecodeError, UnicodeDecodeError):
        pass
