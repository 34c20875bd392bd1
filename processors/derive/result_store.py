"""Results in the store: reads what marks say has changed, computes it, and writes it.

A trace is looked up by its cells, so an interaction that waits a week for a person costs what one
of a second costs. Every write collapses with its repeat, in any order:

1. the cells of the changed traces are added to ``interaction_index``,
2. ``interaction_results`` of these traces, then ``session_index``,
3. ``session_results`` of every session that they count or ever counted under,
4. ``rollups`` of the minutes, hours and days in which any of these rows stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from detectors.outcomes import wording
from detectors.outcomes.reasons import CODES
from ingest.core.events import EVALUATION_KINDS
from processors.clickhouse import MAX_STATEMENT_BYTES, SPILLING, Store, literal, one_of, portions
from processors.derive import judging, results, rollups, scopes, sessions, windows
from processors.derive.judging import ResultsConfig
from processors.write.cardinality import any_refused, as_it_is, limited

_TRACES_AT_ONCE: Final = 10_000
_SESSIONS_AT_ONCE: Final = 10_000
_MINUTES_AT_ONCE: Final = 1_440
_SETTINGS: Final = SPILLING | {
    "max_threads": 1,
    "max_query_size": MAX_STATEMENT_BYTES,
    "do_not_merge_across_partitions_select_final": 1,
}
_JUDGES: Final = literal(EVALUATION_KINDS)
_WORDS: Final = ("user_message", "agent_message")
FLAGS: Final = (
    "counted", "is_root", "skewed", "of_call", "cut", "words_gone", "of_service", "by_parts",
)  # fmt: skip
"""Columns of events that are true or false."""

_INDEX: Final = f"""
INSERT INTO interaction_index
SELECT DISTINCT interaction_id, toStartOfInterval(time, INTERVAL 10 SECOND) FROM events
WHERE ({{when}}) AND ({{places}}) AND interaction_id != '' AND kind NOT IN {_JUDGES}
"""  # noqa: S608 - of our own constants
_CHANGED: Final = f"""
SELECT kind IN {_JUDGES} AS judges,
    multiIf(kind NOT IN {_JUDGES}, interaction_id, target != '', target,
        interaction_id != '', interaction_id, session_id) AS id
FROM events WHERE ({{when}}) AND ({{places}}) GROUP BY judges, id ORDER BY min(time), id
"""  # noqa: S608 - of our own constants

_CELLS: Final = """
SELECT DISTINCT toInt64(toUnixTimestamp(cell)) AS start FROM interaction_index
WHERE interaction_id IN {ids} ORDER BY start
"""

_ARGUMENTS: Final = 4_000
"""Bytes of a call's arguments that are read; of longer ones also a hash, to tell them apart."""


_CUT: Final = literal(wording.TRUNCATED).replace("{", "{{").replace("}", "}}")


def _shortened(column: str, most: int) -> str:
    cut = f"concat(left({column}, {most}), ' ', toString(cityHash64({column})))"
    return f"if(length({column}) > {most}, {cut}, {column})"


_EVENTS: Final = f"""
SELECT interaction_id AS trace, event_id, parent_id, payload_hash, ns,
    ns - toInt64(least(ifNull(duration_ms, 0) * 1e6, toFloat64(ns))) AS start_ns,
    toString(kind) AS kind, toString(name) AS name, toString(model) AS model,
    toString(status) AS status, toString(error_type) AS error_type,
    toString(error_template) AS error_template, toString(environment) AS environment,
    toString(agent) AS agent, toString(agent_version) AS agent_version, toString(scope) AS scope,
    session_id, user_id, duration_ms, time_to_first_token_ms, input_tokens, output_tokens,
    cached_tokens, cost_usd,
    position(attributes, '"driftline.') > 0 AS marked,
    marked AND JSONExtractString(attributes, 'driftline.root') != '' AS is_root,
    marked AND JSONExtractString(attributes, 'driftline.clock') = 'skewed' AS skewed,
    marked AND JSONExtractString(attributes, 'driftline.from') = 'llm_call' AS of_call,
    marked AND kind = 'interaction'
        AND JSONExtractString(attributes, 'driftline.agent_from') = 'service' AS of_service,
    marked AND kind = 'interaction'
        AND JSONExtractString(attributes, 'driftline.status_from') = 'parts' AS by_parts,
    if(marked, JSONExtractString(attributes, 'driftline.end'), '') AS ending,
    leftUTF8(content, if(kind IN {literal(_WORDS)}, {results.WORDS}, 1)) AS content,
    if(status = 'error', error_message, '') AS error_message,
    {_shortened("tool_arguments", _ARGUMENTS)} AS tool_arguments,
    {_shortened("tool_result", wording.PROBLEM_CHARACTERS)} AS tool_result,
    kind = 'llm_call' AND match(attributes, {_CUT}) AS cut, words_gone,
    (event_id, time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM collisions WHERE {{when}}) AS counted
FROM (SELECT *, toUnixTimestamp64Nano(time) AS ns FROM events FINAL
    PREWHERE interaction_id IN {{ids}} WHERE ({{when}}) AND kind NOT IN {_JUDGES})
"""  # noqa: S608 - of our own constants

_JUDGED_BEFORE: Final = """
SELECT interaction_id, toString(agent) AS agent, arrayMap(r -> toString(r), reasons) AS reasons,
    notes, dissatisfaction, dissatisfaction_low, dissatisfaction_high, coverage,
    toString(language) AS language
FROM interaction_results FINAL WHERE ({when}) AND trace_id IN {ids} AND live
"""
_SESSIONS_BEFORE: Final = f"""
SELECT session_id AS key, arrayFilter(r -> r IN {literal(CODES)}, reasons) AS codes,
    success_source = 'structure' AS fails,
    dissatisfaction, dissatisfaction_low, dissatisfaction_high, coverage
FROM session_results FINAL WHERE ({{when}}) AND session_id IN {{ids}} AND live
"""  # noqa: S608 - of our own constants
_EVALUATIONS: Final = """
SELECT target, toString(kind) AS kind, toString(name) AS name, user_id,
    toUnixTimestamp64Nano(time) AS ns, event_id, value, toString(reason) AS reason,
    toString(scope) AS scope, (event_id, time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM collisions) AS counted
FROM evaluations FINAL WHERE target IN {ids}
"""

_MEMBERS: Final = """
SELECT session_id AS key, toUnixTimestamp(cell) AS cell_s, interaction_id
FROM session_index FINAL WHERE session_id IN {ids}
"""
_INTERACTIONS: Final = """
SELECT toUnixTimestamp(cell) AS cell_s, interaction_id, version, live, session_id, user_id,
    toString(scope) AS scope, toString(environment) AS environment, toString(agent) AS agent,
    toString(agent_version) AS agent_version, toUnixTimestamp64Nano(start) AS start_ns,
    toUnixTimestamp64Nano(end) AS end_ns, duration_ms, events, llm_calls, tool_calls, tool_errors,
    input_tokens, output_tokens, cost_usd, priced, unpriced, success,
    toString(success_source) AS success_source, toString(failure_reason) AS failure_reason,
    arrayMap(r -> toString(r), reasons) AS reasons, notes, status,
    satisfaction, satisfaction_n, request, answer, words_gone
FROM interaction_results FINAL
WHERE ({when}) AND interaction_id IN {ids}
"""

_OPEN: Final = """
SELECT DISTINCT trace_id FROM interaction_results
WHERE state = 'open' AND live AND cell < toDateTime({before}, 'UTC') AND (cell, interaction_id) IN
(
    SELECT cell, interaction_id FROM interaction_results FINAL
    WHERE state = 'open' AND live AND cell < toDateTime({before}, 'UTC')
)
LIMIT {most}
"""


class ResultStore:
    """Results, sessions and rollups of one database.

    Raises
    ------
    Unavailable
        From every method, when ClickHouse is away; a repeat does the rest.
    """

    def __init__(self, store: Store, config: ResultsConfig | None = None) -> None:
        self.store = store
        self.config = config or ResultsConfig()

    def update(self, marks: pl.DataFrame) -> None:
        """Compute again whatever the new events of the marked cells change.

        Parameters
        ----------
        marks
            As `processors.derive.dirty_marks.unpack` returns them.
        """
        starts = marks["start"].unique().sort().to_list()
        places = windows.places(marks) or "1"
        when = windows.during("time", starts, windows.WIDTHS[0])
        self._command(_INDEX.format(when=when, places=places))
        changed = self._query(_CHANGED.format(when=when, places=places)).filter(pl.col("id") != "")
        judged = changed.filter(pl.col("judges") != 0)["id"].to_list()
        # In order of time, so that each portion reads few blocks.
        found = changed.filter(pl.col("judges") == 0)["id"].to_list()
        targets = {
            name for one in judged for name in (one, one.split("/", 1)[0], scopes.root(one))
        } - set(found)
        self._update(found + sorted(targets), judged, 0)

    def update_traces(self, ids: Sequence[str]) -> None:
        """Compute these traces again, whatever was said of them."""
        self._update(ids, (), 0)

    def update_sessions(self, ids: Sequence[str]) -> None:
        """Compute these sessions again from the interactions that are stored."""
        self._update((), ids, 0)

    def roll_up(self, minutes: Sequence[int]) -> None:
        """Compute these minutes (s since 1970), and the hours and days they lie in, again."""
        self._roll_up({unit: set(minutes) for unit in rollups.UNITS})

    def give_up(self, sealed: int) -> int:
        """Settle interactions without an end whose last event is older than the inactivity.

        Parameters
        ----------
        sealed
            Event time up to which everything is stored, ns.

        Returns
        -------
        int
            How many traces were looked at.
        """
        before, settled = sealed // 10**9 - self.config.given_up_after_s, 0
        while before > 0:
            found = self._query(_OPEN.format(before=before, most=_TRACES_AT_ONCE))
            if not found.is_empty():
                self._update(found["trace_id"].to_list(), (), sealed)
            settled += len(found)
            if len(found) < _TRACES_AT_ONCE:
                break
        return settled

    def _update(self, ids: Sequence[str], judged: Sequence[str], given_up_before: int) -> None:
        cells: set[int] = set()
        touched = {name for one in judged for name in (one, scopes.root(one))}
        for part in portions(ids, _TRACES_AT_ONCE):
            rows, named = self._interactions(part, given_up_before)
            cells |= rows
            touched |= named
        session_cells: set[int] = set()
        for part in portions(sorted(touched), _SESSIONS_AT_ONCE):
            session_cells |= self._sessions(part)
        self._roll_up({"interactions": cells, "sessions": session_cells})

    def _interactions(self, ids: list[str], given_up_before: int) -> tuple[set[int], set[str]]:
        """Store results of traces; returns the cells of their rows, and sessions they may be of."""
        when = self._cells_of(ids)
        if when is None:
            return set(), set()
        events = self._query(_EVENTS.format(ids=one_of(ids), when=when))
        if events.is_empty():
            return set(), set()
        events = results.owned(events.with_columns(pl.col(FLAGS) != 0))
        gone = events.filter("words_gone")["whole"].unique().to_list()
        judged = self._evaluations(results.targets(events)["target"].unique().to_list())
        before = self._judged_before(gone) if gone else None
        rows = results.interaction_results(events, judged, self.config, given_up_before, before)
        self.store.insert("interaction_results", _timed(rows))
        named = set(events["session_id"]) | set(rows["interaction_id"])
        if "session_id" not in rows.columns:  # all of them lost a collision
            return set(rows["cell"]), named - {""}
        live = rows.filter(pl.col("live") == 1)
        self.store.insert(
            "session_index", _timed(live.select("session_id", "cell", "interaction_id"))
        )
        return set(rows["cell"]), named - {""}

    def _judged_before(self, traces: list[str]) -> pl.DataFrame | None:
        """What results say of traces whose words are gone; None without results."""
        when = self._cells_of(traces, "cell")
        found = self._query(_JUDGED_BEFORE.format(when=when, ids=one_of(traces)))
        return None if found.is_empty() else judging.as_before(found, self.config)

    def _cells_of(self, ids: list[str], column: str = "time") -> str | None:
        """SQL condition on the time of the events of these traces; None without any."""
        found = self._query(_CELLS.format(ids=one_of(ids)))
        if found.is_empty():
            return None
        return windows.during(column, found["start"].to_list(), windows.WIDTHS[0])

    def _evaluations(self, targets: list[str]) -> pl.DataFrame:
        found = self._query(_EVALUATIONS.format(ids=one_of(targets)))
        if found.is_empty():
            found = pl.DataFrame(schema=_EVALUATION_SCHEMA)
        return results.current(found.with_columns(pl.col("counted") != 0))

    def _sessions(self, ids: list[str]) -> set[int]:
        """Store results of sessions; returns the cells of their rows."""
        members = self._query(_MEMBERS.format(ids=one_of(ids)))
        if members.is_empty():
            return set()
        starts = members["cell_s"].unique().sort().cast(pl.Int64).to_list()
        when = windows.during("cell", starts, windows.WIDTHS[0])
        names = members["interaction_id"].unique().to_list()
        rows = self._query(_INTERACTIONS.format(when=when, ids=one_of(names)))
        joined = members.join(rows, on=["cell_s", "interaction_id"]).rename({"cell_s": "cell"})
        if joined.is_empty():
            return set()
        joined = sessions.owned(joined)
        gone = joined.filter(pl.col("words_gone") != 0)["key"].unique().to_list()
        before = self._sessions_before(gone, when) if gone else None
        judged = self._evaluations(sessions.targets(joined))
        found = sessions.session_results(joined, judged, self.config, before)
        self.store.insert("session_results", _timed(found))
        return set(found["cell"])

    def _sessions_before(self, ids: list[str], when: str) -> pl.DataFrame | None:
        """What was judged of sessions of which words are gone; None without results."""
        found = self._query(_SESSIONS_BEFORE.format(when=when, ids=one_of(ids)))
        return None if found.is_empty() else found.with_columns(pl.col("fails") != 0)

    def _roll_up(self, cells: dict[str, set[int]]) -> None:
        naming = limited if any_refused(self.store) else as_it_is
        coarser: set[int] = set()
        for unit, changed in cells.items():
            minutes = sorted({cell // 60 * 60 for cell in changed})
            coarser.update(minutes)
            for part in portions(minutes, _MINUTES_AT_ONCE):
                when = windows.during("cell", part, 60), windows.during("start", part, 60)
                self._command(rollups.from_results(unit, *when, naming))
        for width in rollups.WIDTHS[1:]:
            starts = sorted({start // width * width for start in coarser})
            for part in portions(starts, _MINUTES_AT_ONCE):
                self._command(rollups.from_finer(width, windows.during("start", part, width)))

    def _query(self, sql: str) -> pl.DataFrame:
        return self.store.query(sql, settings=_SETTINGS)

    def _command(self, sql: str) -> None:
        self.store.command(sql, settings=_SETTINGS)


_EVALUATION_SCHEMA: Final[dict[str, Any]] = {
    "target": pl.String, "kind": pl.String, "name": pl.String, "user_id": pl.String,
    "ns": pl.Int64, "event_id": pl.String, "value": pl.Float64, "reason": pl.String,
    "scope": pl.String, "counted": pl.UInt8,
}  # fmt: skip


def _timed(rows: pl.DataFrame) -> pl.DataFrame:
    """Cells as ClickHouse takes them: seconds since 1970 in 32 bits."""
    return rows.with_columns(pl.col("cell").cast(pl.UInt32))
