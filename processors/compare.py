"""Two versions of an agent on what is stored: the read model of ``driftline compare``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl

from detectors.compare.verdicts import Verdict, compare_paired
from ingest.core.errors import Rejected, UsageError
from processors.clickhouse import Store
from processors.derive.results import OWN_MS
from processors.stations.base import RESULTS
from processors.stations.versions import MEASURES, Measure, Pair, comparison, judge, sums

_HOUR: Final = 3600
_ALPHA: Final = 0.05

_RESULTS: Final = f"""
SELECT toInt64(toUnixTimestamp(cell)) AS decided, environment, agent, agent_version, success,
    satisfaction, {OWN_MS} AS duration_ms, cost_usd, input_tokens, output_tokens, tool_errors
FROM interaction_results FINAL
WHERE live AND state != 'open' AND environment = {{environment:String}} AND agent = {{agent:String}}
    AND agent_version IN ({{baseline:String}}, {{candidate:String}}) AND cell >= {{since:DateTime}}
"""  # noqa: S608 - of our own constants

_KNOWN: Final = """
SELECT environment, agent_version FROM interaction_results FINAL
WHERE live AND agent = {agent:String}
GROUP BY environment, agent_version ORDER BY max(end) DESC, environment, agent_version
"""
_NAMED: Final = 10

_INCIDENTS: Final = """
SELECT toInt64(toUnixTimestamp(began)) AS began,
    toInt64(toUnixTimestamp(coalesce(ended, now()))) AS ended
FROM findings FINAL
WHERE incident = '' AND severity = 'page' AND kind != 'version'
    AND environment = {environment:String} AND agent IN ({agent:String}, '')
    AND NOT startsWith(causes, '[{"attribute":"agent_version"')
"""

_SESSIONS: Final = """
SELECT t.task AS task, s.agent_version AS agent_version, s.success AS success,
    s.satisfaction AS satisfaction, s.duration_ms AS duration_ms, s.cost_usd AS cost_usd,
    s.input_tokens AS input_tokens, s.output_tokens AS output_tokens, s.tool_errors AS tool_errors
FROM sessions AS s
INNER JOIN
(
    SELECT session_id, scope, any(JSONExtractString(attributes, {by:String})) AS task FROM events
    WHERE environment = {environment:String} AND agent = {agent:String} AND time >= {since:DateTime}
        AND JSONHas(attributes, {by:String})
    GROUP BY session_id, scope
) AS t ON t.session_id = s.session_id AND t.scope = s.scope
WHERE s.environment = {environment:String} AND s.agent = {agent:String}
    AND s.agent_version IN ({baseline:String}, {candidate:String})
"""


def compare_versions(
    store: Store,
    environment: str,
    agent: str,
    baseline: str,
    candidate: str,
    since: datetime | None = None,
) -> dict[str, Any]:
    """Verdicts per measure, with the hours that both versions shared and those left out.

    Returns
    -------
    dict
        ``measures``: per measure ``measure, verdict, effect, low, high, unit, n, needed``;
        ``hours`` and ``excluded``: how many.

    Raises
    ------
    Rejected
        Nothing stored bears the agent, the environment or a version.
    UsageError
        Both versions are the same.
    """
    given = _given(environment, agent, baseline, candidate, since)
    rows = store.query(_RESULTS, given)
    _refuse_unknown(store, given, rows)
    incidents = store.query(_INCIDENTS, given)
    hours = hours_of(incidents.iter_rows())
    return compare_rows(rows, (environment, agent), baseline, candidate, hours)


def compare_tasks(
    store: Store,
    environment: str,
    agent: str,
    baseline: str,
    candidate: str,
    by: str,
    since: datetime | None = None,
) -> dict[str, Any]:
    """The same of sessions on the same tasks, whenever they ran.

    Parameters
    ----------
    by
        Attribute of events that names the task of a session: ``tau2.task_id``.

    Returns
    -------
    dict
        ``measures`` as of `compare_versions`, ``tasks``: how many both versions did.

    Raises
    ------
    Rejected
        As `compare_versions`.
    """
    rows = task_sessions(store, environment, agent, baseline, candidate, by, since)
    return compare_pairs(rows, (environment, agent), baseline, candidate)


def task_sessions(
    store: Store,
    environment: str,
    agent: str,
    baseline: str,
    candidate: str,
    by: str,
    since: datetime | None = None,
) -> pl.DataFrame:
    """Sessions of two versions with their ``task``, as `compare_tasks` reads them."""
    given = _given(environment, agent, baseline, candidate, since)
    rows = store.query(_SESSIONS, given | {"by": by})
    _refuse_unknown(store, given, rows)
    return rows


def _refuse_unknown(store: Store, given: dict[str, Any], rows: pl.DataFrame) -> None:
    """Refuse names that nothing stored bears; without ``rows`` they may be mistyped."""
    versions = [given["baseline"], given["candidate"]]
    if set(versions) <= set(rows["agent_version"]):
        return
    agent, environment = given["agent"], given["environment"]
    known = store.query(_KNOWN, {"agent": agent})
    here = known.filter(pl.col("environment") == environment)["agent_version"]
    if known.is_empty():
        raise Rejected("unknown_agent", f"no interaction of {agent} is stored")
    if here.is_empty():
        raise Rejected("unknown_environment", _there_are(agent, environment, known["environment"]))
    for version in versions:
        if version not in here:
            raise Rejected("unknown_version", _there_are(agent, version, here))


def _there_are(agent: str, wanted: str, names: pl.Series) -> str:
    some = [repr(name) for name in names.unique(maintain_order=True)]
    more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
    return f"{agent} has no {wanted!r}; there are {', '.join(some[:_NAMED])}{more}"


def _given(
    environment: str, agent: str, baseline: str, candidate: str, since: datetime | None
) -> dict[str, Any]:
    if baseline == candidate:
        raise UsageError(f"{baseline!r} is both versions: give another --baseline or --candidate")
    return {
        "environment": environment, "agent": agent, "baseline": baseline, "candidate": candidate,
        "since": since or datetime.fromtimestamp(0),  # noqa: DTZ006 - the beginning of time
    }  # fmt: skip


def compare_pairs(
    rows: pl.DataFrame, owner: tuple[str, str], baseline: str, candidate: str
) -> dict[str, Any]:
    """Verdicts from sessions with their ``task``; several of a task count by their mean. Pure."""
    if rows.is_empty():
        return {"measures": [], "tasks": 0}
    means = rows.group_by("task", "agent_version").agg(
        m.expression.mean().alias(m.name) for m in MEASURES
    )
    old, new = (means.filter(pl.col("agent_version") == v) for v in (baseline, candidate))
    both = old.join(new, on="task", suffix=" new")
    measures = []
    for m in MEASURES:
        differences = (both[f"{m.name} new"] - both[m.name]).drop_nulls().to_numpy()
        verdict = compare_paired(
            differences, margin=m.width, higher_is_better=m.higher_is_better,
            alpha=_ALPHA, tuned_for=max(len(both), 1),
        )  # fmt: skip
        measures.append(_told(m, verdict, owner, baseline, candidate))
    return {"measures": measures, "tasks": len(both)}


def _told(
    m: Measure, verdict: Verdict, owner: tuple[str, str], baseline: str, candidate: str
) -> dict[str, Any]:
    found = comparison(m, verdict, (*owner, candidate), baseline, 0)
    return {
        "measure": m.name, "verdict": found.verdict, "effect": found.effect,
        "low": found.low, "high": found.high, "unit": found.unit,
        "n": {"baseline": found.n_baseline, "candidate": found.n_candidate},
        "needed": found.needed,
    }  # fmt: skip


def hours_of(spans: Iterable[tuple[int, ...]]) -> set[int]:
    """Hours that spans of time (s) touch.

    >>> sorted(hours_of([(3500, 7300)]))
    [0, 3600, 7200]
    """
    return {
        hour for began, ended in spans for hour in range(began // _HOUR * _HOUR, ended + 1, _HOUR)
    }


def compare_rows(
    rows: pl.DataFrame, owner: tuple[str, str], baseline: str, candidate: str, without: set[int]
) -> dict[str, Any]:
    """The same from interactions; ``without`` are hours to leave out. Pure."""
    pair = Pair(baseline, candidate, 0)
    known = pl.DataFrame(schema=RESULTS) if rows.is_empty() else rows
    for row in sums(known).iter_rows(named=True):
        if row["hour"] in without:
            continue
        for arm, version in enumerate((baseline, candidate)):
            if row["agent_version"] == version:
                for m in MEASURES:
                    pair.add(m.name, row["hour"], arm, [row[f"{p} {m.name}"] for p in "nsq"])
    measures = []
    for m in MEASURES:
        table = pair.table(m.name)
        verdict = judge(m, table if len(table) else np.zeros((1, 6)), _ALPHA)
        measures.append(_told(m, verdict, owner, baseline, candidate))
    touched = {hour for part in pair.hours.values() for hour in part}
    shared = len(pair.table("tool_errors"))
    excluded = len(set(known["decided"].to_numpy() // _HOUR * _HOUR) & without)
    return {"measures": measures, "hours": min(shared, len(touched)), "excluded": excluded}
