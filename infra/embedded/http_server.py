"""The ClickHouse HTTP interface: logins, requests, answers, errors.

Kept small on purpose: no sessions (``SET`` and temporary tables end with their request), results
are buffered within a bound so that no error can come in mid-stream, answers are not compressed,
no external data.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import re
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiohttp import web

from infra.embedded import native
from infra.embedded.engine import Engine
from infra.embedded.http_query import decompress, statement
from infra.embedded.memory_file import MemoryFile
from infra.embedded.statements import MIB, EngineError, Result

READER = "reader"
BODY_BYTES = 512 * MIB  # a block of 200,000 events has about 35 MB
# More requests wait their turn; the engine uses every core for one query anyway. Readers have
# threads of their own, so that their long queries never keep a worker's insert waiting.
THREADS = 8
READER_THREADS = 4

_AUTHENTICATION_FAILED = 516
_STATUS = {516: 401, 60: 404, 81: 404, 62: 400, 115: 400, 159: 408, 164: 403, 241: 507, 243: 507}
# clickhouse-go opens with this and decodes only this answer at its own protocol revision.
_HELLO = re.compile(
    r"\s*SELECT\s+displayName\(\),\s*version\(\),\s*revision\(\),\s*timezone\(\)\s*;?\s*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may come in: the owner under any name but `READER`, and a reader if it has a password."""

    password: str
    reader_password: str | None = None

    def is_reader(self, user: str, password: str) -> bool:
        """Whether this is the reader (True) or the owner (False).

        Raises
        ------
        EngineError
            Wrong password.
        """
        reader = user == READER
        expected = self.reader_password if reader else self.password
        if expected is None or not hmac.compare_digest(password.encode(), expected.encode()):
            text = (
                f"{user}: Authentication failed: password is incorrect,"
                " or there is no user with such name"
            )
            raise EngineError.of(_AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED", text)
        return reader


class Server:
    """The request handlers.

    Parameters
    ----------
    engine
        The opened database.
    credentials
        Passwords of owner and reader.
    """

    def __init__(self, engine: Engine, credentials: Credentials) -> None:
        self._engine = engine
        self._credentials = credentials
        self._version = engine.version()
        self._owners = ThreadPoolExecutor(THREADS, thread_name_prefix="owner")
        self._readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reader")

    def application(self) -> web.Application:
        """Routes of the server."""
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_get("/ping", _ping)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    def close(self) -> None:
        """Wait for running statements."""
        for pool in (self._owners, self._readers):
            pool.shutdown(wait=True, cancel_futures=True)

    async def _handle(self, request: web.Request) -> web.Response:
        parameters = dict(request.query)
        query_id = parameters.get("query_id") or str(uuid.uuid4())
        started = time.perf_counter()
        try:
            user, password = _login(request.headers, parameters)
            reader = self._credentials.is_reader(user, password)
            body = await _body(request, parameters)
            if not body and "query" not in parameters:
                return web.Response(text="Ok.\n")
            # A GET never changes anything, as on a ClickHouse server.
            reader = reader or request.method in ("GET", "HEAD")
            result = await self._run(parameters, body, request.headers, reader)
        except EngineError as error:
            return _refusal(error, self._version, query_id)
        except web.HTTPRequestEntityTooLarge:
            text = f"the body is above {BODY_BYTES} bytes; send smaller blocks"
            too_large = EngineError.of(241, "MEMORY_LIMIT_EXCEEDED", text)
            return _refusal(too_large, self._version, query_id)
        return _answer(result, query_id, time.perf_counter() - started)

    async def _run(
        self,
        parameters: Mapping[str, str],
        body: bytes | MemoryFile,
        headers: Mapping[str, str],
        reader: bool,
    ) -> Result:
        def work() -> Result:
            encoding = headers.get("Content-Encoding", "").lower()
            asked = statement(parameters, decompress(body, encoding, BODY_BYTES), reader=reader)
            if _HELLO.match(asked.sql):
                return Result(native.hello(self._version), "Native")
            return self._engine.run(asked)

        pool = self._readers if reader else self._owners
        return await asyncio.get_running_loop().run_in_executor(pool, work)


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


def _login(headers: Mapping[str, str], parameters: Mapping[str, str]) -> tuple[str, str]:
    """User and password from Basic authentication, ClickHouse's own headers or the URL."""
    basic = headers.get("Authorization", "")
    if basic.lower().startswith("basic "):
        try:
            user, _, password = base64.b64decode(basic[6:]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return user, password
    if "X-ClickHouse-User" in headers:
        return headers["X-ClickHouse-User"], headers.get("X-ClickHouse-Key", "")
    return parameters.get("user", "default"), parameters.get("password", "")


async def _whole(request: web.Request) -> bytes | MemoryFile:
    """Bytes of the body; a large block is copied once, to where the engine reads it."""
    length = request.content_length or 0
    if length < MIB or length > BODY_BYTES:
        return await request.read()
    body, at = MemoryFile(length), 0
    async for chunk in request.content.iter_any():
        body[at : at + len(chunk)] = chunk
        at += len(chunk)
    return body


async def _body(request: web.Request, parameters: dict[str, str]) -> bytes | MemoryFile:
    """Body of the request; the fields of a form are moved into ``parameters``."""
    if not request.content_type.startswith("multipart/"):
        return await _whole(request)
    for name, value in (await request.post()).items():
        if not isinstance(value, str):
            text = "the embedded server takes no external data"
            raise EngineError.of(48, "NOT_IMPLEMENTED", text)
        parameters[name] = value
    return b""


def _answer(result: Result, query_id: str, seconds: float) -> web.Response:
    headers = _headers(query_id)
    if result.output_format is not None:
        headers["X-ClickHouse-Format"] = result.output_format
    summary = {
        "read_rows": result.rows_read,
        "written_rows": result.rows_written,
        "written_bytes": result.bytes_written,
        "result_bytes": len(result.body),
        "elapsed_ns": int(seconds * 1e9),
    }
    headers["X-ClickHouse-Summary"] = json.dumps({name: str(n) for name, n in summary.items()})
    return web.Response(body=result.body, headers=headers, content_type="application/octet-stream")


def _refusal(error: EngineError, version: str, query_id: str) -> web.Response:
    headers = _headers(query_id)
    headers["X-ClickHouse-Exception-Code"] = str(error.code)
    text = str(error)
    if "(version " not in text:
        text += f" (version {version})"
    return web.Response(status=_STATUS.get(error.code, 500), text=text + "\n", headers=headers)


def _headers(query_id: str) -> dict[str, str]:
    return {
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Server-Display-Name": "driftline",
        "X-ClickHouse-Timezone": "UTC",
    }
