"""One number for a deployment: how many false alerts a week are acceptable, in expectation.

With the e-values of K streams at a tick, announcing every stream above ``A = K * ticks / alerts``
gives at most ``alerts`` false alerts in ``ticks`` ticks: the expected number of false alerts of one
stream is at most ``ticks / A``, expectations add up however the streams depend on each other, and
an alarm that was reset pays again from zero. Adding streams raises the threshold for all, so the
sum stays; the threshold is never lowered when streams leave, because evidence already collected was
collected against the old one.

The detection board asks something else: of what is shown as changed, how much is false? There the
e-values, divided by the patience, go through the e-Benjamini-Hochberg procedure.

References
----------
J. Dandapanthula, A. Ramdas: Multiple testing in multi-stream sequential change detection.
arXiv:2501.04130 (e-d-Bonferroni, e-d-BH, error over patience).
R. Wang, A. Ramdas: False discovery rate control with e-values. JRSS-B 84 (2022).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Bools


class FalseAlarmBudget:
    """Spends expected false alerts over all streams of a deployment (e-d-Bonferroni).

    Parameters
    ----------
    alerts_per_week
        Expected false alerts per week that the whole deployment may raise.
    ticks_per_week
        Ticks of one stream in a week: 60,480 of 10 s, 10,080 of a minute, 168 of an hour.

    Examples
    --------
    1,200 streams, a tick a minute, seven false alerts a week:

    >>> budget = FalseAlarmBudget(alerts_per_week=7, ticks_per_week=10_080)
    >>> budget.threshold(1_200)
    1728000.0
    >>> budget.threshold(100)  # streams left: what was collected stays priced as it was
    1728000.0
    """

    def __init__(self, alerts_per_week: float, ticks_per_week: float) -> None:
        if not (alerts_per_week > 0 and ticks_per_week > 0):
            raise ValueError("alerts_per_week and ticks_per_week must be positive")
        self.alerts_per_week = alerts_per_week
        self.ticks_per_week = ticks_per_week
        self._streams = 0

    def threshold(self, n_streams: int) -> float:
        """E-value at which a stream may be announced: the ``arl`` of its detector."""
        self._streams = max(self._streams, n_streams)
        return self._streams * self.ticks_per_week / self.alerts_per_week


def select_with_fdr(e_values: ArrayLike, patience: float, alpha: float = 0.1) -> Bools:
    """Streams to show as changed, with the false share controlled (e-d-BH).

    Parameters
    ----------
    e_values
        Current e-SR evidence of every stream, shape (n_streams,); not running maxima.
    patience
        Ticks over which the error is counted: within so many ticks, at any stopping time, the
        expected share of unchanged streams among those shown is at most ``alpha``.
    alpha
        That share.

    Returns
    -------
    ndarray of bool, shape (n_streams,)

    Examples
    --------
    >>> select_with_fdr([5e5, 3e5, 10.0, 1.0], patience=10_000).tolist()
    [True, True, False, False]
    """
    values = np.asarray(e_values, np.float64) / patience
    if not values.size:
        return np.zeros(0, np.bool_)
    order = np.sort(values)[::-1]
    needed = values.size / (alpha * np.arange(1, values.size + 1))
    passing = np.flatnonzero(order >= needed)
    limit = order[passing[-1]] if passing.size else math.inf
    shown: Bools = values >= limit
    return shown
