"""What an estimator is worth: figures with 95 % intervals."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from detectors.compare.agreement import Estimate, wilson
from detectors.satisfaction.calibration import Floats, Probabilities

_DRAWS: Final = 300


def auc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Chance that a dissatisfied row scores above a satisfied one; None without both.

    Examples
    --------
    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    s, y = np.asarray(scores, float), np.asarray(labels, bool)
    n, m = int(y.sum()), int((~y).sum())
    if n == 0 or m == 0:
        return None
    ranks = stats.rankdata(s)
    return float((ranks[y].sum() - n * (n + 1) / 2) / (n * m))


def auc_interval(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, seed: int) -> Estimate:
    """`auc` with a bootstrap interval over whole groups (sessions)."""
    s, y = np.asarray(scores, float), np.asarray(labels, bool)
    members = _members(np.asarray(groups))
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(_DRAWS):
        chosen = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in chosen])
        value = auc(s[rows], y[rows])
        if value is not None:
            draws.append(value)
    if not draws:
        return Estimate(None, None, None, len(y))
    low, high = np.quantile(draws, (0.025, 0.975))
    return Estimate(auc(s, y), float(low), float(high), len(y))


def f1(predicted: ArrayLike, labels: ArrayLike) -> float | None:
    """Harmonic mean of precision and recall of a yes; None when neither ever says yes."""
    yes, true = np.asarray(predicted, bool), np.asarray(labels, bool)
    either = int(yes.sum() + true.sum())
    return 2 * int((yes & true).sum()) / either if either else None


def intervals_that_cover(found: Probabilities, labels: ArrayLike, groups: int = 10) -> Estimate:
    """Share of groups of equal probability whose rate is compatible with their interval.

    A group's rate is compatible when its Wilson interval meets the mean interval of the group.
    """
    y = np.asarray(labels, float)
    edges = np.unique(np.quantile(found.p, np.linspace(0, 1, groups + 1)[1:-1]))
    place = np.searchsorted(edges, found.p, side="left")
    fits = [_compatible(found, y, place == at) for at in np.unique(place)]
    return Estimate(float(np.mean(fits)), *wilson(sum(fits), len(fits)), len(fits))


def _compatible(found: Probabilities, y: Floats, rows: NDArray[np.bool_]) -> bool:
    low, high = wilson(float(y[rows].sum()), int(rows.sum()))
    return bool(low <= found.high[rows].mean() and found.low[rows].mean() <= high)


def _members(groups: NDArray[np.generic]) -> list[NDArray[np.int64]]:
    place = np.unique(groups, return_inverse=True)[1]
    order = np.argsort(place, kind="stable")
    return np.split(order, np.cumsum(np.bincount(place))[:-1])
