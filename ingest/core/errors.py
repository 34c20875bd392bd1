"""The few ways in which work can fail, named by what the caller does next.

::

    DriftlineError
    ├── Rejected(code)            the data is wrong: dead-letter it, answer 4xx, go on
    ├── Unavailable(service)      a service is away: keep the data, wait, try again
    ├── Overloaded(retry_after)   we are too slow: push back to the sender
    ├── NotFound                  what was asked for is not stored: say so, stop
    └── UsageError                the person who called us can fix it: say how, stop

Anything else is a bug: it stops the process, and its supervisor starts it again.
"""

from __future__ import annotations

from typing import ClassVar


class DriftlineError(Exception):
    """Base of every error that driftline raises on purpose.

    ``exit_code`` is what the command line returns when the error reaches it.
    """

    exit_code: ClassVar[int] = 1


class Rejected(DriftlineError):
    """Data that can never become an event.

    Parameters
    ----------
    code
        Machine-readable reason, one of `ingest.core.events.RejectionCode`.
    detail
        What exactly was wrong, without any content of the event.
    raw
        What was refused, as JSON text, where the one who refuses has it: for the dead letter.
    """

    exit_code = 4

    def __init__(self, code: str, detail: str = "", raw: bytes = b"") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.raw = raw


class Unavailable(DriftlineError):
    """A service does not answer; the same call may succeed later."""

    exit_code = 3


class Overloaded(DriftlineError):
    """More arrives than can be taken; the sender should wait ``retry_after`` seconds."""

    exit_code = 3

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotFound(DriftlineError):
    """What was asked for is not stored; the message names it."""

    exit_code = 1


class UsageError(DriftlineError):
    """Wrong arguments or settings; the message says what to change."""

    exit_code = 2
