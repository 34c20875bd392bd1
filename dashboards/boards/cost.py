"""The dashboard `driftline-cost`: tokens and money."""

from __future__ import annotations

from dashboards import panels
from dashboards.boards import links
from dashboards.query import Json, agent, environment, overlays, version


def build() -> Json:
    """Dashboard about what agents cost."""
    return panels.dashboard(
        links.COST,
        "Driftline cost",
        "What do the agents cost, per interaction and per success, and what has no price?",
        [
            ("Cost", [by_version(), over_time(), tokens()]),
            ("By model", [models()]),
        ],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
        time_from="now-24h",
    )


def by_version() -> Json:
    """Tokens and cost of every agent version."""
    return panels.table(
        41,
        "Tokens and cost by agent and version",
        "Known cost is the sum over the interactions whose whole cost is known: a lower bound "
        "where some are unpriced. Cost per success is mean cost times interactions, by successes.",
        "usage.cost_by_version",
        {
            "input_tokens": "short",
            "cached_tokens": "short",
            "output_tokens": "short",
            "cached_share": "percentunit",
            "known_cost": "currencyUSD",
            "mean_cost": "currencyUSD",
            "cost_per_success": "currencyUSD",
        },
        height=10,
        links=links.BY_VERSION,
    )


def over_time() -> Json:
    """Cost per hour by agent."""
    return panels.timeseries(
        42,
        "Known cost per hour",
        "Cost of the interactions whose whole cost is known, per hour, of the twelve busiest "
        "agents.",
        "usage.cost_over_time",
        "currencyUSD",
        name="${__field.labels.agent}",
        low=0,
        stacked=True,
        interval="1m",
        link=links.OF_AGENT,
    )


def tokens() -> Json:
    """Tokens per minute, in and out."""
    return panels.timeseries(
        40,
        "Tokens per minute",
        "Tokens read, of them from a cache, and written, as far as the agents report them.",
        "usage.tokens",
        "short",
        low=0,
        interval="1m",
        link=links.INTERACTIONS,
    )


def models() -> Json:
    """Every model: calls, tokens, cost."""
    return panels.table(
        43,
        "Models",
        "Calls of each model, their errors, tokens and known cost; unpriced are the calls with "
        "tokens and without a price.",
        "usage.models",
        {
            "input_tokens": "short",
            "output_tokens": "short",
            "known_cost": "currencyUSD",
            "p95": "ms",
        },
        steps={"unpriced": ((None, "text"), (1, "orange"))},
    )
