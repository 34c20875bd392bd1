"""How far a partition has come, whatever comes in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.partition_state import PartitionState, without

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.sets(st.integers(0, 200), min_size=1))
def test_offsets_between_records_are_told_once(offsets: set[int]) -> None:
    ordered = sorted(offsets)
    told = [offset for first, after in without(ordered) for offset in range(first, after)]
    assert told == [n for n in range(ordered[0], ordered[-1]) if n not in offsets]


class Partition(RuleBasedStateMachine):
    """A log with holes, read in pieces, stored and committed some time later."""

    def __init__(self) -> None:
        super().__init__()
        self.place = PartitionState()
        self.begun = self.done = 0
        self.read: set[int] = set()
        self.empty: set[int] = set()
        self.waiting: list[tuple[list[int], int]] = []
        self.latest = 0
        self.judged = True  # of what was taken last it is known whether it is parked
        self.steps = 0

    @precondition(lambda self: self.place.begun is None)
    @rule(offset=st.integers(0, 50), watermark=st.integers(0, 100))
    def begin(self, offset: int, watermark: int) -> None:
        assert not self.place.may_commit(10**9)
        self.place.begin(offset, watermark, (1, 2))
        self.begun = self.done = offset
        self.latest = watermark
        assert self.place.progress[:2] == (watermark, offset)

    @precondition(lambda self: self.place.begun is not None)
    @rule(steps=st.lists(st.integers(1, 3), min_size=1, max_size=5), time=st.integers(0, 1_000))
    def take(self, steps: list[int], time: int) -> None:
        at, offsets = self.place.expected or 0, []
        for step in steps:
            at += step
            offsets.append(at - 1)
        taken = self.place.take(offsets, newest=time)
        assert not taken.again
        for first, after in [*taken.between, *([taken.before] if taken.before else [])]:
            assert not self.empty & set(range(first, after))
            self.empty |= set(range(first, after))
        self.read |= set(offsets)
        self.waiting.append((offsets, time))
        self.judged = False

    @precondition(lambda self: self.place.begun is not None and self.read)
    @rule()
    def come_again(self) -> None:
        """What was read before comes once more, as from a log that began anew."""
        before = self.place.expected
        assert self.place.take([self.begun, (before or 1) - 1], 5).again == (before > self.begun)  # type: ignore[operator]
        assert self.place.expected == before

    @precondition(lambda self: self.waiting)
    @rule()
    def store(self) -> None:
        offsets, time = self.waiting.pop(0)
        offset = offsets[-1] + 1
        self.latest, self.steps = max(self.latest, time), self.steps + 1
        reached = self.place.after(offset, time, NOW + timedelta(seconds=self.steps))
        assert self.place.progress != reached  # told before it is so
        self.place.store(reached)
        self.done = offset
        assert self.place.progress == reached
        assert self.place.may_commit(offset)

    @precondition(lambda self: self.waiting and not self.judged)
    @rule()
    def park(self) -> None:
        """What was read last is given back, and read again once somebody says so."""
        self.judged = True
        (first, *others), _ = self.waiting.pop()
        self.place.park(first, "too many bad lines")
        self.read -= {first, *others}
        self.empty -= set(range(first, others[-1] if others else first))
        self.place.release(first)
        assert (self.place.parked, self.place.released) == ("too many bad lines", 0)
        self.place.release(first + 1)
        assert (self.place.parked, self.place.released) == ("", first + 1)
        self.place.released = 0

    @precondition(lambda self: self.place.begun is not None)
    @rule(by=st.integers(0, 4))
    def skip(self, by: int) -> None:
        expected = self.place.expected or 0
        passed = self.place.skip(expected + by)
        if self.done < expected or not by:
            assert passed is None
        else:
            assert passed == (expected, expected + by)
            self.done = expected + by
            self.empty |= set(range(*passed))

    @invariant()
    def everything_is_read_or_known_to_be_empty(self) -> None:
        if self.place.begun is None:
            assert self.place.stored is self.place.expected is None
            self.place.store(self.place.after(7, 7, NOW))
            assert self.place.stored is None
            return
        assert self.place.begun == self.begun <= self.place.stored <= self.place.expected  # type: ignore[operator]
        assert self.read | self.empty == set(range(self.begun, self.place.expected))  # type: ignore[arg-type]
        assert not self.read & self.empty
        assert self.place.watermark == self.latest
        assert not self.place.may_commit(self.begun - 1)


TestPartition = Partition.TestCase
