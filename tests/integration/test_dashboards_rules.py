"""The alert rules as Grafana evaluates them, on a real engine.

`evaluate` models what Grafana does between the query and the alert instances: a table with exactly
one numeric column, whose string columns are labels; a threshold; one instance per row; numbers for
texts matched by labels.
"""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from dashboards import rules, slo
from infra.schema.migrate import migrate
from tests.conftest import ClickHouse
from tests.support import results
from tests.support.grafana_macros import back_end

NUMERIC = re.compile(r"(Nullable\()?(U?Int\d+|Float\d+|Decimal.*?)\)?")
TEXTUAL = re.compile(
    r"(LowCardinality\()?(String|Enum8?\d*\(.*\)|FixedString\(\d+\)|IPv[46])\)?", re.DOTALL
)
RULES = {
    rule["uid"]: rule
    for group in rules.rule_groups(["processors", "it's\\new $x"], [slo.Slo("s", 0.9, agent="b")])
    for rule in group["rules"]
}


@pytest.fixture
def owner(clickhouse):
    with clickhouse.client() as client:
        yield client


@pytest.fixture
def reader(clickhouse):
    with clickhouse.client("reader") as client:
        yield client


def ago(**parts):
    """A moment that the rule's range, which ends at a whole second, already contains."""
    return datetime.now(UTC) - timedelta(seconds=1) - timedelta(**parts)


class QueryFailed(Exception):
    """Grafana would put the rule into its state for errors."""


def numbers(query, client):
    """Return {labels: number} of one query of a rule."""
    end, span = datetime.now(UTC), query["relativeTimeRange"]
    sql = back_end(query["model"]["rawSql"], end - timedelta(seconds=span["from"]), end)
    result = client.query(sql)
    kinds = [kind.name for kind in result.column_types]
    values = [at for at, kind in enumerate(kinds) if NUMERIC.fullmatch(kind)]
    labels = [at for at, kind in enumerate(kinds) if TEXTUAL.fullmatch(kind)]
    if len(values) != 1 or len(values) + len(labels) != len(kinds):
        raise QueryFailed(f"must be one number and labels, not {kinds}")
    instances = {}
    for row in result.result_rows:
        key = tuple((result.column_names[at], row[at]) for at in labels)
        if key in instances:
            raise QueryFailed(f"two rows with the labels {key}")
        instances[key] = row[values[0]]
    return instances


def evaluate(rule, client):
    """Return [(labels, value, firing, numbers for texts)] as the instances of the rule."""
    by_name = {query["refId"]: query for query in rule["data"]}
    threshold = by_name.pop(rule["condition"])["model"]
    found = {name: numbers(query, client) for name, query in by_name.items()}
    (limit,) = threshold["conditions"][0]["evaluator"]["params"]
    instances = []
    for key, value in found.pop(threshold["expression"]).items():
        beside = {
            name: number
            for name, others in found.items()
            for other, number in others.items()
            if set(other) <= set(key)
        }
        instances.append((dict(key), value, value > limit, beside))
    return instances


def finding(name, **changes):
    return {
        "finding_id": name, "version": 1, "kind": "failure_rate_up", "environment": "production",
        "agent": "o'brien", "status": "open", "severity": "critical", "began": ago(minutes=30),
        "found": ago(minutes=20), "ended": None, "e_value": 12345.6, "baseline": 0.01,
        "observed": 0.271, "n": 90, "title": "t",
        "evidence": '[{"reason": "http_503", "tool": "search", "template": "x", "since": 13}]',
    } | changes  # fmt: skip


class TestFindings:
    PAGE, NOTICE = RULES["driftline-finding-page"], RULES["driftline-finding-notice"]

    def test_no_findings_are_no_rows(self, reader):
        """An empty table is healthy: the rule's state for no data is OK."""
        assert evaluate(self.PAGE, reader) == []
        assert (self.PAGE["noDataState"], self.PAGE["execErrState"]) == ("OK", "KeepLast")

    def test_an_open_finding_fires_and_says_what_on_call_needs(self, owner, reader):
        results.insert(owner, "findings", [finding("f1")])
        ((labels, _, firing, beside),) = evaluate(self.PAGE, reader)
        assert firing
        assert labels["finding_id"] == "f1"
        assert (labels["agent"], labels["environment"]) == ("o'brien", "production")
        assert labels["cause"] == "http_503 in search"
        assert labels["since"] == finding("f1")["began"].strftime("%Y-%m-%d %H:%M")
        assert beside == {"baseline": 0.01, "observed": 0.271, "n": 90, "e_value": 12345.6}

    def test_an_update_of_its_numbers_is_the_same_alert(self, owner, reader):
        began = ago(minutes=30)
        results.insert(owner, "findings", [finding("f1", began=began)])
        ((before, *_),) = evaluate(self.PAGE, reader)
        grown = finding("f1", version=2, began=began, observed=0.4, n=400, e_value=1e9, title="u")
        results.insert(owner, "findings", [grown])
        ((after, _, firing, beside),) = evaluate(self.PAGE, reader)
        assert (after, firing) == (before, True)
        assert beside["n"] == 400

    def test_severities_go_to_their_rule(self, owner, reader):
        severities = ("critical", "page", "warning", "notice", "info")
        results.insert(owner, "findings", [finding(s, severity=s) for s in severities])
        for rule, wanted in ((self.PAGE, {"critical", "page"}), (self.NOTICE, set(severities[2:]))):
            assert {labels["finding_id"] for labels, *_ in evaluate(rule, reader)} == wanted
        assert (self.PAGE["labels"]["severity"], self.NOTICE["labels"]["severity"]) == (
            "page",
            "notice",
        )

    @pytest.mark.parametrize(
        ("status", "ended", "firing"),
        [
            ("acknowledged", None, True),
            ("regressed", None, True),
            ("recovered", 5, False),
            ("resolved", 5, False),
            ("resolved", 2900, None),
        ],
    )
    def test_one_that_ended_resolves_by_evaluation(self, owner, reader, status, ended, firing):
        ended = None if ended is None else ago(minutes=ended)
        results.insert(owner, "findings", [finding("f1")])
        results.insert(owner, "findings", [finding("f1", version=2, status=status, ended=ended)])
        found = [fires for _, _, fires, _ in evaluate(self.PAGE, reader)]
        assert found == ([] if firing is None else [firing])

    def test_without_evidence_the_cause_is_not_known(self, owner, reader):
        results.insert(owner, "findings", [finding("f1", evidence="[]")])
        ((labels, *_),) = evaluate(self.PAGE, reader)
        assert labels["cause"] == "not known"


class TestBurn:
    """Objective 90 %: a tenth may fail; 1 h at 14.4 times that, or 6 h at 6 times, pages."""

    PAGE = RULES["driftline-slo-page"]

    def put(self, owner, failing):
        """Insert 6 h with an interaction per minute and agent, failing where ``failing`` says."""
        rows = []
        for minute in range(360):
            for agent in ("a", "b"):
                reason = ("timeout", "", "") if failing(minute) else ("", "", "")
                end = ago(minutes=minute)
                name = f"{agent}{minute}"
                rows.append(
                    results.interaction(
                        minute, end, interaction_id=name, agent=agent, reason=reason
                    )
                )
        results.fill(owner, rows)

    def values(self, owner, reader, failing):
        self.put(owner, failing)
        return {labels["agent"]: value for labels, value, *_ in evaluate(self.PAGE, reader)}

    def test_windows_and_factors(self):
        factors = [row[6] for row in slo.burn_rows([slo.Slo("s", 0.99)], "page")]
        assert factors == pytest.approx([14.4, 6])
        factors = [row[6] for row in slo.burn_rows([slo.Slo("s", 0.99)], "notice")]
        assert factors == pytest.approx([3, 1])

    def test_only_the_agent_of_the_objective(self, owner, reader):
        assert self.values(owner, reader, lambda _: False) == {"b": 0}

    def test_all_failing_for_six_hours(self, owner, reader):
        # burn rate 10: 10 / 14.4 and 10 / 6
        assert self.values(owner, reader, lambda _: True) == {"b": pytest.approx(10 / 6)}

    def test_over_since_an_hour(self, owner, reader):
        """The short window ends the alert although the long one still burns."""
        assert self.values(owner, reader, lambda minute: minute > 40) == {"b": 0}

    def test_few_interactions_say_nothing(self, owner, reader):
        reason = ("timeout", "", "")
        rows = [results.interaction(n, ago(minutes=n), agent="b", reason=reason) for n in range(49)]
        results.fill(owner, rows)
        ((_, value, firing, _),) = evaluate(self.PAGE, reader)
        assert (value, firing) == (0, False)


class TestDeadman:
    RULE = RULES["driftline-deadman"]

    def beat(self, owner, component, seconds):
        row = {"component": component, "instance": "i", "detail": "", "ts": ago(seconds=seconds)}
        results.insert(owner, "heartbeats", [row])

    def found(self, reader):
        instances = evaluate(self.RULE, reader)
        return {labels["component"]: (value, fires) for labels, value, fires, _ in instances}

    def test_a_component_that_never_spoke_fires(self, owner, reader):
        self.beat(owner, "processors", 0)
        found = self.found(reader)
        assert found["it's\\new $x"] == (86400.0, True)
        assert found["processors"][1] is False

    @pytest.mark.parametrize(
        ("seconds", "firing"), [(2, False), (290, False), (305, True), (3700, True)]
    )
    def test_after_five_minutes(self, owner, reader, seconds, firing):
        for older in (seconds + 60, seconds, seconds + 30):
            self.beat(owner, "processors", older)
        assert self.found(reader)["processors"][1] is firing

    def test_whatever_spoke_within_six_hours_is_missed(self, owner, reader):
        self.beat(owner, "gateway", 900)
        self.beat(owner, "receiver", 30)
        self.beat(owner, "taken away", 7 * 3600)
        found = self.found(reader)
        assert found["gateway"][1] is True
        assert found["receiver"][1] is False
        assert "taken away" not in found

    def test_senders_that_were_never_quiet_are_missed(self, owner, reader):
        """Lines in nearly every minute of six hours, then none: the gateway is away."""
        for topic, quiet in (("steady", 0), ("gone", 10), ("rare", 10)):
            step = 5 if topic == "rare" else 1
            rows = [
                {"log_id": "l", "topic": topic, "partition": 0, "offset": n, "lines": 1,
                 "rows": 1, "ingested": ago(minutes=quiet + n)}
                for n in range(0, 350 - quiet, step)
            ]  # fmt: skip
            results.insert(owner, "ledger", rows)
        found = self.found(reader)
        assert found["senders of gone"][1] is True
        assert found["senders of steady"][1] is False
        assert "senders of rare" not in found

    def test_fires_when_nothing_can_be_read(self):
        assert (self.RULE["noDataState"], self.RULE["execErrState"]) == ("Alerting", "Alerting")

    def test_a_quiet_agent(self, owner, reader):
        rows = []
        for agent, quiet in (("busy", 0), ("quiet", 45)):
            for n in range(1200 - quiet):
                end = ago(minutes=quiet + n)
                rows.append(results.interaction(n, end, agent=agent, interaction_id=f"{agent}{n}"))
        rows += [results.interaction(9999, ago(hours=9), agent="rare")]
        results.fill(owner, rows)
        instances = evaluate(RULES["driftline-quiet-agent"], reader)
        assert {labels["agent"]: fires for labels, _, fires, _ in instances} == {
            "busy": False,
            "quiet": True,
        }


class TestPipeline:
    RULE = RULES["driftline-pipeline"]

    def signs(self, reader):
        instances = evaluate(self.RULE, reader)
        return {labels["sign"] for labels, _, fires, _ in instances if fires}

    def test_healthy(self, reader):
        assert self.signs(reader) == set()

    def test_each_sign(self, owner, reader):
        books = {"log_id": "l", "topic": "t", "partition": 0, "rows": 90}
        results.insert(
            owner,
            "ledger",
            [
                books | {"offset": n, "lines": 100, "dead_lettered": 10, "ingested": ago(minutes=9)}
                for n in (1, 2, 4)
            ],
        )
        results.insert(
            owner,
            "watermarks",
            [{"log_id": "l", "topic": "t", "partition": 0, "watermark": ago(), "offset": 5,
              "lag": 200_000, "updated": ago()}],
        )  # fmt: skip
        results.insert(
            owner,
            "station_progress",
            [{"station": "s", "bucket": "0", "position": ago(hours=1), "version": 1}],
        )
        assert self.signs(reader) == {
            "dead letters, share of lines", "records waiting", "stations behind, s",
            "records missing in the books",
        }  # fmt: skip


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
        query = rules.rule_groups()[0]["rules"][0]["data"][0]
        query["model"]["rawSql"] = sql
        with pytest.raises(QueryFailed):
            numbers(query, reader)


def test_a_database_without_tables_is_an_error_and_no_empty_answer(_clickhouse_port):
    empty = ClickHouse(_clickhouse_port, f"empty_{uuid.uuid4().hex[:8]}")
    with ClickHouse(_clickhouse_port, "default").client() as client:
        client.command(f"CREATE DATABASE {empty.database}")
        try:
            with empty.client("reader") as reader:
                for rule in RULES.values():
                    with pytest.raises(Exception, match="UNKNOWN_TABLE"):
                        evaluate(rule, reader)
            migrate(client, empty.database)
            with empty.client("reader") as reader:
                for rule in RULES.values():
                    evaluate(rule, reader)
        finally:
            client.command(f"DROP DATABASE {empty.database} SYNC")
