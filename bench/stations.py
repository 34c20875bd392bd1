"""Stations: what detecting costs beside the pipeline that stores and derives, in one run.

A worker without stations stores a load of 10^5 interactions a minute and computes its results. Then
the stations step through these as in live traffic, ten seconds of event time at a time; their
processor time is that of this process and of the engine. A second load of a whole day is read as
the backlog that it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from bench.load import Load
from bench.report import report, result
from bench.throughput import PACKAGES, SEED, Bed, bed, cpu_seconds, fill, settle
from infra.topics import log_id
from ingest.core.events import EVENTS_TOPIC
from processors.clickhouse import Store
from processors.derive.judging import ResultsConfig
from processors.derive.result_store import ResultStore
from processors.stations.base import BUCKETS, CELL, FLEET
from processors.stations.detection import DetectionConfig
from processors.stations.runner import Stations
from processors.stations.service import all_stations
from processors.stations.storage import ClickHouseStations

_EVENTS: Final = 8  # of an interaction, see bench.load
_A_MINUTE: Final = 100_000
_AGENTS: Final = 360
_WARM_UP: Final = 200.0  # so that all streams are watched in the minute that is measured
_MEASURED_S: Final = 60
_DAY: Final = 86_400
_BUCKETS: Final = [*map(str, range(BUCKETS)), FLEET]
_WITHOUT: Final = """
from mode import Service
import processors.app as app
class Idle(Service):
    def health(self): return []
app.station_runner = lambda *_: Idle()
from infra.cli import main
main()
"""


class _Paced(ClickHouseStations):
    """The real store, of which no more is sealed than its reader says."""

    until = 0

    def sealed(self, *, leads: bool) -> int:
        known = super().sealed(leads=leads)
        return min(known, self.until) if self.until else known


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure stations beside the write path.

    Parameters
    ----------
    quick
        Two minutes of traffic instead of four, and a day of a fifth of the interactions.
    seed
        Of the load.
    say
        Told what is being measured.
    """
    minutes = 2 if quick else 4
    live = Load(
        events=minutes * _A_MINUTE * _EVENTS, rate=_A_MINUTE * _EVENTS / 60, agents=_AGENTS,
        open_sessions=1_000, seed=seed,
    )  # fmt: skip
    events = 320_000 if quick else 1_600_000
    day = replace(live, events=events, rate=events / _DAY)
    results: list[dict[str, Any]] = []
    with bed(live.partitions) as found:
        say(f"storing {minutes} minutes of {_A_MINUTE:,} interactions each ...")
        writing = _write(found, live)
        say("stepping through them ...")
        results += _live(found, minutes, writing)
    with bed(day.partitions) as found:
        say(f"storing a day of {events // _EVENTS:,} interactions ...")
        writing = _write(found, day)
        say("reading it as a backlog ...")
        results += _backlog(found, events // _EVENTS, writing)
    return report("stations", seed, PACKAGES, results)


def _write(found: Bed, load: Load) -> float:
    """Store a load and compute its results; CPU-s of all processes."""
    filled = fill(found.kafka, replace(load, end_ns=time.time_ns()))
    before = cpu_seconds(found.processes)
    worker = found.start(command=(sys.executable, "-c", _WITHOUT))
    settle(Store(found.clickhouse), log_id(found.kafka, EVENTS_TOPIC), worker, filled)
    spent = cpu_seconds(found.processes) - before
    found.processes.remove(worker)
    worker.kill()
    worker.wait()
    return spent


def _live(found: Bed, minutes: int, writing: float) -> list[dict[str, Any]]:
    store, stations = _stations(found)
    # Event time goes on by the clock once nothing comes.
    end = min(store.sealed(leads=True), _last(found) + CELL)
    first = end - _MEASURED_S
    store.until = first
    _catch_up(stations)
    spent, longest = _spent(found), 0.0
    for store.until in range(first + CELL, end + 1, CELL):
        begun = time.monotonic()
        _catch_up(stations)
        longest = max(longest, time.monotonic() - begun)
    spent = _spent(found) - spent
    stations.flush()
    known = Store(found.clickhouse).query(
        "SELECT sumIf(streams, station = 'detection') AS streams, sum(length(state)) AS size"
        " FROM station_state FINAL"
    )
    streams, size = known.row(0)
    read = _read(found, first, end)
    wrote = writing / (minutes * _A_MINUTE)
    return [
        result("streams", streams, "streams"),
        result("interactions_per_minute", read / (end - first) * 60, "per min", n=read),
        result("write_path_cpu_per_million_interactions", wrote * 1e6, "CPU-s"),
        result("stations_cpu_per_million_interactions", spent / read * 1e6, "CPU-s", n=read),
        result("cpu_ratio_to_write_path", spent / read / wrote, "x"),
        result("longest_step", longest, "s"),
        result("state_bytes_per_stream", size / streams, "bytes", n=streams),
    ]


def _backlog(found: Bed, interactions: int, writing: float) -> list[dict[str, Any]]:
    store, stations = _stations(found)
    end = store.sealed(leads=True)
    spent, begun = _spent(found), time.monotonic()
    steps = _catch_up(stations)
    took, spent = time.monotonic() - begun, _spent(found) - spent
    behind = max(0, end - min(position for position, _, _ in stations.held().values()))
    return [
        result("day_read_in", took, "s", n=interactions),
        result("day_lag_after", behind, "s"),
        result("day_longest_step", float(np.max(steps)), "s", n=len(steps)),
        result("day_cpu_ratio_to_write_path", spent / writing, "x"),
    ]


def _stations(found: Bed) -> tuple[_Paced, Stations]:
    store = Store(found.clickhouse)
    paced = _Paced(store, log_id(found.kafka, EVENTS_TOPIC), ResultStore(store, ResultsConfig()))
    return paced, Stations(paced, all_stations(DetectionConfig(warm_up=_WARM_UP)))


def _catch_up(stations: Stations) -> list[float]:
    """Step until nothing waits; seconds of every step."""
    steps, more = [], True
    while more:
        begun = time.monotonic()
        _, more = stations.step(_BUCKETS)
        stations.told()
        steps.append(time.monotonic() - begun)
    return steps


def _spent(found: Bed) -> float:
    """Processor time of the engine and of this process, which is what stations use."""
    engine: subprocess.Popen[bytes] = found.processes[1]
    return cpu_seconds([engine, os.getpid()])


def _last(found: Bed) -> int:
    rows = Store(found.clickhouse).query(
        "SELECT toInt64(toUnixTimestamp(max(cell))) AS cell FROM interaction_results"
    )
    return int(rows["cell"][0])


def _read(found: Bed, lo: int, hi: int) -> int:
    rows = Store(found.clickhouse).query(
        "SELECT count() AS n FROM interaction_results FINAL WHERE live"
        " AND cell >= toDateTime({lo:Int64}, 'UTC') AND cell < toDateTime({hi:Int64}, 'UTC')",
        {"lo": lo, "hi": hi},
    )
    return int(rows["n"][0])
