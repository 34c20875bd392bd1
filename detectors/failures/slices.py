"""What carries a change: which version, tool, model or topic, and what failures have in common.

References
----------
L. Wasserman, A. Ramdas, S. Balakrishnan: Universal inference. PNAS 117 (2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from detectors.base import Floats, ratio


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice before and since a change.

    Attributes
    ----------
    name
        As given.
    e_value
        Evidence that its own rate changed.
    before, after
        Its rates; NaN without events.
    carried
        Share of the additional failures that this slice accounts for.
    """

    name: str
    e_value: float
    before: float
    after: float
    carried: float


def rank_slices(
    names: Sequence[str],
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
) -> list[Slice]:
    """Slices by their own evidence for a change, strongest first.

    Parameters
    ----------
    names
        One per slice.
    before, after
        Failures and events of every slice before and since the change, each of shape (n_slices,).

    Returns
    -------
    list of Slice

    Notes
    -----
    The e-value is universal inference: the likelihood of two rates, averaged over Jeffreys' prior,
    over the largest likelihood of one common rate. Its expectation is at most 1 without a change,
    for every sample size; the slices' mean is evidence that any of them changed.

    Examples
    --------
    >>> found = rank_slices(["v1", "v2"], ([50, 50], [500, 500]), ([20, 60], [200, 200]))
    >>> [(s.name, round(s.carried, 2)) for s in found]
    [('v2', 1.0), ('v1', 0.0)]
    """
    (k0, n0), (k1, n1) = (
        (np.asarray(k, np.float64), np.asarray(n, np.float64)) for k, n in (before, after)
    )
    apart = _marginal(k0, n0) + _marginal(k1, n1)
    k, n = k0 + k1, n0 + n1
    together = special.xlogy(k, k) + special.xlogy(n - k, n - k) - special.xlogy(n, n)
    evidence = np.exp(np.minimum(apart - together, 600))
    rate0, rate1 = ratio(k0, n0), ratio(k1, n1)
    surplus = np.nan_to_num(n1 * (rate1 - rate0))
    whole = surplus.sum()
    carried = surplus / whole if whole != 0 else np.zeros(len(names))
    order = sorted(range(len(names)), key=lambda i: (-evidence[i], names[i]))
    return [
        Slice(names[i], float(evidence[i]), float(rate0[i]), float(rate1[i]), float(carried[i]))
        for i in order
    ]


@dataclass(frozen=True, slots=True)
class Lift:
    """How much more frequent an attribute is inside a group than outside, with its interval."""

    attribute: str
    lift: float
    low: float
    high: float
    inside: int


def over_represented(
    inside: Mapping[str, int],
    n_inside: int,
    outside: Mapping[str, int],
    n_outside: int,
    confidence: float = 0.95,
) -> list[Lift]:
    """Attributes whose share inside a group is higher than outside, surest first.

    Parameters
    ----------
    inside, outside
        Attribute -> how many members have it.
    n_inside, n_outside
        Members.
    confidence
        Joint over all attributes (Bonferroni), so that looking at many does not create findings.

    Returns
    -------
    list of Lift
        Those whose interval lies above 1. Intervals are Katz' on the log ratio with half a count
        added.

    Examples
    --------
    >>> over_represented({"eu": 45, "web": 50}, 50, {"eu": 300, "web": 950}, 1000)[0].attribute
    'eu'
    """
    names = sorted(inside)
    z = stats.norm.isf((1 - confidence) / (2 * max(len(names), 1)))
    found = []
    for name in names:
        a, b = inside[name] + 0.5, outside.get(name, 0) + 0.5
        lift = (a / (n_inside + 0.5)) / (b / (n_outside + 0.5))
        spread = max(1 / a - 1 / (n_inside + 0.5) + 1 / b - 1 / (n_outside + 0.5), 0.0)
        reach = float(np.exp(z * np.sqrt(spread)))
        if lift / reach > 1:
            found.append(Lift(name, lift, lift / reach, lift * reach, inside[name]))
    return sorted(found, key=lambda item: (-item.low, item.attribute))


def _marginal(k: Floats, n: Floats) -> Floats:
    """Log likelihood of k of n under Jeffreys' prior."""
    value: Floats = special.betaln(k + 0.5, n - k + 0.5) - special.betaln(0.5, 0.5)
    return value
