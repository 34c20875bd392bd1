"""A copy of an embedded runtime as one archive, a runtime made of one, and how a server does it.

The data of the engine, the key of pseudonyms, tokens and passwords are a whole: one without the
others is worth little. Of a runtime that is stopped all files are copied, under its own lock, so
that nothing can start meanwhile. Of one that runs the parts of its tables are frozen first, those
of the books before all others: whatever the books of the copy say was stored is then in the copy,
and a worker that starts on it reads on from there, as far as Kafka reaches back. The archive names
the schema it was written with; what is newer than this version is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from infra.runtime_home import RuntimeHome
from infra.schema.cluster import Cluster
from ingest.core.errors import UsageError

_ABOUT: Final = "driftline-backup.json"
_KEPT: Final = ("clickhouse", "redaction.key", "tokens.json", "credentials.json")
BOOKS: Final = ("ledger", "watermarks", "station_progress")
"""Tables that say what the others hold; they are copied first."""

_TABLES: Final = """
SELECT name FROM system.tables WHERE database = {db:String} AND endsWith(engine, 'MergeTree')
ORDER BY name
"""


def save(home: RuntimeHome, archive: Path, about: dict[str, Any]) -> int:
    """Write the archive of a runtime that is stopped, and return its size in bytes.

    It appears under its name only when it is whole, readable by this user alone.

    Raises
    ------
    UsageError
        The runtime runs, has no data, or the archive exists or cannot be written.
    """
    lock = home.acquire()
    try:
        return _save(home, archive, about, None)
    finally:
        os.close(lock)


def save_running(
    home: RuntimeHome, archive: Path, about: dict[str, Any], client: Any, database: str
) -> int:
    """Write the archive of a runtime that runs and works, and return its size in bytes.

    Parameters
    ----------
    home, archive, about
        As for `save`.
    client
        A client of its engine.
    database
        The only one that is copied.

    Raises
    ------
    UsageError
        The archive exists or cannot be written.
    """
    name = f"backup{os.getpid()}"
    tables = [row[0] for row in client.query(_TABLES, parameters={"db": database}).result_rows]
    try:
        for table in sorted(tables, key=lambda table: table not in BOOKS):
            client.command(f"ALTER TABLE {database}.{table} FREEZE WITH NAME '{name}'")
        return _save(home, archive, about, name)
    finally:
        shutil.rmtree(home.data / "shadow" / name, ignore_errors=True)


def _save(home: RuntimeHome, archive: Path, about: dict[str, Any], frozen: str | None) -> int:
    if not home.data.is_dir():
        raise UsageError(f"there is no data in {home.path}")
    if archive.exists():
        raise UsageError(f"{archive} exists; choose another name")
    unfinished = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with (
            os.fdopen(
                os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as raw,
            tarfile.open(fileobj=raw, mode="w|") as tar,
        ):
            _add_about(tar, about)
            for name in _KEPT:
                if frozen is not None and home.path / name == home.data:
                    _add_frozen(tar, home.data, name, frozen)
                elif (home.path / name).exists():
                    tar.add(home.path / name, name)
        size = unfinished.stat().st_size
        unfinished.rename(archive)
    except OSError as error:
        raise UsageError(f"cannot write {archive}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return size


def _add_frozen(tar: tarfile.TarFile, data: Path, name: str, frozen: str) -> None:
    """Add what describes databases and tables, and the frozen parts in place of their own."""
    for folder, folders, files in os.walk(data):
        here = Path(folder)
        if here == data:
            folders[:] = [f for f in folders if f not in ("shadow", "tmp", "data")]
        if "format_version.txt" in files:
            folders.clear()  # of a table: its parts
        for file in {"format_version.txt"} & set(files) or files:
            tar.add(here / file, f"{name}/{(here / file).relative_to(data)}")
    shadow = data / "shadow" / frozen
    if (shadow / "store").is_dir():
        tar.add(shadow / "store", f"{name}/store")


def server_backup(database: str, name: str, cluster: Cluster) -> list[str]:
    """Statements by which a ClickHouse server saves itself, the books before all others."""
    books = [f"{database}.{table}{'_local' * cluster.sharded}" for table in BOOKS]
    named = ", ".join(f"TABLE {table}" for table in books)
    return [
        f"BACKUP {named}{cluster.on} TO Disk('backups', '{name}-books')",
        f"BACKUP DATABASE {database} EXCEPT TABLES {', '.join(books)}{cluster.on}"
        f" TO Disk('backups', '{name}')",
    ]


def server_restore(database: str, name: str, cluster: Cluster) -> list[str]:
    """Statements by which it comes back, into a database that does not exist."""
    books = [f"TABLE {database}.{table}{'_local' * cluster.sharded}" for table in BOOKS]
    return [
        f"RESTORE DATABASE {database}{cluster.on} FROM Disk('backups', '{name}')",
        f"RESTORE {', '.join(books)}{cluster.on} FROM Disk('backups', '{name}-books')",
    ]


def restore(archive: Path, home: RuntimeHome, known: Iterable[str]) -> dict[str, Any]:
    """Make a home of an archive, and return what it tells about itself.

    Parameters
    ----------
    archive
        Of `save`.
    home
        Must hold no data yet.
    known
        Names of the migrations of this version.

    Raises
    ------
    UsageError
        The home holds data, or the archive is none, or of a newer version.
    """
    if home.data.exists():
        raise UsageError(f"{home.path} holds data already; restore into another folder with --home")
    lock = home.acquire()
    unfinished = home.path / f".restoring.{os.getpid()}"
    try:
        with tarfile.open(archive, "r:") as tar:
            about = _about(tar, archive)
            newer = sorted(set(about["migrations"]) - set(known))
            if newer:
                raise UsageError(
                    f"{archive} is of driftline {about['version']} with {', '.join(newer)}, which"
                    " this version does not know; use that version or a newer one"
                )
            # "data" keeps every member below the folder, whatever its name says.
            tar.extractall(unfinished, filter="data")
        for name in reversed(_KEPT):  # the data last: with it the home is whole
            if (unfinished / name).exists():
                (unfinished / name).rename(home.path / name)
    except (tarfile.TarError, OSError) as error:
        raise UsageError(f"cannot restore {archive}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        os.close(lock)
    return about


def _add_about(tar: tarfile.TarFile, about: dict[str, Any]) -> None:
    from io import BytesIO

    text = json.dumps(about).encode()
    entry = tarfile.TarInfo(_ABOUT)
    entry.size, entry.mode = len(text), 0o600
    tar.addfile(entry, BytesIO(text))


def _about(tar: tarfile.TarFile, archive: Path) -> dict[str, Any]:
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.name == _ABOUT else None
    if file is None:
        raise UsageError(f"{archive} is no backup of driftline")
    about: dict[str, Any] = json.load(file)
    return about
