"""The signals that are watched: what is measured, in which unit, and how much of a change matters.

A signal is one line of `SIGNALS`. ``value`` is an expression over the columns of an interaction's
result (`processors.stations.base.RESULTS`); null where the interaction says nothing. Adding a
signal is adding a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

Family = Literal["rate", "tail", "mix", "silence", "volume"]
Severity = Literal["page", "notice"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that is watched per environment and agent.

    Attributes
    ----------
    value
        Of one interaction: for a rate in [0, 1], for a tail not negative, for a mix a text or a
        list of texts.
    direction
        What is announced. A mix has none.
    min_effect
        Smallest change worth a page: of a rate in its own unit, of a tail relative to the baseline
        of the quantile that moved most.
    per
        Column whose values each make a stream: "tools", "reasons".
    severity
        The most that a change of it can be.
    settled
        Read half an hour later, when feedback and outcomes have come.
    """

    name: str
    family: Family
    title: str
    unit: str
    value: pl.Expr
    direction: Literal["up", "down", "both"] = "up"
    min_effect: float = 0.02
    per: str = ""
    severity: Severity = "page"
    settled: bool = False


_FAILED: Final = 1 - pl.col("success")
TOKENS: Final = pl.col("input_tokens") + pl.col("output_tokens").fill_null(0)
_LATE: Final = pl.col("success_source").is_in(["outcome", "score"])


def _when(condition: pl.Expr, value: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(value.cast(pl.Float64))


def _one_after_another(names: pl.Expr) -> pl.Expr:
    """Every two neighbours of a list of names: "a then b"."""
    name = pl.element()
    return names.list.eval(pl.concat_str(name.shift(1), name, separator=" then ").drop_nulls())


SIGNALS: Final = (
    Signal("failure", "rate", "failures", "share", _FAILED, min_effect=0.01),
    Signal(
        "late_failure", "rate", "failures by outcome", "share", _when(_LATE, _FAILED), settled=True
    ),
    Signal("reason", "rate", "failures: {value}", "share", _FAILED, per="reasons"),
    Signal("tool_failure", "rate", "failures in {value}", "share", pl.lit(1.0), per="tools"),
    Signal(
        "tool_error",
        "rate",
        "interactions with tool errors",
        "share",
        _when(pl.col("tool_calls") > 0, pl.col("tool_errors") > 0),
        min_effect=0.03,
    ),
    Signal(
        "model_error",
        "rate",
        "interactions with model errors",
        "share",
        _when(pl.col("llm_calls") > 0, pl.col("llm_errors") > 0),
    ),
    Signal(
        "dissatisfaction",
        "rate",
        "dissatisfied ratings",
        "share",
        1 - pl.col("satisfaction"),
        min_effect=0.05,
        settled=True,
    ),
    Signal(
        "estimated_dissatisfaction",
        "rate",
        "estimated dissatisfaction",
        "share",
        pl.col("dissatisfaction"),
        min_effect=0.03,
        severity="notice",
    ),
    Signal(
        "unanswered",
        "rate",
        "requests without an answer",
        "share",
        _when(pl.col("state") == "ended", 1 - pl.col("answered")),
        min_effect=0.05,
    ),
    Signal(
        "handoff",
        "rate",
        "hand-overs to a person",
        "share",
        (pl.col("human_inputs") > 0).cast(pl.Float64),
        severity="notice",
        min_effect=0.03,
    ),
    Signal(
        "unfinished",
        "rate",
        "interactions without an end",
        "share",
        (pl.col("state") == "unfinished").cast(pl.Float64),
        min_effect=0.03,
    ),
    Signal(
        "unknown_tokens",
        "rate",
        "model calls without token counts",
        "share",
        _when(pl.col("llm_calls") > 0, pl.col("input_tokens").is_null()),
        severity="notice",
        min_effect=0.05,
    ),
    Signal(
        "unknown_price",
        "rate",
        "interactions without a price",
        "share",
        _when(pl.col("llm_calls") > 0, pl.col("unpriced") > 0),
        severity="notice",
        min_effect=0.05,
    ),
    Signal(
        "unknown_outcome",
        "rate",
        "interactions of unknown outcome",
        "share",
        pl.col("success").is_null().cast(pl.Float64),
        severity="notice",
        min_effect=0.05,
    ),
    Signal(
        "new_request",
        "rate",
        "requests unlike the known ones",
        "share",
        pl.lit(None, pl.Float64),
        severity="notice",
        min_effect=0.05,
    ),
    Signal("duration", "tail", "duration", "ms", pl.col("duration_ms"), min_effect=0.25),
    Signal(
        "first_token",
        "tail",
        "time to first token",
        "ms",
        pl.col("time_to_first_token_ms"),
        min_effect=0.25,
    ),
    Signal("tokens", "tail", "tokens", "tokens", TOKENS, min_effect=0.25),
    Signal("cost", "tail", "cost", "USD", pl.col("cost_usd"), min_effect=0.25),
    Signal("steps", "tail", "steps", "steps", pl.col("steps"), min_effect=0.25),
    Signal(
        "models",
        "mix",
        "share of model {value}",
        "share",
        pl.col("models"),
        min_effect=0.05,
        severity="notice",
    ),
    Signal(
        "tools",
        "mix",
        "share of tool {value}",
        "share",
        pl.col("tools"),
        min_effect=0.05,
        severity="notice",
    ),
    Signal(
        "order",
        "mix",
        "share of interactions that go {value}",
        "share",
        _one_after_another(pl.col("tools")),
        min_effect=0.05,
        severity="notice",
    ),
    Signal(
        "language",
        "mix",
        "share of language {value}",
        "share",
        pl.col("language"),
        min_effect=0.05,
        severity="notice",
    ),
    Signal("silence", "silence", "interactions", "interactions", pl.lit(1.0), direction="down"),
    Signal(
        "volume",
        "volume",
        "interactions per hour",
        "interactions",
        pl.lit(1.0),
        direction="both",
        min_effect=1.0,
        severity="notice",
    ),
)

BY_NAME: Final = {signal.name: signal for signal in SIGNALS}
"""Signals by name."""


def of(family: Family) -> list[Signal]:
    """Signals of one family, in their order."""
    return [signal for signal in SIGNALS if signal.family == family]
