"""Faults planted in a real broker and a real engine are found; a healthy system is told nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboards import publisher
from infra.commands.doctor import complaints
from infra.commands.grafana import grafana_config
from infra.doctor import asking
from infra.doctor import clickhouse as judging
from infra.embedded.broker import start_broker
from infra.embedded.process import stop
from infra.settings import load
from infra.topics import Topic, admin_client, create_topics, driftline_topics
from ingest.core.kafka import KafkaConfig
from tests.conftest import PASSWORD, READER_PASSWORD, ClickHouse, run_driftline
from tests.support.common import free_port
from tests.support.fake_grafana import TOKEN, serve


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaConfig]:
    """A broker of its own, for its topics are planted with faults."""
    port = free_port()
    process = start_broker(port, tmp_path_factory.mktemp("doctor") / "broker.log")
    yield KafkaConfig(bootstrap_servers=f"127.0.0.1:{port}")
    stop(process)


@pytest.fixture
def system(
    kafka: KafkaConfig, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[str]]:
    """A healthy system; called with changed variables it returns the codes of what is wrong."""
    create_topics(kafka, driftline_topics(4, 168))
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"models": {}, "date": f"{datetime.now(UTC):%Y-%m-%d}"}))
    healthy = {
        "DRIFTLINE_HOME": str(tmp_path),
        "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "DRIFTLINE_CLICKHOUSE_URL": clickhouse.url,
        "DRIFTLINE_CLICKHOUSE_PASSWORD": PASSWORD,
        "DRIFTLINE_CLICKHOUSE_DATABASE": clickhouse.database,
        "DRIFTLINE_REDACTION_KEY": "key",
        "DRIFTLINE_PRICES_FILE": str(prices),
    }
    for name, value in healthy.items():
        monkeypatch.setenv(name, value)

    def codes(**changes: str) -> list[str]:
        with monkeypatch.context() as patch:
            for name, value in changes.items():
                patch.setenv(f"DRIFTLINE_{name}", value)
            return [complaint.code for complaint in complaints(load())]

    return codes


@contextmanager
def made_anew(kafka: KafkaConfig, wrong: Topic | None, **config: str) -> Iterator[None]:
    """The topic of findings, gone or made otherwise, and afterwards as it was."""

    class Other(Topic):
        @property
        def config(self) -> dict[str, str]:
            return {**Topic.config.fget(self), **config}  # type: ignore[attr-defined]

    name = "driftline.findings"

    def replace_by(topic: Topic | None) -> None:
        with admin_client(kafka) as admin:
            admin.delete_topics([name])
        if topic is not None:
            create_topics(kafka, [topic])

    replace_by(None if wrong is None else Other(name, wrong.partitions, wrong.retention_hours))
    try:
        yield
    finally:
        if wrong is not None:
            replace_by(None)
        create_topics(kafka, driftline_topics(4, 168))


def test_a_healthy_system_is_told_nothing(system: Callable[..., list[str]]) -> None:
    assert system() == []


def test_neighbours_that_are_away(system: Callable[..., list[str]]) -> None:
    closed = free_port()
    assert system(KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{closed}") == ["unreachable"]
    assert system(CLICKHOUSE_URL=f"http://127.0.0.1:{closed}") == ["unreachable"]
    assert system(CLICKHOUSE_PASSWORD="wrong") == ["unreachable"]


def test_topics(system: Callable[..., list[str]], kafka: KafkaConfig) -> None:
    right = Topic("driftline.findings", 4, 168)
    with made_anew(kafka, None):
        assert system() == ["topic_missing"]
    with made_anew(kafka, Topic("driftline.findings", 2, 168)):
        assert system() == ["partitions"]
    with made_anew(kafka, Topic("driftline.findings", 4, 12)):
        assert system() == ["retention"]
    with made_anew(kafka, right, **{"cleanup.policy": "compact"}):
        assert system() == ["compaction"]
    with made_anew(kafka, right, **{"max.message.bytes": "1000000"}):
        assert system() == ["message_size"]
    assert system() == []


def test_schema(system: Callable[..., list[str]], clickhouse: ClickHouse) -> None:
    assert system(CLICKHOUSE_DATABASE="not_there_yet") == ["no_database"]
    with clickhouse.client() as client:
        history = f"{clickhouse.database}.schema_migrations"
        client.command(f"ALTER TABLE {history} DELETE WHERE name = '0007_refused_names'"
                       " SETTINGS mutations_sync = 2")  # fmt: skip
        assert system() == ["pending_migrations"]
        client.insert(history, [["0007_refused_names", "x"], ["9999_later", "x"]],
                      column_names=["name", "checksum"])  # fmt: skip
        assert system() == ["newer_schema"]


def test_a_user_who_only_reads(system: Callable[..., list[str]]) -> None:
    found = system(CLICKHOUSE_USER="reader", CLICKHOUSE_PASSWORD=READER_PASSWORD)
    assert {"readonly", "unreachable"} & set(found)  # our engine lets it read no system tables


def test_events_tell_of_clocks_and_prices(
    system: Callable[..., list[str]], clickhouse: ClickHouse
) -> None:
    columns = ["time", "event_id", "agent", "kind", "model", "input_tokens"]
    with clickhouse.client() as client:
        row = [datetime.now(UTC), "a", "support", "llm_call", "new-model", 10]
        client.insert("events", [row], column_names=columns)
        assert system() == ["unpriced"]
        row = [datetime.now(UTC) + timedelta(hours=2), "b", "support", "tool_call", "", None]
        client.insert("events", [row], column_names=columns)
        assert system() == ["future_events", "unpriced"]


def test_parts_disk_and_clock(
    system: Callable[..., list[str]], clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with clickhouse.client() as client:
        client.command("SYSTEM STOP MERGES heartbeats")
        for number in range(3):
            client.insert(
                "heartbeats", [[datetime.now(UTC), "processors", str(number), ""]],
                column_names=["ts", "component", "instance", "detail"],
            )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(judging, "_PARTS", 3)  # a thousand of them would take minutes
        assert set(system()) == {"parts"}
    with monkeypatch.context() as patch:
        patch.setattr(judging, "_FREE_BYTES", 1 << 60)
        patch.setattr(judging, "_FREE_SHARE", 1.0)
        assert system() == ["disk"]
    ours = asking.time.time
    monkeypatch.setattr(asking.time, "time", lambda: ours() + 60)
    assert system() == ["clickhouse_skew"]


def test_grafana(system: Callable[..., list[str]]) -> None:
    with serve() as fake:
        where = {
            "GRAFANA_URL": fake.url,
            "GRAFANA_TOKEN": TOKEN,
            "GRAFANA_CLICKHOUSE_USER": "reader",
        }
        assert system(**where) == ["grafana_behind"]
        assert system(**where | {"GRAFANA_TOKEN": "wrong"}) == ["grafana_refuses"]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in where.items():
                patch.setenv(f"DRIFTLINE_{name}", value)
            publisher.publish(grafana_config(load()))
        assert system(**where) == []
        fake.clickhouse_works = False
        assert system(**where) == ["grafana_cannot_query"]
        fake.plugins.clear()
        assert system(**where) == ["grafana_refuses"]


def test_the_command_says_what_to_do(
    system: Callable[..., list[str]], tmp_path: Path, kafka: KafkaConfig
) -> None:
    del system  # its variables are those of this process
    healthy = run_driftline("doctor", home=tmp_path)
    assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")
    # Advice is no fault.
    loud = run_driftline(
        "doctor", home=tmp_path, environment={"DRIFTLINE_REDACTION_CAPTURE": "full"}
    )
    assert loud.returncode == 0
    assert "advice" in loud.stdout
    with made_anew(kafka, None):
        wrong = run_driftline("doctor", "--json", home=tmp_path)
    told: dict[str, Any] = json.loads(wrong.stdout)
    assert wrong.returncode == 1
    assert told["healthy"] is False
    assert told["complaints"][0]["code"] == "topic_missing"
    assert "driftline migrate" in told["complaints"][0]["do"]


def test_storage_of_a_real_database(
    system: Callable[..., list[str]], clickhouse: ClickHouse, tmp_path: Path
) -> None:
    del system  # its variables are those of this process
    now = datetime.now(UTC)
    with clickhouse.client() as client:
        rows = [[now - timedelta(days=n), str(n), "support", "tool_call"] for n in range(40)]
        client.insert(
            "events", rows, column_names=["time", "event_id", "agent", "kind"],
            settings={"max_partitions_per_insert_block": 0},
        )  # fmt: skip
    done = run_driftline("storage", "--json", "--keep", "30", home=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    events = next(table for table in told["tables"] if table["name"] == "events")
    assert events["rows"] == 40
    assert events["oldest"] == f"{now - timedelta(days=39):%Y-%m-%d}"
    assert 0 < events["bytes_per_day"] < events["bytes"]
    assert (
        events["bytes"] / 40 * 5 < events["freed"] < events["bytes"] / 40 * 13
    )  # nine days of them
    assert told["days_left"] > 7
    shown = run_driftline("storage", home=tmp_path)
    assert shown.stdout.startswith("table\trows\tMB")
