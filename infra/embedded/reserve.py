"""A reserve of disk space: the engine stops writing before the disk is full.

chDB publishes parts whose files it could not write to the end, and a part that replaces others
takes their rows with it. So while less than the reserve is free, inserts are refused with
ClickHouse's own code, which workers wait out, and merges rest.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

RESERVE_BYTES: Final = 256 << 20
_LOOK_EVERY_S: Final = 0.1
_FAR_BYTES: Final = 4 << 30
_FAR_LOOK_EVERY_S: Final = 1.0  # nobody writes so much in a second


class Reserve:
    """Watches the free space of a folder from a thread of its own.

    Parameters
    ----------
    path
        Any folder of the file system in question.
    merges
        Called with False when merges have to rest, with True when they may go on.
    free
        How many bytes are free; that of the file system unless a test says otherwise.
    """

    def __init__(
        self, path: Path, merges: Callable[[bool], None], free: Callable[[], int] | None = None
    ) -> None:
        self._free = free or (lambda: _free_bytes(path))
        self._merges = merges
        self._ended = threading.Event()
        self.used = False
        self.look()
        self._thread = threading.Thread(target=self._watch, name="reserve", daemon=True)
        self._thread.start()

    def look(self) -> float:
        """Compare once, with a little more room to end than to begin; returns the next rest, s."""
        limit, free = RESERVE_BYTES * (5 if self.used else 4) // 4, self._free()
        used = free < limit
        if used != self.used:
            self._merges(not used)
            self.used = used
            log.warning(
                "disk %s: inserts %s", "full" if used else "free", "refused" if used else "on"
            )
        return _LOOK_EVERY_S if free < _FAR_BYTES else _FAR_LOOK_EVERY_S

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        rest = _LOOK_EVERY_S
        while not self._ended.wait(rest):
            rest = self.look()


def _free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
