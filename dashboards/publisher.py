"""What belongs into a Grafana, and bringing it there.

Publishing looks at what is there and saves only what differs, in the order in which things need
each other: folder, data source, dashboards, rule groups. It is idempotent, and `render` writes the
same objects to files, which are committed so that a change of a query is seen in review.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from dashboards import rules
from dashboards.boards import (
    agent,
    cost,
    evaluators,
    failures,
    incidents,
    overview,
    pipeline,
    sessions,
    versions,
)
from dashboards.grafana import (
    Grafana,
    GrafanaApi,
    GrafanaConfig,
    GrafanaRejected,
    GrafanaUnavailable,
    Kind,
)
from dashboards.query import DATASOURCE_NAME, DATASOURCE_UID, PLUGIN, PLUGIN_VERSION, Json
from dashboards.slo import DEFAULT, Slo
from ingest.core.errors import UsageError

RENDERED: Final = Path(__file__).parent / "rendered"
MINIMUM_VERSION: Final = (11, 6)
"""The oldest Grafana that version 4.20 of the ClickHouse plugin runs on."""

Action = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class Resource:
    """One object in Grafana, as it ought to be; see `dashboards.grafana.Grafana` for the shapes."""

    kind: Kind
    uid: str
    body: Json


@dataclass(frozen=True, slots=True)
class Change:
    """What was done, or in a dry run would be done, with one object."""

    kind: Kind
    uid: str
    action: Action
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """Outcome of `publish`.

    Parameters
    ----------
    version
        Version of the server, empty when it does not tell.
    changes
        What was done with each object, in order.
    data_source
        What Grafana says of the data source; empty after a dry run.
    works
        Whether Grafana can query ClickHouse; None after a dry run.
    """

    version: str
    changes: tuple[Change, ...]
    data_source: str = ""
    works: bool | None = None


_BOARDS: Final = (
    agent, sessions, incidents, failures, versions, evaluators, cost, pipeline,
)  # fmt: skip


def dashboards(slos: Sequence[Slo] = ()) -> list[Json]:
    """Every dashboard; the overview shows the objectives, by default a common one."""
    return [overview.build(slos or DEFAULT), *(board.build() for board in _BOARDS)]


def statements_of(board: Json) -> list[str]:
    """SQL of every panel, variable and annotation of a dashboard."""
    found = [t["rawSql"] for panel in board["panels"] for t in panel.get("targets", [])]
    found += [v["query"]["rawSql"] for v in board["templating"]["list"] if v["type"] == "query"]
    return found + [a["target"]["rawSql"] for a in board["annotations"]["list"]]


def resources(
    config: GrafanaConfig,
    components: Sequence[str] = rules.COMPONENTS,
    slos: Sequence[Slo] = (),
) -> list[Resource]:
    """Everything that belongs into a Grafana, in the order in which to save it."""
    folder = rules.FOLDER_UID
    return [
        Resource("folder", folder, {"uid": folder, "title": config.folder}),
        Resource("data source", DATASOURCE_UID, data_source(config)),
        *(
            Resource("dashboard", board["uid"], {"dashboard": board, "folderUid": folder})
            for board in dashboards(slos)
        ),
        *(
            Resource("rule group", f"{folder}/{group['title']}", group)
            for group in rules.rule_groups(components, slos)
        ),
    ]


def data_source(config: GrafanaConfig) -> Json:
    """Body of the ClickHouse data source; the password only under ``secureJsonData``."""
    source = config.datasource
    body: Json = {
        "uid": DATASOURCE_UID,
        "name": DATASOURCE_NAME,
        "type": PLUGIN,
        "access": "proxy",
        "jsonData": {
            "host": source.host,
            "port": source.port,
            "protocol": source.protocol,
            "secure": source.secure,
            "username": source.user,
            "defaultDatabase": source.database,
            "dialTimeout": "10",
            "queryTimeout": "60",
            "validateSql": True,
            "version": PLUGIN_VERSION,
        },
    }
    if source.password:
        body["secureJsonData"] = {"password": source.password}
    return body


def publish(
    config: GrafanaConfig,
    dry_run: bool = False,
    *,
    components: Sequence[str] = rules.COMPONENTS,
    slos: Sequence[Slo] = (),
    grafana: Grafana | None = None,
) -> Published:
    """Bring folder, data source, dashboards and rule groups into a Grafana.

    Parameters
    ----------
    config
        Where Grafana is, and ClickHouse as Grafana reaches it.
    dry_run
        Only look, and say what would be done.
    components
        Names whose missing heartbeats raise the deadman alert.
    slos
        Objectives, see `dashboards.slo.read`.
    grafana
        Grafana to use instead of the one at ``config.url``.

    Returns
    -------
    Published
        What was done. A data source that does not work is said there and is no exception, because
        everything is published all the same.

    Raises
    ------
    GrafanaUnavailable
        When Grafana is away.
    GrafanaRejected
        When it refuses the credentials, lacks the plugin, or refuses an object.
    """
    grafana = grafana or GrafanaApi(config)
    version = grafana.version()
    _check_version(version)
    wanted = resources(config, components, slos)
    # Everything is looked at before anything is changed; a wrong token is refused here.
    current = [grafana.find(r.kind, r.uid) for r in wanted]
    if grafana.plugin_missing(PLUGIN):
        raise GrafanaRejected(
            f"Grafana lacks the plugin {PLUGIN}: run `grafana cli plugins install {PLUGIN}` on its "
            "server, or install ClickHouse under Administration, Plugins; then publish again"
        )
    changes = [
        _bring(grafana, resource, was, dry_run)
        for resource, was in zip(wanted, current, strict=True)
    ]
    if dry_run:
        return Published(version, tuple(changes))
    try:
        return Published(
            version, tuple(changes), grafana.check_data_source(DATASOURCE_UID), works=True
        )
    except (GrafanaRejected, GrafanaUnavailable) as error:
        return Published(version, tuple(changes), str(error), works=False)


def rendered() -> dict[str, str]:
    """File name and text of every dashboard and rule group, as they are committed.

    Rules are there twice: as the provisioning API takes each group, and all as one provisioning
    file. With the common objective, so that the rules on error budgets are there as an example.
    """
    objects = {board["uid"]: board for board in dashboards()}
    objects |= {f"rules-{group['title']}": group for group in rules.rule_groups(slos=DEFAULT)}
    objects["provisioning-alerting"] = rules.provisioning_file()
    return {
        f"{name}.json": json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, body in objects.items()
    }


def render(folder: Path = RENDERED) -> list[Path]:
    """Write every dashboard and rule group to ``folder``; return the files that changed.

    Files there that are none of them any more are removed, if they are JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = rendered()
    changed = []
    for path in sorted(folder.glob("*.json")):
        if path.name not in texts:
            path.unlink()
            changed.append(path)
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def check(folder: Path = RENDERED) -> list[Path]:
    """Files in ``folder`` that are missing, out of date, or left over; empty when all is well."""
    texts = rendered()
    there = {path.name for path in folder.glob("*.json")}
    wrong = [
        name
        for name, text in texts.items()
        if name not in there or (folder / name).read_text(encoding="utf-8") != text
    ]
    return [folder / name for name in sorted({*wrong, *(there - texts.keys())})]


def _bring(grafana: Grafana, resource: Resource, current: Json | None, dry_run: bool) -> Change:
    secret = "secureJsonData" in resource.body
    visible = {k: v for k, v in resource.body.items() if k != "secureJsonData"}
    action: Action = "created"
    if current is not None:
        action = "unchanged" if _contains(current, visible) else "updated"
    detail = ""
    if action == "unchanged" and secret:
        detail = "the password is sent again, because Grafana does not show the one it has"
    if not dry_run and (action != "unchanged" or secret):
        body = resource.body
        if resource.kind == "data source" and current is not None:
            # Left out, it would stop being the default.
            body = {"isDefault": current.get("isDefault", False), **body}
        grafana.save(resource.kind, resource.uid, body, exists=current is not None)
    return Change(resource.kind, resource.uid, action, detail)


def _contains(current: Any, wanted: Any) -> bool:
    """Whether ``current`` says all that ``wanted`` says; Grafana adds fields of its own."""
    if isinstance(wanted, dict):
        return isinstance(current, dict) and all(
            key in current and _contains(current[key], value)
            for key, value in wanted.items()
            # It counts the versions of a dashboard itself.
            if key != "version" or isinstance(value, str)
        )
    if isinstance(wanted, list):
        return (
            isinstance(current, list)
            and len(current) == len(wanted)
            and all(map(_contains, current, wanted))
        )
    return bool(current == wanted)


def _check_version(version: str) -> None:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match and (int(match[1]), int(match[2])) < MINIMUM_VERSION:
        raise UsageError(
            f"this Grafana is version {version}; the ClickHouse plugin needs "
            f"{MINIMUM_VERSION[0]}.{MINIMUM_VERSION[1]} or newer"
        )
