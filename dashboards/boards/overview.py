"""The dashboard `driftline-overview`: are the agents healthy, can the monitor be trusted."""

from __future__ import annotations

from typing import Final

from dashboards import panels
from dashboards.boards import agents, incidents, pipeline, usage
from dashboards.query import CELL_WIDTH, SELECTED_ENVIRONMENT, Json, query_variable

UID: Final = "driftline-overview"


def build() -> Json:
    """Dashboard for everybody."""
    return panels.dashboard(
        UID,
        "Driftline overview",
        "Are the agents healthy, and can the monitor be trusted?",
        [
            (
                "Now",
                [
                    agents.success_now(),
                    agents.interactions_now(),
                    agents.latency_now(),
                    agents.satisfaction_now(),
                    usage.cost_now(),
                    incidents.firing_now(),
                ],
            ),
            (
                "Success",
                [
                    agents.success_by_agent(),
                    agents.sessions(),
                    agents.success_with_interval(),
                    agents.success_over_time(),
                ],
            ),
            (
                "Traffic and latency",
                [agents.latency(), agents.latency_by_agent(), agents.traffic()],
            ),
            (
                "What went wrong",
                [
                    incidents.findings(),
                    incidents.alert_states(),
                    incidents.grafana_alerts(),
                    incidents.failure_groups(),
                    incidents.failures_over_time(),
                    incidents.evidence(),
                ],
            ),
            ("What users say", [agents.satisfaction(), agents.satisfaction_over_time()]),
            ("Tool calls", [usage.tools(), usage.tool_errors()]),
            ("Tokens and cost", [usage.cost(), usage.tokens()]),
            (
                "Can the monitor be trusted?",
                [
                    pipeline.throughput(),
                    pipeline.dead_letters(),
                    pipeline.watermarks(),
                    pipeline.heartbeats(),
                ],
            ),
        ],
        variables=[environment(), agent()],
        annotations=[incidents.alert_annotations()],
    )


def environment() -> Json:
    """Choose deployment environments."""
    return query_variable(
        "environment",
        "Environment",
        f"""
        WITH {CELL_WIDTH} AS width
        SELECT DISTINCT environment FROM windows FINAL
        WHERE width_s = width AND $__timeFilter(start)
        ORDER BY environment
        """,
    )


def agent() -> Json:
    """Choose agents of the chosen environments."""
    return query_variable(
        "agent",
        "Agent",
        f"""
        WITH {CELL_WIDTH} AS width
        SELECT DISTINCT agent FROM windows FINAL
        WHERE width_s = width AND $__timeFilter(start) AND {SELECTED_ENVIRONMENT}
        ORDER BY agent
        """,
    )
