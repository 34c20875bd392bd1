"""A worker that is asked to end, and what it has under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingest.kafka import KafkaConfig
from processors import sink
from processors.sink import Sink, SinkConfig
from processors.store import ClickHouseConfig, Store


@pytest.mark.parametrize(
    ("takes_s", "told"), [(0.3, ["stored", "booked", "left"]), (60, ["stored", "left"])]
)
def test_what_is_stored_is_booked_before_it_leaves(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, told: list[str]
) -> None:
    """Of a broker that ends as well nobody reads it again. But it does not wait for ever."""
    happened: list[str] = []

    async def deliver(_batch: Any) -> None:
        happened.append("stored")
        await asyncio.sleep(takes_s)
        happened.append("booked")

    async def leave() -> None:
        happened.append("left")

    async def run() -> None:
        made = Sink(KafkaConfig(), Store(ClickHouseConfig()), SinkConfig(), print, lambda: "log")
        monkeypatch.setattr(made, "_deliver", deliver)
        monkeypatch.setattr(made._reader, "stop", leave)
        monkeypatch.setattr(made._reader, "is_fresh", lambda *_: False)
        made._connecting = asyncio.create_task(asyncio.sleep(60))  # it reads nothing
        made._connected.set()
        batch: Any = type("Batch", (), {"newest": 0, "commits": {}})
        await made._queue.put(batch)
        await made.start()
        while not happened:
            await asyncio.sleep(0.01)
        await made.stop()

    monkeypatch.setattr(sink, "_REPORT_SECONDS", 60)
    monkeypatch.setattr(sink, "_DELIVERED_SECONDS", 1.0)
    asyncio.run(run())
    assert happened == told
