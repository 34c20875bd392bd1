"""Every query of the dashboards on a real engine, as the reader that Grafana is."""

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

from dashboards import agent_report, publisher, queries, slo
from detectors import sketch
from infra.schema.migrate import migrate
from processors.clickhouse import ClickHouseConfig, Store
from tests.conftest import ClickHouse
from tests.integration import dashboard_data
from tests.support import results
from tests.support.grafana_macros import ALL, back_end, front_end

BOARDS = {board["uid"]: board for board in publisher.dashboards()}
PANELS = {
    f"{uid}:{panel['id']}": panel
    for uid, board in BOARDS.items()
    for panel in board["panels"]
    if "targets" in panel
}
STATEMENTS = sorted({queries.name_of(p["targets"][0]["rawSql"]) or "" for p in PANELS.values()})
EVERYTHING = {
    **dict.fromkeys(("environment", "agent", "version", "outcome"), ALL),
    "search": "", "session": "s0-booking", "interaction": "i0",
}  # fmt: skip
SOME = {**EVERYTHING, "environment": ["production"], "agent": ["booking", dashboard_data.QUOTED]}
ROWS = {"objectives": slo.attainment_rows(slo.DEFAULT)}
# What may be empty although there is traffic.
EMPTY = {"usage.loops", "pipeline.tables"}
HOSTILE = [
    "\\", "'", "\\'", "\\' OR 1=1 --", "') OR (1=1", "$__timeFilter(x)", "${agent}", "{a:String}",
    "%27", "a&var-agent=b", "\x00", "\\\\'", "*/", "\N{PILE OF POO}", "$__all",
]  # fmt: skip
STRINGS = ("String", "LowCardinality(String)", "Enum")
NUMBERS = ("UInt", "Int", "Float", "Decimal")
HYPOTHESIS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


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
        config = ClickHouseConfig(made.url, "reader", made.reader_password, made.database)
        with made.client("reader") as reader:
            yield SimpleNamespace(
                reader=reader, traffic=traffic, now=now, made=made, store=Store(config)
            )
        client.command(f"DROP DATABASE {made.database} SYNC")


def ask(database, sql, variables=EVERYTHING, start=None, end=None, interval_s=60):
    start = start or database.now - timedelta(hours=dashboard_data.HOURS)
    return database.reader.query(
        back_end(front_end(sql, variables), start, end or database.now, interval_s)
    )


def rows(database, name, variables=EVERYTHING, **when):
    sql = queries.render(name, rows=ROWS).sql
    return list(ask(database, sql, variables, **when).named_results())


def bound(database, name, variables=EVERYTHING, start=None, end=None, interval_s=60):
    start = start or database.now - timedelta(hours=dashboard_data.HOURS)
    values = {k: v for k, v in variables.items() if v is not ALL}
    values |= {"from": int(start.timestamp()), "interval": interval_s}
    values |= {"to": int((end or database.now).timestamp())}
    query = queries.render(name, values, rows=ROWS)
    return database.store.query(query.sql, query.parameters).to_dicts()


def plain(kind):
    return kind.removeprefix("Nullable(").removesuffix(")") if kind.startswith("Null") else kind


def is_number(kind):
    return plain(kind).startswith(NUMBERS)


def is_string(kind):
    return plain(kind).startswith(STRINGS)


def is_time(kind):
    return plain(kind).startswith("DateTime")


def by_version(found):
    keyed = {(r["environment"], r["agent"], r["agent_version"]): r for r in found}
    assert len(keyed) == len(found)
    return keyed


def check_share(row, yes, n, low="low", high="high", rate="success"):
    interval = stats.binomtest(int(yes), n).proportion_ci(method="wilson")
    assert row[rate] == pytest.approx(yes / n, rel=1e-12)
    assert row[low] == pytest.approx(interval.low, rel=1e-9, abs=1e-12)
    assert row[high] == pytest.approx(interval.high, rel=1e-9)


class TestEveryPanel:
    @pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS.keys())
    def test_columns_fit_the_panel(self, database, panel):
        (target,) = panel["targets"]
        result = ask(database, target["rawSql"])
        names, kinds = result.column_names, [t.name for t in result.column_types]
        assert result.row_count > 0 or queries.name_of(target["rawSql"]) in EMPTY
        assert len(set(names)) == len(names)
        # A map or a bool cannot be drawn; an array only in a table.
        drawn = [is_number(k) or is_string(k) or is_time(k) for k in kinds]
        assert all(drawn) or panel["type"] == "table"
        assert not any(k.startswith(("Map", "Bool", "Tuple")) for k in kinds)
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in names
        if panel["type"] == "timeseries":
            self.check_series(panel, result, names, kinds)
        if panel["type"] == "stat":
            assert result.row_count == 1
            assert all(map(is_number, kinds))

    def check_series(self, panel, result, names, kinds):
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

    def test_links_name_columns_and_variables_that_exist(self, database):
        for panel in PANELS.values():
            fields = panel["fieldConfig"]
            links = [*fields["defaults"].get("links", [])]
            for override in fields["overrides"]:
                links += [
                    link
                    for setting in override["properties"]
                    if setting["id"] == "links"
                    for link in setting["value"]
                ]
            names = ask(database, panel["targets"][0]["rawSql"]).column_names
            for link in links:
                path, _, query = link["url"].partition("?")
                board = BOARDS[path.removeprefix("/d/")]
                known = {v["name"] for v in board["templating"]["list"]}
                for part in query.split("&"):
                    if part.startswith("var-"):
                        name, _, value = part.removeprefix("var-").partition("=")
                        assert name in known
                        if value.startswith("${__"):
                            assert value.split(".")[2].split(":")[0] in names

    @pytest.mark.parametrize("name", [s for s in STATEMENTS if s])
    def test_bound_parameters_say_the_same(self, database, name):
        """The board, the command line and Grafana read the same numbers."""
        if "now64" in queries.statements()[name] or "now()" in queries.render(name).sql.replace(
            "toUnixTimestamp(now())", ""
        ):
            pytest.skip("depends on the moment")
        grafana, own = rows(database, name, SOME), bound(database, name, SOME)
        assert len(grafana) == len(own)
        for one, other in zip(grafana, own, strict=True):
            for column, value in one.items():
                if isinstance(value, float):
                    assert math.isclose(value, other[column], rel_tol=1e-9), column
                elif not isinstance(value, datetime):
                    assert value == other[column], column

    @pytest.mark.parametrize("name", [s for s in STATEMENTS if s])
    def test_an_empty_time_range_is_no_error(self, database, name):
        long_ago = {
            "start": datetime(2001, 1, 1, tzinfo=UTC),
            "end": datetime(2001, 1, 2, tzinfo=UTC),
        }
        for row in rows(database, name, **long_ago):
            if not name.startswith(("sessions.", "pipeline.tables")):
                assert {v for v in row.values() if v is not None} <= {0}, row


@settings(max_examples=60, **HYPOTHESIS)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(HOSTILE),
        ),
        min_size=1,
        max_size=3,
    )
)  # fmt: skip
def test_hostile_values_only_choose(database, values):
    """Whatever a variable holds, it is compared and never read as SQL, in both forms."""
    encodable = [v.encode("utf-8", "replace").decode() for v in values if v]
    for agent in (encodable, [*encodable, "booking"]):
        if not agent or agent == ["$__all"]:
            continue
        wanted = sum(i["agent"] in agent for i in database.traffic.interactions)
        chosen = {**EVERYTHING, "agent": agent, "search": agent[0], "session": agent[0]}
        for form in (rows, bound):
            ((found),) = form(database, "agents.interactions_now", chosen)
            assert found["interactions"] == wanted
            assert form(database, "sessions.turns", chosen) == []
            found = form(database, "sessions.interactions", chosen)
            assert all(
                agent[0].lower() in str(row).lower() or row["agent"] in agent for row in found
            )


@pytest.fixture(scope="module")
def month(_clickhouse_port):
    made = ClickHouse(_clickhouse_port, f"month_{uuid.uuid4().hex[:8]}")
    rng = np.random.default_rng(3)
    now = datetime.now(UTC).replace(microsecond=0)
    with ClickHouse(_clickhouse_port, "default").client() as client:
        migrate(client, made.database)
        ends = [now - timedelta(seconds=int(s)) for s in rng.integers(0, 28 * 86_400, 600)]
        with made.client() as owner:
            results.fill(owner, [results.interaction(n, end) for n, end in enumerate(ends)])
        config = ClickHouseConfig(made.url, "reader", made.reader_password, made.database)
        yield SimpleNamespace(store=Store(config), now=now, ends=ends)
        client.command(f"DROP DATABASE {made.database} SYNC")


class TestRange:
    """Days inside, hours and minutes at the ends: exact to the minute, each row once."""

    @settings(max_examples=60, **HYPOTHESIS)
    @given(st.integers(0, 28 * 86_400), st.integers(0, 28 * 86_400))
    def test_counts_each_interaction_once(self, month, one, other):
        low, high = (month.now - timedelta(seconds=s) for s in sorted((one, other), reverse=True))
        (row,) = bound(month, "agents.interactions_now", start=low, end=high)
        begin, end = results.floor(low, 60), results.floor(high, 60) + timedelta(minutes=1)
        assert row["interactions"] == sum(begin <= e < end for e in month.ends)

    def test_everything_is_everything(self, month):
        entries = agent_report.collect(month.store)
        assert [e["interactions"]["n"] for e in entries] == [600]

    def test_the_period_before_ends_where_the_range_begins(self, month):
        day = timedelta(days=1)
        (row,) = bound(month, "agents.changes", start=month.now - day, end=month.now)
        edge = results.floor(month.now - day, 60)
        first = results.floor(month.now - 2 * day, 60)
        assert row["n"] == sum(e >= edge for e in month.ends)
        assert row["n_before"] == sum(first <= e < edge for e in month.ends)


class TestOneMeaning:
    """Panels, the command line, the views and plain Python count alike."""

    def test_interactions(self, database):
        groups = database.traffic.groups(database.traffic.interactions)
        told = {
            (e["environment"], e["agent"], e["agent_version"] or ""): e["interactions"]
            for e in agent_report.collect(database.store, parts=False)
        }
        shown = by_version(rows(database, "agents.success_by_version"))
        rated = by_version(rows(database, "agents.satisfaction_by_version"))
        cost = by_version(rows(database, "usage.cost_by_version"))
        view = by_version(
            database.store.query(
                "SELECT environment, agent, agent_version, count() AS n, countIf(success = 1)"
                " AS yes, count(success) AS known, avg(satisfaction) AS rating FROM interactions"
                " GROUP BY environment, agent, agent_version"
            ).to_dicts()
        )
        assert groups.keys() == told.keys() == shown.keys() == rated.keys() == view.keys()
        for key, group in groups.items():
            known = [i["success"] for i in group if i["success"] is not None]
            durations = [i["duration_ms"] for i in group if i["duration_ms"] is not None]
            costs = [i["cost_usd"] for i in group if i["cost_usd"] is not None]
            ratings = [i["satisfaction"] for i in group if i["satisfaction"] is not None]
            row, own = shown[key], told[key]
            assert row["interactions"] == own["n"] == view[key]["n"] == len(group)
            assert row["open"] == own["open"] == sum(i["state"] == "open" for i in group)
            assert row["known"] == own["success"]["known"] == view[key]["known"] == len(known)
            assert own["success"]["yes"] == view[key]["yes"] == sum(known)
            check_share(row, sum(known), len(known))
            assert row["low"] == pytest.approx(own["success"]["low"], rel=1e-6)
            assert row["mean_duration"] == pytest.approx(np.mean(durations))
            exact = np.percentile(durations, 95, method="lower")
            assert row["p95"] == pytest.approx(exact, rel=0.01)
            assert row["p95"] == pytest.approx(own["duration_ms"]["p95"], rel=1e-9)
            assert row["priced"] == own["cost_usd"]["n"] == len(costs)
            assert row["mean_cost"] == (pytest.approx(np.mean(costs)) if costs else None)
            assert cost[key]["known_cost"] == (pytest.approx(sum(costs)) if costs else None)
            assert rated[key]["satisfaction"] == pytest.approx(np.mean(ratings))
            assert rated[key]["satisfaction"] == pytest.approx(view[key]["rating"])
            assert own["satisfaction"]["explicit"] == {
                "mean": pytest.approx(np.mean(ratings)),
                "n": len(ratings),
            }
        assert {c["input_tokens"] is None for c in cost.values()} == {True, False}

    def test_sessions(self, database):
        groups = database.traffic.groups(database.traffic.sessions)
        found = by_version(rows(database, "agents.sessions_by_version"))
        assert found.keys() == groups.keys()
        for key, group in groups.items():
            known = [s["success"] for s in group if s["success"] is not None]
            assert found[key]["sessions"] == len(group)
            check_share(found[key], sum(known), len(known))
            assert found[key]["rated"] == sum(s["satisfaction_n"] > 0 for s in group)

    def test_selection(self, database):
        wanted = [i for i in database.traffic.interactions if i["agent"] in SOME["agent"]]
        (row,) = rows(database, "agents.success_now", SOME)
        known = [i["success"] for i in wanted if i["success"] is not None]
        assert row["n"] == len(known)
        check_share(row, sum(known), len(known))
        version = {**EVERYTHING, "version": ["v2"]}
        (row,) = rows(database, "agents.interactions_now", version)
        assert row["interactions"] == 100

    def test_series_add_up(self, database):
        wanted = defaultdict(list)
        for i in database.traffic.interactions:
            if i["success"] is not None:
                wanted[results.floor(i["cell"], 600), i["agent"]].append(i["success"])
        found = {
            (r["time"].replace(tzinfo=UTC), r["agent"]): r["success"]
            for r in rows(database, "agents.success_by_agent_over_time", interval_s=600)
        }
        assert {k: v for k, v in found.items() if v is not None} == pytest.approx(
            {k: np.mean(v) for k, v in wanted.items()}
        )
        for interval in (60, 300):
            traffic = rows(database, "agents.traffic", interval_s=interval)
            total = sum(r["interactions"] for r in traffic) * interval / 60
            assert total == pytest.approx(len(database.traffic.interactions))

    def test_failures(self, database):
        failed = [i for i in database.traffic.interactions if i["success"] == 0]
        reasons = Counter(i["failure_reason"] for i in failed)
        told = Counter()
        for entry in agent_report.collect(database.store, parts=False):
            told.update(entry["failure_reasons"])
        assert told == reasons
        series = Counter()
        for row in rows(database, "agents.reasons_over_time"):
            series[row["reason"]] += row["failures"]
        assert series == reasons
        groups = rows(database, "failures.groups")
        assert {g["fingerprint"]: g["failures"] for g in groups} == Counter(
            i["fingerprint"] for i in failed
        )
        users = {g["fingerprint"]: g["users"] for g in groups}
        for print_, count in users.items():
            assert count == len({i["user_id"] for i in failed if i["fingerprint"] == print_})
        assert [g["users"] for g in groups] == sorted(users.values(), reverse=True)


class TestTools:
    def test_a_retrieval_is_a_tool(self, database):
        wanted = defaultdict(list)
        for call in database.traffic.calls:
            if call.kind in ("tool_call", "retrieval"):
                wanted[call.interaction["agent"], call.name].append(call)
        found = {(r["agent"], r["tool"]): r for r in rows(database, "usage.tools")}
        assert found.keys() == wanted.keys()
        assert {tool for _, tool in found} == {"lookup", "book", "docs"}
        for key, calls in wanted.items():
            row = found[key]
            assert (row["calls"], row["errors"]) == (len(calls), sum(c.failed for c in calls))
            check_share(row, row["errors"], row["calls"], rate="error_rate")
            exact = np.percentile([c.duration_ms for c in calls], 95, method="lower")
            assert row["p95"] == pytest.approx(exact, rel=0.01)
        scopes = {
            (e["agent"], e["scope"].split(":")[1]): e["tool_calls"]
            for e in agent_report.collect(database.store)
            if e["scope"].startswith(("tool_call:", "retrieval:")) and e["agent"] != "booking"
        }
        assert scopes == {k: len(v) for k, v in wanted.items() if k[0] != "booking"}

    def test_the_view_has_one_row_per_call(self, database):
        found = database.store.query(
            "SELECT agent, tool, count() AS n, countIf(failed) AS failed FROM tool_calls"
            " GROUP BY ALL"
        )
        assert sum(found["n"]) == sum(
            c.kind in ("tool_call", "retrieval") for c in database.traffic.calls
        )


class TestQuantile:
    @settings(max_examples=40, **HYPOTHESIS)
    @given(
        st.lists(
            st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e9)), min_size=1, max_size=30),
            min_size=1,
            max_size=5,
        ),
        st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
    )
    def test_sql_equals_the_sketch(self, database, parts, q):
        sketches = [sketch.histogram(part) for part in parts]
        literals = ", ".join(f"({b.tolist()}, {c.tolist()})" for b, c in sketches)
        fragments = queries.statements()
        histogram = fragments["fragments.histogram"]
        sql = (
            f"WITH {fragments['fragments.quantile']} SELECT quantile_ms({q}, histogram) AS value"
            f" FROM (SELECT {histogram} FROM (SELECT arrayJoin([{literals}]) AS x,"
            " x.1 AS duration_bins, x.2 AS duration_counts))"
        )
        ((value,),) = database.reader.query(sql).result_rows
        bins, counts = sketch.merge(sketches)
        assert value == pytest.approx(float(sketch.quantile(bins, counts, q)), rel=1e-12)

    def test_an_empty_one_has_none(self, database):
        fragment = queries.statements()["fragments.quantile"]
        sql = f"WITH {fragment} SELECT quantile_ms(0.5, ([]::Array(Int16), []::Array(UInt64))) AS v"
        assert database.reader.query(sql).result_rows == [(None,)]


class TestFeedback:
    def test_is_told_of_its_target(self, database):
        found = database.store.query("SELECT * FROM feedback").to_dicts()
        assert len(found) == len(database.traffic.feedback)
        by_target = {row["target"]: row for row in found}
        interactions = {i["interaction_id"]: i for i in database.traffic.interactions}
        for target, _, _, value, comment in database.traffic.feedback:
            row = by_target[target]
            assert (row["value"], row["comment"]) == (value, comment)
            if target in interactions:
                of = interactions[target]
                assert (row["agent"], row["environment"], row["session_id"]) == (
                    of["agent"], of["environment"], of["session_id"],
                )  # fmt: skip
                assert row["target_kind"] == "interaction"
        assert by_target["s0-booking"]["target_kind"] == "session"
        assert by_target["s0-booking"]["agent"] == "booking"
        assert by_target["nobody-knows"]["target_kind"] == "unknown"

    def test_comments_stand_beside_the_rating(self, database):
        found = rows(database, "agents.comments", {**EVERYTHING, "agent": ["search"]})
        wanted = {
            i["interaction_id"]: i["satisfaction"]
            for i in database.traffic.interactions
            if i["agent"] == "search" and i["satisfaction_n"]
        }
        assert {r["interaction_id"]: r["rating"] for r in found} == wanted
        assert {r["comment"] for r in found} == {"so so"}


class TestEvaluators:
    def test_agreement_with_outcomes(self, database):
        (row,) = rows(database, "evaluators.agreement")
        judged = range(len(database.traffic.interactions[::10]))
        agreeing = sum((n % 3 > 0) == (n % 4 != 0) for n in judged)
        assert (row["evaluator"], row["n"]) == ("judge", len(judged))
        check_share(row, agreeing, len(judged), rate="agreement")
        assert row["too_good"] + row["too_bad"] == len(judged) - agreeing

    def test_coverage(self, database):
        found = {(r["agent"], r["kind"]): r for r in rows(database, "evaluators.coverage")}
        agents = Counter(i["agent"] for i in database.traffic.interactions)
        judged = Counter(i["agent"] for i in database.traffic.interactions[::10])
        assert {a for a, kind in found if kind == "score"} == set(judged)
        for agent, n in judged.items():
            row = found[agent, "score"]
            assert (row["judged"], row["interactions"]) == (n, agents[agent])
            check_share(row, n, agents[agent], rate="coverage")

    def test_a_mean_comes_with_the_latest_agreement(self, database):
        (judge,) = (r for r in rows(database, "evaluators.names") if r["kind"] == "score")
        assert judge["kappa"] == 0.3  # the latest
        assert judge["mean"] is not None

    def test_decisions_count_each_target_once(self, database):
        (row,) = rows(database, "evaluators.decisions")
        assert (row["targets"], row["done"], row["failed"], row["waiting"]) == (2, 1, 1, 0)
        assert (row["coverage"], row["failures"]) == (0.5, "timeout")


class TestConversation:
    def test_turns_and_events_in_order(self, database):
        wanted = sorted(
            (i for i in database.traffic.interactions if i["session_id"] == "s0-booking"),
            key=lambda i: (i["start"], i["interaction_id"]),
        )
        turns = rows(database, "sessions.turns")
        assert [t["interaction_id"] for t in turns] == [i["interaction_id"] for i in wanted]
        events = rows(database, "sessions.conversation")
        calls = [c for c in database.traffic.calls if c.interaction["session_id"] == "s0-booking"]
        assert len(events) == len(calls)
        assert [e["time"] for e in events] == sorted(e["time"] for e in events)
        said = rows(database, "sessions.session_evaluations")
        assert "s0-booking" in {e["target"] for e in said}

    def test_search_finds_by_what_people_know(self, database):
        for text, column in (("u7", "user_id"), ("i12", "interaction_id"), ("book", "tool")):
            found = rows(database, "sessions.interactions", {**EVERYTHING, "search": text})
            assert found
            assert {row[column] for row in found} == {text}
        failed = rows(database, "sessions.interactions", {**EVERYTHING, "outcome": ["failed"]})
        assert {row["outcome"] for row in failed} == {"failed"}


class TestDeployments:
    def test_a_version_is_new_once(self, database):
        found = {r["agent_version"]: r for r in rows(database, "agents.deployments")}
        assert found.keys() == {"v1", "v2", "v7"}
        for version, row in found.items():
            ends = [i for i in database.traffic.interactions if i["agent_version"] == version]
            first = min(results.floor(i["cell"], 60) for i in ends)
            assert row["time"].replace(tzinfo=UTC) == first
        later = database.now - timedelta(hours=1)
        assert rows(database, "agents.deployments", start=later) == []

    def test_versions_are_compared_in_the_same_hours(self, database):
        found = rows(database, "versions.together")
        assert {r["agent_version"] for r in found} == {"v1", "v2"}
        hours = defaultdict(set)
        for i in database.traffic.interactions:
            if i["agent"] == "booking":
                hours[i["agent_version"]].add(results.floor(i["cell"], 3600))
        both = hours["v1"] & hours["v2"]
        for row in found:
            known = [
                i["success"]
                for i in database.traffic.interactions
                if i["agent_version"] == row["agent_version"]
                and results.floor(i["cell"], 3600) in both
                and i["success"] is not None
            ]
            assert row["hours"] == len(both)
            check_share(row, sum(known), len(known))


class TestPipeline:
    def test_the_slowest_station_is_measured_against_the_newest_event(self, database):
        """Of a single station, too; max - min over one row would always be 0."""
        (row,) = rows(database, "pipeline.slowest_station")
        # event time is 5 s old, the stations stand at 20 s and at 140 s
        assert row["behind"] == pytest.approx(135, abs=2)
        assert [r["stream"] for r in rows(database, "pipeline.stations")] == ["b", "a"]

    def test_books(self, database):
        found = {r["partition"]: r for r in rows(database, "pipeline.books")}
        assert [(found[p]["unaccounted"], found[p]["missing"]) for p in (0, 1)] == [(0, 0), (0, 1)]
        (dead,) = rows(database, "pipeline.dead_now")
        assert dead["share"] == pytest.approx(4 / 1900)

    def test_findings_of_the_range(self, database):
        found = {r["finding_id"]: r for r in rows(database, "findings.list")}
        assert found.keys() == {"x", "y", "long"}
        assert {r["finding_id"] for r in rows(database, "findings.open")} == {"x", "long"}
        (now,) = rows(database, "findings.open_now")
        assert (now["pages"], now["open"]) == (2, 2)
        evidence = [r for r in rows(database, "findings.evidence") if r["finding_id"] == "x"]
        assert [(e["reason"], e["tool"], e["since"]) for e in evidence] == [
            ("timeout", "lookup", 30),
            ("refusal", "", 3),
        ]


def test_objectives(database):
    (row,) = [
        r for r in bound(database, "report.attainment") if r["agent"] == "search"
    ]  # fmt: skip
    known = [
        i["success"]
        for i in database.traffic.interactions
        if i["agent"] == "search" and i["success"] is not None
    ]
    assert row["n"] == len(known)
    assert row["attainment"] == pytest.approx(np.mean(known))
    assert row["budget_left"] == pytest.approx(1 - (1 - np.mean(known)) / 0.05)
