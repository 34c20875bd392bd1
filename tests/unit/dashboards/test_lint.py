"""What every dashboard and rule owes, whatever it shows."""

import itertools
import json
import re

import pytest
from grafana_foundation_sdk.models import units

from dashboards import publisher, rules
from dashboards.boards import incidents, overview, pipeline
from dashboards.query import DATASOURCE_UID, PLUGIN, layout
from tests.support.grafana_macros import FRONT_END_ONLY
from tests.support.grafana_schema import dashboard_faults, rule_group_faults

DASHBOARDS = {board["uid"]: board for board in publisher.dashboards()}
RULES = [rule for group in rules.rule_groups() for rule in group["rules"]]
PANELS = [
    pytest.param(panel, id=f"{uid}:{panel['id']}")
    for uid, board in DASHBOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
# Every table is replaced row by row, so it must be read with FINAL; not so views, which do it
# themselves, a table that is only appended to, and one of which only keys are read.
NOT_FINAL = {"heartbeats", "interactions", "current_evaluations", "interaction_cells"}
KNOWN_UNITS = {value for name, value in vars(units).items() if name[0].isupper()}


def queries(board: dict) -> list[tuple[str, str]]:
    found = [
        (f"panel {panel['id']}", target["rawSql"])
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]
    variables = board["templating"]["list"]
    found += [(v["name"], v["query"]["rawSql"]) for v in variables if v["type"] == "query"]
    return found + [(a["name"], a["target"]["rawSql"]) for a in board["annotations"]["list"]]


QUERIES = [
    pytest.param(sql, id=f"{uid}:{name}")
    for uid, board in DASHBOARDS.items()
    for name, sql in queries(board)
] + [pytest.param(rule["data"][0]["model"]["rawSql"], id=rule["uid"]) for rule in RULES]


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS.keys())
class TestDashboard:
    def test_is_valid_in_grafanas_schema(self, board):
        assert dashboard_faults(board) == []

    def test_is_complete_and_locked(self, board):
        assert board["schemaVersion"] == 42
        assert board["editable"] is False
        assert board["description"].endswith((".", "?"))
        assert re.fullmatch(r"[a-z-]{1,40}", board["uid"])
        assert "id" not in board

    def test_ids_are_unique(self, board):
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        titles = [panel["title"] for panel in board["panels"]]
        assert len(set(titles)) == len(titles)

    def test_panels_stand_inside_the_grid_and_apart(self, board):
        taken = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            assert at["x"] >= 0 and at["w"] > 0 and at["x"] + at["w"] <= 24
            cells = set(
                itertools.product(
                    range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
                )
            )
            assert not cells & taken, panel["title"]
            taken |= cells

    def test_has_a_variable_for_the_data_source_and_uses_it(self, board):
        source, *others = board["templating"]["list"]
        assert (source["name"], source["type"], source["query"]) == (
            "datasource",
            "datasource",
            PLUGIN,
        )
        assert source["current"]["value"] == DATASOURCE_UID
        references = [p["datasource"] for p in board["panels"] if "datasource" in p]
        references += [t["datasource"] for p in board["panels"] for t in p.get("targets", [])]
        references += [v["datasource"] for v in others]
        references += [a["datasource"] for a in board["annotations"]["list"]]
        assert all(r == {"type": PLUGIN, "uid": "${datasource}"} for r in references)

    def test_variables_follow_the_time_range(self, board):
        for variable in board["templating"]["list"][1:]:
            assert variable["refresh"] == 2
            assert variable["includeAll"] and variable["multi"]

    def test_uses_only_variables_it_has(self, board):
        names = {v["name"] for v in board["templating"]["list"]}
        text = "\n".join(sql for _, sql in queries(board))
        used = set(re.findall(r"\$\{(\w+)", text)) | set(re.findall(r"\$(?!__)(\w+)", text))
        assert used <= names


@pytest.mark.parametrize("panel", PANELS)
class TestPanel:
    def test_says_what_it_shows(self, panel):
        assert panel["title"]
        assert len(panel["description"]) > 30
        assert panel["description"].endswith(".")

    def test_has_a_query_and_a_known_unit(self, panel):
        if panel["type"] == "alertlist":
            assert "source=" in panel["options"]["alertInstanceLabelFilter"]
            return
        names = [target["refId"] for target in panel["targets"]]
        assert names
        assert len(set(names)) == len(names)
        used = [panel["fieldConfig"]["defaults"]["unit"]]
        used += [
            setting["value"]
            for override in panel["fieldConfig"]["overrides"]
            for setting in override["properties"]
            if setting["id"] == "unit"
        ]
        assert set(used) <= KNOWN_UNITS

    def test_colours_only_by_thresholds_that_rise(self, panel):
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if panel["type"] == "stat":
            assert "thresholds" in defaults
        found = [defaults["thresholds"]] if "thresholds" in defaults else []
        found += [
            setting["value"]
            for override in panel.get("fieldConfig", {}).get("overrides", [])
            for setting in override["properties"]
            if setting["id"] == "thresholds"
        ]
        for limits in found:
            first, *others = [step["value"] for step in limits["steps"]]
            assert first is None
            assert others == sorted(others)

    def test_format_fits_the_kind_of_panel(self, panel):
        for target in panel.get("targets", []):
            series = panel["type"] == "timeseries"
            assert target["format"] == (0 if series else 1)
            assert target["queryType"] == ("timeseries" if series else "table")


@pytest.mark.parametrize("sql", QUERIES)
class TestQuery:
    def test_is_bounded_in_time(self, sql):
        assert "$__timeFilter(" in sql or ("$__fromTime" in sql or "$__toTime" in sql)

    def test_reads_each_row_once(self, sql):
        tables = re.findall(r"\b(?:FROM|JOIN) ([a-z_]+)\b( FINAL)?", sql)
        assert tables
        for name, final in tables:
            assert bool(final) == (name not in NOT_FINAL), name

    def test_names_no_database(self, sql):
        assert not re.search(r"\b(?:FROM|JOIN) \w+\.\w+", sql)

    def test_is_laid_out(self, sql):
        assert layout(sql) == sql
        assert "  FROM" not in sql.split("\n")[0]


class TestRules:
    def test_groups_are_valid_in_grafanas_schema(self):
        for group in rules.rule_groups():
            assert rule_group_faults(group) == []
            assert group["interval"] == 60

    def test_no_macro_of_the_front_end(self):
        for rule in RULES:
            sql = rule["data"][0]["model"]["rawSql"]
            assert not [macro for macro in FRONT_END_ONLY if macro in sql]

    def test_uids_are_unique(self):
        uids = [rule["uid"] for rule in RULES]
        assert len(set(uids)) == len(uids)

    def test_tells_what_to_do(self):
        for rule in RULES:
            assert rule["annotations"]["runbook"].startswith("1. ")
            assert "$labels." in rule["annotations"]["summary"]
            assert rule["labels"]["source"] == "driftline"

    def test_links_lead_somewhere(self):
        for rule in RULES:
            notes = rule["annotations"]
            panels = {p["id"]: p for p in DASHBOARDS[notes["__dashboardUid__"]]["panels"]}
            if "__panelId__" in notes:
                assert panels[int(notes["__panelId__"])]["type"] == "timeseries"

    def test_keeping_state_on_errors_comes_with_a_rule_that_fires_on_errors(self):
        states = {rule["execErrState"] for rule in RULES}
        assert "KeepLast" in states
        assert any(r["execErrState"] == r["noDataState"] == "Alerting" for r in RULES)

    def test_staleness_allows_three_heartbeats(self):
        from processors.stations import detection

        assert incidents.STALE_MINUTES * 60 >= 3 * detection._HEARTBEAT_NS / 1e9


class TestRendered:
    def test_is_up_to_date(self):
        assert publisher.check() == [], "run `driftline dashboards render` and commit"

    def test_holds_every_object(self):
        names = set(publisher.rendered())
        assert names == {
            f"{overview.UID}.json",
            f"{pipeline.UID}.json",
            "rules-detectors.json",
            "rules-deadman.json",
        }

    def test_check_notices_every_kind_of_difference(self, tmp_path):
        assert len(publisher.check(tmp_path)) == 4
        assert len(publisher.render(tmp_path)) == 4
        assert publisher.check(tmp_path) == []
        assert publisher.render(tmp_path) == []
        edited = tmp_path / "driftline-overview.json"
        edited.write_text(edited.read_text().replace("Success rate", "Success"))
        (tmp_path / "old.json").write_text("{}")
        assert publisher.check(tmp_path) == [edited, tmp_path / "old.json"]
        assert set(publisher.render(tmp_path)) == {edited, tmp_path / "old.json"}
        assert not (tmp_path / "old.json").exists()
        assert json.loads(edited.read_text()) == DASHBOARDS["driftline-overview"]
