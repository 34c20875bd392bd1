"""Judging facts: one fault in an otherwise healthy system is one complaint, with what to do."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from infra.doctor import clickhouse, kafka, surroundings
from infra.doctor.clickhouse import Setting
from infra.settings import load
from infra.topics import driftline_topics

TOPICS = driftline_topics(4, 168)
CONFIG = {
    **TOPICS[0].config,
    "min.insync.replicas": "2",
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
}
TOPIC = kafka.TopicFacts(partitions=4, replicas=3, config=CONFIG)
CLUSTER = kafka.Snapshot(brokers=3, topics={topic.name: TOPIC for topic in TOPICS})
SERVER = clickhouse.Snapshot(
    version=(26, 8),
    settings={
        **{name: Setting(rule.wanted[0], False) for name, rule in clickhouse.SETTINGS.items()},
        # Defaults of a server that statements of ours change.
        "async_insert": Setting("1", False),
        "insert_deduplicate": Setting("1", False),
        "readonly": Setting("0", False),
        "max_execution_time": Setting("0", False),
        "max_memory_usage": Setting("0", False),
    },
    disks={"default": (500 << 30, 1000 << 30)},
    parts={"events": 40},
    system_logs={"query_log": 1 << 30},
)


def topic(**changes: Any) -> kafka.Snapshot:
    """The cluster with one topic that differs."""
    config = {**CONFIG, **changes.pop("config", {})}
    different = replace(TOPIC, config=config, **changes)
    return replace(CLUSTER, topics={**CLUSTER.topics, TOPICS[0].name: different})


def setting(name: str, value: str, *, fixed: bool = False) -> clickhouse.Snapshot:
    return replace(SERVER, settings={**SERVER.settings, name: Setting(value, fixed)})


KAFKA = {
    "unreachable": kafka.Snapshot(error="no broker answers"),
    "codecs": replace(CLUSTER, missing_codecs=("lz4",)),
    "denied": replace(CLUSTER, denied=frozenset({TOPICS[0].name})),
    "topic_missing": replace(CLUSTER, topics={t.name: TOPIC for t in TOPICS[1:]}),
    "partitions": topic(partitions=3),
    "leaderless": topic(leaderless=1),
    "under_replicated": topic(under_replicated=2),
    "replication": topic(replicas=1),
    "retention": topic(config={"retention.ms": "3600000"}),
    "retention_bytes": topic(config={"retention.bytes": "1000000"}),
    "compaction": topic(config={"cleanup.policy": "compact,delete"}),
    "message_size": topic(config={"max.message.bytes": "1048588"}),
    "unclean_election": topic(config={"unclean.leader.election.enable": "true"}),
    "insync": topic(config={"min.insync.replicas": "1"}),
    "insync_all": topic(config={"min.insync.replicas": "3"}),
}
CLICKHOUSE = {
    "unreachable": clickhouse.Snapshot(error="refused"),
    "version": replace(SERVER, version=(24, 8)),
    "rights": replace(SERVER, lacking=("ALTER",)),
    "no_database": replace(SERVER, pending=None),
    "pending_migrations": replace(SERVER, pending=("0007_refused_names",)),
    "newer_schema": replace(SERVER, unknown=("9999_later",)),
    "setting_async_insert": setting("async_insert", "1", fixed=True),
    "setting_insert_deduplicate": setting("insert_deduplicate", "1", fixed=True),
    "setting_max_partitions_per_insert_block": setting(
        "max_partitions_per_insert_block", "100", fixed=True
    ),
    "setting_join_use_nulls": setting("join_use_nulls", "1"),
    "setting_read_overflow_mode": setting("read_overflow_mode", "break"),
    "setting_group_by_overflow_mode": setting("group_by_overflow_mode", "any"),
    "setting_max_execution_time": setting("max_execution_time", "5"),
    "setting_max_memory_usage": setting("max_memory_usage", "100000000"),
    "readonly": setting("readonly", "1"),
    "disk": replace(SERVER, disks={"default": (1 << 30, 100 << 30)}),
    "parts": replace(SERVER, parts={"events": 1500}),
    "broken_parts": replace(SERVER, detached={"events": 2}),
    "mutation": replace(SERVER, stuck={"events": "Cannot parse"}),
    "readonly_replica": replace(SERVER, readonly_replicas=("events",)),
    "system_log": replace(SERVER, system_logs={"trace_log": 50 << 30}),
    "clickhouse_skew": replace(SERVER, skew_s=-90.0),
    "future_events": replace(SERVER, future_s=3600.0),
    "unpriced": replace(SERVER, unpriced={"new-model": 12}),
}


def test_a_healthy_system_is_told_nothing() -> None:
    assert list(kafka.judge(CLUSTER, TOPICS)) == []
    assert list(clickhouse.judge(SERVER)) == []
    assert list(surroundings.of_settings(load())) == []


@pytest.mark.parametrize("code", KAFKA)
def test_a_fault_of_kafka_is_one_complaint(code: str) -> None:
    found = list(kafka.judge(KAFKA[code], TOPICS))
    assert [complaint.code for complaint in found] == [code]
    assert found[0].what
    assert found[0].do


@pytest.mark.parametrize("code", CLICKHOUSE)
def test_a_fault_of_clickhouse_is_one_complaint(code: str) -> None:
    found = list(clickhouse.judge(CLICKHOUSE[code]))
    assert [complaint.code for complaint in found] == [code]
    assert found[0].do


CLUSTERED = {
    "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "DRIFTLINE_CLICKHOUSE_URL": "http://127.0.0.1:8123",
    "DRIFTLINE_REDACTION_KEY": "key",
}
SETTINGS = {
    "gateway_without_tls": {"DRIFTLINE_GATEWAY_HOST": "0.0.0.0", "tokens": "yes"},
    "redaction_key": {"DRIFTLINE_REDACTION_KEY": ""},
    "clickhouse_without_tls": {"DRIFTLINE_CLICKHOUSE_URL": "http://db.example.com:8123"},
    "kafka_without_tls": {"DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9092"},
    "idle_workers": {"DRIFTLINE_PROCESSING_WORKERS": "5"},
    "capture_full": {"DRIFTLINE_REDACTION_CAPTURE": "full"},
    "retention_below_kafka": {"DRIFTLINE_RETENTION_ENVIRONMENTS": '{"staging": 7}'},
    "results_before_events": {
        "DRIFTLINE_RETENTION_RAW_DAYS": "60",
        "DRIFTLINE_RETENTION_RESULTS_DAYS": "30",
    },
}


@pytest.mark.parametrize("code", SETTINGS)
def test_settings_that_do_not_go_together(
    code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = {**CLUSTERED, "DRIFTLINE_HOME": str(tmp_path), **SETTINGS[code]}
    if variables.pop("tokens", ""):
        (tmp_path / "tokens.json").write_text("{}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert [complaint.code for complaint in surroundings.of_settings(load())] == [code]


def test_a_gateway_that_others_reach_needs_tokens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    monkeypatch.setenv("DRIFTLINE_GATEWAY_HOST", "0.0.0.0")
    codes = [complaint.code for complaint in surroundings.of_settings(load())]
    assert codes == ["gateway_without_tokens", "gateway_without_tls"]


def test_prices_grow_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def codes(text: str) -> list[str]:
        path = tmp_path / "prices.json"
        path.write_text(text)
        monkeypatch.setenv("DRIFTLINE_PRICES_FILE", str(path))
        return [found.code for found in surroundings.of_prices(load(), date(2026, 11, 1))]

    assert codes('{"models": {}, "date": "2026-10-01"}') == []
    assert codes('{"models": {}, "date": "2026-01-01"}') == ["prices_old"]
    assert codes('{"models": {}}') == ["prices_without_date"]
    assert codes('{"models": 1}') == ["prices_unreadable"]


def test_notifiers_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    monkeypatch.setenv("DRIFTLINE_NOTIFY_ALERTMANAGER_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("DRIFTLINE_NOTIFY_SERVICES", "json://127.0.0.1")
    assert list(surroundings.of_notifiers(load())) == []
    listening.close()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    found = list(surroundings.of_notifiers(load()))
    assert [complaint.code for complaint in found] == ["apprise_missing", "notifier_unreachable"]
    assert f"127.0.0.1:{port}" in found[1].what


def test_at_least_twenty_faults_are_planted() -> None:
    assert len({*KAFKA, *CLICKHOUSE, *SETTINGS}) >= 20
