"""Is the new version better? Verdicts that stay valid however often one looks.

Every bound here is a *confidence sequence*: with probability 95 % it covers the truth at all times
at once, so one may look after every interaction and stop when the answer is clear. A fixed-sample
test read the same way declares a difference between equal versions in a third of the cases and
more.

References
----------
I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas: Time-uniform central limit theory and
asymptotic confidence sequences. arXiv:2103.06476.
S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon: Time-uniform, nonparametric, nonasymptotic confidence
sequences. Ann. Statist. 49 (2021).
S. Howard, A. Ramdas: Sequential estimation of quantiles. Bernoulli 28 (2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from detectors import sketch
from detectors.base import Floats

Answer = Literal["better", "worse", "equivalent", "not enough data"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said about a new version.

    Attributes
    ----------
    answer
        "better", "worse", "equivalent" (the difference is within the margin either way) or "not
        enough data".
    difference, low, high
        New minus old, in the unit of the metric, with its confidence sequence at this moment.
    n_old, n_new
        Values so far.
    still_needed
        Values per version after which the interval would probably decide, if the difference stays
        what it looks like; 0 when decided, None when it cannot be told.
    """

    answer: Answer
    difference: float
    low: float
    high: float
    n_old: int
    n_new: int
    still_needed: int | None


def radius(variance: ArrayLike, alpha: float = 0.05, tuned_for: float = 500.0) -> Floats:
    """Half-width, in the same unit, of a confidence sequence for a sum of given variance so far.

    The boundary of the Gaussian mixture: ``sqrt((v + rho) log((v + rho) / (rho alpha^2)))``. For
    sums of sub-Gaussian values it holds at every n; with an estimated variance asymptotically.

    Parameters
    ----------
    variance
        Variance of the sum, in units of one value's variance: n for n independent values.
    alpha
        Error over all time, both sides.
    tuned_for
        Where the boundary is tightest, in the unit of ``variance``.
    """
    v = np.asarray(variance, np.float64)
    # rho as the minimiser of the boundary at v = tuned_for (Howard et al. 2021, proposition 3)
    branch = -special.lambertw(-(alpha**2) / math.e, k=-1).real - 1
    rho = tuned_for / branch
    width: Floats = np.sqrt((v + rho) * np.log((v + rho) / (rho * alpha**2)))
    return width


def compare_means(
    old: tuple[ArrayLike, ArrayLike, ArrayLike],
    new: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    margin: float,
    higher_is_better: bool = True,
    alpha: float = 0.05,
    tuned_for: float = 500.0,
) -> Verdict:
    """Compare two versions by a mean: success, satisfaction, cost.

    With several strata (input topics) the difference is the average of the strata's differences,
    weighted by how often a topic occurs in both versions together. A version that merely got the
    easier topics is not better (Simpson's paradox).

    Parameters
    ----------
    old, new
        Number of values, their sum and their sum of squares, each a number or of shape (n_strata,).
    margin
        Largest difference, in the unit of the metric, that does not matter.
    higher_is_better
        False for cost.
    alpha
        Probability that the verdict is ever wrong about which is better.
    tuned_for
        Values per version at which the interval should be tightest.

    Returns
    -------
    Verdict

    Notes
    -----
    Strata without values in both versions are left out. The variance of every stratum is estimated,
    and one imaginary success and failure keep it from being 0, so coverage is asymptotic: measured
    in the tests and in ``driftline bench detectors``.

    Examples
    --------
    >>> compare_means((4000, 2800, 2800), (4000, 3400, 3400), margin=0.02).answer
    'better'
    >>> compare_means((40, 28, 28), (40, 34, 34), margin=0.02).answer
    'not enough data'
    """
    parts = [np.atleast_1d(np.asarray(x, np.float64)) for x in (*old, *new)]
    totals = int(parts[0].sum()), int(parts[3].sum())
    if not ((parts[0] > 0) & (parts[3] > 0)).any():
        return _undecided(*totals)
    at, variance, count = (float(x) for x in _contrast(*parts))
    half = math.sqrt(variance) * float(radius(count, alpha, tuned_for)) / count
    needed = _still_needed(at, variance, count, margin, alpha, tuned_for)
    return _verdict(at, half, half, totals, margin, higher_is_better, needed)


def difference_sequence(
    old: tuple[ArrayLike, ArrayLike, ArrayLike],
    new: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    alpha: float = 0.05,
    tuned_for: float = 500.0,
) -> tuple[Floats, Floats]:
    """Difference of means and half-width of its confidence sequence, for many moments at once.

    Parameters
    ----------
    old, new
        Number, sum and sum of squares, each of shape (..., n_strata).

    Returns
    -------
    difference, half_width : ndarray of shape (...)
        NaN and inf where no stratum has values in both.
    """
    parts = [np.asarray(x, np.float64) for x in (*old, *new)]
    at, variance, count = _contrast(*parts)
    known = count > 0
    half = np.sqrt(variance) * radius(count, alpha, tuned_for) / np.where(known, count, 1)
    return np.where(known, at, np.nan), np.where(known, half, np.inf)


def compare_paired(
    differences: ArrayLike,
    *,
    margin: float,
    higher_is_better: bool = True,
    alpha: float = 0.05,
    tuned_for: float = 100.0,
) -> Verdict:
    """Compare two versions on the same tasks: new minus old per task, shape (n_tasks,)."""
    d = np.asarray(differences, np.float64)
    n = d.size
    if n == 0:
        return _undecided(0, 0)
    variance = float((((d - d.mean()) ** 2).sum() + 1.0) / n)  # one task's worth of doubt
    half = math.sqrt(variance) * float(radius(n, alpha, tuned_for)) / n
    needed = _still_needed(float(d.mean()), variance, n, margin, alpha, tuned_for)
    return _verdict(float(d.mean()), half, half, (n, n), margin, higher_is_better, needed)


def compare_quantile(
    old: tuple[ArrayLike, ArrayLike],
    new: tuple[ArrayLike, ArrayLike],
    q: float,
    *,
    margin: float,
    higher_is_better: bool = False,
    alpha: float = 0.05,
    tuned_for: float = 500.0,
) -> Verdict:
    """Compare two versions by a quantile of a metric: p95 latency.

    Parameters
    ----------
    old, new
        Sketches ``(bins, counts)`` of the values.
    q
        Probability in (0, 1).
    margin
        In the unit of the metric.

    Notes
    -----
    Per version the share of values below the true quantile is in a confidence sequence around q;
    the values at its ends bound the quantile. Nonasymptotic up to the sub-Gaussian variance of a
    0/1 value, and widened by the sketch's 1 %.
    """
    bounds, counts, points = [], [], []
    for bins, count in (old, new):
        n = int(np.sum(count))
        points.append(float(sketch.quantile(bins, count, q)))
        counts.append(n)
        if n == 0:
            bounds.append((0.0, math.inf))
            continue
        sigma = min(0.5, math.sqrt(q * (1 - q)) * 1.1)
        half = sigma * float(radius(n, alpha / 2, tuned_for)) / n
        low = sketch.quantile(bins, count, max(q - half, 0.0)) if q > half else 0.0
        high = sketch.quantile(bins, count, q + half) if q + half < 1 else math.inf
        bounds.append((float(low) / sketch.GAMMA, float(high) * sketch.GAMMA))
    difference = points[1] - points[0]
    low = bounds[1][0] - bounds[0][1]
    high = bounds[1][1] - bounds[0][0]
    return _verdict(
        difference,
        difference - low,
        high - difference,
        (counts[0], counts[1]),
        margin,
        higher_is_better,
        None,
    )


def fixed_sample_size(p: float, effect: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Values per version that a test with one look would need, for comparison."""
    z = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    q = p + effect
    return math.ceil(z**2 * (p * (1 - p) + q * (1 - q)) / effect**2)


def _contrast(
    n0: Floats, s0: Floats, q0: Floats, n1: Floats, s1: Floats, q1: Floats
) -> tuple[Floats, Floats, Floats]:
    """Difference over the strata, its variance times the smaller count, and that count."""
    both = (n0 > 0) & (n1 > 0)
    n0, n1 = np.where(both, n0, 0.0), np.where(both, n1, 0.0)
    m0, m1 = np.where(both, n0, 1.0), np.where(both, n1, 1.0)
    everything = (n0 + n1).sum(axis=-1, keepdims=True)
    weight = (n0 + n1) / np.where(everything > 0, everything, 1.0)
    difference = (weight * (s1 / m1 - s0 / m0)).sum(axis=-1)
    parts = _spread(m0, s0, q0) / m0 + _spread(m1, s1, q1) / m1
    count = np.minimum(n0.sum(axis=-1), n1.sum(axis=-1))
    variance = (weight**2 * parts).sum(axis=-1) * count
    return difference, variance, count


def _spread(n: Floats, s: Floats, q: Floats) -> Floats:
    """Variance of one value per stratum; a doubtful extra value at each end keeps it above 0."""
    mean = s / n
    within = np.maximum(q / n - mean**2, 0)
    scale = np.maximum(q / n, np.finfo(float).tiny)  # mean square: the metric's own unit
    spread: Floats = (n * within + scale / 2) / n
    return spread


def _still_needed(
    difference: float, variance: float, n: float, margin: float, alpha: float, tuned_for: float
) -> int | None:
    """Additional values per version until the half-width would decide; None beyond a million."""

    def half(count: float) -> float:
        return math.sqrt(variance) * float(radius(count, alpha, tuned_for)) / count

    goal = max(abs(difference), margin - abs(difference))
    if goal <= 0:
        return None
    low, high = float(n), float(n)
    if half(n) < goal:
        return 0
    while half(high) >= goal:
        high *= 2
        if high > 1e7:
            return None
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (middle, high) if half(middle) >= goal else (low, middle)
    return math.ceil(high - n)


def _undecided(n_old: int, n_new: int) -> Verdict:
    return Verdict("not enough data", math.nan, -math.inf, math.inf, n_old, n_new, None)


def _verdict(
    difference: float,
    below: float,
    above: float,
    counts: tuple[int, int],
    margin: float,
    higher_is_better: bool,
    needed: int | None,
) -> Verdict:
    low, high = difference - below, difference + above
    answer: Answer = "not enough data"
    if low > 0 or high < 0:
        answer = "better" if (low > 0) == higher_is_better else "worse"
    if -margin <= low and high <= margin:
        answer = "equivalent"
    decided = answer != "not enough data"
    return Verdict(answer, difference, low, high, *counts, 0 if decided else needed)
