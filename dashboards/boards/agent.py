"""The dashboard `driftline-agent`: one agent by version, tool, model, language, reason."""

from __future__ import annotations

from dashboards import panels
from dashboards.boards import links, overview
from dashboards.query import Json, agent, environment, overlays, version


def build() -> Json:
    """Dashboard for the people who build an agent."""
    return panels.dashboard(
        links.AGENT,
        "Driftline agent",
        "How is this agent doing, by version, tool, model and language? Choose one agent above.",
        [
            ("Now", overview.now()),
            ("Versions", [overview.success_by_version(), by_version(), overview.success_band()]),
            ("What fails", [reasons(), reasons_seen(), *tools()]),
            ("Models and languages", [models(), languages()]),
            ("How long it takes", [overview.latency(), first_token()]),
            ("What users say", [satisfaction(), ratings(), estimates(), comments()]),
            ("Steps", [loops()]),
        ],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
    )


def by_version() -> Json:
    """Success of each version over time."""
    return panels.timeseries(
        15,
        "Success rate by version",
        "Share of the interactions of each interval that succeeded, by version.",
        "agents.success_by_version_over_time",
        "percentunit",
        name="${__field.labels.version}",
        low=0,
        high=1,
        interval="1m",
        link=links.FAILED,
    )


def reasons() -> Json:
    """Failures by primary reason over time."""
    return panels.timeseries(
        61,
        "Failures per minute by reason",
        "Failed interactions per minute, by the primary reason of each.",
        "agents.reasons_over_time",
        "short",
        name="${__field.labels.reason}",
        low=0,
        stacked=True,
        interval="1m",
        link=links.FAILED,
    )


def reasons_seen() -> Json:
    """Every reason that interactions and sessions show."""
    return panels.table(
        35,
        "What went wrong, failure or not",
        "How many interactions and sessions show each reason, and how many of them failed by it. "
        "Reasons of which experience does not say that they mean failure only mark.",
        "agents.reasons_seen",
        {"share_of_interactions": "percentunit", "share_of_sessions": "percentunit"},
    )


def tools() -> list[Json]:
    """Every tool, and its errors over time."""
    return [
        panels.timeseries(
            30,
            "Tool error rate by agent",
            "Share of the tool calls and retrievals of each interval that failed, of the twelve "
            "busiest agents. A gap: no calls.",
            "usage.tool_errors",
            "percentunit",
            name="${__field.labels.agent}",
            low=0,
            high=1,
            interval="1m",
            link=links.OF_AGENT,
        ),
        panels.table(
            31,
            "Tools",
            "Calls and failures of each tool or retrieval, the failed share with its 95 % Wilson "
            "interval, and how long a call took. The surely worst first.",
            "usage.tools",
            {
                "error_rate": "percentunit",
                "low": "percentunit",
                "high": "percentunit",
                "p50": "ms",
                "p95": "ms",
            },
            links=links.BY_TOOL,
        ),
    ]


def models() -> Json:
    """Success by model."""
    return panels.table(
        32,
        "Success by model",
        "Interactions in which each model took part; one that used several counts for each.",
        "agents.success_by_model",
        {
            "rate": "percentunit",
            "low": "percentunit",
            "high": "percentunit",
            "mean_duration": "ms",
            "mean_cost": "currencyUSD",
        },
        width=14,
    )


def languages() -> Json:
    """Success by language of the request."""
    return panels.table(
        33,
        "Success by language",
        "Interactions by the language of the request, as far as it is known.",
        "agents.success_by_language",
        {"rate": "percentunit", "low": "percentunit", "high": "percentunit"},
        width=10,
    )


def first_token() -> Json:
    """Time to the first token."""
    return panels.timeseries(
        23,
        "Time to first token",
        "Half and 95 % of the interactions showed their first token within this time, exact to "
        "1 %; of those that say it.",
        "agents.first_token",
        "ms",
        interval="1m",
        link=links.INTERACTIONS,
    )


def satisfaction() -> Json:
    """Explicit feedback with how much of the traffic it speaks for."""
    return panels.table(
        50,
        "Satisfaction by version",
        "Mean of the feedback that users gave, 0 to 1, with its interval; coverage is the share of "
        "the interactions that got any. Dissatisfaction is estimated from what was said and done; "
        "its coverage is how much of that could be read.",
        "agents.satisfaction_by_version",
        {
            "coverage": "percentunit",
            "satisfaction": "percentunit",
            "low": "percentunit",
            "high": "percentunit",
            "estimated_dissatisfaction": "percentunit",
            "estimate_coverage": "percentunit",
        },
        width=14,
        links=links.BY_VERSION,
    )


def ratings() -> Json:
    """Mean rating over time."""
    return panels.timeseries(
        51,
        "Satisfaction by agent",
        "Mean explicit feedback of the interactions that ended in each interval and got any, of "
        "the twelve busiest agents.",
        "agents.satisfaction_over_time",
        "percentunit",
        name="${__field.labels.agent}",
        low=0,
        high=1,
        interval="5m",
        width=10,
        link=links.OF_AGENT,
    )


def estimates() -> Json:
    """Mean estimate over time."""
    return panels.timeseries(
        53,
        "Estimated dissatisfaction by agent",
        "Mean estimate of the interactions that ended in each interval and in which the user said "
        "something, of the twelve busiest agents. No feedback is part of it.",
        "agents.dissatisfaction_over_time",
        "percentunit",
        name="${__field.labels.agent}",
        low=0,
        high=1,
        interval="5m",
        link=links.OF_AGENT,
    )


def comments() -> Json:
    """What users wrote."""
    return panels.table(
        52,
        "Comments",
        "What users wrote with their feedback, with the rating and the tool that failed, the "
        "latest first.",
        "agents.comments",
        {"rating": "percentunit"},
        widths={"comment": 480},
        links=links.BY_INTERACTION,
    )


def loops() -> Json:
    """Interactions with many steps."""
    return panels.table(
        34,
        "Long interactions",
        "Interactions with twenty steps and more: agents that go round in circles are among them.",
        "usage.loops",
        {"cost": "currencyUSD", "input_tokens": "short", "output_tokens": "short"},
        links=links.BY_INTERACTION,
    )
