"""The clusters station: identity, members, life cycle, names, order of arrival."""

from __future__ import annotations

import numpy as np
import polars as pl
from sklearn.metrics import adjusted_rand_score

from processors.stations.base import Action
from processors.stations.clusters import Clusters, ClustersConfig
from processors.stations.runner import Stations
from processors.stations.storage import MemoryStations
from tests.support.stations import T0, failed, results, run

KINDS = {
    "find": "503 from catalog, request <id>",
    "refund": "amount exceeds the payment of order <id>",
    "login": "password of user <id> has expired",
}


def traffic(hours=2, start=0, rate=0.2, seed=1, tools=tuple(KINDS), version="v1"):
    """An interaction a cell; a failure is one of three kinds."""
    rng = np.random.default_rng(seed)
    rows = []
    for cell in range(start, start + hours * 3600, 10):
        tool = str(rng.choice(tools))
        values = failed(tool=tool, template=KINDS[tool]) if rng.random() < rate else {}
        name = f"{seed}-{cell}"
        rows.append((T0 + cell, {**values, "interaction_id": name, "agent_version": version}))
    return results(rows)


def clustered(*parts):
    store = MemoryStations()
    worker = Stations(store, [Clusters(ClustersConfig(warm_up=300))], save_every_s=0)
    for part in parts:
        store.feed(part, int(part["decided"][-1]) // 3600 * 3600 + 3600)
        run(store, worker)
    return store, worker


def truth(store, rows):
    """Cluster and true kind of every failure."""
    kinds = dict(
        rows.filter(pl.col("success") == 0).select("interaction_id", "failure_tool").rows()
    )
    members = {r["interaction_id"]: r["cluster"] for r in store.rows("cluster_members")}
    return [(members[i], kind) for i, kind in kinds.items()]


def test_every_kind_is_one_cluster_with_a_name():
    rows = traffic()
    store, _ = clustered(rows)
    found = truth(store, rows)
    assert adjusted_rand_score([c for c, _ in found], [k for _, k in found]) == 1.0
    names = {row["name"] for row in store.rows("clusters")}
    plain = str.maketrans("<>", "()")
    assert names == {f"{tool} {text}".translate(plain) for tool, text in KINDS.items()}
    for row in store.rows("clusters"):
        assert row["status"] == "new"
        assert row["size"] == sum(c == row["cluster"] for c, _ in found)
        assert row["examples"]
    assert {row["what"] for row in store.rows("cluster_lineage")} == {"born"}


def test_ids_do_not_depend_on_the_order_of_arrival():
    rows = traffic()
    expected, _ = clustered(rows)
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=3).sort("decided")
    again, _ = clustered(shuffled)
    assert again.rows("cluster_members") == expected.rows("cluster_members")


def test_ids_do_not_depend_on_the_order_of_failures_in_time():
    """Exactly repeated failures are named by what they are."""
    rows = traffic()
    ids = {row["cluster"] for row in clustered(rows)[0].rows("clusters")}
    at = pl.Series(rows["decided"].to_list()[::-1])
    turned = rows.with_columns(decided=at).sort("decided", "interaction_id")
    assert {row["cluster"] for row in clustered(turned)[0].rows("clusters")} == ids


def test_a_restart_keeps_ids_and_members():
    rows = traffic(hours=3)
    expected, _ = clustered(rows)
    store = MemoryStations()
    for hour in range(3):
        lo = T0 + hour * 3600
        store.feed(rows.filter((rows["decided"] >= lo) & (rows["decided"] < lo + 3600)), lo + 3600)
        run(store, Stations(store, [Clusters(ClustersConfig(warm_up=300))], save_every_s=0))
    assert store.rows("cluster_members") == expected.rows("cluster_members")
    assert store.rows("clusters") == expected.rows("clusters")


def statuses(store):
    return {row["tool"]: row["status"] for row in store.rows("clusters")}


def test_a_cluster_resolves_and_regresses_under_its_id_naming_the_version():
    rest = ("refund", "login")
    store, worker = clustered(traffic(hours=2), traffic(hours=3, start=7200, tools=rest, seed=2))
    before = {row["tool"]: row["cluster"] for row in store.rows("clusters")}
    assert statuses(store)["find"] == "resolved"
    assert statuses(store)["refund"] != "resolved"
    back = traffic(hours=1, start=5 * 3600, seed=3, version="v3")
    store.feed(back, T0 + 6 * 3600)
    run(store, worker)
    row = next(r for r in store.rows("clusters") if r["tool"] == "find")
    assert (row["status"], row["cluster"], row["episode"]) == ("regressed", before["find"], 1)
    assert row["agent_versions"][-1] == "v3"
    (change,) = [c for c in store.rows("station_changes") if c["signal"] == "cluster_regressed"]
    assert change["severity"] == "page"
    assert change["value"] == before["find"]


def test_a_cluster_that_somebody_resolved_regresses_when_it_returns():
    store, worker = clustered(traffic(hours=1))
    cluster = next(r["cluster"] for r in store.rows("clusters") if r["tool"] == "find")
    store.decided = [Action(cluster, "resolve", at=1.0)]
    store.feed(traffic(hours=1, start=3600, seed=2), T0 + 7200)
    run(store, worker)
    assert statuses(store)["find"] == "regressed"
