"""The chDB engine behind the embedded ClickHouse server: sessions, limits, errors.

Every statement runs in a session of its own (opening one costs 0.2 ms), so settings, the current
database and read-only mode can never leak from one request into another. chDB releases the GIL
while it works, so requests run in parallel on threads.

chDB has no users. What keeps a reader from writing is ``readonly=1``, which also refuses table
functions such as ``url()``; what that mode lets through (``SELECT file(...)``, ``INTO OUTFILE``,
``KILL QUERY``) is refused by `_check_reader` from the statement as the engine parsed it.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.embedded import native
from infra.embedded.memory_file import MemoryFile
from infra.embedded.reserve import RESERVE_BYTES, Reserve
from infra.embedded.statements import MIB, EngineError, Limits, Result, Statement
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_READONLY, _UNKNOWN_SETTING, _NO_SPACE = 164, 115, 243
_SETTING_NAME = re.compile(r"[a-z][a-z0-9_]*")
_INSERT = re.compile(r"\s*INSERT\b", re.IGNORECASE)
_TRAILING_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)

# Quoted names and lists of columns may contain the word; only the clause itself stands outside.
_INSERT_SETTINGS = re.compile(
    r"((?:'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|\([^()]*\)|[^'`\"()])*?)"
    r"(\bSETTINGS\s.*)",
    re.IGNORECASE | re.DOTALL,
)

# Functions that reach outside the tables although readonly=1 lets them through.
_FORBIDDEN_TO_READERS = {"file", "hascolumnintable", "eval", "merge"}
# Untouched bytes, which only redaction makes fit to be shown.
_PRIVATE_TABLE = "dead_letter_originals"
_AST_FUNCTION = re.compile(r"^ *Function (\S+)", re.MULTILINE)


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
            seconds=60, memory_bytes=bound, result_bytes=256 * MIB
        )
        try:
            self._lock = _lock(path)
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

    def close(self) -> None:
        """Stop the engine; running statements must have ended."""
        self._reserve.close()
        self._anchor.close()
        os.close(self._lock)

    def version(self) -> str:
        """Version of the engine, such as ``26.9.2.1``."""
        return self.run(Statement("SELECT version()")).body.decode().strip()

    def run(self, statement: Statement) -> Result:
        """Run one statement to its end.

        Raises
        ------
        EngineError
            ClickHouse refused it or it failed.
        """
        with self._session(statement) as session, _engine_errors():
            if statement.data_format is not None:
                if statement.reader:
                    raise EngineError.of(_READONLY, "READONLY", "a reader can only query tables")
                self._check_space()
                return _insert(session, statement)
            returns_rows = self._returns_rows(session, statement)
            if statement.reader:
                _check_reader(session, statement, returns_rows)
            if _INSERT.match(statement.sql):
                self._check_space()
            return _query(session, statement, returns_rows)

    def _check_space(self) -> None:
        if self._reserve.used:
            text = f"less than {RESERVE_BYTES // MIB} MiB are free in {self._path}; make room"
            raise EngineError.of(_NO_SPACE, "NOT_ENOUGH_SPACE", text)

    def _allow_merges(self, allowed: bool) -> None:
        session = self._connect(self._path)
        try:
            session.query(f"SYSTEM {'START' if allowed else 'STOP'} MERGES", "Null", params={})
        finally:
            session.close()

    @contextmanager
    def _session(self, statement: Statement) -> Iterator[Any]:
        limits = self._reader_limits if statement.reader else self._limits
        session = self._connect(self._path)
        try:
            with _engine_errors():
                _apply(session, limits.settings(statement.settings))
                if statement.database != "default":
                    session.query(f"USE {quoted(statement.database)}", "Null", params={})
                if statement.reader:
                    _apply(session, {"readonly": "1"})
            yield session
        finally:
            session.close()

    def _returns_rows(self, session: Any, statement: Statement) -> bool:
        found = session.classify_query(statement.sql)
        if statement.reader and found["statement_count"] != 1:
            raise EngineError.of(_READONLY, "READONLY", "one statement at a time")
        return bool(found["query_class"] == self._read_only_class)


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


def _query(session: Any, statement: Statement, returns_rows: bool) -> Result:
    result = session.query(
        statement.sql, statement.output_format, params=dict(statement.parameters)
    )
    view = result.get_memview()
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


def _check_reader(session: Any, statement: Statement, returns_rows: bool) -> None:
    """Refuse what a reader must not do and ``readonly=1`` would let through."""
    if not returns_rows:
        raise EngineError.of(_READONLY, "READONLY", "a reader can only query tables")
    explained = session.query(
        "EXPLAIN AST " + statement.sql, "TSVRaw", params=dict(statement.parameters)
    )
    tree = explained.bytes().decode()
    if _PRIVATE_TABLE in tree:
        raise EngineError.of(_READONLY, "READONLY", f"a reader cannot read {_PRIVATE_TABLE}")
    forbidden = {
        name
        for name in _AST_FUNCTION.findall(tree)
        if name.lower() in _FORBIDDEN_TO_READERS or name.startswith("ai")
    }
    if forbidden:
        names = ", ".join(sorted(forbidden))
        raise EngineError.of(_READONLY, "READONLY", f"a reader cannot call {names}()")


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
