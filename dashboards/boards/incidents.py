"""The dashboard `driftline-incidents`: what changed, since when, how sure, and why."""

from __future__ import annotations

from typing import Final

from dashboards import panels
from dashboards.boards import links, overview
from dashboards.query import Json, agent, environment, overlays, version

FINDINGS_PANEL_ID: Final = 72
"""The panel on which alert rules mark their states."""


def build() -> Json:
    """Dashboard for the person on call."""
    return panels.dashboard(
        links.INCIDENTS,
        "Driftline drift and incidents",
        "What changed, since when, how sure is it, and what is behind it?",
        [
            ("Now", [*overview.open_findings(), over_time()]),
            ("All of the time range", [findings(), evidence()]),
            ("Around it", [overview.success_band(), overview.latency(), overview.deployments()]),
        ],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
        time_from="now-24h",
    )


def over_time() -> Json:
    """Findings over time."""
    return panels.timeseries(
        FINDINGS_PANEL_ID,
        "Findings by severity",
        "When the detectors found something, by severity.",
        "findings.over_time",
        "short",
        name="${__field.labels.severity}",
        low=0,
        points=True,
        interval="1m",
        width=24,
        height=6,
    )


def findings() -> Json:
    """List all findings of the time range."""
    return panels.table(
        70,
        "Findings",
        "Changes that a detector is sure about and that were open at some moment of the time "
        "range. The e-value is the factor by which the data speak against 'nothing changed'.",
        "findings.list",
        {"e_value": "sci"},
        widths={"title": 320},
        links=links.BY_AGENT,
    )


def evidence() -> Json:
    """List the failure groups behind the findings."""
    return panels.table(
        71,
        "What fails in them",
        "The failure groups behind each finding: how often before it began, and how often since.",
        "findings.evidence",
        {},
        widths={"template": 380, "title": 280},
        links={**links.BY_AGENT, **links.BY_TOOL},
    )
