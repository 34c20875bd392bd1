"""Two samples of vectors: valid whatever the law, and able to see what they are for."""

import json
import math

import numpy as np
import pytest

from detectors.change.drift import text_features
from detectors.compare.twosample import ClassifierBet, classifier_test, energy_test, mmd_test

TESTS = (energy_test, mmd_test, classifier_test)


@pytest.mark.parametrize("test", TESTS)
def test_p_and_e_values_are_valid_for_samples_of_one_kind(test):
    rng = np.random.default_rng(9)
    runs = 300
    found = [test(*rng.standard_t(2, (2, 24, 3)), 59, seed) for seed in range(runs)]
    p, e = (np.array([getattr(f, name) for f in found]) for name in ("p_value", "e_value"))
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / runs)
    assert e.mean() <= 1 + 3 * e.std() / math.sqrt(runs)
    assert e.max() > 2


@pytest.mark.parametrize("test", TESTS)
def test_a_shift_is_seen(test):
    rng = np.random.default_rng(10)
    found = test(rng.normal(size=(80, 3)), rng.normal(0.8, 1, (80, 3)), 199)
    assert found.p_value == 1 / 200
    assert found.e_value > 20


def test_a_change_of_scatter_is_seen_by_kernels_only():
    rng = np.random.default_rng(11)
    samples = rng.normal(size=(150, 3)), rng.normal(0, 1.6, (150, 3))
    assert mmd_test(*samples, 199).p_value <= 0.01
    assert classifier_test(*samples, 199).p_value > 0.05


@pytest.mark.parametrize("test", TESTS)
def test_strata_separate_behaviour_from_inputs(test):
    rng = np.random.default_rng(12)
    centre = np.array([[0.0, 0.0], [3.0, 0.0]])

    def draw(share: float, moved: float):
        topic = (rng.random(150) < share).astype(int)
        return centre[topic] + rng.normal(size=(150, 2)) + [0, moved], topic

    before = draw(0.2, 0.0)
    for share, moved in ((0.6, 0.0), (0.2, 0.8)):
        after = draw(share, moved)
        plain = test(before[0], after[0], 199)
        within = test(before[0], after[0], 199, strata=(before[1], after[1]))
        assert plain.p_value <= 0.01
        assert (within.p_value <= 0.01) == (moved > 0)


def test_impossible_samples_are_refused():
    x = np.zeros((3, 2))
    for test in TESTS:
        with pytest.raises(ValueError, match=r"need vectors|at least"):
            test(x, x[:0])
    with pytest.raises(ValueError, match="no stratum"):
        energy_test(x, x, strata=([0, 0, 0], [1, 1, 1]))
    with pytest.raises(ValueError, match="one label per vector"):
        energy_test(x, x, strata=([0], [1]))
    same = energy_test(x, x, 19)
    assert (same.p_value, same.e_value) == (1.0, pytest.approx(1.0))


def test_text_vectors_of_two_subjects_differ():
    texts = ["refund my card please", "where is my refund"] * 20
    others = ["change my seat please", "where is my flight"] * 20
    vectors = text_features(4).fit_transform(texts + others)
    assert mmd_test(vectors[:40], vectors[40:], 99).p_value == 0.01
    assert mmd_test(vectors[:40:2], vectors[1:40:2], 99).p_value == 0.01


def run(shift: float, seed: int, ticks: int, arl: float) -> int:
    rng = np.random.default_rng(seed)
    bet = ClassifierBet(6, arl=arl)
    for tick in range(ticks):
        past, live = rng.standard_t(3, (2, 10, 6))
        live[:, 1] += shift * (tick >= ticks // 2)
        if bet.update(live, past).detected:
            return tick
    return -1


def test_the_bet_keeps_its_promise_on_heavy_tails():
    # P(alarm within T ticks) <= T / arl
    alarms = np.mean([run(0.0, seed, 100, 1000) >= 0 for seed in range(150)])
    assert alarms <= 0.1


def test_the_bet_finds_a_drift_that_begins_late():
    first = np.array([run(1.0, seed, 160, 1000) for seed in range(20)])
    assert (first >= 0).all()
    assert np.mean(first >= 80) >= 0.9
    assert np.median(first) <= 100


def test_the_bet_restores_bit_for_bit_and_resets():
    rng = np.random.default_rng(13)
    whole = ClassifierBet(3, arl=50)
    for _ in range(30):
        whole.update(rng.normal(1, 1, (5, 3)), rng.normal(size=(5, 3)))
    again = ClassifierBet.restore(json.loads(json.dumps(whole.snapshot())))
    live, past = rng.normal(size=(2, 5, 3))
    assert again.update(live, past).snapshot() == whole.update(live, past).snapshot()
    assert whole.detected
    assert np.argmax(whole.direction) in (0, 1, 2)
    before = whole.e_value
    assert whole.update(live[:0], past[:0]).e_value == before
    assert not whole.reset().detected
    with pytest.raises(ValueError, match="shape"):
        whole.update(live, past[:2])
    with pytest.raises(ValueError, match="not a snapshot"):
        ClassifierBet.restore({"detector": "x"})
