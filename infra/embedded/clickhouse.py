"""An embedded ClickHouse server: the ClickHouse HTTP interface in front of chDB.

clickhouse-connect, Grafana's ClickHouse plugin and ``curl`` speak to it as to a server, so all
code of driftline runs unchanged on a cluster. One process owns one data folder; it listens on
loopback only and never without a password.

The process opens its data folder and its libraries, nothing else (`sandbox`). Passwords come on
standard input, because a process can read its own environment: the owner's, and on a second line
the reader's. Run it by hand::

    echo secret | python -m infra.embedded.clickhouse --path data --port 8123
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from infra.embedded.credentials import Credentials
from infra.embedded.process import port_is_free, start, stop, wait_for_port
from infra.embedded.sandbox import restrict
from ingest.core.errors import DriftlineError, Unavailable, UsageError

HOST = "127.0.0.1"
MEMORY_MB = 4096
# chDB died of a signal while its library was loaded, now and then on a busy machine and then for up
# to ten seconds in a row; why is not known.
_STARTS = 10
_LONGEST_WAIT_S = 4.0


def start_clickhouse(
    path: Path,
    port: int,
    log: Path,
    password: str,
    reader_password: str | None = None,
    memory_mb: int = MEMORY_MB,
    hosts: Iterable[str] = (),
) -> subprocess.Popen[bytes]:
    """Start the server in a process of its own and return when it accepts connections.

    Parameters
    ----------
    path
        Data folder, created if missing.
    port
        Where to listen on 127.0.0.1.
    log
        File for its output.
    password, reader_password
        Of the owner (any user name) and of the user ``reader``, who is refused without one.
    memory_mb
        Bound on the engine's memory.
    hosts
        Names under which clients may address it, beside those of loopback.

    Raises
    ------
    UsageError
        The port is in use.
    Unavailable
        It did not come up; the message says why.
    """
    if not port_is_free(port):
        raise UsageError(f"port {port} is in use; choose others with --port-base")
    command = [
        *(sys.executable, "-m", "infra.embedded.clickhouse"),
        *("--path", str(path), "--port", str(port), "--memory-mb", str(memory_mb)),
        *(f"--host-name={name}" for name in hosts),
    ]
    given = f"{password}\n{reader_password or ''}\n"
    for left in reversed(range(_STARTS)):
        process = start(
            command, log, without=lambda name: name.startswith("DRIFTLINE_"), given=given
        )
        try:
            wait_for_port(process, port, "ClickHouse", log)
        except BaseException as error:
            crashed = (process.poll() or 0) < 0
            stop(process)
            if not crashed:
                raise
            text = f"ClickHouse crashed at its start ({process.returncode}): {_stack(log)}"
            if not left:
                raise Unavailable(text) from error
            with log.open("a") as file:
                file.write(f"{text}; again\n")
            # A quarter of a second, then twice as long each time.
            time.sleep(min(2.0 ** (_STARTS - left - 3), _LONGEST_WAIT_S))
        else:
            return process
    raise AssertionError("the last start returns or raises")


def _stack(log: Path) -> str:
    """Where the process that wrote this log last crashed, on one line."""
    text = log.read_text("utf-8", "replace").rpartition("Fatal Python error: ")[2]
    return " | ".join(line.strip() for line in text.splitlines()[:20] if line.strip())


def sandbox_of(port: int) -> str:
    """How the server on this port is kept from other files, as it found at its start."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5) as answer:
        return str(json.load(answer)["sandbox"])


async def serve(
    path: Path, port: int, credentials: Credentials, memory_mb: int, sandbox: str, hosts: list[str]
) -> None:
    """Serve ``path`` on loopback until SIGTERM or SIGINT.

    Raises
    ------
    UsageError
        The port or the folder is in use, or the folder cannot be written.
    """
    from aiohttp import web

    from infra.embedded.engine import Engine
    from infra.embedded.http_server import Server
    from infra.embedded.statements import MIB

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    engine = Engine(path, memory_mb * MIB)
    server = Server(engine, credentials, sandbox, hosts)
    runner = web.AppRunner(
        server.application(),
        auto_decompress=False,
        access_log=None,
        shutdown_timeout=5,
        handler_cancellation=True,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as error:
        raise UsageError(f"port {port} is in use; choose another with --port") from error
    else:
        _say(f"ClickHouse {engine.version()} is ready on {HOST}:{port}, data in {path}")
        _say(f"sandbox: {sandbox}")
        await ended.wait()
    finally:
        await runner.cleanup()
        server.close()
        engine.close()


def main(argv: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.embedded.clickhouse")
    parser.add_argument("--path", type=Path, required=True, help="data folder")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--memory-mb", type=int, default=MEMORY_MB, help="bound on memory")
    parser.add_argument("--host-name", action="append", default=[], help="another name of ours")
    arguments = parser.parse_args(argv)
    faulthandler.enable()  # its log says where it crashed
    os.environ["TZ"] = "UTC"  # DateTime without a zone is UTC
    time.tzset()
    os.umask(0o077)
    password, reader_password = (*sys.stdin.read().splitlines(), "", "")[:2]
    try:
        if not password:
            raise UsageError("write a password to standard input; there is no server without one")
        path = arguments.path.absolute()
        sandbox = _enter_sandbox(path, arguments.port)
        credentials = Credentials(password, reader_password or None)
        asyncio.run(
            serve(
                path,
                arguments.port,
                credentials,
                arguments.memory_mb,
                sandbox,
                arguments.host_name,
            )
        )
    except DriftlineError as error:
        _say(f"driftline: {error}")
        return error.exit_code
    return 0


def _enter_sandbox(path: Path, port: int) -> str:
    """Keep this process to ``path``, temporary files included. No other thread runs yet."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        os.chdir(path)
    except OSError as error:
        text = f"cannot write to {path}: {error.strerror}; choose another folder"
        raise UsageError(text) from error
    os.environ["TMPDIR"] = str(path / "tmp")
    return restrict(path, port)


def _say(line: str) -> None:
    with suppress(OSError):  # the disk may be full
        print(line, flush=True)  # noqa: T201 - the log of this process is its output


if __name__ == "__main__":
    sys.exit(main())
