"""The command line: help for everything, one line per error, the exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from infra.cli import command_line
from tests.conftest import run_driftline


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


COMMANDS = {name: c for name, c in commands(command_line()) if not c.hidden}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    text = COMMANDS[name].help
    assert text.splitlines()[0].strip().endswith(".")
    examples = text.partition("\n\n\b\nExamples:\n")[2].splitlines()
    assert any(line.startswith("  driftline ") and name in line for line in examples)
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", "ok"), parameter.name


def test_examples_name_commands_and_options_that_exist() -> None:
    whole = command_line()
    groups = [whole, *(c for c in whole.commands.values() if hasattr(c, "commands"))]
    lines = [
        line.split("|")[0].split("#")[0].strip()
        for command in [*groups, *COMMANDS.values()]
        for line in command.help.partition("\n\n\b\nExamples:\n")[2].splitlines()
    ]
    checked = [line for line in lines if line.startswith("driftline ")]
    assert len(checked) > len(COMMANDS)
    for line in checked:
        command, words = whole, line.split()[1:]
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_without_a_command_it_prints_help_and_is_wrong_use(tmp_path: Path) -> None:
    shown = run_driftline(home=tmp_path)
    assert shown.returncode == 2
    assert shown.stdout.startswith("Usage: driftline")
    assert "  driftline demo\n" in shown.stdout
    assert shown.stderr == ""


def test_it_says_its_version(tmp_path: Path) -> None:
    assert run_driftline("--version", home=tmp_path).stdout == version("driftline") + "\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "No such command"),
        (["up", "--port-base", "x"], 2, "--port-base"),
        (["up", "--port-base", "80"], 2, "--port-base"),
        (["sql"], 2, "Missing argument"),
        (["sql", "  ;"], 2, "there is no query"),
        (["sql", "SELECT 1"], 3, "driftline up"),
        (["migrate"], 3, "driftline up"),
        (["regressions", "export", "--agent", "a", "--format", "nope"], 2, "there are jsonl"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    done = run_driftline(*arguments, home=tmp_path)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("driftline: ")
    assert words in done.stderr
    assert done.stdout == ""


def test_a_wrong_setting_stops_every_command_at_start(tmp_path: Path) -> None:
    done = run_driftline(
        "status", home=tmp_path, environment={"DRIFTLINE_KAFKA_PARTITIONS": "none"}
    )
    assert done.returncode == 2
    assert done.stderr.startswith("driftline: DRIFTLINE_KAFKA_PARTITIONS: expected")
    assert done.stderr.count("\n") == 1


def test_an_error_with_json_is_one_object(tmp_path: Path) -> None:
    done = run_driftline("sql", "SELECT 1", "--json", home=tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stderr)["exit_code"] == 3
    assert done.stdout == ""


def test_status_of_nothing_answers_no(tmp_path: Path) -> None:
    done = run_driftline("status", "--json", home=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["running"] is False
    assert run_driftline("down", home=tmp_path).returncode == 0


def test_settings_and_schema_print_json(tmp_path: Path) -> None:
    settings = json.loads(run_driftline("settings", "--json", home=tmp_path).stdout)
    assert {"name", "variable", "value", "source", "description"} == set(settings[0])
    schema = json.loads(run_driftline("schema", home=tmp_path).stdout)
    assert "$schema" in schema or "properties" in schema or "$ref" in schema
