"""How long fetches wait: short while records come, longer when none have for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from ingest.core.kafka import FETCH_MAX_WAIT_MS

QUIET_MAX_WAIT_MS: Final = 400
"""What the first record after a quiet time may wait longer, with brokers that look only at the end
of a wait. A fetch every 50 ms costs an idle embedded runtime a tenth of a core."""

QUIET_AFTER_S: Final = 5.0

SLEEPING_MAX_WAIT_MS: Final = 1_000
SLEEPING_AFTER_S: Final = 60.0
"""Who has waited for a minute may wait a second longer."""


class FetchWait:
    """Number of milliseconds, as a consumer writes it into its next fetch request.

    Parameters
    ----------
    position
        Sum of the offsets that the consumer has come to; any change is a record read.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, position: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._position, self._clock = position, clock
        self._last, self._moved = position(), clock()

    def __index__(self) -> int:
        """Wait of the next request."""
        now, position = self._clock(), self._position()
        if position != self._last:
            self._last, self._moved = position, now
        quiet = now - self._moved
        if quiet < QUIET_AFTER_S:
            return FETCH_MAX_WAIT_MS
        return QUIET_MAX_WAIT_MS if quiet < SLEEPING_AFTER_S else SLEEPING_MAX_WAIT_MS


def adapt(consumer: Any) -> None:
    """Let an aiokafka consumer that has not started wait longer while it reads nothing.

    aiokafka takes one number for good; its fetcher writes this attribute into each request.
    """
    state = consumer._subscription  # noqa: SLF001

    def position() -> int:
        assigned = state.subscription and state.subscription.assignment
        if not assigned:
            return 0
        places = (assigned.state_value(tp) for tp in assigned.tps)
        return sum(place.position for place in places if place and place.has_valid_position)

    consumer._fetch_max_wait_ms = FetchWait(position)  # noqa: SLF001
