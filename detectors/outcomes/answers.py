"""Reasons read from what user and agent said."""

from __future__ import annotations

from typing import Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.config import OutcomeConfig
from detectors.outcomes.tools import NO_HITS, Hits, handoff_to_human, hits
from detectors.outcomes.traffic import Traffic

OPENING_CHARACTERS: Final = 300
"""How much of an answer is read for a refusal: later in it, it is about a detail."""

MIN_TOKENS: Final = 4
"""A request of fewer words, like "yes please", may be repeated without meaning anything."""

QUOTED: Final = 20
"""Latest distinct errors of a unit that its answers are searched for."""

READ: Final = 500
"""Characters of a request that are compared."""

LOOK_BACK: Final = 3
"""Earlier requests that a request is compared with."""


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
    calls = traffic.rows.filter(
        (pl.col("kind") == "llm_call") & (pl.col("attributes").fill_null("") != "")
    )
    cut = calls.filter(pl.col("attributes").str.contains(wording.TRUNCATED))
    last = (
        traffic.rows.filter(
            (pl.col("kind") == "llm_call") & pl.col("unit").is_in(cut["unit"].unique())
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


def restarted_conversation(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: how often the agent said its greeting again after the user had spoken twice."""
    mine = traffic.messages.filter(~pl.col("by_user"))
    first = mine.unique("session", keep="first", maintain_order=True)
    greetings = first.filter(
        pl.col("text").str.slice(0, OPENING_CHARACTERS).str.contains(wording.GREETING)
    ).select("session", "text", greeted="at")
    again = mine.join(greetings, on=("session", "text")).filter(pl.col("at") > pl.col("greeted"))
    if again.is_empty():
        return NO_HITS
    heard = (
        traffic.messages.join(again.select("session").unique(), on="session", how="semi")
        .sort("session", "at")
        .select("at", heard=pl.col("by_user").cast(pl.UInt32).cum_sum())
    )
    between = (
        again.join(heard, on="at")
        .join(heard.rename({"at": "greeted", "heard": "before"}), on="greeted")
        .filter(pl.col("heard") - pl.col("before") > 1)
    )
    return hits(between, pl.len().over("unit"))


def repeated_request(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: share of words that a request has in common with one of the last three.

    It belongs to the interaction that repeats, for the one before it cannot know.
    """
    requests = (
        traffic.messages.lazy()
        .filter(pl.col("by_user"))
        .filter(
            (pl.col("session") == pl.col("session").shift(1))
            | (pl.col("session") == pl.col("session").shift(-1))
        )
        .select("unit", "session", "at", "event_id", words=words(pl.col("text").str.head(READ)))
        .filter(pl.col("words").list.len() >= MIN_TOKENS)
        .with_columns(
            similarity=pl.max_horizontal(overlap(back) for back in range(1, LOOK_BACK + 1))
        )
        .filter(pl.col("similarity") > 0.3)
        .collect()
    )
    return hits(requests, pl.col("similarity"))


def left_unanswered(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Units that nothing closed and whose last word is the user's."""
    last = traffic.messages.sort("at").unique("unit", keep="last", maintain_order=True)
    return hits(last.filter("by_user").join(traffic.closings, on="unit", how="anti"))


def left_after_question(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Units that end with a question or an error of the agent."""
    last = traffic.messages.sort("at").unique("unit", keep="last", maintain_order=True)
    open_end = pl.col("text").str.tail(200).str.contains(wording.QUESTION) | pl.col(
        "text"
    ).str.contains(wording.ERROR_ADMITTED)
    return hits(last.filter(~pl.col("by_user") & open_end))


def words(text: pl.Expr) -> pl.Expr:
    """Hashes of the distinct words; of Chinese, Japanese and Korean text of the characters."""
    found = text.str.to_lowercase().str.extract_all(
        r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]|[\p{L}\p{N}]+"
    )
    return found.list.eval(pl.element().hash()).list.unique()


def overlap(back: int) -> pl.Expr:
    """Jaccard similarity of a request's words with those of the request ``back`` before it."""
    earlier = pl.col("words").shift(back)
    same = pl.col("session") == pl.col("session").shift(back)
    common = pl.col("words").list.set_intersection(earlier).list.len().cast(pl.Float64)
    either = pl.col("words").list.len() + earlier.list.len() - common
    return pl.when(same).then(common / either)
