"""gateway: HTTP for agents."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from infra.console import say
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from infra.settings import Settings
    from ingest.access import Grant
    from ingest.gateway.config import GatewayConfig

PORT = 4318
"""Where OpenTelemetry's exporters look for a receiver."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(gateway)


def gateway() -> None:
    """Serve HTTP: OTLP traces and logs, canonical events and feedback into Kafka.

    `driftline up` runs one by itself. Requests are answered 200 only when Kafka has acknowledged
    what is in them. Without a file of tokens it takes requests of this machine only.

    Examples: driftline gateway
              DRIFTLINE_GATEWAY_PORT=4319 driftline gateway
              curl localhost:4318/readyz
    """
    from infra import logs, wiring
    from infra.settings import load
    from infra.settings.prices import install_prices
    from ingest.gateway.process import run_gateway
    from ingest.gateway.server import Policy

    settings = load()
    logs.configure("gateway", settings.log.format, settings.log.level)
    install_prices(settings)
    config = gateway_config(settings)
    tokens = settings.gateway.tokens_file or settings.home / "tokens.json"
    policy = Policy(
        grant=admission(tokens, settings),
        redact=wiring.redactor(settings).apply,
        redact_text=refused_text(settings),
    )
    scheme = "http" if config.tls is None else "https"

    def ready(port: int) -> None:
        say(f"gateway at {scheme}://{config.host}:{port}")

    run_gateway(config, wiring.kafka(settings), policy, ready)


def refused_text(settings: Settings) -> Callable[[str], str] | None:
    """What makes refused text fit to be kept; None where nobody's may be kept.

    A refused span may not say whose it is, so the strictest agent's setting holds for all.
    """
    from infra import wiring

    section = settings.redaction
    keeps = {section.capture, *section.agents.values()} <= {"redacted", "full"}
    return wiring.redactor(settings).redact_text if keeps else None


def gateway_config(settings: Settings) -> GatewayConfig:
    """Bounds and address of the gateway.

    Raises
    ------
    UsageError
        The certificate and its key do not fit.
    """
    from ingest.gateway.config import GatewayConfig
    from ingest.limits import Limits

    section = settings.gateway
    return GatewayConfig(
        host=section.host,
        port=PORT if section.port is None else section.port,
        hosts=frozenset(filter(None, section.hosts.lower().split(","))),
        tls=_tls(section.tls_certfile, section.tls_keyfile),
        limits=Limits(
            max_body_bytes=section.max_body_mb << 20,
            max_decompressed_bytes=section.max_decompressed_mb << 20,
            max_records=section.max_records,
        ),
        max_connections=section.max_connections,
        header_timeout_s=section.header_timeout_s,
        body_timeout_s=section.body_timeout_s,
        answer_s=section.answer_s,
        linger_s=section.linger_ms / 1000,
        queue_bytes=section.queue_mb << 20,
    )


def admission(path: Path, settings: Settings) -> Callable[[str | None], Grant | None]:
    """Who may come in: the bearers of tokens, or this machine while there is no file of them.

    Once a file has been seen it stays needed, so that losing it opens nothing.

    Raises
    ------
    UsageError
        Other machines could send and there is no file, or it is damaged.
    """
    from ingest.access import Tokens
    from ingest.gateway.admission import ANYONE

    host = settings.gateway.host
    named = settings.gateway.tokens_file is not None
    if not path.exists():
        if named:
            raise UsageError(f"gateway.tokens_file: the file {path} does not exist")
        if host not in _LOOPBACK:
            raise UsageError(
                f"gateway.host is {host}, so other machines could send, and there are no tokens:"
                " make one with `driftline tokens add`, or listen on 127.0.0.1"
            )
        say(
            f"no tokens in {path}: anybody on this machine may send, nobody else;"
            " `driftline tokens add` makes one"
        )
    tokens = Tokens.load(path)
    needed = path.exists()

    def grant(authorization: str | None) -> Grant | None:
        nonlocal needed
        if not needed:
            needed = path.exists()
        return tokens.grant(authorization) if needed else ANYONE

    return grant


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"gateway.tls_certfile and gateway.tls_keyfile do not fit: {error}"
        ) from None
    return context
