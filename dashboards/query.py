"""The query objects of Grafana's official ClickHouse plugin: targets, variables, annotations.

Statements come from `dashboards.queries` by name. Tables are named without a database: the data
source's default database decides.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from dashboards.queries import Rows, render

Json: TypeAlias = dict[str, Any]

PLUGIN: Final = "grafana-clickhouse-datasource"
PLUGIN_VERSION: Final = "4.20.0"
DATASOURCE_UID: Final = "driftline-ch"
DATASOURCE_NAME: Final = "Driftline ClickHouse"

TABLE: Final = 1
TIME_SERIES: Final = 0


def datasource_ref() -> Json:
    """Refer to the data source that the dashboard variable names."""
    return {"type": PLUGIN, "uid": "${datasource}"}


def target(
    statement: str, form: int, ref_id: str = "A", *, rows: dict[str, Rows] | None = None
) -> Json:
    """One query of a panel as the plugin's back end reads it.

    Parameters
    ----------
    statement
        Name of the statement, see `dashboards.queries.render`.
    form
        `TABLE` or `TIME_SERIES`. In a time series, string columns become labels.
    ref_id
        Name of the query within its panel.
    rows
        Tables that the statement needs from the program.
    """
    return raw_target(render(statement, rows=rows).sql, form, ref_id, datasource_ref())


def raw_target(sql: str, form: int, ref_id: str, datasource: Json) -> Json:
    """One query from its SQL."""
    return {
        "refId": ref_id,
        "datasource": datasource,
        "editorType": "sql",
        "queryType": "table" if form == TABLE else "timeseries",
        "format": form,
        "pluginVersion": PLUGIN_VERSION,
        "meta": {"timezone": "UTC"},
        "rawSql": sql,
    }


def datasource_variable() -> Json:
    """Which ClickHouse data source to read."""
    return {
        "name": "datasource",
        "type": "datasource",
        "label": "Data source",
        "query": PLUGIN,
        "refresh": 1,
        "current": {"text": DATASOURCE_NAME, "value": DATASOURCE_UID},
    }


def query_variable(name: str, label: str, statement: str) -> Json:
    """Choose any of the values a query returns, all of them at first."""
    sql = render(statement).sql
    return {
        "name": name,
        "type": "query",
        "label": label,
        "datasource": datasource_ref(),
        "query": {"refId": name, "queryType": "sql", "editorType": "sql", "rawSql": sql},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def choice_variable(name: str, label: str, values: tuple[str, ...]) -> Json:
    """Choose any of a few values, all of them at first."""
    return {
        "name": name,
        "type": "custom",
        "label": label,
        "query": ",".join(values),
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def text_variable(name: str, label: str) -> Json:
    """Type a text."""
    return {
        "name": name,
        "type": "textbox",
        "label": label,
        "query": "",
        "current": {"text": "", "value": ""},
    }


def environment() -> Json:
    """Choose deployment environments."""
    return query_variable("environment", "Environment", "agents.environments")


def agent() -> Json:
    """Choose agents of the chosen environments."""
    return query_variable("agent", "Agent", "agents.agents")


def version() -> Json:
    """Choose versions of the chosen agents."""
    return query_variable("version", "Version", "agents.versions")


def overlays() -> list[Json]:
    """Incidents and deployments, drawn over every time series."""
    return [
        annotation("Incidents", "red", "findings.annotations"),
        annotation("Deployments", "blue", "agents.deployment_annotations"),
    ]


def annotation(name: str, colour: str, statement: str) -> Json:
    """Events drawn over every time series: ``time``, ``timeEnd``, ``title``, ``text``, ``tags``."""
    return {
        "name": name,
        "enable": True,
        "iconColor": colour,
        "datasource": datasource_ref(),
        "target": target(statement, TABLE, "annotation"),
    }
