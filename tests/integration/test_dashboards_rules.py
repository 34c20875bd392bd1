"""The alert rules as Grafana evaluates them, on a real engine.

`evaluate` models what Grafana does between the query and the alert instances: a table with exactly
one numeric column, whose string columns are labels; a threshold; one instance per row.
"""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from dashboards import rules
from infra.schema.migrate import migrate
from tests.conftest import ClickHouse
from tests.integration import dashboard_data
from tests.support.grafana_macros import back_end

NUMERIC = re.compile(r"(Nullable\()?(U?Int\d+|Float\d+|Decimal.*?)\)?")
TEXTUAL = re.compile(
    r"(LowCardinality\()?(String|Enum8?\d*\(.*\)|FixedString\(\d+\)|IPv[46])\)?", re.DOTALL
)


@pytest.fixture
def owner(clickhouse):
    with clickhouse.client() as client:
        yield client


@pytest.fixture
def reader(clickhouse):
    with clickhouse.client("reader") as client:
        yield client


def now():
    """A moment that the rule's range, which ends at a whole second, already contains."""
    return datetime.now(UTC) - timedelta(seconds=1)


class QueryFailed(Exception):
    """Grafana would put the rule into its state for errors."""


def evaluate(rule, client):
    """Return {labels: (value, firing)} as the instances of the rule."""
    by_name = {query["refId"]: query for query in rule["data"]}
    threshold = by_name[rule["condition"]]["model"]
    query = by_name[threshold["expression"]]
    end = datetime.now(UTC)
    span = query["relativeTimeRange"]
    sql = back_end(
        query["model"]["rawSql"],
        end - timedelta(seconds=span["from"]),
        end - timedelta(seconds=span["to"]),
    )
    result = client.query(sql)
    kinds = [kind.name for kind in result.column_types]
    numbers = [at for at, kind in enumerate(kinds) if NUMERIC.fullmatch(kind)]
    labels = [at for at, kind in enumerate(kinds) if TEXTUAL.fullmatch(kind)]
    if len(numbers) != 1 or len(numbers) + len(labels) != len(kinds):
        raise QueryFailed(f"must be one number and labels, not {kinds}")
    instances = {}
    for row in result.result_rows:
        key = tuple((result.column_names[at], row[at]) for at in labels)
        if key in instances:
            raise QueryFailed(f"two rows with the labels {key}")
        evaluator = threshold["conditions"][0]["evaluator"]
        assert evaluator["type"] == "gt"
        value = row[numbers[0]]
        instances[key] = (value, value > evaluator["params"][0])
    return instances


def by_label(instances, name):
    return {dict(labels)[name]: outcome for labels, outcome in instances.items()}


def alert(**changes):
    """A row of ``alert_events`` of this moment."""
    event = {"key": "k", "agent": "a", "status": "firing", "ago": 0, "score": 50.0, "since": 30}
    return dashboard_data.alert(now(), **{**event, **changes})


class TestDetectors:
    def test_no_alerts_are_no_rows(self, reader):
        """An empty table is healthy: the rule's state for no data is OK."""
        assert evaluate(rules.detectors(), reader) == {}
        assert rules.detectors()["noDataState"] == "OK"

    def test_a_fresh_alert_fires_with_its_score(self, owner, reader):
        dashboard_data.insert(owner, "alert_events", [alert(key="k1", agent="o'brien")])
        (instance,) = evaluate(rules.detectors(), reader).items()
        labels, (value, firing) = instance
        assert dict(labels) == {
            "alert_key": "k1",
            "kind": "failure_rate",
            "agent": "o'brien",
            "severity": "critical",
        }
        assert (value, firing) == (50.0, True)

    @pytest.mark.parametrize(
        ("events", "value", "firing"),
        [
            # entry, then heartbeats
            ([("firing", 20, 50.0), ("firing", 10, 60.0), ("firing", 5, 70.0)], 70.0, True),
            # the last heartbeat is almost, and just, too old
            ([("firing", 14.8, 50.0)], 50.0, True),
            ([("firing", 15.1, 50.0)], 0.0, False),
            ([("firing", 2800, 50.0)], 0.0, False),
            # resolved, and firing again
            ([("firing", 9, 50.0), ("resolved", 3, 0.0)], 0.0, False),
            ([("firing", 9, 50.0), ("resolved", 6, 0.0), ("firing", 1, 80.0)], 80.0, True),
            # a score of 0 is still an alert; so is one of a resolved event not
            ([("firing", 1, 0.0)], 1e-9, True),
            ([("firing", 9, 50.0), ("resolved", 3, 50.0)], 0.0, False),
            # older than the rule looks back
            ([("firing", 2881, 50.0)], None, None),
        ],
    )
    def test_the_latest_event_decides(self, owner, reader, events, value, firing):
        rows = [alert(status=status, ago=ago, score=score) for status, ago, score in events]
        dashboard_data.insert(owner, "alert_events", list(reversed(rows)))
        instances = list(evaluate(rules.detectors(), reader).values())
        assert instances == ([] if value is None else [(value, firing)])

    def test_a_repeated_event_changes_nothing(self, owner, reader):
        rows = [alert(status="firing", ago=9), alert(status="resolved", ago=3, score=0.0)]
        for _ in range(3):
            dashboard_data.insert(owner, "alert_events", rows)
        assert list(evaluate(rules.detectors(), reader).values()) == [(0.0, False)]

    def test_an_escalation_leaves_one_instance_per_alert(self, owner, reader):
        rows = [{**alert(ago=9), "severity": "warning"}, alert(ago=3)]
        dashboard_data.insert(owner, "alert_events", rows)
        (labels,) = evaluate(rules.detectors(), reader)
        assert dict(labels)["severity"] == "critical"

    def test_many_alerts_are_as_many_instances(self, owner, reader):
        rows = [
            alert(key=f"k{n}", status="firing" if n % 2 else "resolved", ago=n % 14)
            for n in range(40)
        ]
        dashboard_data.insert(owner, "alert_events", rows)
        found = by_label(evaluate(rules.detectors(), reader), "alert_key")
        assert len(found) == 40
        assert {key for key, (_, firing) in found.items() if firing} == {
            f"k{n}" for n in range(1, 40, 2)
        }

    def test_the_store_being_away_keeps_the_last_state(self):
        assert rules.detectors()["execErrState"] == "KeepLast"


class TestDeadman:
    def beat(self, owner, component, ago):
        row = {"component": component, "instance": "i", "detail": ""}
        dashboard_data.insert(owner, "heartbeats", [{**row, "ts": now() - timedelta(seconds=ago)}])

    def test_a_component_that_never_spoke_fires(self, owner, reader):
        self.beat(owner, "processors", 0)
        rule = rules.deadman(["processors", "it's\\new"])
        found = by_label(evaluate(rule, reader), "component")
        assert found["it's\\new"] == (86400.0, True)
        assert found["processors"][1] is False

    def test_one_that_stopped_an_hour_ago_still_fires(self, owner, reader):
        self.beat(owner, "processors", 3700)
        found = by_label(evaluate(rules.deadman(["processors"]), reader), "component")
        assert found == {"processors": (86400.0, True)}

    @pytest.mark.parametrize(("ago", "firing"), [(2, False), (290, False), (305, True)])
    def test_after_five_minutes(self, owner, reader, ago, firing):
        for older in (ago + 60, ago, ago + 30):
            self.beat(owner, "processors", older)
        ((value, found),) = evaluate(rules.deadman(["processors"]), reader).values()
        assert found is firing
        assert ago <= value < ago + 9

    def test_several_instances_are_one_component(self, owner, reader):
        """The rule is about the work being done, whoever does it."""
        self.beat(owner, "processors", 4)
        row = {"component": "processors", "instance": "gone", "detail": ""}
        dashboard_data.insert(owner, "heartbeats", [{**row, "ts": now() - timedelta(seconds=900)}])
        assert [f for _, f in evaluate(rules.deadman(["processors"]), reader).values()] == [False]

    def test_one_that_nobody_expects_is_ignored(self, owner, reader):
        self.beat(owner, "processors", 4)
        self.beat(owner, "trial", 900)
        assert len(evaluate(rules.deadman(["processors"]), reader)) == 1

    def test_fires_when_nothing_can_be_read(self):
        rule = rules.deadman()
        assert (rule["noDataState"], rule["execErrState"]) == ("Alerting", "Alerting")


class TestEvaluator:
    """The model itself refuses what Grafana refuses."""

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT 'a' AS label",
            "SELECT 'a' AS label, 1 AS x, 2.0 AS y",
            "SELECT 'a' AS label, 1 AS x, now() AS time",
            "SELECT 'a' AS label, true AS x",
            "SELECT 'a' AS label, 1 AS x, [1] AS list",
            "SELECT 'a' AS label, toFloat64(number) AS x FROM numbers(2)",
        ],
    )
    def test_refuses(self, reader, sql):
        rule = rules.detectors()
        rule["data"][0]["model"]["rawSql"] = sql
        with pytest.raises(QueryFailed):
            evaluate(rule, reader)


def test_migrations_have_the_tables_of_the_rules(_clickhouse_port):
    """A database without tables is an error and no empty answer, so that the deadman fires."""
    empty = ClickHouse(_clickhouse_port, f"empty_{uuid.uuid4().hex[:8]}")
    with ClickHouse(_clickhouse_port, "default").client() as client:
        client.command(f"CREATE DATABASE {empty.database}")
        try:
            with empty.client("reader") as reader:
                for rule in (rules.detectors(), rules.deadman()):
                    with pytest.raises(Exception, match="UNKNOWN_TABLE"):
                        evaluate(rule, reader)
            migrate(client, empty.database)
            with empty.client("reader") as reader:
                assert evaluate(rules.detectors(), reader) == {}
        finally:
            client.command(f"DROP DATABASE {empty.database} SYNC")
