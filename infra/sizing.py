"""How much of everything a rate of events needs: a rule from measured figures, shown with its sums.

Pure. `MEASURED` are the figures with where they come from (docs/performance.md); those of the
slower machine where two differ, for a plan that is too large costs less than one that is too small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

_DAY_S: Final = 86_400
_GB: Final = 1e9


class Figure(NamedTuple):
    """A measured number: its unit, and on what it was measured."""

    value: float
    unit: str
    measured: str


MEASURED: Final = {
    "worker_cpu": Figure(
        20.9, "CPU-s per million events", "driftline bench throughput --quick, 300 B a line: 27.1"
        " on the slower machine, less the bytes below; results, stations and clusters on"
    ),
    "worker_cpu_per_byte": Figure(
        0.0206, "CPU-s per million events and byte", "the same run, 2 KB against 300 B a line"
    ),
    "clickhouse_cpu": Figure(
        21.5, "CPU-s per million events", "the same run, 300 B a line: 28.4 on the slower machine,"
        " less the bytes below"
    ),
    "clickhouse_cpu_per_byte": Figure(
        0.0229, "CPU-s per million events and byte", "the same run, 2 KB against 300 B a line"
    ),
    "fresh_cores": Figure(
        1.2, "cores", "driftline bench live, 5,000 events/s, all processes, less a backlog's share:"
        " cells that still fill are computed again and again, at any rate"
    ),
    "gateway_spans": Figure(
        20_000, "spans per second and core", "make bench-gateway, 1 KB of content, redacted"
    ),
    "stored_ratio": Figure(
        0.25, "bytes on disk per byte of a line", "0.23 of six simulated hours, 0.16 of 12,997"
        " events of recorded agents"
    ),
    "derived_bytes": Figure(
        31, "bytes on disk per event", "windows and results of the recorded agents; 16 to 26 in"
        " driftline bench throughput"
    ),
    "events_per_record": Figure(500, "events", "`driftline replay`; a quiet gateway makes fewer"),
}  # fmt: skip

UTILISATION: Final = 0.5
"""Planned use of a core: the other half works off what an outage of the same length has left."""

PARTITIONS_PER_WORKER: Final = 2
"""Room to double the workers without adding partitions, which would move keys."""

WORKER_MEMORY_GB: Final = 1.5


class Line(NamedTuple):
    """One quantity of a plan, and the sum that gives it."""

    quantity: str
    value: float
    unit: str
    sum: str


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be borne.

    Parameters
    ----------
    events_per_second
        Mean over a day.
    peak
        The busiest minute against that mean.
    bytes_per_event
        Of a line on the topic; 300 without content, 1,000 and more with it.
    retention_days
        How long raw events stay in ClickHouse.
    derived_days
        How long windows, interactions and results stay.
    kafka_hours
        How long Kafka keeps records.
    replicas
        Copies of each record in Kafka and of each row in ClickHouse.
    """

    events_per_second: float
    peak: float = 3.0
    bytes_per_event: float = 1_000.0
    retention_days: float = 30.0
    derived_days: float = 400.0
    kafka_hours: float = 168.0
    replicas: int = 1


def plan(load: Load) -> list[Line]:
    """Everything that a load needs, in the order of an event's way.

    Examples
    --------
    >>> {line.quantity: line.value for line in plan(Load(10_000))}["workers"]
    3
    """
    return list(_lines(load))


def lag_threshold(events_per_second: float, drain_s: float, events_per_record: float) -> int:
    """Records that one worker works off in ``drain_s``: so much lag is one more worker.

    >>> lag_threshold(20_000, 60, 100)
    12000
    """
    return max(1, math.ceil(events_per_second * drain_s / events_per_record))


def replicas(lag: Mapping[int, int], threshold: int, least: int, most: int) -> int:
    """How many workers KEDA wants, as the chart sets it up.

    Parameters
    ----------
    lag
        Records that wait, per partition; 0 for one that nobody gets past.
    threshold
        As `lag_threshold` gives it.
    least, most
        Bounds.

    >>> [replicas({0: n, 1: 0, 2: 0, 3: 0}, 100, 1, 12) for n in (0, 100, 101, 250, 9_999)]
    [1, 1, 2, 4, 4]
    """
    partitions, total = len(lag), sum(lag.values())
    # Each worker holds as many partitions as any other.
    even = [n for n in range(1, partitions + 1) if partitions % n == 0]
    wanted = next((n for n in even if n * threshold >= total), partitions)
    return min(max(wanted, least), most)


def _lines(load: Load) -> Iterator[Line]:
    peak = load.events_per_second * load.peak
    yield Line("peak", peak, "events/s", f"{load.events_per_second:,.0f} events/s x {load.peak:g}")
    spans = _of("gateway_spans")
    gateways = max(2, math.ceil(peak / spans / UTILISATION))
    yield Line(
        "gateways", gateways, "processes of one core",
        f"{peak:,.0f} / {spans:,.0f} spans per second and core / {UTILISATION:g}, at least 2",
    )  # fmt: skip
    worker, sum_of_worker = _cpu(load, "worker")
    workers = max(1, math.ceil(peak * worker / 1e6 / UTILISATION))
    yield Line(
        "workers", workers, "processes of one core",
        f"{peak:,.0f} x {sum_of_worker} / {UTILISATION:g}",
    )  # fmt: skip
    yield Line(
        "worker memory", workers * WORKER_MEMORY_GB, "GB", f"{workers} x {WORKER_MEMORY_GB:g} GB"
    )
    partitions = max(4, workers * PARTITIONS_PER_WORKER)
    yield Line(
        "partitions", partitions, "of each topic",
        f"{workers} workers x {PARTITIONS_PER_WORKER}, at least 4",
    )  # fmt: skip
    engine, sum_of_engine = _cpu(load, "clickhouse")
    fresh = _of("fresh_cores")
    cores = math.ceil(peak * engine / 1e6 / UTILISATION + fresh + 1)
    yield Line(
        "ClickHouse cores", cores, "cores of each replica",
        f"{peak:,.0f} x {sum_of_engine} / {UTILISATION:g} + {fresh:g} to keep results fresh"
        " + 1 for queries",
    )  # fmt: skip
    yield from _space(load)
    yield Line(
        "lagThreshold", lag_threshold(1e6 / worker, 60, _of("events_per_record")), "records",
        f"one worker in 60 s: 60 x 1,000,000 / {worker:.2f} events"
        f" / {_of('events_per_record'):,.0f} events a record",
    )  # fmt: skip


def _space(load: Load) -> Iterator[Line]:
    day = load.events_per_second * _DAY_S
    kafka = day / 24 * load.kafka_hours * load.bytes_per_event * load.replicas / _GB
    yield Line(
        "Kafka disk", round(kafka, 1), "GB",
        f"{day:,.0f} events a day x {load.kafka_hours:g} h x {load.bytes_per_event:,.0f} B"
        f" x {load.replicas} copies, as if nothing were packed",
    )  # fmt: skip
    ratio = _of("stored_ratio")
    raw = day * load.retention_days * load.bytes_per_event * ratio * load.replicas / _GB
    yield Line(
        "events on disk", round(raw, 1), "GB",
        f"{day:,.0f} x {load.retention_days:g} days x {load.bytes_per_event:,.0f} B x {ratio:g}"
        f" x {load.replicas}",
    )  # fmt: skip
    per_event = _of("derived_bytes")
    derived = day * load.derived_days * per_event * load.replicas / _GB
    yield Line(
        "results on disk", round(derived, 1), "GB",
        f"{day:,.0f} x {load.derived_days:g} days x {per_event:g} B x {load.replicas}",
    )  # fmt: skip
    yield Line(
        "ClickHouse disk", round(1.5 * (raw + derived), 1), "GB",
        "1.5 x both, for merges write new parts before old ones go",
    )  # fmt: skip


def _cpu(load: Load, who: str) -> tuple[float, str]:
    """CPU-seconds per million events, and how it is told."""
    base, per_byte = _of(f"{who}_cpu"), _of(f"{who}_cpu_per_byte")
    value = base + per_byte * load.bytes_per_event
    return value, (f"({base:g} + {per_byte:g} x {load.bytes_per_event:,.0f} B) CPU-s per million")


def _of(name: str) -> float:
    return MEASURED[name].value
