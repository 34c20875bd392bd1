"""A mean from few labels and many judgements: tuned prediction-powered inference.

The method is PPI++ (Angelopoulos, Duchi and Zrnic, arXiv 2311.01453) for a mean. The judge's error
is measured where there are labels and taken out where there are none, so the interval is honest
however biased the judge is; its weight is chosen so that the interval is never wider than that of
the labels alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True, slots=True)
class PoweredMean:
    """An estimated mean.

    Attributes
    ----------
    value, low, high
        Estimate and interval.
    weight
        How much of the judge was used: 0 nothing, 1 all.
    classical_low, classical_high
        Interval from the labels alone.
    n_labels, n_judged
        Labelled things, and things that were only judged.
    """

    value: float
    low: float
    high: float
    weight: float
    classical_low: float
    classical_high: float
    n_labels: int
    n_judged: int


def powered_mean(
    labels: ArrayLike, judged: ArrayLike, judged_only: ArrayLike, level: float = 0.95
) -> PoweredMean:
    """Estimate the mean of what people would say of all things.

    Parameters
    ----------
    labels
        What people said, shape (n,).
    judged
        What the judge said of the same things, shape (n,).
    judged_only
        What the judge said of things without label, shape (N,). Both must be drawn from the same
        things at random, or nothing holds.
    level
        Coverage of the interval.

    Raises
    ------
    ValueError
        With fewer than two labels, or when ``labels`` and ``judged`` differ in length.

    Examples
    --------
    >>> found = powered_mean([1, 0, 1, 1], [1, 0, 1, 0], [1, 0, 1, 1, 0, 1, 1, 1])
    >>> round(found.value, 3), round(found.weight, 3)
    (0.845, 0.378)
    """
    y, f, rest = (np.asarray(values, float) for values in (labels, judged, judged_only))
    if len(y) < 2 or len(y) != len(f):
        raise ValueError("at least two labels are needed, each with a judgement")
    n, n_rest = len(y), len(rest)
    spread_rest = float(np.var(rest, ddof=1)) / n_rest if n_rest > 1 else float("inf")
    weight = _weight(y, f, spread_rest)
    value, variance = float(np.mean(y)), float(np.var(y - weight * f, ddof=1)) / n
    if weight > 0:
        value += weight * float(np.mean(rest) - np.mean(f))
        variance += weight**2 * spread_rest
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    half = quantile * variance**0.5
    alone = quantile * float(np.std(y, ddof=1)) / n**0.5
    centre = float(np.mean(y))
    return PoweredMean(
        value, value - half, value + half, weight, centre - alone, centre + alone, n, n_rest
    )


def _weight(y: np.ndarray, f: np.ndarray, spread_rest: float) -> float:
    """The weight between 0 and 1 at which the estimated variance is smallest."""
    if not np.isfinite(spread_rest):
        return 0.0
    total = float(np.var(f, ddof=1)) / len(y) + spread_rest
    if total == 0:
        return 0.0
    shared = float(np.cov(y, f, ddof=1)[0, 1]) / len(y)
    return min(max(shared / total, 0.0), 1.0)
