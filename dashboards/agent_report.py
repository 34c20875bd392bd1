"""The numbers of ``driftline metrics``: per agent and version, each rate with n and interval.

Interactions and sessions come from rollups, the parts of an agent (tools, operations, models) from
windows of events. What is not known is None, never 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from dashboards import queries
from processors.clickhouse import Store

Key = tuple[str, str, str]
Entry = dict[str, Any]

_QUANTILES: Final = ("p50", "p95", "p99")
_NAMES: Final = ("environment", "agent", "agent_version")
_MINUTES_KEPT_S: Final = 29 * 86_400
_EMPTY: Final[dict[str, Any]] = {
    **dict.fromkeys(("n", "open", "unfinished", "yes", "known", "duration", "timed"), 0),
    **dict.fromkeys(("cost", "priced", "rating", "rated", "estimate", "estimated", "covered"), 0),
    **dict.fromkeys(_QUANTILES), "reasons": [], "failed": [], "seen": [], "seen_n": [],
    "tool_calls": 0, "tool_errors": 0, "input_tokens": None, "output_tokens": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """Which traffic to look at.

    Parameters
    ----------
    agent, environment
        Name; every one when None.
    since, until
        Event time, s since 1970; everything when None. Rollups count whole, so the range begins
        with the minute that holds ``since``, or the hour where minutes are no longer kept.
    """

    agent: str | None = None
    since: int | None = None
    environment: str | None = None
    until: int | None = None

    @property
    def begins(self) -> int | None:
        """Beginning of the first rollup, s since 1970."""
        if self.since is None:
            return None
        edge = 3600 if self.since < time.time() - _MINUTES_KEPT_S else 60
        return self.since // edge * edge

    @property
    def beginning(self) -> str | None:
        """The same as text; None when everything counts."""
        if self.begins is None:
            return None
        return datetime.fromtimestamp(self.begins, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def before(self, now: int) -> Selection | None:
        """Return the period of the same length that ends where this begins; None without one."""
        if self.begins is None:
            return None
        return replace(self, since=2 * self.begins - (self.until or now), until=self.begins - 1)

    @property
    def values(self) -> dict[str, queries.Value]:
        """Values for `dashboards.queries.render`."""
        found = dict(queries.EVERYTHING)
        if self.begins is not None:
            found["from"] = max(self.begins, 0)
        if self.until is not None:
            found["to"] = self.until
        chosen = {"agent": self.agent, "environment": self.environment}
        return found | {name: [value] for name, value in chosen.items() if value is not None}


def collect(store: Store, selection: Selection | None = None, *, parts: bool = True) -> list[Entry]:
    """Read the metrics of every agent and version, and of their parts.

    Parameters
    ----------
    store
        The database.
    selection
        What to look at; by default everything stored.
    parts
        Also per tool, operation and model.

    Returns
    -------
    list of dict
        One entry per environment, agent, agent version and scope, 'all' before its parts. Units of
        interactions and sessions, and reasons, stand at scope 'all' only: primary ones of failed
        interactions and sessions, and all that interactions show, failed or not. Durations are in
        milliseconds. ``since`` says where the first rollup begins.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    chosen = selection or Selection()
    units = _units(store, chosen)
    unpriced = {}
    if any(row["priced"] < row["n"] for found in units.values() for row in found.values()):
        rows = _rows(store, "report.unpriced_models", chosen)
        unpriced = {_key(row): row["models"] for row in rows}
    scopes: dict[Key, list[Entry]] = {}
    if parts:
        for row in _rows(store, "report.scopes", chosen):
            scopes.setdefault(_key(row), []).append(_scope(row))
    entries = []
    for key in sorted(units.keys() | scopes.keys()):
        found = scopes.get(key, [])
        whole = next((entry for entry in found if entry["scope"] == "all"), None)
        entries.append(_whole(key, units.get(key, {}), whole, unpriced.get(key, [])))
        entries += [entry for entry in found if entry["scope"] != "all"]
    return [entry | {"since": chosen.beginning} for entry in entries]


def previous(store: Store, selection: Selection, now: int | None = None) -> dict[Key, Entry]:
    """Units of the period before, by environment, agent and version; empty without a beginning."""
    before = selection.before(int(time.time()) if now is None else now)
    if before is None:
        return {}
    return {
        key: {name: unit(rows.get(name)) for name in ("interactions", "sessions")}
        for key, rows in _units(store, before).items()
    }


def _units(store: Store, chosen: Selection) -> dict[Key, dict[str, dict[str, Any]]]:
    found: dict[Key, dict[str, dict[str, Any]]] = {}
    for row in _rows(store, "report.units", chosen):
        found.setdefault(_key(row), {})[row["unit"]] = row
    return found


def _rows(store: Store, name: str, chosen: Selection) -> Iterable[dict[str, Any]]:
    query = queries.render(name, chosen.values)
    return store.query(query.sql, query.parameters).iter_rows(named=True)


def _whole(
    key: Key,
    units: Mapping[str, dict[str, Any]],
    events: Entry | None,
    unpriced: list[str],
) -> Entry:
    """Entry of an agent version; events are None where they were not asked for."""
    interactions, sessions = (units.get(name, _EMPTY) for name in ("interactions", "sessions"))
    return {
        **_named(key),
        "scope": "all",
        "events": events["events"] if events else None,
        "interactions": unit(units.get("interactions")),
        "sessions": unit(units.get("sessions")),
        "tool_calls": interactions["tool_calls"],
        "tool_errors": interactions["tool_errors"],
        "input_tokens": interactions["input_tokens"],
        "output_tokens": interactions["output_tokens"],
        "unpriced_models": unpriced,
        "failure_reasons": _most_frequent(interactions["reasons"], interactions["failed"]),
        "session_failure_reasons": _most_frequent(sessions["reasons"], sessions["failed"]),
        "seen_reasons": _most_frequent(interactions["seen"], interactions["seen_n"]),
    }


def _scope(row: dict[str, Any]) -> Entry:
    return {
        **_named(_key(row)),
        "scope": row["scope"],
        "events": {
            "n": row["n"],
            "ok": row["ok"],
            "error": row["error"],
            "duration_ms": _duration(row),
        },
        "interactions": None,
        "sessions": None,
        "tool_calls": row["tool_calls"],
        "tool_errors": row["tool_errors"],
        "input_tokens": row["input_tokens"],
        "output_tokens": row["output_tokens"],
        "unpriced_models": [],
        **{key: {} for key in ("failure_reasons", "session_failure_reasons", "seen_reasons")},
    }


def unit(row: dict[str, Any] | None) -> dict[str, Any]:
    """Interactions or sessions of one agent and version, as the command prints them."""
    row = row or _EMPTY
    low, high = wilson(row["yes"], row["known"])
    return {
        "n": row["n"],
        "open": row["open"],
        "unfinished": row["unfinished"],
        "success": {
            "yes": row["yes"],
            "known": row["known"],
            "rate": _mean(row["yes"], row["known"]),
            "low": low,
            "high": high,
        },
        "duration_ms": _duration(row),
        "cost_usd": {
            "sum": round(row["cost"], 9) if row["priced"] else None,
            "mean": _mean(row["cost"], row["priced"]),
            "n": row["priced"],
        },
        "satisfaction": {
            "explicit": {"mean": _mean(row["rating"], row["rated"]), "n": row["rated"]},
            "estimated": {
                "mean": _mean(row["estimated"] - row["estimate"], row["estimated"]),
                "n": row["estimated"],
                "coverage": _mean(row["covered"], row["n"]),
            },
        },
    }


def _mean(total: float, n: int) -> float | None:
    return total / n if n else None


def wilson(yes: float, n: int, z: float = 1.959964) -> tuple[float | None, float | None]:
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


def _duration(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {"mean": _mean(row["duration"], row["timed"]), **{q: row[q] for q in _QUANTILES}}


def _most_frequent(reasons: list[str], counts: list[int]) -> dict[str, int]:
    found = [(reason, n) for reason, n in zip(reasons, counts, strict=True) if n]
    return dict(sorted(found, key=lambda item: (-item[1], item[0])))


def _key(row: Mapping[str, Any]) -> Key:
    environment, agent, version = (row[name] for name in _NAMES)
    return environment, agent, version


def _named(key: Key) -> Entry:
    environment, agent, version = key
    return {"environment": environment, "agent": agent, "agent_version": version or None}


def totals(entries: Iterable[Entry]) -> dict[str, int]:
    """Events, interactions and sessions over all agents; read with their parts."""
    whole = [entry for entry in entries if entry["scope"] == "all"]
    return {
        "events": sum(entry["events"]["n"] for entry in whole if entry["events"]),
        "interactions": sum(entry["interactions"]["n"] for entry in whole),
        "sessions": sum(entry["sessions"]["n"] for entry in whole),
    }
