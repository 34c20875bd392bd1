"""The dashboard `driftline-evaluators`: who judges, how much, and how alike."""

from __future__ import annotations

from dashboards import panels
from dashboards.boards import links
from dashboards.query import Json, agent, environment, overlays, version

_SHARE = {"low": "percentunit", "high": "percentunit"}


def build() -> Json:
    """Dashboard about scores, outcomes and feedback."""
    return panels.dashboard(
        links.EVALUATORS,
        "Driftline evaluators",
        "Who judges the agents, how much of the traffic, and can the scores be trusted?",
        [("Who judges", [names(), agreement(), coverage(), over_time()])],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
        time_from="now-24h",
    )


def names() -> Json:
    """List every evaluator with what it gave."""
    return panels.table(
        90,
        "Evaluators",
        "Feedback, scores and outcomes by name: how many, on how many targets, mean and spread.",
        "evaluators.names",
        {},
        width=14,
    )


def agreement() -> Json:
    """Agreement of scores with outcomes."""
    return panels.table(
        91,
        "Agreement with outcomes",
        "Where a score and an outcome judge the same target: the share on which they agree, with "
        "its interval. Scores from 0.5 up count as good.",
        "evaluators.agreement",
        {"agreement": "percentunit", **_SHARE},
        width=10,
    )


def coverage() -> Json:
    """Share of the interactions that each evaluator judged."""
    return panels.table(
        92,
        "Coverage",
        "Share of the interactions of the last day of the time range that each evaluator judged.",
        "evaluators.coverage",
        {"coverage": "percentunit", **_SHARE},
        width=12,
    )


def over_time() -> Json:
    """Mean value of each evaluator over time."""
    return panels.timeseries(
        93,
        "Mean value by evaluator",
        "Mean of what each evaluator gave in the interval.",
        "evaluators.over_time",
        "none",
        name="${__field.labels.evaluator}",
        low=0,
        interval="5m",
    )
