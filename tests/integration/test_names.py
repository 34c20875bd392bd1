"""Names are bounded, and every event is counted once: under its name or under ``__other__``."""

from __future__ import annotations

import numpy as np
import polars as pl

from ingest.codec import decode, encode
from ingest.core.events import Event
from processors.audit import reconcile
from processors.clickhouse import Store
from processors.derive import dirty_marks, windows
from processors.derive.result_store import ResultStore
from processors.write import rows
from processors.write.cardinality import OTHER, CardinalityConfig, CardinalityLimiter, any_refused

T0 = 1_760_000_000_000_000_000
SMALL = CardinalityConfig({"environment": 2, "agent": 3, "agent_version": 2, "scope": 2})


def event(n: int, **fields) -> Event:
    given = {
        "agent": f"agent-{n}", "kind": "tool_call", "interaction_id": f"i{n}",
        "time_unix_nano": T0 + n,
    }  # fmt: skip
    return Event(event_id=f"e{n}", **{**given, **fields})


def stored(events: list[Event]) -> pl.DataFrame:
    place = np.zeros(1, np.uint32), np.zeros(1, np.uint64)
    return rows.event_rows(decode([encode(events)], [2 * T0]), "log", *place)


def deliver(store: Store, names: CardinalityLimiter, events: list[Event]) -> None:
    frame = stored(events)
    names.admit(frame)
    store.insert("events", frame)
    ResultStore(store).update(dirty_marks.dirty_cells(frame))
    for width in windows.WIDTHS:
        windows.recompute(
            store, width, dirty_marks.rollup_cells(dirty_marks.dirty_cells(frame), width)
        )


def counts(store: Store, column: str, width: int = 10) -> dict[str, int]:
    found = store.query(
        f"SELECT {column}, sum(events) AS n FROM windows FINAL"
        f" WHERE width_s = {width} AND scope = 'all' GROUP BY {column}"
    )
    return dict(found.iter_rows())


def test_what_comes_when_there_is_no_room_is_counted_under_other(store):
    names = CardinalityLimiter(store, SMALL)
    deliver(store, names, [event(n) for n in range(5)])
    deliver(store, names, [event(10 + n, agent=f"agent-{n}") for n in range(8)])

    for width in windows.WIDTHS:
        assert counts(store, "agent", width) == {"agent-0": 2, "agent-1": 2, "agent-2": 2, OTHER: 7}
    parts = store.query(
        "SELECT agent, sum(r.n) AS n FROM rollups AS r FINAL"
        " WHERE width_s = 60 AND unit = 'interactions' GROUP BY agent HAVING n > 0"
    )
    assert dict(parts.iter_rows()) == {"agent-0": 2, "agent-1": 2, "agent-2": 2, OTHER: 7}
    raw = store.query("SELECT uniqExact(agent) AS n FROM events")["n"][0]
    assert raw == 8
    assert reconcile(ResultStore(store)) == 0


def test_other_is_computed_from_every_agent_that_was_refused_not_only_the_marked(store):
    names = CardinalityLimiter(store, SMALL)
    deliver(store, names, [event(n) for n in range(5)])
    deliver(store, names, [event(9)])
    for width in windows.WIDTHS:
        assert counts(store, "agent", width)[OTHER] == 3


def test_each_dimension_has_its_own_limit(store):
    events = [
        event(
            n,
            agent="shop",
            environment=f"env-{n}",
            agent_version=f"v{n}",
            name=f"tool-{n}",
            model=f"model-{n}",
        )
        for n in range(4)
    ]
    deliver(store, CardinalityLimiter(store, SMALL), events)
    assert set(counts(store, "environment")) == {"env-0", "env-1", OTHER}
    assert set(counts(store, "agent_version")) == {"v0", "v1", OTHER}
    scopes = store.query("SELECT scope, sum(events) AS n FROM windows FINAL GROUP BY scope")
    # Of eight tools and models there is room for the first two.
    assert len(set(scopes["scope"])) == 1 + 2 + 2
    assert {"all", f"tool_call:{OTHER}", f"model:{OTHER}"} <= set(scopes["scope"])


def test_a_worker_that_starts_again_decides_the_same(store):
    deliver(store, CardinalityLimiter(store, SMALL), [event(n) for n in range(5)])
    before = store.query("SELECT dimension, value, refused FROM dimension_values ORDER BY ALL")
    again = CardinalityLimiter(store, CardinalityConfig({**SMALL.limits, "agent": 100}))
    assert again.admit(stored([event(n) for n in range(5)])) == 0
    after = store.query("SELECT dimension, value, refused FROM dimension_values ORDER BY ALL")
    assert after.equals(before)


def test_a_name_that_one_worker_admits_and_another_refuses_is_refused(store):
    deliver(store, CardinalityLimiter(store, SMALL), [event(n) for n in range(3)])
    assert counts(store, "agent")["agent-2"] == 1
    store.insert(
        "dimension_values",
        pl.DataFrame({"dimension": ["agent"], "value": ["agent-2"], "refused": [1]}),
    )
    # Until it is looked at, the name's own window stays; then every event counts once again.
    assert reconcile(ResultStore(store)) > 0
    for width in windows.WIDTHS:
        assert counts(store, "agent", width) == {"agent-0": 1, "agent-1": 1, OTHER: 1}
    assert reconcile(ResultStore(store)) == 0


def test_a_name_that_is_refused_while_its_rows_are_read_bears_no_windows(store, monkeypatch):
    """No name was refused when the worker asked, and then the first one was, and had rows."""
    asked = []

    def not_at_first(store, again=True):
        asked.append(any_refused(store, again))
        return asked[-1] and len(asked) > 1

    monkeypatch.setattr(windows, "any_refused", not_at_first)
    deliver(store, CardinalityLimiter(store, SMALL), [event(n) for n in range(5)])
    assert asked[0]
    for width in windows.WIDTHS:
        assert counts(store, "agent", width) == {"agent-0": 1, "agent-1": 1, "agent-2": 1, OTHER: 2}
    parts = store.query(
        "SELECT agent, sum(r.n) AS n FROM rollups AS r FINAL"
        " WHERE width_s = 60 AND unit = 'interactions' GROUP BY agent HAVING n > 0"
    )
    assert dict(parts.iter_rows()) == {"agent-0": 1, "agent-1": 1, "agent-2": 1, OTHER: 2}


def test_a_name_that_another_worker_refuses_too_late_loses_its_windows_with_its_next_event(store):
    names = CardinalityLimiter(store, SMALL)
    deliver(store, names, [event(n) for n in range(4)])
    store.insert(
        "dimension_values",
        pl.DataFrame({"dimension": ["agent"], "value": ["agent-2"], "refused": [1]}),
    )
    deliver(store, names, [event(9, agent="agent-2")])
    for width in windows.WIDTHS:
        assert counts(store, "agent", width) == {"agent-0": 1, "agent-1": 1, OTHER: 3}


def test_minutes_that_another_worker_makes_of_refused_names_go_as_well(store):
    names = CardinalityLimiter(store, SMALL)
    deliver(store, names, [event(n) for n in range(5)])
    good = store.query("SELECT * FROM windows FINAL ORDER BY ALL")
    misnamed = good.filter((pl.col("agent") == OTHER) & (pl.col("width_s") == 10))
    store.insert("windows", misnamed.with_columns(agent=pl.lit("agent-4")))
    minutes = good.filter(pl.col("width_s") == 60).select(
        "environment", agent=pl.lit("agent-4"), start=pl.col("start").dt.epoch("s")
    )
    windows.recompute(store, 60, minutes.unique())
    assert store.query("SELECT * FROM windows FINAL ORDER BY ALL").equals(good)


TAKEN = {
    "agent": OTHER,
    "environment": OTHER,
    "agent_version": OTHER,
    "name": OTHER,
    "model": OTHER,
}


def test_who_is_called_other_is_counted_with_the_others(store):
    """Before a limit is reached and after it; nobody's windows go."""
    names = CardinalityLimiter(store, SMALL)
    deliver(store, names, [event(0, **TAKEN), event(1), event(2), event(3)])
    assert counts(store, "agent") == {"agent-1": 1, "agent-2": 1, "agent-3": 1, OTHER: 1}
    deliver(store, names, [event(10 + n, **TAKEN | {"agent": f"agent-{n}"}) for n in range(1, 6)])
    deliver(store, names, [event(20, **TAKEN)])
    reconcile(ResultStore(store))
    for width in windows.WIDTHS:
        assert counts(store, "agent", width) == {
            "agent-1": 2, "agent-2": 2, "agent-3": 2, OTHER: 4
        }  # fmt: skip
        assert counts(store, "environment", width) == {"production": 3, OTHER: 7}
        assert counts(store, "agent_version", width) == {"": 3, OTHER: 7}
    scopes = store.query("SELECT DISTINCT scope FROM windows FINAL")["scope"]
    assert set(scopes) == {"all", "tool_call", f"tool_call:{OTHER}", f"model:{OTHER}"}
    assert reconcile(ResultStore(store)) == 0


def test_other_that_was_refused_by_earlier_versions_keeps_its_windows(store):
    names = CardinalityLimiter(store, SMALL)
    deliver(store, names, [event(n, name="t", model="m") for n in range(5)])
    before = store.query("SELECT * FROM windows FINAL ORDER BY ALL")
    taken = {"agent": OTHER, "environment": OTHER, "agent_version": OTHER,
             "scope": f"tool_call:{OTHER}"}  # fmt: skip
    store.insert(
        "dimension_values",
        pl.DataFrame({"dimension": list(taken), "value": list(taken.values()), "refused": 1}),
    )
    assert reconcile(ResultStore(store)) == 0
    assert store.query("SELECT * FROM windows FINAL ORDER BY ALL").equals(before)


def test_other_that_was_admitted_by_earlier_versions_is_counted_with_the_others(store):
    store.insert("dimension_values", pl.DataFrame({"dimension": ["agent"], "value": [OTHER]}))
    names = CardinalityLimiter(store, SMALL)
    deliver(store, names, [event(n) for n in range(5)])
    deliver(store, names, [event(9, agent=OTHER)])
    assert counts(store, "agent")[OTHER] == 5 - 2 + 1
    assert reconcile(ResultStore(store)) == 0


def test_other_is_computed_from_all_where_only_some_of_many_agents_fit_into_a_statement(
    store, monkeypatch
):
    """More agents are marked than a statement names, but fewer in each of its parts."""
    names = CardinalityLimiter(store, SMALL)
    cell = 10 * 10**9
    deliver(store, names, [event(n) for n in range(6)])  # the limit is reached
    deliver(store, names, [event(10 + n, time_unix_nano=T0 + n * cell) for n in range(6)])
    later = [event(20 + n, agent=f"later-{n}", time_unix_nano=T0 + n * cell + 5) for n in range(6)]
    monkeypatch.setattr(windows, "_MAX_NAMED_AGENTS", 4)
    monkeypatch.setattr(windows, "_MAX_EVENTS_PER_STATEMENT", 1)
    deliver(store, names, later)
    found = store.query(
        "SELECT toUnixTimestamp(start) AS at, events FROM windows FINAL"
        f" WHERE width_s = 10 AND scope = 'all' AND agent = '{OTHER}'"
    )
    first = T0 // 10**9
    assert dict(found.iter_rows()) == {first: 3 + 1 + 1} | {first + 10 * n: 2 for n in range(1, 6)}


def test_a_thousand_long_names_fit_into_a_statement(store):
    long = [event(n, agent=f"{n:04}" + "'\\ü" * 84) for n in range(900)]
    deliver(store, CardinalityLimiter(store, SMALL), long)
    assert sum(counts(store, "agent").values()) == 900
    assert len(counts(store, "agent")) == 4


def test_a_known_name_costs_no_query(store, monkeypatch):
    names = CardinalityLimiter(store, SMALL)
    frame = stored([event(1)])
    names.admit(frame)
    monkeypatch.setattr(Store, "query", None)
    assert names.admit(frame) == 0
