"""An estimator from labelled interactions, and what it is worth on interactions it has not seen."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from detectors.satisfaction.calibration import Calibration, Floats
from detectors.satisfaction.estimator import ALONE, Estimator, Score
from detectors.satisfaction.features import CONTEXT, FEATURES, PRIOR

FOLDS: Final = 5

SPREAD: Final = 0.7
"""Standard deviation of what is believed of a weight before any label is seen."""

NOT_FITTED: Final = ("seconds_to_next",)
"""Left out of the default: recordings with real pauses of people are not to be had."""


def fit(
    frame: pl.DataFrame,
    dissatisfied: ArrayLike,
    groups: ArrayLike,
    trained_on: dict[str, Any],
    *,
    sources: ArrayLike | None = None,
    seed: int = 7,
) -> Estimator:
    """Fit both logistic scores, and calibrate them on scores of folds left out.

    Parameters
    ----------
    frame
        From `detectors.satisfaction.features`, n rows.
    dissatisfied
        0 or 1 per row.
    groups
        Rows of one group (a session) are never on both sides of a fold.
    trained_on
        Stored with the estimator.
    sources
        Where each row comes from. How often people are dissatisfied in a source is taken out of
        the weights, so that a feature does not count for telling sources apart.

    Raises
    ------
    ValueError
        With fewer than `FOLDS` of either answer.
    """
    y, group = np.asarray(dissatisfied, int), np.asarray(groups)
    if min(y.sum(), len(y) - y.sum()) < FOLDS:
        raise ValueError(f"at least {FOLDS} satisfied and {FOLDS} dissatisfied rows are needed")
    offset = offsets(y, sources)
    within = _score(inputs(frame), FEATURES, y, group, offset, seed)
    alone = _score(inputs(frame, alone=True), ALONE, y, group, offset, seed)
    return Estimator(within, alone, trained_on)


def inputs(frame: pl.DataFrame, *, alone: bool = False) -> Floats:
    """Numbers of each row, shape (n, number of features); alone, those of its session are 0."""
    zeros = [pl.lit(0.0).alias(name) for name in CONTEXT] if alone else []
    return frame.with_columns(zeros).select(FEATURES).to_numpy()


def _score(
    x: Floats,
    may: tuple[str, ...],
    y: NDArray[np.int64],
    group: NDArray[Any],
    offset: Floats,
    seed: int,
) -> Score:
    weights, intercept = logistic(x, y, offset)
    named = zip(FEATURES, weights, strict=True)
    used = {name: float(w) for name, w in named if w != 0 and name in may}
    calibration = Calibration.fit(left_out_scores(x, y, group, offset, seed), y)
    return Score(used, intercept + float(offset.mean()), calibration)


def left_out_scores(
    x: Floats, y: NDArray[np.int64], groups: NDArray[Any], offset: Floats, seed: int
) -> Floats:
    """Score of every row by a model that has seen none of its group, shape (n,)."""
    scores = np.zeros(len(y))
    for train, test in splits(y, groups, seed):
        weights, intercept = logistic(x[train], y[train], offset[train])
        scores[test] = x[test] @ weights + intercept + offset.mean()
    return scores


def splits(
    labels: NDArray[Any], groups: NDArray[Any], seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to fit on and rows to judge, whole groups together, shares of labels alike."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(labels, labels, groups))


def logistic(x: Floats, y: NDArray[np.int64], offset: Floats) -> tuple[Floats, float]:
    """Most probable weights and intercept, given what `PRIOR` believes, within its signs."""
    from scipy.optimize import minimize

    believed = np.array([PRIOR.get(name, 0.0) for name in FEATURES])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, intercept = parameters[:-1], parameters[-1]
        score = x @ weights + intercept + offset
        off = (weights - believed) / SPREAD
        value = float(np.logaddexp(0, score).sum() - (y * score).sum() + (off**2).sum() / 2)
        error = 1 / (1 + np.exp(-score)) - y
        return value, np.append(x.T @ error + off / SPREAD, error.sum())

    found = minimize(
        loss, np.append(believed, 0.0), jac=True, method="L-BFGS-B",
        bounds=[*map(_bounds, FEATURES), (None, None)],
    )  # fmt: skip
    return np.asarray(found.x[:-1]), float(found.x[-1])


def _bounds(name: str) -> tuple[float | None, float | None]:
    if name in NOT_FITTED:
        return 0.0, 0.0
    believed = PRIOR.get(name, 0.0)
    return (0.0 if believed > 0 else None), (0.0 if believed < 0 else None)


def offsets(y: NDArray[np.int64], sources: ArrayLike | None) -> Floats:
    """Log odds of the share of dissatisfied rows in each row's source; 0 without sources."""
    if sources is None:
        return np.zeros(len(y))
    place = np.unique(np.asarray(sources), return_inverse=True)[1]
    n = np.bincount(place) + 1.0
    rate = (np.bincount(place, weights=y) + 0.5) / n
    odds: Floats = np.log(rate / (1 - rate))
    return odds[place]
