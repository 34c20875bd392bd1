"""Events in one order, each once, as frames of tool work and of messages.

The order is time, then what must come first at the same time (a user's message before the work,
the answer and the closing event after it), then the event's id. So the order of the rows that come
in has no influence.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, Literal

import polars as pl

Unit = Literal["interaction_id", "session_id"]

_COLUMNS: Final[dict[str, pl.DataType]] = {
    **dict.fromkeys(
        (
            "event_id", "session_id", "interaction_id", "agent", "kind", "name", "status",
            "error_type", "error_message", "content", "tool_arguments", "tool_result", "attributes",
        ),
        pl.String(),
    ),
    "duration_ms": pl.Float64(),
    "input_tokens": pl.UInt64(),
    "output_tokens": pl.UInt64(),
    "cost_usd": pl.Float64(),
}  # fmt: skip

_RANK: Final = {"user_message": 0, "llm_call": 1, "agent_message": 5, "interaction": 9}
_EVALUATIONS: Final = ("feedback", "score", "outcome")
_WORK: Final = ("tool_call", "retrieval", "human_input", "handoff")

_TOOL_COLUMNS: Final = (
    "event_id", "kind", "name", "error_type", "error_message", "tool_arguments", "tool_result",
)  # fmt: skip


class Traffic:
    """Events of ended interactions or sessions, ready for the detectors.

    Parameters
    ----------
    events
        Canonical events in any order, with repeats. Columns as `Event`; ``time`` (a
        datetime) may stand for ``time_unix_nano``; columns that are missing are not known. ''
        counts as null.
    unit
        Column whose values are judged. Events without it are left out.

    Attributes
    ----------
    rows : polars.DataFrame
        All events once, in order, with ``unit``, ``session`` (the interaction, where there is no
        session) and ``at``, the place in the order.
    """

    def __init__(self, events: pl.DataFrame, unit: Unit) -> None:
        self.unit = unit
        self.rows = _ordered(events, unit)

    def by_interaction(self) -> Traffic:
        """The same events, judged interaction by interaction; others are left out."""
        other = Traffic.__new__(Traffic)
        other.unit = "interaction_id"
        other.rows = self.rows.filter(pl.col("interaction_id").is_not_null()).with_columns(
            unit=pl.col("interaction_id")
        )
        return other

    @cached_property
    def units(self) -> pl.DataFrame:
        """Every unit with the agent of its earliest event: the columns ``unit``, ``agent``."""
        first = self.rows.group_by("unit").agg(pl.col("at").min())
        return first.join(self.rows.select("at", "agent"), on="at").select("unit", "agent")

    @cached_property
    def tools(self) -> pl.DataFrame:
        """Calls of tools by agent and user, by unit."""
        return (
            self.rows.lazy()
            .filter(pl.col("kind").is_in(_WORK))
            .select(
                "unit", "session", "agent", "at", *_TOOL_COLUMNS,
                failed=pl.col("status") == "error",
                by_agent=pl.col("kind").is_in(["tool_call", "retrieval"]),
            )
            .sort("unit", "at")
            .collect()
        )  # fmt: skip

    @cached_property
    def calls(self) -> pl.DataFrame:
        """Tool calls and retrievals of the agent, by unit."""
        return self.tools.filter("by_agent")

    @cached_property
    def messages(self) -> pl.DataFrame:
        """What user and agent said, in order, by session."""
        return (
            self.rows.lazy()
            .filter(pl.col("kind").is_in(["user_message", "agent_message"]))
            .select(
                "unit", "session", "session_id", "at", "time", "event_id",
                by_user=pl.col("kind") == "user_message", text=pl.col("content").fill_null(""),
            )
            .sort("session", "at")
            .collect()
        )  # fmt: skip

    @cached_property
    def closings(self) -> pl.DataFrame:
        """Events that close an interaction."""
        return self.rows.filter(pl.col("kind") == "interaction")

    @cached_property
    def answers(self) -> pl.DataFrame:
        """The last message of the agent in each unit."""
        return _last_of_unit(self.messages.filter(~pl.col("by_user")))

    @cached_property
    def unresolved(self) -> pl.DataFrame:
        """Failed calls of the agent after which no call of the unit succeeded."""
        failed = self.calls.filter("failed")
        succeeded = (
            self.calls.select("unit", "at", "failed")
            .join(failed.select("unit").unique(), on="unit", how="semi")
            .filter(~pl.col("failed"))
            .group_by("unit")
            .agg(pl.col("at").max().alias("succeeded"))
        )
        return failed.join(succeeded, on="unit", how="left").filter(
            pl.col("succeeded").is_null() | (pl.col("at") > pl.col("succeeded"))
        )


def _last_of_unit(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("at").unique("unit", keep="last", maintain_order=True)


def _ordered(events: pl.DataFrame, unit: Unit) -> pl.DataFrame:
    frame = _canonical(events).filter(
        pl.col(unit).is_not_null() & ~pl.col("kind").is_in(_EVALUATIONS)
    )
    rank = pl.col("kind").replace_strict(_RANK, default=3, return_dtype=pl.UInt8)
    keys = frame.select("time", rank.alias("rank"), "event_id")
    repeats = frame["event_id"].n_unique() < len(frame)
    if repeats:  # the first of several payloads under one id is the same whatever the row order
        payload = frame["payload_hash"] if "payload_hash" in frame.columns else frame.hash_rows()
        keys = keys.with_columns(payload.alias("payload"))
    ordered = keys.with_row_index("row").sort(pl.exclude("row"))
    if repeats:
        ordered = ordered.unique("event_id", keep="first", maintain_order=True)
    places = ordered.select("row").with_row_index("at").sort("row")
    return (frame[places["row"]] if repeats else frame).with_columns(
        places["at"],
        unit=pl.col(unit),
        session=pl.coalesce("session_id", "interaction_id"),
    )


def _canonical(events: pl.DataFrame) -> pl.DataFrame:
    time = (
        pl.col("time_unix_nano").cast(pl.Int64)
        if "time_unix_nano" in events.columns
        else pl.col("time").dt.epoch("ns")
    )
    known = [
        _unknown_is_null(name, kind) if name in events.columns else pl.lit(None, kind).alias(name)
        for name, kind in _COLUMNS.items()
    ]
    hashes = ["payload_hash"] if "payload_hash" in events.columns else []
    return events.select(time.alias("time"), *known, *hashes)


def _unknown_is_null(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name).cast(kind)
    if name in ("session_id", "interaction_id"):
        return pl.when(column != "").then(column).alias(name)
    return column
