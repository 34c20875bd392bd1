"""Bring a ClickHouse database to the tables this version expects.

A migration is a file ``NNNN_name.sql`` in ``infra/schema/migrations``, applied once, in order of
their names, and never edited afterwards. ClickHouse has no transactional DDL, so the only way is
forward. Views are files in ``infra/schema/views``: they may be edited, and are replaced whenever
their text has changed. A file makes several views of one text where it begins with lines
``-- each: {"view": NAME, "word": "text"}``: ``{word}`` in it is that text. Statements are separated
by a line of eight dashes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from infra.schema.cluster import Cluster, render
from ingest.core.errors import UsageError

_SEPARATOR = re.compile(r"^-{8}\s*$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_EACH = re.compile(r"^-- each: (.+)\n", re.MULTILINE)
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    name String,
    checksum String,
    applied DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY name
"""
_VIEW = re.compile(r"VIEW (?:IF NOT EXISTS )?(\w+)")
_SERVER = Cluster()
_TOUCHED = re.compile(r"(?:ALTER TABLE|FROM)\s+(\w+)", re.IGNORECASE)
_REWRITES = re.compile(r"\b(UPDATE|DELETE|MATERIALIZE|MODIFY ORDER BY|MODIFY TTL)\b|MODIFY COLUMN")
_SIZES = """
SELECT table, toUInt64(sum(rows)), toUInt64(sum(bytes_on_disk)) FROM system.parts
WHERE database = {db:String} AND active GROUP BY table
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``infra/schema/migrations``.

    Parameters
    ----------
    name
        File name without its suffix.
    text
        Content of the file.
    """

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """Statements in order, without those that are only comments."""
        parts = (part.strip() for part in _SEPARATOR.split(self.text))
        return [part for part in parts if _COMMENT.sub("", part).strip()]


def shipped() -> list[Migration]:
    """Return the migrations of this version, in order."""
    folder = files("infra") / "schema" / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [
        Migration(name.removesuffix(".sql"), (folder / name).read_text("utf-8")) for name in names
    ]


def migrate(
    client: Any,
    database: str = "driftline",
    migrations: Sequence[Migration] | None = None,
    cluster: Cluster = _SERVER,
) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    Safe to repeat: a migration that stopped half-way is applied again from its first statement,
    so the statements of one file must tolerate that (``IF NOT EXISTS``), or be a single one.

    Parameters
    ----------
    client
        A clickhouse-connect client; its own database does not matter.
    database
        Created if it is missing.
    migrations
        Those of this version, and its views, unless given.
    cluster
        Where they run.

    Raises
    ------
    UsageError
        The name of the database is not an identifier, an applied migration has been edited, or
        the database was made by a newer version.
    """
    _check_name(database)
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}{cluster.on}")
    for statement in render(_HISTORY, cluster, database):
        client.command(statement, settings={"database": database}, use_database=False)
    pending = _pending(client, database, migrations)
    for migration in pending:
        _apply(client, database, migration, cluster)
    return [migration.name for migration in pending]


@dataclass(frozen=True, slots=True)
class Step:
    """A statement that `migrate` would run, and what it costs."""

    migration: str
    sql: str
    cost: str


def dry_run(client: Any, database: str = "driftline", cluster: Cluster = _SERVER) -> list[Step]:
    """What `migrate` would run, in order; changes nothing.

    Raises
    ------
    UsageError
        As `migrate`.
    """
    _check_name(database)
    known = client.query("EXISTS DATABASE " + database).result_rows[0][0]
    has_history = (
        known and client.query(f"EXISTS TABLE {database}.schema_migrations").result_rows[0][0]
    )
    pending = _pending(client, database, None) if has_history else [*shipped(), *views()]
    rows = client.query(_SIZES, parameters={"db": database}).result_rows
    sizes = {table: (n, size) for table, n, size in rows}
    return [
        Step(migration.name, sql, _cost(sql, sizes))
        for migration in pending
        for statement in migration.statements
        for sql in render(statement, cluster, database, view_names())
    ]


def _cost(statement: str, sizes: dict[str, tuple[int, int]]) -> str:
    """What a statement reads and writes, of tables of these rows and bytes.

    >>> _cost("ALTER TABLE t MODIFY COLUMN a UInt8", {"t": (5, 3_000_000)})
    'rewrites columns of 5 rows (t, 3.0 MB)'
    >>> _cost("ALTER TABLE t ADD COLUMN a UInt8", {"t": (5, 3_000_000)})
    'metadata only'
    """
    plain = _COMMENT.sub("", statement).strip()
    verb = plain.split(None, 1)[0].upper()
    touched = [(name, *sizes[name]) for name in _TOUCHED.findall(plain) if name in sizes]
    if not touched or verb == "CREATE" or (verb == "ALTER" and not _REWRITES.search(plain)):
        return "metadata only"
    table, n, size = touched[0]
    does = "reads" if verb == "INSERT" else "rewrites columns of"
    return f"{does} {n} rows ({table}, {size / 1e6:.1f} MB)"


def _check_name(database: str) -> None:
    if not _DATABASE.fullmatch(database):
        raise UsageError(f"{database!r} is not a name for a database; use letters, digits and _")


def _pending(client: Any, database: str, migrations: Sequence[Migration] | None) -> list[Migration]:
    """What is missing; of all migrations also every view whose text has changed."""
    wanted = list(shipped() if migrations is None else migrations)
    rows = client.query(f"SELECT name, checksum FROM {database}.schema_migrations FINAL")  # noqa: S608
    applied = dict(rows.result_rows)
    _refuse_other_history(wanted, applied, database)
    pending = [migration for migration in wanted if migration.name not in applied]
    # Views need all tables; whoever asks for chosen migrations may have some only.
    if migrations is None:
        pending += [view for view in views() if applied.get(view.name) != view.checksum]
    return pending


def views() -> list[Migration]:
    """Return the views of this version by name; unlike a migration, a view may be edited."""
    folder = files("infra") / "schema" / "views"
    found = []
    for entry in folder.iterdir():
        if entry.name.endswith(".sql"):
            text = entry.read_text("utf-8")
            given = [json.loads(line) for line in _EACH.findall(text)]
            plain = _EACH.sub("", text)
            found += [
                _view(plain, one) for one in given or [{"view": entry.name.removesuffix(".sql")}]
            ]
    return sorted(found, key=lambda view: view.name)


def _view(text: str, words: dict[str, str]) -> Migration:
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return Migration(f"view {words['view']}", text)


@cache
def view_names() -> frozenset[str]:
    """Names of everything that is a view."""
    texts = [migration.text for migration in (*shipped(), *views())]
    return frozenset(name for text in texts for name in _VIEW.findall(text))


def _apply(client: Any, database: str, migration: Migration, cluster: Cluster) -> None:
    for statement in migration.statements:
        for sql in render(statement, cluster, database, view_names()):
            client.command(sql, settings={"database": database}, use_database=False)
    client.insert(
        f"{database}.schema_migrations",
        [[migration.name, migration.checksum]],
        column_names=["name", "checksum"],
    )


def _refuse_other_history(
    wanted: Sequence[Migration], applied: dict[str, str], database: str
) -> None:
    known = {migration.name: migration.checksum for migration in wanted}
    for name, checksum in sorted(applied.items()):
        if name.startswith("view "):
            continue
        if name not in known:
            raise UsageError(
                f"database {database} has migration {name}, which this version does not know: there"
                " is no way back to an older one. Use the newer driftline, or restore the backup"
                " from before the upgrade into another database"
            )
        if known[name] != checksum:
            raise UsageError(
                f"migration {name} was changed after it had been applied to {database};"
                " restore the file and put the change into a new migration"
            )
