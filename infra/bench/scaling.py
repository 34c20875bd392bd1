"""Scaling: whether an event costs the same however many there are, and of whatever shape.

One thing is varied at a time; every figure is the CPU of broker, engine and worker per event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from infra.bench.load import Load
from infra.bench.report import report, result
from infra.bench.throughput import PACKAGES, SEED, driftline

SERIES_PER_AGENT: Final = 20
"""Series that an agent of the load has in a cell: 'all', 4 kinds, 12 tools, a model and so on."""


def cases(scale: float, seed: int) -> Iterator[tuple[str, int, Load]]:
    """What is varied, its value, and the load; others of an axis are held to its first."""
    base = Load(events=int(1_000_000 * scale), seed=seed)
    for events in (1_000_000, 20_000_000):
        yield "events", int(events * scale), replace(base, events=int(events * scale))
    for partitions in (1, 4, 16):
        yield "partitions", partitions, replace(base, partitions=partitions)
    for series in (20, 1_000, 10_000):
        yield "series", series, replace(base, agents=series // SERIES_PER_AGENT)
    for sessions in (1_000, 10_000, 100_000):
        together = min(sessions, base.events // 8)
        yield "open_sessions", together, replace(base, open_sessions=together)


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure cost per event and worker memory along each axis.

    Parameters
    ----------
    quick
        Two fifths of the events; with fewer, the first block would be most of them.
    seed
        Of the loads.
    say
        Told what is being measured.
    """
    results: list[dict[str, Any]] = []
    first: dict[str, float] = {}
    for axis, value, load in cases(0.4 if quick else 1.0, seed):
        say(f"measuring {load.events:,} events, {axis} {value:,} ...")
        found = {r["metric"]: r["value"] for r in driftline(load)}
        cost = found["cpu_seconds_per_million"]
        first.setdefault(axis, cost)
        of = f"{axis}_{value}"
        results += [
            result(f"cpu_seconds_per_million_{of}", cost, "CPU-s", n=load.events),
            result(f"relative_cost_{of}", cost / first[axis], "x", n=load.events),
            result(f"throughput_{of}", found["throughput"], "events/s", n=load.events),
            result(f"worker_memory_peak_{of}", found["worker_memory_peak"], "MiB", n=load.events),
        ]
    return report("scaling", seed, PACKAGES, results)
