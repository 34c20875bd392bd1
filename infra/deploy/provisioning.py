"""Alert rules in the form that Grafana reads from files, made of those that `publish` sends.

``python -m infra.deploy.provisioning`` writes ``grafana/rules.json``; with ``--check`` it only
says, by exit code 1, that the file is not up to date. Fields have other names in files than over
HTTP (Grafana 12.2 and later), and ``$`` is doubled, for files have their variables replaced.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from dashboards import rules
from infra.settings.sections import GrafanaSettings

RULES: Final = Path(__file__).parent / "grafana" / "rules.json"

_IN_FILES: Final = {
    "keep_firing_for": "keepFiringFor",
    "missingSeriesEvalsToResolve": "missing_series_evals_to_resolve",
}
_PLACE: Final = frozenset({"folderUID", "orgID", "ruleGroup"})  # the file says it once per group


def provisioned() -> str:
    """Text of the file."""
    folder = GrafanaSettings().folder
    groups = [
        {
            "orgId": 1,
            "name": group["title"],
            "folder": folder,
            "interval": f"{group['interval']}s",
            "rules": [_rule(rule) for rule in group["rules"]],
        }
        for group in rules.rule_groups()
    ]
    return json.dumps(_escaped({"apiVersion": 1, "groups": groups}), indent=2) + "\n"


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    return {_IN_FILES.get(key, key): value for key, value in rule.items() if key not in _PLACE}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    return [_escaped(inner) for inner in value] if isinstance(value, list) else value


def main(arguments: list[str]) -> int:
    """Write or check the file."""
    text = provisioned()
    current = RULES.exists() and RULES.read_text("utf-8") == text
    if "--check" in arguments:
        return 0 if current else 1
    RULES.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
