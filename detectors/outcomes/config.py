"""Switches, thresholds, budgets and tools, per agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from detectors.outcomes.reasons import BY_CODE, REASONS, Severity


@dataclass(frozen=True, slots=True)
class Budget:
    """What one interaction may take; None is unlimited.

    The default of 60 steps is the smallest at which every recorded session beyond it had failed.
    """

    steps: float | None = 60
    duration_ms: float | None = None
    tokens: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class AgentOutcomes:
    """Settings of one agent; what is not given keeps its default.

    Attributes
    ----------
    off
        Codes that are not looked for.
    thresholds
        Smallest measure that counts, by code.
    severities
        Whether a code fails or marks, by code.
    budget
        See `Budget`.
    tools
        Names of all tools; None when not known. Any other is an ``unknown_tool``.
    schemas
        JSON Schema of the arguments, by tool.

    Raises
    ------
    ValueError
        When a code does not exist or a threshold is not positive.
    """

    off: frozenset[str] = frozenset()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    severities: Mapping[str, Severity] = field(default_factory=dict)
    budget: Budget = Budget()
    tools: frozenset[str] | None = None
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = ({*self.off, *self.thresholds, *self.severities}) - BY_CODE.keys()
        if unknown:
            raise ValueError(
                f"there is no reason {min(unknown)!r}; there are {', '.join(sorted(BY_CODE))}"
            )
        low = [code for code, threshold in self.thresholds.items() if not threshold > 0]
        if low:
            raise ValueError(f"the threshold of {low[0]} must be above 0")


@dataclass(frozen=True, slots=True)
class OutcomeConfig:
    """Settings of all agents: ``default``, and ``agents`` that differ from it, by name."""

    default: AgentOutcomes = AgentOutcomes()
    agents: Mapping[str, AgentOutcomes] = field(default_factory=dict)

    def of(self, agent: str) -> AgentOutcomes:
        """Settings of one agent."""
        return self.agents.get(agent, self.default)

    def counted(self, found: pl.DataFrame, *, is_session: bool) -> pl.DataFrame:
        """Findings that reach the threshold of their agent, with ``fails``.

        Parameters
        ----------
        found
            ``agent``, ``code`` (place in `CODES`) and ``measure``, and whatever else.
        is_session
            Whether they are of sessions, which more reasons fail.
        """
        failing = ("fails", "fails_session") if is_session else ("fails",)
        several = [(None, self.default), *self.agents.items()]
        rows = [
            (
                agent,
                place,
                settings.thresholds.get(reason.code, reason.threshold),
                settings.severities.get(reason.code, reason.severity) in failing,
            )
            for agent, settings in several
            for place, reason in enumerate(REASONS)
            if reason.code not in settings.off
        ]
        schema = {
            "agent": pl.String, "code": pl.UInt8, "threshold": pl.Float64, "fails": pl.Boolean,
        }  # fmt: skip
        rules = pl.DataFrame(rows, schema=schema, orient="row")
        own = pl.when(pl.col("agent").is_in(list(self.agents))).then("agent")
        return (
            found.with_columns(agent=own)
            .join(rules, on=("agent", "code"), nulls_equal=True)
            .filter(pl.col("measure") >= pl.col("threshold"))
        )


DEFAULTS: Final = OutcomeConfig()
