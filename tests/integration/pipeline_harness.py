"""The sink's and the recompute's writes on a real engine, held against plain Python."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import numpy as np
import polars as pl

from dashboards import agent_report
from ingest.codec import decode, encode
from ingest.core.events import EVENTS_TOPIC, Event
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive import dirty_marks, rollups, windows
from processors.derive.judging import ResultsConfig
from processors.derive.result_store import ResultStore
from processors.write import rows
from processors.write.cardinality import CardinalityLimiter
from tests.conftest import ClickHouse
from tests.integration import pipeline_reference as reference
from tests.integration.pipeline_reference import Truth

FAR = 4_102_444_800 * 10**9  # of a record: nothing is in its future
SEEDS = range(3)
DERIVED = ("interaction_results", "session_results", "rollups")


class Pipeline:
    """The sink's writes and the recompute's, at the moments that the test chooses."""

    def __init__(self, clickhouse: ClickHouse, judged: ResultsConfig | None = None) -> None:
        config = ClickHouseConfig(
            clickhouse.url, clickhouse.user, clickhouse.password, clickhouse.database
        )
        self.store = Store(config)
        self.names = CardinalityLimiter(self.store)
        self.results = ResultStore(self.store, judged)
        self.offset = 0
        self.dirty: list[pl.DataFrame] = []

    def deliver(self, events: list[Event]) -> None:
        """Store a record of events and remember which cells it touched."""
        stored = self.decoded(events)
        self.write(stored)

    def decoded(self, events: list[Event]) -> pl.DataFrame:
        """Rows of ``events``, booked as the next record."""
        decoded = decode([encode(events)], [FAR])
        assert not decoded.rejections
        place = np.zeros(1, np.uint32), np.array([self.offset], np.uint64)
        stored = rows.event_rows(decoded, "log", *place)
        late = np.zeros(len(stored), np.bool_)
        self.store.insert("ledger", rows.ledger_rows(decoded, "log", EVENTS_TOPIC, *place, late))
        self.offset += 1
        return stored

    def write(self, stored: pl.DataFrame) -> None:
        """Store rows of ``events`` and what goes with them."""
        self.names.admit(stored)
        self.store.insert("events", stored)
        self.store.insert("evaluations", rows.evaluation_rows(stored))
        self.dirty.append(dirty_marks.dirty_cells(stored))

    def recompute(self, cells: pl.DataFrame | None = None) -> None:
        """Work off all marks, or those given."""
        if cells is None:
            if not self.dirty:
                return
            cells, self.dirty = pl.concat(self.dirty).unique(), []
        self.results.update(cells)
        finest, *others = windows.WIDTHS
        windows.recompute(self.store, finest, cells)
        for width in others:
            windows.recompute(self.store, width, dirty_marks.rollup_cells(cells, width))

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
            self.store.query("SELECT * FROM interaction_results FINAL ORDER BY ALL").rows(),
            # Their versions remember what once counted there, and their empty rows as well.
            *(
                self.store.query(
                    f"SELECT * EXCEPT version FROM {table} FINAL WHERE {counts} ORDER BY ALL"
                ).rows()
                for table, counts in (("session_results", "live"), ("rollups", "n > 0"))
            ),
            self.store.query("SELECT * FROM current_evaluations ORDER BY ALL").rows(),
        )


def same(found: dict[str, Any], expected: dict[str, Any], where: Any) -> None:
    for name, value in expected.items():
        if isinstance(value, float):
            known = math.nan if found[name] is None else found[name]
            close = math.isclose(known, value, rel_tol=1e-12, abs_tol=1e-11)
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
    check_rollups(pipeline, truth)
    check_metrics(pipeline, truth)


def check_rollups(pipeline: Pipeline, truth: Truth) -> None:
    """Rollups equal the results added up, every width on its own."""
    stored = pipeline.store.query(
        "SELECT *, toUnixTimestamp(start) AS at FROM rollups FINAL WHERE n > 0"
    ).to_dicts()
    for unit in rollups.UNITS:
        for width in rollups.WIDTHS:
            found = {
                (r["environment"], r["agent"], r["agent_version"], r["at"]): r
                for r in stored
                if r["unit"] == unit and r["width_s"] == width
            }
            expected = reference.rollups(getattr(truth, unit)().values(), width)
            assert found.keys() == expected.keys(), (unit, width)
            for key, row in expected.items():
                failures = zip(found[key]["reasons"], found[key]["reason_counts"], strict=True)
                same(found[key] | {"failures": dict(failures)}, row, (unit, width, key))


def check_metrics(pipeline: Pipeline, truth: Truth, since: int | None = None) -> None:
    """What ``driftline metrics`` says of whole minutes from that of ``since`` on."""
    chosen = agent_report.Selection(since=since)
    entries = agent_report.collect(pipeline.store, chosen, parts=False)
    compare_metrics(entries, truth, chosen.begins or 0)


def compare_metrics(entries: list[dict[str, Any]], truth: Truth, begins: int = 0) -> None:
    """Entries of ``driftline metrics`` against what ended from ``begins`` (s) on."""
    found = {(e["environment"], e["agent"], e["agent_version"] or ""): e for e in entries}
    for unit in rollups.UNITS:
        rows_ = [
            r for r in getattr(truth, unit)().values() if r["end"] // 10**9 // 60 * 60 >= begins
        ]
        expected = {key[:3]: row for key, row in reference.rollups(rows_, 10**12).items()}
        assert {key for key, e in found.items() if e[unit]["n"]} == expected.keys()
        for key, row in expected.items():
            same(flat(found[key][unit]), said(row), (unit, key))
            if unit == "interactions":
                assert found[key]["failure_reasons"] == row["failures"]
                assert found[key]["tool_calls"] == row["tool_calls"]


def said(row: dict[str, Any]) -> dict[str, Any]:
    """A rollup of the reference as `flat` shows it."""
    rated = row["satisfaction_n"]
    return {
        "n": row["n"],
        "open": row["open"],
        "unfinished": row["unfinished"],
        "yes": row["succeeded"],
        "known": row["success_known"],
        "mean": row["duration_ms"] / row["duration_n"] if row["duration_n"] else None,
        "cost": row["cost_usd"] if row["cost_n"] else None,
        "rated": rated,
        "satisfaction": row["satisfaction"] / rated if rated else None,
    }


def flat(unit: dict[str, Any]) -> dict[str, Any]:
    """Interactions or sessions of an agent, without levels."""
    explicit = unit["satisfaction"]["explicit"]
    return {
        "n": unit["n"],
        "open": unit["open"],
        "unfinished": unit["unfinished"],
        "yes": unit["success"]["yes"],
        "known": unit["success"]["known"],
        "mean": unit["duration_ms"]["mean"],
        "cost": unit["cost_usd"]["sum"],
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
