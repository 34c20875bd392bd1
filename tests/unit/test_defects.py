"""The list of defects names tests that are there, and nothing is kept that only tests use."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
# `detectors` is a library: some of it is for whoever builds on it.
PRODUCT = ("ingest", "processors", "dashboards", "infra")
# Called by name from Faust and http.server, and by whoever tests with the log in memory.
CALLED_BY_OTHERS = {
    "_new_consumer_thread", "on_first_start", "handle_error", "do_GET", "do_POST",
    "end_transaction", "delete_before",
}  # fmt: skip


def test_every_defect_names_tests_that_exist() -> None:
    page = (ROOT / "docs/decisions/0035-defects-and-their-tests.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*$", page, re.MULTILINE)
    assert rows == [str(number) for number in range(1, len(rows) + 1)]
    for line in page.splitlines():
        if re.match(r"\| \d+ \|", line):
            assert LISTED.search(line), line
    for file, name in LISTED.findall(page):
        tree = ast.parse((ROOT / file).read_text())
        *owners, test = name.split("::")
        for owner in owners:
            (tree,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner)  # type: ignore[assignment]
        assert test in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, name


def defined(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(node, kinds) and not node.decorator_list and not node.name.startswith("__"):
            yield node.name


def test_nothing_is_used_by_tests_alone() -> None:
    texts = [
        file.read_text() for package in (*PRODUCT, "detectors", "bench")
        for file in (ROOT / package).rglob("*.py")
        if not re.search(r"/(\.|env-)", str(file.relative_to(ROOT)))  # environments of peers
    ]  # fmt: skip
    words = Counter(
        word for text in texts for word in re.findall(r"\w+", re.sub(r">>>.*", "", text))
    )
    words.update(re.findall(r"\w+", (ROOT / "pyproject.toml").read_text()))
    unused = {
        name for package in PRODUCT for file in (ROOT / package).rglob("*.py")
        for name in defined(file.read_text()) if words[name] == 1
    }  # fmt: skip
    assert unused == CALLED_BY_OTHERS
