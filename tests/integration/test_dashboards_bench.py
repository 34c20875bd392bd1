"""The data of `driftline bench dashboards` in small: consistent, and read by every query."""

import time

import polars as pl

from bench import dashboards
from processors.clickhouse import ClickHouseConfig, Store


def test_small(clickhouse):
    config = ClickHouseConfig(
        clickhouse.url, clickhouse.user, clickhouse.password, clickhouse.database
    )
    store, end = Store(config), int(time.time())
    dashboards.fill(config, 2_000, 7, end, lambda _: None, agents=5, days=2)
    counts = store.query(
        "SELECT width_s, sum(n) AS n, sum(succeeded) AS yes FROM rollups FINAL"
        " WHERE unit = 'interactions' GROUP BY width_s"
    )
    whole = store.query("SELECT count() AS n, countIf(success = 1) AS yes FROM interactions")
    assert counts.height == 3
    assert counts.select("n", "yes").unique().equals(whole.select("n", "yes"))
    assert whole["n"][0] == 2_000
    (events,) = store.query("SELECT count() FROM events").row(0)
    hourly = store.query(
        "SELECT sum(events) AS n FROM windows FINAL WHERE width_s = 3600 AND scope = 'all'"
    )
    assert events == hourly["n"][0] == 20_000
    asked = [*dashboards.panel_queries(end - 86_400, end), *dashboards.rule_queries(end)]
    assert len(asked) > 60
    for name, query in asked:
        assert isinstance(store.query(query.sql, query.parameters), pl.DataFrame), name
