"""The Prometheus rules by the lint rules of mixtool, and against what they refer to."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from tests.support.common import REPOSITORY

RULES = REPOSITORY / "infra" / "deploy" / "prometheus" / "driftline.rules.yaml"


def groups():
    return yaml.safe_load(RULES.read_text())["groups"]


def lint(found):
    """Faults by the ten rules of mixtool."""
    faults = []
    for group in found:
        if len(group["name"]) > 40:
            faults.append(f"{group['name']}: group name")
        if len(group["rules"]) > 20:
            faults.append(f"{group['name']}: more than 20 rules")
        for rule in group["rules"]:
            faults += [f"{rule['alert']}: {fault}" for fault in faults_of(rule)]
    return faults


def faults_of(rule):
    notes = rule.get("annotations", {})
    summary, description = notes.get("summary", ""), notes.get("description", "")
    checks = {
        "name is not CamelCase": re.fullmatch(r"([A-Z][a-z0-9]+)+", rule["alert"]),
        "name is longer than 40": len(rule["alert"]) <= 40,
        "severity": rule.get("labels", {}).get("severity") in ("warning", "critical", "info"),
        "no description": description,
        "description without a template": "{{" in description or "instance" in description,
        "no summary": summary,
        "summary with a template": "{{" not in summary,
        "summary without a capital": summary[:1].isupper(),
        "summary without a period": summary.endswith("."),
        "runbook": (REPOSITORY / notes.get("runbook_url", "none")).is_file(),
    }
    return [fault for fault, good in checks.items() if not good]


def test_the_rules_are_clean():
    assert lint(groups()) == []


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("alert", "driftline_down", "name is not CamelCase"),
        ("alert", "D" + "x" * 40, "name is longer than 40"),
        ("labels", {"severity": "page"}, "severity"),
        ("summary", "lower case.", "summary without a capital"),
        ("summary", "No period", "summary without a period"),
        ("summary", "Templated {{ $value }}.", "summary with a template"),
        ("description", "Plain.", "description without a template"),
        ("description", "", "no description"),
        ("runbook_url", "docs/runbooks/None.md", "runbook"),
    ],
)
def test_a_planted_fault_is_found(field, value, fault):
    found = copy.deepcopy(groups())
    rule = found[0]["rules"][0]
    (rule if field in rule else rule["annotations"])[field] = value
    assert any(line.endswith(fault) for line in lint(found))


def test_every_metric_of_a_rule_is_documented():
    documented = set(
        re.findall(r"^\| `(driftline_\w+)`", (REPOSITORY / "docs/metrics.md").read_text(), re.M)
    )
    used = {
        re.sub(r"_bucket$", "", name)
        for group in groups() for rule in group["rules"]
        for name in re.findall(r"driftline_\w+", rule["expr"])
    }  # fmt: skip
    assert used
    assert used <= documented


def test_every_runbook_belongs_to_a_rule():
    named = {r["annotations"]["runbook_url"] for g in groups() for r in g["rules"]}
    kept = {
        f"docs/runbooks/{path.name}" for path in (REPOSITORY / "docs" / "runbooks").glob("*.md")
    }
    assert named == kept
