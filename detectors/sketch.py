"""Mergeable log-histogram of positive numbers: any quantile to 1 % relative error.

A value ``v`` falls into bin ``ceil(log(v) / log(GAMMA))``, which covers
``(GAMMA**(i-1), GAMMA**i]``; every value of a bin is within `RELATIVE_ERROR` of its representative
``2 * GAMMA**i / (GAMMA + 1)``. Bins do not depend on the data, so sketches of parts merge to
exactly the sketch of the whole, in any order. A sketch is two arrays, ``bins`` (int16) and
``counts``, which is also how the store keeps it.

References
----------
C. Masson, J. E. Rim, H. K. Lee: DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees. PVLDB 12 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

RELATIVE_ERROR: Final = 0.01
GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
ZERO_BIN: Final = -32768
"""Bin of exactly 0, which has no logarithm."""

LAST_BIN: Final = 32767

_LOG_GAMMA: Final = math.log(GAMMA)

Sketch: TypeAlias = tuple[NDArray[np.int16], NDArray[np.int64]]
"""``(bins, counts)``: bins ascending and distinct, counts positive."""


def bin_index(values: ArrayLike) -> NDArray[np.int16]:
    """Bin of each value.

    Parameters
    ----------
    values
        Non-negative numbers of any shape, in any unit (latencies: milliseconds).

    Returns
    -------
    ndarray of int16
        Same shape; `ZERO_BIN` for 0. Values outside of about 1e-285 ... 1e285 fall into the
        outermost bin, where the error bound does not hold.

    Raises
    ------
    ValueError
        If a value is negative or NaN: leave out what is not known before calling.

    Examples
    --------
    >>> bin_index([0.0, 1.0, 1000.0]).tolist()
    [-32768, 0, 346]
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size and not array.min() >= 0:  # written so that NaN fails too
        raise ValueError("values must be non-negative numbers; drop missing ones first")
    with np.errstate(divide="ignore"):
        index = np.log(array)
    index /= _LOG_GAMMA
    np.ceil(index, out=index)
    # log(0) is -inf, which only a true zero produces: it clips to the sentinel, and the smallest
    # positive double has bin -37226, which must not.
    tiny = index < ZERO_BIN + 1
    np.clip(index, ZERO_BIN + 1, LAST_BIN, out=index)
    bins = index.astype(np.int16)
    if tiny.any():
        bins = np.where(array == 0, np.int16(ZERO_BIN), bins)
    return bins


def bin_value(bins: ArrayLike) -> NDArray[np.float64]:
    """Return the representative value of each bin, within `RELATIVE_ERROR` of every value in it.

    Parameters
    ----------
    bins
        Bin indices of any shape.

    Returns
    -------
    ndarray of float64
        Same shape, in the unit of the values.

    Examples
    --------
    >>> bin_value([-32768, 0, 346]).round(3).tolist()
    [0.0, 0.99, 1002.428]
    """
    index = np.asarray(bins, dtype=np.float64)
    return np.where(index == ZERO_BIN, 0.0, np.exp(index * _LOG_GAMMA) * (2 / (GAMMA + 1)))


def histogram(values: ArrayLike) -> Sketch:
    """Sketch of a sample.

    Parameters
    ----------
    values
        Non-negative numbers, shape (n,); n may be 0.

    Returns
    -------
    Sketch
        Distinct bins in ascending order and how many values fell into each.

    Raises
    ------
    ValueError
        If a value is negative or NaN.
    """
    bins, counts = np.unique(bin_index(values), return_counts=True)
    return bins, counts.astype(np.int64)


def merge(sketches: Iterable[tuple[ArrayLike, ArrayLike]]) -> Sketch:
    """Sketch of the union of samples, exactly as if it had been built from all values at once.

    Parameters
    ----------
    sketches
        Pairs ``(bins, counts)``; bins may be unsorted or repeat.

    Returns
    -------
    Sketch
        Bins ascending and distinct, without empty ones.

    Examples
    --------
    >>> bins, counts = merge([([3, 1], [2, 1]), ([1], [4])])
    >>> bins.tolist(), counts.tolist()
    ([1, 3], [5, 2])
    """
    parts = [(np.asarray(b, dtype=np.int16), np.asarray(c, dtype=np.int64)) for b, c in sketches]
    if not parts:
        return np.empty(0, np.int16), np.empty(0, np.int64)
    bins, inverse = np.unique(np.concatenate([b for b, _ in parts]), return_inverse=True)
    counts = np.zeros(bins.size, np.int64)
    np.add.at(counts, inverse, np.concatenate([c for _, c in parts]))
    return bins[counts > 0], counts[counts > 0]


def quantile(bins: ArrayLike, counts: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Quantiles by the ``lower`` definition, within 1 % of those of the values themselves.

    Parameters
    ----------
    bins, counts
        A sketch; bins may be unsorted or repeat.
    q
        Probabilities in [0, 1], any shape.

    Returns
    -------
    ndarray of float64
        Shape of ``q``; NaN for an empty sketch.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1].

    Examples
    --------
    >>> float(quantile(*histogram([10.0, 20.0, 30.0, 40.0]), 0.5).round(2))
    19.89
    """
    index, cumulative = _ordered(bins, counts)
    probability = np.asarray(q, dtype=np.float64)
    if ((probability < 0) | (probability > 1)).any():
        raise ValueError("q must lie in [0, 1]")
    if not cumulative.size:
        return np.full(probability.shape, np.nan)
    rank = np.floor(probability * (cumulative[-1] - 1))
    return bin_value(index[np.searchsorted(cumulative, rank, side="right")])


def _ordered(bins: ArrayLike, counts: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bins in ascending order and the running total of their counts; empty bins left out."""
    index = np.asarray(bins, dtype=np.int64)
    count = np.asarray(counts, dtype=np.int64)
    order = np.argsort(index, kind="stable")
    order = order[count[order] > 0]
    return index[order], np.cumsum(count[order])
