"""The compose file, by the schema of the Compose specification and by its own parser."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.settings import load
from tests.deploy.rendering import ROOT, TOOLS

pytestmark = pytest.mark.deploy

FILE = ROOT / "infra" / "deploy" / "compose.yml"
PASSWORDS = {
    "CLICKHOUSE_DRIFTLINE_PASSWORD": "one",
    "CLICKHOUSE_GRAFANA_PASSWORD": "two",
    "GRAFANA_ADMIN_PASSWORD": "three",
    "DRIFTLINE_REDACTION_KEY": "four",
}


def schema_check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [TOOLS / "env/bin/check-jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def parse(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], **environment}
    command = [TOOLS / "bin" / "compose", path]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


@pytest.fixture(scope="module")
def project() -> Any:
    done = parse(FILE, **PASSWORDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_follows_the_specification() -> None:
    done = schema_check(FILE)
    assert done.returncode == 0, done.stdout


def test_both_validators_find_a_planted_fault(tmp_path: Path) -> None:
    text = FILE.read_text()
    (tmp_path / "compose.yml").write_text(text.replace("    ports:", "    prots:"))
    assert schema_check(tmp_path / "compose.yml").returncode != 0
    (tmp_path / "compose.yml").write_text(text.replace("migrate: {condition", "migrat: {condition"))
    done = parse(tmp_path / "compose.yml", **PASSWORDS)
    assert done.returncode != 0
    assert "migrat" in done.stderr


@pytest.mark.parametrize("name", PASSWORDS)
def test_it_does_not_start_without_a_password(name: str) -> None:
    done = parse(FILE, **{other: value for other, value in PASSWORDS.items() if other != name})
    assert done.returncode != 0
    assert name in done.stderr


def test_the_example_names_every_variable_that_is_needed() -> None:
    example = (FILE.parent / "env.example").read_text()
    for name in PASSWORDS:
        assert f"\n{name}=\n" in f"\n{example}"


def test_every_file_that_is_mounted_exists(project: Any) -> None:
    mounts = [
        volume["source"]
        for service in project["services"].values()
        for volume in service.get("volumes") or []
        if volume["type"] == "bind"
    ]
    assert mounts
    assert [source for source in mounts if not Path(source).is_file()] == []


def test_grafana_gets_every_dashboard_and_no_rule_group_for_one(project: Any) -> None:
    mounted = {
        Path(volume["source"]).name
        for volume in project["services"]["grafana"]["volumes"]
        if "/dashboards/driftline/" in volume["target"]
    }
    boards = {path.name for path in (ROOT / "dashboards" / "rendered").glob("driftline-*.json")}
    assert mounted == boards


def test_ports_are_open_on_this_machine_only(project: Any) -> None:
    published = {
        name: port["host_ip"]
        for name, service in project["services"].items()
        for port in service.get("ports") or []
    }
    assert published == {"gateway": "127.0.0.1", "grafana": "127.0.0.1"}


def test_driftline_understands_the_environment_and_the_command(
    project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from infra.cli import command_line

    monkeypatch.chdir(tmp_path)
    own = {
        name: service
        for name, service in project["services"].items()
        if service["image"].startswith("driftline:")
    }
    assert set(own) == {"migrate", "tokens", "gateway", "receiver", "worker"}
    for name, service in own.items():
        with monkeypatch.context() as patch:
            for variable, value in (service.get("environment") or {}).items():
                patch.setenv(variable, value)
            load()
        if name != "tokens":
            assert service["command"][0] in command_line().commands
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        role = service["image"].rpartition("-")[2]
        assert (ROOT / "requirements" / f"{role}.txt").exists()


def test_nothing_starts_before_the_tables(project: Any) -> None:
    for name in ("gateway", "receiver", "worker"):
        condition = project["services"][name]["depends_on"]["migrate"]["condition"]
        assert condition == "service_completed_successfully"
