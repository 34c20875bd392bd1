"""Our own settings, the price table and Grafana."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from infra.doctor import Complaint
from ingest.core.errors import DriftlineError

if TYPE_CHECKING:
    from infra.settings import Settings

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1", "[::1]")
_OLD_PRICES_DAYS: Final = 180


def of_settings(settings: Settings) -> Iterator[Complaint]:
    """Settings that are allowed each by itself, but not wise together."""
    gateway, kafka, clickhouse = settings.gateway, settings.kafka, settings.clickhouse
    if gateway.host not in _LOOPBACK:
        tokens = gateway.tokens_file or settings.home / "tokens.json"
        if not tokens.exists():
            yield _fault(
                "gateway_without_tokens",
                f"the gateway listens on {gateway.host}, there is no {tokens}: it will not start",
                "make a token with `driftline tokens add`, or listen on 127.0.0.1",
            )
        if gateway.tls_certfile is None:
            yield _advice(
                "gateway_without_tls",
                f"the gateway listens on {gateway.host} without TLS: tokens can be read on the way",
                "set gateway.tls_certfile and gateway.tls_keyfile, or end TLS before it",
            )
    if kafka.bootstrap_servers is not None and clickhouse.url is not None:
        if settings.redaction.key is None:
            yield _fault(
                "redaction_key",
                "redaction.key is not given, so every host makes pseudonyms of its own",
                "set DRIFTLINE_REDACTION_KEY to one secret for gateways, receivers and workers",
            )
        if not _local(clickhouse.url.partition("://")[2]) and clickhouse.url.startswith("http:"):
            yield _advice(
                "clickhouse_without_tls",
                f"{clickhouse.url}: ClickHouse's password and data can be read on the way",
                "use https, or be sure of the network between",
            )
        servers = kafka.bootstrap_servers.split(",")
        if "SSL" not in kafka.security_protocol and not all(map(_local, servers)):
            yield _advice(
                "kafka_without_tls",
                f"Kafka is reached by {kafka.security_protocol}: events can be read on the way",
                "set kafka.security_protocol to SSL or SASL_SSL, or be sure of the network between",
            )
    keep = settings.retention
    shortest = min([days for days in (keep.raw_days, *keep.environments.values()) if days] or [0])
    if 0 < shortest * 24 <= kafka.retention_hours:
        yield _fault(
            "retention_below_kafka",
            f"events are kept for {shortest} days, records in Kafka for {kafka.retention_hours} h:"
            " what is read again after an outage could not be told from what has expired",
            "set retention.raw_days and retention.environments to more than kafka.retention_hours",
        )
    if keep.raw_days and 0 < keep.results_days < keep.raw_days:
        yield _fault(
            "results_before_events",
            f"results are kept for {keep.results_days} days, events for {keep.raw_days}: the audit"
            " would compute the results again that have expired",
            "set retention.results_days to at least retention.raw_days",
        )
    if settings.processing.workers > kafka.partitions:
        yield _fault(
            "idle_workers",
            f"processing.workers is {settings.processing.workers}, kafka.partitions"
            f" {kafka.partitions}: the workers beyond them idle",
            "set processing.workers to at most kafka.partitions, or add partitions",
        )
    if "full" in (settings.redaction.capture, *settings.redaction.agents.values()):
        yield _advice(
            "capture_full",
            "redaction.capture or redaction.agents is full: secrets and personal data are kept",
            "set it to redacted, unless this is meant",
        )


def of_prices(settings: Settings, today: date | None = None) -> Iterator[Complaint]:
    """A price table that is old, or that does not say how old it is."""
    from ingest import prices

    path = settings.prices.file
    try:
        said = prices.as_of(path)
    except DriftlineError as error:
        yield Complaint("prices", "prices_unreadable", str(error), "mend the file of prices.file")
        return
    where = "that comes with driftline" if path is None else f"in {path}"
    try:
        day = date.fromisoformat(said)
    except ValueError:
        yield Complaint(
            "prices",
            "prices_without_date",
            f"the price table {where} does not say of which day it is",
            'add "date": "YYYY-MM-DD" to it',
            "advice",
        )
        return
    age = ((today or datetime.now(UTC).date()) - day).days
    if age > _OLD_PRICES_DAYS:
        yield Complaint(
            "prices",
            "prices_old",
            f"the price table {where} is {age} days old",
            "update the package genai-prices, or put your prices into prices.file with a date;"
            " stored costs stay as they are",
            "advice",
        )


def of_grafana(settings: Settings) -> Iterator[Complaint]:
    """Whether a Grafana that is configured has what we publish and can query."""
    if settings.grafana.url is None:
        return
    from dashboards import publisher
    from dashboards.grafana import GrafanaApi, GrafanaRejected
    from dashboards.query import DATASOURCE_UID
    from infra.commands.grafana import grafana_config

    try:
        config = grafana_config(settings)
        outcome = publisher.publish(config, dry_run=True)
    except DriftlineError as error:
        yield Complaint(
            "grafana", "grafana_refuses", str(error), "correct what it says, then publish again"
        )
        return
    behind = [f"{c.kind} {c.uid}" for c in outcome.changes if c.action != "unchanged"]
    if behind:
        yield Complaint(
            "grafana",
            "grafana_behind",
            f"not as this version would publish it: {', '.join(behind[:5])}",
            "run `driftline publish`",
        )
        return
    try:
        GrafanaApi(config).check_data_source(DATASOURCE_UID)
    except GrafanaRejected as error:
        yield Complaint(
            "grafana",
            "grafana_cannot_query",
            f"Grafana cannot query ClickHouse: {error}",
            "set grafana.clickhouse_url to the address by which Grafana reaches it, and publish",
        )


def of_notifiers(settings: Settings) -> Iterator[Complaint]:
    """Whether anybody is told of findings, and whether who is told can be reached."""
    import socket
    from importlib.util import find_spec
    from urllib.parse import urlsplit

    notify = settings.notify
    urls = [("notify.alertmanager_url", notify.alertmanager_url)]
    urls += [("notify.webhook_url", notify.webhook_url)]
    named = [(name, str(url)) for name, url in urls if url]
    if notify.services is not None and find_spec("apprise") is None:
        yield Complaint(
            "notifiers",
            "apprise_missing",
            "notify.services is set, and the package that reaches them is not installed",
            "install the extra `notify`, as in the lock or image of the worker",
        )
    for name, url in named:
        place = urlsplit(url)
        port = place.port or (443 if place.scheme == "https" else 80)
        try:
            socket.create_connection((place.hostname or "", port), timeout=3).close()
        except OSError as error:
            yield Complaint(
                "notifiers",
                "notifier_unreachable",
                f"{name} {place.scheme}://{place.hostname}:{port} does not answer: {error}",
                "correct it, or let this host reach it; findings wait until then",
            )


def _local(server: str) -> bool:
    return server.rpartition(":")[0].strip("[]") in ("127.0.0.1", "localhost", "::1")


def _fault(code: str, what: str, do: str) -> Complaint:
    return Complaint("settings", code, what, do)


def _advice(code: str, what: str, do: str) -> Complaint:
    return Complaint("settings", code, what, do, "advice")
