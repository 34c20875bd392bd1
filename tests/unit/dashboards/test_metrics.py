"""The numbers of `driftline metrics` without a database: intervals, selections, objectives."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dashboards import slo
from dashboards.agent_report import Selection, unit, wilson
from infra.commands.report import seconds
from ingest.core.errors import UsageError

OBJECTIVE = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: support-success, labels: {environment: production}}
spec:
  service: support
  timeWindow: [{duration: 7d, isRolling: true}]
  objectives: [{target: 0.95}]
"""


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(drawn):
    yes, n = drawn
    expected = stats.binomtest(yes, n).proportion_ci(method="wilson")
    low, high = wilson(yes, n)
    assert low == pytest.approx(expected.low, abs=1e-7)
    assert high == pytest.approx(expected.high, abs=1e-7)


def test_what_is_not_known_is_null_and_not_zero():
    empty = unit(None)
    assert empty["success"] == {"yes": 0, "known": 0, "rate": None, "low": None, "high": None}
    assert empty["duration_ms"] == dict.fromkeys(("mean", "p50", "p95", "p99"))
    assert empty["cost_usd"] == {"sum": None, "mean": None, "n": 0}
    assert empty["satisfaction"] == {
        "explicit": {"mean": None, "n": 0},
        "estimated": {"mean": None, "n": 0, "coverage": None},
    }


def test_estimates_say_how_much_they_cover():
    known = unit({**_row(), "n": 10, "estimate": 1.0, "estimated": 4, "covered": 2.5})
    assert known["satisfaction"]["estimated"] == {"mean": 0.75, "n": 4, "coverage": 0.25}


def _row():
    from dashboards.agent_report import _EMPTY

    return dict(_EMPTY)


def test_a_selection_begins_with_a_whole_rollup():
    recent = int(time.time()) - 3_601
    assert Selection(since=recent).begins == recent // 60 * 60
    old = recent - 40 * 86_400  # minutes are no longer kept
    assert Selection(since=old).begins == old // 3600 * 3600
    assert Selection().beginning is None
    assert Selection().before(recent) is None


def test_the_period_before_is_as_long():
    now = int(time.time())
    chosen = Selection("a", now - 3_600, "production")
    before = chosen.before(now)
    assert (before.agent, before.environment) == ("a", "production")
    assert before.until == chosen.begins - 1
    assert chosen.begins - before.since == now - chosen.begins


@pytest.mark.parametrize("age", ["", "5", "h", "5x", "1m5h", "-5m", "0s"])
def test_a_span_that_is_none(age):
    with pytest.raises(UsageError, match="as in 7d, 5h45m or 90s"):
        seconds(age)


class TestObjectives:
    def read(self, tmp_path, text):
        (tmp_path / "slo.yaml").write_text(text)
        return slo.read(tmp_path / "slo.yaml")

    def test_reads_openslo(self, tmp_path):
        other = OBJECTIVE.replace("support-success", "other").replace("  service: support\n", "")
        assert self.read(tmp_path, f"{OBJECTIVE}---{other}") == (
            slo.Slo("support-success", 0.95, 7, "support", "production"),
            slo.Slo("other", 0.95, 7, "", "production"),
        )

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("openslo/v1", "openslo/v2"),
            ("kind: SLO", "kind: Service"),
            ("0.95", "1"),
            ("0.95", "{}"),
            ("7d", "1M"),
            ("support-success", "Support success"),
            ("  service", "  indicator: {}\n  service"),
            ("objectives: [{target: 0.95}]", "objectives: []"),
            ("metadata:", "meta:"),
            ("kind: SLO", "kind: ["),
            (OBJECTIVE, ""),
            (OBJECTIVE, f"{OBJECTIVE}---{OBJECTIVE}"),
            (OBJECTIVE, "just words"),
        ],
    )
    def test_refuses_what_it_does_not_know(self, tmp_path, old, new):
        with pytest.raises(UsageError, match=r"slo\.yaml"):
            self.read(tmp_path, OBJECTIVE.replace(old, new))

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(UsageError, match="cannot read objectives"):
            slo.read(tmp_path / "none.yaml")
