"""The parts of the benchmarks that can be wrong in silence."""

import numpy as np
import pytest

from bench import agentrx, clusters, detectors, pairs, planted
from bench.isolated import run_peer
from bench.plots import scatter
from bench.scenarios import CHANGES, quiet, quiet_events
from tests.support.common import data_file


def test_a_peer_that_is_not_installed_is_left_out():
    assert run_peer("nothing", "drift_peers", {}) is None


def test_a_plot_leaves_out_what_is_not_finite(tmp_path):
    file = tmp_path / "a.svg"
    scatter(file, "a < b", "x", "y", {"one": [(10, 20), (100, float("inf")), (1000, 90)]})
    text = file.read_text()
    assert text.count("<circle") == 2
    assert "a &lt; b" in text
    scatter(tmp_path / "empty.svg", "t", "x", "y", {"one": []})
    assert not (tmp_path / "empty.svg").exists()


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.name)
def test_the_oracle_knows_both_laws(change):
    # the log likelihood ratio has expectation exp = 1 before the change and a rise after it
    rng = np.random.default_rng(1)
    ratio = change.log_ratio
    assert np.exp(ratio(change.null(rng, 200, 500))).mean() == pytest.approx(1, abs=0.05)
    assert ratio(change.changed(rng, 50, 3000)[:, 1500:]).mean() > 0


def test_the_arl_of_a_known_law_is_measured():
    rng = np.random.default_rng(2)
    path = 1 / rng.random((4000, 200))  # P(path >= c) = 1 / c at every event
    arl = detectors._Crossings(path).arl()
    level = detectors._LADDER
    at = np.searchsorted(level, 500)
    assert arl[at] == pytest.approx(level[at], rel=0.2)


def test_delays_leave_out_runs_that_rang_before():
    path = np.zeros((detectors.BEFORE + 10, 3))
    path[5, 0] = 9
    path[detectors.BEFORE + 3, 1] = 9
    assert detectors._delay(path, 5).tolist() == [4.0, np.inf]


@pytest.mark.parametrize("kind", ["bernoulli", "seasonal", "pareto"])
def test_quiet_streams_have_possible_counts(kind):
    learn, watch = quiet(kind, 2, 7, np.random.default_rng(3), per_hour=1)
    for ticks in (learn, watch):
        assert ((ticks.total >= 0) & (ticks.total <= ticks.n)).all()
    assert len(watch.hour) == 168


@pytest.mark.parametrize("kind", ["bernoulli", "seasonal", "ar1"])
def test_quiet_events_are_those_of_the_ticks(kind):
    learn, watch = quiet_events(kind, 2, 3, np.random.default_rng(3))
    assert (learn.shape, watch.shape) == ((2, 28 * 1728), (2, 3 * 1728))
    if kind == "ar1":
        x = np.log(learn[0])
        assert np.corrcoef(x[1:], x[:-1])[0, 1] == pytest.approx(0.5, abs=0.03)
    else:
        assert set(np.unique(learn)) == {0.0, 1.0}
        by_hour = learn[0].reshape(28, 24, 72).mean(axis=(0, 2))
        assert (np.ptp(by_hour) > 0.05) == (kind == "seasonal")


def test_a_peer_is_compared_where_its_own_false_alarms_are_equal():
    def point(arl: float, median: float, **more):
        return {"arl": arl, "median": median, "delays": [median] * 5, **more}

    rows = detectors._peer_rows("x", "p", [point(1_000, 50), point(100_000, 200)])
    found = {r["metric"]: r["value"] for r in rows}
    assert found["x.arl_10k.median"] == pytest.approx(100)
    for points in (
        [point(90_000, 50)],
        [point(9_000, 250, chunk=250), point(20_000, 500, chunk=500)],
    ):
        found = {r["metric"]: r["value"] for r in detectors._peer_rows("x", "p", points)}
        assert "x.arl_10k.median" not in found
        assert found["x.nearest.arl"] == points[0]["arl"]


def test_planted_streams_are_seeded_and_keep_their_promises():
    one, two = planted.stream(2000, 3), planted.stream(2000, 3)
    assert one.failures == two.failures
    assert len(planted.modes()) == 40
    assert np.mean(one.truth >= 1000) == pytest.approx(0.15, abs=0.03)


def test_purity_and_lone_clusters():
    truth = np.array([0, 0, 1, 1])
    assert agentrx.purity(truth, np.array([0, 0, 0, 1])) == 0.75
    assert clusters._alone(["a", "", ""]) == ["a", "alone 1", "alone 2"]


def test_real_versions_differ_where_they_should():
    data_file("tau2_retail_gpt41_vs_sft_simulations.jsonl.gz")
    found = {r["metric"]: r for r in pairs.measure(7)}

    def differs(name: str) -> bool:
        return found[name]["low"] > 0 or found[name]["high"] < 0

    assert not differs("pairs.retail.success")
    assert differs("pairs.retail.log_latency")
    assert differs("pairs.telecom.success")
    assert differs("pairs.telecom_solo.success")
    assert max(r["value"] for name, r in found.items() if "shuffled" in name) <= 0.05


def test_the_labelled_runs_are_read():
    data_file("agentrx_tau_retail_failure_labels.jsonl.gz")
    runs, truth = agentrx.labelled_runs()
    assert len(runs) == len(truth) == 29
    assert len(set(truth.tolist())) == 7
    assert all(f.path and f.text for f in map(agentrx.failure, runs))
    assert len(set(agentrx._by_behaviour(runs).tolist())) >= 3


def test_members_that_stay_together_are_counted():
    old = ["a"] * 12 + ["b"] * 10 + ["c"] * 3
    new = ["a"] * 7 + ["x"] * 5 + ["d"] * 10 + ["y"] * 3
    assert clusters._stayed(old, new, {"b": "d"}.get) == [False, True]
    assert clusters._stayed(old, new, lambda name: name) == [True, False]
