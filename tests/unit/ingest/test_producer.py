"""What a producer decides before Kafka sees anything."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from kafka.partitioner.default import murmur2

from ingest import codec
from ingest.core.errors import UsageError
from ingest.core.events import Event
from ingest.producer import ListProducer, Producer, file_producer, locality_key, partition_of


def event(**fields: object) -> Event:
    return Event(**{"event_id": "e", "time_unix_nano": 1, "agent": "x", "kind": "score", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "digest"),
    # The vectors of Kafka's own UtilsTest.
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_partitions_are_kafkas(key: str, digest: int) -> None:
    assert murmur2(key.encode()) & 0xFFFFFFFF == digest & 0xFFFFFFFF
    for partitions in (1, 4, 7):
        assert partition_of(key, partitions) == (digest & 0x7FFFFFFF) % partitions


def test_partitions_are_used_evenly() -> None:
    counts = [0] * 8
    for n in range(8000):
        counts[partition_of(f"interaction-{n}", 8)] += 1
    assert min(counts) > 850


def test_locality() -> None:
    assert locality_key(event(interaction_id="i", session_id="s")) == "i"
    assert locality_key(event(session_id="s")) == "s"
    assert locality_key(event()) == "e"


@pytest.mark.parametrize("name", ["events.ndjson", "events.ndjson.gz"])
def test_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    events = [event(event_id=f"{n}") for n in range(5)]
    with file_producer(path) as producer:
        producer.send(events[:2])
        producer.send([])
        producer.flush()
        producer.send(iter(events[2:]))
    content = path.read_bytes()
    content = gzip.decompress(content) if name.endswith("gz") else content
    assert content == codec.encode(events) + b"\n"


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"), file_producer(tmp_path / "no" / "x"):
        pass


def test_the_twins_fit_the_protocol(tmp_path: Path) -> None:
    producers: list[Producer] = [ListProducer()]
    with file_producer(tmp_path / "x") as file:
        producers.append(file)
        for producer in producers:
            producer.send([event()])
            producer.flush()
