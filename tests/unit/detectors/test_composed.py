"""Ensembles, metrics, seasons, budget, drift, slices: what is built from the rate detector."""

import json
import math

import numpy as np
import pytest
from scipy import special

from detectors import sketch
from detectors.change.budget import FalseAlarmBudget, select_with_fdr
from detectors.change.drift import InputAndBehaviour, Topics
from detectors.change.ensembles import EnsembleDetector
from detectors.change.heavy_tails import (
    RankReference,
    metric_detector,
    rank_dispersion,
)
from detectors.change.rates import RateDetector
from detectors.change.seasonal import HourOfWeek
from detectors.failures.slices import over_represented, rank_slices


def latency_run(factor: float, seed: int, ticks: int = 60) -> EnsembleDetector:
    rng = np.random.default_rng(seed)
    ranks = RankReference().fit(*sketch.histogram(rng.lognormal(6, 0.8, 5000)))
    total, n = ranks.baseline()
    detector = metric_detector(1, arl=2000)
    detector.calibrate([total], n, rank_dispersion())
    for _ in range(ticks):
        window = sketch.histogram(factor * rng.lognormal(6, 0.8, 30))
        total, n = ranks.score(*window)
        detector.update([total], n)
    return detector


@pytest.mark.parametrize(("factor", "sign"), [(1.5, 1), (0.7, -1)])
def test_a_latency_shift_is_found_in_both_directions(factor: float, sign: int):
    detector = latency_run(factor, 1)
    assert detector.detected[0]
    assert detector.change_sign[0] == sign


def test_unchanged_latencies_stay_quiet():
    # P(alarm within 60 ticks) <= 60 / 2000 per run
    assert sum(latency_run(1.0, seed).detected[0] for seed in range(40)) <= 5


def test_ranks_are_exact_on_the_reference():
    rng = np.random.default_rng(2)
    ranks = RankReference(tails=(0.9,)).fit(*sketch.histogram(rng.pareto(1.1, 4000)))
    total, n = ranks.baseline()
    assert n == 4000
    assert total[0] == pytest.approx(2000)
    assert total[1] <= 400
    total, n = ranks.score(*sketch.histogram([1e9, 0.0]))
    assert total[0] == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="at least one"):
        RankReference().fit([], [])


def test_an_ensemble_recovers_rearms_and_restores():
    rng = np.random.default_rng(4)
    whole = EnsembleDetector(2, 3, warm_up=500, dispersion=1.0, arl=1000, direction="both")
    for tick in range(400):
        p = [0.5, 0.3, 0.2] if not 150 <= tick < 220 else [0.3, 0.3, 0.4]
        whole.update([rng.multinomial(20, p), rng.multinomial(20, [0.5, 0.3, 0.2])], 20)
        if tick == 200:
            assert whole.detected.tolist() == [True, False]
            assert whole.leading[0] in (0, 2)
            again = EnsembleDetector.restore(json.loads(json.dumps(whole.snapshot())))
            assert again.snapshot() == whole.snapshot()
    assert not whole.detected.any()
    with pytest.raises(ValueError, match="not a snapshot"):
        EnsembleDetector.restore({"detector": "x"})


def test_weights_say_where_to_look_first():
    found = []
    for weights in (None, [0.96, 0.01, 0.01, 0.01, 0.01]):
        mix = EnsembleDetector(1, 5, warm_up=0, dispersion=1.0, weights=weights)
        mix.calibrate([[1000] * 5], 10_000)
        for _ in range(20):
            mix.update([[4, 2, 2, 2, 2]], 20)
        found.append(float(mix.e_value[0]))
    assert found[1] == pytest.approx(4.8 * found[0], rel=0.05)
    with pytest.raises(ValueError, match="sum to 1"):
        EnsembleDetector(1, 2, weights=[0.5, 0.6])


def test_an_accepted_mix_is_the_new_normal_for_all_its_categories():
    rng = np.random.default_rng(12)
    mix = EnsembleDetector(2, 3, warm_up=1000, dispersion=1.0, arl=1000, direction="both")
    for tick in range(400):
        p = [0.5, 0.3, 0.2] if tick < 100 else [0.3, 0.3, 0.4]
        mix.update([rng.multinomial(20, p), rng.multinomial(20, [0.5, 0.3, 0.2])], 20)
    assert mix.detected.tolist() == [True, False]
    with pytest.raises(ValueError, match="detected"):
        mix.accept([1])
    other = mix.baseline[1].tolist()
    mix.accept([0])
    assert not mix.detected.any()
    assert mix.baseline[0] == pytest.approx([0.3, 0.3, 0.4], abs=0.03)
    assert mix.baseline[1].tolist() == other
    again = EnsembleDetector.restore(json.loads(json.dumps(mix.snapshot())))
    assert again.snapshot() == mix.snapshot()
    for _ in range(60):
        mix.update([rng.multinomial(20, [0.5, 0.3, 0.2])] * 2, 20)
    assert mix.detected.tolist() == [True, False]  # the way back is a change now


def test_the_hour_of_the_week_is_learnt_and_shrunk():
    rng = np.random.default_rng(5)
    hour = np.arange(4 * 168) % 168
    p = special.expit(-2 + 0.8 * np.sin(hour / 24 * 2 * np.pi))[:, None]
    n = np.full((hour.size, 3), 30)
    season = HourOfWeek().fit(rng.binomial(n, p), n, hour)
    expected = special.expit(special.logit(season.total_ / season.n_)[:, None] + season.offsets_)
    truth = special.expit(-2 + 0.8 * np.sin(np.arange(168) / 24 * 2 * np.pi))
    raw_error = np.sqrt(0.12 * 0.88 / (4 * 30))
    assert np.sqrt(np.mean((expected - truth) ** 2)) < 0.7 * raw_error
    flat = HourOfWeek().fit(rng.binomial(n, 0.1), n, hour)
    assert np.abs(flat.offsets_).mean() < 0.05
    assert np.all(season.dispersion_ >= 1)
    with pytest.raises(ValueError, match="two weeks"):
        HourOfWeek().fit(n[:168], n[:168], hour[:168])


def test_a_seasonal_rate_raises_no_alarm_with_its_season():
    rng = np.random.default_rng(6)
    hour = np.arange(6 * 168) % 168
    p = special.expit(-2 + 0.8 * np.sin(hour / 24 * 2 * np.pi))[:, None]
    n = np.full((hour.size, 20), 40)
    total = rng.binomial(n, p)
    season = HourOfWeek().fit(total[:672], n[:672], hour[:672])
    alarms = {}
    for name, offset in (("with", season.offsets_), ("without", 0 * season.offsets_)):
        detector = EnsembleDetector(20, 1, arl=20_000, direction="both")
        spread = season.dispersion_[:, None] if name == "with" else np.ones((20, 1))
        detector.calibrate(season.total_[:, None], season.n_[:, None], spread)
        ever = np.zeros(20, np.bool_)
        for t in range(672, hour.size):
            detector.update(total[t][:, None], n[t][:, None], offset[:, hour[t]][:, None])
            ever |= detector.detected
        alarms[name] = ever.mean()
    assert alarms["with"] <= 336 / 20_000 + 0.05
    assert alarms["without"] > 0.9


def test_a_level_accepted_under_offsets_is_not_biased_by_ticks_of_one_value():
    rng = np.random.default_rng(9)
    detector = RateDetector(1, arl=1000.0, direction="both").calibrate([300], [1000])
    worse = special.logit(0.45) - special.logit(0.30)
    for tick in range(12_000):
        night = tick % 2
        rate = 0.60 if tick < 500 else 0.45
        value = rng.random() < rate + 0.15 * night
        detector.update([float(value)], [1.0], [worse * night])
        assert tick < 500 or detector.detected[0]
        if tick == 499:
            detector.relearn([0])  # what follows is the new level
    detector.accept([0])
    assert detector.baseline[0] == pytest.approx(0.45, abs=0.02)


def test_the_budget_grows_with_the_streams_and_never_shrinks():
    budget = FalseAlarmBudget(alerts_per_week=2, ticks_per_week=1000)
    assert budget.threshold(10) == 5000
    assert budget.threshold(20) == 10_000
    assert budget.threshold(5) == 10_000
    with pytest.raises(ValueError, match="positive"):
        FalseAlarmBudget(0, 1)


def test_the_board_is_e_benjamini_hochberg():
    assert select_with_fdr([], 100).tolist() == []
    assert select_with_fdr([1.0, 2.0], 100).tolist() == [False, False]
    # two streams at the level that suffices for the second, not for the first alone
    values = [1100 * 100 * 0.5, 1100 * 100 * 0.5, 1, 1, 1, 1, 1, 1, 1, 1]
    assert select_with_fdr(values, patience=1000, alpha=1.0).sum() == 2
    assert select_with_fdr([values[0]] + [1] * 9, patience=10_000, alpha=1.0).sum() == 0


def test_inputs_and_behaviour_are_told_apart():
    rng = np.random.default_rng(7)
    found = {}
    for name, mix, rates in (
        ("inputs", [0.5, 0.5], [0.05, 0.3]),
        ("behaviour", [0.8, 0.2], [0.15, 0.3]),
        ("nothing", [0.8, 0.2], [0.05, 0.3]),
    ):
        watch = InputAndBehaviour(2, arl=5000).calibrate([8000, 2000], [400, 600])
        for _ in range(80):
            n = rng.multinomial(40, mix)
            watch.update(n, rng.binomial(n, rates))
        found[name] = (watch.input_drift, watch.behaviour_drift)
    assert found == {
        "inputs": (True, False), "behaviour": (False, True), "nothing": (False, False),
    }  # fmt: skip


def test_topics_separate_what_is_asked():
    rng = np.random.default_rng(8)
    words = (["refund", "card", "money", "paid"], ["flight", "seat", "airport", "gate"])
    texts = [" ".join(rng.choice(words[i % 2], 12)) for i in range(401)]
    topics = Topics(2, n_components=8).fit(texts[1:] + texts[:200])
    assert topics.counts_.sum() == 300
    labels = topics.predict(texts)
    assert len({tuple(labels[::2]), tuple(labels[1::2])}) == 2
    assert len(set(labels[::2])) == len(set(labels[1::2])) == 1
    with pytest.raises(ValueError, match="at least"):
        Topics(10).fit(["a"] * 5)


def test_the_slice_that_carries_a_change_comes_first():
    found = rank_slices(
        ["gpt", "tuned", "idle"], ([100, 100, 0], [1000, 1000, 0]), ([21, 80, 0], [200, 200, 0])
    )
    assert found[0].name == "tuned"
    assert found[0].e_value > 1e6
    assert {s.name: s.e_value <= 1 for s in found[1:]} == {"gpt": True, "idle": True}
    assert found[0].carried == pytest.approx(60 / 61)
    assert math.isnan(next(s.after for s in found if s.name == "idle"))


def test_slice_evidence_has_expectation_below_one_without_a_change():
    rng = np.random.default_rng(10)
    n = 3000
    ranked = rank_slices(
        [str(i) for i in range(n)],
        (rng.binomial(50, 0.2, n), np.full(n, 50)),
        (rng.binomial(30, 0.2, n), np.full(n, 30)),
    )
    assert np.mean([s.e_value for s in ranked]) <= 1


def test_over_representation_is_joint_over_attributes():
    rng = np.random.default_rng(11)
    inside = {f"a{i}": int(rng.binomial(100, 0.3)) for i in range(200)}
    outside = {f"a{i}": int(rng.binomial(5000, 0.3)) for i in range(200)}
    assert len(over_represented(inside, 100, outside, 5000)) <= 2
    found = over_represented({**inside, "eu": 80}, 100, {**outside, "eu": 1500}, 5000)
    assert found[0].attribute == "eu"
    assert found[0].low < 80 / 100 / 0.3 < found[0].high
