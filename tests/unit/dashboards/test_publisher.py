"""Publishing into the fake Grafana: what is sent, in which order, and what is said about it."""

import copy
import dataclasses
import json

import pytest

from dashboards import publisher
from dashboards.grafana import (
    DataSourceConfig,
    GrafanaConfig,
    GrafanaRejected,
    MemoryGrafana,
)
from dashboards.publisher import publish
from dashboards.query import PLUGIN
from dashboards.slo import Slo
from ingest.core.errors import UsageError
from tests.support.fake_grafana import TOKEN, serve

BOARDS = [
    f"driftline-{name}"
    for name in (
        "overview", "agent", "sessions", "incidents", "failures", "versions", "evaluators", "cost",
        "pipeline",
    )
]  # fmt: skip
GROUPS = ["findings", "deadman", "pipeline"]
EVERYTHING = [
    ("folder", "driftline"),
    ("data source", "driftline-ch"),
    *(("dashboard", uid) for uid in BOARDS),
    *(("rule group", f"driftline/{title}") for title in GROUPS),
]
WRITES = [
    "POST /api/folders",
    "POST /api/datasources",
    *("POST /api/dashboards/db" for _ in BOARDS),
    *(f"PUT /api/v1/provisioning/folder/driftline/rule-groups/{title}" for title in GROUPS),
]


@pytest.fixture
def fake():
    with serve() as grafana:
        yield grafana


def config(fake, **changes):
    source = DataSourceConfig(host="clickhouse", user="grafana_reader", password="hidden")
    return GrafanaConfig(**{"url": fake.url, "token": TOKEN, "datasource": source, **changes})


def actions(outcome):
    return [change.action for change in outcome.changes]


def test_an_empty_grafana_gets_everything_in_order(fake):
    outcome = publish(config(fake))
    assert [(c.kind, c.uid) for c in outcome.changes] == EVERYTHING
    assert actions(outcome) == ["created"] * len(EVERYTHING)
    assert fake.writes == WRITES
    assert outcome.version == "13.0.0"
    assert (outcome.works, outcome.data_source) == (True, "Data source is working")
    assert fake.requests[-1].path == "/api/datasources/uid/driftline-ch/health"


def test_the_data_source_is_what_the_plugin_reads(fake):
    publish(config(fake))
    source = fake.data_sources["driftline-ch"]
    assert source["type"] == PLUGIN
    assert source["jsonData"] == {
        "host": "clickhouse",
        "port": 8123,
        "protocol": "http",
        "secure": False,
        "username": "grafana_reader",
        "defaultDatabase": "driftline",
        "dialTimeout": "10",
        "queryTimeout": "60",
        "validateSql": True,
        "version": "4.20.0",
    }
    assert fake.passwords["driftline-ch"] == "hidden"
    assert "hidden" not in json.dumps(fake.data_sources)


def test_the_second_time_nothing_changes(fake):
    publish(config(fake))
    before = len(fake.writes)
    outcome = publish(config(fake))
    assert actions(outcome) == ["unchanged"] * len(EVERYTHING)
    # Whether the password is still the same cannot be seen, so it goes there again, and is said.
    assert fake.writes[before:] == ["PUT /api/datasources/uid/driftline-ch"]
    assert [c.kind for c in outcome.changes if c.detail] == ["data source"]


def test_without_a_password_the_second_time_writes_nothing(fake):
    plain = config(fake, datasource=DataSourceConfig(user="default"))
    publish(plain)
    before = len(fake.writes)
    assert actions(publish(plain)) == ["unchanged"] * len(EVERYTHING)
    assert fake.writes[before:] == []


def test_a_dry_run_only_looks(fake):
    outcome = publish(config(fake), dry_run=True)
    assert actions(outcome) == ["created"] * len(EVERYTHING)
    assert fake.writes == []
    assert (outcome.works, outcome.data_source) == (None, "")
    publish(config(fake))
    before = len(fake.writes)
    renamed = dataclasses.replace(config(fake), folder="Agents")
    assert actions(publish(renamed, dry_run=True)) == [
        "updated",
        *["unchanged"] * (len(EVERYTHING) - 1),
    ]
    assert fake.writes[before:] == []


def test_what_was_changed_by_hand_is_put_right(fake):
    publish(config(fake))
    fake.folders["driftline"]["title"] = "Renamed"
    fake.data_sources["driftline-ch"]["jsonData"]["host"] = "elsewhere"
    fake.dashboards["driftline-overview"]["dashboard"]["panels"].pop()
    fake.dashboards["driftline-pipeline"]["meta"]["folderUid"] = ""
    fake.groups["driftline", "findings"]["rules"][0]["isPaused"] = True
    del fake.groups["driftline", "deadman"]
    outcome = publish(config(fake))
    changed = {c.uid: c.action for c in outcome.changes if c.action != "unchanged"}
    assert changed == {
        "driftline": "updated",
        "driftline-ch": "updated",
        "driftline-overview": "updated",
        "driftline-pipeline": "updated",
        "driftline/findings": "updated",
        "driftline/deadman": "created",
    }
    assert actions(publish(config(fake))) == ["unchanged"] * len(EVERYTHING)
    assert fake.folders["driftline"]["title"] == "Driftline"
    assert fake.dashboards["driftline-pipeline"]["meta"]["folderUid"] == "driftline"
    assert fake.groups["driftline", "findings"]["rules"][0]["isPaused"] is False


def test_deleted_objects_come_back_and_foreign_ones_stay(fake):
    publish(config(fake))
    del fake.dashboards["driftline-cost"]
    ours = copy.deepcopy(fake.dashboards["driftline-agent"])
    ours["dashboard"] |= {"uid": "team-own", "title": "Of the team"}
    fake.dashboards["team-own"] = ours
    theirs = {"title": "team", "folderUid": "driftline", "interval": 60, "rules": []}
    fake.groups["driftline", "team"] = theirs
    before, written = copy.deepcopy((ours, theirs)), len(fake.writes)
    changed = {c.uid: c.action for c in publish(config(fake)).changes if c.action != "unchanged"}
    assert changed == {"driftline-cost": "created"}
    assert (fake.dashboards["team-own"], fake.groups["driftline", "team"]) == before
    assert not any("team" in write for write in fake.writes[written:])


def test_a_default_data_source_stays_the_default(fake):
    publish(config(fake))
    fake.data_sources["driftline-ch"]["isDefault"] = True
    publish(config(fake))
    assert fake.data_sources["driftline-ch"]["isDefault"] is True


def test_a_changed_password_arrives(fake):
    publish(config(fake))
    publish(config(fake, datasource=DataSourceConfig(password="newer")))
    assert fake.passwords["driftline-ch"] == "newer"


def test_objectives_come_with_rules_and_on_the_overview(fake):
    publish(config(fake), slos=[Slo("mine", 0.99)])
    assert [r["uid"] for r in fake.groups["driftline", "slo-burn"]["rules"]] == [
        "driftline-slo-page",
        "driftline-slo-notice",
    ]
    assert "'mine'" in json.dumps(fake.dashboards["driftline-overview"])


def test_expected_components_are_those_of_the_deployment(fake):
    publish(config(fake), components=["sink", "it's"])
    sql = fake.groups["driftline", "deadman"]["rules"][0]["data"][0]["model"]["rawSql"]
    assert r"[tuple('sink'), tuple('it\'s')]" in sql
    with pytest.raises(ValueError, match="at least one"):
        publish(config(fake), components=[])


def test_a_wrong_token_changes_nothing(fake):
    with pytest.raises(GrafanaRejected, match="does not accept the token"):
        publish(config(fake, token="glsa_wrong"))
    assert fake.writes == []


def test_a_missing_plugin_is_named_before_anything_changes(fake):
    fake.plugins.clear()
    with pytest.raises(GrafanaRejected, match=f"lacks the plugin {PLUGIN}: run"):
        publish(config(fake))
    assert fake.writes == []


def test_a_missing_permission_is_told(fake):
    fake.permissions = False
    with pytest.raises(GrafanaRejected, match="403 You'll need additional permissions"):
        publish(config(fake))


def test_a_clickhouse_out_of_reach_is_told_after_publishing(fake):
    fake.clickhouse_works = False
    outcome = publish(config(fake))
    assert outcome.works is False
    assert "400 dial tcp: connection refused" in outcome.data_source
    assert actions(outcome) == ["created"] * len(EVERYTHING)
    assert fake.writes == WRITES


@pytest.mark.parametrize("version", ["11.5.9", "10.4.0", "9.0.0-beta1"])
def test_an_old_grafana_is_refused(version):
    grafana = MemoryGrafana(version=version)
    with pytest.raises(UsageError, match=f"version {version}.*11.6 or newer"):
        publish(GrafanaConfig(), grafana=grafana)
    assert grafana.saved == []


@pytest.mark.parametrize("version", ["11.6.0", "12.1.0+security-01", "13.3.0", "", "main"])
def test_a_new_or_silent_grafana_will_do(version):
    outcome = publish(GrafanaConfig(), grafana=MemoryGrafana(version=version))
    assert outcome.version == version


@pytest.mark.parametrize(
    ("current", "wanted", "holds"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, True),
        ({"a": None}, {"a": None}, True),
        ({}, {"a": None}, False),
        ({"a": False}, {"a": 0}, True),
        ("x", {"a": 1}, False),
        ({"a": {}}, {"a": []}, False),
        ({"version": 9}, {"version": 0}, True),
        ({"version": "4.19.0"}, {"version": "4.20.0"}, False),
    ],
)
def test_comparison_allows_for_what_grafana_adds(current, wanted, holds):
    assert publisher._contains(current, wanted) is holds
