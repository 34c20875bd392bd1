"""What a process measures of itself: every metric of driftline, declared once.

Names, labels and units are documented in ``docs/metrics.md``; a test compares the two. Labels are
few by construction: topics, partitions, tables, reason codes, never anything that an event says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

REGISTRY: Final = CollectorRegistry(auto_describe=True)
"""Not the library's default one, to which any import could add."""

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

ROWS_STORED: Final = Counter(
    "driftline_rows_stored", "Rows of events that ClickHouse has acknowledged.", registry=REGISTRY
)
BATCHES: Final = Counter(
    "driftline_batches",
    "Batches stored, marked and committed, or translated and committed.",
    ["stage"],
    registry=REGISTRY,
)
DEAD_LETTERS: Final = Counter(
    "driftline_dead_letters",
    "Lines or messages that did not become events.",
    ["code"],
    registry=REGISTRY,
)
EVENTS_PRODUCED: Final = Counter(
    "driftline_events_produced",
    "Events that Kafka has acknowledged, by the topic they were translated from.",
    ["topic"],
    registry=REGISTRY,
)
INSERT_SECONDS: Final = Histogram(
    "driftline_insert_seconds",
    "Time of one INSERT, failed ones included.",
    ["table"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
RECOMPUTE_SECONDS: Final = Histogram(
    "driftline_recompute_seconds",
    "Time to compute the named windows again, retries included, by their width.",
    ["width_s"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
RETRIES: Final = Counter(
    "driftline_retries",
    "Waits for Kafka or ClickHouse to come back.",
    registry=REGISTRY,
)
LAG: Final = Gauge(
    "driftline_lag_records",
    "Records that wait on a partition this process reads.",
    ["topic", "partition"],
    registry=REGISTRY,
)
AGE: Final = Gauge(
    "driftline_newest_row_age_seconds",
    "Time since rows of a partition were last stored, or events of it acknowledged.",
    ["topic", "partition"],
    registry=REGISTRY,
)
STALLED: Final = Gauge(
    "driftline_stalled_seconds",
    "How long a partition has had lag without anything of it being stored.",
    ["topic", "partition"],
    registry=REGISTRY,
)
MARKS_PENDING: Final = Gauge(
    "driftline_marks_pending",
    "Records of marks that wait for windows to be computed again.",
    ["partition"],
    registry=REGISTRY,
)
STATION_SECONDS: Final = Histogram(
    "driftline_station_step_seconds",
    "Time of one step of a station over one bucket of agents.",
    ["station"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
STATION_LAG: Final = Gauge(
    "driftline_station_lag_seconds",
    "Sealed event time that a station has not read yet.",
    ["station"],
    registry=REGISTRY,
)
STATION_STREAMS: Final = Gauge(
    "driftline_station_streams",
    "Streams, incidents, version pairs or clusters that a station of this process follows.",
    ["station"],
    registry=REGISTRY,
)
FINDINGS_ACTIVE: Final = Gauge(
    "driftline_findings_active",
    "Findings that last now; the labels are bounded by `processing.max_agents` and the like.",
    ["environment", "agent", "signal", "severity"],
    registry=REGISTRY,
)
NOTIFICATIONS: Final = Counter(
    "driftline_notifications",
    "Attempts to tell a receiver, by what became of them.",
    ["receiver", "state"],
    registry=REGISTRY,
)
NOTIFICATIONS_PENDING: Final = Gauge(
    "driftline_notifications_pending",
    "Messages that wait for a receiver.",
    ["receiver"],
    registry=REGISTRY,
)
EVALUATIONS: Final = Counter(
    "driftline_evaluations",
    "Targets that an evaluator has dealt with, by what became of them.",
    ["evaluator", "state"],
    registry=REGISTRY,
)
EVALUATION_SECONDS: Final = Histogram(
    "driftline_evaluation_call_seconds",
    "Time of one call to a judging model, failed ones included.",
    ["evaluator"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
READY: Final = Gauge("driftline_ready", "1 when /readyz answers 200, else 0.", registry=REGISTRY)
HEALTHY: Final = Gauge(
    "driftline_healthy", "1 when /healthz answers 200, else 0.", registry=REGISTRY
)

# Memory, CPU seconds and file descriptors, under the names that every exporter uses.
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_UNDER_WAY: Final[dict[tuple[str, int], float]] = {}


@contextmanager
def inserting(table: str) -> Iterator[None]:
    """Measure an INSERT, and let `under_way` tell of it meanwhile."""
    with INSERT_SECONDS.labels(table).time(), doing(f"insert into {table}"):
        yield


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Let `under_way` tell of work that may hang."""
    key = (what, threading.get_ident())
    _UNDER_WAY[key] = time.monotonic()
    try:
        yield
    finally:
        _UNDER_WAY.pop(key, None)


def under_way(now: float) -> dict[str, float]:
    """What is being done and for how many seconds, by name; ``now`` is ``time.monotonic()``."""
    return {what: now - began for (what, _), began in list(_UNDER_WAY.items())}
