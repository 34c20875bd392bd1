"""Windows, interactions, sessions and metrics on a real engine against plain Python.

Events go in as the sink writes them: decoded from NDJSON, in batches of any cut and order, with
repeats and stale marks.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from dashboards import metrics
from dashboards.accounting import account
from ingest.codec import decode, encode
from ingest.errors import Unavailable
from ingest.events import DIRTY_TOPIC, EVENTS_TOPIC, Event
from processors import audit, interactions, marks, rows, watermarks, windows
from processors.names import Names
from processors.store import ClickHouseConfig, Store
from tests.conftest import ClickHouse
from tests.integration.pipeline_reference import Truth, traffic

FAR = 4_102_444_800 * 10**9  # of a record: nothing is in its future
SEEDS = range(3)
PLAIN = ("tool_calls", "tool_errors", "input_tokens", "output_tokens")


class Pipeline:
    """The sink's writes and the recompute's, at the moments that the test chooses."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        config = ClickHouseConfig(
            clickhouse.url, clickhouse.user, clickhouse.password, clickhouse.database
        )
        self.store = Store(config)
        self.names = Names(self.store)
        self.offset = 0
        self.dirty: list[pl.DataFrame] = []

    def deliver(self, events: list[Event]) -> None:
        """Store a record of events and remember which cells it touched."""
        decoded = decode([encode(events)], [FAR])
        assert not decoded.rejections
        place = np.zeros(1, np.uint32), np.array([self.offset], np.uint64)
        stored = rows.event_rows(decoded, "log", *place)
        self.names.admit(stored)
        self.store.insert("events", stored)
        self.store.insert("evaluations", rows.evaluation_rows(stored))
        late = np.zeros(len(stored), np.bool_)
        self.store.insert("ledger", rows.ledger_rows(decoded, "log", EVENTS_TOPIC, *place, late))
        self.offset += 1
        self.dirty.append(marks.dirty_cells(stored))

    def recompute(self, cells: pl.DataFrame | None = None) -> None:
        """Work off all marks, or those given."""
        if cells is None:
            if not self.dirty:
                return
            cells, self.dirty = pl.concat(self.dirty).unique(), []
        finest, *others = windows.WIDTHS
        windows.recompute(self.store, finest, cells)
        for width in others:
            windows.recompute(self.store, width, marks.coarser(cells, width))

    def windows(self) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
        """Windows with any events, by width and key."""
        found: dict[int, dict[tuple[Any, ...], dict[str, Any]]] = {w: {} for w in windows.WIDTHS}
        for row in self.store.query(
            "SELECT *, toUnixTimestamp(start) AS at FROM windows FINAL WHERE events > 0"
        ).to_dicts():
            bins, counts = row.pop("duration_bins"), row.pop("duration_counts")
            row["histogram"] = dict(zip(bins, counts, strict=True))
            key = (row["environment"], row["agent"], row["at"], row["agent_version"], row["scope"])
            assert key not in found[row["width_s"]]
            found[row["width_s"]][key] = row
        return found

    def view(self, name: str, key: str) -> dict[str, dict[str, Any]]:
        """Rows of a view, times in ns."""
        found = self.store.query(
            f"SELECT * REPLACE (toUnixTimestamp64Nano(start) AS start,"
            f" toUnixTimestamp64Nano(end) AS end) FROM {name}"
        ).to_dicts()
        assert len({row[key] for row in found}) == len(found)
        return {row[key]: row for row in found}

    def state(self) -> tuple[Any, ...]:
        """All that is derived, to the last bit, versions included."""
        return (
            self.store.query("SELECT * FROM windows FINAL ORDER BY ALL").rows(),
            self.store.query("SELECT * FROM interaction_cells FINAL ORDER BY ALL").rows(),
            self.store.query("SELECT * FROM interactions ORDER BY interaction_id").rows(),
            self.store.query("SELECT * FROM sessions ORDER BY session_id").rows(),
            self.store.query("SELECT * FROM current_evaluations ORDER BY ALL").rows(),
            metrics.collect(self.store),
        )


@pytest.fixture
def pipeline(clickhouse: ClickHouse) -> Pipeline:
    return Pipeline(clickhouse)


def same(found: dict[str, Any], expected: dict[str, Any], where: Any) -> None:
    for name, value in expected.items():
        if isinstance(value, float):
            close = math.isclose(found[name], value, rel_tol=1e-12, abs_tol=1e-11)
            assert close, (where, name, found[name], value)
        elif not name.startswith("_"):
            assert found[name] == value, (where, name, found[name], value)


def check(pipeline: Pipeline, truth: Truth) -> None:
    """Everything derived equals what plain Python makes of the events."""
    found_windows = pipeline.windows()
    for width in windows.WIDTHS:
        expected = truth.windows(width)
        assert found_windows[width].keys() == expected.keys()
        for key, row in expected.items():
            same(found_windows[width][key], row, (width, key))
    for name, key in (("interactions", "interaction_id"), ("sessions", "session_id")):
        found, rows_ = pipeline.view(name, key), getattr(truth, name)()
        assert found.keys() == rows_.keys()
        for unit, row in rows_.items():
            same(found[unit], row, (name, unit))
    latest = {
        key: (e.value, e.reason or "", e.time_unix_nano) for key, e in truth.evaluations().items()
    }
    current = pipeline.store.query(
        "SELECT * REPLACE (toUnixTimestamp64Nano(time) AS time) FROM current_evaluations"
    )
    assert latest == {
        (r["target"], r["kind"], r["name"], r["user_id"]): (r["value"], r["reason"], r["time"])
        for r in current.to_dicts()
    }
    check_metrics(pipeline, truth)


def check_metrics(pipeline: Pipeline, truth: Truth, since: int | None = None) -> None:
    """Everything of the window that holds ``since`` and of those after it, by plain Python."""
    entries = metrics.collect(pipeline.store, metrics.Selection(since=since))
    keys = [(e["environment"], e["agent"], e["agent_version"] or "", e["scope"]) for e in entries]
    begins = (since or 0) // 10 * 10
    sums: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for (environment, agent, start, version, scope), row in truth.windows(10).items():
        if start >= begins:
            known = {name: row[name] for name in ("events", "ok", "error", *PLAIN)}
            sums[environment, agent, version, scope].update(known)
    units = {name: truth.units(name, begins) for name in ("interactions", "sessions")}
    reasons = truth.reasons(begins)
    assert set(keys) == {*sums, *((*key, "all") for found in units.values() for key in found)}
    assert keys == sorted(keys, key=lambda key: (*key[:3], key[3] != "all", key[3]))
    for (environment, agent, version, scope), entry in zip(keys, entries, strict=True):
        events = sums[environment, agent, version, scope]
        assert {name: entry[name] for name in PLAIN} == {name: events[name] for name in PLAIN}
        assert [entry["events"][name] for name in ("n", "ok", "error")] == [
            events[name] for name in ("events", "ok", "error")
        ]
        assert entry["since"] == (since and f"{datetime.fromtimestamp(begins, UTC):%FT%TZ}")
        if scope != "all":
            assert entry["interactions"] is None
            assert entry["sessions"] is None
            continue
        key = environment, agent, version
        assert entry["failure_reasons"] == dict(reasons.get(key, {}))
        for name, all_of in units.items():
            if key not in all_of:
                assert entry[name]["n"] == 0
                assert entry[name]["success"]["rate"] is None
                continue
            same(flat(entry[name]), all_of[key], (name, key))


def flat(unit: dict[str, Any]) -> dict[str, Any]:
    """Interactions or sessions of an agent, without levels."""
    explicit, duration = unit["satisfaction"]["explicit"], unit["duration_ms"]
    return {
        "n": unit["n"],
        "yes": unit["success"]["yes"],
        "known": unit["success"]["known"],
        **{name: duration[name] for name in ("mean", "p50", "p95", "p99")},
        "cost": unit["cost_usd"]["sum"],
        "cost_mean": unit["cost_usd"]["mean"],
        "rated": explicit["n"],
        "satisfaction": explicit["mean"],
    }


def batches(rng: random.Random, events: list[Event], most: int = 60) -> list[list[Event]]:
    """Events in any order and cut."""
    shuffled = rng.sample(events, len(events))
    found = []
    while shuffled:
        size = rng.randint(1, most)
        found.append(shuffled[:size])
        shuffled = shuffled[size:]
    return found


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
    assert audit.find_collisions(pipeline.store) == 0
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
    """Versions and floating-point sums included: the tables are a function of the set."""
    events, states = collided(traffic(8)), []
    for seed in range(3):
        rng = random.Random(seed)
        for table in ("events", "evaluations", "collisions", "windows", "interaction_cells"):
            pipeline.store.command(f"TRUNCATE TABLE {table}")
        repeats = rng.sample(events, 30 * seed)
        for batch in batches(rng, events + repeats, most=20 + 150 * seed):
            pipeline.deliver(batch)
            if rng.random() < 0.3:
                pipeline.recompute()
            if rng.random() < 0.2:
                audit.find_collisions(pipeline.store)
        pipeline.recompute()
        audit.find_collisions(pipeline.store)
        states.append(pipeline.state())
    for one, two in itertools.pairwise(states):
        for part, again in zip(one, two, strict=True):
            assert part == again


def collided(events: list[Event], every: int = 9) -> list[Event]:
    """The events and others that took their ids, some of other agents, kinds, cells and days."""
    changes: list[dict[str, Any]] = [
        {"content": "other"},
        {"cost_usd": 0.5, "kind": "llm_call"},
        {"agent": "thief", "status": "error"},
        {"shift": 7_200 * 10**9},
        {"shift": -3 * 86_400 * 10**9, "interaction_id": "elsewhere"},
        {"kind": "feedback", "value": 0.1, "target": "i3"},
    ]
    taken = []
    for number, event in enumerate(events[::every]):
        change = dict(changes[number % len(changes)])
        time = event.time_unix_nano + change.pop("shift", 0)
        taken.append(msgspec.structs.replace(event, time_unix_nano=time, **change))
        if number % 4 == 0:
            taken.append(msgspec.structs.replace(event, content="third"))
    return events + taken


@pytest.mark.parametrize(("seed", "at_once"), [(0, 100_000), (1, 100_000), (2, 7)])
def test_of_colliding_events_the_smallest_counts(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, seed: int, at_once: int
) -> None:
    """The others are dead-lettered and counted nowhere, whichever came first."""
    monkeypatch.setattr(audit, "_LOSERS_AT_ONCE", at_once)
    rng, events = random.Random(seed), collided(traffic(seed))
    truth = Truth(events)
    assert len(truth.losers) > 30
    found = 0
    for batch in batches(rng, events + rng.sample(events, 40)):
        pipeline.deliver(batch)
        if rng.random() < 0.3:
            pipeline.recompute()
        if rng.random() < 0.2:
            found += audit.find_collisions(pipeline.store)
    pipeline.recompute()
    found += audit.find_collisions(pipeline.store)
    assert found == len(truth.losers)
    assert audit.find_collisions(pipeline.store) == 0
    known = pipeline.store.query(
        "SELECT event_id, toUnixTimestamp64Nano(time), payload_hash FROM collisions FINAL"
    )
    assert sorted(known.rows()) == truth.losers
    letters = pipeline.store.query("SELECT code, count() AS n FROM dead_letters FINAL GROUP BY 1")
    assert letters.rows() == [("id_collision", len(truth.losers))]
    check(pipeline, truth)
    books = account(pipeline.store)
    assert books["balanced"]
    assert books["collisions"] == len(truth.losers)
    assert books["stored"] == len(truth.counted)
    assert books["duplicates"] == 40
    assert books["accepted"] == books["stored"] + books["duplicates"] + books["collisions"]
    assert audit.reconcile(pipeline.store) == 0


def test_a_stale_row_never_wins(pipeline: Pipeline) -> None:
    """A writer that read a part of the events and writes after all others changes nothing."""
    stale = stale_rows(pipeline)
    before = pipeline.state()
    for table, found in stale.items():
        pipeline.store.insert(table, found)
    assert pipeline.state() == before
    pipeline.store.command("OPTIMIZE TABLE windows FINAL")
    pipeline.store.command("OPTIMIZE TABLE interaction_cells FINAL")
    assert pipeline.state() == before


def stale_rows(pipeline: Pipeline) -> dict[str, pl.DataFrame]:
    """Deliver everything, and return the derived rows of before its last part."""
    events = traffic(5)
    pipeline.deliver(events[:300])
    pipeline.recompute()
    stale = {
        table: pipeline.store.query(f"SELECT * FROM {table} FINAL")
        for table in ("windows", "interaction_cells")
    }
    pipeline.deliver(events[300:])
    pipeline.recompute()
    check(pipeline, Truth(events))
    return stale


@pytest.mark.parametrize("at_once", [10**9, 40])
def test_reconcile_repairs_what_was_made_from_a_part(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(audit, "_EVENTS_PER_STATEMENT", at_once)
    events = collided(traffic(6))
    pipeline.deliver(events[:200])
    pipeline.recompute()
    pipeline.deliver(events[200:])
    audit.find_collisions(pipeline.store)
    pipeline.dirty.clear()  # the marks of the second part are lost
    with pytest.raises(AssertionError):
        check(pipeline, Truth(events))
    assert (len(audit._spans(pipeline.store)) > 3) == (at_once == 40)
    touched = {(e.environment, e.agent, e.time_unix_nano // 10**10) for e in events[200:]}
    assert 0 < audit.reconcile(pipeline.store) <= len(touched)
    assert audit.reconcile(pipeline.store) == 0
    check(pipeline, Truth(events))


def test_only_what_differs_twice_alike_is_repaired(pipeline: Pipeline) -> None:
    """What differs once may have its marks still to come."""
    events = traffic(8)
    pipeline.deliver(events[:200])
    pipeline.recompute()
    pipeline.deliver(events[200:300])
    suspected = audit.differences(pipeline.store)
    assert not suspected.is_empty()
    pipeline.dirty.pop()  # lost for ever
    assert audit.reconcile(pipeline.store, suspected.clear()) == 0
    pipeline.deliver(events[300:])
    now = audit.differences(pipeline.store)
    changed = now.join(suspected, on=now.columns, how="anti")
    assert not changed.is_empty()
    assert audit.reconcile(pipeline.store, suspected) == len(now) - len(changed) > 0
    left = audit.differences(pipeline.store)
    assert left.join(suspected, on=left.columns, how="semi").is_empty()
    pipeline.recompute()
    audit.reconcile(pipeline.store)
    check(pipeline, Truth(events))


def test_the_audit_waits_for_the_marks_it_has_seen(pipeline: Pipeline) -> None:
    service = audit.Audit(pipeline.store, "log", lambda: True, lambda: 0.0)
    events = traffic(9)

    def report(topic: str, offset: int, marked: list[int]) -> None:
        now = datetime.now(UTC)
        row = ("log", topic, 0, 0, offset, 0, marked, now, now)
        pipeline.store.insert(
            "watermarks", pl.DataFrame([row], schema=watermarks.SCHEMA, orient="row")
        )

    pipeline.deliver(events)
    report(EVENTS_TOPIC, 1, [7])
    report(DIRTY_TOPIC, 6, [])
    for _ in range(3):
        service._look()
        assert not audit.differences(pipeline.store).is_empty()
    report(DIRTY_TOPIC, 7, [])
    service._look()
    assert audit.differences(pipeline.store).is_empty()
    check(pipeline, Truth(events))


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
        assert row[0] >= 0
    (entry, *_) = metrics.collect(pipeline.store)
    assert entry["events"]["n"] == len(extremes)
    assert entry["events"]["duration_ms"]["p99"] == pytest.approx(1e15, rel=0.01)


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
def test_metrics_since_any_second_are_of_whole_windows(pipeline: Pipeline, seed: int) -> None:
    """Its beginning, its middle and its end; sessions whole, whatever of them was said when."""
    events = traffic(seed)
    pipeline.deliver(events)
    pipeline.recompute()
    truth = Truth(events)
    starts = sorted({key[2] for key in truth.windows(10)})
    for start in (starts[0], starts[len(starts) // 2], starts[-9], starts[-1]):
        for since in (start, start + 5, start + 9):
            check_metrics(pipeline, truth, since)
    assert metrics.collect(pipeline.store, metrics.Selection(since=starts[-1] + 10)) == []


def test_interactions_whose_names_no_event_bears_together_are_counted(pipeline: Pipeline) -> None:
    """It is told of whoever speaks for it, with the version that is known from elsewhere."""
    at = itertools.count(1_760_000_000 * 10**9, 20 * 10**9)
    events = [
        Event(
            event_id=f"e{number}", time_unix_nano=next(at), environment=environment, agent="shop",
            agent_version=version, kind=kind, interaction_id=interaction, status=status,
            error_type="timeout" if status == "error" else None,
        )
        for number, (environment, version, kind, interaction, status) in enumerate((
            ("staging", "v1", "tool_call", "i1", "ok"),
            ("production", None, "interaction", "i1", "error"),
            ("staging", "v2", "tool_call", "i2", "ok"),
            ("production", None, "interaction", "i2", "ok"),
            ("production", "v2", "interaction", "i3", "ok"),
        ))
    ]  # fmt: skip
    pipeline.deliver(events)
    pipeline.recompute()
    truth = Truth(events)
    check_metrics(pipeline, truth)
    entries = metrics.collect(pipeline.store)
    assert metrics.totals(entries) == {"events": 5, "interactions": 3, "sessions": 3}
    alone = next(
        e for e in entries if (e["environment"], e["agent_version"]) == ("production", "v1")
    )
    assert alone["events"]["n"] == 0
    assert set(alone["events"]["duration_ms"].values()) == {None}
    assert alone["interactions"]["success"]["known"] == 1
    assert alone["failure_reasons"] == {"timeout": 1}
    for since in range(0, 80, 20):
        check_metrics(pipeline, truth, 1_760_000_000 + since)


@pytest.mark.parametrize("seed", SEEDS)
def test_computed_in_small_parts_it_is_the_same(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    events = traffic(seed)
    pipeline.deliver(events)
    cells = pl.concat(pipeline.dirty)
    since = metrics.Selection(since=events[len(events) // 2].time_unix_nano // 10**9)
    statements, answers = [], []
    for most in (10**9, 20):
        monkeypatch.setattr(windows, "_MAX_EVENTS_PER_STATEMENT", most)
        monkeypatch.setattr(windows, "_MAX_WINDOWS_PER_STATEMENT", most)
        monkeypatch.setattr(metrics, "_PARTS_PER_PASS", most)
        statements.append(
            [len(windows._portions(pipeline.store, w, cells)) for w in windows.WIDTHS]
        )
        pipeline.recompute(cells)
        check(pipeline, Truth(events))
        passes: list[str] = []
        answers.append(metrics.collect(pipeline.store, since, passes.append))
        assert (len(passes) > 1) == (most == 20)
        pipeline.store.command("TRUNCATE TABLE windows")
        pipeline.store.command("TRUNCATE TABLE interaction_cells")
    assert statements[0] == [1, 1, 1]
    assert statements[1][0] > 10
    for one, two in zip(*answers, strict=True):
        assert one["failure_reasons"] == two["failure_reasons"]
        for name in ("interactions", "sessions"):
            assert (one[name] is None) == (two[name] is None) == (one["scope"] != "all")
            if one[name]:
                same(flat(two[name]), flat(one[name]), name)


def test_a_backlog_that_is_larger_than_memory_is_computed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of hours that nobody could compute; before, the same statement failed again and again."""
    cells, each, memory = 30, 10_000, 120 << 20
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
    little = windows._SETTINGS | {"max_memory_usage": memory}
    # Not what a single cell is to do where it is larger than memory.
    monkeypatch.setattr(windows, "_SETTINGS", little | {"max_bytes_before_external_group_by": 0})
    with pytest.raises(Unavailable, match="memory limit"):
        pipeline.recompute(marked)
    monkeypatch.setattr(windows, "_MAX_EVENTS_PER_STATEMENT", 5 * each)
    pipeline.recompute(marked)
    assert len(pipeline.view("interactions", "interaction_id")) == cells * each
    (entry, *_) = metrics.collect(pipeline.store)
    assert entry["events"]["n"] == entry["interactions"]["n"] == cells * each


# -- the tests above would notice ----------------------------------------------------------------


def without_final(sql: str) -> str:
    assert "FINAL" in sql
    return sql.replace(" FINAL", "")


@pytest.mark.parametrize("module", [windows, interactions])
def test_reading_repeats_without_final_is_noticed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    monkeypatch.setattr(module, "_FROM_EVENTS", without_final(module._FROM_EVENTS))
    pipeline.store.command("SYSTEM STOP MERGES events")
    events = traffic(1)
    pipeline.deliver(events)
    pipeline.deliver(events[:40])
    pipeline.recompute()
    with pytest.raises(AssertionError):
        check(pipeline, Truth(events))


@pytest.mark.parametrize(
    ("module", "n"),
    [(windows, "sum(seen) + sum(seen - n)"), (interactions, "count() + countIf(NOT counted)")],
)
def test_a_constant_version_is_noticed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, module: Any, n: str
) -> None:
    assert n in module._FROM_EVENTS
    monkeypatch.setattr(module, "_FROM_EVENTS", module._FROM_EVENTS.replace(n, "1"))
    stale = stale_rows(pipeline)
    before = pipeline.state()
    for table, found in stale.items():
        pipeline.store.insert(table, found)
    assert pipeline.state() != before
