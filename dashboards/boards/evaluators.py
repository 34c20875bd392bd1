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
        [
            ("Who judges", [names(), agreement(), coverage(), over_time()]),
            ("What was judged, and what not", [decisions(), trust()]),
        ],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
        time_from="now-24h",
    )


def names() -> Json:
    """List every evaluator with what it gave."""
    return panels.table(
        90,
        "Evaluators",
        "Feedback, scores and outcomes by name. No mean of scores whose agreement is not known.",
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
        "Mean of what each gave in the interval; scores only of judges whose agreement is known.",
        "evaluators.over_time",
        "none",
        name="${__field.labels.evaluator}",
        low=0,
        interval="5m",
    )


def decisions() -> Json:
    """What became of every target of driftline's own evaluators."""
    return panels.table(
        94,
        "Decisions",
        "Of every target and evaluator exactly one: judged, or why not. Cost is of their calls.",
        "evaluators.decisions",
        {"coverage": "percentunit", "usd": "currencyUSD", "p95_ms": "ms"},
        width=24,
    )


def trust() -> Json:
    """Agreement of judges with people, and the rates that follow."""
    share = ("precision", "recall", "pass")
    units = {f"{name}_{end}": "percentunit" for name in share for end in ("low", "high")}
    return panels.table(
        95,
        "How far to trust them",
        "Agreement with people's labels, else with outcomes, with 95 % intervals; the pass rate is "
        "what people would pass, from labels and judgements together.",
        "evaluators.trust",
        {"precision": "percentunit", "recall": "percentunit", "pass_rate": "percentunit", **units},
        width=24,
    )
