"""Versions beside their predecessor: concurrent traffic only, safe at any time."""

from __future__ import annotations

import json
import zlib
from functools import partial

import numpy as np
import polars as pl
import pytest

from ingest.core.errors import UsageError
from processors.compare import compare_rows, compare_tasks, compare_versions, hours_of
from processors.stations.base import Action, Sealed, empty_results
from processors.stations.incidents import Incidents
from processors.stations.runner import Stations
from processors.stations.storage import MemoryStations
from processors.stations.versions import Pair, Versions, VersionsConfig
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


def office(days, *, canary_until=99, back_at=99):
    """Eight hours of work a day with two versions, of which the new one is worse."""
    rng = np.random.default_rng(1)
    rows = []
    for cell in range(0, days * 86_400, 20):
        if 8 <= cell // 3600 % 24 < 16:
            hour = cell / 3600
            new = not canary_until <= hour < back_at and rng.random() < 0.5
            fails = rng.random() < (0.3 if new else 0.05)
            version = {"agent_version": "v2" if new else "v1"}
            rows.append((T0 + cell, {**version, **(failed() if fails else {})}))
    return results(rows)


def ends(store, station="versions"):
    changes = [c for c in store.rows("station_changes") if c["station"] == station]
    return [(int(c["at"].timestamp()) - T0, c["status"]) for c in changes]


def test_a_worse_version_is_told_once_and_not_every_morning():
    ((_, status),) = ends(compared(office(3)))
    assert status == "open"


def test_a_version_that_is_gone_ends_its_finding_for_good():
    """Rolled back at noon of the second day."""
    _, (at, status) = ends(compared(office(4, canary_until=36)))
    assert status == "retired"
    assert 36 + 3 <= at / 3600 <= 36 + 5


def test_a_bad_version_that_comes_back_is_told_again_and_names_the_finding_before():
    """Rolled back at noon of the second day, back on the third at noon."""
    rows, store = office(4, canary_until=36, back_at=60), MemoryStations()
    worker = Stations(store, [Versions(), Incidents()], save_every_s=0)
    for lo in range(T0, T0 + 4 * 86_400, 3600):
        part = rows.filter((rows["decided"] >= lo) & (rows["decided"] < lo + 3600))
        store.feed(part, lo + 3600)
        run(store, worker)
    assert [status for _, status in ends(store)] == ["open", "retired", "open"]
    assert 60 < ends(store)[-1][0] / 3600 < 60 + 3
    latest = {row["finding_id"]: row for row in store.rows("findings")}
    first, again = sorted(latest.values(), key=lambda row: row["began"])
    assert (first["status"], again["status"]) == ("recovered", "regressed")
    assert again["previous"] == first["finding_id"] != again["finding_id"]


def test_what_was_accepted_of_a_version_stays_so_when_it_comes_back():
    """Accepted in success on the first day; gone on the second, for it is slower, and back."""
    rows = office(4, canary_until=36, back_at=60)
    slow = pl.when(pl.col("agent_version") == "v2").then(2.0).otherwise(1.0)
    jitter = 1 + pl.int_range(pl.len()) % 7 / 10
    rows = rows.with_columns(duration_ms=pl.col("duration_ms") * slow * jitter)
    store = MemoryStations()
    worker = Stations(store, [Versions(), Incidents()], save_every_s=0)
    for lo in range(T0, T0 + 4 * 86_400, 3600):
        if lo == T0 + 12 * 3600:
            opened = store.rows("station_changes")
            (change,) = [c for c in opened if c["signal"] == "version_success"]
            store.decided = [Action(change["change_id"], "accept")]
        part = rows.filter((rows["decided"] >= lo) & (rows["decided"] < lo + 3600))
        store.feed(part, lo + 3600)
        run(store, worker)

    def told(signal):
        return [c["status"] for c in store.rows("station_changes") if c["signal"] == signal]

    assert told("version_success") == ["open", "accepted"]
    assert told("version_duration_ms") == ["open", "retired", "open"]


def test_an_accepted_version_is_judged_no_more_by_that_measure():
    rows, store = traffic(0.5, rate_new=0.3), MemoryStations()
    worker = Stations(store, [Versions(), Incidents()], save_every_s=0)
    for hour in range(HOURS):
        lo = T0 + hour * 3600
        if hour == 4:
            store.decided = [Action(r["finding_id"], "accept") for r in store.rows("findings")]
        part = rows.filter((rows["decided"] >= lo) & (rows["decided"] < lo + 3600))
        store.feed(part, lo + 3600)
        run(store, worker)
    assert [status for _, status in ends(store)] == ["open", "accepted"]
    (found,) = store.rows("findings")
    assert (found["status"], found["ended"].timestamp()) == ("recovered", T0 + 4 * 3600 + 10)
    assert "accepted as the new normal" in found["title"]


def test_versions_that_did_nothing_for_long_are_forgotten():
    station = Versions(VersionsConfig(retire_days=3))
    state = station.begin()
    for day in range(6):
        version = f"v{day}" if day < 2 else "v1"
        rows = results([(T0 + day * 86_400 + 3600, {"agent_version": version})])
        lo = T0 + day * 86_400
        state, _ = station.step(Sealed(lo, lo + 86_400, rows, empty_results()), state)
        if day == 1:
            state.pairs.clear()
            once = results([(lo, {"agent": "once", "agent_version": "v1"})])
            state, _ = station.step(Sealed(lo, lo + 10, once, empty_results()), state)
            assert station.size(state) == 3
    assert (list(state.seen), station.size(state)) == ([("production", "shop")], 1)


def test_a_state_of_before_hours_without_a_version_loads():
    station = Versions()
    state = station.begin()
    state.pairs["production", "shop", "v2"] = Pair("v1", "v2", T0)
    raw = json.loads(zlib.decompress(station.dump(state)))
    del raw["pairs"][0][-1]
    assert station.load(zlib.compress(json.dumps(raw).encode())) == state


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


def test_hours_of_one_version_alone_are_forgotten():
    """Defect: of a canary an hour beside one version a state grew by all hours of all pairs."""
    rows = [
        (T0 + n * 180, {"agent_version": "v1" if n % 5 else f"v2.{n // 20}"}) for n in range(480)
    ]
    station, seen = Versions(), results(rows)
    state = station.begin()
    for hour in range(24):
        lo = T0 + hour * 3600
        part = seen.filter((seen["decided"] >= lo) & (seen["decided"] < lo + 3600))
        station.step(Sealed(lo, lo + 3600, part, empty_results()), state)
    assert len(state.pairs) == 24
    assert max(len(pair.hours["success"]) for pair in state.pairs.values()) <= 3
    assert all(len(pair.table("success")) == 1 for pair in state.pairs.values())


def test_a_version_is_not_compared_with_itself():
    for compared_by in (compare_versions, partial(compare_tasks, by="task")):
        with pytest.raises(UsageError, match="both versions"):
            compared_by(None, "production", "shop", "v1", "v1")
