"""Reasons read from what an interaction took."""

from __future__ import annotations

from typing import Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.config import AgentOutcomes, Budget, OutcomeConfig
from detectors.outcomes.tools import NO_HITS, Hits, hits
from detectors.outcomes.traffic import Traffic

_STEPS: Final = ("llm_call", "tool_call", "retrieval")


def budget_exceeded(traffic: Traffic, config: OutcomeConfig) -> Hits:
    """Measure: largest share of a budget that was used; 1 for runs stopped at a limit.

    Only more than the budget counts. What is not known counts as nothing, so the share is a lower
    bound.
    """
    used = [_used(traffic, settings, agents) for settings, agents in _groups(traffic, config)]
    stopped = traffic.closings.filter(
        (pl.col("status") == "error")
        & pl.col("error_type").fill_null("").str.contains(wording.LIMIT_REACHED)
    )
    return pl.concat([*used, hits(stopped)])


def _groups(
    traffic: Traffic, config: OutcomeConfig
) -> list[tuple[AgentOutcomes, list[str | None]]]:
    """Settings, and the agents that have them."""
    agents = traffic.units["agent"].unique(maintain_order=True).to_list()
    own = [(config.agents[a], [a]) for a in agents if a in config.agents]
    return [*own, (config.default, [a for a in agents if a not in config.agents])]


def _used(traffic: Traffic, settings: AgentOutcomes, agents: list[str | None]) -> Hits:
    """Units of these agents that took more than the budget, at their last event."""
    limits = {name: limit for name, limit in _limits(settings.budget).items() if limit is not None}
    if not limits or not agents:
        return NO_HITS
    share = pl.max_horizontal(_AMOUNTS[name] / limit for name, limit in limits.items())
    over = (
        traffic.rows.lazy()
        .select("unit", "at", "kind", *_FIELDS)
        .group_by("unit")
        .agg(share.alias("share"), pl.col("at").max())
        .filter(pl.col("share") > 1)
        .join(traffic.units.lazy().filter(pl.col("agent").is_in(agents)), on="unit", how="semi")
        .join(traffic.rows.lazy().select("at", "event_id"), on="at")
    )
    return hits(over.collect(), pl.col("share"))


def _limits(budget: Budget) -> dict[str, float | None]:
    return {
        "steps": budget.steps,
        "duration_ms": budget.duration_ms,
        "tokens": budget.tokens,
        "cost_usd": budget.cost_usd,
    }


_FIELDS: Final = ("duration_ms", "input_tokens", "output_tokens", "cost_usd")

_SPENDS: Final = pl.col("kind") != "interaction"
"""A closing event may carry the totals of its calls, which would count twice."""

_AMOUNTS: Final[dict[str, pl.Expr]] = {
    "steps": pl.col("kind").is_in(_STEPS).sum(),
    "duration_ms": pl.col("duration_ms").filter(~_SPENDS).max().fill_null(0),
    "tokens": (pl.col("input_tokens").fill_null(0) + pl.col("output_tokens").fill_null(0))
    .filter(_SPENDS)
    .sum(),
    "cost_usd": pl.col("cost_usd").filter(_SPENDS).sum(),
}
