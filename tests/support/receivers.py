"""Receivers of notifications that share no code with driftline."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """A webhook; answers ``status``, or refuses those whose signature is wrong."""

    port: int
    secret: str | None = None
    status: int = 200
    got: list[Received] = field(default_factory=list)
    refused: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def is_signed(self, request: Received) -> bool:
        """Whether the signature is right, from its documentation alone."""
        stamp = request.headers.get("Driftline-Timestamp", "")
        if not stamp.isdigit() or abs(time.time() - int(stamp)) > 300:
            return False
        wanted = hmac.new(
            str(self.secret).encode(), stamp.encode() + b"." + request.body, hashlib.sha256
        )
        return request.headers.get("Driftline-Signature") == "v1=" + wanted.hexdigest()


@contextmanager
def webhook(port: int = 0, secret: str | None = None) -> Iterator[Hook]:
    hook = Hook(port, secret)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Received(self.path, dict(self.headers.items()), body, time.time())
            good = hook.secret is None or hook.is_signed(request)
            if good and hook.status == 200:
                hook.got.append(request)
            else:
                hook.refused.append(request)
            self.send_response(hook.status if good else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    hook.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()


_CONFIG = """
route:
  receiver: hook
  group_by: [incident]
  group_wait: 3s
  group_interval: 3s
  repeat_interval: 4h
receivers:
- name: hook
  webhook_configs:
  - url: {url}
    send_resolved: true
"""


@contextmanager
def alertmanager(folder: Path, port: int, hook_url: str) -> Iterator[str]:
    """Prometheus Alertmanager of the Debian package; yields its address."""
    config = folder / "alertmanager.yml"
    config.write_text(_CONFIG.format(url=hook_url))
    log = (folder / "alertmanager.log").open("wb")
    process = subprocess.Popen(
        [
            "prometheus-alertmanager", f"--config.file={config}",
            f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log, stderr=log,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError((folder / "alertmanager.log").read_text()[-2000:])
        yield url
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
