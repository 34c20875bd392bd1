"""A fake Grafana 13: an HTTP server that is as strict as the real one about what driftline sends.

It knows the endpoints of 13.0 by uid only, their status codes, which fields they require and which
they add, and checks every body against the published models. It stores, but evaluates nothing.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.grafana_schema import dashboard_faults, rule_group_faults

TOKEN = "glsa_correct"
USER, PASSWORD = "admin", "correct"
PLUGIN = "grafana-clickhouse-datasource"

_UID = re.compile(r"[a-zA-Z0-9\-_]{1,40}")
_DURATION = re.compile(r"(\d+(ms|[smhdwy]))+|0")
_RULE_FIELDS = (
    "title", "ruleGroup", "folderUID", "orgID", "condition", "data", "noDataState",
    "execErrState", "for",
)  # fmt: skip
_DATA_SOURCE_FIELDS = {
    "uid", "name", "type", "access", "url", "user", "database", "basicAuth", "basicAuthUser",
    "withCredentials", "isDefault", "jsonData", "secureJsonData", "version",
}  # fmt: skip

Json = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, **more}


@dataclass
class Request:
    verb: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class FakeGrafana:
    """State and rules of the fake; ``url`` is where it listens."""

    version: str | None = "13.0.0"
    prefix: str = ""
    plugins: set[str] = field(default_factory=lambda: {PLUGIN})
    permissions: bool = True
    clickhouse_works: bool = True
    url: str = ""
    folders: dict[str, Json] = field(default_factory=dict)
    data_sources: dict[str, Json] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, Json] = field(default_factory=dict)
    groups: dict[tuple[str, str], Json] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    # (verb, status, raw body) of the next answers, before anything is looked at
    faults: list[tuple[str, int, bytes]] = field(default_factory=list)

    @property
    def writes(self) -> list[str]:
        return [f"{r.verb} {r.path}" for r in self.requests if r.verb != "GET"]

    def answer(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        if self.faults and self.faults[0][0] in ("*", request.verb):
            _, status, raw = self.faults.pop(0)
            return status, raw
        try:
            status, body = self._route(request)
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
        return status, b"" if body is None else json.dumps(body).encode()

    def _route(self, request: Request) -> tuple[int, Any]:
        verb, body = request.verb, request.body
        path = urlsplit(request.path).path
        if not path.startswith(f"{self.prefix}/api/"):
            raise Refusal(404, "Not found")
        parts = [unquote(part) for part in path.removeprefix(f"{self.prefix}/api/").split("/")]
        if (verb, parts) == ("GET", ["health"]):
            told = {} if self.version is None else {"version": self.version, "commit": "0"}
            return 200, {"database": "ok", **told}
        self._authenticate(request)
        if verb in ("POST", "PUT") and not isinstance(body, dict):
            raise Refusal(400, "bad request data")
        if verb != "GET" and not self.permissions:
            raise Refusal(
                403,
                "You'll need additional permissions to perform this action.",
                title="Access denied",
            )
        match (verb, *parts):
            case ("GET", "plugins", plugin, "settings"):
                if plugin not in self.plugins:
                    raise Refusal(404, "Plugin not found, no installed plugin with that id")
                return 200, {"id": plugin, "type": "datasource", "info": {"version": "4.20.0"}}
            case ("GET", "folders", uid):
                return 200, copy.deepcopy(_known(self.folders, uid, "folder not found"))
            case ("POST", "folders"):
                return 200, self._add_folder(body)
            case ("PUT", "folders", uid):
                return 200, self._change_folder(uid, body)
            case ("GET", "datasources", "uid", uid):
                return 200, copy.deepcopy(_known(self.data_sources, uid, "Data source not found"))
            case ("POST", "datasources"):
                return 200, self._add_data_source(body)
            case ("PUT", "datasources", "uid", uid):
                return 200, self._change_data_source(uid, body)
            case ("GET", "datasources", "uid", uid, "health"):
                return self._health(uid)
            case ("GET", "dashboards", "uid", uid):
                return 200, copy.deepcopy(_known(self.dashboards, uid, "Dashboard not found"))
            case ("POST", "dashboards", "db"):
                return 200, self._save_dashboard(body)
            case ("GET", "v1", "provisioning", "folder", folder, "rule-groups", group):
                return 200, copy.deepcopy(_known(self.groups, (folder, group), ""))
            case ("PUT", "v1", "provisioning", "folder", folder, "rule-groups", group):
                return 200, self._save_group(folder, group, request)
            case ("DELETE", "v1", "provisioning", "folder", folder, "rule-groups", group):
                _known(self.groups, (folder, group), "")
                del self.groups[folder, group]
                return 204, None
        raise Refusal(404, "Not found")

    def _authenticate(self, request: Request) -> None:
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") not in (f"Bearer {TOKEN}", f"Basic {basic}"):
            raise Refusal(401, "Invalid API key", messageId="api-key.invalid", statusCode=401)

    def _add_folder(self, body: Json) -> Json:
        _only(body, {"uid", "title", "parentUid", "description"})
        _require(body, "uid", "title")
        _check_uid(body["uid"])
        if body["uid"] in self.folders:
            raise Refusal(409, "a folder with that uid already exists")
        self.folders[body["uid"]] = {"id": 1, "orgId": 1, "version": 1, "url": "", **body}
        return self.folders[body["uid"]]

    def _change_folder(self, uid: str, body: Json) -> Json:
        folder = _known(self.folders, uid, "folder not found")
        _only(body, {"title", "overwrite", "version", "description"})
        if body.get("overwrite") is not True and body.get("version") != folder["version"]:
            raise Refusal(412, "the folder has been changed by someone else")
        folder["title"] = body["title"]
        folder["version"] += 1
        return folder

    def _add_data_source(self, body: Json) -> Json:
        self._check_data_source(body)
        if any(body["name"] == other["name"] for other in self.data_sources.values()):
            raise Refusal(409, "data source with the same name already exists")
        if body["uid"] in self.data_sources:
            raise Refusal(409, "data source with the same uid already exists")
        kept = self._keep_data_source(body, version=1)
        return {"id": 1, "message": "Datasource added", "name": body["name"], "datasource": kept}

    def _change_data_source(self, uid: str, body: Json) -> Json:
        current = _known(self.data_sources, uid, "Data source not found")
        self._check_data_source(body)
        kept = self._keep_data_source(body, version=current["version"] + 1)
        return {"id": 1, "message": "Datasource updated", "name": body["name"], "datasource": kept}

    def _check_data_source(self, body: Json) -> None:
        _only(body, _DATA_SOURCE_FIELDS)
        _require(body, "uid", "name", "type", "access", "jsonData")
        _check_uid(body["uid"])
        settings = body["jsonData"]
        _require(settings, "host", "port", "protocol", "username", "defaultDatabase")
        if settings["protocol"] not in ("http", "native"):
            raise Refusal(400, "protocol")
        for name, kind in {
            "port": int,
            "secure": bool,
            "dialTimeout": str,
            "queryTimeout": str,
        }.items():
            if type(settings[name]) is not kind:
                raise Refusal(400, f"jsonData.{name} is not {kind.__name__}")
        if "password" in settings:
            raise Refusal(400, "a password in jsonData is readable by everybody")

    def _keep_data_source(self, body: Json, version: int) -> Json:
        secret = body.get("secureJsonData", {})
        kept = {
            "id": 1, "orgId": 1, "url": "", "user": "", "database": "", "basicAuth": False,
            "withCredentials": False, "isDefault": False, "readOnly": False, "typeLogoUrl": "",
            **{k: v for k, v in body.items() if k != "secureJsonData"},
            "version": version,
            "secureJsonFields": dict.fromkeys(secret, True),
        }  # fmt: skip
        self.data_sources[body["uid"]] = kept
        self.passwords[body["uid"]] = secret.get("password", "")
        return copy.deepcopy(kept)

    def _health(self, uid: str) -> tuple[int, Json]:
        if uid not in self.data_sources:
            raise Refusal(500, "Unable to load datasource metadata")
        if self.data_sources[uid]["type"] not in self.plugins:
            raise Refusal(404, "Plugin not found")
        if not self.clickhouse_works:
            return 400, {"status": "ERROR", "message": "dial tcp: connection refused"}
        return 200, {"status": "OK", "message": "Data source is working"}

    def _save_dashboard(self, body: Json) -> Json:
        _only(body, {"dashboard", "folderUid", "message", "overwrite"})
        board = body["dashboard"]
        if not board.get("title"):
            raise Refusal(400, "Dashboard title cannot be empty", status="empty-name")
        _check_uid(board["uid"])
        if body.get("folderUid", "") not in {"", *self.folders}:
            raise Refusal(400, "folder not found", status="not-found")
        if board.get("id") is not None:
            raise Refusal(404, "Dashboard not found", status="not-found")
        if board["uid"] in self.dashboards and body.get("overwrite") is not True:
            raise Refusal(
                412, "The dashboard has been changed by someone else", status="version-mismatch"
            )
        wrong = dashboard_faults(board)
        if wrong:
            raise Refusal(400, f"not in the schema: {wrong}")
        version = self.dashboards.get(board["uid"], {"dashboard": {"version": 0}})["dashboard"][
            "version"
        ]
        self.dashboards[board["uid"]] = {
            "dashboard": {**copy.deepcopy(board), "id": 7, "version": version + 1},
            "meta": {"folderUid": body.get("folderUid", ""), "slug": "x", "version": version + 1},
        }
        return {
            "id": 7, "uid": board["uid"], "url": f"/d/{board['uid']}", "status": "success",
            "version": version + 1, "slug": "x", "folderUid": body.get("folderUid", ""),
        }  # fmt: skip

    def _save_group(self, folder: str, group: str, request: Request) -> Json:
        body: Json = request.body
        if folder not in self.folders:
            raise Refusal(400, "folder does not exist")
        if not body.get("rules") or body.get("interval", 0) % 10 or body.get("interval", 0) <= 0:
            raise Refusal(400, "invalid rule group: interval must be a multiple of 10 seconds")
        wrong = rule_group_faults(body)
        if wrong:
            raise Refusal(400, f"not in the schema: {wrong}")
        elsewhere = {
            rule["uid"]
            for key, other in self.groups.items()
            if key != (folder, group)
            for rule in other["rules"]
        }
        for rule in body["rules"]:
            _check_rule(rule, folder, group, elsewhere, set(self.data_sources))
        provenance = "" if "X-Disable-Provenance" in request.headers else "api"
        self.groups[folder, group] = {
            **copy.deepcopy(body),
            "rules": [
                {"id": n, "updated": "2026-11-22T10:00:00Z", "provenance": provenance, **rule}
                for n, rule in enumerate(copy.deepcopy(body["rules"]))
            ],
        }
        return body


def _check_rule(
    rule: Json, folder: str, group: str, elsewhere: set[str], sources: set[str]
) -> None:
    _require(rule, *_RULE_FIELDS)
    _check_uid(rule["uid"])
    if rule["uid"] in elsewhere:
        raise Refusal(400, f"alert rule uid {rule['uid']} is taken")
    if (rule["folderUID"], rule["ruleGroup"]) != (folder, group):
        raise Refusal(400, "rule names another folder or group")
    for name in ("for", "keep_firing_for"):
        if not _DURATION.fullmatch(rule.get(name, "0s")):
            raise Refusal(400, f"{name}: not a duration")
    names = [query["refId"] for query in rule["data"]]
    if rule["condition"] not in names or len(set(names)) != len(names):
        raise Refusal(400, f"condition {rule['condition']} does not exist")
    for query in rule["data"]:
        uid, model = query["datasourceUid"], query["model"]
        if uid != "__expr__" and uid not in sources:
            raise Refusal(400, f"failed to build query {query['refId']}: data source not found")
        if model["refId"] != query["refId"] or model["datasource"]["uid"] != uid:
            raise Refusal(400, "query and model disagree")
        if (
            uid != "__expr__"
            and query["relativeTimeRange"]["from"] <= query["relativeTimeRange"]["to"]
        ):
            raise Refusal(400, "invalid relative time range")
    if any(not isinstance(v, str) for v in {**rule["labels"], **rule["annotations"]}.values()):
        raise Refusal(400, "labels and annotations are strings")
    if ("__panelId__" in rule["annotations"]) > ("__dashboardUid__" in rule["annotations"]):
        raise Refusal(400, "a panel needs its dashboard")


def _known(kept: dict[Any, Json], key: Any, message: str) -> Json:
    if key not in kept:
        raise Refusal(404, message)
    return kept[key]


def _require(body: Json, *names: str) -> None:
    for name in names:
        if body.get(name) is None or body[name] == "":
            raise Refusal(400, f"{name} is required")


def _only(body: Json, names: set[str]) -> None:
    # The real one ignores what it does not know; a fake that did would hide a misspelling.
    unknown = body.keys() - names
    if unknown:
        raise Refusal(400, f"unknown fields {sorted(unknown)}")


def _check_uid(uid: str) -> None:
    if not _UID.fullmatch(uid):
        raise Refusal(400, "uid contains illegal characters or is too long")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet; in two they wait 40 ms for each other
    grafana: FakeGrafana

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        request = Request(self.command, self.path, body, dict(self.headers))
        status, answer = self.grafana.answer(request)
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", answer.decode())
            answer = b""
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve(**settings: Any) -> Iterator[FakeGrafana]:
    """Run a fake on a free port of 127.0.0.1."""
    grafana = FakeGrafana(**settings)
    handler = type("Handler", (_Handler,), {"grafana": grafana})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    grafana.url = f"http://127.0.0.1:{server.server_port}{grafana.prefix}"
    try:
        yield grafana
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
