"""Baselines that follow the clock: log odds per hour of the week, shrunk where data is thin.

A failure rate that is higher every Monday morning is not a change. The baseline is a tree: the mean
of the stream, the hour of the day below it, the hour of the week below that. Every node is shrunk
to its parent as far as the scatter between its siblings is explained by chance (empirical Bayes for
proportions, by the method of moments). How far the shrunk expectation is off is measured on weeks
that did not take part in it, and enters as dispersion, so that a baseline learnt from little data
makes a quieter detector and not a false alarm.

References
----------
B. Efron, C. Morris: Data analysis using Stein's estimator and its generalizations. JASA 70 (1975).
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from detectors.base import Floats
from detectors.change.reference import scatter

HOURS: Final = 168


class HourOfWeek:
    """Seasonal offsets of many streams, for `RateDetector.update`.

    Parameters
    ----------
    floor
        Smallest dispersion: 1 for 0/1 values, 1/3 for ranks.

    Attributes
    ----------
    offsets_ : ndarray of shape (n_streams, 168)
        Expected log odds of an hour of the week, minus the reference's.
    total_, n_ : ndarray of shape (n_streams,)
        The reference: sum of the values with the season taken out, and their number.
    dispersion_ : ndarray of shape (n_streams,)
        Scatter of left-out weeks around the baseline learnt without them.

    Examples
    --------
    >>> hours = np.arange(4 * 168) % 168
    >>> rates = np.where(hours % 24 == 9, 0.4, 0.1)  # bad mornings
    >>> season = HourOfWeek().fit(200 * rates[:, None], np.full((672, 1), 200.0), hours)
    >>> (special.expit(special.logit(0.1) + season.offsets_[0, [8, 9]])).round(1).tolist()
    [0.1, 0.4]
    """

    def __init__(self, floor: float = 1.0) -> None:
        self.floor = floor

    def fit(self, total: ArrayLike, n: ArrayLike, hour: ArrayLike) -> Self:
        """Learn from whole weeks of ticks, at least two.

        Parameters
        ----------
        total, n
            Sum and number of values per tick, shape (n_ticks, n_streams).
        hour
            Hour of the week of each tick, 0 ... 167, shape (n_ticks,), ticks in order of time.

        Raises
        ------
        ValueError
            With less than two weeks, or shapes that do not fit.
        """
        sums, counts = np.asarray(total, np.float64), np.asarray(n, np.float64)
        hours = np.asarray(hour, np.int64)
        if sums.shape != counts.shape or sums.ndim != 2 or hours.shape != sums.shape[:1]:
            raise ValueError("total and n must be (n_ticks, n_streams), hour (n_ticks,)")
        week = np.cumsum(np.concatenate([[0], np.diff(hours) < 0]))
        weeks = [week == w for w in np.unique(week)]
        weeks = [rows for rows in weeks if np.unique(hours[rows]).size >= HOURS // 2]
        if len(weeks) < 2:
            raise ValueError("a baseline per hour of the week needs two weeks at least")
        means = _shrunk(sums, counts, hours)
        self.offsets_, self.total_, self.n_ = _centred(means, sums, counts, hours)
        left_out = np.zeros(sums.shape)
        for rows in weeks:
            rest = ~rows
            others = _shrunk(sums[rest], counts[rest], hours[rest])
            left_out[rows] = others[:, hours[rows]].T
        taken = np.logical_or.reduce(weeks)
        self.dispersion_ = scatter(sums[taken], counts[taken], left_out[taken], self.floor)
        return self


def _shrunk(sums: Floats, counts: Floats, hours: np.ndarray) -> Floats:
    """Expected mean per stream and hour of the week, shape (n_streams, 168)."""
    cells = np.zeros((2, HOURS, sums.shape[1]))
    np.add.at(cells[0], hours, sums)
    np.add.at(cells[1], hours, counts)
    s, n = cells[0].T, cells[1].T  # (n_streams, 168)
    mean = (s.sum(axis=1) + 0.5) / (n.sum(axis=1) + 1)
    by_day = s.reshape(-1, 7, 24).sum(axis=1), n.reshape(-1, 7, 24).sum(axis=1)
    daily = _towards(mean[:, None], *by_day)  # (n_streams, 24)
    return _towards(np.tile(daily, 7), s, n)


def _towards(parent: Floats, s: Floats, n: Floats) -> Floats:
    """Posterior mean of each node given its parent, the prior's strength by moments per stream."""
    rate = np.where(n > 0, s / np.maximum(n, 1), parent)
    chance = parent * (1 - parent)
    weight = n.sum(axis=1, keepdims=True)
    # E[sum n (rate - parent)^2] = k * chance + tau^2 * sum n for k nodes with data
    away = (n * (rate - parent) ** 2).sum(axis=1, keepdims=True)
    by_chance = np.where(n > 0, chance, 0).sum(axis=1, keepdims=True)
    spread = np.maximum((away - by_chance) / np.maximum(weight, 1), 0)
    strength = np.clip(chance / np.maximum(spread, 1e-12), 1.0, 1e6)
    posterior: Floats = (s + strength * parent) / (n + strength)
    return posterior


def _centred(
    means: Floats, sums: Floats, counts: Floats, hours: np.ndarray
) -> tuple[Floats, Floats, Floats]:
    """Offsets against the stream's own level, and the reference with the season taken out."""
    expected = means[:, hours].T
    n = counts.sum(axis=0)
    overall = (counts * expected).sum(axis=0) / np.maximum(n, 1)
    offsets = special.logit(means) - special.logit(overall)[:, None]
    surplus = (sums - counts * expected).sum(axis=0)
    total = np.clip(n * overall + surplus, 0, n)
    return offsets, total, n
