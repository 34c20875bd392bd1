"""Child processes that cannot outlive their parent, and waiting for them within bounds."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ingest.core.errors import Unavailable, UsageError

_PR_SET_PDEATHSIG = 1
_LOOK_BACK = 50
_DEATH = timedelta(seconds=10)  # dying takes no longer
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    given: str | None = None,
    without: Callable[[str], bool] = lambda _: False,
) -> subprocess.Popen[bytes]:
    """Start ``command`` with its output appended to ``log``.

    On Linux the kernel kills it when the thread that called this ends, however its process dies:
    call it from the main thread. Every part of driftline survives being killed. The child is in a
    session of its own, so that Ctrl-C reaches only the parent, which stops its children in order.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File for its output, made private to this user.
    environment
        Variables on top of the parent's.
    folder
        Working directory, by default the parent's.
    given
        What it reads from standard input: a place for secrets, which others could read in its
        environment or arguments.
    without
        Which of the parent's variables it does not get.

    Raises
    ------
    UsageError
        The log cannot be written.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {log}: {error.strerror}; choose another --home") from error
    inherited = {name: value for name, value in os.environ.items() if not without(name)}
    try:
        os.fchmod(output, 0o600)
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=inherited | dict(environment or {}),
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - two system calls, no locks
        )
    finally:
        os.close(output)
    if process.stdin is not None and given is not None:
        with suppress(BrokenPipeError), process.stdin as pipe:  # its log says why it has ended
            pipe.write(given.encode())
    return process


def stop(process: subprocess.Popen[bytes], grace_s: float = 10.0) -> None:
    """Ask a process to end, and make it end after ``grace_s`` seconds."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def memory_bytes(pid: int | None) -> int | None:
    """Resident memory of a process; None where it or the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for_port(process: subprocess.Popen[bytes], port: int, name: str, log: Path) -> None:
    """Return when ``process`` accepts connections on ``port``.

    Raises
    ------
    UsageError
        It ended with exit code 2: the caller can fix what the end of its log says.
    Unavailable
        It ended otherwise, or did not listen within two minutes.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            text = f"{name} did not start: {last_line(log) or f'exit code {code}'}"
            raise UsageError(text) if code == UsageError.exit_code else Unavailable(text)
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise Unavailable(f"{name} did not listen on port {port} within 120 s; see {log}")


def last_line(log: Path) -> str:
    """Last line of a log that says something, without our own prefix.

    Of JSON lines, the first error of the last seconds: what follows it tells of its
    consequences.
    """
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    if not lines:
        return ""
    if not lines[-1].startswith("{"):
        return lines[-1].removeprefix("driftline: ")
    parsed = [found for line in lines[-_LOOK_BACK:] if (found := _parsed(line)) is not None]
    end = max((time_ for time_, _, _ in parsed), default=datetime.min.replace(tzinfo=UTC))
    late = (event for time_, level, event in parsed if level == "error" and end - time_ < _DEATH)
    return next(late, parsed[-1][2] if parsed else lines[-1])


def _parsed(line: str) -> tuple[datetime, str, str] | None:
    """Time, level and event of a JSON line; None of any other."""
    try:
        found = json.loads(line)
        return datetime.fromisoformat(found["time"]), str(found["level"]), str(found["event"])
    except (ValueError, KeyError, TypeError):
        return None
