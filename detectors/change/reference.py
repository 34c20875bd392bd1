"""What "normal" is: the reference of each stream, its uncertainty and its dispersion."""

from __future__ import annotations

from typing import ClassVar, Final, Self

import numpy as np
from scipy import special

from detectors.base import Bools, Floats, Ints, Streams, ratio

LEVELS: Final = (0.3, 0.8, 1.3, 1.9, 2.6, 3.5, 5.0)
"""Standard-normal levels of the confidence limits of the mean that are tried as null hypotheses."""

BLOCKS: Final = (1, 2, 4, 8, 16)
"""Block lengths, in ticks, over which the dispersion is measured."""

MIN_BLOCKS: Final = 20
"""Fewer blocks say too little about a variance."""

TINY: Final = 1e-9

# R(z) = exp(z_+^2 / 2.5) / C, with C = E exp(Z_+^2 / 2.5) = 1/2 + sqrt(5)/2 for a standard normal
# Z, is an e-value of the reference against the mean at its confidence limit of level z. A mean
# between two levels is judged by the evidence at the upper one, which is smaller, and by R at the
# lower one, smaller too: so the minimum over the levels is below the product at any mean.
TESTIMONY: Final = np.exp(np.square(np.array((0.0, *LEVELS[:-1]))) / 2.5) / (0.5 + np.sqrt(5) / 2)


class Reference(Streams):
    """Sum and number of the values of a warm-up, per stream, and how much the sums scatter.

    Parameters
    ----------
    n_streams
        How many streams.
    dispersion
        Long-run variance per value over ``m (1 - m)``; None measures it over blocks of ticks.
    floor
        Smallest dispersion a measurement may give.
    """

    _params: ClassVar = ("dispersion", "floor")
    _state: ClassVar = {
        "total": ("", np.float64),
        "n": ("", np.float64),
        "_ticks": ("", np.int64),
        "_block_total": ("K", np.float64),
        "_block_n": ("K", np.float64),
        "_blocks": ("K", np.float64),
        "_squares": ("K", np.float64),
    }
    total: Floats
    n: Floats
    _ticks: Ints
    _block_total: Floats
    _block_n: Floats
    _blocks: Floats
    _squares: Floats

    def __init__(
        self, n_streams: int = 0, *, dispersion: float | None = None, floor: float = 1.0
    ) -> None:
        self.dispersion = dispersion
        self.floor = floor
        self._begin(n_streams)

    def _axes(self) -> dict[str, int]:
        return {"K": len(BLOCKS)}

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Names of the arrays that make a reference, each with the streams as first axis."""
        return tuple(cls._state)

    @property
    def mean(self) -> Floats:
        """Mean of the reference, shape (n_streams,); NaN before the first value."""
        return ratio(self.total, self.n)

    def add(self, rows: Bools, total: Floats, n: Floats) -> Self:
        """Take one tick of the streams in the mask ``rows``; arrays of shape (n_streams,)."""
        self.total[rows] += total[rows]
        self.n[rows] += n[rows]
        self._ticks[rows] += 1
        self._block_total[rows] += total[rows, None]
        self._block_n[rows] += n[rows, None]
        full = rows[:, None] & (self._ticks[:, None] % np.array(BLOCKS) == 0)
        self._squares[full] += self._block_total[full] ** 2 / self._block_n[full]
        self._blocks[full] += 1
        self._block_total[full] = 0
        self._block_n[full] = 0
        return self

    @property
    def ticks(self) -> Ints:
        """Ticks with values in the reference, shape (n_streams,); 0 for one that was given."""
        return self._ticks

    def join(self, rows: Bools, other: Reference) -> Self:
        """Add what ``other`` has taken in the streams of the mask ``rows``."""
        for name in self._state:
            getattr(self, name)[rows] += getattr(other, name)[rows]
        self.total[rows] = np.clip(self.total, 0, self.n)[rows]
        for name in ("_block_total", "_block_n"):  # of both the last block is not full
            getattr(self, name)[rows] = getattr(other, name)[rows]
        return self

    def measured_dispersion(self) -> Floats:
        """Largest dispersion over all block lengths with enough blocks, shape (n_streams,).

        Blocks of one tick show overdispersion within a tick, longer ones autocorrelation between
        ticks. The largest is taken, which errs on the quiet side. The floor where no block length
        has `MIN_BLOCKS` blocks; the given dispersion where one was given.
        """
        if self.dispersion is not None:
            return np.full(self.n_streams, float(self.dispersion))
        n = np.maximum(self.n, 1)
        mean = (self.total + 0.5) / (n + 1)
        squares = self._squares - (self.total**2 / n)[:, None]
        freedom = np.maximum(self._blocks - 1, 1)
        found = squares / freedom / (mean * (1 - mean))[:, None]
        enough = self._blocks >= MIN_BLOCKS
        largest: Floats = np.maximum(self.floor, np.where(enough, found, 0).max(axis=1))
        return largest

    def limits(self, sign: int, dispersion: Floats) -> Floats:
        """Confidence limits of the mean at every one of `LEVELS`.

        Clopper-Pearson limits of ``n / dispersion`` values, which are exact for independent 0/1
        values and dispersion 1.

        Parameters
        ----------
        sign
            +1 for upper limits, -1 for lower ones.
        dispersion
            Shape (n_streams,).

        Returns
        -------
        ndarray of shape (n_streams, len(LEVELS))
        """
        hits = (self.total / dispersion)[:, None]
        misses = ((self.n - self.total) / dispersion)[:, None]
        upper = special.ndtr(np.array(LEVELS))
        limit: Floats
        if sign > 0:
            limit = special.betaincinv(hits + 1, np.maximum(misses, TINY), upper)
        else:
            limit = special.betaincinv(np.maximum(hits, TINY), misses + 1, 1 - upper)
        return limit


def interval(hits: Floats, n: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Clopper-Pearson interval of a share: ``hits`` of ``n``, same shape, fractions allowed.

    Returns
    -------
    low, high : ndarray of the same shape
        0 and 1 where n is 0.
    """
    tail = (1 - confidence) / 2
    found, misses = np.maximum(hits, TINY), np.maximum(n - hits, TINY)
    low = np.where(hits > 0, special.betaincinv(found, misses + 1, tail), 0.0)
    high = np.where(n > hits, special.betaincinv(found + 1, misses, 1 - tail), 1.0)
    return low, high


def scatter(sums: Floats, counts: Floats, expected: Floats, floor: float) -> Floats:
    """Dispersion of the values of many ticks around expected means, by the recipe of `Reference`.

    Parameters
    ----------
    sums, counts, expected
        Sum, number and expected mean of the values, shape (n_ticks, n_streams), in order of time.
    floor
        Smallest dispersion.

    Returns
    -------
    ndarray of shape (n_streams,)
    """
    found = Reference(sums.shape[1], floor=floor)
    deviation = np.sqrt(np.maximum(expected * (1 - expected), TINY))
    for tick in range(sums.shape[0]):
        # as a value of mean 1/2 and variance 1/4 whose deviation is the standardised one
        away = sums[tick] - counts[tick] * expected[tick]
        found.add(counts[tick] > 0, counts[tick] / 2 + away / (2 * deviation[tick]), counts[tick])
    return found.measured_dispersion()
