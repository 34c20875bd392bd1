"""The dashboard `driftline-overview`: are the agents healthy, what got worse, since when."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards import panels
from dashboards.boards import links
from dashboards.query import Json, agent, environment, overlays, version
from dashboards.slo import DEFAULT, Slo, attainment_rows

_BAND = (
    ("custom.fillOpacity", 20),
    ("color", {"mode": "fixed", "fixedColor": "blue"}),
    ("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False}),
)
BAND = (
    panels.override("high", [("custom.fillBelowTo", "low"), ("custom.lineWidth", 0), *_BAND]),
    panels.override("low", [("custom.lineWidth", 0), *_BAND]),
)
"""How a line's interval is drawn."""

RATE = {
    "success": "percentunit", "low": "percentunit", "high": "percentunit",
}  # fmt: skip


def build(slos: Sequence[Slo] = DEFAULT) -> Json:
    """Dashboard for everybody."""
    return panels.dashboard(
        links.OVERVIEW,
        "Driftline overview",
        "Are the agents healthy, what got worse, and since when?",
        [
            ("Now", now()),
            ("Objectives and changes", [objectives(slos), changes(), *open_findings()]),
            ("How well", [success_by_version(), success_band(), success_by_agent(), sessions()]),
            ("Traffic and latency", [traffic(), latency(), latency_by_agent(), deployments()]),
        ],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
    )


def now() -> list[Json]:
    """Six numbers of the time range."""
    interval = {"low": "percentunit", "high": "percentunit", "n": "short"}
    return [
        panels.stat(
            1,
            "Success rate",
            "Share of the interactions whose success is known that succeeded, its 95 % interval, "
            "and how many it rests on. Known is it from an outcome, a trusted score, or the end.",
            "agents.success_now",
            "percentunit",
            panels.PLAIN_STEPS,
            width=6,
            decimals=1,
            units=interval,
            link=links.FAILED,
        ),
        panels.stat(
            2,
            "Interactions",
            "User requests that ended in the time range; of them those still open and those given "
            "up because no end came.",
            "agents.interactions_now",
            "short",
            panels.PLAIN_STEPS,
            link=links.INTERACTIONS,
        ),
        panels.stat(
            3,
            "Latency",
            "Half, and 95 %, of the interactions took at most this long, exact to 1 %; and how "
            "many have a duration.",
            "agents.latency_now",
            "ms",
            panels.PLAIN_STEPS,
            units={"n": "short"},
            link=links.INTERACTIONS,
        ),
        panels.stat(
            4,
            "Satisfaction",
            "Mean explicit feedback, 0 to 1, with its interval, over the interactions that got "
            "any. It says nothing about the users who gave none.",
            "agents.satisfaction_now",
            "percentunit",
            panels.PLAIN_STEPS,
            width=4,
            decimals=1,
            units=interval,
            link=links.INTERACTIONS,
        ),
        panels.stat(
            5,
            "Known cost",
            "Sum over the interactions whose whole cost is known, and how many these are. Unknown "
            "when none is.",
            "usage.cost_now",
            "currencyUSD",
            panels.PLAIN_STEPS,
            width=3,
            units={"n": "short"},
            link=panels.link("Cost", links.COST, ("environment", "agent", "version")),
        ),
        panels.stat(
            6,
            "Open findings",
            "Findings that have not ended: those that page, and all.",
            "findings.open_now",
            "short",
            ((None, "green"), (1, "red")),
            width=3,
            units={"open": "short"},
            link=panels.link("Incidents", links.INCIDENTS, ("environment", "agent")),
        ),
    ]


def objectives(slos: Sequence[Slo]) -> Json:
    """Objectives with what is left of their error budgets."""
    return panels.table(
        7,
        "Objectives",
        "Share of the interactions that succeeded over the objective's days, what is left of the "
        "error budget, and how many times too fast it was used up in the last hour and six hours.",
        "report.attainment",
        {
            "objective": "percentunit",
            "attainment": "percentunit",
            "budget_left": "percentunit",
            "burn_hour": "none",
            "burn_six_hours": "none",
        },
        width=12,
        steps={"budget_left": ((None, "red"), (0.0, "orange"), (0.25, "green"))},
        links=links.BY_AGENT,
        rows={"objectives": attainment_rows(slos)},
    )


def changes() -> Json:
    """Agents against the period before, the worst first."""
    return panels.table(
        8,
        "What got worse",
        "Each agent against the period of the same length before. Worse or better: the 95 % "
        "intervals do not overlap. Slower, dearer and more traffic are relative changes.",
        "agents.changes",
        {
            **RATE,
            "success_before": "percentunit",
            "change": "percentunit",
            "slower": "percentunit",
            "dearer": "percentunit",
            "more_traffic": "percentunit",
        },
        width=12,
        steps={"change": ((None, "red"), (0.0, "text"))},
        links=links.BY_AGENT,
    )


def open_findings() -> list[Json]:
    """What is wrong now, and what Grafana's rules say."""
    return [
        panels.table(
            9,
            "What is wrong now",
            "Changes that a detector is sure about and that have not ended: before, now, and on "
            "how many interactions it rests.",
            "findings.open",
            {"lasts": "s"},
            width=16,
            widths={"title": 320},
            links=links.BY_AGENT,
        ),
        panels.alert_list(
            16,
            "Grafana alerts",
            "What the published rules say: findings, error budgets, and the monitor's own health.",
            '{source="driftline"}',
        ),
    ]


def success_by_version() -> Json:
    """Success of every agent version with n and interval."""
    return panels.table(
        10,
        "Success by agent and version",
        "Share of the interactions with known success that succeeded, how many are known, and the "
        "95 % Wilson interval. Cost is the mean over the interactions whose cost is known.",
        "agents.success_by_version",
        {**RATE, "mean_duration": "ms", "p95": "ms", "mean_cost": "currencyUSD"},
        links=links.BY_VERSION,
    )


def success_band() -> Json:
    """Success of everything selected over time, as a band."""
    return panels.timeseries(
        11,
        "Success rate and what it may be by chance",
        "Success of all selected agents together with its 95 % Wilson interval: a wide band means "
        "few interactions.",
        "agents.success_over_time",
        "percentunit",
        low=0,
        high=1,
        interval="1m",
        overrides=BAND,
        link=links.FAILED,
    )


def success_by_agent() -> Json:
    """Success of each agent over time."""
    return panels.timeseries(
        12,
        "Success rate by agent",
        "Share of the interactions of each interval that succeeded, of the twelve busiest agents. "
        "A gap: none were known.",
        "agents.success_by_agent_over_time",
        "percentunit",
        name="${__field.labels.agent}",
        low=0,
        high=1,
        interval="1m",
        link=links.FAILED_OF_AGENT,
    )


def sessions() -> Json:
    """Conversations of every agent version."""
    return panels.table(
        14,
        "Sessions by agent and version",
        "Whole conversations that ended in the time range: success by their own outcome, else by "
        "their last interaction; satisfaction over those that got feedback (coverage).",
        "agents.sessions_by_version",
        {
            **RATE,
            "satisfaction": "percentunit",
            "coverage": "percentunit",
            "mean_cost": "currencyUSD",
        },
        links=links.BY_VERSION,
    )


def traffic() -> Json:
    """Interactions per minute of each agent."""
    return panels.timeseries(
        13,
        "Interactions per minute",
        "User requests per minute of the twelve busiest agents, at their end.",
        "agents.traffic",
        "reqpm",
        name="${__field.labels.agent}",
        low=0,
        stacked=True,
        interval="1m",
        link=links.OF_AGENT,
    )


def latency() -> Json:
    """Three percentiles of interactions over time."""
    return panels.timeseries(
        20,
        "Latency of interactions",
        "Half, 95 % and 99 % of the interactions of all selected agents took at most this long; "
        "exact to 1 %.",
        "agents.latency",
        "ms",
        interval="1m",
        link=links.INTERACTIONS,
    )


def latency_by_agent() -> Json:
    """95th percentile of each agent over time."""
    return panels.timeseries(
        21,
        "p95 latency by agent",
        "95 % of the agent's interactions took at most this long, exact to 1 %; of the twelve "
        "busiest agents.",
        "agents.latency_by_agent",
        "ms",
        name="${__field.labels.agent}",
        interval="1m",
        link=links.OF_AGENT,
    )


def deployments() -> Json:
    """Versions seen for the first time."""
    return panels.table(
        22,
        "Deployments",
        "Versions that were first seen in the time range, and how they have done in it.",
        "agents.deployments",
        {"success": "percentunit"},
        width=12,
        links=links.BY_VERSION,
    )
