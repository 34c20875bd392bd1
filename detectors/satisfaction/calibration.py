"""Scores become probabilities with an interval: inductive Venn-Abers, as tables of plain numbers.

Venn-Abers (Vovk and Petej, arXiv 1211.0025) fits an isotonic function twice for every score, once
as if its label were 0 and once as if it were 1; the two values bracket a calibrated probability.
Where many calibration points support a step the bracket is narrower than the step is certain, so
the interval given here is the hull of the bracket and of Wilson's interval of the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.compare.agreement import wilson

Floats = NDArray[np.float64]

BINS: Final = 100
"""Calibration scores are grouped into at most so many bins of equal mass."""


_DIGITS: Final = 6
"""Of scores, everywhere: what is written as text then falls into the same bins."""


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Probability and interval per score, shape (n,)."""

    p: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Calibration:
    """A step function of the score.

    Attributes
    ----------
    edges
        Upper ends of all bins but the last, ascending, shape (m - 1,).
    p, low, high
        Per bin, shape (m,).
    """

    edges: Floats
    p: Floats
    low: Floats
    high: Floats

    @classmethod
    def fit(cls, scores: ArrayLike, labels: ArrayLike) -> Self:
        """Calibrate on scores that the model has not been fitted to.

        Parameters
        ----------
        scores, labels
            Shape (n,); labels are 0 or 1.

        Raises
        ------
        ValueError
            When there are no scores.
        """
        s, y = np.asarray(scores, float), np.asarray(labels, float)
        if len(s) == 0:
            raise ValueError("nothing to calibrate on")
        s = s.round(_DIGITS)
        cuts = np.quantile(s, np.linspace(0, 1, min(BINS, len(s)) + 1)[1:-1])
        edges = np.unique(cuts.round(_DIGITS))
        bins = np.searchsorted(edges, s, side="left")
        n = np.bincount(bins, minlength=len(edges) + 1).astype(float)
        yes = np.bincount(bins, weights=y, minlength=len(edges) + 1).astype(float)
        zero = np.array([_isotonic(yes, n + _one(n, at))[at] for at in range(len(n))])
        one = np.array([_isotonic(yes + _one(n, at), n + _one(n, at))[at] for at in range(len(n))])
        low, high = _step_intervals(yes, n)
        p = one / (1 - zero + one)
        return cls._steps(edges, np.stack([p, np.minimum(zero, low), np.maximum(one, high)]))

    @classmethod
    def _steps(cls, edges: Floats, columns: Floats) -> Self:
        """Neighbouring bins that say the same to four digits become one step."""
        rounded = columns.round(4)
        changes = (np.diff(rounded, axis=1) != 0).any(axis=0)
        p, low, high = rounded[:, np.append(changes, True)]
        return cls(edges[changes], p, low, high)

    def __call__(self, scores: ArrayLike) -> Probabilities:
        """Look up scores."""
        at = np.searchsorted(self.edges, np.asarray(scores, float).round(_DIGITS), side="left")
        return Probabilities(self.p[at], self.low[at], self.high[at])

    def to_json(self) -> dict[str, Any]:
        """The tables as lists of numbers."""
        names = ("edges", "p", "low", "high")
        return {name: [round(float(x), _DIGITS) for x in getattr(self, name)] for name in names}

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Self:
        """Build from what `to_json` gave.

        Raises
        ------
        ValueError, KeyError
            When it is not such a table.
        """
        edges, p, low, high = (np.array(table[k], float) for k in ("edges", "p", "low", "high"))
        if not (len(edges) + 1 == len(p) == len(low) == len(high)):
            raise ValueError("the calibration's columns differ in length")
        if (np.diff(edges) <= 0).any() or not (low <= high).all():
            raise ValueError("the calibration's edges or intervals are out of order")
        return cls(edges, p, low, high)


def expected_error(p: ArrayLike, labels: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over bins of equal mass.

    Examples
    --------
    >>> round(expected_error([0.2] * 10, [1, 1] + [0] * 8), 6)
    0.0
    """
    predicted, truth = np.asarray(p, float), np.asarray(labels, float)
    # equal predictions stay together
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, predicted, side="left")
    return float(np.abs(np.bincount(place, weights=predicted - truth)).sum() / len(predicted))


def _one(n: Floats, at: int) -> Floats:
    added = np.zeros_like(n)
    added[at] = 1
    return added


def _isotonic(yes: Floats, n: Floats) -> Floats:
    """Ascending rates closest to ``yes / n``: pool adjacent violators."""
    return np.repeat(*_blocks(yes, n)[:2])


def _blocks(yes: Floats, n: Floats) -> tuple[Floats, NDArray[np.int64], Floats, Floats]:
    """Rate, number of bins, yes and n of the blocks of equal rate."""
    stack: list[tuple[float, float, int]] = []
    for y, m in zip(yes, n, strict=True):
        block = (float(y), float(m), 1)
        while stack and stack[-1][0] * block[1] >= block[0] * stack[-1][1]:
            before = stack.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        stack.append(block)
    total, count, width = (np.array(column) for column in zip(*stack, strict=True))
    return total / np.maximum(count, 1e-12), width.astype(np.int64), total, count


def _step_intervals(yes: Floats, n: Floats) -> tuple[Floats, Floats]:
    _, width, total, count = _blocks(yes, n)
    ends = np.array([wilson(y, m) for y, m in zip(total, count, strict=True)])
    return np.repeat(ends[:, 0], width), np.repeat(ends[:, 1], width)
