"""The numbers of ``driftline metrics``: per agent and version, each rate with n and interval.

Event-level sums come from ``windows``, interactions and sessions from the views of those names.
What is not known is None, never 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from detectors.sketch import GAMMA, ZERO_BIN, quantile
from processors.marks import CELL_SECONDS
from processors.store import Store, literal
from processors.windows import BINS, COUNTS, FIRSTS

QUANTILES: Final = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))

_ADDITIVE: Final = (
    "n", "yes", "known", "duration", "cost", "priced", "rating", "rated",
    "bins", "counts", "reasons", "failed",
)  # fmt: skip

_BIN: Final = (
    f"if(duration_ms > 0, toInt16(ceil(log(duration_ms) / {math.log(GAMMA)!r})),"
    f" toInt16({ZERO_BIN}))"
)

# One pass over the interactions serves both units and the reasons: adding up their parts is what
# costs. What users said of a session's interactions is said of the session as well. A failed
# interaction counts by its reason; a session judged failed counts by the outcome's reason where
# none of its interactions failed with the same.
_UNITS: Final = f"""
WITH verdicts AS
(
    SELECT target, countIf(kind = 'outcome') AS outcomes, minIf(e.value, kind = 'outcome') AS value,
        argMinIf(e.reason, (e.value, e.reason), kind = 'outcome') AS why,
        sumIf(assumeNotNull(e.value), kind = 'feedback') AS total,
        countIf(kind = 'feedback') AS given
    FROM current_evaluations AS e
    WHERE kind IN ('outcome', 'feedback') AND e.value IS NOT NULL GROUP BY target
),
judged AS
(
    SELECT environment, agent, agent_version, session_id, interaction_id, start, end, duration_ms,
        priced, unpriced, cost_usd, status, if(status = 'error', failure_reason, '') AS reason,
        multiIf(v.outcomes > 0, v.value >= 0.5, status = 'ok', 1, status = 'error', 0, NULL)
            AS success,
        v.total AS total, v.given AS given
    FROM interactions AS i LEFT JOIN verdicts AS v ON v.target = i.interaction_id
    WHERE {{active}} AND {{portion}}
),
-- as the view of that name
sessions AS
(
    SELECT j.session_id AS session_id,
        (argMin((j.environment, j.agent, j.agent_version), (j.start, j.interaction_id))
            AS first).1 AS environment, first.2 AS agent, first.3 AS agent_version,
        max(j.end) AS end,
        (toUnixTimestamp64Nano(end) - toUnixTimestamp64Nano(min(j.start))) / 1e6 AS duration_ms,
        if(sum(j.priced) > 0 AND sum(j.unpriced) = 0, round(sum(j.cost_usd), 9), NULL) AS cost_usd,
        argMax(j.status, (j.end, j.interaction_id)) AS last_status,
        groupUniqArray(j.reason) AS reasons, sum(j.total) AS total, sum(j.given) AS given,
        groupArray(('interactions', j.environment, j.agent, j.agent_version, j.end, j.duration_ms,
            j.cost_usd, j.success, if(j.given > 0, j.total / j.given, NULL), j.reason)) AS parts
    FROM judged AS j GROUP BY session_id
)
SELECT u.1 AS unit, u.2 AS environment, u.3 AS agent, u.4 AS agent_version, count() AS n,
    countIf(u.8 = 1) AS yes, countIf(u.8 IS NOT NULL) AS known,
    round(sum(round(u.6 AS duration_ms, 3)), 3) AS duration,
    arraySort(groupArray({_BIN})) AS sorted,
    {FIRSTS} AS firsts, {BINS} AS bins, {COUNTS} AS counts,
    round(ifNull(sum(u.7), 0), 9) AS cost, count(u.7) AS priced,
    round(ifNull(sum(u.9), 0), 12) AS rating, count(u.9) AS rated,
    sumMapIf([u.10], [1], u.10 != '') AS failures, failures.1 AS reasons, failures.2 AS failed
FROM
(
    SELECT arrayJoin(arrayPushBack(s.parts, ('sessions', s.environment, s.agent, s.agent_version,
        s.end, s.duration_ms, s.cost_usd,
        multiIf(v.outcomes > 0, v.value >= 0.5, s.last_status = 'ok', 1, s.last_status = 'error', 0,
            NULL),
        if(s.given + v.given > 0, (s.total + v.total) / (s.given + v.given), NULL),
        if(v.outcomes = 0 OR v.value >= 0.5 OR has(s.reasons, if(v.why = '', 'outcome', v.why)), '',
            if(v.why = '', 'outcome', v.why))))) AS u
    FROM sessions AS s LEFT JOIN verdicts AS v ON v.target = s.session_id
)
WHERE {{where}}
GROUP BY unit, environment, agent, agent_version
"""

# All interactions of every session in which something happened since.
_ACTIVE: Final = """interaction_id IN
(
    SELECT interaction_id FROM interaction_cells WHERE {active}
    UNION ALL
    SELECT interaction_id FROM interaction_cells WHERE session_id IN
        (SELECT session_id FROM interaction_cells WHERE session_id != '' AND {active})
)"""

# Sessions whole, and every interaction with its session: that may stand on some of its parts only,
# or differ between them, and then the view decides.
_PORTION: Final = """interaction_id IN
(
    SELECT interaction_id FROM interaction_cells
    WHERE cityHash64(if(session_id = '', interaction_id, session_id)) % {passes} = {number}
)
AND cityHash64(i.session_id) % {passes} = {number}"""
_PARTS_PER_PASS: Final = 1_000_000

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


@dataclass(frozen=True, slots=True)
class Selection:
    """Which traffic to look at: an agent, and event time from ``since`` (s since 1970) on."""

    agent: str | None = None
    since: int | None = None

    def where(self, agent: str, time: str) -> str:
        """SQL condition on an agent's name and a time."""
        parts = ["1"]
        if self.agent is not None:
            parts.append(f"{agent} = {literal(self.agent)}")
        if self.since is not None:
            parts.append(f"{time} >= toDateTime({int(self.since)}, 'UTC')")
        return " AND ".join(parts)

    @property
    def cells(self) -> str:
        """SQL condition on ``cell`` that leaves out, early, most of what ``where`` would."""
        if self.since is None:
            return "1"
        return f"cell >= toDateTime({int(self.since) // CELL_SECONDS * CELL_SECONDS}, 'UTC')"

    @property
    def active(self) -> str:
        """SQL condition on interactions that does the same."""
        return "1" if self.since is None else _ACTIVE.format(active=self.cells)


def collect(
    store: Store, selection: Selection | None = None, say: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Read the metrics of every agent, version and scope.

    Parameters
    ----------
    store
        The database.
    selection
        What to look at; by default everything stored.
    say
        Told how far it has come, where it takes several passes.

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
    asked = _SCOPES.format(where=chosen.where("agent", "start"))
    with ThreadPoolExecutor(1) as pool:
        scopes = pool.submit(store.query, asked)
        units = _units(store, chosen, say)
    return [_entry(row, units) for row in scopes.result().iter_rows(named=True)]


def _units(
    store: Store, chosen: Selection, say: Callable[[str], None]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Sums over interactions and over sessions, in as many passes as memory asks for."""
    counted = store.query(f"SELECT count() AS n FROM interaction_cells WHERE {chosen.cells}")
    passes = 1 + int(counted["n"][0]) // _PARTS_PER_PASS
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for number in range(passes):
        if passes > 1:
            say(f"adding up interactions, pass {number + 1} of {passes} ...")
        portion = _PORTION.format(passes=passes, number=number) if passes > 1 else "1"
        asked = _UNITS.format(
            active=chosen.active, portion=portion, where=chosen.where("u.3", "u.5")
        )
        for row in store.query(asked).iter_rows(named=True):
            key = row["unit"], *_key(row)
            found[key] = _added(found[key], row) if key in found else row
    return found


def _added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both together; the lists of a histogram may then name a bin twice."""
    return one | {name: one[name] + other[name] for name in _ADDITIVE}


def _entry(row: dict[str, Any], units: dict[tuple[str, ...], dict[str, Any]]) -> dict[str, Any]:
    whole = row["scope"] == "all"
    both = [units.get((name, *_key(row))) for name in ("interactions", "sessions")]
    reasons: Counter[str] = Counter()
    for found in both:
        for reason, n in zip(found["reasons"], found["failed"], strict=True) if found else ():
            reasons[reason] += n
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
        "interactions": unit(both[0]) if whole else None,
        "sessions": unit(both[1]) if whole else None,
        "tool_calls": row["tool_calls"],
        "tool_errors": row["tool_errors"],
        "input_tokens": row["input_tokens"],
        "output_tokens": row["output_tokens"],
        "failure_reasons": _most_frequent(reasons) if whole else {},
    }


def unit(row: dict[str, Any] | None) -> dict[str, Any]:
    """Interactions or sessions of one agent and version, as the command prints them."""
    if row is None:
        row = dict.fromkeys(_ADDITIVE, 0) | {"bins": [], "counts": []}
    low, high = wilson(row["yes"], row["known"])
    return {
        "n": row["n"],
        "success": {
            "yes": row["yes"],
            "known": row["known"],
            "rate": _mean(row["yes"], row["known"]),
            "low": low,
            "high": high,
        },
        "duration_ms": _duration(_mean(row["duration"], row["n"]), row["bins"], row["counts"]),
        "cost_usd": {
            "sum": round(row["cost"], 9) if row["priced"] else None,
            "mean": _mean(row["cost"], row["priced"]),
        },
        "satisfaction": {
            "explicit": {"mean": _mean(row["rating"], row["rated"]), "n": row["rated"]},
            "estimated": {"mean": None, "n": 0},
        },
    }


def _mean(total: float, n: int) -> float | None:
    return total / n if n else None


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


def _most_frequent(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


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
