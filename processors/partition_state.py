"""How far one partition has come: offsets and times in, offsets without a record out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from ingest.core.circuit_breaker import BadLines

Span = tuple[int, int]
"""Offsets from the first to before the second."""


class Taken(NamedTuple):
    """What the offsets of fetched records say.

    Attributes
    ----------
    between
        Offsets between the records that have none.
    before
        Offsets that were expected before the first record; None without any.
    again
        Whether records come that were read before: the log may be another one.
    """

    between: list[Span]
    before: Span | None
    again: bool


class Progress(NamedTuple):
    """Event time in ns and offset up to which rows are stored, and since when."""

    watermark: int
    stored: int
    advanced: datetime


@dataclass(slots=True)
class PartitionState:
    """How far one partition has come, from `begin` over `take` and `store` to a commit.

    Offsets: where reading ``begun``, the next that is ``expected``, the next to be ``stored``; None
    until it is known where to begin. ``newest`` is the timestamp of the last record, ms.
    ``watermark`` is event time in ns; ``advanced`` is when rows were last stored.
    ``marked`` is how far marks reach that whoever read before has made, per partition.
    ``parked`` says why it is not read for now; below ``released`` nobody counts bad lines.
    """

    begun: int | None = None
    expected: int | None = None
    stored: int | None = None
    newest: int = 0
    watermark: int = 0
    marked: tuple[int, ...] = ()
    # A partition that is new to us counts as moving, until it is known not to.
    advanced: datetime = field(default_factory=lambda: datetime.now(UTC))
    bad: BadLines = field(default_factory=BadLines)
    parked: str = ""
    released: int = 0

    def begin(self, offset: int, watermark: int, marked: tuple[int, ...]) -> None:
        """Read from here on; of what lies before, the last report says the rest."""
        self.begun = self.expected = self.stored = offset
        self.watermark, self.marked = watermark, marked

    def take(self, offsets: Sequence[int], newest: int) -> Taken:
        """Expect what follows these records, which rise in offset."""
        expected, self.expected = self.expected, offsets[-1] + 1
        self.newest = newest
        before = (expected, offsets[0]) if expected is not None and offsets[0] > expected else None
        again = expected is not None and offsets[0] < expected
        return Taken(without(offsets), before, again)

    def skip(self, position: int) -> Span | None:
        """Pass over offsets up to ``position`` once all that was read is stored; those passed."""
        expected = self.expected
        if expected is None or (self.stored or 0) < expected or position <= expected:
            return None
        self.expected = self.stored = position
        return expected, position

    def park(self, offset: int, why: str) -> None:
        """Do not read on from here before it is released."""
        self.expected, self.parked = offset, why

    def release(self, until: int) -> None:
        """Read on, whatever the lines below this offset are; nothing when it is further already."""
        if until > (self.expected or 0):
            self.parked, self.released, self.bad = "", until, BadLines()

    @property
    def progress(self) -> Progress:
        """What is stored."""
        return Progress(self.watermark, self.stored or 0, self.advanced)

    def after(self, offset: int, event_time: int, now: datetime) -> Progress:
        """What will be stored with records up to ``offset``, the latest of ``event_time``."""
        return Progress(max(self.watermark, event_time), max(self.stored or 0, offset), now)

    def store(self, reached: Progress) -> None:
        """Take rows for stored; nothing is before it is known where to begin."""
        if self.stored is not None:
            self.watermark, self.stored, self.advanced = reached

    def may_commit(self, offset: int) -> bool:
        """Whether others have not moved it on since: below its beginning nothing is ours."""
        return self.begun is not None and offset >= self.begun


def without(offsets: Sequence[int]) -> list[Span]:
    """Offsets between those given.

    >>> without([3, 4, 7, 9])
    [(5, 7), (8, 9)]
    """
    if offsets[-1] - offsets[0] < len(offsets):
        return []
    return [(one + 1, other) for one, other in pairwise(offsets) if one + 1 < other]
