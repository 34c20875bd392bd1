"""Connections, routes, who may come in, and the body within its bounds.

For each request, in this order: the route, the token, room in the queue, the body as far as it is
allowed, decoding and the rules of `admission`, Kafka's acknowledgement, the answer. A
refusal ends it at once with its code; a body that is still coming is then read for a moment and
thrown away, so that the sender gets to see the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeVar

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ingest.access import Grant
from ingest.core.errors import Overloaded, Rejected, UsageError
from ingest.core.events import RejectionCode
from ingest.core.health.verdict import Reason, Verdict
from ingest.core.hosts import is_ours
from ingest.core.telemetry import REGISTRY
from ingest.gateway import metrics, routes
from ingest.gateway.admission import AdmissionResult, Redact, Refusal, admit, span_of
from ingest.gateway.batcher import Batcher, KafkaAway
from ingest.gateway.config import GatewayConfig
from ingest.gateway.feedback import Memory
from ingest.gateway.reports import Reports
from ingest.gateway.responses import (
    CODE_HEADER,
    JSON,
    code_of,
    otlp,
    plain,
    refusal,
    status_of,
)
from ingest.limits import decompress

_log = logging.getLogger(__name__)
# It quotes what it could not parse; nothing that was sent belongs in a log.
_silent = logging.getLogger(f"{__name__}.http")
_silent.disabled = True

INLINE_BYTES: Final = 256 * 1024
"""Larger bodies are decoded by a thread, so that they do not hold up the others."""

_INLINE_PACKED_BYTES: Final = 32 * 1024
_LINGER_S: Final = 3.0
_HANDSHAKE_S: Final = 10.0
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: 72\r\nDriftline-Code: too_many_connections\r\n\r\n"
    b'{"code":"too_many_connections","message":"all connections are in use"}\r\n'
)

Route = Literal["traces", "logs", "events", "feedback"]
_ROUTES: Final[dict[str, Route]] = {
    "/v1/traces": "traces",
    "/v1/logs": "logs",
    "/v1/events": "events",
    "/v1/feedback": "feedback",
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may come in, and what becomes of what they say.

    Attributes
    ----------
    grant
        What the sender of an ``Authorization`` header may do; None refuses.
    redact
        Makes events fit to be kept.
    now_ns
        The present.
    redact_text
        Makes what was refused fit to be kept; None keeps only its fingerprint.
    """

    grant: Callable[[str | None], Grant | None]
    redact: Redact
    now_ns: Callable[[], int] = time.time_ns
    redact_text: Callable[[str], str] | None = None


class Gateway:
    """Answers requests. Serve it with `serve`.

    Parameters
    ----------
    config
        Bounds.
    policy
        Who and what is let in.
    batcher
        Where events go.
    """

    def __init__(self, config: GatewayConfig, policy: Policy, batcher: Batcher) -> None:
        self._config = config
        self._policy = policy
        self._batcher = batcher
        self._memory = Memory()
        self.reports = Reports(batcher.report, policy.redact_text)
        self._thread = ThreadPoolExecutor(1, "decode")

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request; never raises but for a client that has gone."""
        route = _ROUTES.get(request.path)
        try:
            answer = await self._answer(request, route)
            code = answer.headers.get(CODE_HEADER, "ok")
        except (Rejected, Overloaded, KafkaAway) as error:
            answer, code = refusal(error, protobuf=_wants_protobuf(request)), code_of(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            # The message of an unexpected error may quote what was sent, its place does not.
            places = traceback.extract_tb(error.__traceback__)
            where = " < ".join(f"{at.filename}:{at.lineno}" for at in reversed(places))
            _log.error("internal error %s in %s", type(error).__name__, where)
            body = b'{"code":"internal_error","message":"this is a bug of the gateway"}'
            headers = {CODE_HEADER: "internal_error"}
            answer = web.Response(body=body, content_type=JSON, status=500, headers=headers)
            code = "internal_error"
        metrics.REQUESTS.labels(route or "other", code).inc()
        return answer

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _answer(self, request: web.BaseRequest, route: Route | None) -> web.Response:
        if route is None:
            return self._about_itself(request)
        if request.method != "POST":
            raise Rejected("method_not_allowed", f"POST to {request.path}")
        grant = self._policy.grant(request.headers.get("Authorization"))
        if grant is None:
            raise Rejected(
                RejectionCode.UNAUTHENTICATED, "expected Authorization: Bearer and a known token"
            )
        anybody = self._policy.grant(None) is not None
        if anybody and not is_ours(request.host, self._config.hosts):
            raise Rejected("unknown_host", "add the name to DRIFTLINE_GATEWAY_HOSTS, or use tokens")
        encoding = _encoding(request, route)
        with self._batcher.reserve() as reserve_bytes:
            self._batcher.check()
            body = await self._body(request, reserve_bytes)
            metrics.BODY_BYTES.inc(len(body))
            try:
                admitted = await self._admit(request, route, encoding, grant, body)
            except Rejected as error:
                self.reports.refused(route, [Refusal(error.code, error.detail, body)])
                raise
            del body
            reserve_bytes(admitted.size)
            await self._batcher.deliver(admitted.batches)
        for refused in admitted.refusals:
            metrics.REJECTED.labels(str(refused.code)).inc()
        if admitted.refusals or admitted.ignored:
            self.reports.refused(route, admitted.refusals)
            self.reports.ignored(admitted.ignored, self._policy.now_ns())
        if admitted.refusals and not admitted.accepted:
            return _nothing_accepted(admitted, route, encoding)
        if route in ("traces", "logs"):
            return otlp(admitted, "spans" if route == "traces" else "log_records", encoding)
        return plain(admitted)

    async def _body(self, request: web.BaseRequest, reserve_bytes: Callable[[int], None]) -> bytes:
        limit = self._config.limits.max_body_bytes
        declared = request.content_length
        if declared is not None:
            if declared > limit:
                raise Rejected(RejectionCode.BODY_TOO_LARGE, f"{declared} bytes, at most {limit}")
            reserve_bytes(declared)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > limit:
                        raise Rejected(RejectionCode.BODY_TOO_LARGE, f"at most {limit} bytes")
                    if declared is None:
                        reserve_bytes(size)
                    chunks.append(chunk)
        except TimeoutError:
            raise Rejected(
                "body_timeout", f"the body did not arrive in {self._config.body_timeout_s:g} s"
            ) from None
        except (RequestPayloadError, HttpProcessingError):
            raise Rejected(RejectionCode.CORRUPT_BODY, "the transfer coding is damaged") from None
        return b"".join(chunks)

    async def _admit(
        self, request: web.BaseRequest, route: Route, encoding: str, grant: Grant, body: bytes
    ) -> AdmissionResult:
        coding = request.headers.get("Content-Encoding", "")
        unpack = partial(decompress, body, coding, self._config.limits)
        packed = coding.strip().lower() not in ("", "identity")
        body = await self._run(unpack, packed and len(body) > _INLINE_PACKED_BYTES)
        work = partial(self._decode, route, encoding, grant, body)
        return await self._run(work, len(body) > INLINE_BYTES)

    def _decode(self, route: Route, encoding: str, grant: Grant, body: bytes) -> AdmissionResult:
        limits, now_ns = self._config.limits, self._policy.now_ns()
        if route == "traces":
            found = routes.traces(body, encoding, limits)
        elif route == "logs":
            found = routes.logs(body, encoding, limits)
        elif route == "events":
            found = routes.events(body, encoding, limits, now_ns)
        else:
            agents = grant.agents or ()
            only = next(iter(agents)) if len(agents) == 1 else None
            found = routes.feedback(body, encoding, limits, now_ns, self._memory, only)
        admitted = admit(
            found.events,
            found.refusals,
            grant,
            self._policy.redact,
            self._batcher.partitions,
            now_ns,
            span_of if route in ("traces", "logs") else id,
        )
        admitted.ignored = found.ignored or admitted.ignored
        return admitted

    async def _run(self, work: Callable[[], _T], in_thread: bool) -> _T:
        if not in_thread:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _about_itself(self, request: web.BaseRequest) -> web.Response:
        """Probes and metrics; nothing in them comes from a request."""
        if request.path == "/metrics":
            body = generate_latest(REGISTRY)
            return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
        if request.path == "/healthz":
            return _status(None)
        if request.path == "/readyz":
            return _status(self._batcher.unwell)
        raise Rejected("not_found", f"there is only {', '.join(_ROUTES)}")


@asynccontextmanager
async def serve(config: GatewayConfig, gateway: Gateway) -> AsyncIterator[int]:
    """Listen, and yield the port; at the end requests under way are answered first.

    Raises
    ------
    UsageError
        The address is in use or not of this machine.
    """
    server = _Server(
        gateway.handle,
        max_connections=config.max_connections,
        access_log=None,
        logger=_silent,
        auto_decompress=False,
        keepalive_timeout=config.header_timeout_s,
        lingering_time=_LINGER_S,
    )
    try:
        listener = await asyncio.get_running_loop().create_server(
            server,
            config.host,
            config.port,
            ssl=config.tls,
            ssl_handshake_timeout=_HANDSHAKE_S if config.tls else None,
            backlog=256,
        )
    except OSError as error:
        raise UsageError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror or error};"
            " choose another address"
        ) from error
    reporting = asyncio.create_task(gateway.reports.run())
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        server.pre_shutdown()
        await server.shutdown(config.drain_s)
        reporting.cancel()
        await gateway.reports.flush()
        gateway.close()


class _Server(web.Server):
    """Refuses connections beyond a number."""

    def __init__(self, *args: object, max_connections: int, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._max_connections = max_connections
        metrics.CONNECTIONS.set_function(lambda: len(self._connections))

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self._max_connections:
            transport.write(_BUSY)
            # Only once its handler has begun: one that finds it closed ends with a traceback.
            asyncio.get_running_loop().call_soon(transport.close)


def _nothing_accepted(admitted: AdmissionResult, route: Route, encoding: str) -> web.Response:
    """Answer a request of which every item was refused."""
    status = status_of(admitted.refusals[0].code)
    if route in ("events", "feedback"):
        return plain(admitted, status)
    if all(refused.code == RejectionCode.FORBIDDEN for refused in admitted.refusals):
        raise Rejected(RejectionCode.FORBIDDEN, admitted.refusals[0].detail)
    return otlp(admitted, "spans" if route == "traces" else "log_records", encoding)


def _encoding(request: web.BaseRequest, route: Route) -> str:
    known = routes.MEDIA_TYPES if route in ("traces", "logs") else routes.LINE_TYPES
    encoding = known.get(request.content_type.lower())
    if encoding is None:
        raise Rejected(
            RejectionCode.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type {' or '.join(known)}"
        )
    return encoding


def _wants_protobuf(request: web.BaseRequest) -> bool:
    """Whether an error is told as OTLP prescribes for protobuf."""
    return (
        _ROUTES.get(request.path) in ("traces", "logs")
        and routes.MEDIA_TYPES.get(request.content_type.lower()) == "protobuf"
        and JSON not in request.headers.get("Accept", "")
    )


def _status(reason: Reason | None) -> web.Response:
    verdict = Verdict(reason is None, True, () if reason is None else (reason,))
    body = msgspec.json.encode(verdict.body("gateway"))
    return web.Response(body=body, content_type=JSON, status=200 if verdict.ready else 503)
