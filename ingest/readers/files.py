"""Bytes of a file, plain or gzip, JSON Lines or one document, become JSON records."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from ingest.errors import UsageError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_TRUNCATED: Final = "Input data was truncated"


def records(path: Path, *, progress: IO[bytes] | None = None) -> Iterator[bytes]:
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
        When the file cannot be read; the message says what to do.
    """
    try:
        with _open(path) if progress is None else _decompressed(progress) as lines:
            first = next((line for line in lines if line.strip()), None)
            if first is None:
                return
            if _is_cut(first):
                yield first + lines.read()
                return
            yield first.rstrip(b"\r\n")
            yield from (line.rstrip(b"\r\n") for line in lines if line.strip())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; name the files in it") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(
            f"{path}: broken gzip ({error}); fetch the file again or decompress what is left of it"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _open(path: Path) -> IO[bytes]:
    return _decompressed(path.open("rb"))


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if magic == _GZIP_MAGIC else file  # type: ignore[return-value]


def _is_cut(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return _TRUNCATED in str(error)
    return False
