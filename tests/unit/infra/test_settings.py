"""Settings: sources, precedence, and errors that name the setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.settings import describe, load
from infra.settings.detection import detection_config
from ingest.core.errors import UsageError
from processors.stations.detection import AgentDetection


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    Path("driftline.toml").write_text(text)


def error(**given: object) -> str:
    with pytest.raises(UsageError) as caught:
        load(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_start_the_embedded_runtime() -> None:
    settings = load()
    assert settings.kafka.bootstrap_servers is None
    assert settings.clickhouse.url is None
    assert settings.home == Path(".driftline")


def test_command_line_wins_over_environment_wins_over_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("port_base = 2000\n[kafka]\npartitions = 8\nretention_hours = 2\n")
    monkeypatch.setenv("DRIFTLINE_KAFKA_PARTITIONS", "16")
    monkeypatch.setenv("DRIFTLINE_PORT_BASE", "3000")
    settings = load({"port_base": 4000, "home": None})
    assert settings.port_base == 4000
    assert settings.kafka.partitions == 16
    assert settings.kafka.retention_hours == 2
    sources = {setting.name: setting.source for setting in describe(settings, {"port_base": 4000})}
    assert sources["port_base"] == "command line"
    assert sources["kafka.partitions"] == "DRIFTLINE_KAFKA_PARTITIONS"
    assert sources["kafka.retention_hours"] == "driftline.toml"
    assert sources["home"] == "default"


def test_the_file_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[clickhouse]\nurl = "https://ch:8443/"\n')
    monkeypatch.setenv("DRIFTLINE_CONFIG", str(other))
    assert load().clickhouse.url == "https://ch:8443"
    other.unlink()
    assert "which does not exist" in error()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DRIFTLINE_KAFKA_PARTITIONS", "many", ["DRIFTLINE_KAFKA_PARTITIONS", "integer", "many"]),
        ("DRIFTLINE_KAFKA_PARTITIONS", "0", ["greater than or equal to 1"]),
        ("DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS", "kafka", ["BOOTSTRAP_SERVERS", "host:port"]),
        ("DRIFTLINE_KAFKA_SECURITY_PROTOCOL", "TLS", ["'SASL_SSL'", "'TLS'"]),
        ("DRIFTLINE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", ["kafka.sasl_mechanism"]),
        ("DRIFTLINE_KAFKA_SSL_CAFILE", "/no/such.pem", ["SSL_CAFILE", "does not exist"]),
        ("DRIFTLINE_CLICKHOUSE_URL", "ch:9000", ["CLICKHOUSE_URL", "http://host:port"]),
        ("DRIFTLINE_CLICKHOUSE_DATABASE", "a-b", ["CLICKHOUSE_DATABASE"]),
        ("DRIFTLINE_KAFKA_BOOTSTRAP", "a:1", ["did you mean DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS?"]),
        ("driftline_home", "x", ["did you mean DRIFTLINE_HOME?"]),
        ("DRIFTLINE_XYZZY", "1", ["`driftline settings`"]),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_expected(
    variable: str, value: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    message = error()
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kafka]\npartitons = 3\n", ["kafka.partitons in driftline.toml", "kafka.partitions?"]),
        ("[kafka]\npartitions = 'x'\n", ["kafka.partitions in driftline.toml", "integer"]),
        ("[kafak]\npartitions = 3\n", ["kafak in driftline.toml is not a setting"]),
        ("kafka = 3\n", ["kafka in driftline.toml"]),
        ("[kafka\n", ["not valid TOML"]),
        ("\x00", ["not valid TOML"]),
    ],
)
def test_a_wrong_file_is_named_with_what_is_expected(text: str, words: list[str]) -> None:
    write(text)
    message = error()
    for word in words:
        assert word in message


def test_a_wrong_argument_is_named() -> None:
    assert error(port_base=80).startswith("--port-base: ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DRIFTLINE_CLICKHOUSE_PASSWORD", "hunter2-secret"),
        ("DRIFTLINE_CLICKHOUSE_URL", "http://user:hunter2-secret@host:1"),
        ("DRIFTLINE_KAFKA_SASL_PASSWORD", "hunter2-secret"),
        ("DRIFTLINE_GRAFANA_TOKEN", "hunter2-secret"),
    ],
)
def test_no_secret_is_ever_shown(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    try:
        settings = load()
    except UsageError as refused:
        shown = str(refused)
    else:
        shown = (
            repr(settings)
            + repr(describe(settings))
            + json.dumps([setting.value for setting in describe(settings)])
        )
        assert "********" in shown
    assert "hunter2" not in shown


def test_every_setting_says_what_it_is_for() -> None:
    described = describe(load())
    assert len({setting.variable for setting in described}) == len(described) > 25
    for setting in described:
        assert len(setting.description) > 15, setting.name


def test_detection_differs_by_agent() -> None:
    write(
        "[detection]\nwarm_up = 300\n[detection.agents.shop]\nseverity = 'notice'\n"
        "[detection.agents.bank]\nmin_effect = 0.2\n"
    )
    found = detection_config(load().detection)
    assert (found.warm_up, found.min_effect) == (300, 0.01)
    assert found.agents == {
        "shop": AgentDetection("notice"), "bank": AgentDetection(min_effect=0.2)
    }  # fmt: skip
    write("[detection.agents.shop]\nseverity = 'loud'\n")
    assert "detection.agents.shop.severity" in error()
