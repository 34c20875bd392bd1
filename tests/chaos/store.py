"""The ClickHouse engine as a process to hurt, and SQL over HTTP."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.truth import Rows
from tests.support.network import Host
from tests.support.processes import kill, last_line, port_is_free, start, stop, until

DATABASE = "chaos"
USER = "driftline"


@dataclass
class Store:
    """An engine with its data in a folder, on a small disk of its own when ``disk_mib`` says so.

    On a ``host`` it is reached through a relay: it listens on loopback only.
    """

    folder: Path
    port: int
    disk_mib: int | None = None
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen[bytes] | None = None
    host: Host | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host.address if self.host else '127.0.0.1'}:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "clickhouse"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and return when it answers."""
        command = [sys.executable, "-m", "infra.embedded.clickhouse", "--path", str(self.data)]
        command += ["--port", str(self.port)]
        if self.disk_mib is not None:
            command = small_disk(self.data, self.disk_mib, command)
        if self.host is not None:
            command = self.host.command([*command, f"--host-name={self.host.address}"])
        self.data.mkdir(parents=True, exist_ok=True)
        until(lambda: port_is_free(self.port), 20, "the engine's port to be free")
        log = self.folder / "clickhouse.log"
        passwords = f"{self.password}\n{self.password}-reader\n"
        self.process = process = start(command, log, given=passwords)

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the engine ended: {last_line(log)}")
            return self.is_up()

        until(answers, 60, "ClickHouse to answer")

    def kill(self) -> None:
        """End it in the middle of what it does."""
        assert self.process is not None
        kill(self.process)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process)

    def is_up(self) -> bool:
        """Whether it answers now."""
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, sql: str, timeout_s: float = 120) -> list[list[Any]]:
        """Rows of a SELECT.

        Raises
        ------
        OSError
            It does not answer.
        RuntimeError
            It refuses the statement.
        """
        request = urllib.request.Request(
            f"{self.url}/?database={DATABASE}",
            (sql + "\nFORMAT JSONCompactEachRow").encode(),
            {"X-ClickHouse-User": USER, "X-ClickHouse-Key": self.password},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return [json.loads(line) for line in answer]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.read().decode()[:500]}\n{sql}") from error

    def table(self, sql: str, columns: int, fold: Callable[[Any], Any] = lambda row: row) -> Rows:
        """Rows by their first columns; a key that comes twice is an error."""
        rows = list(map(fold, self.ask(sql)))
        found = {tuple(row[:columns]): tuple(row[columns:]) for row in rows}
        if len(found) != len(rows):
            raise AssertionError(f"{len(rows) - len(found)} keys come twice in {sql.strip()}")
        return found

    def number(self, sql: str) -> int:
        """The one number that a SELECT gives."""
        return int(self.ask(sql)[0][0])

    # ---- the small disk ----

    def seen_from_outside(self) -> Path:
        """The data folder as the engine sees it: its disk is mounted for itself alone."""
        return Path(f"/proc/{self.pid}/root{self.data}")

    def fill_disk(self) -> None:
        """Take every free byte."""
        with (self.seen_from_outside() / "ballast").open("wb", buffering=0) as ballast:
            size = 1 << 20
            while size:
                try:
                    while ballast.write(bytes(size)):
                        pass
                except OSError:
                    size //= 4

    def free_disk(self) -> None:
        (self.seen_from_outside() / "ballast").unlink()


def small_disk(path: Path, mib: int, command: list[str]) -> list[str]:
    """Run ``command`` with a disk of that size at ``path``, visible to it alone.

    A mount namespace of its own needs root or user namespaces; `no_small_disk` says whether.
    """
    mount = f'mount -t tmpfs -o size={mib}m driftline-chaos "$0" && exec "$@"'
    return [*_unshare(), "sh", "-c", mount, str(path), *command]


def no_small_disk(folder: Path) -> str | None:
    """Why a small disk cannot be had here; None when it can."""
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is not on the PATH"
    folder.mkdir(parents=True, exist_ok=True)
    tried = subprocess.run(
        small_disk(folder, 1, ["true"]), capture_output=True, text=True, timeout=20, check=False
    )
    if tried.returncode == 0:
        return None
    return f"no mount namespace: {tried.stderr.strip()}; run as root or allow user namespaces"


def _unshare() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--propagation", "private"]
