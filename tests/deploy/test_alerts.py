"""The alerts by Prometheus' own checker and test runner: each fires when it should."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.rendering import ROOT, TOOLS

pytestmark = pytest.mark.deploy

RULES = ROOT / "infra" / "deploy" / "alerts" / "driftline.rules.yaml"
PROMTOOL = TOOLS / "bin" / "promtool"
# Alert: what is scraped every minute, and what labels it fires with; without change it does not.
SERIES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "DriftlineUnhealthy": ({'driftline_healthy{instance="a"}': "0x40"}, {"instance": "a"}),
    "DriftlineUnready": ({'driftline_ready{instance="a"}': "0x40"}, {"instance": "a"}),
    "DriftlinePartitionStalled": (
        {'driftline_stalled_seconds{topic="t",partition="1"}': "0+60x40"},
        {"topic": "t", "partition": "1"},
    ),
    "DriftlineLagGrows": (
        {'driftline_lag_records{topic="t",partition="1"}': "2000+100x40"},
        {"topic": "t"},
    ),
    "DriftlineMarksWait": ({'driftline_marks_pending{partition="1"}': "5+1x40"}, {}),
    "DriftlineDeadLetters": ({'driftline_dead_letters_total{code="c"}': "0+50x40"}, {"code": "c"}),
    "DriftlineRetries": ({'driftline_retries_total{instance="a"}': "0+60x40"}, {"instance": "a"}),
    "DriftlineWorkersMissing": ({"other": "1x40"}, {}),
    "DriftlineGatewayWithoutKafka": (
        {'driftline_gateway_kafka_up{instance="a"}': "0x40"},
        {"instance": "a"},
    ),
    "DriftlineGatewayOverloaded": (
        {
            'driftline_gateway_requests_total{code="overloaded"}': "0+10x40",
            'driftline_gateway_requests_total{code="ok"}': "0+100x40",
        },
        {},
    ),
}
HEALTHY = {
    'driftline_healthy{instance="a"}': "1x40",
    'driftline_ready{instance="a"}': "1x40",
    'driftline_stalled_seconds{topic="t",partition="1"}': "0 5 0 9 0x36",
    'driftline_lag_records{topic="t",partition="1"}': "2000-10x40",
    'driftline_marks_pending{partition="1"}': "5 0 5 0 5x36",
    'driftline_dead_letters_total{code="c"}': "0+1x40",
    'driftline_retries_total{instance="a"}': "0+1x40",
    'driftline_rows_stored_total{instance="a"}': "0+1000x40",
    'driftline_gateway_kafka_up{instance="a"}': "1x40",
    'driftline_gateway_requests_total{code="ok"}': "0+100x40",
}


@pytest.fixture(autouse=True)
def _promtool() -> None:
    if not PROMTOOL.exists():
        pytest.skip("promtool is not there: make test-deploy fetches it on Debian")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


def fires(series: dict[str, str], alert: str, folder: Path) -> str:
    """What promtool tells of an alert that fires after 35 minutes; empty when it does not."""
    severity = next(
        rule["labels"]["severity"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if rule["alert"] == alert
    )
    test: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "alert_rule_test": [{"eval_time": "35m", "alertname": alert, "exp_alerts": []}],
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    done = run("test", "rules", path)
    if done.returncode == 0:
        return ""
    told = done.stdout + done.stderr
    assert f'severity="{severity}"' in told, told
    return told


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    assert run("check", "rules", RULES).returncode == 0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(RULES.read_text().replace("sum by (topic)", "sum by topic"))
    assert run("check", "rules", wrong).returncode != 0


@pytest.mark.parametrize("alert", SERIES)
def test_an_alert_fires_when_it_should(alert: str, tmp_path: Path) -> None:
    series, labels = SERIES[alert]
    found = fires(series, alert, tmp_path)
    assert found
    for name, value in labels.items():
        assert f'{name}="{value}"' in found


def test_no_alert_fires_on_a_healthy_system(tmp_path: Path) -> None:
    assert {alert for alert in SERIES if fires(HEALTHY, alert, tmp_path)} == set()


def test_every_alert_is_tested() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    assert {rule["alert"] for group in groups for rule in group["rules"]} == SERIES.keys()
