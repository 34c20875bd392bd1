"""A mark is acknowledged once its cell, its minute and its hour are stored, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from processors import marks, recompute, windows
from processors.recompute import Recompute


class Stream:
    """Stands for a Faust stream: gives marks, and writes down which are acknowledged."""

    def __init__(self, told: list[str], starts: list[int]) -> None:
        self._told = told
        self._starts = starts

    async def noack_take(self, _most: int, within: float) -> AsyncIterator[list[Any]]:
        for offset, start in enumerate(self._starts):
            frame = pl.DataFrame({"environment": ["e"], "agent": ["a"], "start": [start]})
            ((_, value),) = marks.pack(frame, 1)
            place = SimpleNamespace(partition=0, offset=offset)
            yield [SimpleNamespace(value=value, message=place)]
            await asyncio.sleep(0.01)

    async def ack(self, event: Any) -> None:
        self._told.append(f"ack {event.message.offset}")


def run(monkeypatch: pytest.MonkeyPatch, starts: list[int], fails: int = 0) -> list[str]:
    """What was computed, reported and acknowledged, in order."""
    told: list[str] = []

    def computed(_store: Any, width: int, cells: pl.DataFrame) -> None:
        if width == fails:
            raise ValueError
        told.append(f"{width} {sorted(cells['start'].to_list())}")

    async def at_once() -> None:
        pass

    async def follow() -> None:
        store = SimpleNamespace(
            insert=lambda table, rows: told.append(f"report {rows['offset'][0]}")
        )
        made = Recompute(store, "log", 0.02, at_once, lambda: told.append("die"))  # type: ignore[arg-type]
        await made.start()
        await made.follow(Stream(told, starts))
        await asyncio.sleep(0.3)
        await made.stop()

    monkeypatch.setattr(windows, "recompute", computed)
    monkeypatch.setattr(recompute, "_COARSER_S", 0.1)
    asyncio.run(follow())
    return told


def test_cells_are_reported_at_once_and_acknowledged_after_their_hour(monkeypatch) -> None:
    told = run(monkeypatch, [3_610])
    assert told == ["10 [3610]", "report 1", "60 [3600]", "3600 [3600]", "ack 0"]


def test_marks_are_acknowledged_in_order_and_minutes_computed_together(monkeypatch) -> None:
    told = run(monkeypatch, [10, 20, 3_700])
    assert [line for line in told if line.startswith("ack")] == ["ack 0", "ack 1", "ack 2"]
    minutes = [line for line in told if line.startswith("60 ")]
    assert len(minutes) < 3
    assert told.index("3600 [0]") < told.index("ack 0")


@pytest.mark.parametrize("width", windows.WIDTHS)
def test_who_cannot_compute_dies_and_acknowledges_nothing(monkeypatch, width: int) -> None:
    told = run(monkeypatch, [10], fails=width)
    assert "die" in told
    assert not [line for line in told if line.startswith("ack")]
