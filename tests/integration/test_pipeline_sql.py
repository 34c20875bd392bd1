"""Windows, interactions, sessions and metrics on a real engine against plain Python.

Events go in as the sink writes them: decoded from NDJSON, in batches of any cut and order, with
repeats and stale marks.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from dashboards import agent_report
from dashboards.accounting import account
from dashboards.lookup import Lookup
from detectors.sketch import bin_index
from ingest.core.events import Event
from processors import audit
from processors.derive import result_store, rollups, windows
from processors.stations.storage import ClickHouseStations
from tests.integration.pipeline_harness import (
    DERIVED,
    FAR,
    SEEDS,
    Pipeline,
    batches,
    check,
    check_metrics,
    collided,
    flat,
    same,
)
from tests.integration.pipeline_reference import Truth, traffic


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_derived_equals_plain_python(pipeline: Pipeline, seed: int) -> None:
    """In any order, with repeats, with marks worked off early and often."""
    rng, events = random.Random(seed), traffic(seed)
    again = rng.sample(events, 60)
    for batch in batches(rng, events + again):
        pipeline.deliver(batch)
        if rng.random() < 0.3:
            pipeline.recompute()
    pipeline.recompute()
    truth = Truth(events)
    assert not truth.losers
    assert audit.find_collisions(pipeline.results) == 0
    check(pipeline, truth)
    books = account(pipeline.store)
    assert books["balanced"]
    assert (books["stored"], books["duplicates"], books["collisions"]) == (len(events), 60, 0)
    before = pipeline.state()
    pipeline.recompute(cells(events))
    pipeline.recompute(cells(rng.sample(events, 50)))
    assert pipeline.state() == before


def cells(events: list[Event]) -> pl.DataFrame:
    starts = [(e.environment, e.agent, e.time_unix_nano // 10**10 * 10) for e in events]
    schema = {"environment": pl.String, "agent": pl.String, "start": pl.Int64}
    return pl.DataFrame(starts, schema=schema, orient="row").unique()


def test_no_order_and_no_cut_changes_a_bit(pipeline: Pipeline) -> None:
    """Floating-point sums included, and versions but of what adds up results."""
    events, states = collided(traffic(8)), []
    for seed in range(3):
        rng = random.Random(seed)
        for table in ("events", "evaluations", "collisions", "windows", *DERIVED):
            pipeline.store.command(f"TRUNCATE TABLE {table}")
        repeats = rng.sample(events, 30 * seed)
        for batch in batches(rng, events + repeats, most=20 + 150 * seed):
            pipeline.deliver(batch)
            if rng.random() < 0.3:
                pipeline.recompute()
            if rng.random() < 0.2:
                audit.find_collisions(pipeline.results)
        pipeline.recompute()
        audit.find_collisions(pipeline.results)
        states.append(pipeline.state())
    for one, two in itertools.pairwise(states):
        for part, again in zip(one, two, strict=True):
            assert part == again


def test_a_stale_row_never_wins(pipeline: Pipeline) -> None:
    """A writer that read a part of the events and writes after all others changes nothing."""
    stale = stale_rows(pipeline)
    before = pipeline.state()
    for table, found in stale.items():
        pipeline.store.insert(table, found)
    assert pipeline.state() == before
    pipeline.store.command("OPTIMIZE TABLE windows FINAL")
    pipeline.store.command("OPTIMIZE TABLE interaction_results FINAL")
    assert pipeline.state() == before


def stale_rows(pipeline: Pipeline) -> dict[str, pl.DataFrame]:
    """Deliver everything, and return the derived rows of before its last part."""
    events = traffic(5)
    pipeline.deliver(events[:300])
    pipeline.recompute()
    stale = {
        table: pipeline.store.query(f"SELECT * FROM {table} FINAL")
        for table in ("windows", *DERIVED)
    }
    pipeline.deliver(events[300:])
    pipeline.recompute()
    check(pipeline, Truth(events))
    return stale


def test_an_event_of_any_allowed_size_and_age_can_be_computed(pipeline: Pipeline) -> None:
    """One event at the limits of the contract must not stop the worker."""
    extremes = [
        Event(
            event_id=f"x{n}",
            time_unix_nano=time,
            agent="edge",
            kind=kind,
            interaction_id=f"x{n}",
            duration_ms=duration,
            cost_usd=1e15,
            input_tokens=2**53,
            name="\x00'\\\n" * 60,
        )
        for n, (time, duration, kind) in enumerate(
            (time, duration, kind)
            for time in (0, 1, 1_760_000_000 * 10**9, FAR)
            for duration in (0.0, 5e-324, 1e3, 1e15)
            for kind in ("tool_call", "interaction")
        )
    ]
    pipeline.deliver(extremes)
    pipeline.recompute()
    assert pipeline.store.query("SELECT count() AS n FROM interactions")["n"][0] == len(extremes)
    for row in pipeline.store.query("SELECT duration_ms FROM interactions").rows():
        assert row[0] is None or row[0] >= 0
    (entry, *_) = agent_report.collect(pipeline.store)
    assert entry["events"]["n"] == len(extremes)
    assert entry["events"]["duration_ms"]["p99"] == pytest.approx(1e15, rel=0.01)


def test_bins_of_rollups_are_those_of_sketches(pipeline: Pipeline) -> None:
    values = [0.0, 5e-324, 1e-290, 1e-285, 0.5, 1.0, 1e3, 1e15, 1e285, 1e290, 1.7e308]
    found = pipeline.store.query(
        f"SELECT {rollups.bin_sql('v')} AS bin FROM (SELECT arrayJoin({values}) AS v)"
    )
    assert found["bin"].to_list() == bin_index(values).tolist()


def test_waiting_for_a_person_is_not_the_agents_own_time(pipeline: Pipeline) -> None:
    """An hour, 50 minutes of which a person took to answer."""

    def event(event_id: str, kind: str, at_min: int, lasted_min: int, **more: Any) -> Event:
        return Event(
            event_id=event_id, kind=kind, time_unix_nano=(1_760_000_000 + at_min * 60) * 10**9,
            duration_ms=lasted_min * 60_000.0, interaction_id="t", agent="shop", status="ok",
            environment="production", agent_version="v1", **more,
        )  # fmt: skip

    events = [
        event("run", "interaction", 60, 60),
        event("ask", "human_input", 55, 50, parent_id="run"),
        event("told twice", "human_input", 55, 50, parent_id="ask"),
    ]
    pipeline.deliver(events)
    pipeline.recompute()
    check(pipeline, Truth(events))
    raw = pipeline.store.query("SELECT duration_ms, waiting_ms FROM interactions")
    assert raw.rows() == [(3_600_000.0, 3_000_000.0)]
    rolled = pipeline.store.query(
        "SELECT unit, duration_ms, duration_n FROM rollups FINAL WHERE width_s = 86400 ORDER BY 1"
    )
    assert rolled.rows() == [("interactions", 600_000.0, 1), ("sessions", 3_600_000.0, 1)]
    (entry, *_) = agent_report.collect(pipeline.store)
    assert entry["interactions"]["duration_ms"]["p50"] == pytest.approx(600_000, rel=0.01)
    stations = ClickHouseStations(pipeline.store, "log", pipeline.results)
    read = stations.results(1_760_000_000, 1_760_004_000)
    assert read["duration_ms"].to_list() == [600_000.0]
    lookup = Lookup(pipeline.store)
    since, until = (datetime.fromtimestamp(1_760_000_000 + at, UTC) for at in (0, 4_000))
    assert lookup.versions("shop", since, until)[0]["mean_duration_ms"] == 600_000.0
    assert lookup.agents(since, until)[0]["p95_ms"] == 600_000.0


@pytest.mark.parametrize("ranges", [10, 0])
def test_the_last_nanosecond_of_a_cell_belongs_to_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, ranges: int
) -> None:
    """Also where a block ends with it, by whose bounds ClickHouse chooses what to read."""
    monkeypatch.setattr(windows, "_FEW_RANGES", ranges)
    for n, ns in enumerate((0, 1, 10**10 - 200, 10**10 - 100, 10**10 - 1, 10**10, 10**10 + 1)):
        event = Event(
            event_id=f"e{n}",
            time_unix_nano=1_760_007_360 * 10**9 + ns,
            agent="a",
            kind="tool_call",
            interaction_id=f"i{n}",
        )
        pipeline.deliver([event])
        pipeline.recompute()
    found = pipeline.windows()[10]
    assert {key[2]: row["events"] for key, row in found.items() if key[4] == "all"} == {
        1_760_007_360: 5,
        1_760_007_370: 2,
    }
    assert len(pipeline.view("interactions", "interaction_id")) == 7


def test_cells_that_lie_far_apart_are_computed(pipeline: Pipeline) -> None:
    """An event every few minutes for a week: each cell is a range of its own."""
    events = [
        Event(
            event_id=f"e{n}",
            time_unix_nano=(1_760_007_360 + 400 * n) * 10**9,
            agent="a",
            kind="tool_call",
            interaction_id=f"i{n}",
        )
        for n in range(1_500)
    ]
    pipeline.deliver(events)
    pipeline.recompute(pl.concat(pipeline.dirty).head(700))
    pipeline.recompute()
    for width in windows.WIDTHS:
        expected = Counter(event.time_unix_nano // 10**9 // width * width for event in events)
        found = pipeline.windows()[width]
        assert {k[2]: row["events"] for k, row in found.items() if k[4] == "all"} == expected
    assert len(pipeline.view("interactions", "interaction_id")) == len(events)


@pytest.mark.parametrize("seed", SEEDS)
def test_metrics_since_any_second_are_of_whole_minutes(pipeline: Pipeline, seed: int) -> None:
    """Its beginning, its middle and its end; sessions whole, whatever of them was said when."""
    events = traffic(seed)
    pipeline.deliver(events)
    pipeline.recompute()
    truth = Truth(events)
    starts = sorted({key[2] for key in truth.windows(10)})
    for start in (starts[0], starts[len(starts) // 2], starts[-9], starts[-1]):
        for since in (start, start + 5, start + 9):
            check_metrics(pipeline, truth, since)
    later = agent_report.Selection(since=max(e.time_unix_nano for e in events) // 10**9 + 3_600)
    assert agent_report.collect(pipeline.store, later) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_computed_in_small_parts_it_is_the_same(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    events = traffic(seed)
    pipeline.deliver(events)
    cells = pl.concat(pipeline.dirty)
    since = agent_report.Selection(since=events[len(events) // 2].time_unix_nano // 10**9)
    statements, answers = [], []
    for most in (10**9, 20):
        monkeypatch.setattr(windows, "_MAX_EVENTS_PER_STATEMENT", most)
        monkeypatch.setattr(windows, "_MAX_WINDOWS_PER_STATEMENT", most)
        monkeypatch.setattr(result_store, "_TRACES_AT_ONCE", most)
        statements.append(
            [len(windows._portions(pipeline.store, w, cells)) for w in windows.WIDTHS]
        )
        pipeline.recompute(cells)
        check(pipeline, Truth(events))
        answers.append(agent_report.collect(pipeline.store, since))
        pipeline.store.command("TRUNCATE TABLE windows")
        for table in DERIVED:
            pipeline.store.command(f"TRUNCATE TABLE {table}")
    assert statements[0] == [1] * len(windows.WIDTHS)
    assert statements[1][0] > 10
    for one, two in zip(*answers, strict=True):
        assert one["failure_reasons"] == two["failure_reasons"]
        for name in ("interactions", "sessions"):
            assert (one[name] is None) == (two[name] is None) == (one["scope"] != "all")
            if one[name]:
                same(flat(two[name]), flat(one[name]), name)


def test_a_backlog_is_computed_in_statements_of_bounded_size(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement for all of it may need more memory than there is, again and again."""
    cells, each = 30, 10_000
    pipeline.store.command(
        "INSERT INTO events (environment, agent, time, event_id, interaction_id, kind, status)"
        " SELECT 'production', 'busy',"
        " toDateTime64(1760000000 + intDiv(number, {each:UInt32}) * 10, 9, 'UTC'),"
        " toString(number), concat('i', toString(number)), 'interaction', 'ok'"
        " FROM numbers({n:UInt32})",
        {"each": each, "n": cells * each},
    )
    marked = pl.DataFrame(
        {
            "environment": ["production"] * cells,
            "agent": ["busy"] * cells,
            "start": range(1_760_000_000, 1_760_000_000 + 10 * cells, 10),
        }
    )
    monkeypatch.setattr(windows, "_MAX_EVENTS_PER_STATEMENT", 5 * each)
    assert len(windows._portions(pipeline.store, 10, marked)) == cells // 5
    pipeline.recompute(marked)
    assert len(pipeline.view("interactions", "interaction_id")) == cells * each
    (entry, *_) = agent_report.collect(pipeline.store)
    assert entry["events"]["n"] == entry["interactions"]["n"] == cells * each


# -- the tests above would notice ----------------------------------------------------------------


def without_final(sql: str) -> str:
    assert "FINAL" in sql
    return sql.replace(" FINAL", "")


@pytest.mark.parametrize(
    ("module", "statement"), [(windows, "_FROM_EVENTS"), (result_store, "_EVENTS")]
)
def test_reading_repeats_without_final_is_noticed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, module: Any, statement: str
) -> None:
    monkeypatch.setattr(module, statement, without_final(getattr(module, statement)))
    pipeline.store.command("SYSTEM STOP MERGES events")
    events = traffic(1)
    pipeline.deliver(events)
    pipeline.deliver(events[:40])
    pipeline.recompute()
    with pytest.raises(AssertionError):
        check(pipeline, Truth(events))


def test_a_constant_version_is_noticed(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    n = "sum(seen) + sum(seen - n)"
    assert n in windows._FROM_EVENTS
    monkeypatch.setattr(windows, "_FROM_EVENTS", windows._FROM_EVENTS.replace(n, "1"))
    stale = stale_rows(pipeline)
    before = pipeline.state()
    for table, found in stale.items():
        pipeline.store.insert(table, found)
    assert pipeline.state() != before
