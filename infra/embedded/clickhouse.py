"""An embedded ClickHouse server: the ClickHouse HTTP interface in front of chDB.

clickhouse-connect, Grafana's ClickHouse plugin and ``curl`` speak to it as to a server, so all
code of driftline runs unchanged on a cluster. One process owns one data folder; it listens on
loopback only and never without a password.

Run it by hand::

    DRIFTLINE_CLICKHOUSE_PASSWORD=secret python -m infra.embedded.clickhouse --path data --port 8123
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from infra.embedded.process import port_is_free, start, stop, wait_for_port
from ingest.core.errors import DriftlineError, UsageError

HOST = "127.0.0.1"
MEMORY_MB = 4096


def start_clickhouse(
    path: Path,
    port: int,
    log: Path,
    password: str,
    reader_password: str | None = None,
    memory_mb: int = MEMORY_MB,
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

    Raises
    ------
    UsageError
        The port is in use.
    Unavailable
        It did not come up; the message says why.
    """
    if not port_is_free(port):
        raise UsageError(f"port {port} is in use; choose others with --port-base")
    process = start(
        [
            *(sys.executable, "-m", "infra.embedded.clickhouse"),
            *("--path", str(path), "--port", str(port), "--memory-mb", str(memory_mb)),
        ],
        log,
        {
            "DRIFTLINE_CLICKHOUSE_PASSWORD": password,
            "DRIFTLINE_CLICKHOUSE_READER_PASSWORD": reader_password or "",
        },
    )
    try:
        wait_for_port(process, port, "ClickHouse", log)
    except BaseException:
        stop(process)
        raise
    return process


async def serve(
    path: Path, port: int, password: str, reader_password: str | None, memory_mb: int
) -> None:
    """Serve ``path`` on loopback until SIGTERM or SIGINT.

    Raises
    ------
    UsageError
        The port or the folder is in use, or the folder cannot be written.
    """
    from aiohttp import web

    from infra.embedded.engine import Engine
    from infra.embedded.http_server import Credentials, Server
    from infra.embedded.statements import MIB

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    engine = Engine(path, memory_mb * MIB)
    server = Server(engine, Credentials(password, reader_password))
    runner = web.AppRunner(
        server.application(), auto_decompress=False, access_log=None, shutdown_timeout=5
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as error:
        raise UsageError(f"port {port} is in use; choose another with --port") from error
    else:
        _say(f"ClickHouse {engine.version()} is ready on {HOST}:{port}, data in {path}")
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
    arguments = parser.parse_args(argv)
    os.environ["TZ"] = "UTC"  # DateTime without a zone is UTC
    time.tzset()
    password = os.environ.pop("DRIFTLINE_CLICKHOUSE_PASSWORD", "")
    reader_password = os.environ.pop("DRIFTLINE_CLICKHOUSE_READER_PASSWORD", "") or None
    try:
        if not password:
            raise UsageError("set DRIFTLINE_CLICKHOUSE_PASSWORD; there is no server without one")
        path = arguments.path.absolute()
        asyncio.run(serve(path, arguments.port, password, reader_password, arguments.memory_mb))
    except DriftlineError as error:
        _say(f"driftline: {error}")
        return error.exit_code
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the log of this process is its output


if __name__ == "__main__":
    sys.exit(main())
