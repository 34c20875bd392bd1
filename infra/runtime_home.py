"""What a running embedded runtime tells the other commands: one file in its home folder.

Whether it runs is decided by a lock that the kernel drops when the process dies, never by a
process id that may have been given to somebody else.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ingest.core.errors import UsageError

_LOCK, _STATE, _CREDENTIALS = "runtime.lock", "runtime.json", "credentials.json"
_LOG_LOCK = "log.lock"


@dataclass(slots=True)
class Component:
    """One process of the runtime.

    ``state`` is ``running``, ``starting``, ``restarting``, or ``stopped`` with the reason in
    ``detail``; external services have no process and the state ``external``. ``health`` is where
    /healthz, /readyz and /metrics are, for the parts that serve them.
    """

    name: str
    state: str
    pid: int | None = None
    address: str | None = None
    restarts: int = 0
    detail: str = ""
    health: str | None = None


@dataclass(slots=True)
class State:
    """A running runtime.

    Parameters
    ----------
    pid
        Process id of the supervisor.
    ready
        Whether everything has come up once.
    addresses
        Address of each service by name, such as ``kafka`` and ``clickhouse``.
    components
        The processes.
    log_id
        Incarnation of the log of events.
    """

    pid: int
    ready: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    components: list[Component] = field(default_factory=list)
    log_id: str = ""

    @property
    def healthy(self) -> bool:
        """Whether everything runs."""
        return self.ready and all(c.state in ("running", "external") for c in self.components)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Passwords of the embedded ClickHouse: of its owner and of the user ``reader``."""

    password: str = field(repr=False)
    reader_password: str = field(repr=False)


class RuntimeHome:
    """The folder of one embedded runtime.

    Parameters
    ----------
    path
        Where it is; created when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def logs(self) -> Path:
        """Folder of the logs, one per component."""
        return self.path / "logs"

    @property
    def data(self) -> Path:
        """Folder of the ClickHouse data."""
        return self.path / "clickhouse"

    def acquire(self) -> int:
        """Claim the home for this process; the claim ends with the returned descriptor.

        Raises
        ------
        UsageError
            A runtime already has it, or it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._make_private()
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.path}: {error.strerror}; choose another folder with --home"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UsageError(
                f"driftline already runs in {self.path}; see `driftline status`,"
                " stop it with `driftline down`, or choose another folder with --home"
            ) from None
        return lock

    def _make_private(self) -> None:
        """Take from other users what a home made before, by another version or umask, gave them."""
        names = (_LOCK, _STATE, _CREDENTIALS, "tokens.json", "redaction.key")
        for path in (self.path, self.logs, self.data, *(self.path / name for name in names)):
            _take_from_others(path)
        for log in self.logs.glob("*.log"):
            _take_from_others(log)

    def running(self) -> State | None:
        """State of the runtime that has this home, or None when none runs."""
        if not self.is_claimed():
            return None
        try:
            raw = json.loads((self.path / _STATE).read_text("utf-8"))
        except (OSError, ValueError):
            return None  # it has claimed the home and not yet written
        components = [Component(**component) for component in raw.pop("components")]
        return State(**raw, components=components)

    def write(self, state: State) -> None:
        """Publish the state, in one step."""
        self._replace(_STATE, asdict(state))

    def clear(self) -> None:
        """Forget the state of a runtime that has ended."""
        (self.path / _STATE).unlink(missing_ok=True)

    def credentials(self, password: str | None, reader_password: str | None) -> Credentials:
        """Return the passwords given, or made once and kept here, readable by this user only."""
        kept: dict[str, str] = {}
        path = self.path / _CREDENTIALS
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
        wanted = {
            "password": password or kept.get("password") or secrets.token_urlsafe(24),
            "reader_password": reader_password
            or kept.get("reader_password")
            or secrets.token_urlsafe(24),
        }
        if wanted != kept:
            self._replace(_CREDENTIALS, wanted)
        return Credentials(**wanted)

    @contextmanager
    def alone_with_log(self) -> Iterator[bool]:
        """Hold the embedded broker's log for this process alone; False when others write to it."""
        lock = os.open(self.path / _LOG_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def hold_log(self) -> None:
        """Keep the log from being replaced until this process ends; waits while it is."""
        lock = os.open(self.path / _LOG_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)  # never closed: the kernel does it

    def is_claimed(self) -> bool:
        """Whether a runtime has this home now."""
        try:
            lock = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _replace(self, name: str, content: object) -> None:
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
            temporary.replace(self.path / name)
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}") from error


def _take_from_others(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        mode = path.stat().st_mode
        if mode & 0o077:
            path.chmod(mode & 0o700)
