"""The chart rendered by helm, and the renders that are committed.

``python -m tests.deploy.rendering`` writes ``golden/`` anew; review what changed.
"""

from __future__ import annotations

import copy
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "infra" / "deploy" / "chart" / "driftline"
GOLDEN = Path(__file__).parent / "golden"
TOOLS = ROOT / ".cache" / "deploy"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
KUBERNETES = ("1.33", "1.34", "1.35", "1.36", "1.37")

Manifest = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [TOOLS / "bin" / "helm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def template(*arguments: str | Path, kubernetes: str = "1.37") -> subprocess.CompletedProcess[str]:
    version = f"{kubernetes}.0"
    return helm(
        "template", "try", CHART, "--namespace", "agents", "--kube-version", version, *arguments
    )


def manifests(text: str) -> list[Manifest]:
    return [found for found in yaml.safe_load_all(text) if found]


def rendered(values: Path) -> list[Manifest]:
    """What a file of values renders to."""
    return copy.deepcopy(manifests(text_of(values)))


@cache
def text_of(values: Path) -> str:
    """The same as text; fails with helm's own words."""
    done = template("--values", values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def golden(found: list[Manifest]) -> str:
    """Text to compare, without the dashboards, which have a check of their own."""
    for manifest in found:
        if manifest["kind"] == "ConfigMap" and "grafana_dashboard" in manifest["metadata"].get(
            "labels", {}
        ):
            for name, text in manifest["data"].items():
                manifest["data"][name] = f"dashboard {json.loads(text)['uid']}"
    return yaml.safe_dump_all(found, sort_keys=True, width=100)


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for path in GOLDEN.glob("*.yaml"):
        path.unlink()
    for values in VALUES:
        (GOLDEN / values.name.replace("-values", "")).write_text(golden(rendered(values)))


if __name__ == "__main__":
    main()
