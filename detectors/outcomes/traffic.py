"""Events in one order, each once, as frames of tool work and of messages.

The order is time, then what must come first at the same time (a user's message before the work,
the answer and the closing event after it), then the event's id. So the order of the rows that come
in has no influence.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import polars as pl

from detectors.outcomes import wording

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
    "closes": pl.Boolean(),
    "cut": pl.Boolean(),
}  # fmt: skip

_RANK: Final = {"user_message": 0, "llm_call": 1, "agent_message": 5, "interaction": 9}
_EVALUATIONS: Final = ("feedback", "score", "outcome")
_WORK: Final = ("tool_call", "retrieval", "human_input", "handoff")

_TOOL_COLUMNS: Final = (
    "event_id", "kind", "name", "error_type", "error_message", "tool_arguments", "tool_result",
)  # fmt: skip


class Traffic:
    """Events of ended interactions, ready for the detectors.

    Parameters
    ----------
    events
        Canonical events in any order, with repeats. Columns as `Event`; ``ns`` or ``time`` (a
        datetime) may stand for ``time_unix_nano``; ``closes`` says which events close their
        interaction (else those of that kind), ``cut`` which model calls ended at their output
        limit (else the attributes tell). Columns that are missing are not known. '' counts as
        null. Events without ``interaction_id`` are left out.

    Attributes
    ----------
    rows : polars.DataFrame
        All events once, in order, with ``unit``, the interaction, and ``at``, the place in the
        order.
    """

    def __init__(self, events: pl.DataFrame) -> None:
        self.rows = _ordered(events)

    @cached_property
    def units(self) -> pl.DataFrame:
        """Every unit with the agent that closes it, else that of its earliest event."""
        first = self.rows.lazy().sort("at").group_by("unit", maintain_order=True)
        closing = pl.col("agent").filter("closes")
        return first.agg(pl.coalesce(closing.last(), pl.col("agent").first())).collect()

    @cached_property
    def tools(self) -> pl.DataFrame:
        """Calls of tools by agent and user, by unit."""
        return (
            self.rows.lazy()
            .filter(pl.col("kind").is_in(_WORK))
            .select(
                "unit", "session_id", "agent", "at", *_TOOL_COLUMNS,
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
        """What user and agent said, in order, by unit."""
        return (
            self.rows.lazy()
            .filter(pl.col("kind").is_in(["user_message", "agent_message"]))
            .select(
                "unit", "session_id", "at", "time", "event_id",
                by_user=pl.col("kind") == "user_message", text=pl.col("content").fill_null(""),
            )
            .sort("unit", "at")
            .collect()
        )  # fmt: skip

    @cached_property
    def closings(self) -> pl.DataFrame:
        """Events that close an interaction."""
        return self.rows.filter("closes")

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

    @cached_property
    def checks(self) -> pl.DataFrame:
        """The latest result of every tool in each unit that gave one and did not fail.

        A check is a tool that is called with the same arguments each time and gives short texts;
        what the user ran counts as well. A shell, whose every call is another, is none.

        Columns: ``unit``, ``name``, ``at``, ``event_id``, ``arguments`` (a hash, null where they
        differ from call to call) and ``problem``, whether the result says that what was checked
        does not work.
        """
        result = pl.col("tool_result")
        short = result.str.len_bytes() <= wording.PROBLEM_CHARACTERS
        return (
            self.tools.lazy()
            .filter(
                ~pl.col("failed")
                & (pl.col("kind") != "handoff")
                & (result.fill_null("") != "")
                & (pl.col("name").fill_null("") != "")
            )
            .sort("at")
            .group_by("unit", "name", maintain_order=True)
            .agg(
                pl.col("at", "event_id", "tool_result").last(),
                arguments=pl.when(pl.col("tool_arguments").fill_null("").n_unique() == 1).then(
                    pl.col("tool_arguments").fill_null("").last().hash()
                ),
            )
            .with_columns(
                problem=short & ~result.str.starts_with("{") & result.str.contains(wording.PROBLEM)
            )
            .drop("tool_result")
            .collect()
        )


def _last_of_unit(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("at").unique("unit", keep="last", maintain_order=True)


def _ordered(events: pl.DataFrame) -> pl.DataFrame:
    frame = _canonical(events).filter(
        pl.col("interaction_id").is_not_null() & ~pl.col("kind").is_in(_EVALUATIONS)
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
        unit=pl.col("interaction_id"),
        closes=pl.coalesce("closes", pl.col("kind") == "interaction"),
        cut=pl.coalesce(
            "cut",
            (pl.col("kind") == "llm_call")
            & pl.col("attributes").fill_null("").str.contains(wording.TRUNCATED),
        ),
    )


def _canonical(events: pl.DataFrame) -> pl.DataFrame:
    numbers = [pl.col(name).cast(pl.Int64) for name in ("time_unix_nano", "ns") if name in events]
    time = numbers[0] if numbers else pl.col("time").dt.epoch("ns")
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
