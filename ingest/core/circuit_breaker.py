"""The limit on bad lines: park a partition, rather than dead-letter everything. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

WINDOW_LINES: Final = 1_000
MAX_BAD_LINES: Final = 200


class BadLines:
    """How many of the last 1,000 lines of one partition were no events."""

    def __init__(self) -> None:
        self._recent = np.zeros(0, dtype=np.int64)

    def update(self, bad: npt.NDArray[np.bool_]) -> BadLines:
        """Take further lines, in their order on the partition; ``bad`` has shape (n_lines,)."""
        flags = np.concatenate([self._recent, bad.astype(np.int64)])
        self.worst = _worst_window(flags)
        self._recent = flags[-WINDOW_LINES:]
        return self

    worst: int = 0
    """Most bad lines in any full window that the last update touched."""

    @property
    def exceeded(self) -> bool:
        """Whether more than a fifth of some 1,000 lines in a row were bad."""
        return self.worst > MAX_BAD_LINES


def _worst_window(flags: npt.NDArray[np.int64]) -> int:
    if len(flags) < WINDOW_LINES:
        return 0
    total = np.concatenate([[0], np.cumsum(flags)])
    return int((total[WINDOW_LINES:] - total[:-WINDOW_LINES]).max())
