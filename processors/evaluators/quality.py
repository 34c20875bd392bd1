"""How far a judge is to be trusted: its agreement with people and outcomes, and an honest rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from detectors.compare.agreement import Agreement, agreement
from detectors.compare.ppi import powered_mean
from processors.clickhouse import Store

VIEWS: Final = {
    "interaction": ("interactions", "interaction_id"),
    "session": ("sessions", "session_id"),
}
"""View and id of each kind of target."""

LABEL: Final = "label"
"""Name of the outcome that `driftline label` and ``/v1/feedback`` with ``label`` give."""

_JUDGED: Final = """
SELECT j.name AS name, j.value >= 0.5 AS yes, t.n > 0 AS known, t.truth >= 0.5 AS truth,
    t.labels > 0 AS labelled
FROM
(
    SELECT target, name, min(value) AS value FROM current_evaluations
    WHERE kind = 'score' AND value IS NOT NULL GROUP BY target, name
) AS j
LEFT JOIN
(
    SELECT target, count() AS n, countIf(name = 'label') AS labels,
        if(labels > 0, avgIf(value, name = 'label'), min(value)) AS truth
    FROM current_evaluations WHERE kind = 'outcome' AND value IS NOT NULL GROUP BY target
) AS t ON t.target = j.target
"""


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
    """

    agreement: Agreement
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
            found[str(name)] = Quality(agreement(known["yes"], known["truth"]), _rate(part))
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
