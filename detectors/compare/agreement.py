"""How well two yes-or-no judgements of the same things agree, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; all None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge held against what is taken for true.

    Attributes
    ----------
    kappa
        Cohen's kappa: agreement beyond chance.
    accuracy
        Share of things on which both say the same.
    precision
        Share of the judge's yes that is true.
    recall
        Share of what is true to which the judge said yes.
    """

    n: int
    kappa: Estimate
    accuracy: Estimate
    precision: Estimate
    recall: Estimate


def agreement(judged: ArrayLike, truth: ArrayLike) -> Agreement:
    """Hold a judge's answers against the truth.

    Parameters
    ----------
    judged, truth
        Booleans of shape (n,); True is yes.

    Raises
    ------
    ValueError
        When the shapes differ.

    Examples
    --------
    >>> found = agreement([True, True, False, False], [True, False, False, False])
    >>> found.kappa.value, found.precision.value, found.recall.value
    (0.5, 0.5, 1.0)
    """
    yes, true = np.asarray(judged, bool), np.asarray(truth, bool)
    if yes.shape != true.shape:
        raise ValueError(f"{yes.shape} judgements for {true.shape} truths")
    both = int((yes & true).sum())
    return Agreement(
        n=len(yes),
        kappa=kappa(yes, true),
        accuracy=proportion(int((yes == true).sum()), len(yes)),
        precision=proportion(both, int(yes.sum())),
        recall=proportion(both, int(true.sum())),
    )


def wilson(yes: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (JASA 22, 1927); (0, 1) of nothing.

    Examples
    --------
    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    if n <= 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf((1 + level) / 2))
    rate = yes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # exact at the ends, where rounding would leave 1e-17
    return (0.0 if yes == 0 else centre - half), (1.0 if yes == n else centre + half)


def proportion(yes: int, n: int) -> Estimate:
    """A share with Wilson's interval."""
    if n == 0:
        return Estimate(None, None, None, 0)
    return Estimate(yes / n, *wilson(yes, n), n)


def kappa(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Cohen's kappa of two judgements, with the large-sample interval.

    The variance is that of Fleiss, Cohen and Everitt (Psychological Bulletin 72, 1969). Where one
    answer was never given by either, kappa is not defined.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    n = len(a)
    if n == 0:
        return Estimate(None, None, None, 0)
    table = np.array([[np.sum((a == i) & (b == j)) for j in (0, 1)] for i in (0, 1)]) / n
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    observed, expected = float(np.trace(table)), float(rows @ columns)
    if expected == 1:
        return Estimate(None, None, None, n)
    value = (observed - expected) / (1 - expected)
    weights = (1 - value) * (columns[:, None] + rows[None, :])
    np.fill_diagonal(weights, 1 - np.diag(weights))
    spread = float((table * weights**2).sum()) - (value - expected * (1 - value)) ** 2
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(max(spread, 0) / n) / (1 - expected)
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0), n)
