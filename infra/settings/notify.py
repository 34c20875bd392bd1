"""Settings of notifications."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from infra.settings.sections import ExistingFile, Section, _url, revealed

if TYPE_CHECKING:
    from infra.settings import Settings
    from processors.notify.service import NotifyConfig

_Url = Annotated[str, AfterValidator(_url)]


class NotifySettings(Section):
    """Who is told of findings; without a receiver nobody is."""

    alertmanager_url: _Url | None = Field(
        default=None,
        description="http(s)://host:port of a Prometheus Alertmanager, API v2; for Mimir with"
        " /alertmanager",
    )
    alertmanager_token: SecretStr | None = Field(
        default=None, description="bearer token for Alertmanager"
    )
    alertmanager_tenant: str | None = Field(
        default=None, description="tenant of Mimir, sent as X-Scope-OrgID"
    )
    webhook_url: _Url | None = Field(
        default=None, description="http(s) address that gets every message as signed JSON"
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="key of the webhook's signature, 16 characters at least"
    )
    services: SecretStr | None = Field(
        default=None,
        description="URLs of chat and mail services as the library apprise names them, separated"
        " by spaces, such as slack://A/B/C mailto://user:password@host",
    )
    otlp_url: _Url | None = Field(
        default=None,
        description="http(s)://host:port of an OTLP/HTTP receiver that gets every change of a"
        " finding, notices too, as a log event driftline.finding",
    )
    ca_file: ExistingFile | None = Field(
        default=None, description="CA certificates (PEM) for https; without it the usual ones"
    )
    board_url: _Url | None = Field(
        default=None, description="address of the board, for the links in messages"
    )
    group_wait_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="how long the first message of an incident waits for more findings of it",
    )
    group_interval_s: float = Field(
        default=300.0,
        ge=0,
        description="shortest time between two messages about an incident that grows",
    )
    group_window_s: float = Field(
        default=600.0,
        ge=0,
        description="findings of an environment that began so close together are one incident",
    )
    heartbeat_s: float = Field(
        default=60.0,
        gt=0,
        description="how often Alertmanager is sent what lasts; it ends an alert after three"
        " heartbeats without word",
    )
    max_age_h: float = Field(
        default=24.0,
        gt=0,
        description="findings older than this are not announced, so a replay of the past pages"
        " nobody",
    )

    @model_validator(mode="after")
    def _signed(self) -> NotifySettings:
        secret = revealed(self.webhook_secret)
        if self.webhook_url is not None and len(secret or "") < 16:
            raise ValueError(
                "notify.webhook_url needs notify.webhook_secret, 16 characters at least"
            )
        return self


def notify_config(settings: Settings) -> NotifyConfig:
    """What the notifier needs to know."""
    from processors.notify.incidents import Pace, Rules
    from processors.notify.service import NotifyConfig

    section = settings.notify
    return NotifyConfig(
        alertmanager_url=section.alertmanager_url,
        alertmanager_token=revealed(section.alertmanager_token),
        alertmanager_tenant=section.alertmanager_tenant,
        webhook_url=section.webhook_url,
        webhook_secret=revealed(section.webhook_secret),
        services=tuple((revealed(section.services) or "").split()),
        otlp_url=section.otlp_url,
        ca_file=None if section.ca_file is None else str(section.ca_file),
        board_url=section.board_url,
        pace=Pace(section.group_wait_s, section.group_interval_s),
        rules=Rules(timedelta(seconds=section.group_window_s), timedelta(hours=section.max_age_h)),
        heartbeat=section.heartbeat_s,
    )
