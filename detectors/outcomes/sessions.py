"""Reasons of sessions, read from the results of their interactions.

A session has what an interaction alone can tell (a budget, an answer that is missing), and of the
rest what its whole course shows: an error of its first interaction that a later one made good is
recovered.
"""

from __future__ import annotations

import math
from typing import Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.answers import OPENING_CHARACTERS
from detectors.outcomes.config import DEFAULTS, OutcomeConfig
from detectors.outcomes.evaluate import ASKED
from detectors.outcomes.reasons import CODES
from detectors.outcomes.wording import overlap, words

OF_ANY: Final = (
    "budget_exceeded", "unanswered", "empty_answer", "truncated_answer", "retry_storm",
    "unknown_tool", "bad_arguments", "hallucinated_identifier", "tool_loop", "oscillation",
    "error_shown_to_user", "handoff_to_human",
)  # fmt: skip
"""Reasons that a session has as soon as one of its interactions has them."""

OF_LAST_ANSWER: Final = ("success_claimed_after_error", "refusal")
OF_LAST_WORK: Final = ("tool_error_unrecovered",)
OF_LAST: Final = ("abandoned",)

MIN_TOKENS: Final = 4
"""A request of fewer words, like "yes please", may be repeated without meaning anything."""

READ: Final = 500
"""Characters of a request that are compared."""

LOOK_BACK: Final = 3
"""Earlier requests that a request is compared with."""


def session_reasons(interactions: pl.DataFrame, config: OutcomeConfig = DEFAULTS) -> pl.DataFrame:
    """Reasons of sessions as they stand.

    Parameters
    ----------
    interactions
        Any order: ``session_id``, ``interaction_id``, ``agent``, ``start`` (sortable),
        ``request`` and ``answer`` ('' when not known), ``tool_calls``, and of
        `interaction_reasons` the ``reasons`` and ``notes``.
    config
        Switches and thresholds; those of the agent of the first interaction count.

    Returns
    -------
    polars.DataFrame
        One row per session, sorted: ``session_id``, ``reasons`` (codes, primary first), ``fails``
        (whether any of them counts as failure).
    """
    rows = interactions.sort("session_id", "start", "interaction_id")
    found = pl.concat(
        [
            _told(rows, OF_ANY),
            _told(_last(rows), OF_LAST),
            _told(_last(rows.filter(pl.col("answer") != "")), OF_LAST_ANSWER),
            _told(_last(rows.filter(pl.col("tool_calls") > 0)), OF_LAST_WORK),
            _persisting(rows),
            _restarted(rows),
            _repeated(rows),
            _left(rows),
        ]
    )
    first = rows.select("session_id", "agent").unique("session_id", keep="first")
    counted = config.counted(found.join(first, on="session_id"), is_session=True)
    per_session = (
        counted.group_by("session_id", "code")
        .agg(pl.col("fails").any())
        .sort("session_id", pl.col("fails").not_(), "code")
        .group_by("session_id", maintain_order=True)
        .agg(
            reasons=pl.col("code").replace_strict(dict(enumerate(CODES)), return_dtype=pl.String),
            fails=pl.col("fails").any(),
        )
    )
    return (
        first.select("session_id")
        .join(per_session, on="session_id", how="left")
        .with_columns(pl.col("reasons").fill_null([]), pl.col("fails").fill_null(value=False))
        .sort("session_id")
    )


def _found(rows: pl.DataFrame, code: str, measure: pl.Expr | float) -> pl.DataFrame:
    value = pl.lit(measure) if isinstance(measure, float) else measure
    return rows.select(
        "session_id", pl.lit(CODES.index(code), pl.UInt8).alias("code"),
        value.cast(pl.Float64).alias("measure"),
    )  # fmt: skip


def _last(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.unique("session_id", keep="last", maintain_order=True)


def _told(rows: pl.DataFrame, codes: tuple[str, ...]) -> pl.DataFrame:
    """Reasons of interactions, which have passed their thresholds already."""
    places = {code: CODES.index(code) for code in codes}
    return (
        rows.select("session_id", code="reasons")
        .explode("code")
        .filter(pl.col("code").is_in(codes))
        .with_columns(
            pl.col("code").replace_strict(places, return_dtype=pl.UInt8),
            measure=pl.lit(math.inf),
        )
    )


def _persisting(rows: pl.DataFrame) -> pl.DataFrame:
    """Checks that had the same arguments in the whole session, and the latest still complains."""
    told = rows.select("session_id", note="notes").explode("note")
    parts = pl.col("note").str.splitn(" ", 3).struct
    checks = (
        told.filter(pl.col("note") != ASKED)
        .select("session_id", problem=parts[0] == "problem", arguments=parts[1], tool=parts[2])
        .group_by("session_id", "tool")
        .agg(
            alike=(pl.col("arguments").n_unique() == 1) & (pl.col("arguments").last() != "*"),
            problem=pl.col("problem").last(),
        )
        .filter("alike", "problem")
    )
    return _found(checks, "problem_persists", pl.len().over("session_id"))


def _restarted(rows: pl.DataFrame) -> pl.DataFrame:
    """Measure: how often the agent said its greeting again after the user had spoken twice."""
    answers = rows.with_columns(
        heard=(pl.col("request") != "").cast(pl.UInt32).cum_sum().over("session_id")
    ).filter(pl.col("answer") != "")
    opening = pl.col("answer").str.slice(0, OPENING_CHARACTERS)
    first = answers.unique("session_id", keep="first").filter(
        opening.str.contains(wording.GREETING)
    )
    again = answers.join(
        first.select("session_id", "answer", before="heard"), on=("session_id", "answer")
    ).filter(pl.col("heard") - pl.col("before") > 1)
    return _found(again, "restarted_conversation", pl.len().over("session_id"))


def _repeated(rows: pl.DataFrame) -> pl.DataFrame:
    """Measure: share of words that a request has in common with one of the last three."""
    several = (pl.col("session_id") == pl.col("session_id").shift(1)) | (
        pl.col("session_id") == pl.col("session_id").shift(-1)
    )
    requests = (
        rows.lazy()
        .filter(pl.col("request") != "")
        .filter(several)
        .select("session_id", words=words(pl.col("request").str.head(READ)))
        .filter(pl.col("words").list.len() >= MIN_TOKENS)
        .with_columns(
            similarity=pl.max_horizontal(
                overlap(back, "session_id") for back in range(1, LOOK_BACK + 1)
            )
        )
        .filter(pl.col("similarity") > 0)
        .collect()
    )
    return _found(requests, "repeated_request", pl.col("similarity"))


def _left(rows: pl.DataFrame) -> pl.DataFrame:
    """Sessions that end, as far as is known, with a question or an error of the agent."""
    return _found(_last(rows).filter(pl.col("notes").list.contains(ASKED)), "abandoned", 1.0)
