"""A copy of an embedded runtime that is stopped, as one archive, and a runtime made of one.

The data of the engine, the key of pseudonyms, tokens and passwords are a whole: one without the
others is worth little. Whoever copies holds the runtime's own lock, so nothing can start meanwhile.
The archive names the schema it was written with; what is newer than this version is refused.
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
from ingest.core.errors import UsageError

_ABOUT: Final = "driftline-backup.json"
_KEPT: Final = ("clickhouse", "redaction.key", "tokens.json", "credentials.json")


def save(home: RuntimeHome, archive: Path, about: dict[str, Any]) -> int:
    """Write the archive, and return its size in bytes.

    It appears under its name only when it is whole, readable by this user alone.

    Raises
    ------
    UsageError
        The runtime runs, has no data, or the archive exists or cannot be written.
    """
    if not home.data.is_dir():
        raise UsageError(f"there is no data in {home.path}")
    if archive.exists():
        raise UsageError(f"{archive} exists; choose another name")
    lock = home.acquire()
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
                if (home.path / name).exists():
                    tar.add(home.path / name, name)
        size = unfinished.stat().st_size
        unfinished.rename(archive)
    except OSError as error:
        raise UsageError(f"cannot write {archive}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
        os.close(lock)
    return size


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
