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
from datetime import UTC, datetime
from typing import Any, Final

from detectors.sketch import GAMMA, ZERO_BIN, quantile
from processors.clickhouse import Store, literal
from processors.derive.dirty_marks import CELL_SECONDS
from processors.derive.windows import BINS, COUNTS, FIRSTS

_NAMES: Final = ("environment", "agent", "agent_version")

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
    WHERE {{chosen}}
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

# Whose part it is: of a session, which may stand on some of an interaction's parts only or differ
# between them (then the view decides), else of an interaction that is a session of its own.
_WHOSE: Final = "if(session_id = '', interaction_id, session_id)"

# Sessions whole, for a session's numbers are made of all its interactions.
_CHOSEN: Final = """interaction_id IN
(SELECT interaction_id FROM interaction_cells WHERE {active} AND {portion})"""

# Everything of those of whom something happened since. By hashes, which take a fraction of the
# memory of ids; where two are the same, more comes in than ended since, which ``where`` leaves out.
_ACTIVE: Final = f"""cityHash64({_WHOSE}) IN
(
    SELECT cityHash64({_WHOSE}) FROM interaction_cells
    WHERE {{portion}} AND cityHash64(interaction_id) IN
        (SELECT cityHash64(interaction_id) FROM interaction_cells WHERE {{cells}})
)"""

_PORTION: Final = "cityHash64({whose}) % {passes} = {number}"
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
"""

_NO_EVENTS: Final[dict[str, Any]] = {
    "scope": "all", "n": 0, "ok": 0, "error": 0, "tool_calls": 0, "tool_errors": 0,
    "input_tokens": 0, "output_tokens": 0, "duration": 0, "timed": 0, "bins": [], "counts": [],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """Which traffic to look at: an agent, and event time from ``since`` (s since 1970) on.

    Windows are taken whole, and interactions and sessions that ended in one: also the window that
    holds ``since``, so everything counts from where that `begins`.
    """

    agent: str | None = None
    since: int | None = None

    @property
    def begins(self) -> int | None:
        """Beginning of the first window, s since 1970."""
        return None if self.since is None else self.since // CELL_SECONDS * CELL_SECONDS

    @property
    def beginning(self) -> str | None:
        """The same as text; None when everything counts."""
        if self.begins is None:
            return None
        return datetime.fromtimestamp(self.begins, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def where(self, agent: str, time: str) -> str:
        """SQL condition on an agent's name and a time."""
        named = "1" if self.agent is None else f"{agent} = {literal(self.agent)}"
        return f"{named} AND {self.timely(time)}"

    def timely(self, time: str) -> str:
        """SQL condition on a time alone."""
        return "1" if self.begins is None else f"{time} >= toDateTime({self.begins}, 'UTC')"

    def chosen(self, number: int, passes: int) -> str:
        """SQL condition that leaves out, early, most interactions that ``where`` would.

        With several ``passes``, of the rest the part of that ``number``.
        """
        portion, by_view = (
            _PORTION.format(whose=whose, passes=passes, number=number) if passes > 1 else "1"
            for whose in (_WHOSE, "i.session_id")
        )
        active = "1"
        if self.since is not None:
            active = _ACTIVE.format(cells=self.timely("cell"), portion=portion)
        if active == portion == "1":
            return "1"
        return f"{_CHOSEN.format(active=active, portion=portion)} AND {by_view}"


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
        interactions and sessions stand at scope 'all' only, also where no event bears their names;
        durations are in milliseconds. ``since`` says where the first window begins.

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
    rows = scopes.result().to_dicts()
    # An interaction may bear names that no event bears together: those of who speaks for it, and
    # the version that is known of it from elsewhere.
    alone = {key[1:] for key in units} - {_key(row) for row in rows}
    rows += [dict(zip(_NAMES, key, strict=True)) | _NO_EVENTS for key in alone]
    rows.sort(key=lambda row: (*_key(row), row["scope"] != "all", row["scope"]))
    return [_entry(row, units) | {"since": chosen.beginning} for row in rows]


def _units(
    store: Store, chosen: Selection, say: Callable[[str], None]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Sums over interactions and over sessions, in as many passes as memory asks for."""
    counted = store.query(
        f"SELECT count() AS n FROM interaction_cells WHERE {chosen.timely('cell')}"
    )
    passes = 1 + int(counted["n"][0]) // _PARTS_PER_PASS
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for number in range(passes):
        if passes > 1:
            say(f"adding up interactions, pass {number + 1} of {passes} ...")
        asked = _UNITS.format(
            chosen=chosen.chosen(number, passes), where=chosen.where("u.3", "u.5")
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
    return tuple(row[name] for name in _NAMES)


def totals(entries: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Events, interactions and sessions over all agents."""
    whole = [entry for entry in entries if entry["scope"] == "all"]
    return {
        "events": sum(entry["events"]["n"] for entry in whole),
        "interactions": sum(entry["interactions"]["n"] for entry in whole),
        "sessions": sum(entry["sessions"]["n"] for entry in whole),
    }
