"""The settings of driftline, section by section: what each is for, and why its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"the file {path} does not exist")
    return path


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s@]+(/[^\s@]*)?", text):
        raise ValueError("expected http://host:port or https://host:port, without user or password")
    return text.rstrip("/")


def _servers(text: str) -> str:
    if not re.fullmatch(r"[^\s,:/]+:\d+(,[^\s,:/]+:\d+)*", text):
        raise ValueError("expected host:port, several separated by commas")
    return text


ExistingFile = Annotated[Path, AfterValidator(_existing)]
_Url = Annotated[str, AfterValidator(_url)]
_Servers = Annotated[str, AfterValidator(_servers)]


def revealed(secret: SecretStr | None) -> str | None:
    """Return the text of a secret, for the one who must send it."""
    return None if secret is None else secret.get_secret_value()


class Section(BaseModel):
    """Settings that belong together; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    """Where events are produced and consumed."""

    bootstrap_servers: _Servers | None = Field(
        default=None,
        description="host:port of Kafka brokers, separated by commas; without it `driftline up`"
        " starts an embedded broker that keeps records in memory, for trying out",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="how to speak to the brokers; the embedded one knows only PLAINTEXT",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="needed with SASL_PLAINTEXT and SASL_SSL"
    )
    sasl_username: str | None = Field(default=None, description="user name for SASL")
    sasl_password: SecretStr | None = Field(default=None, description="password for SASL")
    ssl_cafile: ExistingFile | None = Field(
        default=None, description="CA certificates (PEM); without it those of the system"
    )
    ssl_certfile: ExistingFile | None = Field(
        default=None, description="client certificate (PEM) for mutual TLS"
    )
    ssl_keyfile: ExistingFile | None = Field(
        default=None, description="key of the client certificate (PEM)"
    )
    embedded_memory_mb: int = Field(
        default=1024,
        ge=32,
        description="memory of the embedded broker, which cannot delete records: above it a new log"
        " begins as soon as everything is booked, and the gateway is away for some seconds",
    )
    partitions: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="partitions of new topics, the unit of scale: more workers than partitions"
        " idle; 4 suit a machine with 2 to 4 cores",
    )
    replication: int = Field(
        default=-1,
        ge=-1,
        description="copies of each partition of new topics; -1 is the cluster's default",
    )
    retention_hours: int = Field(
        default=168,
        ge=1,
        description="how long new topics keep records: a week to repair and replay",
    )

    @model_validator(mode="after")
    def _consistent(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and None in (
            self.sasl_mechanism,
            self.sasl_username,
            self.sasl_password,
        ):
            raise ValueError(
                f"kafka.security_protocol {self.security_protocol} needs kafka.sasl_mechanism,"
                " kafka.sasl_username and kafka.sasl_password"
            )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("kafka.ssl_keyfile needs kafka.ssl_certfile")
        return self


class ClickHouseSettings(Section):
    """Where events and everything derived from them are stored."""

    hosts: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9.-]+(,[A-Za-z0-9.-]+)*)?$",
        description="names, separated by commas, under which the embedded engine may be addressed"
        " beside those of loopback, as by a proxy; others are refused, so that no web page can"
        " reach it under a name of its own",
    )
    url: _Url | None = Field(
        default=None,
        description="http(s)://host:port of a ClickHouse server; without it `driftline up` starts"
        " an embedded engine whose data stays in the home folder",
    )
    user: str = Field(
        default="driftline", min_length=1, description="user name; needs rights on the database"
    )
    password: SecretStr | None = Field(
        default=None, description="password; the embedded engine makes one of its own without it"
    )
    database: str = Field(
        default="driftline",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        description="database of driftline's tables, created if missing",
    )
    ca_file: ExistingFile | None = Field(
        default=None, description="CA certificates (PEM) for https; without it those of the system"
    )
    cluster: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="name of a cluster in the server's configuration: tables are replicated,"
        " inserts wait for most replicas and reads see them; not for ClickHouse Cloud, which does"
        " so itself",
    )
    sharded: bool = Field(
        default=False, description="whether that cluster has several shards, see docs/operations.md"
    )
    reader_password: SecretStr | None = Field(
        default=None,
        description="password of the user `reader` of the embedded engine, who can only query;"
        " made without it and kept in the home folder",
    )
    memory_mb: int = Field(
        default=4096,
        ge=512,
        description="bound on the memory of the embedded engine; half for one query",
    )

    @property
    def other_hosts(self) -> list[str]:
        """The names in `hosts`."""
        return [name for name in self.hosts.split(",") if name]


class ProcessingSettings(Section):
    """How workers turn events into rows and windows."""

    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="worker processes that `driftline up` starts on this machine",
    )
    batch_mb: int = Field(
        default=48,
        ge=1,
        le=256,
        description="size of a block of events to insert: larger ones cost ClickHouse less per row",
    )
    linger_s: float = Field(
        default=0.4, gt=0, le=10, description="how long a quiet topic waits for a block to fill"
    )
    recompute_interval_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds at least between two computations of what changed: each reads whole"
        " cells, so a shorter interval costs processor time and a longer one freshness",
    )
    backlog_rest_s: float = Field(
        default=30.0,
        ge=0,
        description="how long windows may wait while a backlog is worked off: every computation of"
        " a cell that still fills reads the whole cell",
    )
    session_timeout_s: float = Field(
        default=10.0, ge=6, le=300, description="how long a dead worker's partitions stay unread"
    )
    max_environments: int = Field(
        default=100,
        ge=1,
        description="environments told apart; events of later ones are counted under __other__",
    )
    max_agents: int = Field(
        default=10_000,
        ge=1,
        description="agents told apart; events of later ones are counted under __other__",
    )
    max_agent_versions: int = Field(
        default=10_000,
        ge=1,
        description="agent versions told apart; events of later ones are counted under __other__",
    )
    max_scopes: int = Field(
        default=10_000,
        ge=1,
        description="tools and models told apart; events of later ones are counted under __other__",
    )
    keep_originals_hours: float = Field(
        default=0.0,
        ge=0,
        le=168,
        description="how long the untouched bytes of lines that were no events are kept beside"
        " their redacted text, so that what redaction changed can be replayed; 0 keeps none",
    )


class BudgetSettings(Section):
    """What one interaction may take; more is the reason `budget_exceeded`."""

    steps: float | None = Field(
        default=60,
        gt=0,
        description="model calls, tool calls and retrievals; no longer recorded one succeeded",
    )
    duration_ms: float | None = Field(default=None, gt=0, description="milliseconds")
    tokens: float | None = Field(default=None, gt=0, description="tokens read and written")
    cost_usd: float | None = Field(default=None, gt=0, description="dollars")


class ReasonsSettings(Section):
    """Which structural reasons are looked for, and which of them fail (docs/outcomes.md)."""

    off: frozenset[str] = Field(default=frozenset(), description="codes that are not looked for")
    thresholds: dict[str, float] = Field(
        default_factory=dict, description="smallest measure that counts, by code"
    )
    severities: dict[str, Literal["fails", "fails_session", "marks"]] = Field(
        default_factory=dict, description="whether a code fails or only marks, by code"
    )
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    tools: frozenset[str] | None = Field(
        default=None, description="names of all tools; a call of any other is an unknown tool"
    )
    schemas: ExistingFile | None = Field(
        default=None, description="file with the JSON Schema of the arguments, by tool"
    )


class RetentionSettings(Section):
    """How long what is kept, in days; 0 keeps it for ever, for nobody should lose data unasked."""

    raw_days: int = Field(
        default=0, ge=0, description="events, by event time; must be longer than Kafka keeps them"
    )
    content_days: int = Field(
        default=0,
        ge=0,
        description="words of events and results: requests, answers, what tools got and gave,"
        " messages of errors; numbers stay",
    )
    results_days: int = Field(
        default=0,
        ge=0,
        description="results of interactions and sessions, ratings, members of clusters; whole"
        " months go at once",
    )
    rollups_days: int = Field(
        default=0, ge=0, description="rollups and windows, which dashboards read; whole months"
    )
    dead_letters_days: int = Field(default=0, ge=0, description="lines that became no events")
    findings_days: int = Field(
        default=0, ge=0, description="findings that have ended, their alerts and notifications"
    )
    environments: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description='environments whose events are kept for less, as {"staging": 7}',
    )


class ResultsSettings(Section):
    """How interactions are judged."""

    inactivity_s: float = Field(
        default=900.0,
        ge=30,
        le=7 * 86_400,
        description="after how many seconds of event time without a new event an interaction that"
        " has no end is given up as unfinished",
    )
    trusted_scores: tuple[str, ...] = Field(
        default=(),
        description="names of scores that decide success where no outcome is given",
    )
    outcomes: bool = Field(
        default=True, description="look for structural reasons of failure in every interaction"
    )
    reasons: ReasonsSettings = Field(
        default_factory=ReasonsSettings, description="how reasons are looked for, of all agents"
    )
    agents: dict[str, ReasonsSettings] = Field(
        default_factory=dict,
        description="the same of agents by name; what is not given is as for all",
    )
    satisfaction: bool = Field(
        default=True, description="estimate dissatisfaction where the user said something"
    )
    satisfaction_model: ExistingFile | None = Field(
        default=None,
        description="estimator fitted to your own feedback by `driftline satisfaction fit`; without"
        " it the one that ships, which has only seen simulated users",
    )


class AgentDetectionSettings(Section):
    """How eager the detectors are about one agent."""

    severity: Literal["page", "notice", "off"] = Field(
        default="page",
        description="the most that a finding of it can be: a page, a notice, or nothing at all",
    )
    min_effect: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="smallest change of its failure rate worth a page; unset as for all",
    )


class DetectionSettings(Section):
    """How eager the detectors are."""

    pages_per_week: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="false pages a week to expect of the whole deployment, over all signals",
    )
    notices_per_week: float = Field(
        default=10.0,
        gt=0,
        le=10_000,
        description="false notices a week to expect: findings that are shown and wake nobody",
    )
    warm_up: float = Field(
        default=2_000.0, ge=10, description="interactions of an agent that make its first baseline"
    )
    min_effect: float = Field(
        default=0.01, ge=0, lt=1, description="smallest change of the failure rate worth a page"
    )
    retire_days: int = Field(
        default=14, ge=1, le=365, description="streams without a value for so long are forgotten"
    )
    agents: dict[str, AgentDetectionSettings] = Field(
        default_factory=dict,
        description="of agents by name: severity (page, notice, off), min_effect",
    )

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if isinstance(given, dict) and "arl" in given:
            raise ValueError(
                "detection.arl is now detection.pages_per_week, the false pages a week to expect"
                " of the whole deployment (default 1)"
            )
        return given

    @model_validator(mode="after")
    def _ordered(self) -> DetectionSettings:
        if self.notices_per_week < self.pages_per_week:
            raise ValueError(
                "detection.notices_per_week must not be below detection.pages_per_week"
            )
        return self


class HealthSettings(Section):
    """Where a process tells how it is, and when a lack of progress counts."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address that workers and the receiver serve health on; 0.0.0.0 where an"
        " orchestrator asks from outside, as in a container",
    )
    port: int | None = Field(
        default=None,
        ge=1024,
        le=65535,
        description="port of /healthz, /readyz and /metrics; without it only the parts"
        " of `driftline up` serve them, on ports that follow the port base",
    )
    unready_after_s: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        description="how long a partition may have lag without anything being stored: longer than"
        " the largest batch takes",
    )
    unhealthy_after_s: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        description="how long until /healthz says so too, by which an orchestrator restarts: a"
        " restart does not help against a database that is away, so not soon",
    )

    @model_validator(mode="after")
    def _ordered(self) -> HealthSettings:
        if self.unhealthy_after_s < self.unready_after_s:
            raise ValueError("health.unhealthy_after_s must not be below health.unready_after_s")
        return self


class LogSettings(Section):
    """How processes log."""

    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="JSON lines or plain lines; auto writes plain to a terminal"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe level that is written"
    )


class GrafanaSettings(Section):
    """Where `driftline publish` puts dashboards and alert rules."""

    url: _Url | None = Field(default=None, description="http(s)://host:port of a Grafana server")
    token: SecretStr | None = Field(
        default=None,
        description="service account token with the right to edit folders and data sources",
    )
    user: str | None = Field(default=None, description="user name, where there is no token")
    password: SecretStr | None = Field(default=None, description="password of that user")
    ca_file: ExistingFile | None = Field(
        default=None, description="CA certificates (PEM) for https; without it the usual ones"
    )
    folder: str = Field(
        default="Driftline", min_length=1, description="title of the folder that receives it all"
    )
    clickhouse_url: _Url | None = Field(
        default=None,
        description="http(s)://host:port at which Grafana itself reaches ClickHouse, where that is"
        " not the address that driftline uses, as between containers",
    )
    clickhouse_user: str | None = Field(
        default=None,
        description="ClickHouse user for Grafana, who should only read; without it `reader` of the"
        " embedded engine, else driftline's own",
    )
    clickhouse_password: SecretStr | None = Field(default=None, description="password of that user")
