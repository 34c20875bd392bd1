import math

import numpy as np
import pytest

from detectors import sketch
from detectors.compare.verdicts import (
    compare_means,
    compare_paired,
    compare_quantile,
    difference_sequence,
    fixed_sample_size,
    radius,
)


@pytest.mark.parametrize("p", [0.5, 0.7, 0.95])
def test_equal_versions_rarely_ever_differ_though_looked_at_every_time(p: float):
    rng = np.random.default_rng(1)
    runs, events = 500, 2000
    n = np.arange(1.0, events + 1)[:, None]
    wrong = 0
    for _ in range(runs):
        a, b = np.cumsum(rng.random((2, events)) < p, axis=1)[:, :, None] * 1.0
        difference, half = difference_sequence((n, a, a), (n, b, b))
        wrong += bool((np.abs(difference) > half).any())
    assert wrong / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


def test_five_points_are_found_with_about_the_sample_of_a_fixed_test():
    rng = np.random.default_rng(2)
    n = np.arange(1.0, 6001)[:, None]
    first = []
    for _ in range(100):
        a = np.cumsum(rng.random(6000) < 0.7)[:, None] * 1.0
        b = np.cumsum(rng.random(6000) < 0.75)[:, None] * 1.0
        difference, half = difference_sequence((n, a, a), (n, b, b))
        assert not (difference < -half).any()
        first.append((difference > half).argmax() + 1)
    assert np.median(first) <= 1.2 * fixed_sample_size(0.7, 0.05)


def test_the_answers():
    def ask(k0: int, k1: int, n: int, **kw):
        return compare_means((n, k0, k0), (n, k1, k1), margin=0.03, **kw)

    assert ask(700, 800, 1000).answer == "better"
    assert ask(700, 800, 1000, higher_is_better=False).answer == "worse"
    assert ask(800, 700, 1000).answer == "worse"
    assert ask(70_000, 70_010, 100_000).answer == "equivalent"
    open_question = ask(70, 75, 100)
    assert open_question.answer == "not enough data"
    assert open_question.still_needed is not None and open_question.still_needed > 500
    assert ask(700, 800, 1000).still_needed == 0
    nothing = compare_means((0, 0, 0), (10, 5, 5), margin=0.1)
    assert nothing.answer == "not enough data"
    assert nothing.low == -math.inf and nothing.still_needed is None


def test_easier_topics_do_not_make_a_version_better():
    # better on each topic, worse in the sum: it got the hard ones
    old_n, new_n = np.array([800, 200]), np.array([200, 800])
    old, new = old_n * [0.9, 0.5], new_n * [0.97, 0.62]
    assert compare_means((old_n, old, old), (new_n, new, new), margin=0.01).answer == "better"
    pooled = [x.sum() for x in (old_n, old, old, new_n, new, new)]
    assert compare_means(tuple(pooled[:3]), tuple(pooled[3:]), margin=0.01).answer == "worse"


def test_pairs_need_fewer_tasks():
    rng = np.random.default_rng(3)
    easy = rng.random(400) < 0.6
    old = easy.astype(float)
    new = np.where(rng.random(400) < 0.1, 1.0, old)
    paired = compare_paired(new - old, margin=0.01)
    sums = [(400, x.sum(), x.sum()) for x in (old, new)]
    assert paired.answer == "better"
    unpaired = compare_means(sums[0], sums[1], margin=0.01)
    assert paired.high - paired.low < unpaired.high - unpaired.low
    assert compare_paired([], margin=0.1).answer == "not enough data"


def test_a_slower_tail_is_worse_in_milliseconds():
    rng = np.random.default_rng(4)
    old = sketch.histogram(rng.lognormal(6, 0.8, 20_000))
    new = sketch.histogram(1.5 * rng.lognormal(6, 0.8, 20_000))
    verdict = compare_quantile(old, new, 0.95, margin=10)
    truth = 0.5 * math.exp(6 + 0.8 * 1.6449)
    assert verdict.answer == "worse"
    assert verdict.low < truth < verdict.high
    assert compare_quantile(old, old, 0.95, margin=400).answer == "equivalent"
    assert compare_quantile(([], []), new, 0.5, margin=1).answer == "not enough data"


def test_the_boundary_is_tightest_where_it_was_tuned_for():
    n = np.arange(1.0, 5000)
    tuned = radius(500.0, tuned_for=500.0)
    assert all(tuned <= radius(500.0, tuned_for=x) + 1e-9 for x in (50, 200, 1000, 5000))
    assert np.all(np.diff(radius(n) / n) < 0)
