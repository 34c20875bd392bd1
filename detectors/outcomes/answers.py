"""Reasons read from what user and agent said."""

from __future__ import annotations

from typing import Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.config import OutcomeConfig
from detectors.outcomes.tools import Hits, handoff_to_human, hits
from detectors.outcomes.traffic import Traffic

OPENING_CHARACTERS: Final = 300
"""How much of an answer is read for a refusal: later in it, it is about a detail."""

QUOTED: Final = 20
"""Latest distinct errors of a unit that its answers are searched for."""


def unanswered(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Closed interactions in which the user said something and nobody answered or took over.

    Where the text of answers may just not be recorded, nothing is known and nothing is reported: a
    model call that succeeded and was followed by no other work has probably answered.
    """
    asked = traffic.messages.filter(pl.col("by_user") & (pl.col("text") != ""))
    answered = traffic.rows.filter(
        pl.col("kind").is_in(["agent_message", "handoff"])
        | (
            pl.col("kind").is_in(["llm_call", "interaction", "decision"])
            & (pl.col("content").fill_null("") != "")
        )
    )
    silent = (
        traffic.closings.join(answered, on="unit", how="anti")
        .join(handoff_to_human(traffic, config), on="unit", how="anti")
        .join(asked, on="unit", how="semi")
    )
    stopped = (
        traffic.rows.join(silent.select("unit").unique(), on="unit", how="semi")
        .filter(pl.col("kind").is_in(["llm_call", "tool_call", "retrieval", "human_input"]))
        .sort("at")
        .unique("unit", keep="last", maintain_order=True)
        .filter((pl.col("kind") != "llm_call") | (pl.col("status") == "error"))
    )
    broken = silent.filter(pl.col("status") == "error")
    return hits(pl.concat([silent.join(stopped, on="unit", how="semi"), broken]).unique("at"))


def empty_answer(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """The last answer is blank where the user's words were recorded."""
    asked = traffic.messages.filter(pl.col("by_user") & (pl.col("text") != ""))
    blank = traffic.answers.filter(pl.col("text").str.strip_chars() == "")
    return hits(blank.join(asked, on="unit", how="semi"))


def truncated_answer(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """The last model call of the unit ended at its output limit."""
    cut = traffic.rows.filter("cut")
    last = (
        traffic.rows.filter(
            (pl.col("kind") == "llm_call") & pl.col("unit").is_in(cut["unit"].unique().implode())
        )
        .group_by("unit")
        .agg(pl.col("at").max())
    )
    return hits(cut.join(last, on=("unit", "at"), how="semi"))


def refusal(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """The last answer opens with a refusal."""
    opening = pl.col("text").str.slice(0, OPENING_CHARACTERS)
    return hits(traffic.answers.filter(opening.str.contains(wording.REFUSAL)))


def error_shown_to_user(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Answers that hold or admit a technical error, or quote the error of a failed call."""
    answers = traffic.messages.filter(~pl.col("by_user"))
    admitted = answers.filter(pl.col("text").str.contains(wording.ERROR_ADMITTED))
    failed = (
        traffic.tools.filter(
            pl.col("failed") & (pl.col("error_message").fill_null("").str.len_chars() >= 12)
        )
        .group_by("unit", "error_message")
        .agg(pl.col("at").min().alias("failed_at"))
        .sort("failed_at")
        .group_by("unit", maintain_order=True)
        .tail(QUOTED)  # a runaway unit has thousands of errors, and no answer quotes them all
    )
    quoted = answers.join(failed, on="unit").filter(
        (pl.col("at") > pl.col("failed_at"))
        & pl.col("text").str.contains(pl.col("error_message"), literal=True)
    )
    columns = answers.columns
    return hits(pl.concat([admitted, quoted.select(columns)]).unique("at", maintain_order=True))


def success_claimed_after_error(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """The last answer claims success after a call that failed and was not made good."""
    failed = traffic.unresolved.group_by("unit").agg(
        pl.len().alias("n"), pl.col("at").max().alias("failed_at")
    )
    claims = pl.col("text").str.contains(wording.SUCCESS_CLAIMED)
    admits = pl.col("text").str.contains(wording.FAILURE_ADMITTED)
    claimed = traffic.answers.join(failed, on="unit").filter(
        (pl.col("at") > pl.col("failed_at")) & claims & ~admits
    )
    return hits(claimed, pl.col("n"))


def left_unanswered(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Units that nothing closed and whose last word is the user's."""
    last = traffic.messages.sort("at").unique("unit", keep="last", maintain_order=True)
    return hits(last.filter("by_user").join(traffic.closings, on="unit", how="anti"))


def ends_with_question(traffic: Traffic) -> pl.DataFrame:
    """Last messages of units that are a question or an error of the agent."""
    last = traffic.messages.sort("at").unique("unit", keep="last", maintain_order=True)
    open_end = pl.col("text").str.tail(200).str.contains(wording.QUESTION) | pl.col(
        "text"
    ).str.contains(wording.ERROR_ADMITTED)
    return last.filter(~pl.col("by_user") & open_end)
