"""Dashboards: how long the queries of every panel and alert rule take on a month of a busy fleet.

The tables are filled by SQL in the embedded engine: 30 days, 200 agents, a million interactions in
half a million sessions, ten events each, with the rollups and windows that belong to them. Then
every query that a dashboard or rule sends is run over 6 h, 24 h and 30 d, and the time from asking
to having the answer counts; beside it stands the processor time of the engine, which other work on
the machine does not change. `driftline metrics` is timed as a whole.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import numpy as np

from bench.report import report, result
from bench.throughput import cpu_seconds
from dashboards import publisher, queries, rules, slo
from detectors.sketch import GAMMA, ZERO_BIN
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.schema.migrate import migrate
from infra.wiring import client
from processors.clickhouse import ClickHouseConfig, Store

SEED: Final = 7
PACKAGES: Final = ("chdb", "clickhouse-connect", "polars")
RANGES: Final = {"6h": 21_600, "24h": 86_400, "30d": 2_592_000}

_DAY: Final = 86_400
_PASSWORD: Final = "bench"  # noqa: S105 - of a server that lives for the run, on loopback

Process: TypeAlias = "subprocess.Popen[bytes]"

_STATEMENT: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Timed:
    """Median time of one query, and the engine's processor time in it, ms."""

    name: str
    wall_ms: float
    cpu_ms: float


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure p95 and the slowest of all panel and rule queries.

    Parameters
    ----------
    quick
        A tenth of the interactions and of the events, each query once.
    seed
        Of the data.
    say
        Told what is being done, and the slowest queries.
    """
    interactions, times = (100_000, 1) if quick else (1_000_000, 3)
    with _engine() as (engine, config):
        end = int(time.time())
        fill(config, interactions, seed, end, say)
        timed = list(_timed(engine, config, end, times, say))
        whole = _command(config, times)
    timed.sort(key=lambda one: -one.wall_ms)
    for one in timed[:12]:
        say(f"    {one.wall_ms:7.0f} ms, {one.cpu_ms:5.0f} ms of processors: {one.name}")
    results = [
        result("p95_ms", _p95(one.wall_ms for one in timed), "ms", n=len(timed)),
        result("p95_cpu_ms", _p95(one.cpu_ms for one in timed), "ms", n=len(timed)),
        result("slowest_ms", timed[0].wall_ms, "ms", n=1) | {"name": timed[0].name},
        *(
            result(
                f"p95_ms_{label}",
                _p95(one.wall_ms for one in timed if one.name.endswith(label)),
                "ms",
            )
            for label in RANGES
        ),
        result("metrics_command_s", whole, "s", n=times),
        result("interactions", float(interactions), "rows"),
    ]
    return report("dashboards", seed, PACKAGES, results)


def _p95(values: Iterable[float]) -> float:
    return float(np.percentile(list(values), 95))


def fill(
    config: ClickHouseConfig,
    interactions: int,
    seed: int,
    end: int,
    say: Callable[[str], None],
    agents: int = 200,
    days: int = 30,
) -> None:
    """Fill a migrated database; ``end`` is the time of the newest event, s since 1970."""
    store, span = Store(config), days * _DAY
    facts = {
        "end": end, "span": span, "n": interactions, "agents": agents, "seed": seed,
        "gamma": repr(GAMMA), "zero": ZERO_BIN,
    }  # fmt: skip
    _, *parts = _STATEMENT.split(Path(__file__).with_suffix(".sql").read_text("utf-8"))
    statements = dict(zip(parts[::2], parts[1::2], strict=True))

    def insert(name: str, **more: str | int) -> None:
        store.command(statements[name].format(**facts, **more))

    say(f"{interactions:,} interactions of {agents} agents over {days} days ...")
    insert("interactions")
    for name in (
        "sessions", "interaction_index", "session_index", "evaluations", "ledger", "watermarks",
        "heartbeats", "station_progress", "findings",
    ):  # fmt: skip
        insert(name)
    for width in (60, 3600, _DAY):
        for unit in ("interactions", "sessions"):
            insert("rollups", width=width, unit=unit, table=f"{unit[:-1]}_results")
    say(f"{10 * interactions:,} events and their windows ...")
    for day in range(days + 2):
        low = end - span + (day - 1) * _DAY
        insert("events", low=low, high=low + _DAY)
    # Whole quarters of a day: a window that two statements make would count once.
    midnight = (end // _DAY + 1) * _DAY
    for width, kept in ((10, 2 * _DAY), (60, 29 * _DAY), (3600, span + _DAY)):
        for low in range(midnight - min(kept, span) - _DAY, midnight, _DAY // 4):
            insert("windows", width=width, low=low, high=low + _DAY // 4)
    insert("days")


def _timed(
    engine: Process, config: ClickHouseConfig, end: int, times: int, say: Callable[[str], None]
) -> Iterator[Timed]:
    """Time every panel query over every range, and every rule query."""
    store = Store(config)
    for label, span in RANGES.items():
        say(f"every query over {label} ...")
        for name, query in panel_queries(end - span, end):
            yield _median(engine, store, f"{name} {label}", query, times)
    for name, query in rule_queries(end):
        yield _median(engine, store, f"{name} rule", query, times)


def panel_queries(start: int, end: int) -> Iterator[tuple[str, queries.Query]]:
    """Every query of every dashboard, once, with nothing chosen, as Grafana asks it."""
    values: dict[str, queries.Value] = {
        "from": start, "to": end, "interval": max(10, (end - start) // 1000),
        "search": "", "session": "s4000", "interaction": "i8000",
    }  # fmt: skip
    boards = publisher.dashboards()
    names = {queries.name_of(sql) for board in boards for sql in publisher.statements_of(board)}
    rows = {"objectives": slo.attainment_rows(slo.DEFAULT)}
    for name in [*sorted(filter(None, names)), "report.attainment"]:
        yield name, queries.render(name, values, rows=rows)


def rule_queries(end: int) -> Iterator[tuple[str, queries.Query]]:
    """Every query of every alert rule, over the time it looks back."""
    for rule in rules.all_rules(slos=slo.DEFAULT):
        for name in rule.statements:
            values: dict[str, queries.Value] = {"from": end - rule.lookback_s, "to": end}
            yield f"{rule.uid}:{name}", queries.render(name, values, rows=rule.rows())


def _median(engine: Process, store: Store, name: str, query: queries.Query, times: int) -> Timed:
    taken = []
    for _ in range(times):
        begun, used = time.perf_counter(), cpu_seconds([engine])
        store.query(query.sql, query.parameters)
        taken.append((time.perf_counter() - begun, cpu_seconds([engine]) - used))
    wall, cpu = 1000 * np.median(np.array(taken), axis=0)
    return Timed(name, float(wall), float(cpu))


def _command(config: ClickHouseConfig, times: int) -> float:
    """Seconds that `driftline metrics` takes on everything stored, from its start to its end."""
    environment = os.environ | {
        "DRIFTLINE_CLICKHOUSE_URL": config.url,
        "DRIFTLINE_CLICKHOUSE_USER": "driftline",
        "DRIFTLINE_CLICKHOUSE_PASSWORD": config.password,
    }
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "infra.cli", "metrics"],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


@contextmanager
def _engine() -> Iterator[tuple[Process, ClickHouseConfig]]:
    """A migrated database on an embedded engine that lives as long as the block."""
    with TemporaryDirectory(prefix="driftline-bench-") as folder:
        port = _free_port()
        home = Path(folder)
        process = start_clickhouse(home / "data", port, home / "log", _PASSWORD)
        try:
            config = ClickHouseConfig(url=f"http://127.0.0.1:{port}", password=_PASSWORD)
            with client(config, "default") as owner:
                migrate(owner, config.database)
            yield process, config
        finally:
            stop(process)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
