"""What the engine runs now: to cancel it, and to name it when the engine has died of it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

log = logging.getLogger(__name__)

FATAL_EXIT_CODE: Final = 70
"""Exit code of an engine that ended itself after a fatal error."""

_BEAT_S: Final = 1.0
_AGAIN_S: Final = 0.2
_RETURN_S: Final = 0.3
_SHOWN: Final = 2000  # characters of a statement in the log


class Running:
    """Statements in progress.

    Parameters
    ----------
    beat
        Runs a trivial statement; returns False when the engine has had a fatal error.
    kill
        Kills the statement of a tag, if it runs.
    end
        Ends the process; never returns.
    """

    def __init__(
        self,
        beat: Callable[[], bool],
        kill: Callable[[str], None],
        end: Callable[[int], NoReturn] = os._exit,
    ) -> None:
        self._beat, self._kill, self._end = beat, kill, end
        self._statements: dict[str, tuple[float, str]] = {}
        self._cancelled: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._thread.start()

    @contextmanager
    def entered(self, tag: str, sql: str) -> Iterator[None]:
        """Hold ``sql`` as running."""
        self._statements[tag] = time.monotonic(), sql
        try:
            yield
        finally:
            del self._statements[tag]
            self._cancelled.discard(tag)

    def is_cancelled(self, tag: str) -> bool:
        """Whether nobody waits for it any more."""
        return tag in self._cancelled

    def cancel(self, tag: str) -> None:
        """Kill the statement of this tag and return when it has ended.

        It may only be about to begin in the engine, so it is killed until it has ended.
        """
        if tag in self._statements:
            self._cancelled.add(tag)
        while tag in self._statements and not self._ended.wait(_AGAIN_S):
            self._kill(tag)

    def check(self) -> None:
        """End the process if the engine has had a fatal error, and log what did it."""
        if self._beat() or self._ended.is_set():
            return
        time.sleep(_RETURN_S)  # the others return with an error; the one that did it never does
        now = time.monotonic()
        for began, sql in sorted(self._statements.values()):
            shown = " ".join(sql[:_SHOWN].split())
            log.error("fatal error of the engine while it ran, for %.1f s: %s", now - began, shown)
        log.error("the engine has had a fatal error and ends; its supervisor starts another")
        with suppress(OSError):
            logging.shutdown()
        self._end(FATAL_EXIT_CODE)

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_BEAT_S):
            self.check()
