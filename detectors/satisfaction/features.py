"""One row of numbers per interaction: what the user said before and after, and what was done."""

from __future__ import annotations

from typing import Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.answers import OPENING_CHARACTERS
from detectors.outcomes.config import OutcomeConfig
from detectors.outcomes.tools import handoff_to_human
from detectors.outcomes.traffic import Traffic
from detectors.outcomes.wording import overlap, words
from detectors.satisfaction.cues import APOLOGY, USER_CUES
from detectors.satisfaction.language import language

READ: Final = 1000
"""Characters of a request and of an answer that are read."""

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


CONTEXT: Final = (
    "request_repeats", *(f"next_{name}" for name in TURN), "has_next", "next_shorter",
    "turn_number", "seconds_to_next", "answer_repeated", "left_after_question", "left_after_error",
)  # fmt: skip
"""Features that are of the session: not known of an interaction alone."""


def turns(traffic: Traffic) -> pl.DataFrame:
    """What `features` reads, one row per interaction in which the user said something.

    Returns
    -------
    polars.DataFrame
        ``interaction_id``, ``session_id``, ``time`` (ns) of the request, ``request``, ``answer``
        (null when there is none), ``failed_calls`` (a count), ``unrecovered``, ``handed_over`` and
        ``ended_in_error``.
    """
    asked = traffic.messages.filter(pl.col("by_user") & (pl.col("text") != "")).unique(
        "unit", keep="first", maintain_order=True
    )
    failed = traffic.calls.filter("failed").group_by("unit").agg(failed_calls=pl.len())
    handed = handoff_to_human(traffic, OutcomeConfig())["unit"]
    ended = traffic.closings.filter(pl.col("status") == "error")["unit"]
    return (
        asked.select("unit", "session_id", "time", request="text")
        .join(traffic.answers.select("unit", answer="text"), on="unit", how="left")
        .join(failed, on="unit", how="left")
        .select(
            "session_id", "time", "request", "answer",
            pl.col("failed_calls").fill_null(0),
            unrecovered=pl.col("unit").is_in(traffic.unresolved["unit"].implode()),
            handed_over=pl.col("unit").is_in(handed.implode()),
            ended_in_error=pl.col("unit").is_in(ended.implode()),
            interaction_id="unit",
        )
    )  # fmt: skip


def features(found: pl.DataFrame) -> pl.DataFrame:
    """Describe every interaction, beside the others of its session.

    Parameters
    ----------
    found
        As `turns` makes it, best of whole sessions: the turn that follows an answer says most
        about it.

    Returns
    -------
    polars.DataFrame
        Sorted by ``interaction_id``, with ``session_id``, ``language`` (null when there is no
        text) and one column per name in `FEATURES`; numbers are from 0 to about 3, 0 where there
        is nothing to see.
    """
    answer = pl.col("answer").str.head(READ)
    described = (
        _with_next(_requests(found))
        .with_columns(
            failed_calls=pl.col("failed_calls").log1p(),
            answer_apology=answer.str.contains(APOLOGY),
            answer_refusal=answer.str.head(OPENING_CHARACTERS).str.contains(wording.REFUSAL),
            answer_error=answer.str.contains(wording.ERROR_ADMITTED),
            answer_question=answer.str.tail(200).str.contains(wording.QUESTION),
            answer_length=answer.str.len_chars().log1p() / 3,
            answer_repeated=pl.struct("session", "answer").hash().is_duplicated()
            & answer.is_not_null(),
            answer_missing=answer.is_null(),
        )
        .with_columns(
            left_after_question=(pl.col("has_next") == 0) & pl.col("answer_question"),
            left_after_error=(pl.col("has_next") == 0) & pl.col("answer_error"),
        )
    )
    return described.select(
        "interaction_id", "session_id", "language",
        *(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in FEATURES),
    ).sort("interaction_id")  # fmt: skip


def _requests(found: pl.DataFrame) -> pl.DataFrame:
    """What the user's turns say, by session, in order."""
    text = pl.col("request").str.head(READ)
    return (
        found.lazy()
        .with_columns(session=pl.coalesce("session_id", "interaction_id"))
        .sort("session", "time", "interaction_id")
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
        .with_columns(
            repeats=pl.max_horizontal(overlap(1, "session"), overlap(2, "session")).fill_null(0.0)
        )
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
        turn_number=pl.col("session").cum_count().over("session").log1p(),
        seconds_to_next=seconds.clip(lower_bound=0).log1p() / 5,
    )
