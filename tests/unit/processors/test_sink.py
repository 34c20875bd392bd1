"""A worker that is asked to end, and what it has under way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from ingest.codec import encode
from ingest.core.events import EVENTS_TOPIC, Event
from ingest.core.kafka import KafkaConfig
from processors.clickhouse import ClickHouseConfig, Store
from processors.consumer import PartitionState
from processors.keeping import Horizons
from processors.write import event_writer
from processors.write.event_writer import EventWriter, EventWriterConfig


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
        made = EventWriter(
            KafkaConfig(), Store(ClickHouseConfig()), EventWriterConfig(), print, lambda: "log"
        )
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

    monkeypatch.setattr(event_writer, "_REPORT_SECONDS", 60)
    monkeypatch.setattr(event_writer, "_DELIVERED_SECONDS", 1.0)
    asyncio.run(run())
    assert happened == told


def test_what_a_batch_says_of_its_partitions_counts_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else event time would wait for the next report."""
    partition = TopicPartition(EVENTS_TOPIC, 0)
    event = Event(event_id="e", time_unix_nano=77, agent="a", kind="tool_call")
    record: Any = ConsumerRecord(
        EVENTS_TOPIC, 0, 4, 10**12, 0, None, encode([event]), None, -1, 9, ()
    )
    heard = datetime(2026, 1, 5, tzinfo=UTC)
    said: list[pl.DataFrame] = []
    stored_before: list[int | None] = []

    async def insert(table: str, frame: pl.DataFrame) -> None:
        if table == "watermarks":
            said.append(frame)
            stored_before.append(made._reader.held[partition].stored)

    async def done(*_: Any) -> None:
        pass

    made = EventWriter(
        KafkaConfig(), Store(ClickHouseConfig()), EventWriterConfig(), print, lambda: "log"
    )
    made._reader.held[partition] = PartitionState(begun=4, expected=5, stored=4)
    monkeypatch.setattr(made, "_insert", insert)
    monkeypatch.setattr(made, "_produce_marks", done)
    monkeypatch.setattr(made._names, "admit", lambda _: 0)
    monkeypatch.setattr(made._reader, "commit", done)
    monkeypatch.setattr(made._reader, "end", lambda _: 5)
    monkeypatch.setattr(made._reader, "heard", lambda _: heard)
    monkeypatch.setattr(made._tombstones, "apply", lambda events: events)
    monkeypatch.setattr(made._horizons, "refresh", Horizons)
    batch, parked = made._decode({partition: [record]}, [])
    assert not parked
    assert batch is not None
    asyncio.run(made._deliver(batch))
    told = said[0].select("offset", "lag", pl.col("watermark").to_physical(), "heard")
    assert told.rows() == [(5, 0, 77, heard)]
    assert stored_before == [4]  # of ourselves only what is booked
    place = made._reader.held[partition]
    assert (place.stored, place.watermark) == (5, 77)
