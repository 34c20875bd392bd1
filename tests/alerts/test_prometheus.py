"""The Prometheus rules by promtool of Debian's package; `make test-alerts`."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.common import REPOSITORY

pytestmark = pytest.mark.alerts

RULES = REPOSITORY / "infra" / "deploy" / "prometheus" / "driftline.rules.yaml"
CASES = REPOSITORY / "tests" / "alerts" / "driftline.rules.test.yaml"


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def test_promtool_accepts_the_rules():
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stderr
    assert "14 rules found" in checked.stdout


def test_the_rules_fire_and_end_as_they_should():
    tested = promtool("test", "rules", str(CASES))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_changed_rule_fails_its_case(tmp_path):
    changed = tmp_path / "rules.yaml"
    changed.write_text(RULES.read_text().replace("> 300", "> 900"))
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        CASES.read_text().replace(
            "../../infra/deploy/prometheus/driftline.rules.yaml", str(changed)
        )
    )
    assert promtool("test", "rules", str(cases)).returncode != 0


def test_every_alert_has_a_case():
    alerts = [line.split()[-1] for line in RULES.read_text().splitlines() if "- alert:" in line]
    cases = CASES.read_text()
    assert [name for name in alerts if f"alertname: {name}" not in cases] == []
