"""What the gateway counts, in the registry of `ingest.core.telemetry`.

Labels are routes and codes of ours, never anything that a request says.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from ingest.core.telemetry import REGISTRY

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS: Final = Counter(
    "driftline_gateway_requests",
    "Requests by route and by code: ok, or why it was refused.",
    ["route", "code"],
    registry=REGISTRY,
)
REJECTED: Final = Counter(
    "driftline_gateway_rejected",
    "Spans, log records, events and ratings that were refused within a request, by reason.",
    ["code"],
    registry=REGISTRY,
)
IGNORED: Final = Counter(
    "driftline_gateway_ignored_records",
    "Log records that speak of no agent or repeat what others say, by reason.",
    ["reason"],
    registry=REGISTRY,
)
LOST_REPORTS: Final = Counter(
    "driftline_gateway_lost_reports",
    "Dead letters and counts of ignored records that were not kept: too many, or Kafka was away.",
    registry=REGISTRY,
)
EVENTS: Final = Counter(
    "driftline_gateway_events", "Events that Kafka has acknowledged.", registry=REGISTRY
)
BODY_BYTES: Final = Counter(
    "driftline_gateway_body_bytes", "Bytes of bodies as sent.", registry=REGISTRY
)
FAILED_RECORDS: Final = Counter(
    "driftline_gateway_failed_records",
    "Records that Kafka has not acknowledged in time; their requests were told to try again.",
    registry=REGISTRY,
)
DELIVERY_SECONDS: Final = Histogram(
    "driftline_gateway_delivery_seconds",
    "From sending a record to its acknowledgement.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
QUEUE_BYTES: Final = Gauge(
    "driftline_gateway_queue_bytes",
    "Bytes of bodies and encoded events of requests that are not answered yet.",
    registry=REGISTRY,
)
CONNECTIONS: Final = Gauge(
    "driftline_gateway_connections", "Open client connections.", registry=REGISTRY
)
KAFKA_UP: Final = Gauge(
    "driftline_gateway_kafka_up",
    "1 while Kafka takes records, 0 since the last one it did not take.",
    registry=REGISTRY,
)
