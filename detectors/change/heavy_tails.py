"""Heavy-tailed metrics (latency, cost, tokens) as indicators in [0, 1].

Raw milliseconds make mean-based detectors ring at every outlier. Here a value counts by its *rank*
in the reference, which moves when the middle moves, and by whether it lies *above a high quantile*
of the reference, which moves when only the tail does. Both are means of values in [0, 1], so the
guarantee of `detectors.change.rates` applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors import sketch
from detectors.base import Floats
from detectors.change.ensembles import EnsembleDetector

TAILS: Final = (0.9, 0.99, 0.998)
"""Reference quantiles whose exceedance is watched beside the rank.

A tail that grows from p95 on moves no rank and few values across p90; the far quantile sees it.
"""

RANK_DISPERSION: Final = 1 / 3
"""Variance of a uniform rank, 1/12, over that of a fair 0/1 value, 1/4."""


class RankReference:
    """Reference sample of one metric, from which ranks and exceedances are read.

    Parameters
    ----------
    tails
        Quantiles whose exceedance is an indicator.

    Examples
    --------
    >>> reference = RankReference(tails=(0.9,)).fit(*sketch.histogram(np.arange(1.0, 101.0)))
    >>> total, n = reference.score(*sketch.histogram([50.0, 95.0, 99.0]))
    >>> total.round(1).tolist(), n
    ([2.4, 2.0], 3)
    """

    def __init__(self, tails: Sequence[float] = TAILS) -> None:
        self.tails = tuple(tails)

    def fit(self, bins: ArrayLike, counts: ArrayLike) -> Self:
        """Take the sketch of the reference: shapes (k,); needs at least one value."""
        self.bins_, self.counts_ = sketch.merge([(bins, counts)])
        if not self.bins_.size:
            raise ValueError("a reference needs at least one value")
        below = np.concatenate([[0], np.cumsum(self.counts_)])
        n = below[-1]
        # rank of a value that falls between two reference bins, and of one inside a bin (mid-rank)
        self.between_ = below / n
        self.inside_ = (below[:-1] + below[1:]) / (2 * n)
        self.limits_ = sketch.bin_index(sketch.quantile(self.bins_, self.counts_, self.tails))
        self.n_ = int(n)
        return self

    def score(self, bins: ArrayLike, counts: ArrayLike) -> tuple[Floats, int]:
        """Indicators of one window.

        Parameters
        ----------
        bins, counts
            Sketch of the window's values, shape (k,).

        Returns
        -------
        total : ndarray of shape (1 + len(tails),)
            Sum of the ranks, then how many values lie above each tail quantile.
        n : int
            How many values.
        """
        index = np.asarray(bins, np.int64)
        count = np.asarray(counts, np.float64)
        at = np.searchsorted(self.bins_, index)
        hit = np.minimum(at, self.bins_.size - 1)
        rank = np.where(self.bins_[hit] == index, self.inside_[hit], self.between_[at])
        above = [(count * (index > limit)).sum() for limit in self.limits_]
        return np.array([(count * rank).sum(), *above]), int(count.sum())

    def baseline(self) -> tuple[Floats, int]:
        """Indicators of the reference itself: what `EnsembleDetector.calibrate` takes."""
        return self.score(self.bins_, self.counts_)


def metric_detector(
    n_groups: int, *, arl: float = 10_000.0, tails: Sequence[float] = TAILS
) -> EnsembleDetector:
    """Two-sided ensemble for a metric: rank and one exceedance per tail quantile.

    The rank gets half of the evidence, the tails share the other half: a shift of the middle is the
    harder one to see.

    Parameters
    ----------
    n_groups
        How many metrics (streams of the caller) to follow.
    arl
        Expected ticks between two false alarms of one metric, at least.
    tails
        As in `RankReference`; at least one.

    The dispersion of a rank is a third of a 0/1 value's; where ticks scatter more than independent
    values would, pass what the reference shows to ``calibrate``.
    """
    return EnsembleDetector(
        n_groups,
        1 + len(tails),
        arl=arl,
        weights=[0.5, *([0.5 / len(tails)] * len(tails))],
        direction="both",
        floor=RANK_DISPERSION,
    )


def rank_dispersion(tails: Sequence[float] = TAILS) -> Floats:
    """Smallest dispersion of each indicator for independent values, shape (1 + len(tails),)."""
    return np.array([RANK_DISPERSION, *np.ones(len(tails))])
