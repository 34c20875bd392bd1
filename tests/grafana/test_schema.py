"""The rendered dashboards against the JSON Schema of the types in the package @grafana/schema."""

from __future__ import annotations

import copy
import json

import jsonschema_rs
import pytest

from tests.grafana.conftest import SCHEMA
from tests.support.common import REPOSITORY

pytestmark = pytest.mark.grafana

BOARDS = sorted((REPOSITORY / "dashboards" / "rendered").glob("driftline-*.json"))


@pytest.fixture(scope="module")
def validator():
    return jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))


def faults(validator, board):
    plain = copy.deepcopy(board)
    for annotation in plain["annotations"]["list"]:
        # Typed for Grafana's built-in source of annotations only.
        annotation.pop("target", None)
    return [f"{e.instance_path}: {e.message}" for e in validator.iter_errors(plain)]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_what_grafana_types(validator, path):
    assert faults(validator, json.loads(path.read_text())) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("editable", "no"), ("schemaVersion", "42"), ("tags", "driftline"), ("panels", [{"id": 1}])],
)
def test_a_wrong_dashboard_is_noticed(validator, name, value):
    board = json.loads(BOARDS[0].read_text())
    assert faults(validator, {**board, name: value}) != []


def test_there_are_dashboards():
    assert len(BOARDS) >= 9
