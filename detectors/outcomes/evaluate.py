"""All reasons of all interactions or sessions of a frame of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

from detectors.outcomes import answers, budgets, tools
from detectors.outcomes.config import AgentOutcomes, OutcomeConfig
from detectors.outcomes.reasons import CODES, REASONS
from detectors.outcomes.tools import Hits
from detectors.outcomes.traffic import Traffic, Unit

DEFAULTS: Final = OutcomeConfig()

EXAMPLES: Final = 3
"""Example events kept per reason."""


@dataclass(frozen=True, slots=True)
class Detector:
    """How a reason is found; of a session either in the whole, or in any of its interactions."""

    code: str
    find: Callable[[Traffic, OutcomeConfig], Hits]
    of_session: bool = True
    of_interaction: bool = True


DETECTORS: Final[tuple[Detector, ...]] = (
    Detector("budget_exceeded", budgets.budget_exceeded, of_session=False),
    Detector("problem_persists", tools.problem_persists),
    Detector("success_claimed_after_error", answers.success_claimed_after_error),
    Detector("tool_error_unrecovered", tools.tool_error_unrecovered),
    Detector("unanswered", answers.unanswered, of_session=False),
    Detector("empty_answer", answers.empty_answer, of_session=False),
    Detector("truncated_answer", answers.truncated_answer, of_session=False),
    Detector("retry_storm", tools.retry_storm),
    Detector("unknown_tool", tools.unknown_tool),
    Detector("bad_arguments", tools.bad_arguments),
    Detector("hallucinated_identifier", tools.hallucinated_identifier),
    Detector("tool_loop", tools.tool_loop),
    Detector("oscillation", tools.oscillation),
    Detector("error_shown_to_user", answers.error_shown_to_user),
    Detector("refusal", answers.refusal),
    Detector("handoff_to_human", tools.handoff_to_human),
    Detector("restarted_conversation", answers.restarted_conversation),
    Detector("repeated_request", answers.repeated_request),
    Detector("abandoned", answers.left_unanswered, of_session=False),
    Detector("abandoned", answers.left_after_question, of_interaction=False),
)


def interaction_reasons(
    events: pl.DataFrame | Traffic, config: OutcomeConfig = DEFAULTS
) -> pl.DataFrame:
    """Reasons of ended interactions.

    Parameters
    ----------
    events
        Canonical events in any order; repeats count once. Events without ``interaction_id`` are
        left out. With the earlier events of the same sessions, ``repeated_request``,
        ``restarted_conversation`` and ``hallucinated_identifier`` see what was said before. A
        `Traffic` of interactions is not ordered again.
    config
        Switches, thresholds and budgets.

    Returns
    -------
    polars.DataFrame
        One row per interaction, sorted: ``interaction_id``, ``reasons`` (codes, primary first),
        ``fails`` (whether any of them counts as failure), ``examples`` (per reason up to
        `EXAMPLES` event ids, earliest first).
    """
    return _reasons(events, "interaction_id", config)


def session_reasons(events: pl.DataFrame, config: OutcomeConfig = DEFAULTS) -> pl.DataFrame:
    """Reasons of ended sessions; parameters and columns as `interaction_reasons`.

    A session has what any of its interactions has, where an interaction can tell (budgets, an
    answer that is missing), and else what its whole course shows: an error in its first
    interaction that a later one made good is recovered.
    """
    return _reasons(events, "session_id", config)


def _reasons(events: pl.DataFrame | Traffic, unit: Unit, config: OutcomeConfig) -> pl.DataFrame:
    traffic = events if isinstance(events, Traffic) else Traffic(events, unit)
    found = _counted(_found(traffic, config), traffic, config)
    per_reason = (
        found.sort("code", "at")
        .group_by("unit", "code", maintain_order=True)
        .agg(pl.col("fails").any(), pl.col("event_id").unique(maintain_order=True).head(EXAMPLES))
    )
    order = pl.col("fails").not_(), pl.col("code")
    names = dict(enumerate(CODES))
    reason = pl.col("code").replace_strict(names, return_dtype=pl.String).alias("reason")
    per_unit = (
        per_reason.with_columns(reason)
        .group_by("unit")
        .agg(
            pl.col("reason").sort_by(*order).alias("reasons"),
            pl.col("fails").any(),
            pl.col("event_id").sort_by(*order).alias("examples"),
        )
    )
    return (
        traffic.units.join(per_unit, on="unit", how="left")
        .select(
            pl.col("unit").alias(unit),
            pl.col("reasons").fill_null([]),
            pl.col("fails").fill_null(value=False),
            pl.col("examples").fill_null([]),
        )
        .sort(unit)
    )


def _found(traffic: Traffic, config: OutcomeConfig) -> pl.DataFrame:
    """Hits of all detectors with the place of their code in `CODES`."""
    is_session = traffic.unit == "session_id"
    parts = traffic.by_interaction() if is_session else traffic
    session_of = traffic.rows.select("at", "session_id")
    found = []
    for detector in DETECTORS:
        if is_session and not detector.of_session:
            hits = detector.find(parts, config)
            hits = hits.join(session_of, on="at").with_columns(unit=pl.col("session_id"))
        elif is_session or detector.of_interaction:
            hits = detector.find(traffic, config)
        else:
            continue
        code = pl.lit(CODES.index(detector.code), pl.UInt8).alias("code")
        found.append(hits.select("unit", "event_id", "at", "measure", code))
    return pl.concat(found)


def _counted(found: pl.DataFrame, traffic: Traffic, config: OutcomeConfig) -> pl.DataFrame:
    """The hits that reach the threshold of their agent, with whether they fail."""
    is_session = traffic.unit == "session_id"
    rules = pl.concat(
        [_rules(config.default, None, is_session)]
        + [_rules(settings, agent, is_session) for agent, settings in config.agents.items()]
    )
    agents = list(config.agents)
    return (
        found.join(traffic.units, on="unit")
        .with_columns(pl.when(pl.col("agent").is_in(agents)).then("agent"))
        .join(rules, on=("agent", "code"), nulls_equal=True)
        .filter(pl.col("measure") >= pl.col("threshold"))
    )


def _rules(settings: AgentOutcomes, agent: str | None, is_session: bool) -> pl.DataFrame:
    failing = ("fails", "fails_session") if is_session else ("fails",)
    rows = [
        (
            agent,
            place,
            settings.thresholds.get(reason.code, reason.threshold),
            settings.severities.get(reason.code, reason.severity) in failing,
        )
        for place, reason in enumerate(REASONS)
        if reason.code not in settings.off
    ]
    schema = {
        "agent": pl.String, "code": pl.UInt8, "threshold": pl.Float64, "fails": pl.Boolean,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")
