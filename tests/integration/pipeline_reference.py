"""What the derived tables must hold, from events in plain Python: no SQL, no increments."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from detectors.failures.fingerprint import fingerprint, template
from ingest.codec import payload_hash
from ingest.core.events import EVALUATION_KINDS, Event

S = 10**9
GAMMA = 1.01 / 0.99
Row = dict[str, Any]


class Truth:
    """A set of events, and what counts in it: of each id the smallest (time, payload hash)."""

    def __init__(self, events: Iterable[Event]) -> None:
        distinct = {(e.event_id, e.time_unix_nano, payload_hash(e)): e for e in events}
        winners: dict[str, tuple[str, int, int]] = {}
        for key in distinct:
            winners[key[0]] = min(key, winners.get(key[0], key))
        self.stored = len(distinct)
        self.losers = sorted(set(distinct) - set(winners.values()))
        self.counted = [distinct[key] for key in winners.values()]

    def windows(self, width: int) -> dict[tuple[Any, ...], Row]:
        """Per (environment, agent, start, agent version, scope) the sums of its events."""
        groups: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
        for event in self.counted:
            second = event.time_unix_nano // S
            for scope in scopes(event):
                key = (
                    event.environment, event.agent, second - second % width,
                    event.agent_version or "", scope,
                )  # fmt: skip
                groups[key].append(event)
        return {key: _window(events) for key, events in groups.items()}

    def interactions(self) -> dict[str, Row]:
        """Per interaction what the view of that name says."""
        groups: dict[str, list[Event]] = defaultdict(list)
        for event in self.counted:
            if event.interaction_id and event.kind not in EVALUATION_KINDS:
                groups[event.interaction_id].append(event)
        return {key: _interaction(key, events) for key, events in groups.items()}

    def sessions(self) -> dict[str, Row]:
        """Per session what the view of that name says."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.interactions().values():
            groups[row["session_id"]].append(row)
        return {key: _session(rows) for key, rows in groups.items()}

    def evaluations(self) -> dict[tuple[str, str, str, str], Event]:
        """Per (target, kind, name, user) the latest, if possible of those with a value."""
        latest: dict[tuple[str, str, str, str], Event] = {}
        order = lambda e: (e.value is not None, e.time_unix_nano, e.event_id)  # noqa: E731
        for event in sorted(self.counted, key=order):
            if event.kind in EVALUATION_KINDS:
                target = event.target or event.interaction_id or event.session_id or ""
                latest[target, event.kind, event.name or "", event.user_id or ""] = event
        return latest

    def judged(self, kind: str) -> dict[str, list[Event]]:
        """Per target the current outcomes or feedback with a value."""
        found: dict[str, list[Event]] = defaultdict(list)
        for (target, of_kind, _, _), event in self.evaluations().items():
            if of_kind == kind and event.value is not None:
                found[target].append(event)
        return found

    def units(self, name: str, since: int = 0) -> dict[tuple[str, str, str], Row]:
        """Interactions or sessions that ended since, per (environment, agent, agent version)."""
        outcomes, feedback = self.judged("outcome"), self.judged("feedback")
        rows = self.interactions() if name == "interactions" else self.sessions()
        groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for key, row in rows.items():
            if row["end"] < since * S:
                continue
            given = list(feedback.get(key, []))
            if name == "sessions":
                for part, interaction in self.interactions().items():
                    if interaction["session_id"] == key and part != key:
                        given += feedback.get(part, [])
            status = row["status" if name == "interactions" else "last_status"]
            success = {"ok": True, "error": False, "": None}[status]
            if key in outcomes:
                success = min(e.value or 0.0 for e in outcomes[key]) >= 0.5
            rating = sum(e.value or 0.0 for e in given) / len(given) if given else None
            groups[row["environment"], row["agent"], row["agent_version"]].append(
                row | {"success": success, "rating": rating}
            )
        return {key: _unit(rows) for key, rows in groups.items()}

    def reasons(self, since: int = 0) -> dict[tuple[str, str, str], Counter[str]]:
        """Failed interactions by reason; a failed session's, where none of its parts says it."""
        found: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        seen: dict[str, set[str]] = defaultdict(set)
        for row in self.interactions().values():
            if row["status"] == "error":
                seen[row["session_id"]].add(row["failure_reason"])
            if row["status"] == "error" and row["end"] >= since * S:
                found[row["environment"], row["agent"], row["agent_version"]][
                    row["failure_reason"]
                ] += 1
        outcomes = self.judged("outcome")
        for key, row in self.sessions().items():
            bad = [e for e in outcomes.get(key, []) if (e.value or 0.0) < 0.5]
            if bad and row["end"] >= since * S:
                _, reason = min((e.value or 0.0, e.reason or "") for e in bad)
                reason = reason or "outcome"
                if reason not in seen[key]:
                    found[row["environment"], row["agent"], row["agent_version"]][reason] += 1
        return found


def scopes(event: Event) -> Iterator[str]:
    """Under which names an event is counted."""
    yield "all"
    yield f"{event.kind}:{event.name}" if event.name else event.kind
    if event.model:
        yield f"model:{event.model}"


def _spenders(events: list[Event]) -> list[Event]:
    """A closing event may carry totals, which must not count again."""
    return [e for e in events if e.kind != "interaction"]


def _has_tokens(event: Event) -> bool:
    return event.input_tokens is not None or event.output_tokens is not None


def _window(events: list[Event]) -> Row:
    tools = [e for e in events if e.kind == "tool_call"]
    spenders = _spenders(events)
    timed = [e.duration_ms for e in events if e.duration_ms is not None]
    bins = Counter(-32768 if d == 0 else math.ceil(math.log(d) / math.log(GAMMA)) for d in timed)
    return {
        "events": len(events),
        "ok": sum(e.status == "ok" for e in events),
        "error": sum(e.status == "error" for e in events),
        "tool_calls": len(tools),
        "tool_errors": sum(e.status == "error" for e in tools),
        "input_tokens": sum(e.input_tokens or 0 for e in spenders),
        "output_tokens": sum(e.output_tokens or 0 for e in spenders),
        "cached_tokens": sum(e.cached_tokens or 0 for e in spenders),
        "cost_usd": _sum((e.cost_usd for e in spenders), 9),
        "priced": sum(e.cost_usd is not None for e in spenders),
        "unpriced": sum(e.cost_usd is None and _has_tokens(e) for e in spenders),
        "duration_n": len(timed),
        "duration_ms": _sum(timed, 3),
        "histogram": dict(bins),
    }


def _turn(event: Event) -> int:
    if event.kind != "interaction":
        return 2
    return 1 if event.parent_id else 0


def _version(order: list[Event], agent: str) -> str:
    """The first version known of the agent that speaks: in each cell, then over the cells."""
    known = []
    for cell, found in groupby(order, key=lambda e: e.time_unix_nano // (10 * 10**9)):
        speaking = sorted(found, key=_turn)
        said = next((e for e in speaking if e.agent_version), None)
        if said is not None and said.agent == speaking[0].agent:
            known.append((_turn(speaking[0]), cell, said.agent, said.agent_version or ""))
    first = min(known, default=None)
    return first[3] if first is not None and first[2] == agent else ""


def _interaction(key: str, events: list[Event]) -> Row:
    order = sorted(events, key=lambda e: (e.time_unix_nano, payload_hash(e)))
    closing = [e for e in order if e.kind == "interaction"]
    others = [e for e in order if e.kind != "interaction"]
    failed = [e for e in others if e.status == "error"]
    models = [e for e in events if e.kind == "llm_call"]
    tools = [e for e in events if e.kind == "tool_call"]
    speaking = sorted(order, key=_turn)
    first, last = speaking[0], failed[-1] if failed else None
    closing.sort(key=lambda e: not e.parent_id)  # who was called by nobody has the last word
    start = min(max(0, e.time_unix_nano - int((e.duration_ms or 0) * 1e6)) for e in events)
    end = order[-1].time_unix_nano
    priced = [e.cost_usd for e in others if e.cost_usd is not None]
    unpriced = sum(e.cost_usd is None and _has_tokens(e) for e in models)
    row = {
        "environment": first.environment,
        "agent": first.agent,
        "agent_version": _version(order, first.agent),
        "session_id": min((e.session_id for e in events if e.session_id), default=key),
        "user_id": min((e.user_id for e in events if e.user_id), default=""),
        "start": start,
        "end": end,
        "duration_ms": (end - start) / 1e6,
        "events": len(events),
        "llm_calls": len(models),
        "tool_calls": len(tools),
        "tool_errors": sum(e.status == "error" for e in tools),
        "input_tokens": sum(e.input_tokens or 0 for e in others),
        "output_tokens": sum(e.output_tokens or 0 for e in others),
        "priced": len(priced),
        "unpriced": unpriced,
        "cost_usd": _sum(priced, 9) if priced and not unpriced else None,
        "status": closing[-1].status if closing else "",
        "failure_reason": "",
        "failure_tool": "",
        "failure_template": "",
        "fingerprint": "",
    }
    if row["status"] == "error":
        reason = closing[-1].error_type or (last and last.error_type) or "error"
        tool = last.name or "" if last and last.kind == "tool_call" else ""
        text = template(closing[-1].error_message or "") or (
            template(last.error_message or "") if last else ""
        )
        row |= {"failure_reason": reason, "failure_tool": tool, "failure_template": text}
        row["fingerprint"] = fingerprint(reason, tool, text)
    return row | {"_id": key}


def _session(rows: list[Row]) -> Row:
    first = min(rows, key=lambda r: (r["start"], r["_id"]))
    order = sorted(rows, key=lambda r: (r["end"], r["_id"]))
    failed = [r for r in order if r["status"] == "error"]
    priced, unpriced = sum(r["priced"] for r in rows), sum(r["unpriced"] for r in rows)
    return {
        "environment": first["environment"],
        "agent": first["agent"],
        "agent_version": first["agent_version"],
        "start": first["start"],
        "end": order[-1]["end"],
        "duration_ms": (order[-1]["end"] - first["start"]) / 1e6,
        "interactions": len(rows),
        "failed_interactions": len(failed),
        "events": sum(r["events"] for r in rows),
        "tool_calls": sum(r["tool_calls"] for r in rows),
        "tool_errors": sum(r["tool_errors"] for r in rows),
        "input_tokens": sum(r["input_tokens"] for r in rows),
        "output_tokens": sum(r["output_tokens"] for r in rows),
        "cost_usd": _sum((r["cost_usd"] for r in rows), 9) if priced and not unpriced else None,
        "last_status": order[-1]["status"],
        "failure_reason": failed[-1]["failure_reason"] if failed else "",
    }


def _unit(rows: list[Row]) -> Row:
    known = [r["success"] for r in rows if r["success"] is not None]
    costs = [r["cost_usd"] for r in rows if r["cost_usd"] is not None]
    ratings = [r["rating"] for r in rows if r["rating"] is not None]
    return {
        "n": len(rows),
        "yes": sum(known),
        "known": len(known),
        "mean": _sum((r["duration_ms"] for r in rows), 3) / len(rows),
        "cost": _sum(costs, 9) if costs else None,
        "cost_mean": _sum(costs, 9) / len(costs) if costs else None,
        "satisfaction": sum(ratings) / len(ratings) if ratings else None,
        "rated": len(ratings),
    }


def _sum(values: Iterable[float | None], digits: int) -> float:
    """Sum of values that are kept to so many digits: microseconds, billionths of a dollar."""
    return round(math.fsum(round(v, digits) for v in values if v is not None), digits)


MESSAGES = (None, "Order #W123456 not found", "timeout after 30 s", "HTTP 503 from https://a.b/c")


def traffic(seed: int, count: int = 400, start: int = 1_759_996_700) -> list[Event]:
    """Events with everything that makes it hard, in order of nothing.

    Interactions of several agents, over cells and hours, without an end or with two, at the very
    edges of cells; sessions said by some of the events only; feedback that is changed or speaks of
    nothing; prices known, unknown and zero.
    """
    rng = random.Random(seed)

    def pick(*values: Any) -> Any:
        return rng.choice(values)

    spans = {
        n: (start + rng.randrange(0, 9_000, 10), pick(0.0, 3.0, 40.0, 5_000.0)) for n in range(30)
    }
    homes = {n: (pick("booking", "o'brien\\ agent", "ünï"), pick("v1", "v2", None)) for n in spans}
    events = []
    for number in range(count):
        n = rng.randrange(len(spans))
        at, length = spans[n]
        agent, version = homes[n] if rng.random() < 0.8 else ("helper", pick("v1", None))
        ns = at * S + pick(0, S - 1, 10 * S, 10 * S - 1, round(rng.random() * length * S))
        kind = pick(
            "llm_call", "llm_call", "tool_call", "tool_call", "tool_call", "retrieval",
            "agent_message", "interaction", "feedback", "outcome", "score",
        )  # fmt: skip
        if kind == "interaction":
            agent, version = homes[n]
        failed = rng.random() < 0.4
        spends = kind in ("llm_call", "interaction", "tool_call") and rng.random() < 0.8
        judges = kind in EVALUATION_KINDS
        events.append(
            Event(
                event_id=f"e{number}",
                time_unix_nano=ns + rng.randrange(1_000) if rng.random() < 0.9 else ns,
                environment="production" if n % 5 else "test",
                agent=agent,
                agent_version=version,
                kind=kind,
                interaction_id=pick(f"i{n}", f"i{n}", f"i{n}", f"i{n}", None),
                session_id=pick(None, None, f"s{n % 11}", f"t{n % 11}"),
                user_id=pick(None, f"u{n % 3}", f"w{n % 3}"),
                name=pick("search", "pay", "it's", None),
                model=pick("m-1", "m-2", None) if kind == "llm_call" else None,
                status="error" if failed else "ok",
                error_type=pick(None, "timeout", "refused") if failed else None,
                error_message=pick(*MESSAGES) if failed else None,
                duration_ms=pick(None, 0.0, rng.lognormvariate(5, 2), rng.lognormvariate(9, 2)),
                input_tokens=pick(None, 0, rng.randrange(5_000)) if spends else None,
                output_tokens=pick(None, rng.randrange(900)) if spends else None,
                cached_tokens=pick(None, rng.randrange(90)) if spends else None,
                cost_usd=pick(None, 0.0, rng.random(), rng.random() / 1e4) if spends else None,
                value=pick(None, 0.0, 0.25, 1.0, rng.random()) if judges else None,
                reason=pick(None, "wrong", "rude", "timeout") if judges else None,
                target=pick(None, None, f"i{n}", f"s{n % 11}", "nobody") if judges else None,
            )
        )
    return events
