"""From files and the simulator over the command line to the records of a real broker."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.cli import main
from infra.embedded.broker import start_broker
from infra.topics import Topic, create_topics
from ingest import codec
from ingest.core.errors import Unavailable
from ingest.core.events import EVENTS_TOPIC, Event
from ingest.core.kafka import KafkaConfig
from ingest.producer import (
    KafkaEventProducer,
    ListProducer,
    Producer,
    ProducerConfig,
    locality_key,
    partition_of,
)
from tests.conftest import Broker
from tests.support.common import REPOSITORY, data_file, free_port


def events(count: int, size: int = 10) -> list[Event]:
    return [
        Event(
            event_id=f"e{n}",
            time_unix_nano=n,
            agent="a",
            kind="tool_call",
            interaction_id=f"i{n // 7}" if n % 3 else None,
            content="x" * size,
        )
        for n in range(count)
    ]


def consume(broker: Broker, topic: str, lines: int) -> dict[int, list[bytes]]:
    """Record values by partition, once they hold ``lines`` lines."""
    from kafka import KafkaConsumer, TopicPartition

    consumer: Any = KafkaConsumer(
        **broker.kafka.client_options(),
        auto_offset_reset="earliest",
        group_id=None,
        enable_auto_commit=False,
    )
    records = defaultdict(list)
    try:
        partitions = consumer.partitions_for_topic(topic)
        consumer.assign([TopicPartition(topic, partition) for partition in partitions])
        found, idle = 0, 0
        while (found < lines or idle == 0) and idle < 20:
            polled = consumer.poll(timeout_ms=500)
            idle = 0 if polled else idle + 1
            for tp, batch in polled.items():
                for record in batch:
                    records[tp.partition].append(record.value)
                    found += record.value.count(b"\n") + 1
    finally:
        consumer.close()
    return records


def ids(values: dict[int, list[bytes]]) -> Counter[str]:
    return Counter(
        json.loads(line)["event_id"]
        for records in values.values()
        for record in records
        for line in record.split(b"\n")
    )


@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
@pytest.mark.parametrize("idempotence", [True, False])
def test_every_event_arrives_once_on_its_partition(
    broker: Broker, compression: Any, idempotence: bool
) -> None:
    topic, sent = broker.topic(3), events(5000)
    config = ProducerConfig(
        topic=topic, compression=compression, idempotence=idempotence, max_unacknowledged=3
    )
    with KafkaEventProducer(broker.kafka, config) as producer:
        for at in range(0, len(sent), 700):
            producer.send(iter(sent[at : at + 700]))
    values = consume(broker, topic, len(sent))
    assert ids(values) == Counter(event.event_id for event in sent)
    by_id = {event.event_id: event for event in sent}
    for partition, records in values.items():
        assert all(record.count(b"\n") < 500 for record in records)
        assert records[0].count(b"\n") == 499
        for record in records:
            for line in record.split(b"\n"):
                event = by_id[json.loads(line)["event_id"]]
                assert partition_of(locality_key(event), 3) == partition
                assert line == codec.encode([event])


def test_records_are_bounded_in_bytes(broker: Broker) -> None:
    topic, sent = broker.topic(1), events(60, size=30_000)
    with KafkaEventProducer(broker.kafka, ProducerConfig(topic=topic)) as producer:
        producer.send(sent)
    (records,) = consume(broker, topic, len(sent)).values()
    assert max(map(len, records)) <= 256 * 1024
    assert len(records) == 60 // 8 + 1
    assert sum(record.count(b"\n") + 1 for record in records) == 60


def test_nothing_is_sent_after_an_error(broker: Broker) -> None:
    topic = broker.topic(1)
    config = ProducerConfig(topic=topic)
    with pytest.raises(ZeroDivisionError), KafkaEventProducer(broker.kafka, config) as producer:
        producer.send(events(3))
        raise ZeroDivisionError
    with KafkaEventProducer(broker.kafka, config) as producer:
        producer.send(events(1))
    assert ids(consume(broker, topic, 1)) == {"e0": 1}


def test_the_twins_owe_the_same(broker: Broker) -> None:
    topic = broker.topic(1)
    twin = ListProducer()
    with KafkaEventProducer(broker.kafka, ProducerConfig(topic=topic)) as real:
        producers: list[Producer] = [twin, real]
        for producer in producers:
            producer.flush()
            producer.send(events(2))
            producer.send([])
            producer.flush()
            producer.flush()
    (records,) = consume(broker, topic, 2).values()
    assert records == [codec.encode(twin.flushed)]


def test_no_broker() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"{address}.*driftline up") as caught:
        KafkaEventProducer(KafkaConfig(address), ProducerConfig(timeout_s=1))
    assert caught.value.exit_code == 3


@pytest.fixture(scope="module")
def topic(broker: Broker) -> Iterator[Broker]:
    create_topics(broker.kafka, [Topic(EVENTS_TOPIC, 2)])
    return broker  # type: ignore[return-value]


@dataclass
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def driftline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command ``driftline`` in this process, which saves a second each time."""

    def run(*arguments: str | Path, servers: str) -> Ended:
        monkeypatch.setenv("DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS", servers)
        monkeypatch.setattr(sys, "argv", ["driftline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return run


def test_commands(topic: Broker, driftline: Run, tmp_path: Path) -> None:
    servers = f"127.0.0.1:{topic.port}"
    before = ids(consume(topic, EVENTS_TOPIC, 0)).total()
    traces = data_file("any_agent_otel_traces.jsonl.gz")
    first = driftline("replay", traces, "--no-wait", "--json", servers=servers)
    assert (first.code, first.err) == (0, "")
    counted = json.loads(first.out)
    spans = counted["accepted"]
    assert spans > 773  # and messages that they carry
    assert counted["rejected"] == {}

    retail = data_file("tau2_retail_gpt41_vs_sft_simulations.jsonl.gz")
    info = data_file("tau2_run_info.jsonl.gz")
    moved = driftline(
        "replay", retail, "--info", info, "--shift-to-now", "--no-wait", servers=servers
    )
    assert moved.code == 0
    assert moved.out.splitlines()[1].split("\t")[:2] == ["accepted", "3416"]

    written, truth = tmp_path / "s.ndjson.gz", tmp_path / "truth.json"
    made = driftline(
        *("simulate", "--duration", "10m", "--seed", "3", "--incident", "tool_outage@4m+2m"),
        *("--to-file", written, "--truth", truth, "--end", "2025-08-01T12:00", "--json"),
        servers=servers,
    )
    assert made.code == 0
    lines = gzip.decompress(written.read_bytes()).splitlines()
    known = json.loads(truth.read_text())
    assert json.loads(made.out)["accepted"] == known["events"] == len(lines) > 3000
    assert known["end"] == "2025-08-01T12:00:00.000+00:00"
    again = driftline("replay", written, "--speed", "2000", "--no-wait", "--json", servers=servers)
    assert json.loads(again.out)["accepted"] == len(lines)

    live = driftline(
        "simulate",
        "--duration",
        "2s",
        "--rate",
        "20/s",
        "--speed",
        "1",
        "--no-wait",
        servers=servers,
    )
    assert live.code == 0
    sent = int(live.out.splitlines()[1].split("\t")[1])
    total = before + spans + 3416 + len(lines) + sent
    assert ids(consume(topic, EVENTS_TOPIC, total)).total() == total


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("replay", "absent.jsonl"), 2, "absent.jsonl: no such file; check the path"),
        (("replay", "{tmp}"), 2, "is a folder; name the files in it"),
        (("replay", "{tmp}/notes.txt"), 4, "none of tau2, agentrx, sweagent, otel, events"),
        (("replay", "{tmp}/broken.gz"), 4, "fetch it again"),
        (("replay", "{tmp}/good.ndjson", "--format", "xml"), 2, "no format 'xml'; choose one of"),
        (("replay", "{tmp}/good.ndjson", "--speed", "fast"), 2, "expected max or a number"),
        (("replay", "{tmp}/good.ndjson", "--info", "none"), 2, "none: no such file"),
        (("replay", "{tmp}/bad.ndjson", "--format", "events"), 4, "refused, missing_field"),
        (("replay", "{retail}"), 4, "give --info FILE or --agent NAME"),
        (("simulate", "--rate", "much"), 2, "expected requests per second"),
        (("simulate", "--duration", "long"), 2, "as in 7d, 5h45m or 90s"),
        (("simulate", "--end", "later"), 2, "expected now or ISO 8601"),
        (("simulate", "--incident", "fire@3m"), 2, "choose one of tool_outage"),
        (("simulate", "--to-file", "{tmp}/no/file"), 2, "cannot be written"),
        (("simulate", "--truth", "{tmp}/no/file", "--duration", "1s"), 2, "cannot be written"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(
    topic: Broker,
    driftline: Run,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    (tmp_path / "notes.txt").write_text("just words\n")
    (tmp_path / "broken.gz").write_bytes(gzip.compress(codec.encode(events(99)))[:-20])
    (tmp_path / "good.ndjson").write_bytes(codec.encode(events(2)))
    (tmp_path / "bad.ndjson").write_text('{"event_id": "x", "kind": "score"}\n')
    places = {"tmp": tmp_path, "retail": ""}
    if "{retail}" in arguments:
        places["retail"] = data_file("tau2_retail_gpt41_vs_sft_simulations.jsonl.gz")
    filled = [argument.format(**places) for argument in arguments]
    done = driftline(*filled, servers=f"127.0.0.1:{topic.port}")
    assert done.code == code, done.err
    assert len(done.err.splitlines()) == 1
    assert says in done.err
    as_json = driftline(*filled, "--json", servers=f"127.0.0.1:{topic.port}")
    assert as_json.code == code
    assert json.loads(as_json.err)["exit_code"] == code


def test_unreachable_broker_is_one_line_too(driftline: Run, tmp_path: Path) -> None:
    path = tmp_path / "good.ndjson"
    path.write_bytes(codec.encode(events(2)))
    done = driftline("replay", path, servers=f"127.0.0.1:{free_port()}")
    assert done.code == 3
    assert len(done.err.splitlines()) == 1
    assert "driftline up" in done.err


def test_replay_explains_what_is_understood_and_sends_nothing(
    driftline: Run, tmp_path: Path
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    traces = data_file("any_agent_otel_traces.jsonl.gz")
    told = json.loads(driftline("replay", traces, "--explain", "--json", servers=nowhere).out)
    assert sum(row["spans"] for row in told["spans"]) == 773
    assert told["rejected"] == {}
    names = {(row["kind"], row["attribute"], row["field"]) for row in told["attributes"]}
    assert ("tool_call", "gen_ai.tool.args", "tool_arguments") in names
    table = driftline("replay", traces, "--explain", servers=nowhere)
    assert (table.code, table.err) == (0, "773 spans understood by kind, 0 rejected\n")
    path = tmp_path / "good.ndjson"
    path.write_bytes(codec.encode(events(2)))
    wrong = driftline("replay", path, "--explain", servers=nowhere)
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "holds no spans" in wrong.err


_DYING = """
import os, signal, sys
from ingest.core.errors import Unavailable
from ingest.core.kafka import KafkaConfig
from ingest.producer import KafkaEventProducer, ProducerConfig
from tests.integration.test_ingest import events

kafka = KafkaConfig(bootstrap_servers=sys.argv[1])
try:
    with KafkaEventProducer(kafka, ProducerConfig(timeout_s=3)) as producer:
        producer.send(events(2_000))
        os.kill(int(sys.argv[2]), signal.SIGKILL)
        producer.send(events(9_000))
except Unavailable as error:
    print(error)
"""


def test_a_broker_that_dies_under_way_is_one_error(tmp_path: Path) -> None:
    """And not that of closing what cannot be sent any more, nor one more at the end."""
    process = start_broker(port := free_port(), tmp_path / "broker.log")
    address = f"127.0.0.1:{port}"
    create_topics(KafkaConfig(bootstrap_servers=address), [Topic(EVENTS_TOPIC, 2)])
    done = subprocess.run(
        [sys.executable, "-c", _DYING, address, str(process.pid)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    process.wait()
    assert done.stdout.startswith(f"Kafka at {address} does not take events")
    assert (done.stdout.count("\n"), done.stderr, done.returncode) == (1, "", 0)
