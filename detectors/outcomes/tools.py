"""Reasons read from tool calls. Each function gives hits: unit, event, place and a measure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.config import OutcomeConfig
from detectors.outcomes.traffic import Traffic

Hits = pl.DataFrame
"""Columns: ``unit`` (str), ``event_id`` (str), ``at`` (place in the order), ``measure`` (float).

``measure`` is held against the reason's threshold; rows below it may be missing.
"""


NO_HITS: Final = pl.DataFrame(
    schema={"unit": pl.String, "event_id": pl.String, "at": pl.UInt32, "measure": pl.Float64}
)


def hits(frame: pl.DataFrame, measure: pl.Expr | float = 1.0) -> Hits:
    """The rows of ``frame`` as hits."""
    value = pl.lit(measure) if isinstance(measure, float) else measure
    return frame.select("unit", "event_id", "at", value.cast(pl.Float64).alias("measure"))


def tool_loop(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: how often the same call gave the same result in the unit."""
    same = pl.struct("unit", "name", "tool_arguments", "tool_result")
    groups = (
        traffic.calls.filter(same.hash().is_duplicated())  # cheap, and nearly all are gone
        .group_by("unit", "name", "tool_arguments", "tool_result", maintain_order=True)
        .agg(pl.len().alias("n"), pl.col("at").max(), pl.col("event_id").last())
        .filter(pl.col("n") > 1)
    )
    return hits(groups, pl.col("n"))


def oscillation(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: length of a run of two different calls by turns (A B A B is 4)."""
    calls = (
        traffic.calls.select("unit", "name", "tool_arguments", "at", "event_id")
        .with_columns(call=pl.struct("unit", "name", "tool_arguments").hash())
        .with_columns(
            alternates=(pl.col("call") == pl.col("call").shift(2))
            & (pl.col("call") != pl.col("call").shift(1))
            & (pl.col("unit") == pl.col("unit").shift(1))
        )
        .with_columns(run=(~pl.col("alternates").fill_null(value=False)).cum_sum())
    )
    runs = (
        calls.filter("alternates")
        .group_by("run", "unit")
        .agg(pl.len().alias("n"), pl.col("at").max(), pl.col("event_id").last())
    )
    return hits(runs, pl.col("n") + 2)


def retry_storm(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: failures of one tool in a row, nothing else between them."""
    calls = traffic.calls.select("unit", "name", "failed", "at", "event_id")
    runs = (
        calls.with_columns(run=pl.struct("unit", "name", "failed").hash().rle_id())
        .filter("failed")
        .group_by("run", "unit")
        .agg(pl.len().alias("n"), pl.col("at").max(), pl.col("event_id").last())
        .filter(pl.col("n") > 1)
    )
    return hits(runs, pl.col("n"))


def unknown_tool(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Failed calls whose error says so, and calls outside of the tools that the agent has."""
    calls = traffic.calls
    found = [calls.filter(pl.col("failed") & _error_says(wording.UNKNOWN_TOOL))]
    for agent, mine in _with_settings(calls, config):
        known = config.of(agent).tools
        if known is not None:
            found.append(mine.filter(pl.col("name").is_not_null() & ~pl.col("name").is_in(known)))
    return hits(pl.concat(found).unique("at", maintain_order=True))


def bad_arguments(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Failed calls whose error says so, and calls that the tool's schema refuses."""
    calls = traffic.calls
    found = [calls.filter(pl.col("failed") & _error_says(wording.BAD_ARGUMENTS))]
    for agent, mine in _with_settings(calls, config):
        for tool, schema in config.of(agent).schemas.items():
            asked = mine.filter(
                (pl.col("name") == tool) & (pl.col("tool_arguments").fill_null("") != "")
            )
            refused = _refused(asked["tool_arguments"].unique(), schema)
            found.append(asked.filter(pl.col("tool_arguments").is_in(refused)))
    return hits(pl.concat(found).unique("at", maintain_order=True))


def hallucinated_identifier(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: 1 for an identifier seen nowhere before the call, 2 when that call failed too.

    An identifier holds a digit and a letter, or six digits and more. What the user, the agent and
    its tools said earlier in the interaction counts as seen. A value that an agent cannot have
    seen, because its instructions hold it, is taken for invented. An interaction of a session may
    use what an earlier one said, so it is not judged.
    """
    calls = traffic.calls.filter(
        (pl.col("tool_arguments").fill_null("") != "")
        & (pl.col("session_id").is_null() | (pl.col("session_id") == pl.col("unit")))
    )
    if _least(config, "hallucinated_identifier") > 1:
        calls = calls.filter("failed")
    asked = _identifiers(calls)
    if asked.is_empty():
        return NO_HITS
    unseen = asked.join(_first_said(traffic, asked), on=("unit", "token"), how="left").filter(
        pl.col("first_at").is_null() | (pl.col("first_at") >= pl.col("at"))
    )
    return hits(unseen.unique("at", maintain_order=True), pl.col("failed").cast(pl.Int8) + 1)


def tool_error_unrecovered(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: failed calls in the unit after the last one that succeeded."""
    return hits(traffic.unresolved, pl.len().over("unit"))


def problem_persists(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: checks whose latest result, not marked as an error, still reports a problem."""
    persisting = traffic.checks.filter("problem", pl.col("arguments").is_not_null())
    return hits(persisting, pl.len().over("unit"))


def handoff_to_human(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Hand-offs to a person: by kind and target, or by the name of the tool."""
    names = traffic.tools["name"].unique().drop_nulls()
    human = names.filter(names.str.contains(wording.HUMAN))
    return hits(
        traffic.tools.filter(
            pl.col("name").is_in(human.implode())
            & ~pl.col("failed")
            & (pl.col("kind") != "human_input")
        )
    )


def _error_says(pattern: str) -> pl.Expr:
    texts = [pl.col(name).fill_null("") for name in ("error_type", "error_message", "tool_result")]
    return pl.any_horizontal(text.str.contains(pattern) for text in texts)


def _least(config: OutcomeConfig, code: str) -> float:
    from detectors.outcomes.reasons import BY_CODE

    settings = (config.default, *config.agents.values())
    return min(s.thresholds.get(code, BY_CODE[code].threshold) for s in settings)


def _with_settings(calls: pl.DataFrame, config: OutcomeConfig) -> list[tuple[str, pl.DataFrame]]:
    """Calls of every agent for which tools or schemas are known."""
    if not any(s.tools is not None or s.schemas for s in (config.default, *config.agents.values())):
        return []
    return [(str(agent), mine) for (agent,), mine in calls.group_by("agent", maintain_order=True)]


def _refused(arguments: pl.Series, schema: Mapping[str, Any]) -> list[str]:
    """The argument texts that are not JSON or do not fit the schema; each text once."""
    import jsonschema_rs

    is_valid = jsonschema_rs.validator_for(dict(schema)).is_valid
    return [text for text in arguments if not _fits(text, is_valid)]


def _fits(text: str, is_valid: Any) -> bool:
    try:
        return bool(is_valid(json.loads(text)))
    except ValueError:
        return False


_WITH_DIGIT: Final = r"[A-Za-z_.@+-]*[0-9][A-Za-z0-9_.@+-]*"
_IDENTIFIER: Final = r"[a-z].*[0-9]|[0-9].*[a-z]|^[0-9]{6,}$"
_SAID: Final = ("content", "tool_result", "error_message", "tool_arguments")


def _identifiers(calls: pl.DataFrame) -> pl.DataFrame:
    """One row per identifier in the arguments of each call, in lower case."""
    text = pl.col("tool_arguments").str.replace_all(r"\\[nrt]", " ").str.to_lowercase()
    return (
        calls.select("unit", "event_id", "at", "failed", token=text)
        .with_columns(pl.col("token").str.extract_all(_WITH_DIGIT))
        .explode("token")
        .with_columns(pl.col("token").str.strip_chars("_.@+-"))
        .filter(pl.col("token").str.contains(_IDENTIFIER))
    )


def _first_said(traffic: Traffic, asked: pl.DataFrame) -> pl.DataFrame:
    """First place at which each identifier of ``asked`` stands in its unit, in any text."""
    tokens = asked["token"].unique().to_list()
    said = (
        traffic.rows.lazy()
        .select("unit", "at", *_SAID)
        .join(asked.lazy().select("unit").unique(), on="unit", how="semi")
        .collect()
    )
    parts = [
        said.lazy()
        .filter(pl.col(name).is_not_null())
        .select(
            "unit",
            "at",
            token=pl.col(name).str.extract_many(
                tokens, ascii_case_insensitive=True, overlapping=True
            ),
        )
        .explode("token")
        .drop_nulls("token")
        for name in _SAID
    ]
    return (
        pl.concat(parts)
        .group_by("unit", pl.col("token").str.to_lowercase())
        .agg(pl.col("at").min().alias("first_at"))
        .collect()
    )
