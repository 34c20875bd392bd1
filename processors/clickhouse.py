"""ClickHouse as the processors see it: frames in, frames out, and one way to be away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import clickhouse_connect
import msgspec
import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError

from ingest.core import telemetry
from ingest.core.errors import Unavailable

T = TypeVar("T")

MAX_STATEMENT_BYTES: Final = 16 << 20
"""Thousands of names or ranges may stand in one statement."""

SPILLING: Final = {"max_bytes_before_external_group_by": 512 << 20}
"""Settings of statements whose groups may not fit into memory; they then take longer."""

_INSERT_SETTINGS: Final = {
    # On by default in current servers; it would acknowledge rows that are not yet stored.
    "async_insert": 0,
    # A repeat is a row like any other, collapsed by the table; a token could drop new rows.
    "insert_deduplicate": 0,
    "max_query_size": MAX_STATEMENT_BYTES,
    # Collapsing repeats within a block is left to merges and FINAL: half the cost of an insert.
    "optimize_on_insert": 0,
    # One block may hold events of many days.
    "max_partitions_per_insert_block": 0,
    "input_format_null_as_default": 1,
}


# A third of the bytes to send, receive and hold; that saves more than packing them costs.
_ARROW: Final = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)

_PASSING: Final = frozenset(
    # Timeouts, too many queries or parts, network, memory, disk full, read-only, keeper, aborted.
    (159, 202, 203, 209, 210, 236, 241, 242, 243, 252, 279, 319, 394, 425, 516, 999)
)
"""Server errors that pass; any other means that a statement of ours is wrong."""


@dataclass(frozen=True, slots=True)
class ClickHouseConfig:
    """Address and credentials of a ClickHouse HTTP interface."""

    url: str = "http://127.0.0.1:8123"
    user: str = "default"
    password: str = field(default="", repr=False)
    database: str = "driftline"
    ca_file: str | None = None
    compress: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of every statement, such as those that make a cluster answer as one server does."""
    cluster: str = ""
    """Name of the cluster whose hosts hold the rows; empty for one server."""
    sharded: bool = False
    """Whether a host holds a part of them, in tables called ``NAME_local``."""


class Store:
    """One database. Safe to use from several threads.

    Raises
    ------
    Unavailable
        From every method, when ClickHouse does not answer or cannot take the statement now.
    clickhouse_connect.driver.exceptions.ClickHouseError
        When a statement is wrong, which is a bug.
    """

    def __init__(self, config: ClickHouseConfig) -> None:
        self._config = config
        self._client: Any = None

    def insert(self, table: str, frame: pl.DataFrame) -> None:
        """Insert a frame whose columns are named like the table's; returns when it is stored."""
        if frame.is_empty():
            return
        # A column left out costs nothing, and the table's default says the same as a null.
        frame = frame.select(c.name for c in frame if c.null_count() < len(frame))
        # Half the time of polars' own writer, whose output goes through Python.
        rows = _narrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema, options=_ARROW) as writer:
            writer.write_table(rows)
        # The view, because the client would copy bytes to put the statement in front of them.
        self.insert_bytes(table, memoryview(sink.getvalue()), "ArrowStream", frame.columns)

    def insert_bytes(
        self, table: str, block: bytes | memoryview, fmt: str, columns: list[str] | None = None
    ) -> None:
        """Insert rows in one of ClickHouse's input formats; returns when they are stored."""
        with telemetry.inserting(table):
            self._call(
                "raw_insert",
                table,
                column_names=columns,
                insert_block=block,
                settings=_INSERT_SETTINGS,
                fmt=fmt,
            )

    def query(
        self,
        sql: str,
        parameters: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> pl.DataFrame:
        """Run a SELECT; parameters are ``{name:Type}`` in the SQL."""
        body = self._call(
            "raw_query",
            sql,
            parameters=parameters,
            settings=settings,
            fmt="ArrowStream",
        )
        return pl.read_ipc_stream(body) if body else pl.DataFrame()

    def query_json(
        self,
        sql: str,
        parameters: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run a SELECT for readers who need ClickHouse's types: ``meta`` and ``data``, row by row.

        Arrow has no type for ``DateTime``, which `query` therefore returns as a number.
        """
        body = self._call(
            "raw_query", sql, parameters=parameters, settings=settings, fmt="JSONCompact"
        )
        answer: dict[str, Any] = msgspec.json.decode(body) if body else {"meta": [], "data": []}
        return answer

    def command(
        self,
        sql: str,
        parameters: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Run a statement that returns nothing, such as INSERT ... SELECT."""
        merged = _INSERT_SETTINGS | (settings or {})
        self._call("raw_query", sql, parameters=parameters, settings=merged)

    def alter(self, table: str, changes: str, settings: dict[str, Any] | None = None) -> None:
        """Change a table where its rows lie, on every shard."""
        on = self.on if self._config.sharded else ""  # replicas do as one of them does
        self.command(f"ALTER TABLE {self.local(table)}{on} {changes}", settings=settings)

    def local(self, table: str) -> str:
        """The table that holds the rows of this host."""
        return f"{table}_local" if self._config.sharded else table

    @property
    def on(self) -> str:
        """What a statement says to run on all hosts."""
        return f" ON CLUSTER '{self._config.cluster}'" if self._config.cluster else ""

    def everywhere(self, table: str, database: str | None = None) -> str:
        """SQL of a table of each host, whose rows differ from host to host."""
        database = database or self._config.database
        if not self._config.cluster:
            return f"{database}.{table}"
        return f"clusterAllReplicas('{self._config.cluster}', '{database}', '{table}')"

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._client is None:
                self._client = self._connect()
            return getattr(self._client, method)(*args, **kwargs)
        except (ClickHouseError, OSError) as error:
            code = getattr(error, "code", None)
            if code is not None and code not in _PASSING:
                raise
            raise Unavailable(
                f"ClickHouse at {self._config.url}: {str(error).strip()[:500]}"
            ) from error

    def _connect(self) -> Any:
        return clickhouse_connect.get_client(
            dsn=self._config.url,
            username=self._config.user,
            password=self._config.password,
            database=self._config.database,
            ca_cert=self._config.ca_file,
            compress=self._config.compress,
            settings=dict(self._config.settings),
            # Sessions would forbid concurrent statements, and nothing here needs one.
            autogenerate_session_id=False,
            query_limit=0,
            send_receive_timeout=120,
        )


def _narrow(table: pa.Table) -> pa.Table:
    """Strings with offsets of four bytes instead of eight: a fifth of a block of events.

    >>> _narrow(pa.table({"a": pa.array(["x"], pa.large_string())})).schema.field("a").type
    DataType(string)
    """
    schema = [
        field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(schema))


def one_of(values: Sequence[str]) -> str:
    r"""SQL that may follow ``IN``, for thousands of strings: parsed once, four times faster.

    Examples
    --------
    >>> one_of(["a", "it's"]).replace("\x1f", "|")
    "(SELECT arrayJoin(splitByChar('|', 'a|it\\'s')))"
    >>> one_of(["a\x1fb"]).replace("\x1f", "|")
    "('a|b')"
    """
    if not values or any(_SEPARATOR in value for value in values):
        return literal(values)
    joined = literal(_SEPARATOR.join(values))
    return f"(SELECT arrayJoin(splitByChar({literal(_SEPARATOR)}, {joined})))"


_SEPARATOR: Final = "\x1f"


def portions(values: Sequence[T], size: int) -> Iterator[list[T]]:
    """Values in lists of at most ``size``, so that statements stay short."""
    for at in range(0, len(values), size):
        yield list(values[at : at + size])


def literal(values: str | Iterable[str]) -> str:
    r"""SQL literal of a string, or of strings as a list in parentheses.

    Examples
    --------
    >>> literal("it's")
    "'it\\'s'"
    >>> literal(["a", "b"])
    "('a', 'b')"
    """
    if isinstance(values, str):
        return "'" + values.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "(" + ", ".join(map(literal, values)) + ")"
