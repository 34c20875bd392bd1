"""The ClickHouse HTTP interface: logins, requests, answers, errors.

Kept small on purpose: no sessions (``SET`` and temporary tables end with their request), results
are buffered within a bound so that no error can come in mid-stream, answers are not compressed,
no external data. Bodies and results that wait for a slow client are bounded together, too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from infra.embedded import native
from infra.embedded.budget import Budget, Hold
from infra.embedded.credentials import Credentials
from infra.embedded.engine import Engine
from infra.embedded.http_query import decompress, statement
from infra.embedded.memory_file import MemoryFile
from infra.embedded.statements import MIB, EngineError, Result
from ingest.core.hosts import is_ours

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_BYTES = 512 * MIB  # a block of 200,000 events has about 35 MB
READER_BODY_BYTES = MIB
# Of all requests together: bodies that arrive, and results that are being sent.
BODIES_BYTES = 2 * BODY_BYTES
RESULTS_BYTES = 512 * MIB
SEND_S = 120.0  # a client that has not read its result by then is left
# More requests wait their turn; the engine uses every core for one query anyway. Readers have
# threads of their own, so that their long queries never keep a worker's insert waiting.
THREADS = 8
READER_THREADS = 4

_STATUS = {
    36: 400,
    516: 401,
    60: 404,
    81: 404,
    62: 400,
    115: 400,
    159: 408,
    164: 403,
    241: 507,
    243: 507,
}
_BAD_ARGUMENTS, _TOO_MUCH = 36, 241
_QUERY_ID = re.compile(r"[ -~]{1,200}")
# clickhouse-go opens with this and decodes only this answer at its own protocol revision.
_HELLO = re.compile(
    r"\s*SELECT\s+displayName\(\),\s*version\(\),\s*revision\(\),\s*timezone\(\)\s*;?\s*\Z",
    re.IGNORECASE,
)


class Server:
    """The request handlers.

    Parameters
    ----------
    engine
        The opened database.
    credentials
        Passwords of owner and reader.
    sandbox
        How the process is kept from other files, for ``/readyz``.
    hosts
        Names under which it may be addressed, beside those of loopback.
    """

    def __init__(
        self,
        engine: Engine,
        credentials: Credentials,
        sandbox: str = "none",
        hosts: Collection[str] = (),
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._sandbox = sandbox
        self._hosts = frozenset(name.lower() for name in hosts)
        self._version = engine.version()
        self._bodies = Budget(BODIES_BYTES, "bodies")
        self._results = Budget(RESULTS_BYTES, "results")
        self._owners = ThreadPoolExecutor(THREADS, thread_name_prefix="owner")
        self._readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reader")
        self._cancelling = ThreadPoolExecutor(2, thread_name_prefix="cancel")

    def application(self) -> web.Application:
        """Routes of the server."""
        app = web.Application(client_max_size=BODY_BYTES, middlewares=[self._check_host])
        app.router.add_get("/ping", _ping)
        app.router.add_get("/readyz", self._ready)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    def close(self) -> None:
        """Wait for running statements."""
        for pool in (self._owners, self._readers, self._cancelling):
            pool.shutdown(wait=True, cancel_futures=True)

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse names that are not ours: a web page could have its own name point to loopback."""
        if not is_ours(request.host, self._hosts):
            text = (
                f"this server is not {request.host.lower()!r}; add the name to"
                " DRIFTLINE_CLICKHOUSE_HOSTS\n"
            )
            return web.Response(status=403, text=text)
        return await handler(request)

    async def _ready(self, _: web.Request) -> web.Response:
        """Readiness, in the form of the other parts' probes."""
        full = {"code": "disk_full", "text": "the disk is full; inserts are refused", "for_s": 0.0}
        reasons = [full] if self._engine.is_full else []
        answer = {
            "component": "clickhouse",
            "status": "unready" if reasons else "ready",
            "sandbox": self._sandbox,
            "reasons": reasons,
        }
        return web.json_response(answer, status=503 if reasons else 200)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        parameters = dict(request.query)
        query_id = parameters.get("query_id") or str(uuid.uuid4())
        started = time.perf_counter()
        try:
            if not _QUERY_ID.fullmatch(query_id):
                query_id = str(uuid.uuid4())
                text = "query_id must be 1 to 200 printable ASCII characters"
                raise EngineError.of(_BAD_ARGUMENTS, "BAD_ARGUMENTS", text)
            user, password = _login(request.headers, parameters)
            reader = self._credentials.is_reader(user, password)
            result = await self._answered(request, parameters, reader)
        except EngineError as error:
            return _refusal(error, self._version, query_id)
        except web.HTTPRequestEntityTooLarge:
            text = f"the body is above {BODY_BYTES} bytes; send smaller blocks"
            too_large = EngineError.of(_TOO_MUCH, "MEMORY_LIMIT_EXCEEDED", text)
            return _refusal(too_large, self._version, query_id)
        if result is None:
            return web.Response(text="Ok.\n")
        answer = _answer(result, query_id, time.perf_counter() - started)
        try:
            return await self._sent(request, answer)
        except EngineError as error:
            return _refusal(error, self._version, query_id)

    async def _sent(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """Send an answer and count its bytes until the client has read them.

        Raises
        ------
        EngineError
            Others have yet to read too much.
        """
        try:
            with self._results.hold(answer.content_length or 0):
                async with asyncio.timeout(SEND_S):
                    await answer.prepare(request)
                    await answer.write_eof()
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        return answer

    async def _answered(
        self, request: web.Request, parameters: dict[str, str], reader: bool
    ) -> Result | None:
        """Result of a request, None for one that asks nothing."""
        limit = READER_BODY_BYTES if reader else BODY_BYTES
        with self._bodies.hold() as hold:
            body = await _body(request, parameters, limit, hold)
            if not body and "query" not in parameters:
                return None
            # A GET never changes anything, as on a ClickHouse server.
            reader = reader or request.method in ("GET", "HEAD")
            return await self._run(parameters, body, request.headers, reader)

    async def _run(
        self,
        parameters: Mapping[str, str],
        body: bytes | MemoryFile,
        headers: Mapping[str, str],
        reader: bool,
    ) -> Result:
        tag = uuid.uuid4().hex
        limit = READER_BODY_BYTES if reader else BODY_BYTES

        def work() -> Result:
            encoding = headers.get("Content-Encoding", "").lower()
            asked = statement(parameters, decompress(body, encoding, limit), reader=reader)
            if _HELLO.match(asked.sql):
                return Result(native.hello(self._version), "Native")
            return self._engine.run(asked, tag)

        pool = self._readers if reader else self._owners
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except asyncio.CancelledError:  # the client has gone; what an owner changes is finished
            if reader:
                self._cancelling.submit(self._engine.cancel, tag)
            raise


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


async def _whole(request: web.Request, limit: int, hold: Hold) -> bytes | MemoryFile:
    """Bytes of the body; a large block is copied once, to where the engine reads it."""
    length = request.content_length
    if length is not None:
        hold.grow(length)
    if (length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, length or 0)
    if length is None or length < MIB:
        return await _in_pieces(request, limit, hold, counted=length is not None)
    body, at = MemoryFile(length), 0
    try:
        async for chunk in request.content.iter_any():
            body[at : at + len(chunk)] = chunk
            at += len(chunk)
    except BaseException:
        body.release()
        raise
    return body


async def _in_pieces(request: web.Request, limit: int, hold: Hold, *, counted: bool) -> bytes:
    """Bytes of a small body, or of one that does not say its length."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if not counted:
            hold.grow(len(chunk))
        if len(body) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, len(body))
    return bytes(body)


async def _body(
    request: web.Request, parameters: dict[str, str], limit: int, hold: Hold
) -> bytes | MemoryFile:
    """Body of the request; the fields of a form are moved into ``parameters``."""
    if not request.content_type.startswith("multipart/"):
        return await _whole(request, limit, hold)
    hold.grow(request.content_length or limit)
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
