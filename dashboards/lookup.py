"""One thing, with everything that is known of it: for the board, the report and assistants.

Every function reads, and returns JSON types; times are RFC 3339. An id that is not stored gives
None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dashboards import queries
from dashboards.agent_report import wilson
from processors.clickhouse import Store
from processors.derive.results import OWN_MS
from processors.regressions import load_cases

Row = dict[str, Any]

_ACTIVE: Final = "ended IS NULL AND status NOT IN ('resolved', 'recovered', 'accepted', 'closed')"

_BRIEF: Final = """interaction_id, session_id, environment, agent, agent_version, start, end,
    duration_ms, state, success, success_source, failure_reason, failure_tool, failure_template,
    fingerprint, satisfaction, cost_usd, tool_calls, tool_errors, language, request, answer"""

_RANGE: Final = """cell >= {since:DateTime} AND cell <= {until:DateTime}
    AND ({agent:String} = '' OR agent = {agent:String})"""

_FILTERS: Final = {
    "environment": "environment = {environment:String}",
    "agent": "agent = {agent:String}",
    "agent_version": "agent_version = {agent_version:String}",
    "fingerprint": "fingerprint = {fingerprint:String}",
    "failure_reason": "failure_reason = {failure_reason:String}",
    "tool": "has(tools, {tool:String})",
    "user_id": "user_id = {user_id:String}",
    "session_id": "session_id = {session_id:String}",
    "search": "(positionCaseInsensitiveUTF8(request, {search:String}) > 0"
    " OR positionCaseInsensitiveUTF8(answer, {search:String}) > 0"
    " OR interaction_id = {search:String} OR session_id = {search:String})",
    "outcome": "success = {outcome:UInt8}",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query in JSON types; ``kinds`` are ``time``, ``number`` or ``string``."""

    names: list[str]
    kinds: list[str]
    rows: list[list[Any]]

    def dicts(self) -> list[Row]:
        """Rows as objects."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def column(self, name: str) -> list[Any]:
        """Values of one column."""
        at = self.names.index(name)
        return [row[at] for row in self.rows]


class Lookup:
    """Reads a database; cannot write, whatever its user may.

    Parameters
    ----------
    store
        The database.
    now
        Wall clock.
    """

    def __init__(
        self, store: Store, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._now = now

    def ask(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Answer:
        """Run one query, read-only."""
        found = self._store.query_json(sql, dict(parameters or {}), {"readonly": "1"})
        types = [column["type"] for column in found["meta"]]
        casts = [_cast(kind) for kind in types]
        rows = [
            [None if v is None else cast(v) for cast, v in zip(casts, row, strict=True)]
            for row in found["data"]
        ]
        return Answer([c["name"] for c in found["meta"]], [_kind(t) for t in types], rows)

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Rows of a query in JSON types."""
        return self.ask(sql, parameters).dicts()

    def incidents(self, *, days: float = 7.0, active: bool = False) -> list[Row]:
        """Findings that stand for an incident, those that last first, newest first."""
        since = self._now() - timedelta(days=days)
        rows = self.rows(
            f"""
            SELECT * FROM findings FINAL
            WHERE (({_ACTIVE}) OR found >= {{since:DateTime64(3)}}) AND incident = ''
            ORDER BY ({_ACTIVE}) DESC, found DESC, finding_id LIMIT 200
            """,
            {"since": since},
        )
        found = [_finding(row) for row in rows]
        return [f for f in found if f["active"]] if active else found

    def incident(self, finding_id: str) -> Row | None:
        """A finding with its members, its examples and what was told of it."""
        rows = self.rows(
            "SELECT * FROM findings FINAL WHERE finding_id = {id:String}", {"id": finding_id}
        )
        if not rows:
            return None
        found = _finding(rows[0])
        found["members"] = self._members(found)
        found["notifications"] = self.rows(
            """
            SELECT planned, receiver, event, state, attempts, error, headline, length(findings) AS n
            FROM notifications FINAL WHERE incident = {id:String} OR has(findings, {id:String})
            ORDER BY planned, receiver LIMIT 50
            """,
            {"id": finding_id},
        )
        found["failures"] = self._failures_of(found)
        found["timeline"] = self._timeline(found)
        return found

    def interactions(
        self, filters: Mapping[str, Any], since: datetime, until: datetime, limit: int = 100
    ) -> list[Row]:
        """Interactions that ended in a time range, newest first.

        Parameters
        ----------
        filters
            Values by the names of `_FILTERS`; unknown names are ignored.
        since, until
            Range of ``end``.
        limit
            Most rows to return.
        """
        chosen = {k: v for k, v in filters.items() if k in _FILTERS and v not in (None, "")}
        where = "".join(f" AND {_FILTERS[name]}" for name in sorted(chosen))
        return self.rows(
            f"""
            SELECT {_BRIEF} FROM interactions
            WHERE cell >= {{since:DateTime}} - 10 AND cell <= {{until:DateTime}}
                AND end >= {{since:DateTime64(3)}} AND end <= {{until:DateTime64(3)}} {where}
            ORDER BY end DESC, interaction_id LIMIT {{limit:UInt32}}
            """,
            {**chosen, "since": since, "until": until, "limit": limit},
        )

    def interaction(self, interaction_id: str) -> Row | None:
        """An interaction, or those of a trace, with all events and what was said of it."""
        turns = self._named("sessions.turn", interaction=interaction_id)
        if not turns:
            return None
        targets = {turn[name] for turn in turns for name in ("interaction_id", "trace_id")}
        said = self._named("sessions.evaluations", targets="\x1f".join(sorted(targets)))
        return self._conversation(turns, said)

    def session(self, session_id: str) -> Row | None:
        """A conversation: its interactions in order, all events, and what was said of them."""
        turns = self._named("sessions.turns", session=session_id)
        if not turns:
            return None
        whole = self._named("sessions.session", session=session_id)
        said = self._named("sessions.session_evaluations", session=session_id)
        return {"session": whole[0] if whole else None, **self._conversation(turns, said)}

    def _conversation(self, turns: list[Row], evaluations: list[Row]) -> Row:
        traces = dict.fromkeys((turn["trace_id"], turn["scope"]) for turn in turns)
        parts = [self._named("sessions.events", trace=trace, scope=of) for trace, of in traces]
        return {
            "interactions": turns,
            "events": [event for part in parts for event in part],
            "events_total": sum(part[0]["of_trace"] for part in parts if part),
            "evaluations": evaluations,
        }

    def _named(self, name: str, **values: str) -> list[Row]:
        query = queries.render(name, values)
        return self.rows(query.sql, query.parameters)

    def clusters(self, limit: int = 100) -> list[Row]:
        """Failure clusters, largest first."""
        return self.rows(
            "SELECT * FROM clusters FINAL WHERE status != 'merged' ORDER BY size DESC, cluster"
            " LIMIT {limit:UInt32}",
            {"limit": limit},
        )

    def cluster(self, cluster: str) -> Row | None:
        """A failure cluster with its lineage and examples."""
        rows = self.rows(
            "SELECT * FROM clusters FINAL WHERE cluster = {id:String} LIMIT 1", {"id": cluster}
        )
        if not rows:
            return None
        found = rows[0]
        found["lineage"] = self.rows(
            "SELECT at, what, cluster, source FROM cluster_lineage FINAL"
            " WHERE cluster = {id:String} OR source = {id:String} ORDER BY at LIMIT 100",
            {"id": cluster},
        )
        found["interactions"] = self._by_ids(found.get("examples") or [])
        return found

    def cases(self, subject: str, limit: int) -> list[Row] | None:
        """Failures of an incident or a cluster as cases to test a fix against.

        The same as `driftline regressions export` writes. None where there is no such subject.
        """
        found = self.incident(subject)
        if found is not None:
            failed, cluster = found["failures"], ""
        elif (grown := self.cluster(subject)) is not None:
            failed, cluster = grown["interactions"], subject
        else:
            return None
        only = [] if cluster else [row["interaction_id"] for row in failed]
        made: list[Row] = []
        for agent in sorted({row["agent"] for row in failed}):
            loaded, _ = load_cases(self._store, agent, cluster, only=only)
            made += map(asdict, loaded)
        return made[:limit]

    def senders(self) -> list[Row] | None:
        """What sends events, and what it leaves out; None where that is not recorded."""
        if not self._columns("senders"):
            return None
        return self.rows("SELECT * FROM senders FINAL ORDER BY ALL LIMIT 200")

    def versions(self, agent: str, since: datetime, until: datetime) -> list[Row]:
        """Success of each version of an agent, with n and 95 % interval."""
        rows = self.rows(
            f"""
            SELECT environment, agent_version, count() AS n, countIf(success = 1) AS yes,
                count(success) AS known, avgOrNull({OWN_MS}) AS mean_duration_ms,
                avgOrNull(cost_usd) AS mean_cost_usd, avgOrNull(satisfaction) AS rating,
                count(satisfaction) AS rated, min(start) AS first, max(end) AS last
            FROM interactions
            WHERE agent = {{agent:String}} AND cell >= {{since:DateTime}}
                AND cell <= {{until:DateTime}}
            GROUP BY environment, agent_version ORDER BY environment, last DESC, agent_version
            """,
            {"agent": agent, "since": since, "until": until},
        )
        return [row | _rate(row["yes"], row["known"]) for row in rows]

    def agents(self, since: datetime, until: datetime, agent: str = "") -> list[Row]:
        """Success, latency, cost and rating of every agent and version, worst first."""
        rows = self.rows(
            f"""
            SELECT environment, agent, agent_version, count() AS n, countIf(success = 1) AS yes,
                count(success) AS known, uniqExact(session_id) AS sessions,
                uniqExactIf(user_id, user_id != '') AS users,
                quantileOrNull(0.5)({OWN_MS}) AS p50_ms,
                quantileOrNull(0.95)({OWN_MS}) AS p95_ms, avgOrNull(cost_usd) AS mean_cost_usd,
                count(cost_usd) AS priced, avgOrNull(satisfaction) AS rating,
                count(satisfaction) AS rated
            FROM interactions WHERE {_RANGE}
            GROUP BY environment, agent, agent_version ORDER BY n DESC, agent, agent_version
            LIMIT 200
            """,
            {"agent": agent, "since": since, "until": until},
        )
        made = [row | _rate(row["yes"], row["known"]) for row in rows]
        return sorted(made, key=lambda row: 2.0 if row["low"] is None else row["low"])

    def failures(self, since: datetime, until: datetime, agent: str = "") -> list[Row]:
        """Groups of failures that share reason, tool and message: users hit first."""
        return self.rows(
            f"""
            SELECT fingerprint, any(failure_reason) AS reason, any(failure_tool) AS tool,
                any(failure_template) AS template, count() AS failures,
                uniqExactIf(user_id, user_id != '') AS users, uniqExact(session_id) AS sessions,
                sumOrNull(cost_usd) AS cost_usd, min(end) AS first_seen, max(end) AS last_seen,
                arraySort(groupUniqArray(5)(toString(agent))) AS agents,
                argMax(interaction_id, end) AS example, argMax(request, end) AS request
            FROM interactions WHERE {_RANGE} AND success = 0
            GROUP BY fingerprint ORDER BY users DESC, failures DESC, fingerprint LIMIT 20
            """,
            {"agent": agent, "since": since, "until": until},
        )

    def course(self, since: datetime, until: datetime, agent: str = "") -> list[Row]:
        """Failure share over a time range in about sixty steps."""
        step = max(60, math.ceil((until - since).total_seconds() / 60 / 60) * 60)
        rows = self.rows(
            f"""
            SELECT toStartOfInterval(cell, toIntervalSecond({{step:UInt32}})) AS time,
                countIf(success = 0) AS failed, count(success) AS known, count() AS n
            FROM interactions WHERE {_RANGE} GROUP BY time ORDER BY time
            """,
            {"agent": agent, "since": since, "until": until, "step": step},
        )
        return [row | _rate(row["failed"], row["known"]) for row in rows]

    def verdicts(self, agent: str, baseline: str, candidate: str) -> list[Row]:
        """Stored verdicts on two versions; empty where nothing compares them."""
        return self.rows(
            "SELECT * FROM verdicts FINAL WHERE agent = {agent:String}"
            " AND baseline = {baseline:String} AND candidate = {candidate:String} ORDER BY measure",
            {"agent": agent, "baseline": baseline, "candidate": candidate},
        )

    def _columns(self, table: str) -> frozenset[str]:
        found = self.ask(
            "SELECT name FROM system.columns WHERE database = currentDatabase()"
            " AND table = {table:String}",
            {"table": table},
        )
        return frozenset(found.column("name"))

    def _members(self, found: Row) -> list[Row]:
        ids = [m["finding_id"] if isinstance(m, dict) else str(m) for m in found["members"]]
        told = self.ask(
            "SELECT arrayJoin(findings) AS id FROM notifications FINAL"
            " WHERE incident = {id:String}",
            {"id": found["finding_id"]},
        )
        ids += told.column("id")
        wanted = sorted(set(ids) - {found["finding_id"]})
        rows = self.rows(
            "SELECT * FROM findings FINAL WHERE finding_id IN {ids:Array(String)}"
            " ORDER BY began, finding_id LIMIT 200",
            {"ids": wanted},
        )
        return [_finding(row) for row in rows]

    def _failures_of(self, found: Row) -> list[Row]:
        """Failed interactions of its agents since it began: its own examples, else the latest."""
        if found.get("examples"):
            return self._by_ids(found["examples"])
        agents = sorted({m["agent"] for m in (found, *found["members"]) if m["agent"]})
        return self.rows(
            f"""
            SELECT {_BRIEF} FROM interactions
            WHERE success = 0 AND environment = {{environment:String}}
                AND agent IN {{agents:Array(String)}}
                AND cell >= toDateTime({{since:DateTime64(3)}}) - 10
                AND cell <= toDateTime({{until:DateTime64(3)}})
            ORDER BY end DESC, interaction_id LIMIT 20
            """,
            {
                "environment": found["environment"],
                "agents": agents,
                "since": _time(found["began"]),
                "until": _time(found["ended"]) or self._now(),
            },
        )

    def _timeline(self, found: Row) -> list[Row]:
        """Failure share of its agents per minute, from an hour before it began."""
        began, ended = _time(found["began"]), _time(found["ended"]) or self._now()
        if began is None:
            return []
        until = min(ended + timedelta(hours=1), began + timedelta(days=2))
        step = max(60, math.ceil((until - began).total_seconds() / 60 / 60) * 60)
        agents = sorted({m["agent"] for m in (found, *found["members"]) if m["agent"]})
        rows = self.rows(
            """
            SELECT toStartOfInterval(cell, toIntervalSecond({step:UInt32})) AS time,
                countIf(success = 0) AS failed, count(success) AS known
            FROM interactions
            WHERE environment = {environment:String} AND agent IN {agents:Array(String)}
                AND cell >= {since:DateTime} AND cell <= {until:DateTime}
            GROUP BY time ORDER BY time
            """,
            {
                "step": step, "environment": found["environment"], "agents": agents,
                "since": began - timedelta(hours=1), "until": until,
            },
        )  # fmt: skip
        return [row | _rate(row["failed"], row["known"]) for row in rows]

    def _by_ids(self, ids: list[str]) -> list[Row]:
        return self.rows(
            f"""
            SELECT {_BRIEF} FROM interactions
            WHERE interaction_id IN {{ids:Array(String)}} AND cell IN
                (SELECT cell FROM interaction_index WHERE interaction_id IN {{ids:Array(String)}})
            ORDER BY end DESC LIMIT 50
            """,
            {"ids": [str(i) for i in ids]},
        )


def _bare(kind: str) -> str:
    """A type without what stands around it.

    >>> _bare("LowCardinality(Nullable(String))")
    'String'
    """
    for around in ("LowCardinality(", "Nullable("):
        if kind.startswith(around):
            return _bare(kind[len(around) : -1])
    return kind


def _kind(kind: str) -> str:
    name = _bare(kind).partition("(")[0]
    if name.startswith("Date"):
        return "time"
    number = name.startswith(("Int", "UInt", "Float", "Decimal")) or name == "Bool"
    return "number" if number else "string"


def _cast(kind: str) -> Callable[[Any], Any]:
    """How a value of a type becomes one of JSON; a 64-bit integer may come as text."""
    match _kind(kind):
        case "time":
            return _iso
        case "number":
            whole = _bare(kind).startswith(("Int", "UInt"))
            return int if whole else _number
        case _:
            return lambda v: v


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _iso(text: str) -> str:
    """RFC 3339 of what ClickHouse writes; everything is stored in UTC.

    >>> _iso("2026-11-20 12:00:00.123456789"), _iso("2026-11-20")
    ('2026-11-20T12:00:00.123456Z', '2026-11-20T00:00:00Z')
    """
    day, _, clock = text.partition(" ")
    return f"{day}T{clock[:15] or '00:00:00'}Z"


def _finding(row: Row) -> Row:
    """A row of ``findings`` whose lists are lists, in the form of ``findings --json``."""
    lists = {name: _list(row.get(name)) for name in ("causes", "examples", "members", "evidence")}
    ended = row["status"] in ("resolved", "recovered", "accepted", "closed")
    return {**row, **lists, "active": row["ended"] is None and not ended}


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            found = json.loads(value or "[]")
        except ValueError:
            return []
        return found if isinstance(found, list) else []
    return list(value or [])


def _rate(yes: int, known: int) -> Row:
    if not known:
        return {"rate": None, "low": None, "high": None}
    low, high = wilson(yes, known)
    return {"rate": yes / known, "low": low, "high": high}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
