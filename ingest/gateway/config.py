"""What a gateway needs to know."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from ingest.limits import Limits


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where the gateway listens and what it bears.

    Attributes
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    hosts
        Names beside those of loopback by which a gateway without tokens may be addressed.
    tls
        Certificate and key, None for plain HTTP.
    limits
        Bounds on one request.
    max_connections
        Connections at once; one more is answered 503 and closed.
    header_timeout_s
        How long a connection may go without a complete request header, idle or trickling.
    body_timeout_s
        How long a body may take.
    answer_s
        How long Kafka may take before a request is answered 503. Below the ten seconds that
        OpenTelemetry's exporters wait by default.
    linger_s
        How long events wait for company in their record.
    queue_bytes
        Bodies and encoded events held at once.
    drain_s
        How long a stop waits for what is under way.
    """

    host: str = "127.0.0.1"
    port: int = 4318
    hosts: frozenset[str] = frozenset()
    tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)
    max_connections: int = 1000
    header_timeout_s: float = 20.0
    body_timeout_s: float = 30.0
    answer_s: float = 8.0
    linger_s: float = 0.005
    queue_bytes: int = 64 * 2**20
    drain_s: float = 10.0
