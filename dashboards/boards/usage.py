"""Panels about what the agents use: tools, tokens, money. Sums of events, from windows."""

from __future__ import annotations

from dashboards import panels
from dashboards.query import CELL_TIME, CELLS, IN_CELLS, Json, quantile_ms, wilson

_AGENT = "${__field.labels.agent}"


def cost_now() -> Json:
    """One number: what is known of the cost."""
    return panels.stat(
        5,
        "Known cost",
        "Sum of the priced calls in the time range. Calls without a price are missing in it; the "
        "table of cost counts them. Unknown when no call has a price.",
        f"""
        {CELLS}
        SELECT if(sum(priced) = 0, NULL, sum(cost_usd)) AS cost
        FROM windows FINAL WHERE {IN_CELLS} AND scope = 'all'
        """,
        "currencyUSD",
        panels.PLAIN_STEPS,
    )


def tool_errors() -> Json:
    """Share of failed tool calls over time."""
    return panels.timeseries(
        30,
        "Tool error rate by agent",
        "Share of the tool calls of each interval that failed. A gap: no calls.",
        f"""
        {CELLS}
        SELECT {CELL_TIME}, agent,
            sum(tool_errors) / nullIf(sum(tool_calls), 0) AS error_rate
        FROM windows FINAL WHERE {IN_CELLS} AND scope = 'all'
        GROUP BY time, agent ORDER BY time, agent
        """,
        "percentunit",
        name=_AGENT,
        low=0,
        high=1,
        interval="1m",
        width=10,
    )


def tools() -> Json:
    """Every tool: calls, errors with interval, latency."""
    low, high = wilson("errors", "calls")
    return panels.table(
        31,
        "Tools",
        "Calls and failures of each tool, the failed share with its 95 % Wilson interval, and "
        "percentiles of how long a call took.",
        f"""
        {CELLS}
        SELECT agent, tool, calls, errors, errors / nullIf(calls, 0) AS error_rate,
            {low} AS low, {high} AS high, {quantile_ms(0.5)} AS p50, {quantile_ms(0.95)} AS p95
        FROM
        (
            SELECT agent, replaceOne(scope, 'tool_call:', '') AS tool, sum(tool_calls) AS calls,
                sum(tool_errors) AS errors, sumMap(duration_bins, duration_counts) AS histogram
            FROM windows FINAL
            WHERE {IN_CELLS} AND startsWith(scope, 'tool_call:')
            GROUP BY agent, tool
        )
        ORDER BY errors DESC, calls DESC, agent, tool LIMIT 200
        """,
        {
            "error_rate": "percentunit",
            "low": "percentunit",
            "high": "percentunit",
            "p50": "ms",
            "p95": "ms",
        },
        width=14,
    )


def tokens() -> Json:
    """Tokens per minute, in and out."""
    return panels.timeseries(
        40,
        "Tokens per minute",
        "Tokens read, of them read from a cache, and written, as far as the agents report them.",
        f"""
        {CELLS}
        SELECT {CELL_TIME}, sum(input_tokens) * 60 / any(bucket) AS input,
            sum(cached_tokens) * 60 / any(bucket) AS cached,
            sum(output_tokens) * 60 / any(bucket) AS output
        FROM windows FINAL WHERE {IN_CELLS} AND scope = 'all'
        GROUP BY time ORDER BY time
        """,
        "short",
        low=0,
        interval="1m",
        width=10,
    )


def cost() -> Json:
    """Tokens and cost of every agent version."""
    return panels.table(
        41,
        "Tokens and cost by agent and version",
        "Known cost is the sum of the priced calls: a lower bound when there are model calls "
        "without a price, and unknown when no call has one. Tokens are unknown when none are "
        "reported.",
        f"""
        {CELLS}
        SELECT environment, agent, agent_version,
            nullIf(sum(input_tokens), 0) AS input,
            if(input IS NULL, NULL, sum(cached_tokens)) AS cached,
            nullIf(sum(output_tokens), 0) AS output,
            if(sum(priced) = 0, NULL, sum(cost_usd)) AS known_cost,
            sum(unpriced) AS calls_without_price
        FROM windows FINAL WHERE {IN_CELLS} AND scope = 'all'
        GROUP BY environment, agent, agent_version
        ORDER BY known_cost DESC NULLS LAST, agent, agent_version
        """,
        {"input": "short", "cached": "short", "output": "short", "known_cost": "currencyUSD"},
        width=14,
    )
