"""Panels of the classic dashboard JSON (schema version 42), one builder per kind, and their grid.

A builder asks for what a reader needs (title, what it means, unit) and knows the defaults. Ids are
given by hand, because links and alert rules point at them. Queries are names of
`dashboards.queries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dashboards.queries import Rows
from dashboards.query import (
    TABLE,
    TIME_SERIES,
    Json,
    datasource_ref,
    datasource_variable,
    target,
)

SCHEMA_VERSION: Final = 42
GRID_WIDTH: Final = 24

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on (None: from below) a colour counts."""

PLAIN_STEPS: Final[Steps] = ((None, "blue"),)


def dashboard(
    uid: str,
    title: str,
    description: str,
    rows: Iterable[tuple[str, Sequence[Json]]],
    variables: Sequence[Json],
    annotations: Sequence[Json] = (),
    time_from: str = "now-6h",
) -> Json:
    """Whole dashboard; ``rows`` are headings with their panels, in reading order."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["driftline"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 0,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": time_from, "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "title": "Driftline",
                "tags": ["driftline"],
                "icon": "external link",
                "tooltip": "",
                "asDropdown": False,
                "targetBlank": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [datasource_variable(), *variables]},
        "annotations": {"list": list(annotations)},
        "panels": arrange(rows),
    }


def arrange(rows: Iterable[tuple[str, Sequence[Json]]]) -> list[Json]:
    """Put panels side by side until a line of the grid is full; every row starts a new line."""
    placed: list[Json] = []
    y = 0
    for number, (title, panels) in enumerate(rows):
        placed.append(_row(1000 + number, title, y))
        x, y, height = 0, y + 1, 0
        for panel in panels:
            size = panel["gridPos"]
            if x + size["w"] > GRID_WIDTH:
                x, y, height = 0, y + height, 0
            placed.append({**panel, "gridPos": {**size, "x": x, "y": y}})
            x, height = x + size["w"], max(height, size["h"])
        y += height
    return placed


def stat(
    panel_id: int,
    title: str,
    description: str,
    statement: str,
    unit: str,
    steps: Steps,
    *,
    width: int = 4,
    height: int = 4,
    decimals: int | None = None,
    units: Mapping[str, str] | None = None,
    link: Json | None = None,
) -> Json:
    """A few numbers, the first of them coloured; NULL reads "unknown".

    Parameters
    ----------
    panel_id, title, description, statement
        As everywhere.
    unit, steps
        Of every number whose column is not in ``units``.
    width, height
        Size in units of the grid, which is 24 wide.
    decimals
        Digits after the point.
    units
        Unit by column; these are grey.
    link
        Where a click leads, see `link`.
    """
    defaults: Json = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(steps),
        "mappings": [_unknown()],
        "noValue": "unknown",
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    if link is not None:
        defaults["links"] = [link]
    grey = {"mode": "fixed", "fixedColor": "text"}
    overrides = [
        override(
            column, [("unit", kind), ("decimals", 0 if kind == "short" else 1), ("color", grey)]
        )
        for column, kind in (units or {}).items()
    ]
    return {
        **_panel(panel_id, "stat", title, description, width, height),
        "targets": [target(statement, TABLE)],
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": {
            "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "textMode": "auto",
            "orientation": "auto",
            "wideLayout": True,
            "showPercentChange": False,
        },
    }


def timeseries(
    panel_id: int,
    title: str,
    description: str,
    statement: str,
    unit: str,
    *,
    name: str | None = None,
    width: int = 12,
    height: int = 8,
    low: float | None = None,
    high: float | None = None,
    logarithmic: bool = False,
    stacked: bool = False,
    points: bool = False,
    interval: str = "10s",
    steps: Steps = (),
    overrides: Sequence[Json] = (),
    link: Json | None = None,
) -> Json:
    """Lines over time.

    Parameters
    ----------
    panel_id, title, description, statement, unit
        As everywhere; the first column is ``time``, string columns become labels.
    name
        Name of a series, such as ``${__field.labels.agent}``; by default column and labels.
    width, height
        Size in units of the grid, which is 24 wide.
    low, high
        Ends of the axis where the data have natural ones.
    logarithmic
        Logarithmic axis.
    stacked
        Fill and stack the series.
    points
        Draw points only, for values that come now and then.
    interval
        Shortest distance between points.
    steps
        Thresholds, drawn as lines.
    overrides
        Settings of single series, see `override`.
    link
        Where a click leads, see `link`.
    """
    custom: Json = {
        "drawStyle": "points" if points else "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 0,
        "pointSize": 5,
        "showPoints": "always" if points else "auto",
        "spanNulls": False,
        "axisSoftMin": 0,
        "scaleDistribution": {"type": "log", "log": 10} if logarithmic else {"type": "linear"},
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    if logarithmic:
        del custom["axisSoftMin"]
    defaults: Json = {"unit": unit, "custom": custom, "color": {"mode": "palette-classic"}}
    for key, value in (("displayName", name), ("min", low), ("max", high)):
        if value is not None:
            defaults[key] = value
    if steps:
        defaults["thresholds"] = thresholds(steps)
    if link is not None:
        defaults["links"] = [link]
    return {
        **_panel(panel_id, "timeseries", title, description, width, height),
        "interval": interval,
        "targets": [target(statement, TIME_SERIES)],
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": {
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
                "calcs": [],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def table(
    panel_id: int,
    title: str,
    description: str,
    statement: str,
    units: Mapping[str, str],
    *,
    width: int = 24,
    height: int = 8,
    steps: Mapping[str, Steps] | None = None,
    widths: Mapping[str, int] | None = None,
    links: Mapping[str, Json] | None = None,
    rows: dict[str, Rows] | None = None,
) -> Json:
    """Rows and columns; NULL reads "unknown".

    Parameters
    ----------
    panel_id, title, description, statement
        As everywhere.
    units
        Unit of each column that has one.
    width, height
        Size in units of the grid, which is 24 wide.
    steps
        Thresholds by column; they colour the text.
    widths
        Widths of columns in pixels, where the text is long.
    links
        Where a click on a column leads, see `link`.
    rows
        Tables that the statement needs from the program.
    """
    settings: dict[str, list[tuple[str, object]]] = {}
    for column, unit in units.items():
        settings.setdefault(column, []).append(("unit", unit))
    for column, limits in (steps or {}).items():
        settings.setdefault(column, []).extend(
            [
                ("thresholds", thresholds(limits)),
                ("custom.cellOptions", {"type": "color-text"}),
            ]
        )
    for column, pixels in (widths or {}).items():
        settings.setdefault(column, []).append(("custom.width", pixels))
    for column, led in (links or {}).items():
        settings.setdefault(column, []).append(("links", [led]))
    return {
        **_panel(panel_id, "table", title, description, width, height),
        "targets": [target(statement, TABLE, rows=rows)],
        "fieldConfig": {
            "defaults": {
                "unit": "none",
                "mappings": [_unknown()],
                "custom": {"align": "auto", "filterable": True, "inspect": False},
            },
            "overrides": [override(column, found) for column, found in settings.items()],
        },
        "options": {"showHeader": True, "cellHeight": "sm"},
    }


def alert_list(
    panel_id: int, title: str, description: str, labels: str, *, width: int = 8, height: int = 8
) -> Json:
    """List firing and pending instances of Grafana's own alert rules that carry ``labels``."""
    panel = _panel(panel_id, "alertlist", title, description, width, height)
    del panel["datasource"]  # it asks Grafana, not ClickHouse
    return {
        **panel,
        "options": {
            "viewMode": "list",
            "groupMode": "default",
            "groupBy": [],
            "maxItems": 20,
            "sortOrder": 3,
            "dashboardAlerts": False,
            "alertName": "",
            "alertInstanceLabelFilter": labels,
            "showInstances": True,
            "stateFilter": {
                "firing": True,
                "pending": True,
                "noData": True,
                "normal": False,
                "error": True,
                "recovering": True,
            },
        },
    }


def link(title: str, board: str, /, keep: Sequence[str] = (), **variables: str) -> Json:
    """Lead to a dashboard for the same time range.

    Parameters
    ----------
    title
        What the reader finds there.
    board
        Uid of the dashboard.
    keep
        Variables that keep their choice.
    variables
        Values of others: a fixed text, ``.column`` of the row, or ``@label`` of the series.
    """
    parts = ["${__url_time_range}", *(f"${{{name}:queryparam}}" for name in keep)]
    for name, value in variables.items():
        source = {".": "__data.fields", "@": "__field.labels"}.get(value[0])
        found = f"${{{source}.{value[1:]}:percentencode}}" if source else value
        parts.append(f"var-{name}={found}")
    return {"title": title, "url": f"/d/{board}?{'&'.join(parts)}"}


def override(column: str, settings: Iterable[tuple[str, object]]) -> Json:
    """Set something for one column or series, named exactly."""
    return {
        "matcher": {"id": "byName", "options": column},
        "properties": [{"id": key, "value": value} for key, value in settings],
    }


def thresholds(steps: Steps) -> Json:
    """Colours from the lowest value up."""
    return {"mode": "absolute", "steps": [{"value": v, "color": c} for v, c in steps]}


def _unknown() -> Json:
    return {
        "type": "special",
        "options": {"match": "null+nan", "result": {"text": "unknown", "index": 0}},
    }


def _panel(panel_id: int, kind: str, title: str, description: str, width: int, height: int) -> Json:
    return {
        "id": panel_id,
        "type": kind,
        "title": title,
        "description": description,
        "datasource": datasource_ref(),
        "gridPos": {"w": width, "h": height},
    }


def _row(panel_id: int, title: str, y: int) -> Json:
    return {
        "id": panel_id,
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"w": GRID_WIDTH, "h": 1, "x": 0, "y": y},
    }
