"""The oracle itself: it must notice what it is there to notice."""

import copy

import pytest

from dashboards import rules
from dashboards.boards import overview
from tests.support.grafana_schema import dashboard_faults, rule_group_faults


def change(body, path, value):
    changed = copy.deepcopy(body)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("descripton",), "misspelt"),
        (("schemaVersion",), "42"),
        (("panels", 1, "gridPos", "w"), "4"),
        (("panels", 1, "fieldConfig", "defaults", "units"), "ms"),
        (("panels", 1, "options", "reduceOptions", "calc"), []),
        (("panels", 1, "fieldConfig", "defaults", "thresholds", "mode"), "relative"),
        (("templating", "list", 1, "refresh"), 7),
        (("links", 0, "keepTimes"), True),
        (("tags",), "driftline"),
    ],
)
def test_a_wrong_dashboard_is_noticed(path, value):
    assert dashboard_faults(overview.build()) == []
    assert dashboard_faults(change(overview.build(), path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("intervals",), 60),
        (("rules", 0, "noDataState"), "Ok"),
        (("rules", 0, "forr"), "0s"),
        (("rules", 0, "isPaused"), "false"),
        (("rules", 0, "orgID"), "1"),
        (("rules", 0, "labels"), {"team": 1}),
        (("rules", 0, "data", 0, "relativeTimeRange", "until"), 0),
        (("rules", 0, "data", -1, "model", "conditions", 0, "evaluator", "type"), "above"),
        (("rules", 0, "data", -1, "model", "expresion"), "A"),
    ],
)
def test_a_wrong_rule_group_is_noticed(path, value):
    group = rules.rule_groups()[0]
    assert rule_group_faults(group) == []
    assert rule_group_faults(change(group, path, value))
