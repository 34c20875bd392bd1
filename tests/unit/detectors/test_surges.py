"""Surging and emerging clusters: false alarms against the budget, and how soon a rise is found."""

import json

import numpy as np
import pytest
from scipy import stats

from detectors.failures.cluster_rates import ClusterSurges
from detectors.failures.lineage import Transition

WEEK = 168


def watched(n_clusters: int, weeks: int, seed: int, **params) -> int:
    """Alarms of clusters whose rates never change, after four weeks to learn."""
    rng = np.random.default_rng(seed)
    rates = 10 ** rng.uniform(-4, -1.5, n_clusters)
    names = [f"c{i}" for i in range(n_clusters)]
    surges = ClusterSurges(1.0, WEEK, warm_up=4 * WEEK * 400, **params)
    alarms, ringing = 0, set()
    for _ in range((4 + weeks) * WEEK):
        n = int(rng.integers(300, 600))
        surges.update(dict(zip(names, rng.binomial(n, rates).tolist(), strict=True)), n)
        now = {surge.cluster for surge in surges.surging}
        alarms += len(now - ringing)
        ringing = now
    return alarms


def test_false_alerts_of_all_clusters_stay_within_the_budget():
    weeks = 8
    alarms = watched(120, weeks, seed=1)
    # more than the budget would be refuted: at most `weeks` alarms are expected
    assert stats.poisson.sf(alarms - 1, weeks) > 0.05


def test_founding_does_not_count_as_evidence():
    # kinds of a constant rate, each founded by its fourth failure: a moment chosen by the data
    rng = np.random.default_rng(2)
    rates = 10 ** rng.uniform(-5, -4, 60)
    surges = ClusterSurges(15.0, WEEK, warm_up=1_000)
    seen, followed, ringing, alarms = np.zeros(60), set(), set(), 0
    for _ in range(3 * WEEK):
        hits = rng.binomial(500, rates)
        seen += hits
        founded = {f"k{i}": int(seen[i]) for i in np.flatnonzero(seen >= 4)}
        founded = {name: members for name, members in founded.items() if name not in followed}
        followed |= founded.keys()
        surges.update({k: int(hits[int(k[1:])]) for k in followed}, 500, founded)
        now = {surge.cluster for surge in surges.surging}
        alarms += len(now - ringing)
        ringing = now
    assert len(followed) > 40
    assert stats.poisson.sf(alarms - 1, 3 * 15) > 0.05


def test_a_new_kind_is_emerging_after_a_few_failures_and_says_since_when():
    rng = np.random.default_rng(3)
    needed = []
    for _ in range(20):
        surges = ClusterSurges(1.0, 1_008, warm_up=50_000)
        for i in range(100):
            surges.update({"old": 5 + i % 3}, 1_000)
        assert surges.surging == []
        found, failures = {"new": 4}, 4
        for _ in range(200):
            hits = int(rng.binomial(1_000, 0.003))
            failures += 0 if found else hits
            surges.update({"old": 5, "new": hits}, 1_000, found)
            found = None
            if surges.surging:
                break
        needed.append(failures)
        (surge,) = surges.surging
        assert (surge.cluster, surge.emerging) == ("new", True)
        assert surge.baseline < 1e-4 < surge.low <= 0.003 * 3
        assert 100 <= surge.since <= surge.alarm
    assert np.median(needed) <= 12  # with four that founded it


def test_a_doubling_is_found_and_recovery_ends_it():
    rng = np.random.default_rng(4)
    surges = ClusterSurges(1.0, 1_008, warm_up=100_000)
    delays = None
    for tick in range(600):
        rate = 0.02 if 200 <= tick < 400 else 0.01
        surges.update({"a": rng.binomial(1_000, rate), "b": rng.binomial(1_000, 0.01)}, 1_000)
        if surges.surging and delays is None:
            delays = tick - 200
            assert surges.surging[0].emerging is False
    assert delays is not None
    assert 0 <= delays <= 10
    assert surges.surging == []
    assert set(surges.e_values) == {"a", "b"}


def test_opportunities_may_differ_by_cluster():
    surges = ClusterSurges(1.0, 1_008, warm_up=20_000)
    for _ in range(200):  # half as many refunds: half as many failed refunds is no change
        surges.update({"refund": 5, "login": 5}, {"refund": 100, "login": 100})
    for _ in range(200):
        surges.update({"refund": 2.5, "login": 5}, {"refund": 50, "login": 50})
    assert [surge.cluster for surge in surges.surging] == ["login"]


def test_a_merge_frees_a_stream_and_the_threshold_never_falls():
    surges = ClusterSurges(1.0, 100, warm_up=1_000)
    surges.update({"a": 1, "b": 1}, 100)
    assert surges.threshold == 200
    surges.follow([Transition("merged", "a", "b"), Transition("survived", "a")])
    assert len(surges) == 1
    surges.update({"c": 1}, 100)
    assert (len(surges), surges.threshold) == (2, 200)
    surges.update({"d": 1}, 100)
    assert surges.threshold == 300


def test_snapshots_continue_with_the_same_bits():
    rng = np.random.default_rng(5)
    one = ClusterSurges(warm_up=3_000)
    for tick in range(50):
        one.update({"a": rng.binomial(100, 0.1)}, 100, {"b": 4} if tick == 40 else None)
    one.follow([Transition("split", "a2", "a")])
    two = ClusterSurges.restore(json.loads(json.dumps(one.snapshot())))
    for _ in range(50):
        tick = {"a": rng.binomial(100, 0.2), "b": rng.binomial(100, 0.1), "c": 1}
        one.update(tick, 100)
        two.update(tick, 100)
    assert one.snapshot() == two.snapshot()
    with pytest.raises(ValueError, match="not a snapshot"):
        ClusterSurges.restore({"detector": "RateDetector"})


def test_an_accepted_rate_rings_no_more():
    surges = ClusterSurges(warm_up=1_000)
    for tick in range(40):
        surges.update({"a": 1 if tick < 20 else 10}, 100)
    assert [surge.cluster for surge in surges.surging] == ["a"]
    surges.accept("a")
    for _ in range(40):
        surges.update({"a": 10}, 100)
    assert surges.surging == []
