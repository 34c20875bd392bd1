"""The numbers of `driftline metrics`: percentiles as numpy's, and null for what is not known."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from dashboards import agent_report
from dashboards.agent_report import Selection, collect, totals, unit, wilson
from ingest.codec import decode, encode
from ingest.core.events import Event
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive import dirty_marks, windows
from processors.write import rows
from processors.write.cardinality import Names

S = 10**9
T0 = 1_760_000_000


@pytest.fixture
def store(clickhouse):
    return Store(
        ClickHouseConfig(clickhouse.url, clickhouse.user, clickhouse.password, clickhouse.database)
    )


def put(store, events):
    """Store events and all that follows from them."""
    decoded = decode([encode(events)], [2 * T0 * S])
    stored = rows.event_rows(decoded, "log", np.zeros(1, np.uint32), np.zeros(1, np.uint64))
    Names(store).admit(stored)
    store.insert("events", stored)
    store.insert("evaluations", rows.evaluation_rows(stored))
    cells = dirty_marks.dirty_cells(stored)
    for width in windows.WIDTHS:
        windows.recompute(store, width, dirty_marks.rollup_cells(cells, width))


def calls(agent, durations, **fields):
    return [
        Event(
            event_id=f"{agent}{n}",
            time_unix_nano=(T0 + 7 * n % 300) * S,
            agent=agent,
            kind="tool_call",
            duration_ms=None if d is None else float(d),
            **fields,
        )
        for n, d in enumerate(durations)
    ]


def check_percentiles(found, durations):
    for name, q in (("p50", 50), ("p95", 95), ("p99", 99)):
        exact = np.percentile(durations, q, method="lower")
        assert found[name] == pytest.approx(exact, rel=0.01, abs=0), (name, len(durations))


samples = st.one_of(
    # heavy tails of every weight, from a nanosecond to weeks
    st.tuples(
        st.integers(1, 400),
        st.integers(0, 2**32 - 1),
        st.sampled_from(["pareto", "lognormal", "weibull", "two"]),
        st.floats(0.3, 3),
        st.floats(-3, 6),
    ).map(lambda drawn: draw(*drawn)),
    st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.0, 1.0, 1.0201, 1e6]), min_size=1, max_size=40),
)


def draw(n, seed, shape, tail, scale):
    rng = np.random.default_rng(seed)
    values = {
        "pareto": lambda: 1 + rng.pareto(tail, n),
        "lognormal": lambda: rng.lognormal(0, 1 / tail, n),
        "weibull": lambda: rng.weibull(tail / 3, n),
        "two": lambda: np.where(rng.random(n) < 0.05, 1e4, 1) * rng.exponential(1, n),
    }[shape]()
    return np.clip(values * 10**scale, 1e-9, 1e14).tolist()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(samples, min_size=1, max_size=12))
def test_percentiles_are_numpys_within_one_percent(store, parts):
    """Heavy tails and few values, from events over many cells; every part is an agent."""
    for table in ("events", "windows", "interaction_cells"):
        store.command(f"TRUNCATE TABLE {table}")
    durations = {f"a{n}": part for n, part in enumerate(parts)}
    put(store, [e for agent, part in durations.items() for e in calls(agent, part)])
    whole = {e["agent"]: e["events"] for e in collect(store) if e["scope"] == "all"}
    assert whole.keys() == durations.keys()
    for agent, part in durations.items():
        check_percentiles(whole[agent]["duration_ms"], part)
        assert whole[agent]["n"] == len(part)


def test_percentiles_of_a_large_heavy_tailed_sample(store):
    rng = np.random.default_rng(11)
    durations = 50 * (1 + rng.pareto(0.8, 30_000))
    put(store, calls("a", durations))
    (entry, *_) = collect(store)
    check_percentiles(entry["events"]["duration_ms"], durations)
    assert entry["events"]["duration_ms"]["mean"] == pytest.approx(durations.mean(), rel=1e-4)


def test_percentiles_of_interactions_and_sessions(store):
    rng = np.random.default_rng(12)
    durations = np.round(rng.lognormal(7, 2, 500), 6)
    put(
        store,
        [
            Event(
                event_id=f"i{n}",
                time_unix_nano=(T0 + n) * S,
                agent="a",
                kind="interaction",
                interaction_id=f"i{n}",
                duration_ms=float(d),
            )
            for n, d in enumerate(durations)
        ],
    )
    (entry, *_) = collect(store)
    for name in ("interactions", "sessions"):
        check_percentiles(entry[name]["duration_ms"], durations)


def test_what_is_not_known_is_null_and_not_zero(store):
    put(store, calls("a", [None, None], interaction_id="i"))
    (entry, *_) = collect(store)
    unknown = {"mean": None, "p50": None, "p95": None, "p99": None}
    assert entry["events"]["duration_ms"] == unknown
    assert entry["agent_version"] is None
    for name in ("interactions", "sessions"):
        known = entry[name]
        assert known["n"] == 1
        assert known["success"] == {"yes": 0, "known": 0, "rate": None, "low": None, "high": None}
        assert known["cost_usd"] == {"sum": None, "mean": None}
        assert known["satisfaction"]["explicit"] == {"mean": None, "n": 0}
        assert known["satisfaction"]["estimated"] == {"mean": None, "n": 0}
    assert entry["failure_reasons"] == {}


def test_a_duration_of_zero_is_known(store):
    put(store, calls("a", [0.0]))
    (entry, *_) = collect(store)
    assert entry["events"]["duration_ms"] == {"mean": 0.0, "p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_nothing_stored_has_no_metrics(store):
    assert collect(store) == []
    assert totals([]) == {"events": 0, "interactions": 0, "sessions": 0}


def test_a_selection_is_of_an_agent_and_of_time(store):
    quoted = "o'brien\\"
    put(store, [*calls("a", [1.0] * 3), *calls(quoted, [2.0] * 5)])
    assert {e["agent"] for e in collect(store, Selection(agent=quoted))} == {quoted}
    assert collect(store, Selection(agent="nobody")) == []
    assert sum(e["events"]["n"] for e in collect(store) if e["scope"] == "all") == 8
    # events of an agent stand at 0, 7, 14, 21 and 28 s
    late = collect(store, Selection(since=T0 + 20))
    assert {e["agent"]: e["events"]["n"] for e in late if e["scope"] == "all"} == {quoted: 2}
    assert collect(store, Selection(since=T0 + 1_000)) == []


def conversations(rng, sessions):
    """Interactions of a few sessions over two hours, some failed, some judged, some without one."""
    for number in range(sessions):
        session = f"s{number}" if number % 7 else None
        for turn in range(int(rng.integers(1, 5))):
            interaction, at = f"i{number}-{turn}", T0 + int(rng.integers(0, 7_200))
            shared = {"agent": f"a{rng.integers(2)}", "interaction_id": interaction}
            for step, kind in enumerate(("tool_call", "llm_call", "interaction")):
                failed = rng.random() < 0.2
                yield Event(
                    event_id=f"{interaction}.{kind}", kind=kind, session_id=session, name="t",
                    time_unix_nano=(at + step * 8) * S, duration_ms=float(rng.integers(1, 900)),
                    cost_usd=0.25 if kind == "llm_call" and rng.random() < 0.8 else None,
                    input_tokens=5, status="error" if failed else "ok",
                    error_type=rng.choice(["timeout", "refused"]).item() if failed else None,
                    **shared,
                )  # fmt: skip
            if rng.random() < 0.4:
                yield Event(
                    event_id=f"{interaction}.f", kind="feedback", time_unix_nano=(at + 30) * S,
                    value=float(rng.integers(0, 3)) / 2, agent=shared["agent"], target=interaction,
                )  # fmt: skip
        if session and rng.random() < 0.4:
            yield Event(
                event_id=f"{session}.o", kind="outcome", time_unix_nano=(T0 + 7_300) * S,
                value=float(rng.integers(0, 2)), target=session, reason="refused", agent="a0",
            )  # fmt: skip


@pytest.mark.parametrize("since", [0, 3_600, 7_000])
def test_units_are_those_of_the_views(store, since):
    put(store, list(conversations(np.random.default_rng(since), 60)))
    entries = collect(store, Selection(since=T0 + since) if since else None)
    for name in ("interactions", "sessions"):
        expected = store.query(
            "SELECT agent, count() AS n, round(ifNull(sum(cost_usd), 0), 6) AS cost,"
            f" round(avg(duration_ms), 6) AS duration FROM {name}"
            f" WHERE end >= toDateTime({T0 + since}, 'UTC') GROUP BY agent ORDER BY agent"
        )
        assert expected["n"].sum() > 5
        found = [
            (e["agent"], e[name]["n"], round(e[name]["cost_usd"]["sum"] or 0.0, 6),
             round(e[name]["duration_ms"]["mean"], 6))
            for e in entries if e["scope"] == "all" and e[name]["n"]
        ]  # fmt: skip
        assert found == expected.rows()


def test_failures_are_counted_by_reason_and_judged_sessions_once(store):
    put(store, list(conversations(np.random.default_rng(1), 60)))
    sessions = store.query("SELECT session_id, agent FROM sessions").rows()
    failed = store.query(
        "SELECT session_id, agent, failure_reason AS reason FROM interactions"
        " WHERE status = 'error'"
    ).rows()
    judged = store.query(
        "SELECT target, value FROM current_evaluations WHERE kind = 'outcome'"
    ).rows()
    refused = {target for target, value in judged if value == 0}
    expected: dict[str, dict[str, int]] = {}
    for _, agent, reason in failed:
        expected.setdefault(agent, {}).setdefault(reason, 0)
        expected[agent][reason] += 1
    seen = {(session, reason) for session, _, reason in failed}
    alone = [a for s, a in sessions if s in refused and (s, "refused") not in seen]
    assert alone
    assert any((session, "refused") in seen for session in refused)
    for agent in alone:
        expected[agent]["refused"] += 1
    found = {e["agent"]: e["failure_reasons"] for e in collect(store) if e["scope"] == "all"}
    assert found == expected
    assert all(list(counts.values()) == sorted(counts.values())[::-1] for counts in found.values())


def test_satisfaction_of_a_session_is_that_of_all_it_was_given(store):
    put(store, list(conversations(np.random.default_rng(2), 60)))
    given: dict[str, list[float]] = {}
    feedback = dict(
        store.query("SELECT target, value FROM current_evaluations WHERE kind = 'feedback'").rows()
    )
    for interaction, session in store.query(
        "SELECT interaction_id, session_id FROM interactions"
    ).rows():
        if interaction in feedback:
            given.setdefault(session, []).append(feedback[interaction])
    agents = dict(store.query("SELECT session_id, agent FROM sessions").rows())
    for entry in collect(store):
        if entry["scope"] == "all":
            means = [np.mean(g) for s, g in given.items() if agents[s] == entry["agent"]]
            known = entry["sessions"]["satisfaction"]["explicit"]
            assert known["n"] == len(means) > 3
            assert known["mean"] == pytest.approx(np.mean(means))


def test_whole_agents_come_before_their_parts(store):
    put(store, [*calls("b", [1.0], name="pay"), *calls("a", [1.0], name="all")])
    assert [(e["agent"], e["scope"]) for e in collect(store)] == [
        ("a", "all"),
        ("a", "tool_call:all"),
        ("b", "all"),
        ("b", "tool_call:pay"),
    ]


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(drawn):
    yes, n = drawn
    expected = stats.binomtest(yes, n).proportion_ci(method="wilson")
    low, high = wilson(yes, n)
    assert low == pytest.approx(expected.low, abs=1e-7)
    assert high == pytest.approx(expected.high, abs=1e-7)
    assert 0 <= low <= yes / n + 1e-12
    assert yes / n - 1e-12 <= high <= 1


def test_a_unit_without_rows_is_empty_but_whole():
    empty = unit(None)
    assert empty["n"] == 0
    assert empty["duration_ms"]["p99"] is None
    row = {"n": 2, "yes": 1, "known": 2, "duration": 10.0, "bins": [0], "counts": [2]}
    row |= {"cost": 0.0, "priced": 0, "rating": 0.0, "rated": 0}
    full = unit(row)
    assert full.keys() == empty.keys()
    assert full["success"]["rate"] == 0.5
    assert full["duration_ms"]["mean"] == 5
    assert full["cost_usd"] == empty["cost_usd"] == {"sum": None, "mean": None}
    assert math.isclose(full["duration_ms"]["p50"], 1, rel_tol=0.01)


def test_the_bins_of_sql_are_those_of_the_detectors(store):
    """Interactions are binned by SQL and events by numpy, also at the edges of bins."""
    values = pl.DataFrame(
        {"duration_ms": [0.0, *(agent_report.GAMMA**k for k in range(-900, 1200))]}
    )
    found = store.query(
        "SELECT groupArray(bin) AS bins FROM (SELECT arrayJoin({v:Array(Float64)}) AS duration_ms,"
        f" {agent_report._BIN} AS bin)",
        {"v": values["duration_ms"].to_list()},
    )
    from detectors.sketch import bin_index, bin_value

    by_sql = np.array(found["bins"][0])
    by_numpy = bin_index(values["duration_ms"].to_numpy())
    assert (abs(by_sql - by_numpy) <= 1).all()  # an edge is right on either side
    close = np.abs(bin_value(by_sql)[1:] / values["duration_ms"].to_numpy()[1:] - 1)
    assert close.max() <= 0.01 + 1e-9
