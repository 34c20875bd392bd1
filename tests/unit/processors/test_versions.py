"""Versions beside their predecessor: concurrent traffic only, safe at any time."""

from __future__ import annotations

import numpy as np
import pytest

from processors.compare import compare_rows, hours_of
from processors.stations.runner import Stations
from processors.stations.storage import MemoryStations
from processors.stations.versions import Versions, VersionsConfig
from tests.support.stations import T0, failed, results, run

HOURS = 6


def traffic(share, rate_new, rate_old=0.05, slow=1.0, hours=HOURS, seed=1, outage=()):
    """Two interactions a cell; the new version takes a share from the second hour on."""
    rng = np.random.default_rng(seed)
    rows = []
    for cell in range(0, hours * 3600, 10):
        for _ in range(2):
            new = cell >= 3600 and rng.random() < share
            rate = 0.9 if cell // 3600 in outage else rate_new if new else rate_old
            values = {
                "agent_version": "v2" if new else "v1",
                "duration_ms": float(rng.lognormal(7, 0.5) * (slow if new else 1)),
                **(failed() if rng.random() < rate else {}),
            }
            rows.append((T0 + cell, values))
    return results(rows)


def compared(rows, config=None):
    store = MemoryStations()
    hours = (int(rows["decided"][-1]) - T0) // 3600 + 1
    for hour in range(hours):
        lo = T0 + hour * 3600
        store.feed(rows.filter((rows["decided"] >= lo) & (rows["decided"] < lo + 3600)), lo + 3600)
        run(store, Stations(store, [Versions(config or VersionsConfig())], save_every_s=0))
    return store


def verdicts(store):
    return {row["measure"]: row["verdict"] for row in store.rows("verdicts")}


def test_a_worse_version_is_a_finding_with_a_verdict():
    store = compared(traffic(0.5, rate_new=0.3))
    assert verdicts(store)["success"] == "worse"
    (change,) = [c for c in store.rows("station_changes") if c["status"] == "open"]
    assert (change["signal"], change["value"]) == ("version_success", "v2")
    assert change["severity"] == "page"
    assert change["observed"] == pytest.approx(0.3, abs=0.06)


def test_a_canary_of_five_per_cent_is_enough():
    store = compared(traffic(0.05, rate_new=0.5, hours=12))
    assert verdicts(store)["success"] == "worse"


def test_a_slower_version_is_worse_in_duration_alone():
    store = compared(traffic(0.5, rate_new=0.05, slow=1.5))
    found = verdicts(store)
    assert found["duration_ms"] == "worse"
    assert found["success"] != "worse"


def test_an_equal_version_is_never_worse():
    for seed in range(3):
        store = compared(traffic(0.5, rate_new=0.05, seed=seed))
        assert "worse" not in verdicts(store).values()
        assert store.rows("station_changes") == []


def test_an_outage_that_hits_both_makes_neither_worse():
    store = compared(traffic(0.5, rate_new=0.05, outage=(3, 4)))
    assert verdicts(store)["success"] != "worse"


def test_without_concurrent_traffic_there_is_no_verdict():
    """A cut-over at once: hours of one version alone say nothing about the other."""
    rows = traffic(1.0, rate_new=0.9)
    found = compare_rows(rows, ("production", "shop"), "v1", "v2", set())
    assert {m["verdict"] for m in found["measures"]} == {"undecided"}
    assert found["hours"] == 0


def test_hours_of_incidents_are_left_out():
    rows = traffic(0.5, rate_new=0.05, outage=(3,))
    without = hours_of([(T0 + 3 * 3600 + 60, T0 + 4 * 3600 - 60)])
    assert without == {T0 + 3 * 3600}
    found = compare_rows(rows, ("production", "shop"), "v1", "v2", without)
    assert found["hours"] == HOURS - 2
    assert found["excluded"] == 1


def test_a_restart_changes_nothing():
    rows = traffic(0.5, rate_new=0.3)
    store = MemoryStations()
    for hour in range(HOURS):
        lo = T0 + hour * 3600
        store.feed(rows.filter((rows["decided"] >= lo) & (rows["decided"] < lo + 3600)), lo + 3600)
    run(store, Stations(store, [Versions()], save_every_s=0))
    assert store.rows("verdicts") == compared(rows).rows("verdicts")
