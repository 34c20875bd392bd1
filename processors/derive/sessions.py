"""What became of each session: its interactions added up, and what was said of it itself. Pure."""

from __future__ import annotations

from typing import Final

import polars as pl

from processors.derive import judging, scopes
from processors.derive.judging import ResultsConfig
from processors.derive.results import (
    CELL_NS,
    EPOCH,
    NANO,
    weighed,
)


def owned(interactions: pl.DataFrame) -> pl.DataFrame:
    """Interactions with the session ``key`` as it is named in their scope, and as ``raw``."""
    found = interactions.with_columns(raw="key")
    if (found["scope"] == "").all():
        return found
    return found.with_columns(key=scopes.of_sessions(_COUNTS))


def targets(interactions: pl.DataFrame) -> list[str]:
    """All that evaluations may name of sessions."""
    return _names(interactions)["key"].unique().to_list()


_COUNTS: Final = (pl.col("live") == 1) & (pl.col("session_id") == pl.col("raw"))


def _names(interactions: pl.DataFrame) -> pl.DataFrame:
    """Every ``key`` that a session ``raw`` has, or had while other interactions were known."""
    several = (pl.col("scope").n_unique() > 1).over("raw") & (pl.col("scope") != "")
    return pl.concat(
        [
            interactions.select("raw", key="raw"),
            interactions.select("raw", "key"),
            interactions.filter(several).select("raw", key=scopes.suffixed("raw")),
        ]
    ).unique()


def session_results(
    interactions: pl.DataFrame,
    evaluations: pl.DataFrame,
    config: ResultsConfig | None = None,
    before: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Rows of ``session_results``.

    Parameters
    ----------
    interactions
        For each session the current row of every interaction that was ever counted under it: the
        columns of ``interaction_results``, times as ``start_ns`` and ``end_ns``, and what `owned`
        adds.
    evaluations
        As of `interaction_results`, of their `targets`.
    config
        How they are judged.
    before
        As `judging.of_sessions` returns it, what was judged of sessions with ``words_gone``.

    Returns
    -------
    polars.DataFrame
        For each session, and each scope that does not keep its id, one row per cell in which an
        interaction of it ever ended; ``live`` is 1 on the row that counts.
    """
    config = config or ResultsConfig()
    c, when = pl.col, pl.when
    counted = interactions.filter(_COUNTS)
    wordless = (c("words_gone") != 0).any().over("key")
    structure = judging.of_sessions(counted.filter(~wordless), config)
    if before is not None:
        structure = pl.concat([structure, before.select(structure.columns)])
    summed = _added_up(counted)
    of = ("key", "environment", "agent")
    named = pl.concat([summed.select(*of, target="key"), summed.select(*of, target="raw")]).unique()
    own = weighed(scopes.heard(named, evaluations, "key"), "key", config)
    found = (
        summed.join(own, on="key", how="left")
        .join(structure, on="key", how="left")
        # What people or trusted scores say of the last interaction counts more than structure.
        .with_columns(
            by_structure=c("fails").fill_null(value=False)
            & ~c("last_source").is_in(["outcome", "score"])
        )
        .with_columns(
            success=pl.coalesce(
                (c("outcome") >= 0.5).cast(pl.UInt8),
                (c("score") >= 0.5).cast(pl.UInt8),
                when("by_structure").then(pl.lit(0, pl.UInt8)),
                "last_success",
            ),
            success_source=when(c("outcome").is_not_null())
            .then(pl.lit("outcome"))
            .when(c("score").is_not_null())
            .then(pl.lit("score"))
            .when(c("by_structure") & (c("last_success") != 0).fill_null(value=True))
            .then(pl.lit("structure"))
            .otherwise("last_source"),
            ratings=c("ratings").fill_null(0) + c("inner_ratings"),
            rating=c("rating").fill_null(0) + c("inner_rating"),
        )
    )
    failed = (c("success") == 0).fill_null(False)
    said = when(c("outcome") < 0.5).then(
        pl.coalesce(when(c("outcome_reason") != "").then("outcome_reason"), "inner_reason",
            pl.lit("outcome"))
    ).when(c("outcome").is_null() & (c("score") < 0.5)).then(
        pl.coalesce(when(c("score_reason") != "").then("score_reason"), "inner_reason",
            pl.lit("score"))
    )  # fmt: skip
    by_structure = when(c("success_source") == "structure").then(c("codes").list.first())
    found = found.with_columns(
        failure_reason=when(failed)
        .then(pl.coalesce(said, by_structure, "inner_reason", pl.lit("error")))
        .otherwise(pl.lit("")),
        reasons=pl.concat_list(
            pl.concat_list(said, by_structure), "inner_reasons", c("codes").fill_null([])
        )
        .list.drop_nulls()
        .list.unique(maintain_order=True),
        satisfaction=when(c("ratings") > 0).then(c("rating") / c("ratings") / NANO),
        satisfaction_n=c("ratings").cast(pl.UInt32),
        live=pl.lit(1, pl.UInt8),
        rules_version=pl.lit(config.rules_version),
    )
    low = (c("version") & ((1 << 40) - 1)).sum()
    places = (
        interactions.group_by("raw", "cell")
        .agg()
        .join(interactions.group_by("raw").agg(made_from=low.cast(pl.UInt64)), on="raw")
        .join(_names(interactions), on="raw")
    )
    counts = evaluations.select(key="target", n="n").unique("key")
    by_raw = pl.when(c("raw") != c("key")).then("n_raw")
    seen = c("n").fill_null(0) + by_raw.fill_null(0)
    return (
        places.join(counts, on="key", how="left")
        .join(counts.select(raw="key", n_raw="n"), on="raw", how="left")
        .with_columns(version=(c("made_from") + 2 * seen + (EPOCH << 40)).cast(pl.UInt64))
        .join(found.drop("raw"), on=["key", "cell"], how="left")
        .with_columns(
            c("live").fill_null(0),
            *(c(name).fill_null("") for name in _SESSION_TEXTS),
            *(c(name).fill_null(0).cast(pl.UInt32) for name in _SESSION_COUNTS),
            c("reasons").fill_null([]),
            c("cell").cast(pl.UInt32),
        )
        .select(
            "cell", "version", "live", *_SESSION_TEXTS, *_SESSION_COUNTS, "reasons", "start", "end",
            "duration_ms", "active_ms", "input_tokens", "output_tokens", "cost_usd", "success",
            "satisfaction", *judging.ESTIMATES, session_id="key",
        )
    )  # fmt: skip


_SESSION_TEXTS: Final = (
    "environment", "agent", "agent_version", "user_id", "success_source", "failure_reason",
    "request", "answer", "rules_version", "scope",
)  # fmt: skip
_SESSION_COUNTS: Final = (
    "interactions", "succeeded", "failed", "events", "llm_calls", "tool_calls", "tool_errors",
    "satisfaction_n",
)  # fmt: skip


def _added_up(counted: pl.DataFrame) -> pl.DataFrame:
    """One row per session from the interactions that count under it."""
    c = pl.col
    rating = (c("satisfaction") * c("satisfaction_n") * NANO).round().cast(pl.Int64)
    priced, unpriced = c("priced").sum() > 0, c("unpriced").sum() > 0
    failed = c("success") == 0
    plain = scopes.plain if (counted["scope"] != "").any() else c
    counted = counted.with_columns(inner=plain("interaction_id") != plain("raw"))

    def known(name: str) -> pl.Expr:
        return pl.when(c(name).count() > 0).then(c(name).sum()).alias(name)

    first = (
        counted.sort("start_ns", "interaction_id")
        .group_by("key", maintain_order=True)
        .agg(
            *(c(name).first() for name in ("environment", "agent", "agent_version")),
            request=c("request").filter(c("request") != "").first(),
        )
    )
    return (
        counted.sort("end_ns", "interaction_id")
        .group_by("key", maintain_order=True)
        .agg(
            c("raw", "scope").first(),
            *(c(name).sum() for name in ("events", "llm_calls", "tool_calls", "tool_errors")),
            *(known(name) for name in ("input_tokens", "output_tokens")),
            user_id=c("user_id").filter(c("user_id") != "").min(),
            start=c("start_ns").min().cast(pl.Datetime("ns", "UTC")),
            end=c("end_ns").max().cast(pl.Datetime("ns", "UTC")),
            cell=c("end_ns").max() // CELL_NS * 10,
            duration_ms=((c("end_ns").max() - c("start_ns").min()) / 1e6).round(6),
            active_ms=known("duration_ms").round(6),
            interactions=pl.len(),
            succeeded=(c("success") == 1).sum(),
            failed=failed.sum(),
            cost_usd=pl.when(priced & ~unpriced).then(
                ((c("cost_usd") * NANO).round().cast(pl.Int128).sum() / NANO).cast(pl.Float64)
            ),
            last_success=c("success").last(),
            last_source=c("success_source").last(),
            inner_reason=c("failure_reason").filter(failed).last(),
            inner_reasons=c("failure_reason").filter(failed).unique(maintain_order=True),
            # What was said of an interaction that is its own session is the session's own.
            inner_rating=rating.filter("inner").sum(),
            inner_ratings=c("satisfaction_n").filter("inner").sum(),
            answer=c("answer").filter(c("answer") != "").last(),
        )
        .join(first, on="key")
    )
