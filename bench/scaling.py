"""Scaling: whether an event costs the same however many there are, and of whatever shape.

One thing is varied at a time; every figure is the CPU of broker, engine and worker per event, and
its ratio to that of one load for all. The speed of a machine changes within minutes, so all are
measured in turn, twice, and the mean counts; twenty times the events once, for that takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import mean
from typing import Any, Final

from bench.load import Load
from bench.report import report, result
from bench.throughput import PACKAGES, SEED, driftline

_TURNS: Final = 2
SERIES_PER_AGENT: Final = 20
"""Series that an agent of the load has in a cell: 'all', 4 kinds, 12 tools, a model and so on."""


def cases(scale: float, seed: int) -> dict[str, Load]:
    """The load that all others are compared with, first, and those in which one thing is varied."""
    base = Load(events=int(1_000_000 * scale), seed=seed)
    found = {"base": base, f"events_{20 * base.events}": replace(base, events=20 * base.events)}
    for partitions in (1, 16):
        found[f"partitions_{partitions}"] = replace(base, partitions=partitions)
    for series in (20, 1_000, 10_000):
        found[f"series_{series}"] = replace(base, agents=series // SERIES_PER_AGENT)
    for sessions in (1_000, 10_000, 100_000):
        together = min(sessions, base.events // 8)
        found[f"open_sessions_{together}"] = replace(base, open_sessions=together)
    return found


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure cost per event and worker memory along each axis.

    Parameters
    ----------
    quick
        Two fifths of the events, once; with fewer, the first block would be most of them.
    seed
        Of the loads.
    say
        Told what is being measured, and each value at once: a run that is broken off leaves those.
    """
    loads = cases(0.4 if quick else 1.0, seed)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in loads}
    turns = [
        (turn, name, load)
        for turn in range(1, 2 if quick else 1 + _TURNS)
        for name, load in loads.items()
        if turn == 1 or load.events <= loads["base"].events
    ]
    for number, (turn, name, load) in enumerate(turns, 1):
        say(f"{number} of {len(turns)}, turn {turn}: {name}, {load.events:,} events ...")
        found = driftline(load)
        for r in found:
            say(f"    {r['metric']}_{name}: {r['value']:,.2f} {r['unit']}")
        measured[name].append({r["metric"]: r["value"] for r in found})
    results: list[dict[str, Any]] = []
    base = _costs(measured["base"])
    for name, ones in measured.items():
        costs, n = _costs(ones), loads[name].events
        memory = max(one["worker_memory_peak"] for one in ones)
        results += [
            result(
                f"cpu_seconds_per_million_{name}", mean(costs), "CPU-s",
                low=min(costs), high=max(costs), n=n,
            ),
            result(f"relative_cost_{name}", mean(costs) / mean(base), "x", n=n),
            result(f"throughput_{name}", mean(one["throughput"] for one in ones), "events/s"),
            result(f"worker_memory_peak_{name}", memory, "MiB", n=n),
        ]  # fmt: skip
    return report("scaling", seed, PACKAGES, results)


def _costs(found: list[dict[str, float]]) -> list[float]:
    return [one["cpu_seconds_per_million"] for one in found]
