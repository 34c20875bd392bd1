"""Bytes of a file, plain, gzip or zstd, in lines or documents, become JSON records."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from ingest.core.errors import Rejected, UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_TRUNCATED: Final = "Input data was truncated"
_TRAILING: Final = "trailing characters"
_BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r\n\xef\xbb\xbf"
_BETWEEN: Final = " \t\r\n,"


def records(path: Path, *, progress: IO[bytes] | None = None) -> Generator[bytes, None, None]:
    """Yield the records of a file: its lines, or its JSON documents where these span lines.

    A file holds documents when its first line is the beginning of a JSON value and not all of it;
    they may follow one another in any white space. Lines are read one by one, documents at once.
    Blank lines are skipped.

    Parameters
    ----------
    path
        The file; gzip and zstd are told by its content, not by its name.
    progress
        The file, already open for reading in binary mode, when somebody wants to watch its
        position; it is not closed.

    Raises
    ------
    UsageError
        When the file cannot be opened.
    Rejected
        When its packing is broken, with the code ``broken_gzip`` or ``broken_zstd``.
    """
    try:
        with path.open("rb") if progress is None else nullcontext(progress) as file:
            yield from _values(_decompressed(file))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; name the files in it") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Rejected(
            "broken_gzip", f"{path} ({error}); fetch it again, or unpack what is left of it"
        ) from None
    except zstd.ZstdError as error:
        raise Rejected("broken_zstd", f"{path} ({error}); fetch it again") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _values(lines: IO[bytes]) -> Iterator[bytes]:
    first = next((line for line in lines if line.strip(_BLANK)), None)
    if first is None:
        return
    first = first.removeprefix(_BOM)
    if _is_cut(first):
        yield from _documents(first + lines.read())
        return
    yield first.rstrip(b"\r\n")
    yield from (line.rstrip(b"\r\n") for line in lines if line.strip())


def _documents(text: bytes) -> Iterator[bytes]:
    """Yield JSON documents that follow one another."""
    if not _has_more(text):
        yield text
        return
    decoder, place, whole = json.JSONDecoder(), 0, text.decode("utf-8", "surrogateescape")
    while place < len(whole):
        start = place + len(whole[place:]) - len(whole[place:].lstrip(_BETWEEN))
        try:
            place = decoder.raw_decode(whole, start)[1] if start < len(whole) else len(whole)
        except ValueError:
            place = len(whole)  # what is no JSON is a record of its own, to be refused
        if start < len(whole):
            yield whole[start:place].encode("utf-8", "surrogateescape")


def _has_more(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return _TRAILING in str(error)
    return False


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == _GZIP_MAGIC:
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    return cast("IO[bytes]", zstd.ZstdFile(file)) if magic == _ZSTD_MAGIC else file


def _is_cut(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return _TRUNCATED in str(error)
    return False
