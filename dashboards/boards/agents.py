"""Panels about the agents as their users meet them: success, traffic, latency, satisfaction.

Shares come with how many they rest on and their 95 % Wilson interval. What is not known is NULL in
the query and "unknown" on the panel, never 0.
"""

from __future__ import annotations

from dashboards import panels
from dashboards.boards.judged import ENDED_HERE, INTERACTIONS, SESSIONS
from dashboards.query import (
    CELL_TIME,
    CELLS,
    IN_CELLS,
    INTERACTION_SCOPE,
    Json,
    quantile_ms,
    wilson,
)

_AGENT = "${__field.labels.agent}"

_JUDGED = "count(success)"
_SUCCEEDED = "countIf(success = 1)"


def success_now() -> Json:
    """One number: success of everything selected."""
    return panels.stat(
        1,
        "Success rate",
        "Share of the judged interactions in the time range that succeeded. The table below has "
        "the number it rests on and its interval.",
        f"SELECT avgOrNull(success) AS success FROM {INTERACTIONS}",
        "percentunit",
        panels.SHARE_STEPS,
        decimals=1,
    )


def interactions_now() -> Json:
    """One number: interactions of everything selected."""
    return panels.stat(
        2,
        "Interactions",
        "User requests whose last event lies in the time range, finished or not.",
        f"SELECT count() AS interactions FROM interactions WHERE {ENDED_HERE}",
        "short",
        panels.PLAIN_STEPS,
    )


def latency_now() -> Json:
    """One number: p95 of interactions."""
    return panels.stat(
        3,
        "p95 latency",
        "95 % of the interactions in the time range took at most this long, exact to 1 %.",
        f"""
        {CELLS}
        SELECT {quantile_ms(0.95)} AS p95
        FROM
        (
            SELECT sumMap(duration_bins, duration_counts) AS histogram
            FROM windows FINAL
            WHERE {IN_CELLS} AND {INTERACTION_SCOPE}
        )
        """,
        "ms",
        panels.PLAIN_STEPS,
    )


def satisfaction_now() -> Json:
    """One number: mean rating of the rated interactions."""
    return panels.stat(
        4,
        "Satisfaction",
        "Mean explicit feedback, 0 to 1, over the interactions that got any. See below how few "
        "of them that may be.",
        f"SELECT avgOrNull(rating) AS satisfaction FROM {INTERACTIONS}",
        "percentunit",
        panels.SHARE_STEPS,
        decimals=1,
    )


def success_by_agent() -> Json:
    """Success of every agent version with n and interval."""
    low, high = wilson("succeeded", "judged")
    return panels.table(
        10,
        "Success by agent and version",
        "Share of the judged interactions that succeeded, how many it rests on, and its 95 % "
        "Wilson interval. An outcome that was reported decides, else the status at the end; "
        "without either an interaction is open and counts neither way. Cost is the mean over the "
        "interactions whose price is fully known.",
        f"""
        SELECT environment, agent, agent_version,
            count() AS interactions,
            {_JUDGED} AS judged,
            interactions - judged AS open,
            {_SUCCEEDED} AS succeeded,
            succeeded / nullIf(judged, 0) AS success_rate,
            {low} AS low,
            {high} AS high,
            avg(duration_ms) AS mean_duration,
            avgOrNull(cost_usd) AS mean_cost,
            count(cost_usd) AS priced
        FROM {INTERACTIONS}
        GROUP BY environment, agent, agent_version
        ORDER BY low ASC NULLS LAST, agent, agent_version
        """,
        {
            "success_rate": "percentunit",
            "low": "percentunit",
            "high": "percentunit",
            "mean_duration": "ms",
            "mean_cost": "currencyUSD",
        },
        steps={"success_rate": panels.SHARE_STEPS},
    )


def sessions() -> Json:
    """Sessions of every agent version: success and satisfaction with n and interval."""
    low, high = wilson("succeeded", "judged")
    return panels.table(
        14,
        "Sessions by agent and version",
        "Whole conversations with an interaction in the time range. An outcome reported for the "
        "session decides on its success, else how its last interaction ended. Satisfaction is the "
        "mean feedback on the sessions that got any, for themselves or their interactions.",
        f"""
        SELECT environment, agent, agent_version,
            count() AS sessions,
            {_JUDGED} AS judged,
            sessions - judged AS open,
            {_SUCCEEDED} AS succeeded,
            succeeded / nullIf(judged, 0) AS success_rate,
            {low} AS low,
            {high} AS high,
            sum(interactions) / sessions AS interactions_each,
            avgOrNull(rating) AS satisfaction,
            count(rating) AS rated,
            rated / sessions AS coverage
        FROM {SESSIONS}
        GROUP BY environment, agent, agent_version
        ORDER BY low ASC NULLS LAST, agent, agent_version
        """,
        {
            "success_rate": "percentunit",
            "low": "percentunit",
            "high": "percentunit",
            "satisfaction": "percentunit",
            "coverage": "percentunit",
        },
        steps={"success_rate": panels.SHARE_STEPS, "satisfaction": panels.SHARE_STEPS},
    )


def success_with_interval() -> Json:
    """Success of everything selected over time, as a band."""
    low, high = wilson("succeeded", "judged")
    return panels.timeseries(
        11,
        "Success rate and what it may be by chance",
        "Success of all selected agents together, with its 95 % Wilson interval: a wide band means "
        "few interactions.",
        f"""
        SELECT time, succeeded / nullIf(judged, 0) AS success, {low} AS low, {high} AS high
        FROM
        (
            SELECT $__timeInterval(end) AS time, {_SUCCEEDED} AS succeeded, {_JUDGED} AS judged
            FROM {INTERACTIONS}
            GROUP BY time
        )
        ORDER BY time
        """,
        "percentunit",
        low=0,
        high=1,
        interval="1m",
        overrides=[
            panels.override(
                "high", [("custom.fillBelowTo", "low"), ("custom.lineWidth", 0), *_BAND]
            ),
            panels.override("low", [("custom.lineWidth", 0), *_BAND]),
        ],
    )


_BAND = (
    ("custom.fillOpacity", 20),
    ("color", {"mode": "fixed", "fixedColor": "blue"}),
    ("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False}),
)


def success_over_time() -> Json:
    """Success of each agent over time."""
    return panels.timeseries(
        12,
        "Success rate by agent",
        "Share of the judged interactions of each interval that succeeded. A gap: there were none.",
        f"""
        SELECT $__timeInterval(end) AS time, agent, avgOrNull(success) AS success_rate
        FROM {INTERACTIONS}
        GROUP BY time, agent ORDER BY time, agent
        """,
        "percentunit",
        name=_AGENT,
        low=0,
        high=1,
        interval="1m",
    )


def traffic() -> Json:
    """Interactions per minute of each agent."""
    return panels.timeseries(
        13,
        "Interactions per minute",
        "User requests per minute by agent, at the time of their last event.",
        f"""
        SELECT $__timeInterval(end) AS time, agent,
            count() * 60 / $__interval_s AS interactions
        FROM interactions WHERE {ENDED_HERE}
        GROUP BY time, agent ORDER BY time, agent
        """,
        "reqpm",
        name=_AGENT,
        low=0,
        stacked=True,
    )


def latency() -> Json:
    """Three percentiles of interactions over time."""
    return panels.timeseries(
        20,
        "Latency of interactions",
        "Half, 95 % and 99 % of the interactions of all selected agents took at most this long; "
        "exact to 1 %.",
        f"""
        {CELLS}
        SELECT time, {quantile_ms(0.5)} AS p50, {quantile_ms(0.95)} AS p95,
            {quantile_ms(0.99)} AS p99
        FROM
        (
            SELECT {CELL_TIME}, sumMap(duration_bins, duration_counts) AS histogram
            FROM windows FINAL
            WHERE {IN_CELLS} AND {INTERACTION_SCOPE}
            GROUP BY time
        )
        ORDER BY time
        """,
        "ms",
    )


def latency_by_agent() -> Json:
    """95th percentile of each agent over time."""
    return panels.timeseries(
        21,
        "p95 latency by agent",
        "95 % of the agent's interactions took at most this long, exact to 1 %.",
        f"""
        {CELLS}
        SELECT time, agent, {quantile_ms(0.95)} AS p95
        FROM
        (
            SELECT {CELL_TIME}, agent, sumMap(duration_bins, duration_counts) AS histogram
            FROM windows FINAL
            WHERE {IN_CELLS} AND {INTERACTION_SCOPE}
            GROUP BY time, agent
        )
        ORDER BY time, agent
        """,
        "ms",
        name=_AGENT,
    )


def satisfaction() -> Json:
    """Explicit feedback with how much of the traffic it speaks for."""
    low, high = wilson("sum_ratings", "rated")
    return panels.table(
        50,
        "Explicit satisfaction",
        "Mean of the feedback that users gave on interactions, 0 to 1; coverage is the share of "
        "the interactions that got any. The interval is Wilson's, which for ratings between 0 "
        "and 1 errs on the wide side; it says nothing about those who gave no feedback.",
        f"""
        SELECT environment, agent, agent_version, count() AS interactions,
            count(rating) AS rated, rated / interactions AS coverage,
            sumOrNull(rating) AS sum_ratings, sum_ratings / rated AS satisfaction,
            {low} AS low, {high} AS high
        FROM {INTERACTIONS}
        GROUP BY environment, agent, agent_version
        ORDER BY agent, agent_version, environment
        """,
        {
            "coverage": "percentunit",
            "satisfaction": "percentunit",
            "low": "percentunit",
            "high": "percentunit",
        },
        width=14,
        steps={"satisfaction": panels.SHARE_STEPS},
    )


def satisfaction_over_time() -> Json:
    """Mean rating of each agent's interactions over time."""
    return panels.timeseries(
        51,
        "Satisfaction by agent",
        "Mean explicit feedback of the interactions that ended in each interval and got any.",
        f"""
        SELECT $__timeInterval(end) AS time, agent, avg(rating) AS satisfaction
        FROM {INTERACTIONS}
        WHERE rating IS NOT NULL
        GROUP BY time, agent ORDER BY time, agent
        """,
        "percentunit",
        name=_AGENT,
        low=0,
        high=1,
        interval="5m",
        width=10,
    )
