"""Dashboards: how long the queries of every panel and alert rule take on a month of a busy fleet.

The tables are filled by SQL in the embedded engine: 30 days, 200 agents, a million interactions in
half a million sessions, ten events each, with the rollups and windows that belong to them. Then
every query that a dashboard or rule sends is run over 6 h, 24 h and 30 d, and the time from asking
to having the answer counts. `driftline metrics` is timed as a whole.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from bench.report import report, result
from dashboards import agent_report, publisher, queries, rules, slo
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

_STATEMENT: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


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
    interactions = 100_000 if quick else 1_000_000
    with _engine() as config:
        end = int(time.time())
        fill(config, interactions, seed, end, say)
        timed = list(_timed(config, end, 1 if quick else 3, say))
        whole = _metrics(Store(config), 1 if quick else 3)
    values = np.array([milliseconds for _, milliseconds in timed])
    for name, milliseconds in sorted(timed, key=lambda t: -t[1])[:12]:
        say(f"    {milliseconds:7.0f} ms  {name}")
    slowest, longest = max(timed, key=lambda t: t[1])
    results = [
        result("p95_ms", float(np.percentile(values, 95)), "ms", n=len(values)),
        result("p50_ms", float(np.percentile(values, 50)), "ms", n=len(values)),
        result("slowest_ms", longest, "ms", n=1) | {"name": slowest},
        *(
            result(
                f"p95_ms_{label}",
                float(np.percentile([ms for n, ms in timed if n.endswith(label)], 95)),
                "ms",
            )
            for label in RANGES
        ),
        result("metrics_command_s", whole, "s", n=1),
        result("events", float(10 * interactions), "events"),
    ]
    return report("dashboards", seed, PACKAGES, results)


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
        "heartbeats", "detector_state", "findings",
    ):  # fmt: skip
        insert(name)
    for width in (60, 3600, _DAY):
        for unit in ("interactions", "sessions"):
            insert("rollups", width=width, unit=unit, table=f"{unit[:-1]}_results")
    say(f"{10 * interactions:,} events and their windows ...")
    for day in range(days + 2):
        low = end - span + (day - 1) * _DAY
        insert("events", low=low, high=low + _DAY)
    for width, kept in ((10, 2 * _DAY), (60, 29 * _DAY), (3600, span + _DAY), (_DAY, span + _DAY)):
        for high in range(end + 60, end + 60 - kept, -_DAY):
            insert("windows", width=width, low=high - _DAY, high=high)


def _timed(
    config: ClickHouseConfig, end: int, times: int, say: Callable[[str], None]
) -> Iterator[tuple[str, float]]:
    """Name and milliseconds of each query, its median over the repeats."""
    store = Store(config)
    for label, span in RANGES.items():
        say(f"every query over {label} ...")
        for name, query in panel_queries(end - span, end):
            yield f"{name} {label}", _median(store, query, times)
    for name, query in rule_queries(end):
        yield f"{name} rule", _median(store, query, times)


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


def _median(store: Store, query: queries.Query, times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        store.query(query.sql, query.parameters)
        taken.append(1000 * (time.perf_counter() - begun))
    return float(np.median(taken))


def _metrics(store: Store, times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        agent_report.collect(store)
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


@contextmanager
def _engine() -> Iterator[ClickHouseConfig]:
    """A migrated database on an embedded engine that lives as long as the block."""
    with TemporaryDirectory(prefix="driftline-bench-") as folder:
        port = _free_port()
        home = Path(folder)
        process = start_clickhouse(home / "data", port, home / "log", _PASSWORD)
        try:
            config = ClickHouseConfig(url=f"http://127.0.0.1:{port}", password=_PASSWORD)
            with client(config, "default") as owner:
                migrate(owner, config.database)
            yield config
        finally:
            stop(process)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
