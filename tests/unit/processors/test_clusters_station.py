"""The clusters station: identity, members, life cycle, names, order of arrival."""

from __future__ import annotations

import json
import zlib

import numpy as np
import polars as pl
from sklearn.metrics import adjusted_rand_score

from processors.stations.base import Action, Change, Sealed, empty_results
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


def regressed():
    """A cluster that had ended and is back; its page is open."""
    rest = ("refund", "login")
    back = traffic(hours=1, start=5 * 3600, seed=3)
    store, worker = clustered(
        traffic(hours=2), traffic(hours=3, start=7200, tools=rest, seed=2), back
    )
    (change,) = [c for c in store.rows("station_changes") if c["signal"] == "cluster_regressed"]
    return store, worker, change


def said_of(store, change):
    changes = store.rows("station_changes")
    return [c["status"] for c in changes if c["change_id"] == change["change_id"]]


def test_the_page_of_a_cluster_that_somebody_resolves_ends():
    store, worker, change = regressed()
    store.decided = [Action(change["value"], "resolve", at=1.0)]
    quiet = traffic(hours=1, start=6 * 3600, seed=4, tools=("login",))
    store.feed(quiet, T0 + 7 * 3600)
    run(store, worker)
    assert said_of(store, change) == ["open", "resolved"]
    assert statuses(store)["find"] == "resolved"
    store.feed(traffic(hours=1, start=7 * 3600, seed=5), T0 + 8 * 3600)
    run(store, worker)
    later = [c for c in store.rows("station_changes") if c["value"] == change["value"]]
    assert [c["status"] for c in later if c["change_id"] != change["change_id"]] == ["open"]


def test_a_finding_of_a_cluster_that_somebody_accepts_ends_and_stays_away():
    store, worker, change = regressed()
    store.decided = [Action(change["change_id"], "accept")]
    store.feed(traffic(hours=2, start=6 * 3600, seed=4), T0 + 8 * 3600)
    run(store, worker)
    assert said_of(store, change) == ["open", "accepted"]
    assert statuses(store)["find"] == "open"
    signals = [c["signal"] for c in store.rows("station_changes") if c["value"] == change["value"]]
    assert signals.count("cluster_regressed") == 2  # as it opened and as it ended


def test_a_rate_counts_from_the_first_failure_that_waited():
    rows = [(T0 + 600 * n, failed() if n % 2 == 0 else {}) for n in range(60)]
    store, _ = clustered(results(rows))
    (row,) = store.rows("clusters")
    assert (row["size"], row["opportunities"]) == (30, 59)


def step(station, state, day, rows, hours=1):
    lo = T0 + day * 86_400
    sealed = Sealed(lo, lo + hours * 3600, rows, empty_results())
    return station.step(sealed, state)


def test_agents_that_did_nothing_for_long_are_forgotten_and_their_findings_end():
    station = Clusters(ClustersConfig(retire_days=3))
    state, owner = station.begin(), ("production", "shop")
    once = [(T0 + n, {"agent": f"once {n}"}) for n in range(60)]
    state, _ = step(station, state, 0, pl.concat([results(once), traffic(hours=1)]))
    assert list(state.owned) == [owner]
    assert station.size(state) == 61 + len(state.owned[owner].life)
    cluster = next(iter(state.owned[owner].life))
    change = Change(
        change_id="c", at=T0, status="open", severity="page", station="clusters",
        signal="cluster_regressed", direction="up", environment="production", agent="shop",
        value=cluster, began=T0, found=T0, e_value=1.0,
    )  # fmt: skip
    state.owned[owner].open[cluster] = change
    restored = station.load(station.dump(state))
    assert (restored.met, restored.day) == (state.met, state.day)
    state, outputs = step(station, restored, 5, empty_results())
    assert (station.size(state), state.owned) == (0, {})
    assert [(o.change_id, o.status) for o in outputs] == [("c", "retired")]


def test_interactions_before_the_first_failure_are_counted():
    """Of a kind that never failed in them a few failures say much."""
    plain = results([(T0 + 10 * n, {"interaction_id": f"p{n}"}) for n in range(300)])
    sudden = traffic(hours=1, start=3600, rate=0.3, tools=("find",))
    store, _ = clustered(plain, sudden)
    assert "cluster_emerging" in {c["signal"] for c in store.rows("station_changes")}


def test_a_state_of_before_agents_were_met_loads():
    station = Clusters()
    state, _ = step(station, station.begin(), 0, traffic(hours=1))
    raw = json.loads(zlib.decompress(station.dump(state)))
    del raw["met"], raw["day"]
    for owned in raw["owned"]:
        owned[6] = [waiting[:3] for waiting in owned[6]]
    old = station.load(zlib.compress(json.dumps(raw).encode()))
    assert list(old.met) == list(state.owned) == [("production", "shop")]
    state, _ = step(station, old, 1, empty_results())
    assert list(state.owned) == [("production", "shop")]


def test_another_warm_up_applies_to_a_stored_state():
    state, _ = step(Clusters(), Clusters().begin(), 0, traffic(hours=1))
    eager = Clusters(ClustersConfig(warm_up=100))
    (owned,) = eager.load(Clusters().dump(state)).owned.values()
    assert owned.surges.warm_up == 100
    assert not owned.surges.update({"fresh": 1}, 60)._rates.warm[-1]
    assert owned.surges.update({}, 60)._rates.warm[-1]


def test_a_cluster_that_takes_in_one_that_still_fails_has_not_ended():
    station = Clusters()
    state, _ = step(station, station.begin(), 0, traffic(hours=1))
    ((owner, owned),) = state.owned.items()
    (gone, into, *_) = owned.life
    owned.life[into].status, owned.life[into].last = "resolved", T0
    last = owned.life[gone].last
    station._merged(owner, owned, gone, into, T0 + 3600)
    assert (owned.life[into].status, owned.life[into].last) == ("new", last)
