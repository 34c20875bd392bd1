"""Interactions: one user request to its final answer, computed from its stored events.

An interaction's events share its id and stand anywhere between the bounds of its marks and of the
row already stored. ``version`` counts the distinct events read, so a fuller row always wins.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from detectors.failures import fingerprints
from processors.marks import join_bounds
from processors.store import Store, literal
from processors.windows import EPOCH

_IN_LIST: Final = 5_000
"""Up to so many ids are named in the SQL; beyond, the whole time range is read and filtered."""

_KNOWN_BOUNDS: Final = """
SELECT interaction_id,
    toUnixTimestamp64Nano(min(start)) AS lo, toUnixTimestamp64Nano(max(end)) AS hi
FROM interactions WHERE interaction_id IN {ids} GROUP BY interaction_id
"""

_FROM_EVENTS: Final = """
SELECT interaction_id,
    bitShiftLeft(toUInt64({epoch}), 40) + count() AS version,
    minIf((if(is_root, 0, 1), time, event_id, toString(environment), toString(agent),
        toString(agent_version)), counted) AS speaker,
    minIf(session_id, counted AND session_id != '') AS session_id,
    minIf(user_id, counted AND user_id != '') AS user_id,
    minIf(time - toIntervalNanosecond(toInt64(ifNull(duration_ms, 0) * 1e6)), counted) AS start,
    maxIf(time, counted) AS end,
    countIf(counted) AS events,
    countIf(counted AND kind = 'llm_call') AS llm_calls,
    countIf(counted AND kind = 'tool_call') AS tool_calls,
    countIf(counted AND kind = 'tool_call' AND status = 'error') AS tool_errors,
    sumIf(ifNull(input_tokens, 0), counted AND kind = 'llm_call') AS input_tokens,
    sumIf(ifNull(output_tokens, 0), counted AND kind = 'llm_call') AS output_tokens,
    countIf(counted AND cost_usd IS NOT NULL) AS priced,
    countIf(counted AND cost_usd IS NULL AND kind = 'llm_call'
        AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)) AS unpriced,
    sumIf(ifNull(cost_usd, 0), counted) AS cost,
    maxIf((time, event_id, toString(status), toString(error_type), error_message),
        counted AND is_root) AS closing,
    maxIf((time, event_id, toString(error_type), toString(name), error_message),
        counted AND NOT is_root AND status = 'error') AS last_error
FROM
(
    SELECT *, kind = 'interaction' AS is_root,
        (event_id, time, payload_hash) NOT IN
            (SELECT event_id, time, payload_hash FROM collisions) AS counted
    FROM events FINAL
    WHERE time >= fromUnixTimestamp64Nano({lo}) AND time <= fromUnixTimestamp64Nano({hi})
        AND kind NOT IN ('feedback', 'score', 'outcome') AND interaction_id != ''
        AND {named}
)
GROUP BY interaction_id
HAVING events > 0
SETTINGS prefer_column_name_to_alias = 1
"""


def recompute(store: Store, marks: pl.DataFrame) -> None:
    """Compute the marked interactions from what is stored now, and store them.

    Parameters
    ----------
    store
        Where events and interactions are.
    marks
        ``interaction_id``, ``lo`` and ``hi`` (event time in ns); each id once.

    Raises
    ------
    Unavailable
        When ClickHouse is away; nothing partial needs undoing.
    """
    bounded = join_bounds(pl.concat([marks, _known_bounds(store, marks)]))
    for group in _by_reach(bounded):
        store.insert("interactions", finish(_from_events(store, group)))


def _known_bounds(store: Store, marks: pl.DataFrame) -> pl.DataFrame:
    found = [
        store.query(_KNOWN_BOUNDS.format(ids=literal(part["interaction_id"])))
        for part in marks.iter_slices(_IN_LIST)
    ]
    return pl.concat([f.cast(marks.schema) for f in found if not f.is_empty()] or [marks.clear()])


def _by_reach(marks: pl.DataFrame) -> list[pl.DataFrame]:
    """Split by how long the interactions are, so that a long one does not widen everyone's scan."""
    reach = (pl.col("hi") - pl.col("lo") + 1).cast(pl.Float64).log(2).floor().clip(lower_bound=34)
    split = marks.with_columns(reach=reach, day=pl.col("lo") // (86_400 * 10**9)).partition_by(
        "reach", "day", include_key=False
    )
    return [part for group in split for part in group.sort("lo").iter_slices(_IN_LIST * 10)]


def _from_events(store: Store, marks: pl.DataFrame) -> pl.DataFrame:
    ids = marks["interaction_id"]
    sql = _FROM_EVENTS.format(
        epoch=EPOCH,
        lo=marks["lo"].min(),
        hi=marks["hi"].max(),
        named=f"interaction_id IN {literal(ids)}" if len(ids) <= _IN_LIST else "1",
    )
    rows = store.query(sql)
    if rows.is_empty():
        return rows
    # Without the list the scan also saw interactions that reach beyond its bounds.
    return rows.join(marks.select("interaction_id"), on="interaction_id", how="semi")


def finish(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``interactions`` from the grouped events: price, outcome, why it failed. Pure."""
    if rows.is_empty():
        return rows
    speaker, closing = pl.col("speaker").struct, pl.col("closing").struct
    last = pl.col("last_error").struct
    failed = closing.field("3") == "error"
    message = pl.coalesce(_text(closing.field("5")), _text(last.field("5")))
    rows = rows.with_columns(
        environment=speaker.field("4"),
        agent=speaker.field("5"),
        agent_version=speaker.field("6"),
        session_id=pl.coalesce(_text(pl.col("session_id")), "interaction_id"),
        duration_ms=(pl.col("end") - pl.col("start")).dt.total_nanoseconds() / 1e6,
        cost_usd=pl.when((pl.col("priced") > 0) & (pl.col("unpriced") == 0)).then(pl.col("cost")),
        status=closing.field("3"),
        failure_reason=pl.when(failed).then(
            pl.coalesce(_text(closing.field("4")), _text(last.field("3")), pl.lit("error"))
        ),
        failure_tool=pl.when(failed).then(_text(last.field("4"))),
        message=pl.when(failed).then(message),
    ).with_columns(pl.col("failure_reason", "failure_tool", "message").fill_null(""))
    failures = rows["status"] == "error"
    few = rows.filter(failures)
    prints, templates = fingerprints(
        few["failure_reason"].to_list(), few["failure_tool"].to_list(), few["message"].to_list()
    )
    grouped = few.select("interaction_id").with_columns(
        failure_template=pl.Series(templates, dtype=pl.String),
        fingerprint=pl.Series(prints, dtype=pl.String),
    )
    return rows.join(grouped, on="interaction_id", how="left").drop(
        "speaker", "closing", "last_error", "priced", "unpriced", "cost", "message"
    )


def _text(column: pl.Expr) -> pl.Expr:
    return pl.when(column != "").then(column)
