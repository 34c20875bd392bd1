"""From an HTTP request to a statement: the request side of the ClickHouse HTTP interface.

Pure functions over bytes. A request carries its SQL in the URL parameter ``query``, in the body,
or first in the URL and then in the body; the rows of an ``INSERT ... FORMAT X`` follow the SQL as
raw bytes and are never decoded here.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra.embedded.memory_file import MemoryFile
from infra.embedded.statements import EngineError, Statement

if TYPE_CHECKING:
    from collections.abc import Callable

# Parameters that speak of the connection, not of the statement.
_TRANSPORT = frozenset(
    {
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)
_HEAD_BYTES = 1 << 16  # the SQL before the rows of an insert is shorter than this

_QUOTED = rb"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|\([^()]*\)"
_INSERT = re.compile(
    rb"\A(?P<head>\s*INSERT\s+INTO\s(?:" + _QUOTED + rb"|[^'`\"()])*?)"
    rb"\bFORMAT\s+(?P<format>\w+)[ \t]*;?[ \t]*\r?\n?",
    re.IGNORECASE | re.DOTALL,
)
_NOT_DATA = re.compile(rb"\b(?:SELECT|VALUES|WITH|FROM)\b", re.IGNORECASE)
_IS_QUOTED = re.compile(_QUOTED, re.DOTALL)


def statement(
    parameters: Mapping[str, str], body: bytes | MemoryFile, *, reader: bool
) -> Statement:
    """Build the statement of a request.

    Parameters
    ----------
    parameters
        URL parameters and form fields.
    body
        Decompressed body.
    reader
        Whether the sender may only read.

    Raises
    ------
    EngineError
        The SQL is not UTF-8 or there is none.
    """
    in_url = parameters.get("query", "").encode()
    before = in_url + b"\n" if in_url and body else in_url
    insert = _INSERT.match(before + body[:_HEAD_BYTES])
    data_format, data = None, memoryview(b"")
    if insert is not None and not _NOT_DATA.search(_IS_QUOTED.sub(b"", insert["head"])):
        data_format, data, text = insert["format"].decode(), memoryview(body), insert["head"]
        rows_in_url = before[insert.end() :]
        if rows_in_url.strip():
            data = memoryview(rows_in_url + body)
        elif insert.end() > len(before):
            data = data[insert.end() - len(before) :]
    else:
        text = before + body
    try:
        sql = text.decode()
    except UnicodeDecodeError:
        raise EngineError.of(62, "SYNTAX_ERROR", "the query is not UTF-8") from None
    if not sql.strip():
        raise EngineError.of(62, "SYNTAX_ERROR", "Empty query")
    return Statement(
        sql=sql,
        database=parameters.get("database") or "default",
        output_format=parameters.get("default_format") or "TabSeparated",
        data_format=data_format,
        data=data,
        settings={
            name: value
            for name, value in parameters.items()
            if name not in _TRANSPORT and not name.startswith(("param_", "http_"))
        },
        parameters={
            name.removeprefix("param_"): value
            for name, value in parameters.items()
            if name.startswith("param_")
        },
        reader=reader,
    )


def decompress(body: bytes | MemoryFile, encoding: str, limit: int) -> bytes | MemoryFile:
    """Undo a ``Content-Encoding``, never producing more than ``limit`` bytes.

    Several frames or members may follow each other, as clickhouse-connect sends them.

    Raises
    ------
    EngineError
        Unknown encoding, broken data, or more than ``limit`` bytes.
    """
    if encoding in ("", "identity"):
        return body
    start = _decompressors().get(encoding)
    if start is None:
        text = f"Content-Encoding {encoding} is not known; use lz4, zstd, gzip or deflate"
        raise EngineError.of(48, "NOT_IMPLEMENTED", text)
    parts: list[bytes] = []
    left, rest, complete = limit, bytes(body), True
    try:
        while rest and complete and left >= 0:
            stream = start()
            parts.append(stream.decompress(rest, left + 1))
            left -= len(parts[-1])
            complete, rest = stream.eof, stream.unused_data
    except Exception as error:  # each codec has an exception of its own
        raise _broken(encoding) from error
    if left < 0:
        text = f"the body has more than {limit} bytes when decompressed; send smaller blocks"
        raise EngineError.of(241, "MEMORY_LIMIT_EXCEEDED", text)
    if not complete:
        raise _broken(encoding)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _broken(encoding: str) -> EngineError:
    return EngineError.of(271, "CANNOT_DECOMPRESS", f"the body is not valid {encoding}")


def _decompressors() -> dict[str, Callable[[], Any]]:
    import lz4.frame

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return {
        "gzip": lambda: zlib.decompressobj(31),
        "deflate": lambda: zlib.decompressobj(15),
        "lz4": lz4.frame.LZ4FrameDecompressor,
        "zstd": zstd.ZstdDecompressor,
    }
