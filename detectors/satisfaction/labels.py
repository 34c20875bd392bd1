"""What people said of interactions, as labels to fit an estimator to."""

from __future__ import annotations

from typing import Final

import polars as pl

LOW: Final = 0.5
"""Feedback below it is dissatisfied; so is an outcome."""


def labels(events: pl.DataFrame) -> pl.DataFrame:
    """Label interactions by their own feedback, else by the feedback or outcome of their session.

    Parameters
    ----------
    events
        Canonical events with the feedback and outcomes among them.

    Returns
    -------
    polars.DataFrame
        Sorted by ``interaction_id``, with ``session_id`` and ``dissatisfied`` (0 or 1).
        Interactions of which nobody said anything are left out.
    """
    said = (
        events.filter(pl.col("kind").is_in(["feedback", "outcome"]) & pl.col("value").is_not_null())
        .unique("event_id")
        .with_columns(target=pl.coalesce("target", "interaction_id", "session_id"))
        .group_by("target")
        .agg(low=(pl.col("value").mean() < LOW).cast(pl.Int8))
    )
    interactions = (
        events.filter(pl.col("interaction_id").is_not_null())
        .group_by("interaction_id")
        .agg(pl.col("session_id").drop_nulls().min())
    )
    own = interactions.join(said, left_on="interaction_id", right_on="target", how="left")
    return (
        own.join(said, left_on="session_id", right_on="target", how="left", suffix="_session")
        .select("interaction_id", "session_id", dissatisfied=pl.coalesce("low", "low_session"))
        .drop_nulls("dissatisfied")
        .sort("interaction_id")
    )
