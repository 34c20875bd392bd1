"""Processes, ports and waiting, for tests that must not import anything of the project."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
T = TypeVar("T")


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    given: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` with its output appended to ``log``; on Linux it dies with this process.

    ``given`` is what it reads from standard input.

    Call it from the main thread: the kernel ties the child to the thread that made it.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    if process.stdin is not None and given is not None:
        with process.stdin as pipe:
            pipe.write(given.encode())
    return process


def stop(process: subprocess.Popen[bytes], grace_s: float = 10.0) -> None:
    """Ask a process to end, even a frozen one, and make it end after ``grace_s`` seconds."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process as a power cut would."""
    process.kill()
    process.wait(30)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listens(address: str, port: int) -> bool:
    """Whether a server takes connections there."""
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> int:
    """First of ``count`` free ports in a row, below the ephemeral range.

    Tests that run beside each other choose from ranges of their own.
    """
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 18_000 + beside % 3 * 4_000 + os.getpid() * 37 % 2_000
    for base in range(first, first + 2_000, count):
        if all(port_is_free(base + offset) for offset in range(count)):
            return base
    raise RuntimeError("no free ports")


def last_line(log: Path) -> str:
    """Last line of a log that says something."""
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def until(check: Callable[[], T], within_s: float, what: str, every_s: float = 0.2) -> T:
    """Return the first true value of ``check``.

    Raises
    ------
    TimeoutError
        When none comes in time; the message says ``what`` was waited for.
    """
    deadline = time.monotonic() + 3 * within_s  # for busy machines
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what} (last: {value!r})")
        time.sleep(every_s)
