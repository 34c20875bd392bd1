"""``/healthz``, ``/readyz`` and ``/metrics`` on a port, by default of loopback.

Served by threads of their own, so that a process whose loop hangs still says so. 200 means yes;
503 comes with the reasons as JSON.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ingest.core import telemetry
from ingest.core.errors import UsageError
from ingest.core.health.verdict import Verdict
from ingest.core.hosts import is_ours

LOOPBACK: Final = "127.0.0.1"
_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Probes:
    """A running server of probes."""

    server: ThreadingHTTPServer

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()


def serve(port: int, component: str, judged: Callable[[], Verdict], host: str = LOOPBACK) -> Probes:
    """Answer probes until closed; ``judged`` is asked at every request.

    Parameters
    ----------
    port
        0 takes any free one.
    component
        Named in every answer.
    judged
        Must be quick and callable from any thread.
    host
        Address to listen on; probes say names of topics and partitions, nothing of the data.

    Raises
    ------
    UsageError
        The port is in use.
    """

    class Handler(_Handler):
        name = component
        checks_host = host == LOOPBACK
        verdict = staticmethod(judged)

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise UsageError(
            f"cannot serve health on port {port}: {error.strerror}; choose another"
            " (DRIFTLINE_HEALTH_PORT, or --port-base)"
        ) from error
    threading.Thread(target=server.serve_forever, args=(0.1,), name="probes", daemon=True).start()
    return Probes(server)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """The client has gone; the next one asks again."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_S
    server_version, sys_version = "driftline", ""
    name: str
    checks_host: bool
    verdict: Callable[[], Verdict]

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        path = self.path.partition("?")[0]
        # Only who listens on loopback is reached by web pages alone.
        if self.checks_host and not is_ours(self.headers.get("Host", "")):
            self._answer(403, b'{"error":"this server is addressed as localhost or 127.0.0.1"}')
            return
        if path not in ("/healthz", "/readyz", "/metrics"):
            self._answer(404, b'{"error":"try /healthz, /readyz or /metrics"}')
            return
        verdict = self.verdict()
        telemetry.READY.set(verdict.ready)
        telemetry.HEALTHY.set(verdict.healthy)
        if path == "/metrics":
            self._answer(200, generate_latest(telemetry.REGISTRY), CONTENT_TYPE_LATEST)
            return
        good = verdict.ready if path == "/readyz" else verdict.healthy
        self._answer(200 if good else 503, msgspec.json.encode(verdict.body(self.name)))

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds; nobody reads of them."""
