"""A TCP proxy that stands between workers and ClickHouse, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Literal

Mode = Literal["pass", "refuse", "lose answers"]


class Proxy:
    """Forwards ``port`` to ``target`` on loopback until told otherwise.

    Modes: ``pass``; ``refuse`` every connection and break those there are; ``lose answers``: what
    was asked is done, but a share of the answers never arrives.
    """

    def __init__(self, port: int, target: int, seed: int) -> None:
        self.port, self._target = port, target
        self._random = random.Random(seed)
        self._mode: Mode = "pass"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.lost = 0
        self._listen()

    def set(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "refuse":
            self._close_all()
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        self.set("refuse")

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close_all(self) -> None:
        listener, self._listener = self._listener, None
        with self._lock:
            connections, self._open = self._open, set()
        for part in (listener, *connections):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.shutdown(socket.SHUT_RDWR)
                part.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target), 10)
            except OSError:
                if self._listener is not listener:
                    return
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, sink, answers), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and self._mode == "lose answers" and self._random.random() < 0.3:
                    self.lost += 1
                    break
                sink.sendall(data)
        for part in (source, sink):
            with contextlib.suppress(OSError):
                part.shutdown(socket.SHUT_RDWR)
            with self._lock:
                known = part in self._open
                self._open.discard(part)
            if known:
                part.close()
