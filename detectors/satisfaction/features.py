"""One row of numbers per interaction: what the user said before and after, and what was done."""

from __future__ import annotations

from typing import Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.answers import overlap, words
from detectors.outcomes.config import OutcomeConfig
from detectors.outcomes.tools import handoff_to_human
from detectors.outcomes.traffic import Traffic
from detectors.satisfaction.cues import APOLOGY, USER_CUES
from detectors.satisfaction.language import language

_STYLE: Final = ("shouting", "exclamations", "length", "repeats")
TURN: Final = (*USER_CUES, *_STYLE)
"""What is read from a turn of the user."""

FEATURES: Final = (
    *(f"request_{name}" for name in TURN),
    *(f"next_{name}" for name in TURN),
    "has_next", "next_shorter", "turn_number", "seconds_to_next",
    "answer_apology", "answer_refusal", "answer_error", "answer_question", "answer_length",
    "answer_repeated", "answer_missing", "left_after_question", "left_after_error",
    "failed_calls", "unrecovered", "handed_over", "ended_in_error",
)  # fmt: skip
"""Names of the numbers, in the order of an estimator's weights."""


PRIOR: Final[dict[str, float]] = {
    **{
        f"{turn}_{cue}": weight * (1.0 if turn == "next" else 0.5)
        for turn in ("request", "next")
        for cue, weight in {
            "correction": 0.7, "blame": 0.7, "frustration": 1.2, "thanks": -0.7,
            "asks_for_human": 1.2, "unclear": 0.5, "still_broken": 0.7, "shouting": 0.7,
            "repeats": 0.7,
        }.items()
    },
    "answer_apology": 0.3, "answer_refusal": 0.7, "answer_error": 0.7, "answer_repeated": 0.3,
    "answer_missing": 1.0, "left_after_question": 0.5, "left_after_error": 1.0,
    "failed_calls": 0.3, "unrecovered": 0.7, "handed_over": 0.7, "ended_in_error": 1.0,
}  # fmt: skip
"""What is believed of a weight (log odds of dissatisfaction) before any label is seen.

Labels move a weight away from it as far as they go, but never across zero: however few people rated
an angry turn, it does not come to mean content. Features without an entry may go either way.
"""


def features(events: pl.DataFrame | Traffic) -> pl.DataFrame:
    """Describe every interaction in which a user said something.

    Parameters
    ----------
    events
        Canonical events in any order, best of whole sessions: the turn that follows an answer says
        most about it. Columns as for `detectors.outcomes.interaction_reasons`. Of a `Traffic` of
        interactions that is there already, the order is not computed again.

    Returns
    -------
    polars.DataFrame
        Sorted by ``interaction_id``, with ``session_id``, ``language`` (null when there is no
        text) and one column per name in `FEATURES`; numbers are from 0 to about 3, 0 where there
        is nothing to see.
    """
    traffic = events if isinstance(events, Traffic) else Traffic(events, "interaction_id")
    turns = _with_next(_requests(traffic))
    described = (
        turns.join(_answers(traffic), on="unit", how="left")
        .join(_work(traffic), on="unit", how="left")
        .with_columns(
            answer_missing=pl.col("answer_length").is_null(),
            left_after_question=(pl.col("has_next") == 0) & (pl.col("answer_question") == 1),
            left_after_error=(pl.col("has_next") == 0) & (pl.col("answer_error") == 1),
        )
    )
    return described.select(
        pl.col("unit").alias("interaction_id"),
        "session_id",
        "language",
        *(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in FEATURES),
    ).sort("interaction_id")


def _requests(traffic: Traffic) -> pl.DataFrame:
    """The first turn of the user in each interaction, by session, in order."""
    text = pl.col("text").str.head(1000)
    return (
        traffic.messages.lazy()
        .filter(pl.col("by_user") & (pl.col("text") != ""))
        .unique("unit", keep="first", maintain_order=True)
        .with_columns(
            *(text.str.contains(pattern).alias(name) for name, pattern in USER_CUES.items()),
            shouting=(text.str.len_bytes() >= 8)
            & (text == text.str.to_uppercase())
            & (text != text.str.to_lowercase()),
            exclamations=text.str.contains("[!?\uff01\uff1f]{2,}|!|\uff01"),
            length=text.str.len_chars().log1p() / 3,
            language=language(text),
            words=words(text),
        )
        .with_columns(repeats=pl.max_horizontal(overlap(1), overlap(2)).fill_null(0.0))
        .collect()
    )


def _with_next(turns: pl.DataFrame) -> pl.DataFrame:
    """What a turn says, beside what the next one of its session says."""
    same = pl.col("session") == pl.col("session").shift(-1)

    def following(name: str) -> pl.Expr:
        return pl.when(same).then(pl.col(name).shift(-1))

    seconds = (following("time") - pl.col("time")) / 1e9
    return turns.with_columns(
        *(pl.col(name).alias(f"request_{name}") for name in TURN),
        *(following(name).alias(f"next_{name}") for name in TURN),
        has_next=same.fill_null(value=False).cast(pl.Float64),
        next_shorter=pl.col("length") - following("length"),
        turn_number=(pl.col("at").cum_count().over("session").log1p()),
        seconds_to_next=seconds.clip(lower_bound=0).log1p() / 5,
    )


def _answers(traffic: Traffic) -> pl.DataFrame:
    """The last answer of each interaction."""
    text = pl.col("text").str.head(1000)
    repeated = pl.struct("session", "text").hash().is_duplicated()
    return traffic.answers.select(
        "unit",
        answer_apology=text.str.contains(APOLOGY),
        answer_refusal=text.str.head(300).str.contains(wording.REFUSAL),
        answer_error=text.str.contains(wording.ERROR_ADMITTED),
        answer_question=text.str.tail(200).str.contains(wording.QUESTION),
        answer_length=text.str.len_chars().log1p() / 3,
        answer_repeated=repeated,
    )


def _work(traffic: Traffic) -> pl.DataFrame:
    """Failed calls, hand-offs and the status of each interaction that has any of them."""
    failed = (
        traffic.calls.filter("failed").group_by("unit").agg(pl.len().log1p().alias("failed_calls"))
    )
    handed = handoff_to_human(traffic, OutcomeConfig()).select("unit", handed_over=pl.lit(1.0))
    ended = traffic.closings.filter(pl.col("status") == "error").select(
        "unit", ended_in_error=pl.lit(1.0)
    )
    return (
        failed.join(
            traffic.unresolved.select("unit", unrecovered=pl.lit(1.0)).unique("unit"),
            on="unit", how="full", coalesce=True,
        )
        .join(handed.unique("unit"), on="unit", how="full", coalesce=True)
        .join(ended.unique("unit"), on="unit", how="full", coalesce=True)
    )  # fmt: skip
