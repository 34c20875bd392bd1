"""Grafana as the publisher sees it: find a thing, save a thing. The only module that speaks HTTP.

`GrafanaApi` wraps the client grafana-api, which knows addresses, credentials and sessions but not
the endpoints of today: its replies must be JSON even where Grafana sends none, and it has no rule
groups or data sources by uid. So requests go through its session from here. `MemoryGrafana` keeps
everything in a dictionary, for tests and for a dry look at what would be published.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import quote, urlsplit

import requests
from grafana_api.grafana_face import GrafanaFace
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from dashboards.query import Json
from ingest.core.errors import Unavailable, UsageError

Kind: TypeAlias = Literal["folder", "data source", "dashboard", "rule group"]


class GrafanaUnavailable(Unavailable):
    """Grafana does not answer, or answers that it cannot now."""


class GrafanaRejected(UsageError):
    """Grafana answers no; ``status`` is the HTTP status, 0 when the answer was not Grafana's."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class DataSourceConfig:
    """ClickHouse as Grafana reaches it, which need not be how driftline itself reaches it."""

    host: str = "127.0.0.1"
    port: int = 8123
    protocol: Literal["http", "native"] = "http"
    secure: bool = False
    user: str = "default"
    password: str = field(default="", repr=False)
    database: str = "driftline"


@dataclass(frozen=True, slots=True)
class GrafanaConfig:
    """Where Grafana is and who we are there.

    Parameters
    ----------
    url
        Base address, with the path if Grafana is served under one.
    token
        Token of a service account with the role Editor and the right to create data sources
        (Admin has it). Takes precedence over ``user`` and ``password``.
    user, password
        Basic authentication.
    verify
        Check the certificate, or path of a CA bundle to check it against.
    folder
        Title of the folder that receives everything.
    datasource
        ClickHouse as Grafana reaches it.
    timeout_s
        For each request; the check of the data source may take a while.
    """

    url: str = "http://127.0.0.1:3000"
    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    verify: bool | str = True
    folder: str = "Driftline"
    datasource: DataSourceConfig = DataSourceConfig()
    timeout_s: float = 20.0


class Grafana(Protocol):
    """What publishing needs from a Grafana.

    Bodies of `find` and `save` have one shape per kind:

    - folder: ``{uid, title}``
    - data source: as its endpoint takes it; ``find`` never has ``secureJsonData``
    - dashboard: ``{dashboard, folderUid}``
    - rule group: as its endpoint takes it; its uid is ``FOLDER/TITLE``

    ``find`` may return more than was saved, because Grafana adds to it.
    """

    def version(self) -> str:
        """Version of the server; empty when it does not tell."""
        ...

    def plugin_missing(self, plugin: str) -> bool:
        """Whether the plugin is certainly not installed."""
        ...

    def find(self, kind: Kind, uid: str) -> Json | None:
        """Return what is there, or None."""
        ...

    def save(self, kind: Kind, uid: str, body: Json, *, exists: bool) -> None:
        """Create it, or replace it when it exists."""
        ...

    def check_data_source(self, uid: str) -> str:
        """Let Grafana query the data source; return what it says, raise when it fails."""
        ...


class GrafanaApi:
    """A Grafana of version 11.6 or later, over HTTP.

    Raises
    ------
    GrafanaUnavailable
        From every method, when Grafana does not answer, is overloaded or broken.
    GrafanaRejected
        From every method, when Grafana refuses the request or the credentials.
    """

    def __init__(self, config: GrafanaConfig) -> None:
        parts = urlsplit(config.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"the address of Grafana must look like https://host:3000, not {config.url!r}"
            )
        if not config.token and not config.user:
            raise UsageError("publishing needs a Grafana token, or a user and a password")
        prefix = parts.path.strip("/")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._url = config.url.rstrip("/")
        self._api = GrafanaFace(
            auth=config.token or (config.user, config.password),
            host=host,
            port=parts.port,
            url_path_prefix=f"{prefix}/" if prefix else "",
            protocol=parts.scheme,
            verify=config.verify,
            timeout=config.timeout_s,
        ).api
        self._api.s.headers["User-Agent"] = "driftline"
        self._api.s.headers["Accept"] = "application/json"
        retry = Retry(
            total=3,
            connect=1,
            backoff_factor=0.3,
            status_forcelist=(429, 502, 503, 504),
            # A POST that went through must not be sent again.
            allowed_methods={"GET", "PUT"},
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._api.s.mount(scheme, HTTPAdapter(max_retries=retry))

    def version(self) -> str:
        """Version of the server; empty when it does not tell."""
        health = self._call("GET", "/health")
        if not isinstance(health, dict) or "database" not in health:
            raise GrafanaRejected(f"{self._url} answers, but not like a Grafana")
        if health["database"] != "ok":
            raise GrafanaUnavailable(f"Grafana at {self._url}: its database is not ok")
        return str(health.get("version", ""))

    def plugin_missing(self, plugin: str) -> bool:
        """Whether the plugin is certainly not installed; no right to ask counts as installed."""
        try:
            self._call("GET", f"/plugins/{_q(plugin)}/settings")
        except GrafanaRejected as error:
            if error.status == 401:
                raise
            return error.status == 404 and "plugin not found" in str(error).lower()
        return False

    def find(self, kind: Kind, uid: str) -> Json | None:
        """Return what is there, or None."""
        try:
            found = self._call("GET", _place(kind, uid))
        except GrafanaRejected as error:
            if error.status == 404:
                return None
            raise
        if not isinstance(found, dict):
            raise GrafanaRejected(f"{self._url} answers, but not like a Grafana")
        if kind == "dashboard":
            return {
                "dashboard": found["dashboard"],
                "folderUid": found["meta"].get("folderUid", ""),
            }
        return found

    def save(self, kind: Kind, uid: str, body: Json, *, exists: bool) -> None:
        """Create it, or replace it when it exists."""
        place = _place(kind, uid)
        match kind:
            case "dashboard":
                message = {"overwrite": True, "message": "published by driftline"}
                dashboard = {**body["dashboard"], "id": None}
                self._call("POST", "/dashboards/db", {**body, **message, "dashboard": dashboard})
            case "rule group":
                self._call("PUT", place, body)
            case "folder" if exists:
                self._call("PUT", place, {"title": body["title"], "overwrite": True})
            case "folder":
                self._call("POST", "/folders", body)
            case "data source" if exists:
                self._call("PUT", place, body)
            case "data source":
                self._call("POST", "/datasources", body)

    def check_data_source(self, uid: str) -> str:
        """Let Grafana query the data source; return what it says, raise when it fails."""
        reply = self._call("GET", f"/datasources/uid/{_q(uid)}/health")
        message = reply.get("message", "") if isinstance(reply, dict) else ""
        return str(message)

    def _call(self, verb: str, path: str, body: Json | None = None) -> Any:
        api = self._api
        try:
            reply = api.s.request(
                verb,
                api.url + path,
                json=body,
                auth=api.auth,
                verify=api.verify,
                timeout=api.timeout,
                # A redirect would turn a POST into a GET and report success.
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise GrafanaUnavailable(
                f"Grafana at {self._url}: its certificate is not trusted; name a CA bundle"
            ) from error
        except requests.RequestException as error:
            raise GrafanaUnavailable(
                f"Grafana at {self._url} does not answer ({type(error).__name__})"
            ) from error
        return self._read(verb, path, reply)

    def _read(self, verb: str, path: str, reply: requests.Response) -> Any:
        status = reply.status_code
        if status == 429 or status >= 500:
            raise GrafanaUnavailable(f"Grafana: {verb} {path}: {status} {_message(reply)}")
        if status == 401:
            raise GrafanaRejected(
                f"Grafana at {self._url} does not accept the token or password", status
            )
        if 300 <= status < 400:
            raise GrafanaRejected(
                f"{self._url} redirects to {reply.headers.get('Location', 'elsewhere')}; "
                "use the address it ends at",
                status,
            )
        if status >= 400:
            raise GrafanaRejected(f"Grafana: {verb} {path}: {status} {_message(reply)}", status)
        if not reply.content:
            return None
        try:
            return reply.json()
        except ValueError as error:
            raise GrafanaRejected(f"{self._url} answers, but not like a Grafana") from error


class MemoryGrafana:
    """A Grafana without a server: keeps what is saved, and what it was asked to do."""

    def __init__(self, version: str = "13.0.0", plugins: tuple[str, ...] | None = None) -> None:
        self.kept: dict[tuple[Kind, str], Json] = {}
        self.saved: list[tuple[Kind, str]] = []
        self._version = version
        self._plugins = plugins

    def version(self) -> str:
        """Version of the server."""
        return self._version

    def plugin_missing(self, plugin: str) -> bool:
        """Whether the plugin is not among those given; all are there when none were."""
        return self._plugins is not None and plugin not in self._plugins

    def find(self, kind: Kind, uid: str) -> Json | None:
        """Return what was saved, without secrets, or None."""
        return copy.deepcopy(self.kept.get((kind, uid)))

    def save(self, kind: Kind, uid: str, body: Json, *, exists: bool) -> None:
        """Keep it."""
        if exists != ((kind, uid) in self.kept):
            raise GrafanaRejected(
                f"{kind} {uid}: exists is not {exists}", 409 if not exists else 404
            )
        self.saved.append((kind, uid))
        self.kept[kind, uid] = {
            k: v for k, v in copy.deepcopy(body).items() if k != "secureJsonData"
        }

    def check_data_source(self, uid: str) -> str:
        """Say that it works, when there is one."""
        if ("data source", uid) not in self.kept:
            raise GrafanaUnavailable(f"no data source {uid}")
        return "Data source is working"


_PLACES: Final[dict[Kind, str]] = {
    "folder": "/folders/{}",
    "data source": "/datasources/uid/{}",
    "dashboard": "/dashboards/uid/{}",
    "rule group": "/v1/provisioning/folder/{}/rule-groups/{}",
}


def _place(kind: Kind, uid: str) -> str:
    parts = uid.split("/", 1) if kind == "rule group" else [uid]
    return _PLACES[kind].format(*map(_q, parts))


def _q(text: str) -> str:
    return quote(text, safe="")


def _message(reply: requests.Response) -> str:
    try:
        body = reply.json()
    except ValueError:
        body = None
    text = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(text or reply.reason or "").split())[:300]
