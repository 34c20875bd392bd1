"""What the derived tables must hold, from events in plain Python: no SQL, no increments."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import polars as pl

from detectors.failures.fingerprint import fingerprint, template
from detectors.outcomes import Traffic, interaction_reasons, session_reasons
from detectors.satisfaction import Estimator, features, turns
from ingest.codec import payload_hash
from ingest.core.events import EVALUATION_KINDS, Event

S = 10**9
GAMMA = 1.01 / 0.99
Row = dict[str, Any]


class Truth:
    """A set of events, and what counts in it: of each id the smallest (time, payload hash).

    Interactions without an end are given up ``inactivity_s`` before ``sealed`` (ns); scores named
    in ``trusted`` decide success where no outcome is given.
    """

    def __init__(
        self,
        events: Iterable[Event],
        sealed: int = 0,
        inactivity_s: int = 900,
        trusted: tuple[str, ...] = (),
    ) -> None:
        self.quiet_since = sealed - inactivity_s * S
        self.trusted = trusted
        distinct = {(e.event_id, e.time_unix_nano, payload_hash(e)): e for e in events}
        winners: dict[str, tuple[str, int, int]] = {}
        for key in distinct:
            winners[key[0]] = min(key, winners.get(key[0], key))
        self.stored = len(distinct)
        self.losers = sorted(set(distinct) - set(winners.values()))
        self.counted = [distinct[key] for key in winners.values()]
        self.interactions = cache(self._interactions)
        self.sessions = cache(self._sessions)

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

    def _interactions(self) -> dict[str, Row]:
        """Per interaction what the view of that name says."""
        groups: dict[str, list[Event]] = defaultdict(list)
        for event in self.counted:
            if event.interaction_id and event.kind not in EVALUATION_KINDS:
                groups[event.interaction_id].append(event)
        found: dict[str, Row] = {}
        outcomes, feedback = self.judged("outcome"), self.judged("feedback")
        scores = self.scores()
        for trace, events in groups.items():
            for name, part, closing in split(trace, events):
                if all(e.kind == "span" for e in part):
                    continue
                row = _interaction(name, part, closing, events, self.quiet_since)
                row |= _structure(name, part, closing, events, row)
                found[name] = _success(row, outcomes.get(name, []), scores.get(name, []))
                found[name] |= _rating(feedback.get(name, []))
        return found

    def _sessions(self) -> dict[str, Row]:
        """Per session what the view of that name says."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.interactions().values():
            groups[row["session_id"]].append(row)
        outcomes, feedback, scores = self.judged("outcome"), self.judged("feedback"), self.scores()
        found = {}
        for key, rows in groups.items():
            row = _session(rows)
            given = feedback.get(key, []) + [
                e for part in rows if part["_id"] != key for e in feedback.get(part["_id"], [])
            ]
            success = _session_success(row, outcomes.get(key, []), scores.get(key, []))
            found[key] = row | success | _rating(given)
            found[key] |= _session_estimate(rows)
        return found

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

    def scores(self) -> dict[str, list[Event]]:
        """Per target the current scores that a team trusts."""
        found = self.judged("score").items()
        return {
            target: trusted
            for target, given in found
            if (trusted := [e for e in given if e.name in self.trusted])
        }


def scopes(event: Event) -> Iterator[str]:
    """Under which names an event is counted."""
    yield "all"
    yield f"{event.kind}:{event.name}" if event.name else event.kind
    if event.model:
        yield f"model:{event.model}"


def _spenders(events: list[Event]) -> list[Event]:
    """A closing event may carry totals, which must not count again."""
    return [e for e in events if e.kind not in ("interaction", "span")]


def _has_tokens(event: Event) -> bool:
    return event.input_tokens is not None or event.output_tokens is not None


def _window(events: list[Event]) -> Row:
    tools = [e for e in events if e.kind in ("tool_call", "retrieval")]
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


def _began(event: Event) -> int:
    return event.time_unix_nano - int(min((event.duration_ms or 0) * 1e6, event.time_unix_nano))


def _order(event: Event) -> tuple[int, int]:
    return event.time_unix_nano, payload_hash(event)


def split(trace: str, events: list[Event]) -> Iterator[tuple[str, list[Event], list[Event]]]:
    """Name, events and closing events of each interaction of a trace."""
    known: dict[str, Event] = {}
    for event in sorted(events, key=_order):
        known.setdefault(event.event_id, event)

    def path(event: Event) -> list[Event]:
        found, above = [event], known.get(event.parent_id or "")
        while above is not None and all(above is not e for e in found):
            found.append(above)
            above = known.get(above.parent_id or "")
        return found

    tops: dict[str, Event | None] = {}
    for event in events:
        agents = [e for e in path(event) if e.kind == "interaction"]
        tops[event.event_id] = agents[-1] if agents else None
    highest = {e.event_id: e for e in tops.values() if e is not None}
    roots = [e for e in highest.values() if not e.parent_id]
    first_root = min(roots, key=lambda e: (_began(e), e.event_id), default=None)

    def owner(top: Event) -> Event:
        orphan = bool(path(top)[-1].parent_id)
        return first_root if first_root and (orphan or not top.parent_id) else top

    owners = {owner(e).event_id: owner(e) for e in highest.values()}
    ranked = sorted(owners.values(), key=lambda e: (bool(e.parent_id), _began(e), e.event_id))
    if not ranked:
        yield trace, events, []
        return
    begun = sorted(highest.values(), key=lambda e: (_began(e), e.event_id))
    parts: dict[str, list[Event]] = {e.event_id: [] for e in ranked}
    for event in events:
        top = tops[event.event_id]
        if top is not None:
            chosen = owner(top)
        else:
            before = [e for e in begun if _began(e) <= _began(event)]
            chosen = owner(before[-1] if before else begun[0])
        parts[chosen.event_id].append(event)
    for number, one in enumerate(ranked):
        name = trace if number == 0 else f"{trace}/{one.event_id}"
        closing = [e for e in highest.values() if owner(e) is one and (e is one or not e.parent_id)]
        yield name, parts[one.event_id], closing


def repeated(events: list[Event]) -> tuple[set[str], dict[str, float]]:
    """Ids of calls that another instrumentation tells as well, and costs that only these know."""
    known: dict[str, Event] = {}
    for event in sorted(events, key=_order):
        known.setdefault(event.event_id, event)

    def outer(event: Event) -> Event | None:
        above, steps = known.get(event.parent_id or ""), 0
        while above is not None and above.kind == "span" and steps < 32:
            above, steps = known.get(above.parent_id or ""), steps + 1
        return above if above is not event and above and above.kind == event.kind else None

    def chain(event: Event) -> list[Event]:
        found: list[Event] = []
        above = outer(event)
        while above is not None and len(found) < 32:
            found.append(above)
            above = outer(above)
        return found

    twice = set()
    chains = {e.event_id: chain(e) for e in events if e.kind == "llm_call"}
    by_id = {e.event_id: e for e in events}
    for event in events:
        above = outer(event)
        same = above is not None and (event.name or "") == (above.name or "")
        if above and (event.kind == "human_input" or (event.kind == "tool_call" and same)):
            twice.add(event.event_id)
    told = {e.event_id for i, above in chains.items() if _has_tokens(by_id[i]) for e in above}
    for name, above in chains.items():
        if _has_tokens(by_id[name]):
            counts = not any(map(_has_tokens, above))
        else:
            counts = not above and name not in told
        if not counts:
            twice.add(name)
    return twice, _costs(chains, by_id, twice)


def _costs(
    chains: dict[str, list[Event]], events: dict[str, Event], twice: set[str]
) -> dict[str, float]:
    found: dict[str, float] = {}
    asking = [n for n in chains if n not in twice and events[n].cost_usd is None]
    paid: set[str] = set()
    inner: dict[str, list[float]] = defaultdict(list)
    for name, above in chains.items():
        cost, counting = events[name].cost_usd, [e for e in above if e.event_id not in twice]
        outside = any(e.cost_usd is not None for e in above)
        if name in twice and cost is not None and not outside and counting:
            inner[counting[0].event_id].append(round(cost, 9))
    for name in sorted(asking, key=lambda n: _order(events[n])):
        priced = [e for e in chains[name] if e.cost_usd is not None]
        if priced:
            found[name] = 0.0 if priced[-1].event_id in paid else priced[-1].cost_usd or 0.0
            paid.add(priced[-1].event_id)
        elif name in inner:
            found[name] = math.fsum(inner[name])
    return found


def _sums(events: list[Event]) -> list[Event]:
    """Agent spans that say tokens or cost, below none that does."""
    known: dict[str, Event] = {}
    for event in sorted(events, key=_order):
        known.setdefault(event.event_id, event)

    def says(event: Event) -> bool:
        used = _has_tokens(event) or event.cost_usd is not None
        return event.kind == "interaction" and used

    def highest(event: Event) -> Event:
        found, above, seen = event, known.get(event.parent_id or ""), {event.event_id}
        while above is not None and above.event_id not in seen:
            found = above if says(above) else found
            seen.add(above.event_id)
            above = known.get(above.parent_id or "")
        return found

    return [e for e in events if says(e) and highest(e) is e]


CALLS = ("llm_call", "tool_call", "retrieval", "decision", "handoff")


def _cost(event: Event, costs: dict[str, float]) -> float | None:
    return costs.get(event.event_id, event.cost_usd)


def _says(event: Event, name: str) -> str | None:
    return (event.attributes or {}).get(name)


def _agent(closing: list[Event], order: list[Event]) -> str:
    """The closing span's own name, else the first one below it, else its service's."""

    def named(event: Event) -> bool:
        return _says(event, "driftline.agent_from") != "service"

    own = next((e for e in closing if named(e)), None)
    closers = {e.event_id for e in closing}
    below = [e for e in order if e.kind == "interaction" and e.event_id not in closers]
    first = min(filter(named, below), key=lambda e: (_began(e), -e.time_unix_nano), default=None)
    return (own or (closing and first) or (closing or order)[0]).agent


def _interaction(
    key: str, events: list[Event], closing: list[Event], trace: list[Event], quiet_since: int
) -> Row:
    twice, costs = repeated(trace)
    order = sorted(events, key=_order)
    closing = sorted(closing, key=_order)
    closers = {e.event_id for e in closing}
    once = [e for e in order if e.event_id not in twice]
    inner = [e for e in once if e.event_id not in closers and e.kind != "span"]
    failed = [e for e in inner if e.status == "error"]
    models = [e for e in once if e.kind == "llm_call"]
    tools = [e for e in once if e.kind in ("tool_call", "retrieval")]
    users, spenders = models, _spenders(once)
    if not any(_has_tokens(e) or _cost(e, costs) is not None for e in models):
        sums = {e.event_id for e in _sums(trace)}
        users = [e for e in order if e.event_id in sums]
        spenders = [*spenders, *users]
    first, last = (closing or order)[0], failed[-1] if failed else None
    agent = _agent(closing, order)
    same = [e.agent_version for e in order if e.agent == agent and e.agent_version]
    timed = closing and all(e.duration_ms is not None for e in closing)
    start = min(map(_began, closing if timed else order))
    end = closing[-1].time_unix_nano if closing else order[-1].time_unix_nano
    quiet = order[-1].time_unix_nano <= quiet_since
    state = "ended" if closing else "unfinished" if quiet else "open"
    priced = [cost for e in spenders if (cost := _cost(e, costs)) is not None]
    unpriced = sum(_cost(e, costs) is None and _has_tokens(e) for e in users)
    status = closing[-1].status if closing else ""
    if closing and _says(closing[-1], "driftline.status_from") == "parts":
        done = [e for e in inner if e.kind in ("llm_call", "tool_call", "retrieval")]
        at = max((e.time_unix_nano for e in done if e.status == "ok"), default=0)
        bad = [e for e in failed if e.kind in (*CALLS, "interaction") and e.time_unix_nano >= at]
        status = "error" if bad else status
    errors = any(e.status == "error" and e.kind != "span" for e in order)
    wrong = status == "error" or (state == "unfinished" and errors)
    row = {
        "environment": first.environment,
        "agent": agent,
        "agent_version": next((v for v in [*(e.agent_version for e in closing), *same] if v), ""),
        "session_id": _least(e.session_id for e in closing)
        or _least(e.session_id for e in events)
        or key,
        "user_id": _least(e.user_id for e in closing) or _least(e.user_id for e in events),
        "start": start,
        "end": end,
        "state": state,
        "status": status,
        "duration_ms": (end - start) / 1e6 if closing else None,
        "waiting_ms": _waiting(order, start, end) if closing else None,
        "events": len(events),
        "llm_calls": len(models),
        "models": sorted({e.model for e in models if e.model}),
        "tool_calls": len(tools),
        "tool_errors": sum(e.status == "error" for e in tools),
        "input_tokens": _known(e.input_tokens for e in users),
        "output_tokens": _known(e.output_tokens for e in users),
        "priced": len(priced),
        "unpriced": unpriced,
        "cost_usd": _sum(priced, 9) if priced and not unpriced else None,
        "request": next((e.content for e in order if e.kind == "user_message" and e.content), ""),
        "answer": next(
            (e.content for e in reversed(order) if e.kind == "agent_message" and e.content), ""
        ),
        "success": 0 if wrong else 1 if status == "ok" else None,
        "success_source": "status" if wrong or status == "ok" else "",
        "failure_reason": "",
        "failure_tool": "",
        "failure_template": "",
        "fingerprint": "",
        "_id": key,
        "_why": "",
        "_tool": "",
        "_text": "",
    }
    if wrong:
        row["_why"] = (closing and closing[-1].error_type) or (last and last.error_type) or "error"
    if last and last.kind in ("tool_call", "retrieval"):
        row["_tool"] = last.name or ""
    row["_text"] = (closing and template(closing[-1].error_message or "")) or (
        template(last.error_message or "") if last else ""
    )
    return row


def _structure(
    name: str, part: list[Event], closing: list[Event], trace: list[Event], row: Row
) -> Row:
    """Reasons and estimate of an interaction that is over, from a frame of its events alone."""
    found: Row = {"_codes": [], "_fails": False, "_notes": [], **dict.fromkeys(ESTIMATES)}
    if row["state"] == "open":
        return found
    (twice, _), closers = repeated(trace), {e.event_id for e in closing}
    rows = [
        {
            **{f: getattr(e, f) for f in e.__struct_fields__},
            "interaction_id": name,
            "attributes": None,
            "closes": e.event_id in closers,
            "kind": "span" if e.kind == "interaction" and e.event_id not in closers else e.kind,
        }
        for e in part
        if e.event_id not in twice
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None, schema_overrides=TEXTS)
    traffic = Traffic(frame)
    for codes, fails, notes in (
        interaction_reasons(traffic).select("reasons", "fails", "notes").iter_rows()
    ):
        found |= {"_codes": codes, "_fails": fails, "_notes": notes}
    estimate = Estimator.load().predict(features(turns(traffic)), alone=True)
    for values in estimate.select("p", "low", "high", "coverage").iter_rows():
        found |= dict(zip(ESTIMATES, values, strict=True))
    return found


ESTIMATES = ("dissatisfaction", "dissatisfaction_low", "dissatisfaction_high", "coverage")
TEXTS = dict.fromkeys(
    (
        "name",
        "content",
        "tool_arguments",
        "tool_result",
        "error_message",
        "error_type",
        "attributes",
    ),
    pl.String,
)


def _success(row: Row, outcomes: list[Event], scores: list[Event]) -> Row:
    """An outcome decides, the worst of several, then a score, structure, status."""
    why = row["_why"]
    if row["_fails"] and row["success"] != 0:
        row["success"], row["success_source"], why = 0, "structure", row["_codes"][0]
    if outcomes or scores:
        row["success"], reason = _worst(outcomes or scores)
        row["success_source"] = "outcome" if outcomes else "score"
        why = reason or why or row["success_source"]
    told = [why] if row["success"] == 0 else []
    row["reasons"] = list(dict.fromkeys([*told, *filter(None, [row["_why"]]), *row["_codes"]]))
    if row["success"] == 0:
        row |= {
            "failure_reason": why,
            "failure_tool": row["_tool"],
            "failure_template": row["_text"],
            "fingerprint": fingerprint(why, row["_tool"], row["_text"]),
        }
    return row


def _waiting(events: list[Event], start: int, end: int) -> float:
    """Milliseconds between ``start`` and ``end`` in which a person was waited for."""
    edges = [
        (max(_began(e), start), min(e.time_unix_nano, end))
        for e in events
        if e.kind == "human_input"
    ]
    waited, until = 0, start
    for begins, ends in sorted(edges):
        waited += max(0, ends - max(begins, until))
        until = max(until, ends)
    return waited / 1e6


def _rating(given: list[Event]) -> Row:
    value = sum(round((e.value or 0.0) * 1e9) for e in given) / len(given) / 1e9 if given else None
    return {"satisfaction": value, "satisfaction_n": len(given)}


def _least(values: Iterable[str | None]) -> str:
    return min((v for v in values if v), default="")


def _known(values: Iterable[int | None]) -> int | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _session(rows: list[Row]) -> Row:
    first = min(rows, key=lambda r: (r["start"], r["_id"]))
    order = sorted(rows, key=lambda r: (r["end"], r["_id"]))
    priced, unpriced = sum(r["priced"] for r in rows), sum(r["unpriced"] for r in rows)
    return {
        "environment": first["environment"],
        "agent": first["agent"],
        "agent_version": first["agent_version"],
        "start": first["start"],
        "end": order[-1]["end"],
        "duration_ms": (order[-1]["end"] - first["start"]) / 1e6,
        "interactions": len(rows),
        "succeeded": sum(r["success"] == 1 for r in rows),
        "failed": sum(r["success"] == 0 for r in rows),
        "events": sum(r["events"] for r in rows),
        "tool_calls": sum(r["tool_calls"] for r in rows),
        "tool_errors": sum(r["tool_errors"] for r in rows),
        "input_tokens": _known(r["input_tokens"] for r in rows),
        "output_tokens": _known(r["output_tokens"] for r in rows),
        "cost_usd": _sum((r["cost_usd"] for r in rows), 9) if priced and not unpriced else None,
        "success": order[-1]["success"],
        "_order": order,
    }


def _worst(given: list[Event]) -> tuple[int, str]:
    value, reason = min((e.value or 0.0, e.reason or "") for e in given)
    return int(value >= 0.5), reason


def _session_success(row: Row, outcomes: list[Event], scores: list[Event]) -> Row:
    failed = [r["failure_reason"] for r in row["_order"] if r["success"] == 0]
    why, success = failed[-1] if failed else "", row["success"]
    codes, fails = _session_structure(row["_order"])
    last = row["_order"][-1]["success_source"]
    by_structure = fails and (success != 0 or last == "structure")
    by_structure = by_structure and last not in ("outcome", "score") and not (outcomes or scores)
    if by_structure:
        success, why = 0, codes[0]
    if outcomes or scores:
        success, reason = _worst(outcomes or scores)
        why = reason or why or ("outcome" if outcomes else "score")
    primary = [why] if success == 0 and (outcomes or scores or by_structure) else []
    return {
        "success": success,
        "failure_reason": (why or "error") if success == 0 else "",
        "reasons": list(dict.fromkeys([*primary, *failed, *codes])),
    }


def _session_structure(rows: list[Row]) -> tuple[list[str], bool]:
    frame = pl.DataFrame(
        [
            {
                "session_id": "s",
                "interaction_id": r["_id"],
                "agent": r["agent"],
                "start": r["start"],
                "request": r["request"],
                "answer": r["answer"],
                "tool_calls": r["tool_calls"],
                "reasons": []
                if r["success"] == 1 and r["success_source"] in ("outcome", "score")
                else r["_codes"],
                "notes": r["_notes"],
            }
            for r in rows
        ],
        schema_overrides={"reasons": pl.List(pl.String), "notes": pl.List(pl.String)},
    )
    ((_, codes, fails),) = session_reasons(frame).iter_rows()
    return codes, fails


def _session_estimate(rows: list[Row]) -> Row:
    """The mean over its interactions, each beside what followed."""
    said = [
        {
            "session_id": "s",
            "interaction_id": r["_id"],
            "time": r["start"],
            "request": r["request"],
            "answer": r["answer"] or None,
            "failed_calls": r["tool_errors"],
            "unrecovered": "tool_error_unrecovered" in r["_codes"],
            "handed_over": "handoff_to_human" in r["_codes"],
            "ended_in_error": r["status"] == "error",
        }
        for r in rows
        if r["request"]
    ]
    if not said:
        return dict.fromkeys(ESTIMATES)
    frame = pl.DataFrame(said, schema_overrides={"answer": pl.String})
    found = Estimator.load().predict(features(frame))
    return dict(
        zip(ESTIMATES, found.select("p", "low", "high", "coverage").mean().row(0), strict=True)
    )


def rollups(rows: Iterable[Row], width: int) -> dict[tuple[Any, ...], Row]:
    """Results added up per (environment, agent, agent version, start)."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        start = row["end"] // S // width * width
        groups[row["environment"], row["agent"], row["agent_version"], start].append(row)
    return {key: _rollup(found) for key, found in groups.items()}


def _rollup(rows: list[Row]) -> Row:
    # The agent's own time; a session lasts from its start to its end.
    timed = [
        r["duration_ms"] - (r.get("waiting_ms") or 0.0)
        for r in rows
        if r["duration_ms"] is not None
    ]
    return {
        "n": len(rows),
        "open": sum(r.get("state") == "open" for r in rows),
        "unfinished": sum(r.get("state") == "unfinished" for r in rows),
        "succeeded": sum(r["success"] == 1 for r in rows),
        "success_known": sum(r["success"] is not None for r in rows),
        "duration_n": len(timed),
        "duration_ms": _sum(timed, 3),
        "tool_calls": sum(r["tool_calls"] for r in rows),
        "input_tokens": sum(r["input_tokens"] or 0 for r in rows),
        "cost_usd": _sum((r["cost_usd"] for r in rows), 9),
        "cost_n": sum(r["cost_usd"] is not None for r in rows),
        "satisfaction_n": sum(r["satisfaction"] is not None for r in rows),
        "satisfaction": _sum((r["satisfaction"] for r in rows), 12),
        "failures": dict(Counter(r["failure_reason"] for r in rows if r["success"] == 0)),
    }


def _sum(values: Iterable[float | None], digits: int) -> float:
    """Sum of values that are kept to so many digits: microseconds, billionths of a dollar."""
    return round(math.fsum(round(v, digits) for v in values if v is not None), digits)


MESSAGES = (None, "Order #W123456 not found", "timeout after 30 s", "HTTP 503 from https://a.b/c")


WORDS = (
    None, "please cancel my order now", "No! That is useless, you never help", "谢谢你",
    "Hi! How can I help you?", "Your order has been updated.", "I cannot help with that.",
    "KeyError: 'id'", "Which order do you mean?",
)  # fmt: skip


MARKS = (
    None,
    None,
    {"driftline.agent_from": "service"},
    {"driftline.status_from": "parts"},
)
"""What spans say of agents that do not know their name, or how they ended."""


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
    near: dict[int, list[str]] = defaultdict(list)
    for number in range(count):
        n = rng.randrange(len(spans))
        at, length = spans[n]
        agent, version = homes[n] if rng.random() < 0.8 else ("helper", pick("v1", None))
        ns = at * S + pick(0, S - 1, 10 * S, 10 * S - 1, round(rng.random() * length * S))
        kind = pick(
            "llm_call", "llm_call", "tool_call", "tool_call", "tool_call", "retrieval",
            "agent_message", "interaction", "feedback", "outcome", "score", "span",
            "user_message", "human_input", "handoff",
        )  # fmt: skip
        if kind == "interaction":
            agent, version = homes[n]
        failed = rng.random() < 0.4
        spends = kind in ("llm_call", "interaction", "tool_call") and rng.random() < 0.8
        judges = kind in EVALUATION_KINDS
        near[n].append(f"e{number}")
        events.append(
            Event(
                event_id=f"e{number}",
                time_unix_nano=ns + rng.randrange(1_000) if rng.random() < 0.9 else ns,
                environment="production" if n % 5 else "test",
                agent=agent,
                agent_version=version,
                kind=kind,
                # Of the same interaction or of none, before or after it, even a circle.
                parent_id=pick(None, None, None, f"e{rng.randrange(count)}", "unknown", *near[n]),
                interaction_id=pick(f"i{n}", f"i{n}", f"i{n}", f"i{n}", None),
                session_id=pick(None, None, f"s{n % 11}", f"t{n % 11}"),
                user_id=pick(None, f"u{n % 3}", f"w{n % 3}"),
                name=pick("search", "pay", "it's", "human agent", None),
                content=pick(*WORDS) if kind in ("user_message", "agent_message") else None,
                tool_arguments=pick(None, "{}", "{}", '{"id":"W1234567"}'),
                tool_result=pick(None, "{}", "fine", "it failed", "无法连接", "x" * 400),
                model=pick("m-1", "m-2", None) if kind == "llm_call" else None,
                status="error" if failed else "ok",
                error_type=pick(None, "timeout", "refused") if failed else None,
                error_message=pick(*MESSAGES) if failed else None,
                duration_ms=pick(None, 0.0, rng.lognormvariate(5, 2), rng.lognormvariate(9, 2)),
                input_tokens=pick(None, 0, rng.randrange(5_000)) if spends else None,
                output_tokens=pick(None, rng.randrange(900)) if spends else None,
                cached_tokens=pick(None, rng.randrange(90)) if spends else None,
                cost_usd=pick(None, 0.0, rng.random(), rng.random() / 1e4) if spends else None,
                attributes=MARKS[number % len(MARKS)] if kind == "interaction" else None,
                value=pick(None, 0.0, 0.25, 1.0, rng.random()) if judges else None,
                reason=pick(None, "wrong", "rude", "timeout") if judges else None,
                target=pick(None, None, f"i{n}", f"s{n % 11}", "nobody") if judges else None,
            )
        )
    return events
