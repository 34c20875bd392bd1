"""The dashboard `driftline-versions`: versions side by side, with intervals."""

from __future__ import annotations

from dashboards import panels
from dashboards.boards import agent as agents
from dashboards.boards import links, overview
from dashboards.query import Json, agent, environment, overlays, version


def build() -> Json:
    """Dashboard for a decision on a version."""
    return panels.dashboard(
        links.VERSIONS,
        "Driftline versions",
        "Is the new version better? Choose one agent; `driftline compare` gives a verdict.",
        [
            ("Side by side", [together(), measures()]),
            ("Over time", [agents.by_version(), p95(), cost()]),
            ("What was deployed", [overview.deployments()]),
        ],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
        time_from="now-7d",
    )


def together() -> Json:
    """Versions in the hours in which several of them ran."""
    return panels.table(
        65,
        "Versions in the same hours",
        "Only hours in which several versions of the agent ran, so that an outage or a busy hour "
        "hits all of them. This is the fairer comparison.",
        "versions.together",
        {
            **overview.RATE,
            "p95": "ms",
            "mean_cost": "currencyUSD",
            "satisfaction": "percentunit",
        },
        links=links.BY_VERSION,
    )


def measures() -> Json:
    """Every measure of each version."""
    shares = (
        "success", "success_low", "success_high", "tool_error_rate", "tool_low", "tool_high",
        "satisfaction", "rating_low", "rating_high",
    )  # fmt: skip
    return panels.table(
        66,
        "Versions, all traffic",
        "Every measure with how many interactions it rests on, and 95 % intervals of the shares. "
        "Versions that ran at different times differ also by what happened then.",
        "versions.measures",
        {
            **dict.fromkeys(shares, "percentunit"),
            "p50": "ms",
            "p95": "ms",
            "mean_tokens": "short",
            "mean_cost": "currencyUSD",
        },
        height=10,
        links=links.BY_VERSION,
    )


def p95() -> Json:
    """Latency by version over time."""
    return panels.timeseries(
        67,
        "p95 latency by version",
        "95 % of the interactions of the version took at most this long, exact to 1 %.",
        "versions.p95_over_time",
        "ms",
        name="${__field.labels.version}",
        interval="1m",
        link=links.INTERACTIONS,
    )


def cost() -> Json:
    """Cost by version over time."""
    return panels.timeseries(
        68,
        "Cost of an interaction by version",
        "Mean cost of the interactions of the version whose cost is known.",
        "versions.cost_over_time",
        "currencyUSD",
        name="${__field.labels.version}",
        interval="1m",
        link=links.INTERACTIONS,
    )
