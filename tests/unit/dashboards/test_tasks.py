"""docs/tasks.md names what is there: commands, panels, questions."""

import re

import pytest
from typer.main import get_command

from dashboards import publisher
from infra.cli import app
from tests.support.common import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "tasks.md").read_text()
COMMANDS = sorted(set(re.findall(r"`driftline ([^`]+)`", DOCUMENT)))
PANELS = re.findall(r'(\w+): ((?:"[^"]+"(?:, )?)+)', DOCUMENT)
TITLES = {
    board["uid"].removeprefix("driftline-"): {panel["title"] for panel in board["panels"]}
    for board in publisher.dashboards()
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_there_with_its_options(line):
    command = get_command(app)
    for word in line.split():
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
    assert command is not get_command(app)
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", line)) <= known


def test_a_panel_is_on_its_dashboard():
    missing = [
        (board, title)
        for board, titles in PANELS
        for title in re.findall('"([^"]+)"', titles)
        if title not in TITLES[board]
    ]
    assert missing == []
    assert len(PANELS) >= 10


def test_a_question_is_in_the_document():
    questions = re.findall("^### (.+)$", (REPOSITORY / "docs" / "sql.md").read_text(), re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", q.lower()).replace(" ", "-") for q in questions}
    anchors.add("what-is-easily-got-wrong")
    assert set(re.findall(r"sql\.md#([\w-]+)", DOCUMENT)) <= anchors
