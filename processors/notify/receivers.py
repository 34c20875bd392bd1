"""Where messages go: Alertmanager, a signed webhook, chat and mail services.

A receiver raises `Unavailable` when the same message may pass later, and `Rejected` when it never
will. Sending the same message twice is harmless: Alertmanager knows an alert by its labels, and a
webhook carries the id of the delivery.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from ingest.core.errors import Rejected, Unavailable, UsageError
from processors.notify.finding import Finding
from processors.notify.incidents import Incident, Pace
from processors.notify.signature import DELIVERY, SIGNATURE, TIMESTAMP, sign
from processors.notify.text import inert

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S: Final = 10.0
_NEVER: Final = frozenset((400, 404, 405, 410, 413, 415, 422))
"""Answers that the same request will get again; others may change when a setting is mended."""

_LABELS: Final = ("kind", "signal", "severity", "environment", "agent", "agent_version", "tool")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it is stored and sent.

    ``body`` is the JSON of `text.payload`, ``headline`` and ``lines`` are for people.
    """

    id: str
    incident: str
    event: str
    severity: str
    headline: str
    lines: str
    body: bytes


class Receiver(Protocol):
    """Somebody who is told."""

    name: str
    pace: Pace

    async def send(self, delivery: Delivery) -> None:
        """Send a message; returns when it has arrived. Raises `Unavailable` or `Rejected`."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(slots=True)
class Http:
    """POST with the errors of this module; the session is made in the loop that uses it."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    _session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Return when it has arrived. Raises `Unavailable` or `Rejected`."""
        import aiohttp  # only where something is posted

        if self._session is None:
            tls = ssl.create_default_context(cafile=self.ca_file)
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                connector=aiohttp.TCPConnector(ssl=tls),
            )
        sent = {"Content-Type": "application/json", "User-Agent": "driftline"}
        try:
            async with self._session.post(
                self.url,
                data=body,
                headers=sent | self.headers | (headers or {}),
                allow_redirects=False,
            ) as answer:
                said = (await answer.content.read(300)).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{self.url}: {type(error).__name__} {error}") from error
        if answer.status in _NEVER:
            raise Rejected(f"http_{answer.status}", f"{self.url}: {inert(said)}")
        if not 200 <= answer.status < 300:
            raise Unavailable(f"{self.url} answered {answer.status}: {inert(said)}")

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class Alertmanager:
    """Alertmanager's API v2: one alert per finding, grouped by the label ``incident``.

    Alertmanager ends an alert that is not posted again, so every active one is posted each
    ``heartbeat`` and is said to end after three of them.

    Parameters
    ----------
    http
        ``{base}/api/v2/alerts`` with its headers.
    heartbeat
        Seconds.
    alerts
        Findings of an incident, or of all, with their incident.
    link
        Base of links to the board.
    now
        Wall clock.
    """

    name = "alertmanager"
    pace = Pace(wait=0.0, interval=0.0)  # it groups by itself

    def __init__(
        self,
        http: Http,
        heartbeat: float,
        alerts: Callable[[str | None], Iterable[tuple[Incident, Finding]]],
        link: str | None,
        now: Callable[[], datetime],
    ) -> None:
        self._http = http
        self._lasts = timedelta(seconds=3 * heartbeat)
        self._alerts = alerts
        self._link = link
        self._now = now
        self._labels: dict[str, dict[str, str]] = {}

    async def send(self, delivery: Delivery) -> None:
        """Post the state in which the incident is now, which is never older than the message."""
        await self._post(self._alerts(delivery.incident))

    async def refresh(self) -> None:
        """Post every active alert again."""
        await self._post(self._alerts(None))

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _post(self, alerts: Iterable[tuple[Incident, Finding]]) -> None:
        now = self._now()
        posted = {
            f.finding_id: (alert(i.id, f, now, self._lasts, self._link), f.active)
            for i, f in alerts
        }
        body = [sent for sent, _ in posted.values()]
        # What an incident is named for may change; under its former labels it is another alert.
        for finding_id, (sent, _) in posted.items():
            before = self._labels.get(finding_id, sent["labels"])
            if before != sent["labels"]:
                body.append({**sent, "labels": before, "endsAt": _rfc3339(now)})
        if body:
            await self._http.post(msgspec.json.encode(body))
        for finding_id, (sent, active) in posted.items():
            self._labels.pop(finding_id, None)
            if active:
                self._labels[finding_id] = sent["labels"]


def alert(
    incident: str, finding: Finding, now: datetime, lasts: timedelta, link: str | None
) -> dict[str, Any]:
    """One alert as Alertmanager's API v2 takes it; empty labels are left out.

    It starts when it is told. Alertmanager keeps the earliest start of what lasts, and skips
    ``group_wait`` for an alert that began longer ago: it would announce the first alerts of an
    incident before it has read the others.
    """
    labels = {
        "alertname": "DriftlineFinding",
        "source": "driftline",
        "incident": incident,
        "finding_id": finding.finding_id,
        **{name: getattr(finding, name) for name in _LABELS},
    }
    began = finding.began or finding.found or now
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": inert(finding.title), "began": _rfc3339(began)},
        "startsAt": _rfc3339(now),
        "endsAt": _rfc3339(now + lasts if finding.active else now),
        **({"generatorURL": f"{link}/incident/{incident}"} if link else {}),
    }


class Webhook:
    """A POST of JSON, signed over its time and body."""

    name = "webhook"

    def __init__(self, http: Http, secret: str, pace: Pace) -> None:
        self._http = http
        self._secret = secret
        self.pace = pace

    async def send(self, delivery: Delivery) -> None:
        """POST the message; any 2xx means that it has arrived."""
        now = int(time.time())
        await self._http.post(
            delivery.body,
            {
                DELIVERY: delivery.id,
                TIMESTAMP: str(now),
                SIGNATURE: sign(self._secret, now, delivery.body),
            },
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()


class Services:
    """A chat or mail service that the library apprise knows, named by a URL.

    Every URL is a receiver of its own, so that one that is down holds no other up.
    """

    def __init__(self, name: str, url: str, pace: Pace) -> None:
        try:
            import apprise
        except ImportError:
            raise UsageError(
                "notify.services needs apprise: pip install 'driftline[notify]'"
            ) from None
        self.name = name
        self.pace = pace
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            scheme = url.partition("://")[0]
            raise UsageError(f"notify.services: apprise cannot read a URL of {scheme}://")

    async def send(self, delivery: Delivery) -> None:
        """Send as plain text; apprise escapes it for its service."""
        kind = {"resolved": "success", "update": "warning"}.get(delivery.event, "failure")
        if not await asyncio.to_thread(
            self._apprise.notify,
            body=delivery.lines or delivery.headline,
            title=delivery.headline,
            notify_type=kind,
            body_format="text",
        ):
            raise Unavailable(f"{self.name}: the service did not take the message")

    async def close(self) -> None:
        """Nothing is held."""


def http(
    url: str, token: str | None = None, tenant: str | None = None, ca_file: str | None = None
) -> Http:
    """An address with its headers. Raises `UsageError` when aiohttp is not installed."""
    if find_spec("aiohttp") is None:
        raise UsageError("notifications need aiohttp: pip install 'driftline[notify]'")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if tenant:
        headers["X-Scope-OrgID"] = tenant
    return Http(url, headers, ca_file)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short_hash(text: str) -> str:
    """Eight digits that name a secret without telling it."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
