"""The settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from infra.settings.sections import ExistingFile, Section


class GatewaySettings(Section):
    """The HTTP gateway for agents: where it listens, whom it lets in, how much it bears."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen on; anything but this machine's own needs a file of tokens,"
        " and should have TLS",
    )
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port to listen on; without it 4318, OpenTelemetry's own, and under"
        " `driftline up` one that follows the port base",
    )
    hosts: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9.-]+(,[A-Za-z0-9.-]+)*)?$",
        description="names, separated by commas, under which a gateway without tokens may be"
        " addressed beside those of loopback, so that no web page reaches it under a name of its"
        " own; with tokens any name will do",
    )
    tokens_file: Path | None = Field(
        default=None,
        description="file of bearer tokens; without it tokens.json of the home folder, and while"
        " that does not exist anybody on this machine may send",
    )
    tls_certfile: ExistingFile | None = Field(
        default=None, description="certificate chain (PEM) to serve https with"
    )
    tls_keyfile: ExistingFile | None = Field(
        default=None, description="key of the TLS certificate (PEM)"
    )
    max_body_mb: int = Field(
        default=16, ge=1, le=1024, description="largest body of a request as sent"
    )
    max_decompressed_mb: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="largest body of a request as unpacked; a hostile one takes thirty times that"
        " in memory while it is decoded, one at a time",
    )
    max_records: int = Field(
        default=50_000, ge=1, description="most spans, log records or events in one request"
    )
    max_connections: int = Field(
        default=1000, ge=1, description="most connections at once; one more is answered 503"
    )
    header_timeout_s: float = Field(
        default=20.0,
        gt=0,
        le=3600,
        description="how long a connection may go without a complete request header",
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="how long the body of a request may take"
    )
    answer_s: float = Field(
        default=8.0,
        ge=0.5,
        le=120,
        description="how long Kafka may take until a request is answered 503; below the 10 s that"
        " exporters of OpenTelemetry wait",
    )
    linger_ms: float = Field(
        default=5.0,
        ge=0,
        le=1000,
        description="how long events wait for others to share a record of the topic with",
    )
    queue_mb: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="bodies and events held until Kafka has them; beyond it requests are answered"
        " 429",
    )

    @model_validator(mode="after")
    def _complete(self) -> GatewaySettings:
        if (self.tls_certfile is None) != (self.tls_keyfile is None):
            raise ValueError("gateway.tls_certfile and gateway.tls_keyfile need each other")
        return self
