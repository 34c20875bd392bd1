"""What the tables must say, computed from the produced events and from nothing of driftline's.

Everything is an integer: billionths of a dollar, microseconds, histogram bins. So it is exact.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import polars as pl

from ingest.core.events import Event

_LOG_GAMMA = math.log(1.01 / 0.99)
_EVALUATIONS = ("feedback", "score", "outcome")
_SUMS = (
    "events", "ok", "error", "tool_calls", "tool_errors", "input_tokens", "output_tokens",
    "cached_tokens", "cost", "priced", "unpriced", "duration_n", "duration",
)  # fmt: skip

WINDOWS = """
SELECT environment, agent, width_s, toUnixTimestamp(start) AS start, agent_version, scope,
    bitAnd(version, 0xFFFFFFFFFF) AS version,
    events, ok, error, tool_calls, tool_errors, input_tokens, output_tokens, cached_tokens,
    toInt64(round(cost_usd * 1e9)) AS cost, priced, unpriced,
    duration_n, toInt64(round(duration_ms * 1e3)) AS duration, duration_bins, duration_counts
FROM windows FINAL
"""

INTERACTIONS = """
SELECT interaction_id, environment, agent, agent_version, session_id, user_id,
    toUnixTimestamp64Nano(start) AS start, toUnixTimestamp64Nano(end) AS end,
    events, llm_calls, tool_calls, tool_errors, input_tokens, output_tokens,
    toInt64(round(cost_usd * 1e9)) AS cost, state, status, success, satisfaction_n
FROM interactions
"""

ROLLUPS = """
SELECT environment, agent, width_s, toUnixTimestamp(start) AS start, agent_version,
    n, open, unfinished, succeeded, success_known, tool_calls, satisfaction_n
FROM rollups FINAL WHERE unit = 'interactions' AND n > 0
"""

SESSIONS = """
SELECT session_id, interactions, failed, events, tool_calls, tool_errors,
    input_tokens, output_tokens, toUnixTimestamp64Nano(start) AS start,
    toUnixTimestamp64Nano(end) AS end
FROM sessions
"""

EVENTS = "SELECT event_id, agent, toUnixTimestamp64Nano(time) AS time FROM events FINAL"

EVALUATIONS = """
SELECT target, kind, user_id, value, toUnixTimestamp64Nano(time) AS time, 1 AS n
FROM current_evaluations
"""


def distinct(events: Iterable[Event]) -> list[Event]:
    """Each event once; the traffic gives an id to one payload only."""
    return list({event.event_id: event for event in events}.values())


def events(sent: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Every event by its id."""
    return {e.event_id: {"agent": e.agent, "time": e.time_unix_nano} for e in sent}


def windows(events: Iterable[Event]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Sums per environment, agent, width, start, version and scope."""
    found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    bins: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    for event in distinct(events):
        sums = _sums(event)
        second = event.time_unix_nano // 10**9
        scopes = ["all", f"{event.kind}:{event.name}" if event.name else event.kind]
        scopes += [f"model:{event.model}"] if event.model else []
        for width in (10, 60, 3600, 86_400):
            for scope in scopes:
                key = (
                    event.environment, event.agent, width, second // width * width,
                    event.agent_version or "", scope,
                )  # fmt: skip
                found[key].update(sums)
                if event.duration_ms is not None:
                    bins[key][_bin(event.duration_ms)] += 1
    return {
        key: {
            "version": sums["events"],
            **{name: sums[name] for name in _SUMS},
            "duration_bins": sorted(bins[key]),
            "duration_counts": [bins[key][b] for b in sorted(bins[key])],
        }
        for key, sums in found.items()
    }


def _sums(event: Event) -> dict[str, int]:
    failed, tool = event.status == "error", event.kind in ("tool_call", "retrieval")
    spends = event.kind != "interaction"
    tokens = event.input_tokens is not None or event.output_tokens is not None
    return {
        "events": 1,
        "ok": not failed,
        "error": failed,
        "tool_calls": tool,
        "tool_errors": tool and failed,
        "input_tokens": spends * (event.input_tokens or 0),
        "output_tokens": spends * (event.output_tokens or 0),
        "cached_tokens": spends * (event.cached_tokens or 0),
        "cost": spends * round((event.cost_usd or 0) * 1e9),
        "priced": spends and event.cost_usd is not None,
        "unpriced": spends and event.cost_usd is None and tokens,
        "duration_n": event.duration_ms is not None,
        "duration": round((event.duration_ms or 0) * 1e3),
    }


def _bin(value: float) -> int:
    return math.ceil(math.log(value) / _LOG_GAMMA) if value > 0 else -32768


def interactions(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """One row per interaction that did anything; the traffic keeps one agent to each."""
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in distinct(events):
        if event.kind not in _EVALUATIONS and event.interaction_id:
            groups[event.interaction_id].append(event)
    rated = Counter(e.target for e in distinct(events) if e.kind == "feedback")
    outcomes = {e.target: e.value for e in distinct(events) if e.kind == "outcome"}
    return {
        name: _interaction(group, rated[name], outcomes.get(name)) for name, group in groups.items()
    }


def _interaction(events: list[Event], rated: int, outcome: float | None) -> dict[str, Any]:
    first, sums = events[0], Counter[str]()
    for event in events:
        sums.update(_sums(event))
    calls = [e for e in events if e.kind == "llm_call"]
    closing = [e for e in events if e.kind == "interaction"]
    # What the closing event says of all calls counts only where no call says any.
    used = calls if any(map(_uses, calls)) else closing
    costs = [e.cost_usd for e in used if e.cost_usd is not None] if used is closing else []
    priced = sums["priced"] + len(costs) > 0 and all(e.cost_usd is not None for e in used)
    cost = sums["cost"] + sum(round(given * 1e9) for given in costs)
    timed = closing and closing[0].duration_ms is not None
    begun = closing if timed else events
    said = {"ok": 1, "error": 0}[closing[0].status] if closing else None
    return {
        "environment": first.environment,
        "agent": first.agent,
        "agent_version": first.agent_version,
        "session_id": first.session_id,
        "user_id": first.user_id,
        "start": min(e.time_unix_nano - int((e.duration_ms or 0) * 1e6) for e in begun),
        "end": max(e.time_unix_nano for e in closing or events),
        "events": len(events),
        "llm_calls": len(calls),
        "tool_calls": sums["tool_calls"],
        "tool_errors": sums["tool_errors"],
        "input_tokens": _known(e.input_tokens for e in used),
        "output_tokens": _known(e.output_tokens for e in used),
        "cost": cost if priced else None,
        # None of the traffic is as old as what is given up.
        "state": "ended" if closing else "open",
        "status": closing[0].status if closing else "",
        "success": said if outcome is None else int(outcome >= 0.5),
        "satisfaction_n": rated,
    }


def _uses(event: Event) -> bool:
    return any(v is not None for v in (event.input_tokens, event.output_tokens, event.cost_usd))


def _known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def rollups(events: Iterable[Event]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Interactions added up per environment, agent, width, start and version."""
    found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in interactions(events).values():
        second = row["end"] // 10**9
        for width in (60, 3600, 86_400):
            start = second // width * width
            key = row["environment"], row["agent"], width, start, row["agent_version"]
            found[key].update(
                n=1,
                open=row["state"] == "open",
                succeeded=row["success"] == 1,
                success_known=row["success"] is not None,
                tool_calls=row["tool_calls"],
                satisfaction_n=row["satisfaction_n"] > 0,
            )
    names = ("n", "open", "unfinished", "succeeded", "success_known", "tool_calls")
    return {
        key: {name: int(sums[name]) for name in (*names, "satisfaction_n")}
        for key, sums in found.items()
    }


def sessions(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Interactions added up by session."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in interactions(events).values():
        groups[row["session_id"]].append(row)
    added = ("events", "tool_calls", "tool_errors")
    return {
        name: {
            "interactions": len(group),
            "failed": sum(row["success"] == 0 for row in group),
            **{column: sum(row[column] for row in group) for column in added},
            "input_tokens": _known(row["input_tokens"] for row in group),
            "output_tokens": _known(row["output_tokens"] for row in group),
            "start": min(row["start"] for row in group),
            "end": max(row["end"] for row in group),
        }
        for name, group in groups.items()
    }


def evaluations(events: Iterable[Event]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What users and judges said."""
    return {
        (e.target, e.kind, e.user_id or "", e.value, e.time_unix_nano): {"n": 1}
        for e in distinct(events)
        if e.kind in _EVALUATIONS
    }


def keyed(frame: pl.DataFrame, columns: int) -> dict[Any, dict[str, Any]]:
    """Rows of a table by their first columns; a key that comes twice is an error."""
    found: dict[Any, dict[str, Any]] = {}
    for row in frame.iter_rows(named=True):
        names = list(row)
        key = tuple(row.pop(name) for name in names[:columns])
        key = key[0] if columns == 1 else key
        assert key not in found, f"{key} is there twice"
        found[key] = row
    return found


def differences(stored: dict[Any, Any], true: dict[Any, Any], limit: int = 5) -> list[str]:
    """Where two tables disagree, in words; empty when they are equal."""
    found = [f"missing: {key}" for key in true.keys() - stored.keys()]
    found += [f"too much: {key}" for key in stored.keys() - true.keys()]
    for key in true.keys() & stored.keys():
        wrong = {n for n in true[key] if stored[key][n] != true[key][n]}
        found += [f"{key} {n}: {stored[key][n]!r}, not {true[key][n]!r}" for n in sorted(wrong)]
    return [*found[:limit], f"... {len(found)} in all"] if len(found) > limit else found
