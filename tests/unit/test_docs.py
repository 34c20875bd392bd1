"""What the documents name exists: files, sections, tests, commands, settings, targets."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from infra.cli import app
from infra.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("infra/**/*.md")]
    if "target" not in page.parts
)  # fmt: skip
FOLDERS = ("ingest", "processors", "detectors", "dashboards", "infra", "bench", "tests", "docs")
MADE = {"dist/driftline.cdx.json", "dashboards/queries/toy.sql"}
"""Files that a command or a recipe makes."""
COMMANDS = get_command(app)
TEXTS = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}


@TEXTS
def test_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)]*)\)", page.read_text()):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), anchor


@TEXTS
def test_files_exist(page: Path) -> None:
    names = rf"`((?:{'|'.join(FOLDERS)})/[\w/.-]+|[A-Z][\w.]+\.md)`"
    missing = [name for name in re.findall(names, page.read_text()) if not (ROOT / name).exists()]
    assert set(missing) <= MADE


def test_tests_exist() -> None:
    known = {
        (file.name, node.name)
        for file in ROOT.glob("tests/**/test_*.py") if "env-" not in str(file)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }  # fmt: skip
    files = {file for file, _ in known}
    for page in PAGES:
        for file, name in re.findall(r"\b(test_\w+\.py)(?:::(\w+))?", page.read_text()):
            assert (file, name) in known if name else file in files, (page.name, file, name)


def commands(text: str) -> Iterator[str]:
    """What follows `driftline` in code, up to the end of the command."""
    for code in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL):
        for line in "\n".join(code).replace("\\\n", " ").splitlines():
            yield from re.findall(r"(?:^|[$/|] ?)driftline ([a-z][^|;&#]*)", line)


@TEXTS
def test_commands_have_their_options(page: Path) -> None:
    for line in commands(page.read_text()):
        command = COMMANDS
        for word in line.split():
            if word not in getattr(command, "commands", {}):
                break
            command = command.commands[word]
        assert command is not COMMANDS, line
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        given = set(re.findall(r"(?<=[ \[])--?[a-z][a-z-]*", re.sub(r'"[^"]*"', "", line)))
        assert given <= known, line


@TEXTS
def test_settings_exist(page: Path) -> None:
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    for section, name in re.findall(r"`([a-z]+)\.([a-z_]+)(?: = [^`]*)?`", page.read_text()):
        fields = getattr(sections.get(section), "model_fields", {})
        known = not fields or name in fields or f"{section}.{name}" in GONE
        assert known or name in ("file", "py", "toml", "txt", "token"), f"{section}.{name}"


GONE = {"detection.arl"}
"""Named by the changelog, which says what replaces it."""


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    known |= {f"fuzz-{name}" for name in re.findall(r"DECODERS := (.*)", makefile)[0].split()}
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z-]+)", page.read_text())) <= known, page.name
