"""People who were erased do not come back: their rows bear pseudonyms and no words.

An erased row stays a row: its time, its numbers and its place count on, so that windows, results
and books remain what they were. Its ids become keyed hashes, the same for the same id, so that it
still belongs to its trace and a repeat of it from Kafka collapses with it. Only these hashes are
kept of who was erased. With the key guesses can be tested against them; nobody can read them.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import polars as pl

from ingest.core.events import EVALUATION_KINDS
from processors.clickhouse import Store
from processors.derive import scopes

MARK: Final = "erased-"
REFRESH_S: Final = 2.0
"""A worker knows of an erasure after so many seconds."""

OWNERS: Final = ("user_id", "session_id", "interaction_id", "trace_id", "target")
"""Columns by which a row is found to be of an erased person."""
IDS: Final = (*OWNERS, "event_id", "parent_id")
WORDS: Final = ("content", "tool_arguments", "tool_result", "error_message", "error_template")
"""Columns of events that hold what somebody said."""
_TOKEN: Final = re.compile(r"""[^\s"'\\,;{}\[\]()]+""")
_BOUNDS: Final = """
SELECT pseudonym, toUnixTimestamp64Nano(before) AS until FROM erasures FINAL WHERE pseudonym != ''
"""

Name = Callable[[str], str]
"""Pseudonym of an id; that of a pseudonym and of the empty string is itself."""


def namer(key: bytes) -> Name:
    """Pseudonyms under a key: each part of an id between slashes has one of its own.

    The scope that a name bears is nobody's, and stays.

    >>> name = namer(b"key")
    >>> name("t/s") == name("t") + "/" + name("s"), name(name("t")) == name("t"), name("")
    (True, True, '')
    >>> name("t@scope:staging:shop/s") == name("t") + "@scope:staging:shop/" + name("s")
    True
    """
    known: dict[str, str] = {}

    def of_part(part: str) -> str:
        part, mark, scope = part.partition(scopes.MARK)
        if not part or part.startswith(MARK):
            return part + mark + scope
        data = part.encode("utf-8", "surrogatepass")
        hashed = hashlib.blake2b(data, digest_size=16, key=key[:64]).hexdigest()
        return MARK + hashed + mark + scope

    def name(value: str) -> str:
        if len(known) > 100_000:
            known.clear()
        if value not in known:
            known[value] = "/".join(map(of_part, value.split("/")))
        return known[value]

    return name


@dataclass(frozen=True, slots=True)
class Erased:
    """Who is erased: until which event time, ns, what bears a pseudonym's id is theirs."""

    until: Mapping[str, int]
    name: Name

    def hits(self, rows: pl.DataFrame, times: pl.Series | None = None) -> pl.Series:
        """Which rows are of an erased person.

        Parameters
        ----------
        rows
            With any of `OWNERS`.
        times
            Event time of each, ns; without it all are old enough.
        """
        bounds = [self._bounds(rows[column]) for column in OWNERS if column in rows.columns]
        latest = pl.DataFrame(bounds).select(pl.max_horizontal(pl.all())).to_series()
        return latest > (0 if times is None else times)

    def _bounds(self, ids: pl.Series) -> pl.Series:
        distinct = ids.unique().drop_nulls().to_list()
        until = [self._until(value) for value in distinct]
        if not any(until):
            return pl.Series(ids.name, [0], pl.Int64).new_from_index(0, len(ids))
        return ids.replace_strict(distinct, until, default=0, return_dtype=pl.Int64)

    def _until(self, value: str) -> int:
        """Until when an id is erased; parts of a trace are with it."""
        name = self.name(value)
        parts = name.split("/")
        whole = self.until.get(scopes.root(name), 0)
        return max(whole, *(self.until.get("/".join(parts[: n + 1]), 0) for n in range(len(parts))))

    def scrub(self, rows: pl.DataFrame, words: Iterable[str] = WORDS) -> pl.DataFrame:
        """Rows of erased people, of any table, with pseudonyms for ids.

        Parameters
        ----------
        rows
            As they are stored, columns as in the table.
        words
            Columns that are emptied.
        """
        changed = [_mapped(rows[c], self.name) for c in IDS if c in rows.columns and c != "user_id"]
        if "user_id" in rows.columns:
            changed.append(self._users(rows))
        if "attributes" in rows.columns:
            changed.append(_mapped(rows["attributes"], _own_attributes))
        if "words_gone" in rows.columns:  # by default of every row whose id is a pseudonym
            changed.append(pl.Series("words_gone", [1], pl.UInt8).new_from_index(0, len(rows)))
        return rows.with_columns(*changed, *(pl.lit("").alias(column) for column in words))

    def _users(self, rows: pl.DataFrame) -> pl.Series:
        """A person who judges another's interaction keeps his own id."""
        users = rows["user_id"]
        if "kind" not in rows.columns:
            return _mapped(users, self.name)
        target = rows.select(
            pl.coalesce(
                *(pl.col(c).replace("", None) for c in OWNERS[:0:-1] if c in rows.columns),
                pl.lit(""),
            )
        ).to_series()
        return pl.Series(
            "user_id",
            [
                self.name(user)
                if user and (kind not in EVALUATION_KINDS or self._judges_himself(user, of))
                else user
                for user, kind, of in zip(users, rows["kind"], target, strict=True)
            ],
            pl.String,
        )

    def _judges_himself(self, user: str, target: str) -> bool:
        return self._until(user) > 0 or self.name(pair(user, target)) in self.until

    def speaks_of(self, text: str) -> bool:
        """Whether a text that is no event, such as a dead letter, bears an erased id."""
        return any(self._until(token) for token in set(_TOKEN.findall(text)))


def pair(user: str, target: str) -> str:
    """An id for: this user about this target. Of a person who is erased from one session only."""
    return f"{user}\x1f{target}".replace("/", "\x1f")


def _mapped(column: pl.Series, name: Name) -> pl.Series:
    distinct = column.unique().drop_nulls().to_list()
    return column.cast(pl.String).replace_strict(
        distinct, [name(value) for value in distinct], default=None, return_dtype=pl.String
    )


def _own_attributes(text: str) -> str:
    """Of attributes those that we set ourselves: they say how a trace hangs together.

    >>> _own_attributes('{"driftline.root":"1","note":"call Ann"}')
    '{"driftline.root":"1"}'
    """
    if "driftline." not in text:
        return ""
    given = msgspec.json.decode(text)
    own = {name: value for name, value in given.items() if name.startswith("driftline.")}
    return msgspec.json.encode(own).decode() if own else ""


class Tombstones:
    """The erased as a worker knows them, and what it stores of them.

    Parameters
    ----------
    store
        Where ``erasures`` is.
    key
        Of the pseudonyms, the same for all workers.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        self._erased = Erased({}, namer(key))
        self._asked = float("-inf")

    def refresh(self) -> Erased:
        """The erased as they are now, at most `REFRESH_S` old.

        Raises
        ------
        Unavailable
            When ClickHouse is away.
        """
        if time.monotonic() - self._asked > REFRESH_S:
            found = self._store.query(_BOUNDS)
            self._asked = time.monotonic()
            self._erased = Erased(dict(found.iter_rows()), self._erased.name)
        return self._erased

    def apply(self, events: pl.DataFrame) -> pl.DataFrame:
        """Rows of ``events`` to store: those of erased people without their ids and words.

        Live traffic costs nothing: only what is older than an erasure is looked at.

        Raises
        ------
        Unavailable
            When ClickHouse is away; a repeat gives the same rows.
        """
        erased = self.refresh()
        latest = max(erased.until.values(), default=0)
        times = events["time"].to_physical()
        old = times < latest
        if not old.any():
            return events
        part = events.filter(old)
        self._extend(part)
        hit = self._erased.hits(part, part["time"].to_physical())
        if not hit.any():
            return events
        scrubbed = self._erased.scrub(part.filter(hit))
        return pl.concat([events.filter(~old), part.filter(~hit), scrubbed])

    def _extend(self, events: pl.DataFrame) -> None:
        """Traces of an erased user that nobody knew of: a sender had kept them until now."""
        erased = self._erased
        of_user = erased.hits(events.select("user_id"), events["time"].to_physical())
        traces = events.filter(of_user & ~events["kind"].is_in(EVALUATION_KINDS))["interaction_id"]
        new = {erased.name(t) for t in traces.unique().drop_nulls()} - erased.until.keys() - {""}
        if new:
            until = max(erased.until.values())
            self._store.insert("erasures", erasure_rows(new, until))
            self._erased = Erased({**erased.until, **dict.fromkeys(new, until)}, erased.name)

    def clear(
        self, letters: pl.DataFrame, originals: list[bytes | None]
    ) -> tuple[pl.DataFrame, list[bytes | None]]:
        """Rows of ``dead_letters``, and originals, without those that speak of an erased person.

        Raises
        ------
        Unavailable
            When ClickHouse is away.
        """
        erased = self.refresh()
        if not erased.until or letters.is_empty():
            return letters, originals
        texts = [text or "" for text in letters["text"]]
        for at, original in enumerate(originals):
            texts[at] += " " + (original or b"").decode(errors="replace")
        spoken = pl.Series([erased.speaks_of(text) for text in texts])
        empty = pl.when(spoken).then(pl.lit(""))
        return letters.with_columns(
            empty.otherwise(pl.col(name)).alias(name) for name in ("kept", "text")
        ), [None if gone else o for o, gone in zip(originals, spoken, strict=False)]


def erasure_rows(pseudonyms: Iterable[str], until: int) -> pl.DataFrame:
    """Rows of ``erasures``; ``until`` is event time in ns."""
    schema: dict[str, Any] = {"pseudonym": pl.String(), "before": pl.Datetime("ns", "UTC")}
    return pl.DataFrame(
        {"pseudonym": list(pseudonyms)}, schema={"pseudonym": pl.String()}
    ).with_columns(before=pl.lit(until, pl.Int64).cast(schema["before"]))


def now_ns() -> int:
    """The clock, ns since 1970."""
    return int(datetime.now(UTC).timestamp() * 1e9)
