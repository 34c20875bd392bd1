"""Is a change over? The bet of a stream in alarm that its mean is back near the baseline."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import special

from detectors.base import Floats, Ints, Streams
from detectors.change.reference import TINY

_CEILING = 1e200
_MAX_STEP = 200.0


class Recovery(Streams):
    """Evidence that a mean is nearer to the baseline again than to the change (in log odds).

    Two things make a hysteresis: the null hypothesis is the midpoint, and the evidence must reach
    ``threshold`` as an e-SR statistic. What may be the recovery is kept apart from the change until
    the bet has lost, so that the changed mean, and with it the midpoint, does not follow it.

    Parameters
    ----------
    n_streams
        How many streams.
    threshold
        Evidence that ends a change.
    """

    _params: ClassVar = ("threshold",)
    _never: ClassVar = ("start",)
    _state: ClassVar = {
        "total": ("", np.float64),  # since the change began, without what may be the recovery
        "n": ("", np.float64),
        "expected": ("", np.float64),  # sum that the baseline gave reason to expect
        "start": ("", np.int64),
        "_evidence": ("", np.float64),
        "path": ("", np.float64),
        "_pending_total": ("", np.float64),
        "_pending_n": ("", np.float64),
        "_pending_expected": ("", np.float64),
    }
    total: Floats
    n: Floats
    expected: Floats
    start: Ints
    _evidence: Floats
    path: Floats
    _pending_total: Floats
    _pending_n: Floats
    _pending_expected: Floats

    def __init__(self, n_streams: int = 0, *, threshold: float = 1_000.0) -> None:
        self.threshold = threshold
        self._begin(n_streams)

    def open(self, who: Ints, total: Floats, n: Floats, expected: Floats) -> None:
        """Begin for the streams ``who``, with what is known of the change, each of shape (k,)."""
        self.clear(who)
        self.total[who] = total
        self.n[who] = n
        self.expected[who] = expected

    def update(
        self,
        who: Ints,
        tick: Ints,
        total: Floats,
        n: Floats,
        base: Floats,
        dispersion: Floats,
        offset: Floats | float,
    ) -> Ints:
        """Take one tick of the streams ``who`` and return those of them that have recovered.

        Parameters
        ----------
        who
            Indices, shape (k,); all other arrays have the same shape.
        tick, total, n, dispersion, offset
            Of this tick.
        base
            Log odds of the baseline.
        """
        fresh = who[self.path[who] <= 0]
        self.total[fresh] += self._pending_total[fresh]
        self.n[fresh] += self._pending_n[fresh]
        self.expected[fresh] += self._pending_expected[fresh]
        self.clear(fresh, ("path", "_pending_total", "_pending_n", "_pending_expected"))
        self.start[fresh] = tick[self.path[who] <= 0]
        # Alarms ring when things look worse than they are: believe the near end of the interval.
        size = self.n[who] + 1
        mean = (self.total[who] + 0.5) / size
        error = np.sqrt(dispersion / (size * mean * (1 - mean)))
        # Beside what was expected at those ticks, whose offsets need not be that of this one.
        usual = np.where(self.n[who] > 0, self.expected[who] / np.maximum(self.n[who], 1e-9), 0.5)
        usual = np.where(self.n[who] > 0, special.logit(usual.clip(TINY, 1 - TINY)), base)
        shift = special.logit(mean) - usual
        shift = np.sign(shift) * np.maximum(np.abs(shift) / 2, np.abs(shift) - 2 * error)
        odds = -shift / 2
        null = special.expit(base + shift / 2 + offset)
        step = (total * odds - n * np.log1p(null * np.expm1(odds))) / dispersion
        step = np.clip(step, -_MAX_STEP, _MAX_STEP)
        self.path[who] += step
        self._pending_total[who] += total
        self._pending_n[who] += n
        self._pending_expected[who] += n * special.expit(base + offset)
        self._evidence[who] = np.minimum((self._evidence[who] + 1) * np.exp(step), _CEILING)
        return who[self._evidence[who] >= self.threshold]
