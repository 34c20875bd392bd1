"""The numbers of ``driftline metrics``: per agent and version, each rate with n and interval.

Event-level sums come from ``windows``, interactions and sessions from the views of those names.
What is not known is None, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from detectors.sketch import GAMMA, ZERO_BIN, quantile
from processors.store import Store, literal

QUANTILES: Final = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))

_BIN: Final = (
    f"if(duration_ms > 0, toInt16(ceil(log(duration_ms) / {math.log(GAMMA)!r})),"
    f" toInt16({ZERO_BIN}))"
)

_JUDGED: Final = """
WITH outcomes AS
(
    SELECT target, min(e.value) AS value FROM current_evaluations AS e
    WHERE kind = 'outcome' AND e.value IS NOT NULL GROUP BY target
),
feedback AS
(
    SELECT target, sum(e.value) AS total, count() AS given FROM current_evaluations AS e
    WHERE kind = 'feedback' AND e.value IS NOT NULL GROUP BY target
)"""

_UNIT: Final = f"""{_JUDGED}
SELECT environment, agent, agent_version, count() AS n,
    countIf(success = 1) AS yes, countIf(success IS NOT NULL) AS known,
    round(sum(round(duration_ms, 3)), 3) / n AS mean, sumMap([{_BIN}], [1]) AS histogram,
    histogram.1 AS bins, histogram.2 AS counts,
    round(sum(cost_usd), 9) AS cost_sum, cost_sum / count(cost_usd) AS cost_mean,
    round(avg(satisfied), 12) AS satisfaction, count(satisfied) AS rated
FROM {{unit}}
GROUP BY environment, agent, agent_version
"""

_INTERACTIONS: Final = """
(
    SELECT environment, agent, agent_version, duration_ms, cost_usd,
        multiIf(o.target != '', o.value >= 0.5, status = 'ok', 1, status = 'error', 0, NULL)
            AS success,
        if(f.target != '', f.total / f.given, NULL) AS satisfied
    FROM interactions AS i
    LEFT JOIN outcomes AS o ON o.target = i.interaction_id
    LEFT JOIN feedback AS f ON f.target = i.interaction_id
    WHERE {where}
)"""

# What users said of a session's interactions is said of the session as well.
_SESSIONS: Final = """
(
    SELECT environment, agent, agent_version, duration_ms, cost_usd,
        multiIf(o.target != '', o.value >= 0.5, last_status = 'ok', 1,
            last_status = 'error', 0, NULL) AS success,
        if(f.session_id != '', f.total / f.given, NULL) AS satisfied
    FROM sessions AS s
    LEFT JOIN outcomes AS o ON o.target = s.session_id
    LEFT JOIN
    (
        SELECT session_id, sum(total) AS total, sum(given) AS given FROM
        (
            SELECT i.session_id AS session_id, f.total AS total, f.given AS given
            FROM feedback AS f INNER JOIN interactions AS i ON f.target = i.interaction_id
            UNION ALL
            SELECT target AS session_id, total, given FROM feedback
        ) GROUP BY session_id
    ) AS f ON f.session_id = s.session_id
    WHERE {where}
)"""

_SCOPES: Final = """
SELECT environment, agent, agent_version, scope, sum(w.events) AS n, sum(w.ok) AS ok,
    sum(w.error) AS error, sum(w.tool_calls) AS tool_calls, sum(w.tool_errors) AS tool_errors,
    sum(w.input_tokens) AS input_tokens, sum(w.output_tokens) AS output_tokens,
    round(sum(w.duration_ms), 3) AS duration, sum(duration_n) AS timed,
    sumMap(duration_bins, duration_counts) AS histogram,
    histogram.1 AS bins, histogram.2 AS counts
FROM windows AS w FINAL
WHERE width_s = 10 AND {where}
GROUP BY environment, agent, agent_version, scope
HAVING n > 0 -- none are left where every event lost a collision
ORDER BY environment, agent, agent_version, scope != 'all', scope
"""

# A failed interaction counts by its reason; a session judged failed counts by the outcome's reason
# where none of its interactions failed with the same.
_REASONS: Final = """
SELECT environment, agent, agent_version, reason, count() AS n FROM
(
    SELECT environment, agent, agent_version, failure_reason AS reason
    FROM interactions WHERE status = 'error' AND {where}
    UNION ALL
    SELECT environment, agent, agent_version, if(o.reason = '', 'outcome', o.reason) AS reason
    FROM sessions AS s
    INNER JOIN
    (
        SELECT target, argMin(e.reason, (e.value, e.reason)) AS reason FROM current_evaluations AS e
        WHERE kind = 'outcome' AND e.value < 0.5 GROUP BY target
    ) AS o ON o.target = s.session_id
    LEFT JOIN
    (
        SELECT session_id, groupUniqArray(failure_reason) AS seen
        FROM interactions WHERE status = 'error' GROUP BY session_id
    ) AS f ON f.session_id = s.session_id
    WHERE NOT has(f.seen, reason) AND {where}
)
GROUP BY environment, agent, agent_version, reason ORDER BY n DESC, reason
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which traffic to look at: an agent, and event time from ``since`` (s since 1970) on."""

    agent: str | None = None
    since: int | None = None

    def where(self, time: str) -> str:
        """SQL condition on the columns ``agent`` and ``time``."""
        parts = ["1"]
        if self.agent is not None:
            parts.append(f"agent = {literal(self.agent)}")
        if self.since is not None:
            parts.append(f"{time} >= toDateTime({int(self.since)}, 'UTC')")
        return " AND ".join(parts)


def collect(store: Store, selection: Selection | None = None) -> list[dict[str, Any]]:
    """Read the metrics of every agent, version and scope.

    Parameters
    ----------
    store
        The database.
    selection
        What to look at; by default everything stored.

    Returns
    -------
    list of dict
        One entry per environment, agent, agent version and scope, 'all' before its parts. Units of
        interactions and sessions stand at scope 'all' only; durations are in milliseconds.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    chosen = selection or Selection()
    ended = chosen.where("end")
    units = {
        name: _by_key(store.query(_UNIT.format(unit=u.format(where=ended))))
        for name, u in (("interactions", _INTERACTIONS), ("sessions", _SESSIONS))
    }
    reasons: dict[tuple[str, ...], dict[str, int]] = {}
    for row in store.query(_REASONS.format(where=ended)).iter_rows(named=True):
        reasons.setdefault(_key(row), {})[row["reason"]] = row["n"]
    return [
        _entry(row, units, reasons)
        for row in store.query(_SCOPES.format(where=chosen.where("start"))).iter_rows(named=True)
    ]


def _entry(
    row: dict[str, Any],
    units: dict[str, dict[tuple[str, ...], dict[str, Any]]],
    reasons: dict[tuple[str, ...], dict[str, int]],
) -> dict[str, Any]:
    key, whole = _key(row), row["scope"] == "all"
    return {
        "environment": row["environment"],
        "agent": row["agent"],
        "agent_version": row["agent_version"] or None,
        "scope": row["scope"],
        "events": {
            "n": row["n"],
            "ok": row["ok"],
            "error": row["error"],
            "duration_ms": _duration(
                row["duration"] / row["timed"] if row["timed"] else None, row["bins"], row["counts"]
            ),
        },
        "interactions": unit(units["interactions"].get(key)) if whole else None,
        "sessions": unit(units["sessions"].get(key)) if whole else None,
        "tool_calls": row["tool_calls"],
        "tool_errors": row["tool_errors"],
        "input_tokens": row["input_tokens"],
        "output_tokens": row["output_tokens"],
        "failure_reasons": reasons.get(key, {}) if whole else {},
    }


def unit(row: dict[str, Any] | None) -> dict[str, Any]:
    """Interactions or sessions of one agent and version, as the command prints them."""
    if row is None:
        row = dict.fromkeys(("mean", "cost_sum", "cost_mean", "satisfaction"))
        row |= {"n": 0, "yes": 0, "known": 0, "bins": [], "counts": [], "rated": 0}
    low, high = wilson(row["yes"], row["known"])
    return {
        "n": row["n"],
        "success": {
            "yes": row["yes"],
            "known": row["known"],
            "rate": row["yes"] / row["known"] if row["known"] else None,
            "low": low,
            "high": high,
        },
        "duration_ms": _duration(row["mean"], row["bins"], row["counts"]),
        "cost_usd": {"sum": row["cost_sum"], "mean": row["cost_mean"]},
        "satisfaction": {
            "explicit": {"mean": row["satisfaction"], "n": row["rated"]},
            "estimated": {"mean": None, "n": 0},
        },
    }


def wilson(yes: int, n: int, z: float = 1.959964) -> tuple[float | None, float | None]:
    """Wilson score interval of a rate (E. B. Wilson, JASA 22, 1927), 95 % by default.

    Examples
    --------
    >>> [round(x, 3) for x in wilson(34, 40)]
    [0.709, 0.929]
    >>> wilson(0, 0)
    (None, None)
    """
    if n == 0:
        return None, None
    p, z2 = yes / n, z * z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _duration(mean: float | None, bins: list[int], counts: list[int]) -> dict[str, float | None]:
    known = quantile(bins, counts, [q for _, q in QUANTILES]).tolist() if counts else [None] * 3
    return {"mean": mean, **dict(zip((name for name, _ in QUANTILES), known, strict=True))}


def _by_key(rows: pl.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    return {_key(row): row for row in rows.iter_rows(named=True)}


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["environment"], row["agent"], row["agent_version"]


def totals(entries: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Events, interactions and sessions over all agents."""
    whole = [entry for entry in entries if entry["scope"] == "all"]
    return {
        "events": sum(entry["events"]["n"] for entry in whole),
        "interactions": sum(entry["interactions"]["n"] for entry in whole),
        "sessions": sum(entry["sessions"]["n"] for entry in whole),
    }
