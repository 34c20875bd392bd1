"""Where stations read and write: ClickHouse, and a twin in memory that behaves like it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import polars as pl

from processors.clickhouse import Store
from processors.derive import sealing
from processors.derive.judging import SLACK_S
from processors.derive.result_store import ResultStore
from processors.derive.results import OWN_MS
from processors.stations.base import (
    RESULTS,
    SETTLED,
    Action,
    Change,
    Output,
    empty_results,
    frame,
    moment,
)

_SETTLE_S: Final = 10.0

CONTEXT_ROWS: Final = 20_000
"""Interactions that a finding's evidence is computed from, the latest."""

_NS: Final = 10**9

_COLUMNS: Final = f"""
    toInt64(toUnixTimestamp(cell)) + if(state = 'unfinished', {{given_up}}, 0) AS decided,
    interaction_id, environment, agent, agent_version, session_id, user_id, state,
    {OWN_MS} AS duration_ms, time_to_first_token_ms, steps, llm_calls,
    llm_errors, tool_calls, tool_errors, handoffs, human_inputs, input_tokens,
    output_tokens, cost_usd, unpriced, success, success_source,
    arrayMap(r -> toString(r), reasons) AS reasons, failure_reason, failure_tool, failure_template,
    satisfaction, dissatisfaction, arrayMap(m -> toString(m), models) AS models,
    arrayMap(t -> toString(t), tools) AS tools, language, substring(request, 1, 1000) AS request,
    toInt64(answer != '') AS answered
"""

_DECIDED: Final = """
(state = 'ended' AND cell >= toDateTime({lo}, 'UTC') AND cell < toDateTime({hi}, 'UTC'))
OR (state = 'unfinished' AND cell >= toDateTime({lo} - {given_up}, 'UTC')
    AND cell < toDateTime({hi} - {given_up}, 'UTC'))
"""

_RESULTS: Final = f"""
SELECT {_COLUMNS} FROM interaction_results FINAL
WHERE live AND cell >= toDateTime({{lo}} - {{given_up}}, 'UTC') AND ({_DECIDED}) {{more}}
ORDER BY decided, interaction_id
"""  # noqa: S608 - our own constants

_NEXT: Final = """
SELECT toInt64(toUnixTimestamp(cell)) AS cell FROM interaction_results
WHERE cell >= toDateTime({lo}, 'UTC') AND cell < toDateTime({hi}, 'UTC')
ORDER BY cell LIMIT 1
"""

_CHANGES: Final = """
SELECT {columns} FROM station_changes FINAL
WHERE at > toDateTime({{lo}}, 'UTC') AND at <= toDateTime({{hi}}, 'UTC')
ORDER BY at, change_id, status, severity
""".replace(
    "{columns}",
    ", ".join(
        f"toInt64(toUnixTimestamp(station_changes.{f.name})) AS {f.name}"
        if f.name in ("at", "began", "found") else f.name
        for f in fields(Change)
    ),
).replace("{{", "{").replace("}}", "}")  # fmt: skip

_CONTEXT: Final = f"""
SELECT r.*, m.cluster AS cluster FROM
(
    SELECT {_COLUMNS}, cell FROM interaction_results FINAL
    WHERE live AND cell >= toDateTime({{lo}} - {{given_up}}, 'UTC') AND ({_DECIDED})
        AND environment = {{environment:String}} {{more}}
    ORDER BY decided DESC, interaction_id DESC LIMIT {CONTEXT_ROWS}
) AS r
LEFT JOIN
(
    SELECT interaction_id, cluster FROM cluster_members FINAL
    WHERE environment = {{environment:String}} AND cell >= toDateTime({{lo}}, 'UTC')
        AND cell < toDateTime({{hi}}, 'UTC')
) AS m ON m.interaction_id = r.interaction_id
"""  # noqa: S608 - our own constants

_ERASED: Final = """
SELECT max(toUnixTimestamp64Nano(before)) AS at FROM erasures WHERE pseudonym = ''
"""

_ACTIONS: Final = """
SELECT a.subject AS subject, a.action AS action, toFloat64(a.at) AS at, f.members AS members
FROM (SELECT * FROM finding_actions FINAL WHERE at > {since:DateTime64(3)}) AS a
LEFT JOIN (SELECT finding_id, members FROM findings FINAL) AS f ON f.finding_id = a.subject
ORDER BY a.at, a.subject
"""

# The rule of Grafana reads events of alerts; these say what the findings are, and that they last.
_ALERTS: Final = """
INSERT INTO alert_events
    (ts, alert_key, kind, agent, severity, status, score, title, description, episode_start,
     event_time)
SELECT if({beat:UInt64} > 0, toDateTime64({beat:UInt64}, 3), toDateTime64(version, 3)) AS ts,
    finding_id, kind, agent, 'critical', if(status = 'recovered', 'resolved', 'firing'),
    if(status = 'recovered', 0.0, e_value), title, causes, began, ts
FROM findings FINAL
WHERE incident = '' AND severity = 'page' AND (finding_id IN {ids:Array(String)}
    OR {beat:UInt64} > toUnixTimestamp(found) AND status IN ('open', 'regressed'))
"""

_TOTALS: Final = """
SELECT station, bucket, toInt64(toUnixTimestamp(position)) AS position, interactions
FROM station_progress FINAL
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """The state of a station's bucket; ``version`` grows with the event time it has read."""

    station: str
    bucket: str
    position: int
    parameters: str
    streams: int
    state: bytes


class StationStore(Protocol):
    """What the runner needs of a store. All times are seconds of event time.

    Raises
    ------
    Unavailable
        From every method, when the store is away.
    """

    def sealed(self, *, leads: bool) -> int:
        """Event time up to which results are complete; 0 before anything is.

        Who ``leads`` also gives up interactions without an end, for all.
        """

    def erased(self) -> int:
        """When somebody was last erased, ns since 1970; 0 for never."""

    def load(self, station: str, bucket: str) -> Stored | None:
        """The stored state of a bucket."""

    def positions(self) -> dict[tuple[str, str], tuple[int, int]]:
        """How far every bucket's outputs are written, and how many results it has read."""

    def save(
        self, states: Sequence[Stored], progress: Mapping[tuple[str, str], tuple[int, int]]
    ) -> None:
        """Store states, then how far outputs are written."""

    def results(self, lo: int, hi: int) -> pl.DataFrame:
        """Interactions decided in [lo, hi), columns of `RESULTS`, in order of time and id."""

    def settled(self, lo: int, hi: int) -> pl.DataFrame:
        """Those decided `SETTLED` seconds earlier with feedback, an outcome or a score."""

    def following(self, lo: int, hi: int) -> int | None:
        """Where the next results stand in [lo, hi); None when there are none."""

    def changes(self, lo: int, hi: int) -> pl.DataFrame:
        """Rows of ``station_changes`` decided in (lo, hi]."""

    def actions(self, since: datetime) -> list[Action]:
        """What people decided after a moment."""

    def context(self, environment: str, agent: str, lo: int, hi: int) -> pl.DataFrame:
        """The latest interactions of an agent ('' for all) in [lo, hi), with their cluster."""

    def write(self, outputs: Sequence[Output]) -> None:
        """Store outputs by table."""

    def alert(self, findings: Sequence[str], beat: int = 0) -> None:
        """Write events of the alerts of findings; with ``beat``, that all open ones last."""

    def note_read(self, bucket: str, counts: Mapping[int, int], version: int) -> None:
        """Store how many results of each hour a bucket has read."""


class ClickHouseStations:
    """The store of a deployment; ``results`` settles interactions that have no end."""

    def __init__(self, store: Store, log_id: str, results: ResultStore) -> None:
        self._store = store
        self._log_id = log_id
        self._results = results
        self._given_up_s = results.config.read_after_s
        self._sealing = sealing.Sealing()
        self._settled = 0
        self._settled_at = -_SETTLE_S

    def sealed(self, *, leads: bool) -> int:
        """Event time up to which results are complete, those of interactions without an end too."""
        rows = sealing.read(self._store, self._log_id)
        sealed = self._sealing.update(rows, sealing.clock_ns()).sealed
        settled = self._settle(sealed) if leads else sealing.given_up(rows)
        return min(sealed, settled + SLACK_S * _NS) // _NS if settled else 0

    def _settle(self, sealed: int) -> int:
        """Give up what has no end; returns the event time, ns, up to which that is done.

        Now and then also where event time stands, as what was said late opens a result again.
        """
        due = time.monotonic() - self._settled_at >= _SETTLE_S
        if due or sealed > self._settled + SLACK_S * _NS:
            self._results.give_up(sealed)
            if sealed > self._settled:
                rows = sealing.given_up_rows(self._log_id, sealed)
                self._store.insert("watermarks", rows)
            self._settled, self._settled_at = sealed, time.monotonic()
        return self._settled

    def erased(self) -> int:
        """When somebody was last erased, ns since 1970; 0 for never."""
        return int(self._store.query(_ERASED)["at"][0])

    def load(self, station: str, bucket: str) -> Stored | None:
        """The stored state of a bucket."""
        rows = self._store.query(
            "SELECT toInt64(toUnixTimestamp(position)) AS position, parameters, streams,"
            " hex(state) AS state FROM station_state FINAL"
            " WHERE station = {station:String} AND bucket = {bucket:String}",
            {"station": station, "bucket": bucket},
        )
        if rows.is_empty():
            return None
        row = rows.row(0, named=True)
        return Stored(
            station, bucket, row["position"], row["parameters"], row["streams"],
            bytes.fromhex(row["state"]),
        )  # fmt: skip

    def positions(self) -> dict[tuple[str, str], tuple[int, int]]:
        """How far every bucket's outputs are written, and how many results it has read."""
        rows = self._store.query(_TOTALS)
        return {(s, b): (p, n) for s, b, p, n in rows.iter_rows()}

    def save(
        self, states: Sequence[Stored], progress: Mapping[tuple[str, str], tuple[int, int]]
    ) -> None:
        """Store states, then how far outputs are written."""
        if states:
            self._store.insert("station_state", _state_rows(states))
        if progress:
            self._store.insert("station_progress", _progress_rows(progress))

    def results(self, lo: int, hi: int) -> pl.DataFrame:
        """Interactions decided in [lo, hi)."""
        return self._read(lo, hi, "")

    def settled(self, lo: int, hi: int) -> pl.DataFrame:
        """Those decided earlier that have feedback, an outcome or a score."""
        more = "AND (satisfaction IS NOT NULL OR success_source IN ('outcome', 'score'))"
        return self._read(lo - SETTLED, hi - SETTLED, more)

    def _read(self, lo: int, hi: int, more: str) -> pl.DataFrame:
        sql = _RESULTS.format(lo=lo, hi=hi, more=more, given_up=self._given_up_s)
        rows = self._store.query(sql)
        return empty_results() if rows.is_empty() else rows.cast(RESULTS)  # type: ignore[arg-type]

    def following(self, lo: int, hi: int) -> int | None:
        """Where the next results stand."""
        rows = self._store.query(_NEXT.format(lo=lo - self._given_up_s, hi=hi))
        return None if rows.is_empty() else int(rows["cell"][0])

    def changes(self, lo: int, hi: int) -> pl.DataFrame:
        """Rows of ``station_changes`` decided in (lo, hi]."""
        return self._store.query(_CHANGES.format(lo=lo, hi=hi))

    def actions(self, since: datetime) -> list[Action]:
        """What people decided after a moment."""
        rows = self._store.query(_ACTIONS, {"since": since})
        return [
            Action(finding, action, at)
            for subject, action, at, members in rows.iter_rows()
            for finding in (subject, *members)
        ]

    def context(self, environment: str, agent: str, lo: int, hi: int) -> pl.DataFrame:
        """The latest interactions of an agent ('' for all), with their cluster."""
        more = "AND agent = {agent:String}" if agent else ""
        sql = _CONTEXT.replace("{given_up}", str(self._given_up_s)).replace("{more}", more)
        sql = sql.replace("{lo}", str(lo)).replace("{hi}", str(hi))
        rows = self._store.query(sql, {"environment": environment, "agent": agent})
        if rows.is_empty():
            return empty_results()
        return rows.select(*(pl.col(name).cast(kind) for name, kind in RESULTS.items()), "cluster")

    def write(self, outputs: Sequence[Output]) -> None:
        """Store outputs by table."""
        for table, part in _by_table(outputs).items():
            self._store.insert(table, frame(part))

    def alert(self, findings: Sequence[str], beat: int = 0) -> None:
        """Write events of the alerts of findings; with ``beat``, that all open ones last."""
        self._store.command(_ALERTS, {"ids": list(findings), "beat": beat})

    def note_read(self, bucket: str, counts: Mapping[int, int], version: int) -> None:
        """Store how many results of each hour a bucket has read."""
        rows = [(bucket, moment(hour), version, n) for hour, n in counts.items()]
        schema = {
            "bucket": pl.String(),
            "hour": pl.Datetime("ms", "UTC"),
            "version": pl.UInt64(),
            "interactions": pl.UInt64(),
        }
        self._store.insert("station_read", pl.DataFrame(rows, schema, orient="row"))


def _state_rows(states: Sequence[Stored]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "station": [s.station for s in states],
            "bucket": [s.bucket for s in states],
            "position": [moment(s.position) for s in states],
            "version": [s.position for s in states],
            "parameters": [s.parameters for s in states],
            "streams": [s.streams for s in states],
            "state": [s.state for s in states],
        },
        schema_overrides={
            "version": pl.UInt64, "streams": pl.UInt32, "position": pl.Datetime("ms", "UTC"),
        },
    )  # fmt: skip


def _progress_rows(progress: Mapping[tuple[str, str], tuple[int, int]]) -> pl.DataFrame:
    now = datetime.now(UTC)
    return pl.DataFrame(
        [(s, b, moment(p), p, n, now) for (s, b), (p, n) in progress.items()],
        schema={
            "station": pl.String(), "bucket": pl.String(), "position": pl.Datetime("ms", "UTC"),
            "version": pl.UInt64(), "interactions": pl.UInt64(),
            "updated": pl.Datetime("ms", "UTC"),
        },
        orient="row",
    )  # fmt: skip


def _by_table(outputs: Sequence[Output]) -> dict[str, list[Output]]:
    tables: dict[str, list[Output]] = {}
    for output in outputs:
        tables.setdefault(output.table, []).append(output)
    return tables


class MemoryStations:
    """The same in memory, for tests and for event time that runs ahead of the clock.

    ``feed`` adds results; what is written stands in ``tables``, later rows of a key replacing
    earlier ones of a smaller version as `ReplacingMergeTree` does.
    """

    KEYS: Final[Mapping[str, tuple[str, ...]]] = {
        "station_changes": ("at", "change_id", "status", "severity"),
        "findings": ("finding_id",),
        "clusters": ("environment", "agent", "cluster"),
        "cluster_members": ("environment", "agent", "cell", "interaction_id"),
        "cluster_lineage": ("environment", "agent", "at", "cluster", "what", "source"),
        "verdicts": ("environment", "agent", "baseline", "candidate", "measure"),
    }

    def __init__(self) -> None:
        self.tables: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
        self.states: dict[tuple[str, str], Stored] = {}
        self.progress: dict[tuple[str, str], tuple[int, int]] = {}
        self.decided: list[Action] = []
        self.until = 0
        self._parts: list[pl.DataFrame] = []

    def feed(self, results: pl.DataFrame, sealed: int) -> None:
        """Add results, in order of time, and seal event time up to ``sealed``.

        Results of more than a day ago are forgotten.
        """
        if not results.is_empty():
            self._parts.append(results)
        self.until = sealed
        self._parts = [p for p in self._parts if int(p["decided"][-1]) >= sealed - 86_400]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Rows of a table in order of their keys."""
        return [row for _, row in sorted(self.tables.get(table, {}).items())]

    def sealed(self, *, leads: bool) -> int:
        """Event time up to which results are complete."""
        return self.until

    def erased(self) -> int:
        """When somebody was last erased: never."""
        return 0

    def load(self, station: str, bucket: str) -> Stored | None:
        """The stored state of a bucket."""
        return self.states.get((station, bucket))

    def positions(self) -> dict[tuple[str, str], tuple[int, int]]:
        """How far every bucket's outputs are written."""
        return dict(self.progress)

    def save(
        self, states: Sequence[Stored], progress: Mapping[tuple[str, str], tuple[int, int]]
    ) -> None:
        """Store states, then how far outputs are written."""
        for state in states:
            key = (state.station, state.bucket)
            if key not in self.states or self.states[key].position <= state.position:
                self.states[key] = state
        for key, value in progress.items():
            self.progress[key] = max(value, self.progress.get(key, value))

    def results(self, lo: int, hi: int) -> pl.DataFrame:
        """Interactions decided in [lo, hi)."""
        parts = [
            p.filter((p["decided"] >= lo) & (p["decided"] < hi))
            for p in self._parts
            if int(p["decided"][-1]) >= lo and int(p["decided"][0]) < hi
        ]
        return pl.concat(parts) if parts else empty_results()

    def settled(self, lo: int, hi: int) -> pl.DataFrame:
        """Those decided earlier that have feedback, an outcome or a score."""
        rated = pl.col("satisfaction").is_not_null()
        late = pl.col("success_source").is_in(["outcome", "score"])
        return self.results(lo - SETTLED, hi - SETTLED).filter(rated | late)

    def following(self, lo: int, hi: int) -> int | None:
        """Where the next results stand."""
        rows = self.results(lo, hi)
        return None if rows.is_empty() else int(rows["decided"][0])

    def changes(self, lo: int, hi: int) -> pl.DataFrame:
        """Rows of ``station_changes`` decided in (lo, hi]."""
        rows = [
            row | {name: int(row[name].timestamp()) for name in ("at", "began", "found")}
            for row in self.rows("station_changes")
            if lo < row["at"].timestamp() <= hi
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def actions(self, since: datetime) -> list[Action]:
        """What people decided: all of it, each once."""
        found, self.decided = self.decided, []
        return found

    def context(self, environment: str, agent: str, lo: int, hi: int) -> pl.DataFrame:
        """The latest interactions of an agent ('' for all), with their cluster."""
        rows = self.results(lo, hi).filter(pl.col("environment") == environment)
        if agent:
            rows = rows.filter(pl.col("agent") == agent)
        members = {key[3]: row["cluster"] for key, row in self._members().items()}
        found = rows.tail(CONTEXT_ROWS)
        clusters = [members.get(i, "") for i in found["interaction_id"].to_list()]
        return found.with_columns(cluster=pl.Series(clusters, dtype=pl.String))

    def _members(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        return self.tables.get("cluster_members", {})

    def write(self, outputs: Sequence[Output]) -> None:
        """Store outputs by table."""
        for output in outputs:
            row = output.row()
            key = tuple(row[name] for name in self.KEYS[output.table])
            table = self.tables.setdefault(output.table, {})
            if key not in table or table[key].get("version", 0) <= row.get("version", 0):
                table[key] = row

    def alert(self, findings: Sequence[str], beat: int = 0) -> None:
        """Nobody reads events of alerts here."""

    def note_read(self, bucket: str, counts: Mapping[int, int], version: int) -> None:
        """Results come in order here, so none is late."""
