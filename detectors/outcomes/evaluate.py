"""All reasons of all interactions of a frame of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from detectors.outcomes import answers, budgets, tools
from detectors.outcomes.config import DEFAULTS, OutcomeConfig
from detectors.outcomes.reasons import CODES
from detectors.outcomes.tools import Hits
from detectors.outcomes.traffic import Traffic

EXAMPLES: Final = 3
"""Example events kept per reason."""

ASKED: Final = "asked"

DETECTORS: Final[dict[str, Callable[[Traffic, OutcomeConfig], Hits]]] = {
    "budget_exceeded": budgets.budget_exceeded,
    "problem_persists": tools.problem_persists,
    "success_claimed_after_error": answers.success_claimed_after_error,
    "tool_error_unrecovered": tools.tool_error_unrecovered,
    "unanswered": answers.unanswered,
    "empty_answer": answers.empty_answer,
    "truncated_answer": answers.truncated_answer,
    "retry_storm": tools.retry_storm,
    "unknown_tool": tools.unknown_tool,
    "bad_arguments": tools.bad_arguments,
    "hallucinated_identifier": tools.hallucinated_identifier,
    "tool_loop": tools.tool_loop,
    "oscillation": tools.oscillation,
    "error_shown_to_user": answers.error_shown_to_user,
    "refusal": answers.refusal,
    "handoff_to_human": tools.handoff_to_human,
    "abandoned": answers.left_unanswered,
}
"""How each reason is found; the others are of sessions only."""


def interaction_reasons(
    events: pl.DataFrame | Traffic, config: OutcomeConfig = DEFAULTS
) -> pl.DataFrame:
    """Reasons of ended interactions, each from its own events alone.

    Parameters
    ----------
    events
        Canonical events in any order; repeats count once. Events without ``interaction_id`` are
        left out. A `Traffic` is not ordered again.
    config
        Switches, thresholds and budgets.

    Returns
    -------
    polars.DataFrame
        One row per interaction, sorted: ``interaction_id``, ``reasons`` (codes, primary first),
        ``fails`` (whether any of them counts as failure), ``examples`` (per reason up to
        `EXAMPLES` event ids, earliest first) and ``notes``, what `session_reasons` needs to
        know: per tool whether its latest result reports a problem, a hash of its arguments (``*``
        where they differ) and its name; `ASKED` where the last word is a question or an error of
        the agent.
    """
    traffic = events if isinstance(events, Traffic) else Traffic(events)
    found = config.counted(_found(traffic, config).join(traffic.units, on="unit"), is_session=False)
    per_reason = (
        found.sort("code", "at")
        .group_by("unit", "code", maintain_order=True)
        .agg(pl.col("fails").any(), pl.col("event_id").unique(maintain_order=True).head(EXAMPLES))
    )
    names = dict(enumerate(CODES))
    per_unit = (
        per_reason.sort("unit", pl.col("fails").not_(), "code")
        .group_by("unit", maintain_order=True)
        .agg(
            reasons=pl.col("code").replace_strict(names, return_dtype=pl.String),
            fails=pl.col("fails").any(),
            examples=pl.col("event_id"),
        )
    )
    return (
        traffic.units.join(per_unit, on="unit", how="left")
        .join(_notes(traffic), on="unit", how="left")
        .select(
            pl.col("unit").alias("interaction_id"),
            pl.col("reasons").fill_null([]),
            pl.col("fails").fill_null(value=False),
            pl.col("examples").fill_null([]),
            pl.col("notes").fill_null([]),
        )
        .sort("interaction_id")
    )


def _found(traffic: Traffic, config: OutcomeConfig) -> pl.DataFrame:
    """Hits of all detectors with the place of their code in `CODES`."""
    return pl.concat(
        find(traffic, config).select(
            "unit", "event_id", "at", "measure", pl.lit(CODES.index(code), pl.UInt8).alias("code")
        )
        for code, find in DETECTORS.items()
    )


def _notes(traffic: Traffic) -> pl.DataFrame:
    said = pl.when("problem").then(pl.lit("problem")).otherwise(pl.lit("fine"))
    arguments = pl.col("arguments").cast(pl.String).fill_null("*")
    checks = traffic.checks.select(
        "unit", note=pl.concat_str(said, arguments, "name", separator=" ")
    )
    asked = answers.ends_with_question(traffic).select("unit", note=pl.lit(ASKED))
    return (
        pl.concat([checks, asked])
        .sort("unit", "note")
        .group_by("unit", maintain_order=True)
        .agg(notes="note")
    )
