"""The chaos suite is a black box: it imports nothing of the project, not even by way of helpers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.common import REPOSITORY

PROJECT = {"dashboards", "detectors", "infra", "ingest", "processors"}
CHAOS = REPOSITORY / "tests" / "chaos"


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; also by name, as a string."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            assert name not in ("__import__", "import_module", "exec", "eval"), f"{path}: {name}()"


def closure(paths: list[Path]) -> dict[Path, set[str]]:
    """Imports of files and of every file under ``tests`` that they import."""
    found: dict[Path, set[str]] = {}
    while paths:
        path = paths.pop()
        if path in found:
            continue
        found[path] = set(imports(path))
        for name in found[path]:
            module = REPOSITORY.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith("tests.") and module.is_file():
                paths.append(module)
    return found


def test_chaos_imports_nothing_of_the_project() -> None:
    found = closure(sorted(CHAOS.glob("*.py")))
    assert len(found) > 10, "the suite is not where this test looks"
    guilty = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path, names in found.items()
        for name in names
        if name.split(".")[0] in PROJECT
    }
    assert not guilty


def test_the_look_at_imports_is_not_blind() -> None:
    found = closure([REPOSITORY / "tests" / "kafka" / "harness.py"])
    assert any(name.split(".")[0] in PROJECT for names in found.values() for name in names)
