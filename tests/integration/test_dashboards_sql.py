"""Every query of the dashboards on a real engine, as the reader that Grafana is."""

import itertools
import math
import uuid
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from dashboards import agent_report, publisher
from dashboards.query import quantile_ms, wilson
from detectors import sketch
from detectors.failures.fingerprint import fingerprint
from infra.schema.migrate import migrate
from processors.clickhouse import ClickHouseConfig, Store
from tests.conftest import ClickHouse
from tests.integration import dashboard_data
from tests.support.grafana_macros import ALL, back_end, front_end

BOARDS = {board["uid"]: board for board in publisher.dashboards()}
PANELS = {p["id"]: p for board in BOARDS.values() for p in board["panels"] if p["type"] != "row"}
EVERYTHING = {"environment": ALL, "agent": ALL}
CHOICES = {
    "all": EVERYTHING,
    "some": {"environment": ["production"], "agent": ["booking", dashboard_data.QUOTED]},
}
STRINGS = ("String", "LowCardinality(String)", "Enum")
NUMBERS = ("UInt", "Int", "Float", "Decimal")


@pytest.fixture(scope="module")
def database(_clickhouse_port):
    now = datetime.now(UTC).replace(microsecond=0)
    made = ClickHouse(_clickhouse_port, f"dashboards_{uuid.uuid4().hex[:8]}")
    with ClickHouse(_clickhouse_port, "default").client() as client:
        migrate(client, made.database)
        with made.client() as owner:
            traffic = dashboard_data.traffic(now)
            dashboard_data.fill(owner, traffic)
            dashboard_data.fill_monitor(owner, now)
        with made.client("reader") as reader:
            yield SimpleNamespace(reader=reader, traffic=traffic, now=now, made=made)
        client.command(f"DROP DATABASE {made.database} SYNC")


def ask(database, sql, variables=EVERYTHING, start=None, end=None, interval_s=60):
    start = start or database.now - timedelta(hours=1)
    return database.reader.query(
        back_end(front_end(sql, variables), start, end or database.now, interval_s)
    )


def rows(database, panel_id, variables=EVERYTHING, **when):
    (target,) = PANELS[panel_id]["targets"]
    return list(ask(database, target["rawSql"], variables, **when).named_results())


def plain(kind):
    return kind.removeprefix("Nullable(").removesuffix(")") if kind.startswith("Null") else kind


def is_number(kind):
    return plain(kind).startswith(NUMBERS)


def is_string(kind):
    return plain(kind).startswith(STRINGS)


def is_time(kind):
    return plain(kind).startswith("DateTime")


def check_share(row, yes, n):
    interval = stats.binomtest(int(yes), n).proportion_ci(method="wilson")
    assert (row["succeeded"], row["judged"]) == (yes, n)
    assert row["success_rate"] == pytest.approx(yes / n, rel=1e-12)
    assert row["low"] == pytest.approx(interval.low, rel=1e-9)
    assert row["high"] == pytest.approx(interval.high, rel=1e-9)


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
@pytest.mark.parametrize(
    "panel", [p for p in PANELS.values() if "targets" in p], ids=lambda p: p["id"]
)
def test_columns_fit_the_panel(database, panel, choice):
    (target,) = panel["targets"]
    result = ask(database, target["rawSql"], choice)
    names, kinds = result.column_names, [t.name for t in result.column_types]
    assert result.row_count > 0
    assert len(set(names)) == len(names)
    # An array, a map or a bool cannot be drawn.
    assert all(is_number(k) or is_string(k) or is_time(k) for k in kinds)
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["options"] in names
    if panel["type"] == "timeseries":
        assert names[0] == "time"
        assert plain(kinds[0]) in ("DateTime", "DateTime('UTC')")
        assert any(map(is_number, kinds[1:]))
        assert not any(map(is_time, kinds[1:]))
        times = [row[0] for row in result.result_rows]
        assert times == sorted(times)
        labels = [n for n, k in zip(names, kinds, strict=True) if is_string(k)]
        keyed = [tuple(row[n] for n in ("time", *labels)) for row in result.named_results()]
        assert len(set(keyed)) == len(keyed)
        shown = panel["fieldConfig"]["defaults"].get("displayName", "")
        assert shown in ("", *(f"${{__field.labels.{label}}}" for label in labels))
    if panel["type"] == "stat":
        assert result.row_count == 1
        assert [is_number(k) for k in kinds] == [True]


@pytest.mark.parametrize(
    "panel", [p for p in PANELS.values() if "targets" in p], ids=lambda p: p["id"]
)
def test_an_empty_time_range_is_no_error(database, panel):
    long_ago = {"start": datetime(2001, 1, 1, tzinfo=UTC), "end": datetime(2001, 1, 2, tzinfo=UTC)}
    (target,) = panel["targets"]
    result = ask(database, target["rawSql"], **long_ago)
    if panel["type"] != "stat":
        assert result.row_count == 0
    else:
        counts = ("Interactions", "Lines", "Firing alerts")
        wanted = 0 if panel["title"] in counts else None
        assert [row[0] for row in result.result_rows] in ([wanted], [] if wanted is None else [0])


class TestVariables:
    def values(self, database, name, variables):
        (variable,) = (
            v for v in BOARDS["driftline-overview"]["templating"]["list"] if v["name"] == name
        )
        result = ask(database, variable["query"]["rawSql"], variables)
        assert len(result.column_names) == 1
        return [row[0] for row in result.result_rows]

    def test_environments(self, database):
        assert self.values(database, "environment", EVERYTHING) == ["production", "staging"]

    def test_agents_of_the_chosen_environments(self, database):
        assert self.values(database, "agent", EVERYTHING) == [
            "booking",
            dashboard_data.QUOTED,
            "search",
        ]
        chosen = {"environment": ["staging"], "agent": ALL}
        assert self.values(database, "agent", chosen) == ["search"]


class TestSuccess:
    def test_table_with_n_and_interval(self, database):
        made, groups = database.traffic, defaultdict(list)
        for i in made.interactions:
            groups[i.environment, i.agent, i.version].append(i)
        found = {(r["environment"], r["agent"], r["agent_version"]): r for r in rows(database, 10)}
        assert found.keys() == groups.keys()
        for key, group in groups.items():
            row, success = found[key], [made.success(i.id, i.status) for i in group]
            judged = [s for s in success if s is not None]
            check_share(row, sum(judged), len(judged))
            assert row["interactions"] == len(group)
            assert row["open"] == len(group) - len(judged)
            assert row["mean_duration"] == pytest.approx(np.mean([i.duration_ms for i in group]))
            costs = [i.cost for i in group if i.cost is not None]
            assert row["priced"] == len(costs)
            wanted = pytest.approx(np.mean(costs)) if costs else None
            assert row["mean_cost"] == wanted
        assert {r["mean_cost"] is None for r in found.values()} == {True, False}
        assert any(r["open"] for r in found.values())

    def test_sessions(self, database):
        made, sessions = database.traffic, defaultdict(list)
        for i in made.interactions:
            sessions[i.session].append(i)
        groups = defaultdict(list)
        for name, parts in sessions.items():
            first, last = min(parts, key=lambda i: i.end), max(parts, key=lambda i: i.end)
            earliest = min(parts, key=lambda i: i.end - timedelta(milliseconds=i.duration_ms))
            assert first.agent == last.agent
            rating = made.rating(name, *(i.id for i in parts))
            groups[earliest.environment, earliest.agent, earliest.version].append(
                (made.success(name, last.status), rating)
            )
        found = {(r["environment"], r["agent"], r["agent_version"]): r for r in rows(database, 14)}
        assert found.keys() == groups.keys()
        for key, group in groups.items():
            row = found[key]
            judged = [success for success, _ in group if success is not None]
            rated = [rating for _, rating in group if rating is not None]
            assert row["sessions"] == len(group)
            check_share(row, sum(judged), len(judged))
            assert row["rated"] == len(rated)
            assert row["coverage"] == pytest.approx(len(rated) / len(group))
            assert row["satisfaction"] == pytest.approx(np.mean(rated))

    def test_the_command_line_says_the_same(self, database):
        store = Store(
            ClickHouseConfig(
                url=database.made.url,
                user="reader",
                password=database.made.reader_password,
                database=database.made.database,
            )
        )
        told = {
            (entry["environment"], entry["agent"], entry["agent_version"] or ""): entry
            for entry in agent_report.collect(store)
            if entry["scope"] == "all"
        }
        for panel, unit, n in ((10, "interactions", "interactions"), (14, "sessions", "sessions")):
            shown = rows(database, panel)
            assert len(shown) == len(told)
            for row in shown:
                entry = told[row["environment"], row["agent"], row["agent_version"]][unit]
                success = entry["success"]
                assert row[n] == entry["n"]
                assert (row["succeeded"], row["judged"]) == (success["yes"], success["known"])
                assert row["success_rate"] == pytest.approx(success["rate"])
                assert row["low"] == pytest.approx(success["low"], rel=1e-6)
                assert row["high"] == pytest.approx(success["high"], rel=1e-6)
                explicit = entry["satisfaction"]["explicit"]
                if unit == "sessions":
                    assert row["rated"] == explicit["n"]
                    assert row["satisfaction"] == pytest.approx(explicit["mean"])
                else:
                    assert row["mean_cost"] == pytest.approx(entry["cost_usd"]["mean"])
                    assert row["mean_duration"] == pytest.approx(entry["duration_ms"]["mean"])
        for row in rows(database, 50):
            entry = told[row["environment"], row["agent"], row["agent_version"]]["interactions"]
            explicit = entry["satisfaction"]["explicit"]
            assert (row["rated"], row["satisfaction"]) == (
                explicit["n"],
                pytest.approx(explicit["mean"]),
            )

    def test_selection(self, database):
        chosen = CHOICES["some"]
        wanted = [
            i
            for i in database.traffic.interactions
            if i.environment == "production" and i.agent in chosen["agent"]
        ]
        assert rows(database, 2, chosen) == [{"interactions": len(wanted)}]
        assert len(wanted) < len(database.traffic.interactions)
        success = [database.traffic.success(i.id, i.status) for i in wanted]
        share = np.mean([s for s in success if s is not None])
        assert rows(database, 1, chosen) == [{"success": pytest.approx(share)}]

    def test_over_time_adds_up(self, database):
        # Within a bucket the share is one of the bucket's own n.
        series = rows(database, 12, interval_s=600)
        wanted = defaultdict(list)
        for i in database.traffic.interactions:
            at = int(i.end.timestamp()) // 600 * 600
            success = database.traffic.success(i.id, i.status)
            if success is not None:
                wanted[datetime.fromtimestamp(at, UTC), i.agent].append(success)
        found = {(r["time"].replace(tzinfo=UTC), r["agent"]): r["success_rate"] for r in series}
        assert {k: v for k, v in found.items() if v is not None} == pytest.approx(
            {k: np.mean(v) for k, v in wanted.items()}
        )

    def test_band_holds_the_share(self, database):
        for row in rows(database, 11):
            if row["success"] is not None:
                assert 0 <= row["low"] <= row["success"] <= row["high"] <= 1
            else:
                assert row["low"] is None
                assert row["high"] is None

    def test_traffic_is_per_minute(self, database):
        for interval in (60, 300):
            found = rows(database, 13, interval_s=interval)
            total = sum(r["interactions"] for r in found) * interval / 60
            assert total == pytest.approx(len(database.traffic.interactions))


class TestLatency:
    def test_percentiles_are_exact_to_one_percent(self, database):
        durations = [i.duration_ms for i in database.traffic.interactions]
        (row,) = rows(database, 3)
        assert row["p95"] == pytest.approx(np.percentile(durations, 95, method="lower"), rel=0.01)

    def test_series_merge_the_cells(self, database):
        groups, by_agent = defaultdict(list), defaultdict(list)
        for i in database.traffic.interactions:
            at = datetime.fromtimestamp(int(i.end.timestamp()) // 300 * 300, UTC)
            groups[at].append(i.duration_ms)
            by_agent[at, i.agent].append(i.duration_ms)
        found = {r["time"].replace(tzinfo=UTC): r for r in rows(database, 20, interval_s=300)}
        assert found.keys() == groups.keys()
        for at, sample in groups.items():
            for name, q in (("p50", 50), ("p95", 95), ("p99", 99)):
                exact = np.percentile(sample, q, method="lower")
                assert found[at][name] == pytest.approx(exact, rel=0.01)
        series = rows(database, 21, interval_s=300)
        assert len(series) == len(by_agent)
        for r in series:
            exact = np.percentile(
                by_agent[r["time"].replace(tzinfo=UTC), r["agent"]], 95, method="lower"
            )
            assert r["p95"] == pytest.approx(exact, rel=0.01)

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.lists(
            st.one_of(st.just(0.0), st.floats(1e-3, 1e9), st.integers(1, 10).map(float)),
            min_size=1,
            max_size=60,
        ),
        st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
    )
    def test_sql_equals_the_sketch(self, database, sample, q):
        bins, counts = sketch.histogram(sample)
        histogram = f"({bins.tolist()}, {counts.tolist()}) AS histogram"
        sql = f"SELECT {quantile_ms(q)} AS value FROM (SELECT {histogram})"
        ((value,),) = database.reader.query(sql).result_rows
        assert value == pytest.approx(float(sketch.quantile(bins, counts, q)), rel=1e-12)
        assert value == pytest.approx(
            np.percentile(sample, 100 * q, method="lower"), rel=0.01 + 1e-9
        )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(database, counts):
    yes, n = counts
    low, high = wilson("yes", "n")
    given_counts = f"SELECT toUInt64({yes}) AS yes, toUInt64({n}) AS n"
    sql = f"SELECT {low} AS low, {high} AS high FROM ({given_counts})"
    ((found_low, found_high),) = database.reader.query(sql).result_rows
    if n == 0:
        assert (found_low, found_high) == (None, None)
        return
    interval = stats.binomtest(yes, n).proportion_ci(method="wilson")
    assert found_low == pytest.approx(interval.low, rel=1e-6, abs=1e-12)
    assert found_high == pytest.approx(interval.high, rel=1e-6, abs=1e-12)
    assert 0 <= found_low <= found_high <= 1


class TestTools:
    def test_calls_errors_and_latency(self, database):
        groups = defaultdict(list)
        for call in database.traffic.calls:
            if call.kind == "tool_call":
                groups[call.agent, call.name].append(call)
        found = {(r["agent"], r["tool"]): r for r in rows(database, 31)}
        assert found.keys() == groups.keys()
        for key, group in groups.items():
            row, failed = found[key], sum(c.failed for c in group)
            assert (row["calls"], row["errors"]) == (len(group), failed)
            assert row["error_rate"] == pytest.approx(failed / len(group))
            assert row["low"] < row["error_rate"] < row["high"] or failed in (0, len(group))
            exact = np.percentile([c.duration_ms for c in group], 95, method="lower")
            assert row["p95"] == pytest.approx(exact, rel=0.01)

    def test_error_rate_over_time(self, database):
        calls, errors = Counter(), Counter()
        for call in database.traffic.calls:
            if call.kind == "tool_call":
                at = datetime.fromtimestamp(int(call.time.timestamp()) // 900 * 900, UTC)
                calls[at, call.agent] += 1
                errors[at, call.agent] += call.failed
        found = {
            (r["time"].replace(tzinfo=UTC), r["agent"]): r["error_rate"]
            for r in rows(database, 30, interval_s=900)
        }
        assert found == pytest.approx({key: errors[key] / n for key, n in calls.items()})


class TestCost:
    def test_unknown_is_not_zero(self, database):
        found = {(r["agent"], r["agent_version"]): r for r in rows(database, 41)}
        groups = defaultdict(list)
        for call in database.traffic.calls:
            groups[call.agent, call.version].append(call)
        for key, group in groups.items():
            row = found[key]
            costs = [c.cost for c in group if c.cost is not None]
            tokens = [c.tokens for c in group if c.tokens is not None]
            assert row["known_cost"] == (pytest.approx(sum(costs)) if costs else None)
            unpriced = [c for c in group if c.tokens and c.cost is None]
            assert row["calls_without_price"] == len(unpriced)
            assert row["input"] == (sum(t[0] for t in tokens) if tokens else None)
            assert row["output"] == (sum(t[1] for t in tokens) if tokens else None)
            assert row["cached"] == (sum(t[2] for t in tokens) if tokens else None)
        assert found["booking", "v1"]["known_cost"] > 0
        assert found["booking", "v2"]["known_cost"] is None
        assert found["search", "v7"]["calls_without_price"] > 0
        assert found[dashboard_data.QUOTED, ""]["input"] is None

    def test_sum(self, database):
        total = sum(c.cost for c in database.traffic.calls if c.cost is not None)
        assert rows(database, 5) == [{"cost": pytest.approx(total)}]
        assert rows(database, 5, {"environment": ALL, "agent": [dashboard_data.QUOTED]}) == [
            {"cost": None}
        ]

    def test_tokens_per_minute(self, database):
        found = rows(database, 40, interval_s=300)
        total = sum(c.tokens[0] for c in database.traffic.calls if c.tokens)
        assert sum(r["input"] for r in found) * 5 == pytest.approx(total)


class TestSatisfaction:
    def test_mean_and_coverage(self, database):
        made, groups = database.traffic, defaultdict(list)
        for i in made.interactions:
            groups[i.agent, i.version].append(made.rating(i.id))
        found = {(r["agent"], r["agent_version"]): r for r in rows(database, 50)}
        assert found.keys() == groups.keys()
        for key, ratings in groups.items():
            row, given = found[key], [r for r in ratings if r is not None]
            assert (row["interactions"], row["rated"]) == (len(ratings), len(given))
            assert row["coverage"] == pytest.approx(len(given) / len(ratings))
            assert row["satisfaction"] == pytest.approx(np.mean(given))
            assert row["low"] < row["satisfaction"] < row["high"]

    def test_nobody_rated(self, database):
        end = min(i.end for i in database.traffic.interactions if database.traffic.rating(i.id))
        found = rows(database, 50, end=end - timedelta(seconds=2))
        assert found
        for row in found:
            assert (row["rated"], row["coverage"]) == (0, 0)
            assert (row["satisfaction"], row["low"], row["high"]) == (None, None, None)

    def test_one_number(self, database):
        ratings = [database.traffic.rating(i.id) for i in database.traffic.interactions]
        wanted = np.mean([r for r in ratings if r is not None])
        assert rows(database, 4) == [{"satisfaction": pytest.approx(wanted)}]

    def test_over_time(self, database):
        groups = defaultdict(list)
        for i in database.traffic.interactions:
            rating = database.traffic.rating(i.id)
            if rating is not None:
                at = datetime.fromtimestamp(int(i.end.timestamp()) // 900 * 900, UTC)
                groups[at, i.agent].append(rating)
        found = rows(database, 51, interval_s=900)
        assert {(r["time"].replace(tzinfo=UTC), r["agent"]): r["satisfaction"] for r in found} == (
            pytest.approx({key: np.mean(v) for key, v in groups.items()})
        )


class TestIncidents:
    def test_failure_groups(self, database):
        groups = defaultdict(list)
        for i in database.traffic.interactions:
            if i.reason:
                groups[i.reason].append(i)
        found = rows(database, 60)
        assert [r["failures"] for r in found] == sorted(
            (len(g) for g in groups.values()), reverse=True
        )
        assert sum(r["share"] for r in found) == pytest.approx(1)
        for row in found:
            group = groups[row["reason"], row["tool"], row["template"]]
            assert row["fingerprint"] == fingerprint(row["reason"], row["tool"], row["template"])
            assert row["failures"] == len(group)
            assert row["sessions"] == len({i.session for i in group})
            assert row["agents"] == ", ".join(sorted({i.agent for i in group}))
            last = max(group, key=lambda i: i.end)
            assert row["latest_example"] == last.id
            assert abs(row["last_seen"].replace(tzinfo=UTC) - last.end) < timedelta(milliseconds=1)
            first = min(i.end for i in group)
            assert abs(row["first_seen"].replace(tzinfo=UTC) - first) < timedelta(milliseconds=1)

    def test_failures_over_time(self, database):
        found = rows(database, 61)
        assert {r["reason"] for r in found} == {"timeout", "bad_arguments", "refusal"}
        failed = sum(i.status == "error" for i in database.traffic.interactions)
        assert sum(r["failures"] for r in found) == pytest.approx(failed)

    def test_findings_that_were_open_in_the_range(self, database):
        found = {r["finding_id"]: r for r in rows(database, 70)}
        assert set(found) == {"x", "y", "long"}
        assert found["y"]["status"] == "resolved"
        assert found["x"]["ended"] is None
        assert rows(database, 70, {"environment": ["staging"], "agent": ALL}) == []

    def test_alert_states(self, database):
        found = {r["alert_key"]: r for r in rows(database, 71)}
        states = {key: r["state"] for key, r in found.items()}
        assert states == {
            "fresh": "firing",
            "again": "firing",
            "silent": "silent",
            "over": "resolved",
        }
        assert list(found)[-1] == "over"
        assert found["fresh"]["severity"] == "critical"
        assert rows(database, 6) == [{"firing": 2}]

    def test_evidence(self, database):
        found = {(r["alert_key"], r["e_value"]) for r in rows(database, 72)}
        assert ("fresh", 1e4) in found
        assert ("fresh", 1e6) in found

    def test_annotations_one_per_episode(self, database):
        (annotation,) = BOARDS["driftline-overview"]["annotations"]["list"]
        result = ask(database, annotation["target"]["rawSql"])
        assert list(result.column_names) == ["time", "timeEnd", "title", "text", "tags"]
        kinds = dict(zip(result.column_names, (t.name for t in result.column_types), strict=True))
        assert is_time(kinds["time"])
        assert kinds["timeEnd"].startswith("Nullable(DateTime64")
        found = {r["title"] + str(r["timeEnd"] is None): r for r in result.named_results()}
        assert set(found) == {
            "fresh titleTrue",
            "silent titleTrue",
            "over titleFalse",
            "again titleFalse",
            "again titleTrue",
        }
        over = found["over titleFalse"]
        assert over["timeEnd"] - over["time"] == timedelta(minutes=20)
        assert over["tags"] == "failure_rate,search,critical"


class TestMonitor:
    def test_books(self, database):
        found = {r["partition"]: r for r in rows(database, 85)}
        assert [found[p]["records"] for p in (0, 1)] == [10, 9]
        assert [found[p]["unaccounted"] for p in (0, 1)] == [0, 0]
        assert [found[p]["missing"] for p in (0, 1)] == [0, 1]
        assert found[0]["stored"] + found[0]["dead"] == found[0]["lines"] == 1000
        assert found[0]["late"] == 5

    def test_shares(self, database):
        assert rows(database, 101) == [{"lines": 1900}]
        assert rows(database, 102) == [{"share": pytest.approx(4 / 1900)}]
        assert rows(database, 103) == [{"share": pytest.approx(10 / 1896)}]

    def test_rows_per_second(self, database):
        found = rows(database, 80, interval_s=300)
        assert sum(r["lines"] for r in found) * 300 == pytest.approx(1900)
        assert sum(r["stored"] for r in found) * 300 == pytest.approx(1896)

    def test_dead_letters(self, database):
        found = rows(database, 81)
        assert {r["code"]: r["lines"] for r in found} == {"invalid_json": 2, "missing_field": 2}
        listed = rows(database, 86)
        assert [(r["partition"], r["offset"], r["line"]) for r in listed] == [
            (0, 3, 4), (0, 3, 9), (1, 3, 4), (1, 3, 9),
        ]  # fmt: skip

    def test_late_events(self, database):
        assert sum(r["late"] for r in rows(database, 87)) == pytest.approx(10)

    def test_partitions(self, database):
        found = {(r["topic"], r["partition"]): r for r in rows(database, 82)}
        dirty = found["driftline.dirty", 0]
        assert (dirty["event_time"], dirty["behind"], dirty["waiting"]) == (None, None, 2)
        found = {p: found["driftline.events", p] for p in (0, 1)}
        # The newer report counts; time has gone on since it was made.
        for p in (0, 1):
            assert found[p]["waiting"] == 15
            assert 5 + 10 * p <= found[p]["behind"] < 120
            assert 5 <= found[p]["reported_ago"] < 120
        assert rows(database, 104) == [{"records": 32}]

    def test_a_report_of_this_very_second_is_seen(self, database):
        end = database.now - timedelta(seconds=6)
        assert len(rows(database, 82, end=end)) == 3

    def test_signs_of_life(self, database):
        found = {r["component"]: r for r in rows(database, 83)}
        assert 5 <= found["processors"]["age"] < 120
        assert 400 <= found["sink"]["age"] < 520
        assert found["sink"]["detail"] == "400"
        ((worst,),) = [r.values() for r in rows(database, 105)]
        assert 400 <= worst < 520
        beats = rows(database, 84)
        assert sum(r["beats"] for r in beats if r["component"] == "processors") == 3

    def test_slowest_detector(self, database):
        assert rows(database, 106) == [{"behind": 120}]


@pytest.fixture(scope="module")
def probe(database):
    """An agent whose windows of width w hold w tokens each, at every hour of 40 days."""
    hours = [database.now.replace(minute=0, second=0) - timedelta(hours=h) for h in range(24 * 40)]
    empty = dashboard_data.window_rows(
        [dashboard_data.Call("probe", "probe", "", database.now, "x", "", False, None)], 10
    )
    cells = [
        {**empty[0], "width_s": width, "start": hour, "input_tokens": width}
        for hour in hours
        for width in dashboard_data.WIDTHS
    ]
    with database.made.client() as owner:
        dashboard_data.insert(owner, "windows", cells)
    return {"environment": ["probe"], "agent": ["probe"]}


class TestWindowWidth:
    """The finest windows that are kept for the range and fit it."""

    @pytest.mark.parametrize(
        ("ago", "length", "width"),
        [
            (timedelta(0), timedelta(hours=3), 10),
            (timedelta(0), timedelta(hours=4), 60),
            (timedelta(hours=48), timedelta(hours=2), 60),
            (timedelta(0), timedelta(days=3), 60),
            (timedelta(0), timedelta(days=4), 3600),
            (timedelta(days=31), timedelta(hours=3), 3600),
        ],
    )
    def test_by_length_and_age(self, database, probe, ago, length, width):
        end = database.now - ago
        (row,) = rows(database, 41, probe, start=end - length, end=end)
        hours = length // timedelta(hours=1)
        assert row["input"] in (hours * width, (hours + 1) * width)

    def test_points_hold_whole_windows(self, database, probe):
        start = database.now - timedelta(days=10)
        found = rows(database, 40, probe, start=start, interval_s=300)
        # Hourly windows hold 3600 tokens each, so 60 a minute, however close the points were asked.
        assert {r["input"] for r in found} == {60.0}
        gaps = {b["time"] - a["time"] for a, b in itertools.pairwise(found)}
        assert gaps == {timedelta(hours=1)}
        assert math.isclose(len(found), 240, abs_tol=1)
