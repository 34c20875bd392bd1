"""A bound on the bytes that all requests together keep in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.embedded.statements import EngineError


class Budget:
    """Bytes that may be in memory at a time.

    Parameters
    ----------
    limit
        How many.
    what
        What they are, for the message.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit, self._what, self.used = limit, what, 0

    @contextmanager
    def hold(self, count: int = 0) -> Iterator[Hold]:
        """Hold ``count`` bytes, and more as they come, until the context ends.

        Raises
        ------
        EngineError
            All together would be too many.
        """
        hold = Hold(self)
        try:
            hold.grow(count)
            yield hold
        finally:
            self.used -= hold.count

    def take(self, count: int) -> None:
        """Count ``count`` bytes more, or refuse them."""
        if self.used + count > self._limit:
            text = f"{self._what} of all requests have {self.used} bytes; try again soon"
            raise EngineError.of(241, "MEMORY_LIMIT_EXCEEDED", text)
        self.used += count


class Hold:
    """What one request holds of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.count = budget, 0

    def grow(self, count: int) -> None:
        """Hold ``count`` bytes more, or raise `EngineError`."""
        self._budget.take(count)
        self.count += count
