"""A short way to write the events of an interaction for the tests of outcomes."""

from __future__ import annotations

from typing import Any

import polars as pl

from bench.outcomes import judged
from detectors.outcomes import OutcomeConfig, Traffic, interaction_reasons, session_reasons
from detectors.outcomes.config import DEFAULTS

SCHEMA: dict[str, Any] = {
    "event_id": pl.String, "time_unix_nano": pl.Int64, "agent": pl.String, "kind": pl.String,
    "session_id": pl.String, "interaction_id": pl.String, "name": pl.String, "status": pl.String,
    "error_type": pl.String, "error_message": pl.String, "content": pl.String,
    "tool_arguments": pl.String, "tool_result": pl.String, "attributes": pl.String,
    "duration_ms": pl.Float64, "input_tokens": pl.UInt64, "output_tokens": pl.UInt64,
    "cost_usd": pl.Float64,
}  # fmt: skip


def user(text: str | None) -> dict[str, Any]:
    return {"kind": "user_message", "content": text}


def agent(text: str | None) -> dict[str, Any]:
    return {"kind": "agent_message", "content": text}


def model(**fields: Any) -> dict[str, Any]:
    return {"kind": "llm_call", **fields}


def tool(name: str, arguments: str = "{}", result: str | None = "{}") -> dict[str, Any]:
    return {"kind": "tool_call", "name": name, "tool_arguments": arguments, "tool_result": result}


def failing(name: str, message: str = "timeout", arguments: str = "{}") -> dict[str, Any]:
    return {
        **tool(name, arguments, message),
        "status": "error",
        "error_type": "tool_error",
        "error_message": message,
    }


def closing(**fields: Any) -> dict[str, Any]:
    return {"kind": "interaction", **fields}


def frame(
    *interactions: list[dict[str, Any]], session: str = "s", agent: str = "a"
) -> pl.DataFrame:
    """Events one second apart; interaction n of the session is named ``n``."""
    rows, second = [], 0
    for number, events in enumerate(interactions):
        for event in events:
            second += 1
            rows.append(
                {
                    "event_id": f"{session}:{second}",
                    "time_unix_nano": second * 10**9,
                    "agent": agent,
                    "session_id": session,
                    "interaction_id": str(number),
                    "status": "ok",
                    **event,
                }
            )
    return pl.DataFrame(rows, schema=SCHEMA)


def reasons_of(
    *events: dict[str, Any], config: OutcomeConfig = DEFAULTS, close: bool = True
) -> list[str]:
    """Reasons of one interaction that asks, does ``events`` and is closed."""
    made = frame([user("please"), *events, *([closing()] if close else [])])
    alone = made.with_columns(session_id=pl.lit(None, pl.String))
    return list(interaction_reasons(alone, config)["reasons"][0])


def sessions(events: pl.DataFrame, config: OutcomeConfig = DEFAULTS) -> pl.DataFrame:
    """Reasons of sessions from the results of their interactions."""
    return session_reasons(judged(Traffic(events), config), config)


def session_of(*interactions: list[dict[str, Any]]) -> list[str]:
    """Reasons of a session."""
    return list(sessions(frame(*interactions))["reasons"][0])
