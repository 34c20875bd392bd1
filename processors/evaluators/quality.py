"""How far a judge is to be trusted: its agreement with people and outcomes, and an honest rate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from detectors.compare.agreement import Agreement, agreement
from detectors.compare.ppi import powered_mean
from ingest.core.events import LABEL
from processors.clickhouse import Store

VIEWS: Final = {
    "interaction": ("interactions", "interaction_id"),
    "session": ("sessions", "session_id"),
}
"""View and id of each kind of target."""

_JUDGED: Final = f"""
SELECT j.name AS name, j.judged >= 0.5 AS yes, t.n > 0 AS known, t.truth >= 0.5 AS truth,
    t.labels > 0 AS labelled
FROM
(
    SELECT target, name, min(value) AS judged FROM current_evaluations
    WHERE kind = 'score' AND value IS NOT NULL GROUP BY target, name
) AS j
LEFT JOIN
(
    SELECT target, count() AS n, countIf(name = '{LABEL}') AS labels,
        if(labels > 0, avgIf(value, name = '{LABEL}'), min(value)) AS truth
    FROM current_evaluations WHERE kind = 'outcome' AND value IS NOT NULL GROUP BY target
) AS t ON t.target = j.target
"""  # noqa: S608 - our own constants


@dataclass(frozen=True, slots=True)
class Quality:
    """What is known of one name of scores.

    Attributes
    ----------
    agreement
        With people where they labelled, else with outcomes.
    rate
        Share that people would pass with its interval, ``n_labels`` and ``n_judged``; None with
        fewer than two labels. Labels must be of targets chosen at random.
    labels
        How many people's labels there are among the truths.
    """

    agreement: Agreement
    labels: int
    rate: dict[str, Any] | None


def measure(store: Store) -> dict[str, Quality]:
    """Quality of every name of scores of which the truth of a target is known, others' too."""
    rows = store.query(_JUDGED)
    found: dict[str, Quality] = {}
    if rows.is_empty():
        return found
    for (name,), part in rows.group_by("name", maintain_order=True):
        known = part.filter(pl.col("known") != 0)
        if not known.is_empty():
            measured = agreement(known["yes"], known["truth"])
            labels = int((known["labelled"] != 0).sum())
            found[str(name)] = Quality(measured, labels, _rate(part))
    return found


def _rate(part: pl.DataFrame) -> dict[str, Any] | None:
    labelled = part.filter(pl.col("labelled") != 0)
    rest = part.filter(pl.col("labelled") == 0)
    if len(labelled) < 2:
        return None
    truth, judged = (labelled[name].to_numpy().astype(float) for name in ("truth", "yes"))
    mean = powered_mean(truth, judged, rest["yes"].to_numpy().astype(float))
    return {
        "value": mean.value, "low": max(mean.low, 0.0), "high": min(mean.high, 1.0),
        "n_labels": mean.n_labels, "n_judged": mean.n_judged,
    }  # fmt: skip


def store_agreement(store: Store) -> None:
    """Write down what `measure` finds, one row per name and day.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    now = datetime.now(UTC)
    rows = []
    for name, found in measure(store).items():
        row: dict[str, Any] = {
            "evaluator": name, "day": now.replace(hour=0, minute=0, second=0, microsecond=0),
            "version": int(now.timestamp() * 1000), "n": found.agreement.n, "labels": found.labels,
        }  # fmt: skip
        for part in ("kappa", "precision", "recall"):
            estimate = getattr(found.agreement, part)
            row |= {
                part: estimate.value,
                f"{part}_low": estimate.low,
                f"{part}_high": estimate.high,
            }
        rate = found.rate or dict.fromkeys(("value", "low", "high"))
        row |= {"pass_rate": rate["value"], "pass_low": rate["low"], "pass_high": rate["high"]}
        rows.append(row)
    if rows:
        store.insert("evaluator_agreement", pl.DataFrame(rows, schema_overrides=_TYPES))


_TYPES: Final[dict[str, Any]] = {
    "day": pl.Datetime("ms", "UTC"), "version": pl.UInt64, "n": pl.UInt64, "labels": pl.UInt64,
    **dict.fromkeys(
        (
            "kappa", "kappa_low", "kappa_high", "precision", "precision_low", "precision_high",
            "recall", "recall_low", "recall_high", "pass_rate", "pass_low", "pass_high",
        ),
        pl.Float64,
    ),
}  # fmt: skip
