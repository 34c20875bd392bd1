"""Bytes of a file, plain or gzip, JSON Lines or one document, become JSON records."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from ingest.core.errors import Rejected, UsageError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_TRUNCATED: Final = "Input data was truncated"


def records(path: Path, *, progress: IO[bytes] | None = None) -> Generator[bytes, None, None]:
    """Yield the records of a file: its lines, or the whole when it is one JSON document.

    A file is a document when its first line is the beginning of a JSON value and not all of it.
    Lines are read one by one, a document at once. Blank lines are skipped.

    Parameters
    ----------
    path
        The file; gzip is told by its content, not by its name.
    progress
        The file, already open for reading in binary mode, when somebody wants to watch its
        position; it is not closed.

    Raises
    ------
    UsageError
        When the file cannot be opened.
    Rejected
        When its gzip is broken, with the code ``broken_gzip``.
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
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _values(lines: IO[bytes]) -> Iterator[bytes]:
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return
    if _is_cut(first):
        yield first + lines.read()
        return
    yield first.rstrip(b"\r\n")
    yield from (line.rstrip(b"\r\n") for line in lines if line.strip())


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(2)
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if magic == _GZIP_MAGIC else file


def _is_cut(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return _TRUNCATED in str(error)
    return False
