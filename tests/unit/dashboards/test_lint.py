"""What every dashboard and rule owes, whatever it shows."""

import itertools
import json
import re

import pytest
from grafana_foundation_sdk.models import units

from dashboards import publisher, queries, rules
from dashboards.query import DATASOURCE_UID, PLUGIN
from dashboards.slo import DEFAULT
from tests.support.grafana_macros import FRONT_END_ONLY
from tests.support.grafana_schema import dashboard_faults, rule_group_faults

DASHBOARDS = {board["uid"]: board for board in publisher.dashboards()}
GROUPS = rules.rule_groups(slos=DEFAULT)
RULES = [rule for group in GROUPS for rule in group["rules"]]
PANELS = [
    pytest.param(panel, id=f"{uid}:{panel['id']}")
    for uid, board in DASHBOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
# Every table is replaced row by row, so it must be read with FINAL; not so views, which do it
# themselves, a table that is only appended to, and those of which only keys or extremes are read.
NOT_FINAL = {
    "heartbeats", "interactions", "sessions", "current_evaluations", "interaction_index",
    "session_index", "collisions", "parts", "latest", "recent", "both", "evaluations", "ledger",
    "decisions", "foreign_evaluations",
}  # fmt: skip
KNOWN_UNITS = {value for name, value in vars(units).items() if name[0].isupper()}


def queries_of(board: dict) -> list[tuple[str, str]]:
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
    for name, sql in queries_of(board)
] + [
    pytest.param(query["model"]["rawSql"], id=f"{rule['uid']}:{query['refId']}")
    for rule in RULES
    for query in rule["data"][:-1]
]


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
        references += [v["datasource"] for v in others if v["type"] == "query"]
        references += [a["datasource"] for a in board["annotations"]["list"]]
        assert all(r == {"type": PLUGIN, "uid": "${datasource}"} for r in references)

    def test_variables_follow_the_time_range(self, board):
        for variable in board["templating"]["list"][1:]:
            if variable["type"] == "query":
                assert variable["refresh"] == 2
            if variable["type"] != "textbox":
                assert variable["includeAll"] and variable["multi"]

    def test_uses_only_variables_it_has(self, board):
        names = {v["name"] for v in board["templating"]["list"]}
        text = "\n".join(sql for _, sql in queries_of(board))
        text += json.dumps(board["panels"])
        used = set(re.findall(r"\$\{(?!__)(\w+)", text)) | set(re.findall(r"\$(?!__)(\w+)", text))
        assert used <= names

    def test_marks_incidents_and_deployments(self, board):
        names = [annotation["name"] for annotation in board["annotations"]["list"]]
        assert names == (
            [] if board["uid"] == "driftline-pipeline" else ["Incidents", "Deployments"]
        )


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
        by_id = ("session_index", "interaction_index")
        assert "$__fromTime" in sql or "$__toTime" in sql or any(name in sql for name in by_id)

    def test_reads_each_row_once(self, sql):
        tables = re.findall(r"\b(?:FROM|JOIN) ([a-z_]+)\b(?!\.)(?: AS \w+)?( FINAL)?", sql)
        assert tables or "system.parts" in sql
        for name, final in tables:
            assert bool(final) or name in NOT_FINAL or name == "events", name

    def test_names_no_database(self, sql):
        assert not re.search(r"\b(?:FROM|JOIN) (?!system\.)\w+\.\w+", sql)

    def test_quotes_no_variable_but_percent_encoded(self, sql):
        """Grafana's own quoting of strings leaves backslashes alone, which ends a literal early."""
        formats = set(re.findall(r"\$\{\w+:(\w+)\}", sql))
        assert formats <= {"queryparam", "percentencode"}
        assert not re.search(r"\$\{\w+\}", sql)


class TestQueries:
    def test_every_panel_shows_a_named_statement(self):
        for board in DASHBOARDS.values():
            for sql in publisher.statements_of(board):
                assert queries.name_of(sql) or "arrayJoin([tuple(" in sql

    def test_every_statement_is_used(self):
        """A statement that nothing renders is dead."""
        shown = {
            queries.name_of(s) for b in DASHBOARDS.values() for s in publisher.statements_of(b)
        }
        ruled = {name for rule in rules.all_rules(slos=DEFAULT) for name in rule.statements}
        commands = {
            "report.units", "report.scopes", "report.unpriced_models", "report.attainment",
            "sessions.session", "sessions.events", "sessions.evaluations",
        }  # fmt: skip
        fragments = {name for name in queries.statements() if name.startswith("fragments.")}
        assert set(queries.statements()) == (shown - {None}) | ruled | commands | fragments
        text = "".join(queries.statements().values())
        assert {name for name in fragments if f"{{{name.split('.')[1]}:sql}}" not in text} == set()

    def test_one_interval_and_one_histogram(self):
        """The constants of SQL are those of Python."""
        from detectors.sketch import GAMMA, ZERO_BIN

        text = queries.statements()["fragments.quantile"]
        assert f"pow({GAMMA!r}" in text
        assert f"= {ZERO_BIN}" in text

    def test_a_rule_knows_no_variables(self):
        assert "$agent" not in queries.render("agents.success_now", rule=True).sql
        with pytest.raises(KeyError):
            queries.render("sessions.turns", rule=True)


class TestRules:
    def test_groups_are_valid_in_grafanas_schema(self):
        for group in GROUPS:
            assert rule_group_faults(group) == []
            assert group["interval"] == 60

    def test_no_macro_of_the_front_end(self):
        for rule in RULES:
            for query in rule["data"][:-1]:
                sql = query["model"]["rawSql"]
                assert not [macro for macro in FRONT_END_ONLY if macro in sql]

    def test_uids_are_unique(self):
        uids = [rule["uid"] for rule in RULES]
        assert len(set(uids)) == len(uids)

    def test_tells_what_to_do(self):
        for rule in RULES:
            assert rule["annotations"]["runbook"].startswith("1. ")
            assert "$labels." in rule["annotations"]["summary"]
            assert rule["labels"]["source"] == "driftline"
            assert rule["labels"]["severity"] in ("page", "notice")
            assert "runbook_url" not in rule["annotations"]
        linked = rules.rule_groups(runbook="https://example.org/runbook")[0]["rules"][0]
        assert linked["annotations"]["runbook_url"].endswith("/runbook#driftline-finding-page")

    def test_texts_use_labels_and_numbers_that_the_rule_has(self):
        for rule in rules.all_rules(slos=DEFAULT):
            body = rules.body(rule)
            text = " ".join(body["annotations"].values())
            names = {query["refId"] for query in body["data"]}
            assert set(re.findall(r"\$values\.(\w+)", text)) <= names
            sql = body["data"][0]["model"]["rawSql"]
            for label in re.findall(r"\$labels\.(\w+)", text):
                assert re.search(rf"\b{label}\b", sql), (rule.uid, label)

    def test_hysteresis_lies_below_the_threshold(self):
        for rule in rules.all_rules(slos=DEFAULT):
            assert rule.unload is None or rule.unload < rule.above

    def test_provisioning_file_says_the_same(self):
        written = rules.provisioning_file(slos=DEFAULT)
        assert written["apiVersion"] == 1
        for group, wanted in zip(written["groups"], GROUPS, strict=True):
            assert (group["name"], group["interval"]) == (wanted["title"], "60s")
            for rule, body in zip(group["rules"], wanted["rules"], strict=True):
                assert rule.pop("keepFiringFor") == body["keep_firing_for"]
                resolve = rule.pop("missing_series_evals_to_resolve")
                assert resolve == body["missingSeriesEvalsToResolve"]
                assert rule == {k: v for k, v in body.items() if k in rule}
                # Grafana replaces variables everywhere but in these two.
                del rule["annotations"], rule["data"]
                assert "$" not in json.dumps(rule)

    def test_links_lead_somewhere(self):
        for rule in RULES:
            notes = rule["annotations"]
            panels = {p["id"]: p for p in DASHBOARDS[notes["__dashboardUid__"]]["panels"]}
            if "__panelId__" in notes:
                assert panels[int(notes["__panelId__"])]["type"] == "timeseries", rule["uid"]

    def test_keeping_state_on_errors_comes_with_a_rule_that_fires_on_errors(self):
        states = {rule["execErrState"] for rule in RULES}
        assert "KeepLast" in states
        assert any(r["execErrState"] == r["noDataState"] == "Alerting" for r in RULES)


class TestRendered:
    def test_is_up_to_date(self):
        assert publisher.check() == [], "run `driftline dashboards render` and commit"

    def test_holds_every_object(self):
        names = {name.removesuffix(".json") for name in publisher.rendered()}
        groups = {f"rules-{group['title']}" for group in GROUPS}
        assert names == {*DASHBOARDS, *groups, "provisioning-alerting"}

    def test_check_notices_every_kind_of_difference(self, tmp_path):
        n = len(publisher.rendered())
        assert len(publisher.check(tmp_path)) == n
        assert len(publisher.render(tmp_path)) == n
        assert publisher.check(tmp_path) == []
        assert publisher.render(tmp_path) == []
        edited = tmp_path / "driftline-overview.json"
        edited.write_text(edited.read_text().replace("Success rate", "Success"))
        (tmp_path / "old.json").write_text("{}")
        assert publisher.check(tmp_path) == [edited, tmp_path / "old.json"]
        assert set(publisher.render(tmp_path)) == {edited, tmp_path / "old.json"}
        assert not (tmp_path / "old.json").exists()
        assert json.loads(edited.read_text()) == DASHBOARDS["driftline-overview"]
