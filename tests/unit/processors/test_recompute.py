"""A mark is committed once its cell, its minute and its hour are stored, and not before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from faust.types import TP

from processors.derive import dirty_marks, window_updater, windows
from processors.derive.window_updater import WindowUpdater

_DIRTY = TP("dirty", 0)
RESULTS = -1
"""Instead of a width: the results cannot be computed."""


@dataclass
class Group:
    """Stands for the consumer: which generation it is in, and what it commits."""

    told: list[str] = field(default_factory=list)
    generation: int | None = 1
    committed: int = 0
    earliest: int = 0
    latest: int = 0
    refuses: int = 0

    def begun(self) -> dict[TP, int]:
        return {_DIRTY: self.committed}

    async def first(self, _partition: TP) -> int:
        return self.earliest

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        if self.refuses:
            self.refuses -= 1
            self.told.append("refused")
            return False
        self.told.append(f"commit {offsets[_DIRTY]}")
        return True

    def end(self, _partition: TP) -> int:
        return self.latest

    async def rewind(self, _partition: TP, offset: int) -> None:
        self.told.append(f"rewind {offset}")


class Stream:
    """Stands for a Faust stream: gives marks, each at its offset, read in a generation."""

    def __init__(self, marked: Sequence[tuple[int, int, int]], after_s: float) -> None:
        self._marked, self._after_s = marked, after_s
        self.channel = SimpleNamespace(queue=asyncio.Queue())

    async def events(self) -> AsyncIterator[Any]:
        await asyncio.sleep(self._after_s)
        for start, offset, generation in self._marked:
            frame = pl.DataFrame({"environment": ["e"], "agent": ["a"], "start": [start]})
            ((_, value),) = dirty_marks.pack(frame, 1)
            place = SimpleNamespace(tp=_DIRTY, offset=offset, generation_id=generation)
            yield SimpleNamespace(value=value, message=place)
            await asyncio.sleep(0.01)


def run(
    monkeypatch: pytest.MonkeyPatch,
    marked: Sequence[tuple[int, int, int]],
    fails: int = 0,
    group: Group | None = None,
    backlog_s: float = 0.0,
    after_s: float = 0.0,
    until: str | None = None,
) -> list[str]:
    """What was computed, reported and committed, in order."""
    group = group or Group()
    told = group.told

    def computed(_store: Any, width: int, cells: pl.DataFrame) -> None:
        if width == fails:
            raise ValueError
        told.append(f"{width} {sorted(cells['start'].to_list())}")

    def made_results(marks: pl.DataFrame) -> None:
        if fails == RESULTS:
            raise ValueError
        told.append(f"results {sorted(marks['start'].to_list())}")

    async def caught_up() -> None:
        await asyncio.sleep(backlog_s)

    async def follow() -> None:
        store = SimpleNamespace(
            insert=lambda table, rows: told.append(f"report {rows['offset'][0]}")
        )
        made = WindowUpdater(
            store,  # type: ignore[arg-type]
            SimpleNamespace(update=made_results),  # type: ignore[arg-type]
            "log",
            lambda: group,
            0.02,
            caught_up,
            lambda: told.append("die"),
        )
        await made.start()
        await made.follow(Stream(marked, after_s))
        await asyncio.sleep(0.4)
        deadline = time.monotonic() + 60
        while until is not None and until not in told and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await made.stop()

    monkeypatch.setattr(windows, "recompute", computed)
    monkeypatch.setattr(window_updater, "_COARSER_S", 0.1)
    monkeypatch.setattr(window_updater, "_GATHER_S", 0.0)
    monkeypatch.setattr(window_updater, "_IDLE_S", 0.05)
    asyncio.run(follow())
    return told


def commits(told: list[str]) -> list[str]:
    return [line for line in told if line.startswith("commit")]


def test_a_mark_is_reported_and_committed_once_all_that_follows_is_stored(monkeypatch) -> None:
    """Reported before, its cell would be sealed while its results are still to come."""
    told = run(monkeypatch, [(3_610, 0, 1)])
    assert told == [
        "10 [3610]", "results [3610]", "60 [3600]", "3600 [3600]", "86400 [0]", "report 1",
        "commit 1",
    ]  # fmt: skip


def test_minutes_are_computed_together(monkeypatch) -> None:
    for _ in range(10):  # on a busy machine each may be computed before the next one comes
        told = run(monkeypatch, [(10, 0, 1), (20, 1, 1), (3_700, 2, 1)], until="commit 3")
        assert commits(told)[-1] == "commit 3"
        minutes = [line for line in told if line.startswith("60 ")]
        if len(minutes) < 3:
            break
    assert len(minutes) < 3
    hours = [line for line in told if line.startswith("3600 ")]
    assert told.index(hours[0]) < told.index(commits(told)[0])


@pytest.mark.parametrize("width", [*windows.WIDTHS, RESULTS])
def test_who_cannot_compute_dies_and_commits_nothing(monkeypatch, width: int) -> None:
    told = run(monkeypatch, [(10, 0, 1)], fails=width)
    assert "die" in told
    assert not commits(told)


def test_what_could_not_be_committed_is_tried_again_though_nothing_comes(monkeypatch) -> None:
    told = run(monkeypatch, [(10, 0, 1)], group=Group(refuses=1))
    assert told[-2:] == ["refused", "commit 1"]


def test_what_was_read_before_a_rebalance_is_not_committed(monkeypatch) -> None:
    """Nor reported: others have it now, and have perhaps come further."""
    told = run(monkeypatch, [(10, 7, 1)], group=Group(generation=2, committed=5))
    assert "10 [10]" in told
    assert "report 8" not in told
    assert not commits(told)


def test_nothing_is_committed_or_said_while_partitions_move(monkeypatch) -> None:
    told = run(monkeypatch, [(10, 0, 1)], group=Group(generation=None))
    assert told == ["10 [10]", "results [10]", "60 [0]", "3600 [0]", "86400 [0]"]


def test_how_far_it_is_is_said_again_though_nothing_comes(monkeypatch) -> None:
    """For whoever had the partition before may say less, and later."""
    monkeypatch.setattr(window_updater, "_REPORT_S", 0.1)
    told = run(monkeypatch, [], group=Group(committed=140))
    assert told.count("report 140") > 1


def test_what_is_read_again_after_a_rebalance_is(monkeypatch) -> None:
    group = Group(generation=2, committed=7)
    told = run(monkeypatch, [(10, 7, 1), (10, 7, 2)], group=group)
    assert commits(told) == ["commit 8"]


@pytest.mark.parametrize(
    ("marked", "committed", "missing"),
    [
        ([(10, 5, 1)], 3, 3),  # at the begin of a generation
        ([(10, 2, 1)], 0, 0),  # without a commit
        ([(10, 3, 1), (10, 4, 1), (10, 6, 1)], 3, 5),
        ([(10, 3, 1), (10, 5, 2)], 3, 3),
    ],
)
class TestMarksThatWerePassedOver:
    def test_are_gone_back_to_and_nothing_behind_them_counts(
        self, monkeypatch, marked, committed: int, missing: int
    ) -> None:
        group = Group(generation=marked[-1][2], committed=committed)
        told = run(monkeypatch, marked, group=group)
        assert f"rewind {missing}" in told
        assert f"report {marked[-1][1] + 1}" not in told
        assert f"commit {marked[-1][1] + 1}" not in told
        assert "die" not in told

    def test_are_gone_back_to_until_they_come(
        self, monkeypatch, marked, committed: int, missing: int
    ) -> None:
        """Though nothing else comes, for what had been fetched may have undone it."""
        monkeypatch.setattr(window_updater, "_REWIND_S", 0.1)
        group = Group(generation=marked[-1][2], committed=committed)
        told = run(monkeypatch, marked, group=group)
        assert told.count(f"rewind {missing}") > 1

    def test_and_come_are_computed_with_what_follows(
        self, monkeypatch, marked, committed: int, missing: int
    ) -> None:
        _, last, generation = marked[-1]
        again = [(10, offset, generation) for offset in range(missing, last + 2)]
        group = Group(generation=generation, committed=committed)
        told = run(monkeypatch, [*marked, *again], group=group)
        assert commits(told)[-1] == f"commit {last + 2}"
        assert "die" not in told

    def test_are_no_longer_ours_once_partitions_move(
        self, monkeypatch, marked, committed: int, missing: int
    ) -> None:
        monkeypatch.setattr(window_updater, "_REWIND_S", 0.1)
        group = Group(generation=marked[-1][2], committed=committed)
        asked: list[int] = []

        async def moved(_partition: TP, offset: int) -> None:
            asked.append(offset)
            group.generation = marked[-1][2] + 1

        monkeypatch.setattr(group, "rewind", moved)
        run(monkeypatch, marked, group=group)
        assert asked == [missing]


def test_the_last_marks_are_gone_back_to_though_none_come_after_them(monkeypatch) -> None:
    monkeypatch.setattr(window_updater, "_QUIET_S", 0.1)
    told = run(monkeypatch, [(10, 3, 1)], group=Group(committed=3, latest=6))
    assert "rewind 4" in told


def test_a_mark_that_has_only_just_come_is_waited_for(monkeypatch) -> None:
    """However long none came before."""
    monkeypatch.setattr(window_updater, "_QUIET_S", 10.0)
    told = run(monkeypatch, [(10, 3, 1)], group=Group(committed=3, latest=6))
    assert not [line for line in told if line.startswith("rewind")]


def test_marks_that_wait_for_a_backlog_are_not_missing(monkeypatch) -> None:
    monkeypatch.setattr(window_updater, "_QUIET_S", 0.2)
    told = run(monkeypatch, [(10, 0, 1)], group=Group(latest=1), backlog_s=0.5, after_s=0.1)
    assert not any(line.startswith("rewind") for line in told)
    assert commits(told) == ["commit 1"]


def test_nothing_is_gone_back_to_when_all_was_read(monkeypatch) -> None:
    monkeypatch.setattr(window_updater, "_QUIET_S", 0.1)
    told = run(monkeypatch, [(10, 3, 1)], group=Group(committed=3, latest=4))
    assert not [line for line in told if line.startswith("rewind")]


def test_marks_that_kafka_deletes_while_they_are_missing_are_given_up(monkeypatch) -> None:
    """What is left is read again, for it was not taken while they were missing."""
    monkeypatch.setattr(window_updater, "_REWIND_S", 0.0)
    group = Group(committed=3)

    async def deleted(_partition: TP, offset: int) -> None:
        group.told.append(f"rewind {offset}")
        group.earliest = 6

    monkeypatch.setattr(group, "rewind", deleted)
    told = run(monkeypatch, [(10, 6, 1), (10, 6, 1), (10, 6, 1)], group=group)
    assert [line for line in told if line.startswith("rewind")][:2] == ["rewind 3", "rewind 6"]
    assert commits(told) == ["commit 7"]


def test_marks_that_kafka_deleted_are_not_waited_for(monkeypatch) -> None:
    told = run(monkeypatch, [(10, 5, 1)], group=Group(committed=3, earliest=5))
    assert "die" not in told
    assert "rewind 3" not in told
    assert commits(told) == ["commit 6"]
