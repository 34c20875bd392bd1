"""The chDB engine behind the embedded ClickHouse server: sessions, limits, errors.

Every statement runs in a session of its own (opening one costs 0.2 ms), so settings, the current
database and read-only mode can never leak from one request into another. chDB releases the GIL
while it works, so requests run in parallel on threads.

chDB has no users. A reader is kept to reading by `readers`, which allows what it knows to be
harmless, and by ``readonly=1``.

After a fatal error, such as a stack that overflowed, chDB answers every statement with code 236 and
never returns from the one that did it. `Engine` then names what was running and ends the process:
its supervisor starts another.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.embedded import native, readers
from infra.embedded.memory_file import MemoryFile
from infra.embedded.reserve import RESERVE_BYTES, Reserve
from infra.embedded.running import Running
from infra.embedded.statements import MIB, EngineError, Limits, Result, Statement
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_READONLY, _UNKNOWN_SETTING, _NO_SPACE, _ABORTED = 164, 115, 243, 236
_CANCELLED, _TOO_LARGE = 394, 396
_SETTING_NAME = re.compile(r"[a-z][a-z0-9_]*")
_INSERT = re.compile(r"\s*INSERT\b", re.IGNORECASE)
_TRAILING_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)

# Quoted names and lists of columns may contain the word; only the clause itself stands outside.
_INSERT_SETTINGS = re.compile(
    r"((?:'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|\([^()]*\)|[^'`\"()])*?)"
    r"(\bSETTINGS\s.*)",
    re.IGNORECASE | re.DOTALL,
)


class Engine:
    """One open chDB database; safe to use from many threads.

    Parameters
    ----------
    path
        Data folder, created if missing; one process at a time can open it.
    memory_bytes
        Bound on the memory of the whole engine.
    limits, reader_limits
        Bounds on one statement of the owner and of a reader.

    Raises
    ------
    UsageError
        Another process has opened ``path``, or it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        memory_bytes: int,
        limits: Limits | None = None,
        reader_limits: Limits | None = None,
    ) -> None:
        import chdb  # half a gigabyte of engine: loaded only where it runs

        binding: Any = chdb._chdb  # noqa: SLF001 - chdb.connect() adds only progress bars to it
        self._connect = binding.connect
        self._read_only_class = binding.query_class.READ_ONLY
        self._path = str(path)
        bound = max(memory_bytes // 2, 256 * MIB)
        self._limits = limits or Limits(memory_bytes=bound)
        self._reader_limits = reader_limits or Limits(
            seconds=60, memory_bytes=bound, result_bytes=64 * MIB, others=readers.UPPER_BOUNDS
        )
        try:
            self._lock = _lock(path)
            shutil.rmtree(path / "tmp", ignore_errors=True)  # what a killed engine left
            (path / "tmp").mkdir(exist_ok=True)
            # This connection runs nothing: the engine lives as long as one is open.
            self._anchor = self._connect(f"{self._path}?max_server_memory_usage={memory_bytes}")
            self._reserve = Reserve(path, self._allow_merges)
        except OSError as error:
            raise UsageError(
                f"cannot write to {path}: {error.strerror}; choose another folder"
            ) from error
        except RuntimeError as error:
            os.close(self._lock)
            text = str(error).splitlines()[0]
            raise UsageError(f"cannot open the database in {path}: {text}") from error
        self._running = Running(self._beat, self._kill)
        names = self._ask("SELECT lower(name) FROM system.functions")
        self._functions = frozenset(names.splitlines())

    def close(self) -> None:
        """Stop the engine; running statements must have ended."""
        self._running.close()
        self._reserve.close()
        self._anchor.close()
        os.close(self._lock)

    def version(self) -> str:
        """Version of the engine, such as ``26.9.2.1``."""
        return self._ask("SELECT version()").strip()

    @property
    def is_full(self) -> bool:
        """Whether inserts are refused because the disk is nearly full."""
        return self._reserve.used

    def run(self, statement: Statement, tag: str | None = None) -> Result:
        """Run one statement to its end.

        Parameters
        ----------
        statement
            What to run.
        tag
            Hexadecimal name, by which `cancel` ends it.

        Raises
        ------
        EngineError
            ClickHouse refused it or it failed.
        """
        tag = tag or uuid.uuid4().hex
        with self._running.entered(tag, statement.sql):
            try:
                return self._run(statement, tag)
            except EngineError as error:
                if error.code == _ABORTED:
                    self._running.check()
                raise

    def cancel(self, tag: str) -> None:
        """End the statement with this tag, if it runs."""
        self._running.cancel(tag)

    def _run(self, statement: Statement, tag: str) -> Result:
        if statement.reader:
            if statement.data_format is not None:
                raise EngineError.of(_READONLY, "READONLY", "a reader can only query tables")
            plain = readers.check(
                statement.sql, statement.database, statement.output_format, self._functions
            )
            statement = replace(statement, sql=plain)
        with self._session(statement, tag) as session, _engine_errors():
            if statement.data_format is not None:
                self._check_space()
                return _insert(session, statement)
            found = session.classify_query(statement.sql)
            returns_rows = bool(found["query_class"] == self._read_only_class)
            unparsed = found["statement_count"] == 0  # running it says what is wrong with it
            if statement.reader and not (returns_rows or unparsed):
                raise EngineError.of(_READONLY, "READONLY", "a reader can only query tables")
            if _INSERT.match(statement.sql):
                self._check_space()
            if self._running.is_cancelled(tag):
                raise EngineError.of(_CANCELLED, "QUERY_WAS_CANCELLED", "its client has gone")
            limits = self._reader_limits if statement.reader else self._limits
            return _query(session, statement, returns_rows, limits.result_bytes)

    def _check_space(self) -> None:
        if self.is_full:
            text = f"less than {RESERVE_BYTES // MIB} MiB are free in {self._path}; make room"
            raise EngineError.of(_NO_SPACE, "NOT_ENOUGH_SPACE", text)

    def _allow_merges(self, allowed: bool) -> None:
        self._ask(f"SYSTEM {'START' if allowed else 'STOP'} MERGES")

    def _kill(self, tag: str) -> None:
        with suppress(RuntimeError):
            self._ask(f"KILL QUERY WHERE Settings['log_comment'] = '{tag}' ASYNC")

    def _beat(self) -> bool:
        try:
            self._ask("SELECT 1")
        except RuntimeError as error:
            return EngineError(str(error)).code != _ABORTED
        return True

    def _ask(self, sql: str) -> str:
        """Run a statement of the engine's own, in a session of its own."""
        session = self._connect(self._path)
        try:
            return str(session.query(sql, "TSVRaw", params={}).bytes().decode())
        finally:
            session.close()

    @contextmanager
    def _session(self, statement: Statement, tag: str) -> Iterator[Any]:
        wanted, limits = statement.settings, self._limits
        if statement.reader:
            wanted, limits = readers.settings(wanted) | {"log_comment": tag}, self._reader_limits
        session = self._connect(self._path)
        try:
            with _engine_errors():
                _apply(session, limits.settings(wanted))
                if statement.database != "default":
                    session.query(f"USE {quoted(statement.database)}", "Null", params={})
                if statement.reader:
                    _apply(session, {"readonly": "1"})
            yield session
        finally:
            session.close()


def quoted(name: str) -> str:
    """Name as a ClickHouse identifier in backquotes."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _apply(session: Any, settings: Mapping[str, str]) -> None:
    """Set all settings in one statement."""
    parts = []
    for name, value in settings.items():
        if not _SETTING_NAME.fullmatch(name):
            raise EngineError.of(_UNKNOWN_SETTING, "UNKNOWN_SETTING", f"Unknown setting {name!r}")
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        parts.append(f"{name} = '{escaped}'")
    if parts:
        session.query("SET " + ", ".join(parts), "Null", params={})


def _query(session: Any, statement: Statement, returns_rows: bool, limit: int) -> Result:
    result = session.query(
        statement.sql, statement.output_format, params=dict(statement.parameters)
    )
    view = result.get_memview()
    if view.size() > limit:  # ``max_result_bytes`` counts a constant once for all rows
        text = f"Limit for result exceeded, max bytes: {limit}, current bytes: {view.size()}"
        raise EngineError.of(_TOO_LARGE, "TOO_MANY_ROWS_OR_BYTES", text)
    body = bytes(view.view()) if view.size() else b""
    named = _TRAILING_FORMAT.search(statement.sql)
    output_format = named[1] if named else statement.output_format
    if not body and returns_rows and output_format == "Native":
        body = _native_header(session, statement)
    return Result(
        body=body,
        output_format=output_format if returns_rows else None,
        rows_read=result.storage_rows_read(),
        rows_written=result.rows_written(),
        bytes_written=result.bytes_written(),
        seconds=result.elapsed(),
    )


def _insert(session: Any, statement: Statement) -> Result:
    """Insert rows from memory, as if from a file.

    chDB's streaming insert acknowledges rows that it could not store when the disk is full, and an
    insert with inlined data ends at the first newline of binary formats; this does neither.
    """
    head, settings = _without_settings(statement.sql)
    with _as_file(statement.data) as path:
        result = session.query(
            f"{head} FROM INFILE '{path}' COMPRESSION 'none'"
            f" {settings} FORMAT {statement.data_format}",
            "Null",
            params=dict(statement.parameters),
        )
    return Result(
        body=b"",
        output_format=None,
        rows_written=result.rows_written(),
        bytes_written=result.bytes_written(),
        seconds=result.elapsed(),
    )


@contextmanager
def _as_file(data: bytes | memoryview) -> Iterator[str]:
    """Path of a file with this content: in memory on Linux, elsewhere a temporary one."""
    view = memoryview(data)
    whole = view.obj
    if isinstance(whole, MemoryFile) and whole.path and view.nbytes == len(whole):
        yield whole.path
    elif sys.platform == "linux" and view.nbytes:
        copy = MemoryFile(view.nbytes)
        copy[:] = view
        yield copy.path
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name


def _without_settings(insert: str) -> tuple[str, str]:
    """Split the SETTINGS clause off an INSERT, for it must follow the name of the file.

    >>> _without_settings("INSERT INTO t (settings) SETTINGS async_insert = 0")
    ('INSERT INTO t (settings)', 'SETTINGS async_insert = 0')
    """
    found = _INSERT_SETTINGS.match(insert)
    return (insert.rstrip(), "") if found is None else (found[1].rstrip(), found[2].strip())


def _native_header(session: Any, statement: Statement) -> bytes:
    """Return the block of zero rows that tells a client the columns of an empty result.

    ClickHouse itself sends such a block; chDB sends nothing.
    """
    inner = _TRAILING_FORMAT.sub("", statement.sql).rstrip().rstrip(";")
    try:
        described = session.query(
            f"DESCRIBE ({inner}\n)", "TSVRaw", params=dict(statement.parameters)
        )
    except RuntimeError:
        return b""  # SHOW, EXISTS and the like cannot be described
    columns = [line.split("\t")[:2] for line in described.bytes().decode().splitlines()]
    return native.empty_block([(name, kind) for name, kind in columns])


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise EngineError(str(error)) from None


def _lock(path: Path) -> int:
    """Lock the data folder and return the descriptor that holds the lock until it is closed.

    chDB locks it too, but does not say that this is why it fails.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = os.open(path / "driftline.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(
            f"{path} is in use by another process; stop it or choose another folder"
        ) from None
    return lock
