"""Targets, decisions and cases in the store. Every statement is a function of stored rows.

A decision is made for whatever lacks one: results that are sealed are held against the decisions
that are stored, so neither a crash nor late events leave a target without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import polars as pl

from ingest.core.events import EVALUATION_KINDS
from processors.clickhouse import MAX_STATEMENT_BYTES, Store, literal
from processors.derive import scopes, windows
from processors.derive.sealing import NS
from processors.evaluators.items import RANKS, Item, version
from processors.evaluators.spec import Budget, Evaluator
from processors.evaluators.views import Case, turns_of

MOST: Final = 20_000
"""Targets decided in one statement; the rest comes with the next."""

_LONG: Final = {"max_query_size": MAX_STATEMENT_BYTES}

RESEND_S: Final = 60.0
"""What is pending for longer is sent again: its message, or whoever had it, is gone."""

_VIEWS: Final = {
    "interaction": ("interactions", "interaction_id", "state != 'open'"),
    "session": ("sessions", "session_id", "1"),
}
"""View, id, and when a target has ended."""

_LACKING: Final = """
SELECT t.target AS target, t.content AS content, t.became AS state, d.version AS known,
    t.environment AS environment, t.agent AS agent, t.session_id AS session_id,
    toInt64(toUnixTimestamp(t.cell)) AS end
FROM
(
    SELECT {id} AS target, toUInt64(events) AS content, toString(environment) AS environment,
        toString(agent) AS agent, session_id, cell,
        multiIf(NOT ({ended}) OR cell + {quiet} > toDateTime({hi}, 'UTC'), 'not_ready',
            NOT ifNull({filter}, 0), 'filtered',
            xxHash64('driftline', session_id) / 18446744073709551616. >= {rate}, 'sampled_out',
            'pending') AS became
    FROM {view} WHERE {chosen}
) AS t
LEFT JOIN
(
    SELECT target, max(version) AS version FROM evaluation_decisions
    WHERE evaluator = {name} AND evaluator_version = {ver} AND target_kind = {kind} AND target IN
        (SELECT {id} FROM {view} WHERE {chosen})
    GROUP BY target
) AS d ON d.target = t.target
WHERE d.version < bitShiftLeft(t.content, 16) + {rank}
ORDER BY t.cell, t.target LIMIT {most}
"""

_CHOSEN: Final = """
cell < toDateTime({hi}, 'UTC') AND (cell >= toDateTime({lo}, 'UTC') OR {id} IN
    (SELECT target FROM evaluation_decisions FINAL WHERE {inherits} AND evaluator = {name}
        AND evaluator_version != {ver} AND state IN ('not_ready', 'pending')))
"""

_PENDING: Final = """
SELECT evaluator, evaluator_version, target_kind, target, content, round, run, environment, agent,
    session_id, toInt64(toUnixTimestamp(end)) AS end, toUnixTimestamp64Nano(at) AS at,
    toFloat64(dateDiff('second', decided, now64(3))) AS age
FROM evaluation_decisions FINAL
WHERE evaluator = {evaluator:String} AND evaluator_version = {version:String} AND state = 'pending'
ORDER BY decided, target LIMIT 5000
"""

_VERSIONS: Final = """
SELECT target, max(version) AS version FROM evaluation_decisions
WHERE evaluator = {evaluator:String} AND evaluator_version = {version:String}
    AND target_kind = {kind:String} AND target IN {targets:Array(String)} GROUP BY target
"""

_EVENTS: Final = f"""
SELECT interaction_id, toString(scope) AS scope, toString(kind) AS kind, toString(name) AS name,
    toString(status) AS status, content, tool_arguments, tool_result, error_message,
    toUnixTimestamp64Nano(time) AS ns,
    position(attributes, '"driftline.from":"llm_call"') > 0 AS of_call
FROM events FINAL PREWHERE interaction_id IN {{ids}}
WHERE ({{when}}) AND kind NOT IN {literal(EVALUATION_KINDS)}
ORDER BY time, event_id
"""  # noqa: S608 - our own constants

_MEMBERS: Final = """
SELECT session_id, interaction_id, trace_id, scope, toUnixTimestamp64Nano(start) AS start,
    toUnixTimestamp64Nano(end) AS end
FROM interactions WHERE session_id IN {ids:Array(String)} AND (cell, interaction_id) IN
    (SELECT cell, interaction_id FROM session_index WHERE session_id IN {ids:Array(String)})
ORDER BY start, interaction_id
"""
_CELLS: Final = """
SELECT DISTINCT toInt64(toUnixTimestamp(cell)) AS cell FROM interaction_index
WHERE interaction_id IN {ids:Array(String)} ORDER BY cell
"""
_BEGAN: Final = """
SELECT toInt64(toUnixTimestamp(min(began))) AS first, count() AS n FROM evaluator_versions
WHERE evaluator = {e:String} AND evaluator_version = {v:String}
"""
_KNOWN: Final = "SELECT count() AS n FROM evaluator_versions WHERE evaluator = {e:String}"
_BACK_S: Final = 3600

_BUDGET: Final = """
SELECT budget FROM evaluation_runs FINAL WHERE run = {r:String} AND evaluator = {e:String}
"""

_DECISION_TYPES: Final[dict[str, Any]] = {
    "version": pl.UInt64, "content": pl.UInt64, "round": pl.UInt8, "calls": pl.UInt8,
    "end": pl.Datetime("ms", "UTC"), "at": pl.Datetime("ns", "UTC"), "value": pl.Float64,
    "latency_ms": pl.Float64, "cost_usd": pl.Decimal(18, 9),
}  # fmt: skip


class Records:
    """Decisions of one database.

    Raises
    ------
    Unavailable
        From every method, when ClickHouse is away.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, spec: Evaluator, sealed: int) -> int:
        """Event time, in s, from which on this version decides; the first that is told counts.

        An evaluator begins an hour back, so that it has something to say at once; a further version
        of it begins where it is.
        """
        found = self._began(spec)
        if found is not None:
            return found
        names = {"e": spec.name}
        known = self._store.query(_KNOWN, names)["n"][0]
        row = {
            "evaluator": spec.name, "evaluator_version": spec.version,
            "began": datetime.fromtimestamp(sealed - (0 if known else _BACK_S), UTC),
            "spec": msgspec.json.encode(spec).decode(),
        }  # fmt: skip
        frame = pl.DataFrame([row], schema_overrides={"began": pl.Datetime("ms", "UTC")})
        self._store.insert("evaluator_versions", frame)
        return self._began(spec) or sealed

    def _began(self, spec: Evaluator) -> int | None:
        found = self._store.query(_BEGAN, {"e": spec.name, "v": spec.version})
        return int(found["first"][0]) if found["n"][0] else None

    def lacking(
        self, spec: Evaluator, lo: int, hi: int, *, again: bool = False, inherits: bool = False
    ) -> pl.DataFrame:
        """Targets that ended in [lo, hi) s and lack a decision of their content.

        Parameters
        ----------
        again
            Of a backfill: also what was decided and neither judged nor waits.
        inherits
            Also what an earlier version of the evaluator left undecided.

        Returns
        -------
        polars.DataFrame
            ``target``, ``content``, ``state``, ``known`` (version of the stored decision, 0 without
            one), ``environment``, ``agent``, ``session_id``, ``end`` (s).

        Raises
        ------
        clickhouse_connect.driver.exceptions.ClickHouseError
            The evaluator's filter is no condition over the view.
        """
        view, key, ended = _VIEWS[spec.target]
        ranks = " ".join(f"WHEN '{state}' THEN {rank}" for state, rank in RANKS.items())
        rank = f"CASE t.became {ranks} END"
        if again:
            closed = literal([f"{RANKS[name]}" for name in ("pending", "refused", "done")])
            rank = (
                "if(t.became != 'pending' OR bitShiftRight(d.version, 16) = t.content"
                f" AND toString(bitAnd(d.version, 255)) IN {closed}, 0, 65535)"
            )
        names = {
            "id": key, "lo": lo, "hi": hi, "name": literal(spec.name),
            "ver": literal(spec.version), "inherits": int(inherits),
        }  # fmt: skip
        sql = _LACKING.format(
            view=view, ended=ended, filter=f"({spec.filter})", rate=spec.rate,
            quiet=int(spec.quiet), kind=literal(spec.target), rank=rank, most=MOST,
            chosen=_CHOSEN.format(**names), **names,
        )  # fmt: skip
        return self._store.query(sql)

    def decide(self, spec: Evaluator, found: pl.DataFrame, at: int, run: str = "") -> list[Item]:
        """Store the decisions of `lacking`; returns what is to be judged.

        Parameters
        ----------
        at
            Event time of the scores, ns.
        run
            Id of the backfill that asks; its targets get a round of their own.
        """
        if found.is_empty():
            return []
        c = pl.col
        same = (c("known") // (1 << 16)) == c("content")
        round_ = pl.when(same).then(c("known") // 256 % 256 + 1).otherwise(0) if run else pl.lit(0)
        rows = found.with_columns(
            evaluator=pl.lit(spec.name), evaluator_version=pl.lit(spec.version),
            target_kind=pl.lit(spec.target), round=round_.cast(pl.UInt8), run=pl.lit(run),
            at=pl.lit(at, pl.Int64),
        ).with_columns(
            version=(
                c("content").cast(pl.UInt64) * (1 << 16) + c("round").cast(pl.UInt64) * 256
                + c("state").replace_strict(RANKS, return_dtype=pl.UInt64)
            )
        )  # fmt: skip
        stored = rows.drop("known").with_columns(
            c("at").cast(pl.Datetime("ns", "UTC")),
            end=(c("end") * 1000).cast(pl.Datetime("ms", "UTC")),
        )
        self._store.insert("evaluation_decisions", stored)
        names = Item.__struct_fields__
        judged = rows.filter(c("state") == "pending")
        purpose = "backfill" if run else "live"
        known = [name for name in names if name in judged.columns]
        return [Item(**row, purpose=purpose) for row in judged.select(known).iter_rows(named=True)]

    def pending(self, spec: Evaluator) -> list[tuple[Item, float]]:
        """What waits to be judged, oldest first, and for how many seconds."""
        found = self._store.query(_PENDING, {"evaluator": spec.name, "version": spec.version})
        return [
            (Item(**row, purpose="backfill" if row["run"] else "live"), age)
            for row in found.iter_rows(named=True)
            for age in (row.pop("age"),)
        ]

    def still_pending(self, items: Sequence[Item]) -> list[Item]:
        """Those that are still to be judged and of the newest content; of one evaluator."""
        first = items[0]
        found = self._store.query(
            _VERSIONS,
            {
                "evaluator": first.evaluator, "version": first.evaluator_version,
                "kind": first.target_kind, "targets": [item.target for item in items],
            },
        )  # fmt: skip
        known = dict(found.iter_rows())
        return [
            item for item in items
            if known.get(item.target) == version(item.content, item.round, "pending")
        ]  # fmt: skip

    def settle(self, item: Item, state: str, reason: str = "", **values: Any) -> None:
        """Store what became of an item; a number that is not given is not known."""
        self.settle_all([(item, {"state": state, "reason": reason, **values})])

    def settle_all(self, ended: Sequence[tuple[Item, Mapping[str, Any]]]) -> None:
        """Store what became of items in one insert: ``state``, and what else is known of each."""
        rows = [
            {
                **{n: getattr(item, n) for n in Item.__struct_fields__ if n != "purpose"},
                "version": version(item.content, item.round, values["state"]), **values,
                "at": datetime.fromtimestamp(item.at / NS, UTC),
                "end": datetime.fromtimestamp(item.end, UTC),
            }
            for item, values in ended
        ]  # fmt: skip
        names = {name for row in rows for name in row}
        types = {name: kind for name, kind in _DECISION_TYPES.items() if name in names}
        frame = pl.DataFrame(
            [{**dict.fromkeys(names), **row} for row in rows], schema_overrides=types
        )
        self._store.insert("evaluation_decisions", frame)

    def cases(self, items: Sequence[Item]) -> dict[str, Case]:
        """Targets with their results and turns; without those that are no longer stored.

        Of items of one evaluator, which are all interactions or all sessions.
        """
        view, key, _ = _VIEWS[items[0].target_kind]
        places = ", ".join(f"({item.end}, {literal(item.target)})" for item in items)
        cells = ", ".join(sorted({f"toDateTime({item.end}, 'UTC')" for item in items}))
        results = self._store.query(
            f"SELECT * REPLACE (toUnixTimestamp64Nano(start) AS start,"  # noqa: S608 - our own names
            f" toUnixTimestamp64Nano(end) AS end) FROM {view}"
            f" WHERE (toUnixTimestamp(cell), {key}) IN ({places}) AND cell IN ({cells})",
            settings=_LONG,
        ).to_dicts()
        if not results:
            return {}
        members: dict[str, list[dict[str, Any]]] = {row[key]: [row] for row in results}
        if items[0].target_kind == "session":
            ids = {id_ for name in members for id_ in (name, scopes.root(name))}
            found = self._store.query(_MEMBERS, {"ids": sorted(ids)}).to_dicts()
            members = {
                name: [
                    m for m in found
                    if m["session_id"] in (name, scopes.root(name)) and m["scope"] == own["scope"]
                ]
                for name, (own,) in members.items()
            }  # fmt: skip
        events = self._events([m for some in members.values() for m in some])
        return {
            row[key]: Case(row[key], row, turns_of(_of(members[row[key]], events)))
            for row in results
        }

    def _events(
        self, members: Sequence[Mapping[str, Any]]
    ) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Events in order of time, by trace and scope."""
        traces = sorted({member["trace_id"] for member in members})
        cells = self._store.query(_CELLS, {"ids": traces}) if traces else pl.DataFrame()
        if cells.is_empty():
            return {}
        when = windows.during("time", cells["cell"].to_list(), windows.WIDTHS[0])
        events: dict[tuple[str, str], list[dict[str, Any]]] = {}
        found = self._store.query(_EVENTS.format(ids=literal(traces), when=when), settings=_LONG)
        for event in found.iter_rows(named=True):
            events.setdefault((event["interaction_id"], event["scope"]), []).append(event)
        return events

    def runs(self, since: datetime) -> list[str]:
        """Backfills that were asked for since then."""
        found = self._store.query(
            "SELECT DISTINCT run FROM evaluation_runs WHERE made > {t:DateTime64(3)}", {"t": since}
        )
        return found["run"].to_list() if not found.is_empty() else []

    def budget_of(self, run: str, evaluator: str) -> Budget:
        """The budget that a backfill came with."""
        found = self._store.query(_BUDGET, {"r": run, "e": evaluator})
        return msgspec.json.decode(found["budget"][0], type=Budget) if len(found) else Budget()


def _of(
    members: Sequence[Mapping[str, Any]], events: Mapping[tuple[str, str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Events of the interactions of one target, in order of time.

    Of a trace that holds several interactions, each has what happened in its own time.
    """
    spans = {(m["trace_id"], m["scope"]): (m["start"], m["end"]) for m in members}
    shared = {(m["trace_id"], m["scope"]) for m in members if m["interaction_id"] != m["trace_id"]}
    found = [
        event for trace, (start, end) in spans.items() for event in events.get(trace, ())
        if trace not in shared or len(members) > 1 or start <= event["ns"] <= end
    ]  # fmt: skip
    return found if len(spans) == 1 else sorted(found, key=lambda event: event["ns"])
