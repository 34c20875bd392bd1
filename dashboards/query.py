"""SQL as the panels need it, and the query objects of Grafana's official ClickHouse plugin.

Tables are named without a database: the data source's default database decides. Macros that start
with ``$__`` are expanded by the plugin; `SELECTED` uses one that only its front end knows, so it
must not appear in alert rules.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from detectors.sketch import GAMMA, ZERO_BIN

Json: TypeAlias = dict[str, Any]

PLUGIN: Final = "grafana-clickhouse-datasource"
PLUGIN_VERSION: Final = "4.20.0"
DATASOURCE_UID: Final = "driftline-ch"
DATASOURCE_NAME: Final = "Driftline ClickHouse"

TABLE: Final = 1
TIME_SERIES: Final = 0


def _selected(variable: str) -> str:
    """Condition on the column of the variable's name.

    Grafana's formats for SQL escape quotes and leave backslashes, which end no string in its
    language but in ClickHouse's. As parameters of a URL values hold neither.
    """
    values = f"splitByChar('&', '${{{variable}:queryparam}}')"
    decoded = f"arrayMap(v -> decodeURLComponent(substring(v, position(v, '=') + 1)), {values})"
    return f"$__conditionalAll({variable} IN {decoded}, ${variable})"


SELECTED_AGENT: Final = _selected("agent")
"""What the variable `agent` lets through, for tables without an environment."""

SELECTED_ENVIRONMENT: Final = _selected("environment")
"""What the variable `environment` lets through."""

SELECTED: Final = f"{SELECTED_ENVIRONMENT} AND {SELECTED_AGENT}"
"""What the variables `environment` and `agent` let through."""

CELL_WIDTH: Final = (
    "multiIf($__fromTime < now() - INTERVAL 29 DAY OR $__toTime - $__fromTime > 259200, 3600, "
    "$__fromTime < now() - INTERVAL 47 HOUR OR $__toTime - $__fromTime > 10800, 60, 10)"
)
"""Width in seconds of the windows to read: the finest that is kept for the range, and fits it."""

CELLS: Final = f"""WITH {CELL_WIDTH} AS width,
    intDiv(greatest($__interval_s, width) + width - 1, width) * width AS bucket"""
"""Head of a query on ``windows``: the ``width`` of its rows and the seconds in a ``bucket``.

A bucket holds whole windows; otherwise neighbours would hold unequal numbers of them and zigzag.
"""

CELL_TIME: Final = "toStartOfInterval(start, toIntervalSecond(bucket)) AS time"

IN_CELLS: Final = f"width_s = width AND $__timeFilter(start) AND {SELECTED}"

INTERACTION_SCOPE: Final = "(scope = 'interaction' OR startsWith(scope, 'interaction:'))"

_CLAUSES: Final = (
    *("SELECT", "FROM", "WHERE", "WITH", "GROUP", "ORDER", "HAVING"),
    *("LEFT", "INNER", "UNION", "LIMIT", "(", ")", "--"),
)

_FIRST: Final = 2 / (GAMMA + 1)
"""Value of bin 0 of the log-histogram."""

_Z: Final = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


def wilson(yes: str, n: str) -> tuple[str, str]:
    """95 % Wilson score interval of a share, as SQL.

    Parameters
    ----------
    yes, n
        Columns: how many count as yes (a sum of numbers in [0, 1] is fine), out of how many.

    Returns
    -------
    low, high : str
        SQL; NULL where ``n`` is 0.

    References
    ----------
    E. B. Wilson: Probable inference, the law of succession, and statistical inference. JASA 22
    (1927).
    """
    z2 = _Z * _Z
    half = f"{_Z} * sqrt({yes} * ({n} - {yes}) / {n} + {z2 / 4})"
    low = f"({yes} + {z2 / 2} - {half}) / ({n} + {z2})"
    high = f"({yes} + {z2 / 2} + {half}) / ({n} + {z2})"
    # Rounding may leave the ends of 0 of n and n of n a hair outside of [0, 1]; greatest() and
    # least() skip NULL, so the case of nothing known stands outside.
    return f"if({n} = 0, NULL, greatest(0, {low}))", f"if({n} = 0, NULL, least(1, {high}))"


def quantile_ms(q: float, histogram: str = "histogram") -> str:
    """Quantile of a log-histogram by the ``lower`` definition, as SQL; NULL when it is empty.

    Parameters
    ----------
    q
        Probability in [0, 1].
    histogram
        SQL of ``sumMap(duration_bins, duration_counts)``: a tuple of bins, ascending, and counts.
    """
    counts = f"{histogram}.2"
    rank = f"floor({q} * (arraySum({counts}) - 1))"
    values = f"arrayMap(b -> if(b = {ZERO_BIN}, 0, {_FIRST} * pow({GAMMA}, b)), {histogram}.1)"
    found = f"arrayFirst((v, c) -> c > {rank}, {values}, arrayCumSum({counts}))"
    return f"if(empty({counts}), NULL, {found})"


def datasource_ref() -> Json:
    """Refer to the data source that the dashboard variable names."""
    return {"type": PLUGIN, "uid": "${datasource}"}


def target(sql: str, form: int, ref_id: str = "A", datasource: Json | None = None) -> Json:
    """One query as the plugin's back end reads it.

    Parameters
    ----------
    sql
        SQL with macros.
    form
        `TABLE` or `TIME_SERIES`. In a time series, string columns become labels.
    ref_id
        Name of the query within its panel or rule.
    datasource
        Reference to the data source; the dashboard variable when not given.
    """
    return {
        "refId": ref_id,
        "datasource": datasource or datasource_ref(),
        "editorType": "sql",
        "queryType": "table" if form == TABLE else "timeseries",
        "format": form,
        "pluginVersion": PLUGIN_VERSION,
        "meta": {"timezone": "UTC"},
        "rawSql": layout(sql),
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


def query_variable(name: str, label: str, sql: str) -> Json:
    """Choose any of the values a query returns, all of them at first."""
    return {
        "name": name,
        "type": "query",
        "label": label,
        "datasource": datasource_ref(),
        "query": {
            "refId": name,
            "queryType": "sql",
            "editorType": "sql",
            "rawSql": layout(sql),
        },
        "definition": layout(sql),
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def annotation(name: str, colour: str, sql: str) -> Json:
    """Events drawn over every time series: ``time``, ``timeEnd``, ``title``, ``text``, ``tags``."""
    return {
        "name": name,
        "enable": True,
        "iconColor": colour,
        "datasource": datasource_ref(),
        "target": target(sql, TABLE, "annotation"),
    }


def layout(sql: str) -> str:
    """Indent SQL by its brackets, so that fragments from different places read as one query."""
    lines: list[str] = []
    depth = 0
    for line in filter(None, map(str.strip, sql.splitlines())):
        closing = len(line) - len(line.lstrip(")"))
        hanging = 0 if not lines or line.startswith(_CLAUSES) else 1
        lines.append(" " * 4 * (depth - closing + hanging) + line)
        depth += line.count("(") - line.count(")")
    return "\n".join(lines)
