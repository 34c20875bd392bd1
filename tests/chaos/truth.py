"""What must be stored, computed from the log in plain Python: the second opinion of every fault.

Money is counted in billionths of a dollar and time in microseconds, so everything is an integer
and equality is exact.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.log import Record

_LOG_GAMMA = math.log(1.01 / 0.99)
_EVALUATIONS = ("feedback", "score", "outcome")
WIDTHS = (10, 60, 3600, 86_400)
TOOLS = ("tool_call", "retrieval")
OTHER = "__other__"

Event = dict[str, Any]
Rows = dict[tuple[Any, ...], tuple[Any, ...]]
"""Rows of a table by their key."""

Fold = Callable[[str, str], str]
"""The label that (dimension, value) is counted under."""


@dataclass(frozen=True)
class Truth:
    """What a log comes to.

    Attributes
    ----------
    ledger
        Per (partition, offset): lines, events, lines that are no events.
    letters
        Per (partition, offset, line): why it is no event, None where any reason will do.
    accepted
        Lines that are events, repeats included.
    stored
        (event_id, agent, time) of every distinct event, losers of a collision included.
    counted
        The events that count: of each id the earliest.
    """

    ledger: dict[tuple[int, int], tuple[int, int, int]]
    letters: dict[tuple[int, int, int], str | None]
    accepted: int
    stored: Rows
    counted: list[Event]

    @property
    def duplicates(self) -> int:
        """Lines that repeat another."""
        return self.accepted - len(self.stored)

    @property
    def collisions(self) -> int:
        """Distinct events displaced by another of their id."""
        return len(self.stored) - len(self.counted)


def truth(log: Iterable[Record], poison: Mapping[bytes, str | None]) -> Truth:
    """Read a log; lines in ``poison`` are no events."""
    ledger, letters, accepted = {}, {}, 0
    distinct: dict[bytes, Event] = {}
    for record in log:
        lines = record.value.split(b"\n")
        bad = {at: poison[line] for at, line in enumerate(lines) if line in poison}
        letters |= {(record.partition, record.offset, at): code for at, code in bad.items()}
        for at, line in enumerate(lines):
            if at not in bad and line not in distinct:
                distinct[line] = json.loads(line)
        ledger[record.partition, record.offset] = len(lines), len(lines) - len(bad), len(bad)
        accepted += len(lines) - len(bad)
    counted: dict[str, Event] = {}
    for event in distinct.values():
        other = counted.setdefault(event["event_id"], event)
        if event["time_unix_nano"] < other["time_unix_nano"]:
            counted[event["event_id"]] = event
    stored: Rows = {(e["event_id"], e["agent"], e["time_unix_nano"]): () for e in distinct.values()}
    return Truth(ledger, letters, accepted, stored, list(counted.values()))


def _same(_: str, value: str) -> str:
    return value


# ---- windows -----------------------------------------------------------------------------------


def windows(events: Iterable[Event], fold: Fold = _same) -> Rows:
    """Sums and histogram per (environment, agent, width, start, agent version, scope)."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    bins: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    for event in events:
        added = _sums(event)
        second = event["time_unix_nano"] // 10**9
        place = fold("environment", event["environment"]), fold("agent", event["agent"])
        version = fold("agent_version", event.get("agent_version", ""))
        duration = event.get("duration_ms")
        index = None if duration is None else bin_of(duration)
        for scope in _scopes(event, fold):
            for width in WIDTHS:
                key = (*place, width, second - second % width, version, scope)
                found = sums.get(key)
                sums[key] = added if found is None else list(map(int.__add__, found, added))
                if index is not None:
                    bins[key][index] += 1
    return {
        key: (*found, sorted(bins[key]), [bins[key][b] for b in sorted(bins[key])])
        for key, found in sums.items()
    }


def bin_of(value: float) -> int:
    """Bin of the log-histogram: ceil(log(v) / log(gamma)), gamma = 1.01 / 0.99; 0 has its own."""
    return math.ceil(math.log(value) / _LOG_GAMMA) if value > 0 else -32768


def _scopes(event: Event, fold: Fold) -> list[str]:
    name, model = event.get("name"), event.get("model")
    kind = event["kind"]
    scopes = ["all", _folded(kind, name, fold) if name else kind]
    return [*scopes, _folded("model", model, fold)] if model else scopes


def _folded(kind: str, name: str, fold: Fold) -> str:
    """Tools and models are admitted together with what they are."""
    label = f"{kind}:{name}"
    return label if fold("scope", label) == label else f"{kind}:{OTHER}"


def _sums(event: Event) -> list[int]:
    """In the order of `tests.chaos.tables.WINDOWS`."""
    failed, tool = event.get("status") == "error", event["kind"] in TOOLS
    spends = event["kind"] != "interaction"  # whose totals repeat what its calls spent
    tokens = "input_tokens" in event or "output_tokens" in event
    return [
        1,
        int(not failed),
        int(failed),
        int(tool),
        int(tool and failed),
        spends * event.get("input_tokens", 0),
        spends * event.get("output_tokens", 0),
        spends * event.get("cached_tokens", 0),
        spends * round(event.get("cost_usd", 0) * 1e9),
        int(spends and "cost_usd" in event),
        int(spends and "cost_usd" not in event and tokens),
        int("duration_ms" in event),
        round(event.get("duration_ms", 0) * 1e3),
    ]


# ---- results -----------------------------------------------------------------------------------

_ADDED = ("events", "llm_calls", "tool_calls", "tool_errors")
Row = dict[str, Any]


def _results(events: Iterable[Event]) -> dict[str, Row]:
    groups: dict[str, list[Event]] = defaultdict(list)
    ratings: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event["kind"] not in _EVALUATIONS:
            groups[event["interaction_id"]].append(event)
        elif event["kind"] == "feedback":
            ratings[event["target"]].append(round(event["value"] * 1e9))
    return {name: _result(name, group, ratings[name]) for name, group in groups.items()}


def _result(name: str, events: list[Event], ratings: list[int]) -> Row:
    order = sorted(events, key=lambda e: e["time_unix_nano"])
    closing = [e for e in order if e["kind"] == "interaction"]
    others = [e for e in order if e["kind"] != "interaction"]
    calls = [e for e in others if e["kind"] == "llm_call"]
    tools = [e for e in others if e["kind"] in TOOLS]
    failed = [e for e in others if e.get("status") == "error"]
    # What the closing events say of all calls counts only where no call says any.
    used = calls if any(_USED & e.keys() for e in calls) else closing
    paid = others if used is calls else [*others, *closing]
    costs = [round(e["cost_usd"] * 1e9) for e in paid if "cost_usd" in e]
    complete = all("cost_usd" in e for e in used if _TOKENS & e.keys())
    priced = bool(costs) and complete
    speaker, status = (closing or order)[0], ""
    if closing:
        status = closing[-1].get("status", "ok")
    reason = ""
    if status == "error":
        said = [closing[-1].get("error_type"), *(e.get("error_type") for e in failed[-1:])]
        reason = next(filter(None, said), "error")
    signs = _signs(order, closing)
    source = "status" if status else ""
    if status == "ok" and "unanswered" in signs:
        reason, source = "unanswered", "structure"
    versions = [e.get("agent_version") for e in order if e["agent"] == speaker["agent"]]
    timed = closing and "duration_ms" in closing[-1]
    start = min(
        e["time_unix_nano"] - int(e.get("duration_ms", 0) * 1e6)
        for e in (closing if timed else events)
    )
    end = (closing or order)[-1]["time_unix_nano"]
    return {
        "environment": speaker["environment"],
        "agent": speaker["agent"],
        "agent_version": speaker.get("agent_version") or next(filter(None, versions), ""),
        "session_id": min((e["session_id"] for e in events if "session_id" in e), default=name),
        "user_id": min((e["user_id"] for e in events if "user_id" in e), default=""),
        "start": start,
        "end": end,
        "duration": _microseconds(end - start) if closing else None,
        "events": len(events),
        "llm_calls": len(calls),
        "tool_calls": len(tools),
        "tool_errors": sum(e.get("status") == "error" for e in tools),
        "input_tokens": _known(used, "input_tokens"),
        "output_tokens": _known(used, "output_tokens"),
        "cost": sum(costs) if priced else None,
        "status": status,
        "success": 0 if source == "structure" else {"ok": 1, "error": 0}.get(status),
        "success_source": source,
        "signs": signs,
        "failure_reason": reason,
        "rating": sum(ratings),
        "ratings": len(ratings),
        "complete": complete,
    }


_TOKENS = {"input_tokens", "output_tokens"}
_USED = {*_TOKENS, "cost_usd"}


def _signs(order: list[Event], closing: list[Event]) -> set[str]:
    """Reasons that the traffic can have: no answer, and a tool that failed last."""
    if not closing:
        return set()
    kinds = {e["kind"] for e in order}
    tools = [e for e in order if e["kind"] in TOOLS]
    signs = set()
    # The traffic ends its work with a tool, after which somebody has to say something.
    if tools and "user_message" in kinds and "agent_message" not in kinds:
        signs.add("unanswered")
    if tools and tools[-1].get("status") == "error":
        signs.add("tool_error_unrecovered")
    return signs


def _known(events: list[Event], name: str) -> int | None:
    known = [e[name] for e in events if name in e]
    return sum(known) if known else None


_INTERACTION = (
    "environment", "agent", "agent_version", "session_id", "user_id", "start", "end", *_ADDED,
    "input_tokens", "output_tokens", "cost", "status", "success", "success_source",
    "failure_reason", "ratings",
)  # fmt: skip


def interactions(events: Iterable[Event]) -> Rows:
    """Per interaction the columns of `tests.chaos.tables.INTERACTIONS`."""
    return {
        (name,): tuple(row[column] for column in _INTERACTION)
        for name, row in _results(events).items()
    }


def _sessions(results: Mapping[str, Row]) -> dict[str, Row]:
    groups: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for name, row in results.items():
        groups[row["session_id"]].append((name, row))
    return {name: _session(rows) for name, rows in groups.items()}


_FAILED = {"tool_error_unrecovered"}


def _session(rows: list[tuple[str, Row]]) -> Row:
    parts = [row for _, row in rows]
    first = min(rows, key=lambda r: (r[1]["start"], r[0]))[1]
    last = max(rows, key=lambda r: (r[1]["end"], r[0]))[1]
    failed = [r for n, r in sorted(rows, key=lambda r: (r[1]["end"], r[0])) if r["success"] == 0]
    costs = [row["cost"] for row in parts if row["cost"] is not None]
    start, end = min(row["start"] for row in parts), last["end"]
    worked = [r for _, r in sorted(rows, key=lambda r: (r[1]["start"], r[0])) if r["tool_calls"]]
    failing = "tool_error_unrecovered" if worked and _FAILED & worked[-1]["signs"] else ""
    if not failing and any("unanswered" in row["signs"] for row in parts):
        failing = "unanswered"
    success = 0 if failing else last["success"]
    # An error status of the last interaction names its cause itself.
    reason = "" if last["success"] == 0 and last["success_source"] == "status" else failing
    if success == 0 and not reason:
        reason = failed[-1]["failure_reason"]
    return {
        **{name: first[name] for name in ("environment", "agent", "agent_version")},
        "start": start,
        "end": end,
        "duration": _microseconds(end - start),
        "interactions": len(parts),
        "failed": len(failed),
        **{column: sum(row[column] for row in parts) for column in _ADDED},
        **{name: _known_of(parts, name) for name in ("input_tokens", "output_tokens")},
        "cost": sum(costs) if costs and all(row["complete"] for row in parts) else None,
        "success": success,
        "failure_reason": reason,
        "rating": sum(row["rating"] for row in parts),
        "ratings": sum(row["ratings"] for row in parts),
    }


def _microseconds(ns: int) -> int:
    """Of a duration that is stored in milliseconds, by whose last digit a half is rounded."""
    return round(round(ns / 1e6, 6) * 1e3)


def _known_of(rows: list[Row], name: str) -> int | None:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None


_SESSION = (
    "environment", "agent", "agent_version", "interactions", "failed", *_ADDED, "input_tokens",
    "output_tokens", "cost", "start", "end", "success", "failure_reason", "ratings",
)  # fmt: skip


def sessions(events: Iterable[Event]) -> Rows:
    """Per session the columns of `tests.chaos.tables.SESSIONS`."""
    return {
        (name,): tuple(row[column] for column in _SESSION)
        for name, row in _sessions(_results(events)).items()
    }


def rollups(events: Iterable[Event], fold: Fold = _same) -> Rows:
    """Per (environment, agent, width, start, version, unit) those of `tables.ROLLUPS`."""
    results = _results(events)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for unit, rows in (("interactions", results), ("sessions", _sessions(results))):
        for row in rows.values():
            second = row["end"] // 10**9
            labels = [fold(n, row[n]) for n in ("environment", "agent", "agent_version")]
            for width in WIDTHS[1:]:
                key = (*labels[:2], width, second - second % width, labels[2], unit)
                groups[key].append(row)
    return {key: _rollup(rows) for key, rows in groups.items()}


def _rollup(rows: list[Row]) -> tuple[Any, ...]:
    reasons = Counter(row["failure_reason"] for row in rows if row["success"] == 0)
    return (
        len(rows),
        sum(row["success"] == 1 for row in rows),
        sum(row["success"] is not None for row in rows),
        sum(row["duration"] is not None for row in rows),
        sum(row["duration"] or 0 for row in rows),
        sum(row["tool_calls"] for row in rows),
        sum(row["tool_errors"] for row in rows),
        sum(row["input_tokens"] or 0 for row in rows),
        sum(row["cost"] or 0 for row in rows),
        sum(row["cost"] is not None for row in rows),
        sum(row["ratings"] > 0 for row in rows),
        sorted(reasons),
        [reasons[reason] for reason in sorted(reasons)],
    )


def evaluations(events: Iterable[Event]) -> Rows:
    """What users and evaluators said of what; each of them speaks once."""
    return {
        (e["target"], e["kind"], e.get("name", ""), e.get("user_id", "")): (
            e["value"],
            e["time_unix_nano"],
        )
        for e in events
        if e["kind"] in _EVALUATIONS
    }


# ---- comparison --------------------------------------------------------------------------------


def differences(table: str, stored: Rows, true: Rows, limit: int = 3) -> list[str]:
    """Where a table and the truth disagree, in words; empty when they are equal."""
    missing, extra = true.keys() - stored.keys(), stored.keys() - true.keys()
    wrong = [key for key in true.keys() & stored.keys() if stored[key] != true[key]]
    found = [f"{key} is missing" for key in sorted(missing)[:limit]]
    found += [f"{key} should not be there" for key in sorted(extra)[:limit]]
    found += [f"{key}: {stored[key]}, not {true[key]}" for key in sorted(wrong)[:limit]]
    if not found:
        return []
    counts = f"{len(missing)} missing, {len(extra)} too many, {len(wrong)} wrong of {len(true)}"
    return [f"{table}: {counts}", *(f"{table}: {text}" for text in found)]
