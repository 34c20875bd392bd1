"""What the events of interactions, and the results of sessions, say without anybody's verdict.

Joins `detectors.outcomes` and `detectors.satisfaction` to the derivation. Pure.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Final

import polars as pl

from detectors.outcomes import OutcomeConfig, Traffic, interaction_reasons, session_reasons
from detectors.outcomes.reasons import CODES
from detectors.satisfaction import Estimator, features, turns

RULES_VERSION: Final = "3"
SLACK_S: Final = 60
"""How far giving up may be behind sealed event time before stations wait for it."""


@cache
def shipped_estimator() -> Estimator:
    """The estimator that comes with driftline, read once."""
    return Estimator.load()


@dataclass(frozen=True, slots=True)
class ResultsConfig:
    """How interactions are judged.

    Attributes
    ----------
    inactivity_s
        How long after its last event an interaction without an end is given up.
    trusted_scores
        Names of scores that decide success where no outcome is given.
    outcomes
        Switches, thresholds and budgets of structural reasons; None looks for none.
    estimator
        Estimates dissatisfaction; None estimates nothing.
    """

    inactivity_s: float = 900.0
    trusted_scores: tuple[str, ...] = ()
    outcomes: OutcomeConfig | None = field(default_factory=OutcomeConfig)
    estimator: Estimator | None = field(default_factory=shipped_estimator)

    @property
    def given_up_after_s(self) -> int:
        """Seconds of event time from the beginning of a cell until all of it can be given up."""
        return math.ceil(self.inactivity_s / 10) * 10 + 10

    @property
    def read_after_s(self) -> int:
        """Seconds until stations read what was given up: later, so that nothing waits for it."""
        return self.given_up_after_s + SLACK_S

    @property
    def rules_version(self) -> str:
        """Of the rules, and a hash of the settings where they are not the default ones."""
        told = self._told()
        if told == ResultsConfig()._told():  # noqa: SLF001
            return RULES_VERSION
        return f"{RULES_VERSION}+{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def _told(self) -> str:
        outcomes = None if self.outcomes is None else asdict(self.outcomes)
        estimator = None if self.estimator is None else self.estimator.dump()
        told = (self.inactivity_s, self.trusted_scores, outcomes, estimator)
        return json.dumps(told, default=sorted, sort_keys=True)


JUDGED: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "interaction_id": pl.String, "codes": pl.List(pl.String), "fails": pl.Boolean,
    "notes": pl.List(pl.String), "dissatisfaction": pl.Float64, "dissatisfaction_low": pl.Float64,
    "dissatisfaction_high": pl.Float64, "coverage": pl.Float64, "language": pl.String,
}  # fmt: skip


def of_interactions(work: pl.DataFrame, config: ResultsConfig) -> pl.DataFrame:
    """Judge ended interactions, each by its own events.

    Parameters
    ----------
    work
        From `traces.resolve`, of interactions that are over.
    config
        What is looked for.

    Returns
    -------
    polars.DataFrame
        Columns of `JUDGED`: reasons found, whether they fail, notes for the session; estimated
        dissatisfaction with its interval and coverage, null where the user said nothing.
    """
    if work.is_empty() or (config.outcomes is None and config.estimator is None):
        return pl.DataFrame(schema=JUDGED)
    inner = (pl.col("kind") == "interaction") & ~pl.col("closes")
    # An agent that another one called is no end, and a call that is told twice was made once.
    told = work.filter(~pl.col("repeats")).with_columns(
        kind=pl.when(inner).then(pl.lit("span")).otherwise("kind")
    )
    if (told["scope"] != "").any():  # within a scope an id is one event
        of_scope = pl.concat_str("scope", "event_id", separator="\x1f")
        told = told.with_columns(
            event_id=pl.when(pl.col("scope") == "").then("event_id").otherwise(of_scope)
        )
    traffic = Traffic(told)
    found = traffic.units.select(interaction_id="unit")
    if config.outcomes is not None:
        reasons = interaction_reasons(traffic, config.outcomes).drop("examples")
        found = found.join(reasons.rename({"reasons": "codes"}), on="interaction_id")
    if config.estimator is not None:
        described = features(turns(traffic))
        estimated = _estimated(config.estimator.predict(described, alone=True)).drop("session_id")
        language = described.select("interaction_id", "language")
        found = found.join(estimated, on="interaction_id", how="left").join(
            language, on="interaction_id", how="left"
        )
    return found.select(
        pl.col(name) if name in found else pl.lit(None, kind).alias(name)
        for name, kind in JUDGED.items()
    )


def as_before(stored: pl.DataFrame, config: ResultsConfig) -> pl.DataFrame:
    """What was judged of interactions while their words were there.

    Parameters
    ----------
    stored
        Their results: ``interaction_id``, ``agent``, ``reasons``, ``notes``, `ESTIMATES`,
        ``language``.
    config
        Which reasons fail.

    Returns
    -------
    polars.DataFrame
        Columns of `JUDGED`.
    """
    found = stored.with_columns(
        codes=pl.col("reasons").list.eval(pl.element().filter(pl.element().is_in(list(CODES))))
    )
    code = pl.col("code").replace_strict(list(CODES), range(len(CODES)), return_dtype=pl.UInt8)
    each = (
        found.select("interaction_id", "agent", code="codes", measure=pl.lit(math.inf))
        .explode("code")
        .drop_nulls("code")
        .with_columns(code)
    )
    outcomes = config.outcomes or OutcomeConfig()
    fails = outcomes.counted(each, is_session=False).group_by("interaction_id")
    return found.join(fails.agg(pl.col("fails").any()), on="interaction_id", how="left").select(
        *JUDGED
    )


def of_sessions(interactions: pl.DataFrame, config: ResultsConfig) -> pl.DataFrame:
    """Judge sessions by the results of their interactions.

    Parameters
    ----------
    interactions
        Current results that count: ``key`` (the session), ``interaction_id``, ``agent``,
        ``start_ns``, ``request``, ``answer``, ``status``, ``success``, ``success_source``,
        ``reasons``, ``notes``, ``tool_calls``, ``tool_errors``.
    config
        What is looked for.

    Returns
    -------
    polars.DataFrame
        ``key``, ``codes``, ``fails``; ``dissatisfaction`` with ``dissatisfaction_low`` and
        ``dissatisfaction_high``, the means over its interactions with the turns that followed,
        and their mean ``coverage``.
    """
    found = interactions.select("key").unique()
    rows = interactions.with_columns(session_id="key", start="start_ns")
    if config.outcomes is not None:
        # What people call a success shows no reason for the failure of the whole.
        sure = (pl.col("success") == 1) & pl.col("success_source").is_in(["outcome", "score"])
        seen = rows.with_columns(
            reasons=pl.when(sure.fill_null(value=False)).then([]).otherwise("reasons")
        )
        codes = session_reasons(seen, config.outcomes).rename({"reasons": "codes"})
        found = found.join(codes, left_on="key", right_on="session_id", how="left")
    if config.estimator is not None:
        has = pl.col("reasons").list.contains
        said = rows.filter(pl.col("request") != "").select(
            "session_id", "interaction_id", "request",
            time="start",
            answer=pl.when(pl.col("answer") != "").then("answer"),
            failed_calls="tool_errors",
            unrecovered=has("tool_error_unrecovered"),
            handed_over=has("handoff_to_human"),
            ended_in_error=pl.col("status") == "error",
        )  # fmt: skip
        estimated = _estimated(config.estimator.predict(features(said)))
        means = (
            estimated.sort("session_id", "interaction_id")
            .group_by("session_id", maintain_order=True)
            .agg(pl.col(*ESTIMATES).mean().round(12))
        )
        found = found.join(means, left_on="key", right_on="session_id", how="left")
    absent = {name: JUDGED[name] for name in ("codes", "fails", *ESTIMATES)}
    return found.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in absent.items() if name not in found
    )


ESTIMATES: Final = ("dissatisfaction", "dissatisfaction_low", "dissatisfaction_high", "coverage")


def _estimated(found: pl.DataFrame) -> pl.DataFrame:
    return found.rename(dict(zip(("p", "low", "high", "coverage"), ESTIMATES, strict=True)))
