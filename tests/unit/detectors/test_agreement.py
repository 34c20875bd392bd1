"""Agreement and prediction-powered means, against other implementations and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score

from detectors.compare.agreement import agreement, kappa, proportion, wilson
from detectors.compare.ppi import powered_mean


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    for share in (0.1, 0.5, 0.9):
        truth = rng.random(200) < share
        judged = np.where(rng.random(200) < 0.7, truth, rng.random(200) < 0.5)
        found = agreement(judged, truth)
        assert found.kappa.value == pytest.approx(cohen_kappa_score(judged, truth))
        assert found.precision.value == pytest.approx(precision_score(truth, judged))
        assert found.recall.value == pytest.approx(recall_score(truth, judged))
        assert found.accuracy.value == pytest.approx(np.mean(judged == truth))


def test_the_interval_of_kappa_covers() -> None:
    rng = np.random.default_rng(4)
    truth_kappa, inside = 0.0, 0
    big = rng.random(400_000) < 0.3
    judged = np.where(rng.random(400_000) < 0.6, big, rng.random(400_000) < 0.4)
    truth_kappa = float(cohen_kappa_score(judged, big))
    for _ in range(1000):
        some = rng.integers(400_000, size=150)
        found = kappa(judged[some], big[some])
        assert found.low is not None and found.high is not None
        inside += found.low <= truth_kappa <= found.high
    assert 930 <= inside <= 970


def test_wilson_is_that_of_scipy() -> None:
    for yes, n in ((0, 5), (3, 7), (50, 50)):
        other = stats.binomtest(yes, n).proportion_ci(method="wilson")
        assert wilson(yes, n) == pytest.approx((other.low, other.high))


def test_what_is_not_defined_is_none() -> None:
    assert kappa([True, True], [True, True]).value is None
    assert kappa([], []).value is None
    assert proportion(0, 0).low is None
    assert agreement([False, False], [True, False]).precision.value is None
    with pytest.raises(ValueError, match="judgements"):
        agreement([True], [True, False])


@pytest.mark.parametrize(
    ("agrees", "says_yes", "rate", "n"),
    [(0.8, 0.95, 0.3, 100), (0.0, 0.9, 0.5, 100), (0.95, 0.1, 0.7, 200), (0.5, 0.5, 0.2, 300)],
)
def test_powered_intervals_cover_with_a_biased_judge_and_are_never_wider(
    agrees: float, says_yes: float, rate: float, n: int
) -> None:
    rng = np.random.default_rng(5)
    inside, widths, alone = 0, [], []
    for _ in range(1000):
        truth = (rng.random(n + 2000) < rate).astype(float)
        other = (rng.random(n + 2000) < says_yes).astype(float)
        judged = np.where(rng.random(n + 2000) < agrees, truth, other)
        found = powered_mean(truth[:n], judged[:n], judged[n:])
        inside += found.low <= rate <= found.high
        widths.append(found.high - found.low)
        alone.append(found.classical_high - found.classical_low)
    assert 930 <= inside <= 970
    assert (np.array(widths) <= np.array(alone) * 1.02).all()
    if agrees >= 0.8:
        assert np.mean(widths) < 0.9 * np.mean(alone)


def test_without_further_judgements_the_labels_stand_alone() -> None:
    for rest in ([], [1.0]):
        found = powered_mean([1, 0, 1], [1, 0, 1], rest)
        assert (found.value, found.weight) == (pytest.approx(2 / 3), 0.0)
        assert (found.low, found.high) == (found.classical_low, found.classical_high)
    assert powered_mean([1, 0, 1], [1, 1, 1], [1, 1, 1]).weight == 0.0
    with pytest.raises(ValueError, match="two labels"):
        powered_mean([1], [1], [1])
