"""Every query that Grafana sends, through clickhouse-go, the driver of its ClickHouse plugin."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta

import pytest

from dashboards import publisher, rules
from dashboards.slo import DEFAULT
from tests.grafana.conftest import DRIVER
from tests.integration import dashboard_data
from tests.integration.test_dashboards_sql import (
    EVERYTHING,
    HOSTILE,
    database,
    is_number,
    is_time,
)
from tests.support.grafana_macros import back_end, front_end

pytestmark = pytest.mark.grafana
__all__ = ["database"]

BOARDS = publisher.dashboards()
QUERIES = {
    f"{board['uid']}:{name}": sql
    for board in BOARDS
    for name, sql in [
        *((f"{p['id']}:{t['refId']}", t["rawSql"]) for p in board["panels"]
          for t in p.get("targets", [])),
        *((v["name"], v["query"]["rawSql"]) for v in board["templating"]["list"]
          if v["type"] == "query"),
        *((a["name"], a["target"]["rawSql"]) for a in board["annotations"]["list"]),
    ]
}  # fmt: skip
RULES = {
    f"{rule['uid']}:{query['refId']}": query["model"]["rawSql"]
    for group in rules.rule_groups(slos=DEFAULT)
    for rule in group["rules"]
    for query in rule["data"]
    if "rawSql" in query["model"]
}
SERIES = {
    f"{board['uid']}:{panel['id']}:{target['refId']}"
    for board in BOARDS
    for panel in board["panels"]
    for target in panel.get("targets", [])
    if target["format"] == 0
}


def run(database, asked):
    """Answers of the driver by name; it speaks as the reader that Grafana is."""
    made = database.made
    lines = "".join(json.dumps({"name": name, "sql": sql}) + "\n" for name, sql in asked.items())
    done = subprocess.run(
        [str(DRIVER), made.url.removeprefix("http://"), made.database, "reader"],
        input=lines, capture_output=True, text=True, check=True, timeout=600,
        env={**os.environ, "CLICKHOUSE_PASSWORD": made.reader_password},
    )  # fmt: skip
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


def sent(database, sql, variables=EVERYTHING):
    start = database.now - timedelta(hours=dashboard_data.HOURS)
    return back_end(front_end(sql, variables), start, database.now)


def test_every_query_of_every_dashboard_answers(database):
    found = run(database, {name: sent(database, sql) for name, sql in QUERIES.items()})
    assert {name: a["error"] for name, a in found.items() if a.get("error")} == {}
    assert set(found) == set(QUERIES)
    assert sum(answer["rows"] > 0 for answer in found.values()) > 0.7 * len(found)
    for name in SERIES:
        kinds = [column["type"] for column in found[name]["columns"]]
        assert is_time(kinds[0]), name
        assert any(map(is_number, kinds)), name


def test_every_query_of_every_rule_answers(database):
    found = run(database, {name: sent(database, sql) for name, sql in RULES.items()})
    assert {name: a["error"] for name, a in found.items() if a.get("error")} == {}
    assert len(found) == len(RULES) >= 6
    for name, answer in found.items():
        assert any(is_number(column["type"]) for column in answer["columns"]), name


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_agent_is_nobody(database, hostile):
    name = "driftline-overview:10:A"
    found = run(database, {name: sent(database, QUERIES[name], {**EVERYTHING, "agent": [hostile]})})
    assert found[name].get("error") is None
    assert found[name]["rows"] == 0


def test_an_error_is_told_as_the_servers(database):
    found = run(database, {"wrong": "SELECT 1 FROM nowhere", "empty": "SELECT 1 WHERE 0"})
    assert "UNKNOWN_TABLE" in found["wrong"]["error"]
    assert "error" not in found["empty"]
    assert [column["type"] for column in found["empty"]["columns"]] == ["UInt8"]
