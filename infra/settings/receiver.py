"""Settings of the OTLP Kafka receiver."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infra.settings.sections import Section

_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"


class ReceiverSettings(Section):
    """The receiver of OTLP that OpenTelemetry Collectors write to Kafka."""

    enabled: bool = Field(
        default=True, description="whether `driftline up` runs a receiver of its own"
    )
    spans_topic: str = Field(
        default="otlp_spans",
        pattern=_TOPIC,
        description="topic of traces; the default is that of the Collector's Kafka exporter",
    )
    logs_topic: str = Field(
        default="otlp_logs",
        pattern=_TOPIC,
        description="topic of logs; the default is that of the Collector's Kafka exporter",
    )
    encoding: Literal["auto", "otlp_proto", "otlp_json"] = Field(
        default="auto",
        description="how messages are encoded; auto tells the two apart by the first byte",
    )
