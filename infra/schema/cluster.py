"""The same statements for a server, for replicas, and for shards.

A migration says what one server needs. On a cluster tables get Replicated engines and every
statement runs on all hosts. With several shards the rows are in ``NAME_local`` on each, and
``NAME`` is a Distributed table over them, so that no reader and no statement of ours has to know.
ClickHouse Cloud replicates by itself and takes the statements as they are.

A shard must see all copies of a row, for they collapse where they lie: what chooses the shard is a
function of the sorting key. Everything else merges over shards without loss. Events and what adds
them up go by agent, so that a cell is computed on one shard; results go by their own id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_CREATE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)", re.IGNORECASE)
_ALTER: Final = re.compile(r"ALTER TABLE (\w+)", re.IGNORECASE)
_DROP: Final = re.compile(r"DROP TABLE (IF EXISTS )?(\w+)", re.IGNORECASE)
_RENAME: Final = re.compile(r"RENAME TABLE .*", re.IGNORECASE | re.DOTALL)
_RENAMED: Final = re.compile(r"(\w+) TO (\w+)")
_VIEW: Final = re.compile(r"CREATE (OR REPLACE )?VIEW (IF NOT EXISTS )?(\w+)", re.IGNORECASE)
_ENGINE: Final = re.compile(r"\bENGINE = (\w*MergeTree)(?:\(([^)]*)\))?")
_COMMENT: Final = re.compile(r"^\s*--.*$", re.MULTILINE)

_PATH: Final = "'/clickhouse/tables/{uuid}/{shard}', '{replica}'"

SHARDED_BY: Final[Mapping[str, str]] = {
    "events": "agent",
    "windows": "agent",
    "rollups": "agent",
    "collisions": "agent",
    "cluster_members": "agent",
    "clusters": "agent",
    "cluster_lineage": "agent",
    "verdicts": "agent",
    "interaction_results": "interaction_id",
    "interaction_index": "interaction_id",
    "session_results": "session_id",
    "session_index": "session_id",
    "evaluations": "target",
    "findings": "finding_id",
    "station_state": "station",
    "station_progress": "station",
}
"""Column that chooses the shard; of other tables, which stay small, all rows are on the first."""

EXACT: Final[Mapping[str, str | int]] = {
    "insert_quorum": "auto",
    # Else a read that must see what was written could be answered by a replica that has not.
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
    # An insert returns when the shards have it.
    "distributed_foreground_insert": 1,
    # A list of ids is made once of all shards, not by each of its own rows.
    "distributed_product_mode": "global",
    "skip_unavailable_shards": 0,
}
"""Settings under which answers of a cluster are those of one server."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where statements run.

    Parameters
    ----------
    name
        Of the cluster in ClickHouse's configuration; empty for one server and for Cloud.
    sharded
        Whether it has several shards.
    """

    name: str = ""
    sharded: bool = False

    @property
    def on(self) -> str:
        """What a statement says to run on all hosts."""
        return f" ON CLUSTER '{self.name}'" if self.name else ""


def render(
    statement: str,
    cluster: Cluster,
    database: str = "driftline",
    views: Collection[str] = (),
) -> Iterator[str]:
    """What runs in place of a statement of a migration; ``views`` are names that are no tables.

    Examples
    --------
    >>> text = "CREATE TABLE IF NOT EXISTS t (a String) ENGINE = ReplacingMergeTree(v) ORDER BY a"
    >>> next(render(text, Cluster("main"))).splitlines()[0][:59]
    "CREATE TABLE IF NOT EXISTS t ON CLUSTER 'main' (a String) E"
    """
    if not cluster.name:
        yield statement
        return
    plain = _COMMENT.sub("", statement).strip()
    if table := _CREATE.match(plain):
        yield from _created(statement, table[1], cluster, database)
    elif table := _ALTER.match(plain):
        sharded = cluster.sharded and table[1] not in views
        local = f"{table[1]}_local" if sharded else table[1]
        yield _ALTER.sub(f"ALTER TABLE {local}{cluster.on}", statement, count=1)
        if sharded:
            yield _distributed(table[1], cluster, database, "CREATE OR REPLACE TABLE")
    elif table := _DROP.match(plain):
        for name in (table[2], f"{table[2]}_local") if cluster.sharded else (table[2],):
            yield _DROP.sub(f"DROP TABLE IF EXISTS {name}{cluster.on}", plain, count=1)
    elif _RENAME.match(plain):
        # A Distributed table finds its local one by name.
        local = _RENAMED.sub(r"\1_local TO \2_local", plain) if cluster.sharded else plain
        yield f"{local}{cluster.on}"
    elif _VIEW.match(plain):
        yield _VIEW.sub(rf"\g<0>{cluster.on}", statement, count=1)
    else:
        yield statement  # INSERT ... SELECT goes through the tables of all shards


def _created(statement: str, table: str, cluster: Cluster, database: str) -> Iterator[str]:
    local = f"{table}_local" if cluster.sharded else table
    text = _CREATE.sub(f"CREATE TABLE IF NOT EXISTS {local}{cluster.on}", statement, count=1)
    yield _ENGINE.sub(_replicated, text, count=1)
    if cluster.sharded:
        yield _distributed(table, cluster, database, "CREATE TABLE IF NOT EXISTS")


def _replicated(engine: re.Match[str]) -> str:
    given = f", {engine[2]}" if engine[2] else ""
    return f"ENGINE = Replicated{engine[1]}({_PATH}{given})"


def _distributed(table: str, cluster: Cluster, database: str, create: str) -> str:
    by = SHARDED_BY.get(table)
    key = f"cityHash64({by})" if by else "0"
    return (
        f"{create} {table}{cluster.on} AS {table}_local\n"
        f"ENGINE = Distributed('{cluster.name}', '{database}', '{table}_local', {key})"
    )
