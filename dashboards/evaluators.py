"""What evaluators did: decisions, coverage, cost, latency, failures, agreement, honest rates."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import msgspec
import polars as pl

from processors.clickhouse import Store
from processors.evaluators import quality

_VERSIONS: Final = """
SELECT evaluator, argMax(evaluator_version, began) AS version, argMax(spec, began) AS spec,
    toInt64(toUnixTimestamp(min(began))) AS first
FROM evaluator_versions GROUP BY evaluator ORDER BY evaluator
"""

_DECISIONS: Final = """
SELECT evaluator, toString(state) AS state, if(state = 'failed', toString(reason), '') AS reason,
    count() AS n, sum(d.cost_usd) AS usd, countIf(d.calls > 0 AND d.cost_usd IS NULL) AS unpriced
FROM decisions AS d GROUP BY evaluator, state, reason ORDER BY evaluator, n DESC, state, reason
"""

_CALLS: Final = """
SELECT evaluator, count() AS calls, countIf(state = 'failed') AS failed,
    quantileExactIf(0.5)(latency_ms, latency_ms IS NOT NULL) AS p50,
    quantileExactIf(0.95)(latency_ms, latency_ms IS NOT NULL) AS p95,
    toFloat64(sumIf(charge_usd, reserved >= toStartOfDay(now64(3, 'UTC')))) AS today,
    toFloat64(sumIf(charge_usd, reserved >= toMonday(now64(3, 'UTC')))) AS week,
    groupUniqArrayIf(10)(toString(model), model != '') AS models
FROM evaluation_calls FINAL WHERE state != 'withdrawn' GROUP BY evaluator
"""

_UNDECIDED: Final = """
SELECT count() AS n FROM {view}
WHERE cell >= toDateTime({{began:UInt32}}, 'UTC') AND {id} NOT IN
    (SELECT target FROM evaluation_decisions WHERE evaluator = {{evaluator:String}})
"""


def overview(store: Store) -> list[dict[str, Any]]:
    """One entry per evaluator that ever ran.

    Returns
    -------
    list of dict
        ``evaluator``, ``version``, ``kind``, ``target``, ``targets``, ``decisions`` (state to how
        many), ``undecided``, ``coverage`` (of what is neither filtered nor unready, the share that
        was judged), ``failures`` (reason to how many), ``cost_usd`` (null when a price is missing),
        ``calls``, ``latency_ms``, ``spent_usd`` of the day and week, ``models``, ``agreement``
        (null without labels and outcomes), and ``pass_rate``: the share that people would pass,
        from labels and judgements by prediction-powered inference; null without labels, for a raw
        rate of judgements says nothing.
    """
    versions = store.query(_VERSIONS)
    if versions.is_empty():
        return []
    decisions, calls = store.query(_DECISIONS), store.query(_CALLS)
    measured = quality.measure(store)
    return [
        _entry(store, row, _of(decisions, row), _of(calls, row), measured.get(row["evaluator"]))
        for row in versions.iter_rows(named=True)
    ]


def _of(frame: pl.DataFrame, row: dict[str, Any]) -> list[dict[str, Any]]:
    if frame.is_empty():
        return []
    return frame.filter(pl.col("evaluator") == row["evaluator"]).to_dicts()


def _entry(
    store: Store,
    row: dict[str, Any],
    decisions: list[dict[str, Any]],
    calls: list[dict[str, Any]],
    measured: quality.Quality | None,
) -> dict[str, Any]:
    spec = msgspec.json.decode(row["spec"])
    view, key = quality.VIEWS[spec["target"]]
    undecided = store.query(
        _UNDECIDED.format(view=view, id=key),
        {"began": row["first"], "evaluator": row["evaluator"]},
    )["n"][0]
    states: dict[str, int] = {}
    for one in decisions:
        states[one["state"]] = states.get(one["state"], 0) + one["n"]
    wanted = sum(n for state, n in states.items() if state not in ("filtered", "not_ready"))
    called = calls[0] if calls else {}
    costs = [one["usd"] for one in decisions if one["usd"] is not None]
    unpriced = sum(one["unpriced"] for one in decisions)
    return {
        "evaluator": row["evaluator"],
        "version": row["version"],
        "kind": spec["kind"],
        "target": spec["target"],
        "targets": sum(states.values()) + undecided,
        "decisions": states,
        "undecided": undecided,
        "coverage": states.get("done", 0) / wanted if wanted else None,
        "failures": {one["reason"]: one["n"] for one in decisions if one["state"] == "failed"},
        "cost_usd": None if unpriced or not calls else sum(costs),
        "calls": called.get("calls", 0),
        "latency_ms": {name: called.get(name) for name in ("p50", "p95")},
        "spent_usd": {name: called.get(name) for name in ("today", "week")},
        "models": sorted(called.get("models", [])),
        "agreement": asdict(measured.agreement) if measured else None,
        "pass_rate": measured.rate if measured else None,
    }
