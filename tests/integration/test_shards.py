"""A cluster: its statements parse, and what is merged over shards is what one server answers.

No cluster runs here. Two databases of one engine stand for two shards and tables over both for the
Distributed ones: FINAL collapses within each of them, as it does within a shard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from dashboards import agent_report
from dashboards.accounting import account
from infra import erasing
from infra.schema.cluster import SHARDED_BY, Cluster, render
from infra.schema.migrate import dry_run, shipped, view_names, views
from processors import audit
from processors.clickhouse import ClickHouseConfig, Store
from processors.keeping import Retention, expire
from processors.write.erased import namer
from tests.conftest import ClickHouse
from tests.integration.pipeline_harness import Pipeline, collided
from tests.integration.pipeline_reference import traffic

_CLUSTERS = (Cluster("main"), Cluster("main", sharded=True))


@pytest.mark.parametrize("cluster", _CLUSTERS)
def test_every_statement_of_a_cluster_parses(clickhouse: ClickHouse, cluster: Cluster) -> None:
    created, altered = set(), set()
    with clickhouse.client() as client:
        for migration in (*shipped(), *views()):
            for statement in migration.statements:
                for sql in render(statement, cluster, "driftline", view_names()):
                    client.command(f"EXPLAIN AST {sql}")
                    if "\nINSERT INTO" not in f"\n{sql}":
                        assert "ON CLUSTER 'main'" in sql
                    if found := re.search(r"CREATE TABLE IF NOT EXISTS (\w+) ON", sql):
                        created.add(found[1])
                        assert "ENGINE = Replicated" in sql or "ENGINE = Distributed" in sql
                    if found := re.search(r"ALTER TABLE (\w+) ON", sql):
                        altered.add(found[1])
    assert {"events", "erasures"} <= {name.removesuffix("_local") for name in created}
    assert ("events_local" in created) == ("events_local" in altered) == cluster.sharded
    other = altered - created - view_names()
    assert {name.removesuffix("_local") for name in other} == {"schema_migrations"}  # of `migrate`


def test_what_chooses_the_shard_is_of_the_sorting_key(clickhouse: ClickHouse) -> None:
    with clickhouse.client() as client:
        keys = dict(
            client.query(
                "SELECT name, sorting_key FROM system.tables"
                " WHERE database = currentDatabase() AND endsWith(engine, 'MergeTree')"
            ).result_rows
        )
    for table, column in SHARDED_BY.items():
        assert column in keys[table].split(", "), table


@pytest.fixture
def single(pipeline: Pipeline) -> Pipeline:
    """One server with everything that is hard: copies, collisions, late feedback."""
    events = collided(traffic(7))
    for part in (events[::2], events[1::2], events[::3]):
        pipeline.deliver(part)
        pipeline.recompute()
    audit.find_collisions(pipeline.results)
    return pipeline


class ShardedStore(Store):
    """Does what a cluster of two shards does with statements for its hosts and with inserts.

    The database has views and merged tables; what is inserted comes by ``NAME_local`` there.
    """

    def __init__(self, config: ClickHouseConfig, names: list[str]) -> None:
        super().__init__(replace(config, cluster="main", sharded=True))
        self.names = names

    def everywhere(self, table: str, database: str | None = None) -> str:
        known = ", ".join(f"'{name}'" for name in self.names)
        if database is None:
            return f"merge(REGEXP('^({'|'.join(self.names)})$'), '^{table}$')"
        local = ", table || '_local' AS table" if table == "parts" else ""
        own = f"* REPLACE (currentDatabase() AS database{local})"
        theirs = f"(SELECT * FROM {database}.{table} WHERE database IN ({known}))"
        return f"(SELECT {own} FROM {theirs})"

    def insert(self, table: str, frame: pl.DataFrame) -> None:
        if table.startswith("erasing_"):
            super().insert(f"{self.names[0]}.{table}", frame)
            return
        super().insert(f"{table}_local", frame)
        self._distribute(table)

    def command(self, sql: str, *args: Any, **kwargs: Any) -> None:
        if " ON CLUSTER 'main'" in sql:
            for name in self.names:
                of = re.sub(r"^(\w+ TABLE) (\w+)", rf"\1 {name}.\2", sql)
                here = re.sub(r"(\w+\.)?(\w+)_local", rf"{name}.\2", of)
                super().command(here.replace(" ON CLUSTER 'main'", ""), *args, **kwargs)
        elif into := re.match(r"\s*INSERT INTO (\w+)", sql):
            super().command(sql.replace(into[1], f"{into[1]}_local", 1), *args, **kwargs)
            self._distribute(into[1])
        else:
            super().command(sql, *args, **kwargs)

    def _distribute(self, table: str) -> None:
        for n, name in enumerate(self.names):
            its = f"SELECT * FROM {table}_local WHERE {on_shard(table, n)}"
            super().command(
                f"INSERT INTO {name}.{table} {its}",
                settings={"max_partitions_per_insert_block": 0},
            )
        super().command(f"TRUNCATE TABLE {table}_local")


def on_shard(table: str, n: int) -> str:
    """SQL: whether a row is of a shard."""
    key = f"cityHash64({SHARDED_BY[table]})" if table in SHARDED_BY else "0"
    return f"{key} % 2 = {n}"


class Shards:
    """The same rows over two databases."""

    def __init__(self, clickhouse: ClickHouse, by: dict[str, str]) -> None:
        self.of, self.names = clickhouse, [f"{clickhouse.database}_{n}" for n in (0, 1)]
        self.merged = f"{clickhouse.database}_merged"
        with clickhouse.client() as client:
            for name in (*self.names, self.merged):
                client.command(f"CREATE DATABASE {name}")
            tables = client.query(
                "SELECT name FROM system.tables WHERE database = currentDatabase()"
                " AND endsWith(engine, 'MergeTree')"
            ).result_columns[0]
            for table in tables:
                key = f"cityHash64({by[table]})" if table in by else "0"
                for n, name in enumerate(self.names):
                    client.command(f"CREATE TABLE {name}.{table} AS {table}")
                    client.command(
                        f"INSERT INTO {name}.{table} SELECT * FROM {table} WHERE {key} % 2 = {n}",
                        settings={"optimize_on_insert": 0, "max_partitions_per_insert_block": 0},
                    )
                client.command(f"CREATE TABLE {self.merged}.{table}_local AS {table}")
                over = "|".join(self.names)
                client.command(
                    f"CREATE TABLE {self.merged}.{table} AS {table}"
                    f" ENGINE = Merge(REGEXP('^({over})$'), '^{table}$')"
                )
            for migration in (*shipped(), *views()):
                for statement in migration.statements:
                    if re.search(r"^CREATE .*VIEW", statement, re.MULTILINE):
                        where = {"database": self.merged}
                        client.command(statement, settings=where, use_database=False)

    def store(self) -> Store:
        c = self.of
        return Store(ClickHouseConfig(c.url, c.user, c.password, self.merged))

    def sharded(self) -> ShardedStore:
        return ShardedStore(self.store()._config, self.names)

    def drop(self) -> None:
        with self.of.client() as client:
            for name in (self.merged, *self.names):
                client.command(f"DROP DATABASE {name} SYNC")


@pytest.fixture
def shards(clickhouse: ClickHouse, single: Pipeline) -> Iterator[Shards]:
    made = Shards(clickhouse, dict(SHARDED_BY))
    yield made
    made.drop()


def answers(store: Store) -> dict[str, Any]:
    """What every reader of ours asks, of a database."""
    found: dict[str, Any] = {
        "books": account(store),
        "metrics": agent_report.collect(store, agent_report.Selection(), parts=True),
        "differences": sorted(audit.differences(store).rows()),
    }
    for name in sorted(view_names()):
        # Where an event id was taken twice, `feedback` shows the words of either.
        columns = "* EXCEPT comment" if name == "feedback" else "*"
        found[name] = sorted(map(repr, store.query(f"SELECT {columns} FROM {name}").rows()))
    for table in ("windows", "interaction_results", "session_results", "rollups", "evaluations"):
        found[table] = store.query(f"SELECT * FROM {table} FINAL ORDER BY ALL").rows()
    return found


def test_answers_over_shards_are_those_of_one_server(single: Pipeline, shards: Shards) -> None:
    for part in shards.names:
        n = single.store.query(f"SELECT count() AS n FROM {part}.events")["n"][0]
        assert n > 100
    one, merged = answers(single.store), answers(shards.store())
    assert one.keys() == merged.keys()
    for name, answer in one.items():
        assert merged[name] == answer, name
    assert one["books"]["collisions"] > 10
    assert one["books"]["duplicates"] > 10


def test_expiry_on_shards_is_that_of_one_server(single: Pipeline, shards: Shards) -> None:
    days = single.store.query("SELECT DISTINCT toDate(time) AS day FROM events ORDER BY day")
    last = date(1970, 1, 1) + timedelta(days=int(days["day"].to_physical()[-1]))
    keep = Retention(raw=1, content=1, results=1, rollups=1, findings=1)
    assert len(days) > 1
    went: set[str] = set()
    for later in (1, 40):  # months of results go later than days of events
        today = last + timedelta(days=later)
        gone = expire(single.store, keep, today, wait_s=0.0)
        assert expire(shards.sharded(), keep, today, wait_s=0.0).keys() == gone.keys()
        went |= gone.keys()
        one, merged = answers(single.store), answers(shards.store())
        assert one["books"]["expired"] > 0
        for name, answer in one.items():
            assert merged[name] == answer, name
    assert went >= {"events", "interaction_results", "windows", "rollups", "evaluations"}


def test_erasure_on_shards_is_that_of_one_server(single: Pipeline, shards: Shards) -> None:
    users = single.store.query("SELECT DISTINCT user_id FROM events WHERE user_id != '' ORDER BY 1")
    user = users["user_id"][0]
    sharded = shards.sharded()
    for store in (single.store, sharded):
        person = erasing.find(store, [user])
        assert person.interactions
        assert erasing.erase(store, namer(b"key"), person, wait_s=0.0).left == []
    one, merged = answers(single.store), answers(sharded)
    assert one["books"]["erased"] > 0
    for name, answer in one.items():
        assert merged[name] == answer, name
    # A row whose id became a pseudonym is where a repeat of it would go.
    for table in SHARDED_BY:
        for n, name in enumerate(shards.names):
            astray = f"SELECT count() AS n FROM {name}.{table} WHERE NOT {on_shard(table, n)}"
            assert sharded.query(astray)["n"][0] == 0, table


def test_copies_on_different_shards_would_be_noticed(
    clickhouse: ClickHouse, single: Pipeline
) -> None:
    made = Shards(clickhouse, dict(SHARDED_BY) | {"events": "offset"})
    try:
        assert account(made.store())["duplicates"] != account(single.store)["duplicates"]
    finally:
        made.drop()


def test_a_dry_run_says_what_it_costs(clickhouse: ClickHouse, single: Pipeline) -> None:
    with clickhouse.client() as client:
        assert dry_run(client, clickhouse.database) == []
        fresh = dry_run(client, "nowhere")
        assert {step.cost for step in fresh} == {"metadata only"}
        assert len(fresh) > 100
        client.command(
            "ALTER TABLE schema_migrations DELETE WHERE name = '0008_results'",
            settings={"mutations_sync": 2},
        )
        steps = dry_run(client, clickhouse.database)
    events = single.store.query("SELECT count() AS n FROM events")["n"][0]
    costs = [step.cost for step in steps if step.cost != "metadata only"]
    assert len(costs) == 1
    assert costs[0].startswith(f"reads {events} rows (events, ")
