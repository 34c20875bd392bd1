"""When windows may be computed: once what is stored is fresh, not once it was read."""

from __future__ import annotations

import time

import pytest
from aiokafka import TopicPartition

from ingest.core.kafka import KafkaConfig
from processors.clickhouse import ClickHouseConfig, Store
from processors.consumer import PartitionState
from processors.write.event_writer import EventWriter, EventWriterConfig

ONE, OTHER = TopicPartition("events", 0), TopicPartition("events", 1)


class Consumer:
    """What the sink asks its consumer: the partitions it holds, and where each ends."""

    def __init__(self, **ends: int | None) -> None:
        self.ends = {TopicPartition("events", int(name[1:])): end for name, end in ends.items()}

    def assignment(self) -> set[TopicPartition]:
        return set(self.ends)

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.ends[partition]


def sink(stored: dict[TopicPartition, int], **ends: int | None) -> EventWriter:
    made = EventWriter(
        KafkaConfig(), Store(ClickHouseConfig()), EventWriterConfig(), print, lambda: "log"
    )
    made._reader._consumer = Consumer(**ends)
    for partition, offset in stored.items():
        made._reader.held[partition] = PartitionState(begun=0, stored=offset)
    return made


@pytest.mark.parametrize(
    ("stored", "after", "fresh"),
    [
        ({ONE: 5, OTHER: 7}, {}, True),  # nothing waits
        ({ONE: 5, OTHER: 6}, {}, False),  # one record is read and not stored, or not read
        ({ONE: 2, OTHER: 7}, {ONE: 5}, True),  # that batch was the last
        ({ONE: 2, OTHER: 7}, {ONE: 4}, False),
        ({ONE: 5}, {}, False),  # nothing is known of the other
    ],
)
def test_old_records_are_fresh_when_none_waits(stored, after, fresh) -> None:
    assert sink(stored, p0=5, p1=7)._reader.is_fresh(0, after) is fresh


def test_a_partition_whose_end_is_not_known_may_have_more() -> None:
    assert not sink({ONE: 5, OTHER: 7}, p0=5, p1=None)._reader.is_fresh(0, {})


def test_what_was_sent_just_now_is_fresh_however_much_waits() -> None:
    now = int(time.time() * 1000)
    assert sink({ONE: 0}, p0=1_000)._reader.is_fresh(now, {ONE: 10})
    assert not sink({ONE: 0}, p0=1_000)._reader.is_fresh(now - 60_000, {ONE: 10})


def test_how_long_it_has_been_fresh_begins_anew_after_a_backlog() -> None:
    made = sink({}, p0=0)
    assert made.fresh_for() == 0.0
    made._catch_up()
    first = made._caught_up_at
    made._catch_up()
    assert made._caught_up_at == first
    made.caught_up.clear()
    assert made.fresh_for() == 0.0
