"""Erases a person: rewrites every row that is theirs, and proves it by a search.

First the pseudonyms of all their ids become known to the workers, so that nothing of them is stored
under their own ids any more. Then each table with such rows is rewritten: the rows, as
`processors.write.erased` leaves them, wait in a table of their own while the old ones are deleted.
A run that stopped half-way goes on where it was, for what waits is put back first. What others say
of the person, such as the examples of a finding, has their ids replaced.
"""

# ruff: noqa: S608 - statements are built of names of our own tables and of escaped literals
from __future__ import annotations

import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import polars as pl

from ingest.core.errors import UsageError
from ingest.core.events import EVALUATION_KINDS
from processors.clickhouse import MAX_STATEMENT_BYTES, Store, literal, portions
from processors.derive import scopes
from processors.write.erased import (
    IDS,
    MARK,
    OWNERS,
    REFRESH_S,
    Erased,
    Name,
    erasure_rows,
    now_ns,
    pair,
)

_STAGE: Final = "erasing_"
_PASSES: Final = 3
_AT_ONCE: Final = 50_000
# Statements hold what is erased, and must not stay in the server's log of statements.
_SETTINGS: Final = {"log_queries": 0, "max_query_size": MAX_STATEMENT_BYTES}
_MUTATION: Final = {"mutations_sync": 2, **_SETTINGS}
_IN_MUTATION: Final = 20_000
"""Hashes in one: Keeper takes a megabyte."""
_JUDGES: Final = literal(EVALUATION_KINDS)
_LEAST_ID: Final = 6  # characters of an id that is looked for within words
_LEAST_WORDS: Final = 12  # characters of a text that a state is searched for

_NOBODYS: Final = (
    "ledger", "watermarks", "windows", "rollups", "schema_migrations", "erasures",
    "released_partitions",
)  # fmt: skip
"""Tables that hold counts, places and names of programs only."""
_NO_WORDS: Final = ("cluster", "sha256", "log_id", "run", "owner")

_TABLES: Final = """
SELECT replaceRegexpOne(t.name, '_local$', '') AS table, t.sorting_key AS key,
    groupArray(c.name) AS columns, groupArray(c.type) AS types
FROM system.tables AS t INNER JOIN system.columns AS c ON c.database = t.database
    AND c.table = t.name
WHERE t.database = currentDatabase() AND endsWith(t.engine, 'MergeTree')
    AND NOT has({nobodys:Array(String)}, table) AND c.default_kind NOT IN ('ALIAS', 'MATERIALIZED')
GROUP BY table, key ORDER BY table
"""
_KNOWN: Final = (
    "SELECT 1 AS n FROM {tables} WHERE database = currentDatabase() AND name = {t:String}"
)
_OWN: Final = """
SELECT DISTINCT interaction_id AS trace, interaction_id, session_id FROM events
WHERE user_id IN {users} AND ({session} = '' OR session_id = {session}) AND kind NOT IN {judges}
UNION DISTINCT
SELECT DISTINCT trace_id, interaction_id, session_id FROM interaction_results
WHERE user_id IN {users} AND ({session} = '' OR session_id = {session})
UNION DISTINCT
SELECT DISTINCT '', '', session_id FROM session_results
WHERE user_id IN {users} AND ({session} = '' OR session_id = {session})
"""
_SHARED: Final = """
SELECT DISTINCT session_id FROM events WHERE session_id IN {sessions} AND user_id != ''
    AND user_id NOT IN {users} AND kind NOT IN {judges}
UNION DISTINCT
SELECT DISTINCT session_id FROM interaction_results WHERE session_id IN {sessions}
    AND user_id != '' AND user_id NOT IN {users}
"""
_OF_SESSIONS: Final = """
SELECT DISTINCT interaction_id AS trace, interaction_id FROM events
WHERE session_id IN {sessions} AND kind NOT IN {judges}
UNION DISTINCT
SELECT DISTINCT trace_id, interaction_id FROM interaction_results WHERE session_id IN {sessions}
"""
_OF_TRACES: Final = """
SELECT DISTINCT interaction_id FROM interaction_results WHERE trace_id IN {traces}
"""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose data it is: every form of the user's id, and everything that is theirs alone."""

    users: Sequence[str]
    sessions: Sequence[str]
    interactions: Sequence[str]
    whole: bool
    """Whether all of the user is erased, and not one session."""

    @property
    def owned(self) -> list[str]:
        """Ids by which a row is theirs."""
        return [*(self.users if self.whole else ()), *self.sessions, *self.interactions]

    @property
    def mentioned(self) -> list[str]:
        """Ids of the user that are long enough to be looked for within any text."""
        return [user for user in self.users if self.whole and len(user) >= _LEAST_ID]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is in the database: its sorting key, and the types of its columns."""

    name: str
    key: str
    columns: dict[str, str]

    @property
    def owners(self) -> list[str]:
        """Columns that say whose a row is."""
        return [column for column in OWNERS if column in self.columns]

    @property
    def strings(self) -> list[str]:
        """Columns that hold text, lists of text among them."""
        return [column for column, kind in self.columns.items() if "String" in kind]

    @property
    def words(self) -> list[str]:
        """Columns of somebody's words: plain strings that are no ids, and masked messages."""
        keys = {part.strip() for part in self.key.split(",")}
        return [
            column for column, kind in self.columns.items()
            if (kind == "String" or column.endswith("_template"))
            and column not in {*IDS, *keys, *_NO_WORDS, "attributes"}
        ]  # fmt: skip

    @property
    def identity(self) -> str:
        """SQL of a hash that is the same for copies of a row and no other."""
        versions = [column for column in ("version",) if column in self.columns]
        return f"cityHash64({', '.join([self.key, *versions])})"


@dataclass(frozen=True, slots=True)
class Report:
    """What was done.

    Parameters
    ----------
    rewritten
        Rows by table.
    left
        Places that a search still found an id in, as ``table.column: rows``; empty when all is
        well.
    """

    sessions: int
    interactions: int
    rewritten: dict[str, int]
    left: list[str]
    seconds: float


def find(store: Store, users: Sequence[str], session: str | None = None) -> Person:
    """Everything that is a user's, or that of one of their sessions.

    Parameters
    ----------
    store
        The database.
    users
        Every form in which their id may be stored.
    session
        Only this one.

    Raises
    ------
    UsageError
        The session is not of this user alone.
    """
    given = {"users": literal(users), "judges": _JUDGES, "session": literal(session or "")}
    own = _read(store, _OWN.format(**given))
    interactions = _values(own, "trace", "interaction_id")
    sessions = _values(own, "session_id")
    shared: set[str] = set()
    for part in portions(sorted(sessions), _AT_ONCE):
        shared |= _values(_read(store, _SHARED.format(**given, sessions=literal(part))))
    if session is not None and session not in sessions:
        raise UsageError(f"nothing of this user is stored in session {session}")
    sessions -= shared
    for part in portions(sorted(sessions), _AT_ONCE):
        of = _OF_SESSIONS.format(judges=_JUDGES, sessions=literal(part))
        interactions |= _values(_read(store, of), "trace", "interaction_id")
    for part in portions(sorted(interactions), _AT_ONCE):
        interactions |= _values(_read(store, _OF_TRACES.format(traces=literal(part))))
    return Person(users, sorted(sessions), sorted(interactions), session is None)


def erase(store: Store, name: Name, person: Person, wait_s: float = 2 * REFRESH_S) -> Report:
    """Rewrite everything of a person, until a search finds nothing.

    Parameters
    ----------
    store
        The database.
    name
        `processors.write.erased.namer` of the key of this installation.
    person
        As `find` returns it.
    wait_s
        Until every worker knows.

    Raises
    ------
    Unavailable
        When ClickHouse is away; a repeat does the rest.
    """
    started = time.monotonic()
    owned = set(person.owned)
    if not person.whole:
        owned |= {pair(user, of) for user in person.users for of in person.owned}
    names = {name(value) for value in owned} - {""}
    store.insert("erasures", erasure_rows(sorted(names), now_ns()))
    erased = Erased(dict.fromkeys(names, 2**63 - 1), name)
    rewritten: dict[str, int] = {}
    left: list[str] = []
    words: set[str] = set()
    time.sleep(wait_s)
    for _ in range(_PASSES):
        for table, rows in _rewrite_all(store, erased, person, words):
            rewritten[table] = rewritten.get(table, 0) + rows
        # Stations hold their states in memory; on seeing this they read them again.
        store.insert("erasures", erasure_rows([""], now_ns()))
        time.sleep(wait_s)
        left = search(store, person)
        if states := _rewrite_states(store, erased, person, words):
            left.append(f"station_state.state: {states}")
        if not left:
            break
    took = time.monotonic() - started
    return Report(len(person.sessions), len(person.interactions), rewritten, left, took)


def search(store: Store, person: Person) -> list[str]:
    """Where any of a person's ids is still stored, as ``table.column: rows``.

    Every text of every table is searched, also within longer texts for the ids of a user.
    """
    found: Counter[str] = Counter()
    for table in _tables(store):
        for part in portions(person.owned, _AT_ONCE):
            counts = [
                f"countIf({_mentions(table, column, person)} OR {_is_one(table, column)})"
                f" AS `{column}`"
                for column in table.strings
            ]
            row = _read(
                store,
                # Once, for there may be thousands of them.
                f"WITH owned AS (SELECT arrayJoin({_array(part)}) AS id)"
                f" SELECT {', '.join(counts or ['0'])} FROM {table.name}",
            ).row(0, named=True)
            found.update({f"{table.name}.{column}": n for column, n in row.items() if n})
    return [f"{place}: {n}" for place, n in found.items()]


def _mentions(table: Table, column: str, person: Person) -> str:
    told = _text(table, column)
    return " OR ".join(
        ["0", *(f"position({told}, {literal(user)}) > 0" for user in person.mentioned)]
    )


def _is_one(table: Table, column: str) -> str:
    """SQL: whether a column is, or a list of it has, one of ``owned``."""
    known = "IN (SELECT id FROM owned)"
    if table.columns[column].startswith("Array"):
        return f"arrayExists(x -> toString(x) {known}, {column})"
    return f"toString({column}) {known}"


def _rewrite_all(
    store: Store, erased: Erased, person: Person, words: set[str]
) -> Iterator[tuple[str, int]]:
    """Rows rewritten, by table; what was said is added to ``words``."""
    tables = _tables(store)
    event_ids: set[str] = set()
    # Events first: what else bears their ids is found by them.
    for table in sorted(tables, key=lambda table: table.name != "events"):
        if table.name == "station_state":
            continue
        hits = 0
        for condition in _conditions(table, person, sorted(event_ids)):
            rows = _rewrite(store, table, condition, erased, person)
            if rows is None:
                continue
            hits += len(rows)
            if table.name == "events":
                event_ids |= set(rows["event_id"]) - {""}
            if table.name == "interaction_results":
                words |= set(rows["request"]) | set(rows["failure_template"])
        if hits:
            yield table.name, hits
    states = _rewrite_states(store, erased, person, words)
    if states:
        yield "station_state", states


def _conditions(table: Table, person: Person, event_ids: Sequence[str]) -> Iterator[str]:
    """SQL of which rows of a table are to be rewritten."""
    if table.owners:
        for part in portions(person.owned, _AT_ONCE):
            of = literal(part)
            yield " OR ".join(
                f"{column} IN {of}"
                + (
                    f" OR substringIndex({column}, '/', 1) IN {of}"
                    f" OR splitByString('{scopes.MARK}', {column})[1] IN {of}"
                    if column == "target"
                    else ""
                )
                for column in table.owners
            )
        # What others say of them, within their own rows.
        for user in person.mentioned:
            columns = [c for c in (*table.words, "attributes") if c in table.columns]
            if columns:
                yield " OR ".join(f"position({c}, {literal(user)}) > 0" for c in columns)
    elif "event_id" in table.columns:
        for part in portions(event_ids, _AT_ONCE):
            yield f"event_id IN {literal(part)}"
    elif table.strings:
        texts = ", ".join(_text(table, column) for column in table.strings)
        told = f"concatWithSeparator(' ', {texts})"
        tokens = f"extractAll({told}, '[^\\\\s\"\\',;{{}}\\\\[\\\\]()\\\\\\\\]+')"
        for user in person.mentioned:
            yield f"position({told}, {literal(user)}) > 0"
        for part in portions(person.owned, _AT_ONCE):
            yield f"arrayExists(x -> x IN {literal(part)}, {tokens})"


def _rewrite(
    store: Store, table: Table, condition: str, erased: Erased, person: Person
) -> pl.DataFrame | None:
    """Rewrite the rows of a table; returns them as they were, None without any."""
    stage = _STAGE + table.name
    known = _KNOWN.replace("{tables}", store.everywhere("tables", "system"))
    if len(store.query(known, {"t": stage})):  # of a run that was stopped
        _put_back(store, table, stage)
    columns = ", ".join(f"`{column}`" for column in table.columns)
    rows: pl.DataFrame = _read(
        store,
        f"SELECT {columns}, {table.identity} AS replaced FROM {table.name} WHERE {table.identity}"
        f" IN (SELECT {table.identity} FROM {table.name} WHERE {condition})",
    )
    if rows.is_empty():
        return None
    rows = rows.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    store.command(
        f"CREATE TABLE {stage}{store.on} ENGINE = MergeTree ORDER BY tuple() EMPTY AS"
        f" SELECT *, toUInt64(0) AS replaced FROM {store.local(table.name)}"
    )
    if table.owners:
        hit = erased.hits(rows)
        scrubbed = erased.scrub(rows.filter(hit), table.words)
        # Also within ids that are made of others, such as that of a call about an interaction.
        changed = _replaced(pl.concat([rows.filter(~hit), scrubbed]), table, erased, person)
    elif "event_id" in table.columns:
        changed = erased.scrub(rows, table.words)
    else:
        changed = _replaced(rows, table, erased, person)
    store.insert(stage, changed)
    _put_back(store, table, stage)
    return rows


def _put_back(store: Store, table: Table, stage: str) -> None:
    """Delete what the stage replaces, insert what it holds, and drop it."""
    columns = ", ".join(f"`{column}`" for column in table.columns)
    waiting = store.everywhere(stage)
    rows = store.query(f"SELECT DISTINCT toString(replaced) AS hash FROM {waiting}")
    for part in portions([] if rows.is_empty() else rows["hash"].to_list(), _IN_MUTATION):
        # Not by a subquery: each replica runs it, and what waits is on one of them.
        of = f"{table.identity} IN ({', '.join(part)})"
        store.alter(table.name, f"DELETE WHERE {of}", settings=_MUTATION)
    store.command(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {waiting}")
    store.command(f"DROP TABLE {stage}{store.on} SYNC")
    # A drop, even of nothing, takes the files of replaced parts away at once.
    store.alter(table.name, "DROP PARTITION ID '19700101'")


def _replaced(rows: pl.DataFrame, table: Table, erased: Erased, person: Person) -> pl.DataFrame:
    """Rows of others, with the person's ids replaced wherever they stand in a text.

    A dead letter is one line of one sender, and goes as a whole.
    """
    within = sorted(person.mentioned, key=len, reverse=True)
    apart = sorted(set(person.owned) - set(within), key=len, reverse=True)
    pattern = re.compile(
        "|".join(
            [
                *map(re.escape, within),
                r"(?<![\w-])(?:" + "|".join(map(re.escape, apart)) + r")(?![\w-])",
            ]
        )
    )

    def clean(text: str) -> str:
        return pattern.sub(lambda found: erased.name(found[0]), text)

    changed: list[pl.Expr | pl.Series] = []
    for column in table.strings:
        if column in ("text", "original") and not table.owners:
            changed.append(pl.lit("").alias(column))
        elif table.columns[column].startswith("Array"):
            changed.append(
                pl.Series(
                    column, [[clean(v) for v in row] for row in rows[column]], pl.List(pl.String)
                )
            )
        else:
            changed.append(pl.Series(column, [clean(v or "") for v in rows[column]], pl.String))
    return rows.with_columns(changed)


def _rewrite_states(store: Store, erased: Erased, person: Person, words: Iterable[str]) -> int:
    """Stored states of stations without the person's ids, and without what they said."""
    rows = _read(store, "SELECT * REPLACE (hex(state) AS state) FROM station_state FINAL")
    if rows.is_empty():
        return 0
    ids = [v for v in person.owned if v]
    said = [w for w in words if len(w) >= _LEAST_WORDS]
    texts = {msgspec.json.encode(form).decode() for w in said for form in (w, w[:500])}
    old = [msgspec.json.encode(v).decode() for v in ids] + sorted(texts)
    new = [msgspec.json.encode(erased.name(v)).decode() for v in ids] + ['""'] * len(texts)
    states, n = [], 0
    for state in rows["state"]:
        head, _, packed = bytes.fromhex(state).partition(b"\n")
        plain = zlib.decompress(packed).decode()
        clean = pl.Series([plain]).str.replace_many(old, new)[0]
        n += clean != plain
        states.append(head + b"\n" + zlib.compress(clean.encode(), 1))
    if n:
        store.alter("station_state", "DELETE WHERE 1", settings=_MUTATION)
        store.insert("station_state", rows.with_columns(state=pl.Series(states, dtype=pl.Binary)))
        store.alter("station_state", "DROP PARTITION ID '19700101'")
    return n


def _tables(store: Store) -> list[Table]:
    rows = store.query(_TABLES, {"nobodys": list(_NOBODYS)})
    return [
        Table(name, key, dict(zip(columns, types, strict=True)))
        for name, key, columns, types in rows.iter_rows()
        if not name.startswith(_STAGE)
    ]


def _text(table: Table, column: str) -> str:
    if table.columns[column].startswith("Array"):
        return f"arrayStringConcat(arrayMap(x -> toString(x), {column}), ' ')"
    return f"toString({column})"


def _array(values: Sequence[str]) -> str:
    return "[" + literal(values)[1:-1] + "]"


def _values(rows: pl.DataFrame, *columns: str) -> set[str]:
    """Values of columns, of all without any named, but for those that are erased or empty."""
    if rows.is_empty():
        return set()
    found = {value for column in columns or rows.columns for value in rows[column]}
    return {value for value in found if value and not value.startswith(MARK)}


def _read(store: Store, sql: str) -> Any:
    return store.query(sql, settings=_SETTINGS)
