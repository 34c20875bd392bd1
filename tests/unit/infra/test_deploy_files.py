"""Files of infra/deploy that need no tool to be checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.deploy import supply
from ingest.core import telemetry
from ingest.gateway import metrics as gateway_metrics
from tests.support.grafana_schema import rule_group_faults

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra" / "deploy"
GROUPS = yaml.safe_load((DEPLOY / "alerts" / "driftline.rules.yaml").read_text())["groups"]
RULES = [pytest.param(rule, id=rule["alert"]) for group in GROUPS for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES)
def test_an_alert_follows_the_rules_of_mixins(rule: dict[str, Any]) -> None:
    summary, description = (rule["annotations"][key] for key in ("summary", "description"))
    assert re.fullmatch(r"([A-Z][a-z0-9]*)+", rule["alert"])
    assert len(rule["alert"]) <= 40
    assert rule["labels"]["severity"] in ("warning", "critical", "info")
    assert "{{" in description
    assert "{{" not in summary
    assert re.fullmatch(r"[A-Z].*\.", summary)


def test_groups_of_alerts_are_small_and_named() -> None:
    assert all(len(group["rules"]) <= 20 and len(group["name"]) <= 40 for group in GROUPS)
    names = [rule["alert"] for group in GROUPS for rule in group["rules"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("rule", RULES)
def test_an_alert_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert gateway_metrics.REQUESTS  # which registers those of the gateway
    exposed = {
        metric.name + ("_total" if metric.type == "counter" else ""): metric
        for metric in telemetry.REGISTRY.collect()
    }
    asked = set(re.findall(r"\bdriftline_\w+", rule["expr"]))
    assert asked
    assert asked <= exposed.keys()


def test_what_is_started_are_commands_of_today() -> None:
    from infra.cli import command_line

    given = [DEPLOY / "compose.yml", DEPLOY / "chart" / "driftline" / "values.yaml"]
    named = {n for f in given for n in re.findall(r"(?:command|args): \[(\w+)", f.read_text())}
    known = command_line().commands
    assert named >= {"gateway", "receiver", "worker"}
    assert all(not known[name].hidden for name in named - {"CMD"})


def test_the_checker_of_published_rules_takes_them_too() -> None:
    from dashboards import rules

    assert [fault for group in rules.rule_groups() for fault in rule_group_faults(group)] == []


def test_the_data_source_is_the_one_that_dashboards_ask() -> None:
    from dashboards.query import DATASOURCE_NAME, DATASOURCE_UID, PLUGIN

    source = yaml.safe_load((DEPLOY / "grafana" / "datasources.yaml").read_text())["datasources"][0]
    assert (source["uid"], source["name"], source["type"]) == (
        DATASOURCE_UID,
        DATASOURCE_NAME,
        PLUGIN,
    )


def test_notice_names_what_the_lock_holds_and_no_licence_that_binds_users() -> None:
    listed = dict(re.findall(r"^([\w.-]+) (\S+): ", supply.NOTICE.read_text(), re.M))
    assert listed == supply.locked()
    licences = re.findall(r"^[\w.-]+ \S+: (.+)$", supply.NOTICE.read_text(), re.M)
    # crc32c is a library that is called, and may be replaced, as the LGPL asks.
    assert {text for text in licences if "GPL" in text} == {"LGPL-2.1-or-later"}


def test_versions_of_chart_and_package_are_the_same() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((DEPLOY / "chart" / "driftline" / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
    assert f"DRIFTLINE_VERSION:-{version}" in (DEPLOY / "compose.yml").read_text()
