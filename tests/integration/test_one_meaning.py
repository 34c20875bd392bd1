"""One meaning: whoever counts interactions and their success counts the same.

Detection, ``driftline metrics``, every panel and rule about success, the evidence of a finding, the
views and plain Python over the events are held against each other, on a real engine.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from dashboards import publisher, queries
from infra.cli import app
from ingest.core.events import EVALUATION_KINDS, EVENTS_TOPIC, Event
from processors import audit
from processors.derive import result_audit, sealing
from processors.derive.judging import ResultsConfig
from processors.evidence import explain
from processors.findings import Finding
from processors.stations.base import Output, Sealed
from processors.stations.detection import Detection, DetectionConfig, DetectionState
from processors.stations.rates import observations
from processors.stations.runner import Stations
from processors.stations.storage import ClickHouseStations
from processors.stations.tails import minutes
from processors.stations.traffic import counts
from processors.watching import watch
from tests.conftest import ClickHouse
from tests.integration.pipeline_harness import Pipeline, batches, check, compare_metrics
from tests.integration.pipeline_reference import Row, Truth, traffic
from tests.support.grafana_macros import ALL, back_end, front_end
from tests.support.stations import run

S = 10**9
JUDGED = ResultsConfig(inactivity_s=125.0, trusted_scores=("pay",))
LOG = "log"
HOUR = 3600
VARIABLES = {
    **dict.fromkeys(("environment", "agent", "version", "outcome"), ALL),
    "search": "", "session": "web", "interaction": "nested",
}  # fmt: skip
OBJECTIVE = ("all", "", "", 0.9, 24 * HOUR, 24 * HOUR, 2.0, 1)
PANELS: dict[str, str] = {
    queries.name_of(target["rawSql"]) or "report.attainment": target["rawSql"]
    for board in publisher.dashboards()
    for panel in board["panels"]
    for target in panel.get("targets", ())
}

Rows = list[dict[str, Any]]
Key = tuple[Any, ...]


def shaped(start: int) -> list[Event]:
    """What random traffic may lack: each case once, in traces of its own."""
    made: list[Event] = []

    def tell(trace: str, at: str, after: float, kind: str, **more: Any) -> None:
        made.append(
            Event(
                event_id=f"{trace}-{at}",
                time_unix_nano=start * S + round(after * S),
                environment="production",
                agent=more.pop("agent", "front"),
                agent_version="v1",
                kind=kind,
                interaction_id=None if kind in EVALUATION_KINDS else trace,
                target=trace if kind in EVALUATION_KINDS else None,
                session_id=more.pop("session_id", None),
                **more,
            )
        )

    # A sub-agent fails in an earlier cell; the topmost agent does not.
    tell("nested", "top", 40, "interaction", status="ok", duration_ms=40_000)
    tell("nested", "sub", 15, "interaction", agent="helper", status="error", parent_id="nested-top")
    # A web server's root around two agents, one of which fails; its own status means nothing.
    tell("web", "root", 30, "span", status="error", duration_ms=30_000, session_id="web")
    tell("web", "one", 12, "interaction", status="ok", duration_ms=9_000, parent_id="web-root")
    tell("web", "two", 29, "interaction", status="error", duration_ms=9_000, parent_id="web-root")
    # No end: with an error inside, without one, and with an outcome that comes late.
    tell("lost", "call", 50, "tool_call", status="error", name="find", error_type="timeout")
    tell("quiet", "call", 55, "llm_call", status="ok", model="m-1")
    tell("judged", "call", 60, "llm_call", status="ok", model="m-1")
    tell("judged", "late", 2_000, "outcome", value=1.0)
    tell("nested", "late", 2_000, "outcome", value=0.0, reason="wrong")
    tell("web", "late", 2_100, "feedback", value=0.0)
    # Nothing but the work of a service.
    tell("health", "check", 20, "span", status="error")
    return made


class Recording(Detection):
    """Detection that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__(DetectionConfig())
        self.rates: list[pl.DataFrame] = []
        self.traffic: list[pl.DataFrame] = []

    def step(
        self, sealed: Sealed, state: DetectionState
    ) -> tuple[DetectionState, Sequence[Output]]:
        self.rates.append(observations(sealed))
        self.traffic.append(counts(minutes(sealed)))
        return super().step(sealed, state)

    def observed(self, signal: str) -> dict[Key, tuple[float, float]]:
        """Sum and number of a signal per environment and agent."""
        found = pl.concat(self.rates).filter(pl.col("signal") == signal)
        summed = found.group_by("environment", "agent").agg(pl.col("total", "n").sum())
        return {(e, a): (total, n) for e, a, total, n in summed.iter_rows()}

    def volume(self) -> dict[Key, int]:
        """Interactions per environment and agent."""
        summed = pl.concat(self.traffic).group_by("environment", "agent").agg(pl.col("n").sum())
        return {(e, a): n for e, a, n in summed.iter_rows()}


@dataclass
class World:
    """Traffic of the last hours in the tables, some of it judged only after it was sealed."""

    clickhouse: ClickHouse
    pipeline: Pipeline
    begin: int
    seed: int

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        events = traffic(self.seed, start=self.begin) + shaped(self.begin + 300)
        self.late = [
            e for e in events if e.kind in EVALUATION_KINDS
            and (rng.random() < 0.5 or e.event_id.endswith("-late"))
        ]  # fmt: skip
        self.on_time = [e for e in events if e not in self.late]
        self.events = events
        self.end = max(e.time_unix_nano for e in events) // S + 2 * HOUR
        for batch in batches(rng, [*self.on_time, *rng.sample(self.on_time, 40)], most=300):
            self.pipeline.deliver(batch)
            if rng.random() < 0.5:
                self.pipeline.recompute()
        self.pipeline.recompute()
        self.detection = Recording()
        self.sealed = self.seal()
        run(self.stations(), Stations(self.stations(), [self.detection], save_every_s=0))

    def stations(self) -> ClickHouseStations:
        return ClickHouseStations(self.pipeline.store, LOG, self.pipeline.results)

    def seal(self) -> int:
        """Seal everything, so that what has no end is given up; returns up to when, in ns."""
        now = datetime.now(UTC)
        mark = datetime.fromtimestamp(self.end, UTC) + timedelta(seconds=15)
        row = (LOG, EVENTS_TOPIC, 0, mark, 10, 0, [], now - timedelta(seconds=60), now)
        self.pipeline.store.insert(
            "watermarks", pl.DataFrame([row], schema=sealing.SCHEMA, orient="row")
        )
        return self.stations().sealed(leads=True) * S

    def judge(self) -> None:
        """Deliver what was said late."""
        for batch in batches(random.Random(self.seed), self.late):
            self.pipeline.deliver(batch)
        self.pipeline.recompute()
        self.seal()

    def truth(self, events: Iterable[Event] | None = None) -> Truth:
        seconds = int(JUDGED.inactivity_s)
        found = self.events if events is None else events
        return Truth(found, self.sealed, seconds, JUDGED.trusted_scores)

    def ask(self, sql: str) -> Rows:
        """Rows of a panel's query, as the reader that Grafana is."""
        start, end = datetime.fromtimestamp(self.begin - 600, UTC), datetime.now(UTC)
        with self.clickhouse.client("reader") as reader:
            return list(
                reader.query(back_end(front_end(sql, VARIABLES), start, end, 60)).named_results()
            )


@pytest.fixture(params=(1, 2))
def world(clickhouse: ClickHouse, request: pytest.FixtureRequest) -> World:
    # Recent, so that minutes are read and rules look at it; all of it is past.
    begin = int(time.time()) // HOUR * HOUR - 4 * HOUR
    return World(clickhouse, Pipeline(clickhouse, JUDGED), begin, request.param)


def rates(rows: Iterable[Row], *by: str) -> dict[Key, tuple[int, int, int]]:
    """Number, known success and successes of rows by some of their columns."""
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in by)].append(row)
    return {
        key: (
            len(group),
            sum(r["success"] is not None for r in group),
            sum(r["success"] == 1 for r in group),
        )
        for key, group in found.items()
    }


# -- what each panel about success says, held against the truth ----------------------------------

VERSION = ("environment", "agent", "agent_version")


def check_rates(
    found: Rows, truth: Iterable[Row], *by: str, n: str | None = None, known: str | None = "known",
    rate: str = "success",
) -> None:  # fmt: skip
    """Rows with a rate and the number behind it, by some columns."""
    expected = rates(truth, *by)
    assert len(found) == len(expected)
    for row in found:
        count, of_known, yes = expected[tuple(row[name] for name in by)]
        assert row[rate] == (pytest.approx(yes / of_known, rel=1e-12) if of_known else None), row
        if known:
            assert row[known] == of_known
        if n:
            assert row[n] == count


def check_total(found: Rows, truth: Iterable[Row]) -> None:
    """Rows that share everything out by what the truth does not know, as the language."""
    expected = rates(truth)[()]
    assert tuple(sum(row[c] for row in found) for c in ("n", "known", "succeeded")) == expected


def check_series(found: Rows, truth: Iterable[Row], *by: str, width: int = 60) -> None:
    """Rates over time."""
    placed = [
        row
        | {"time": row["end"] // S // width * width}
        | {"version": row["agent_version"] or "unknown"}
        for row in truth
    ]
    told = [row | {"time": int(row["time"].timestamp())} for row in found]
    expected = rates(placed, "time", *by)
    # A minute that interactions have left is a point without a value.
    empty = [row for row in told if (row["time"], *(row[name] for name in by)) not in expected]
    assert {row["success"] for row in empty} <= {None}
    check_rates([row for row in told if row not in empty], placed, "time", *by, known=None)


def check_groups(found: Rows, truth: Iterable[Row], *by: tuple[str, str]) -> None:
    """Numbers of failures by some columns: (of the panel, of the truth)."""
    expected = Counter(tuple(row[of] for _, of in by) for row in truth if row["success"] == 0)
    assert {tuple(row[name] for name, _ in by): row["failures"] for row in found} == expected


def check_outcomes(found: Rows, rows: dict[str, Row], column: str) -> None:
    """Every row, or the latest two hundred, with its outcome in words."""
    latest = sorted(rows.items(), key=lambda item: (-(item[1]["end"] // S), item[0]))
    assert len(found) == min(200, len(latest))
    for row in found:
        success = rows[row[column]]["success"]
        assert row["outcome"] == {1: "succeeded", 0: "failed", None: "unknown"}[success]


def check_turns(found: Rows, rows: dict[str, Row], chosen: Callable[[str, Row], bool]) -> None:
    """Interactions in full."""
    expected = {name: row for name, row in rows.items() if chosen(name, row)}
    assert {row["interaction_id"] for row in found} == expected.keys() != set()
    for row in found:
        for name in ("state", "success", "success_source", "failure_reason", "failure_tool"):
            assert row[name] == expected[row["interaction_id"]][name]


def check_cost(found: Rows, rows: Iterable[Row]) -> None:
    """What a success costs."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["environment"], row["agent"], row["agent_version"]].append(row)
    assert len(found) == len(groups)
    for row in found:
        group = groups[row["environment"], row["agent"], row["agent_version"]]
        costs = [r["cost_usd"] for r in group if r["cost_usd"] is not None]
        yes = sum(r["success"] == 1 for r in group)
        expected = sum(costs) / len(costs) * len(group) / yes if costs and yes else None
        assert row["cost_per_success"] == (
            pytest.approx(expected, rel=1e-9, abs=1e-9) if expected is not None else None
        )


def check_together(found: Rows, rows: Iterable[Row]) -> None:
    """Only hours in which several versions of an agent ran."""
    named = [row | {"hour": row["end"] // S // HOUR} for row in rows if row["agent_version"]]
    versions: dict[Key, set[str]] = defaultdict(set)
    for row in named:
        versions[row["environment"], row["agent"], row["hour"]].add(row["agent_version"])
    both = [r for r in named if len(versions[r["environment"], r["agent"], r["hour"]]) > 1]
    check_rates(found, both, *VERSION)


def check_reasons(found: Rows, rows: Iterable[Row]) -> None:
    """Failures a minute, by reason."""
    placed = Counter(
        (row["end"] // S // 60 * 60, row["failure_reason"]) for row in rows if row["success"] == 0
    )
    assert {(int(r["time"].timestamp()), r["reason"]): r["failures"] for r in found} == placed


def check_examples(found: Rows, rows: dict[str, Row]) -> None:
    """The latest failures."""
    failed = {name for name, row in rows.items() if row["success"] == 0}
    assert {row["interaction_id"] for row in found} <= failed
    assert len(found) == min(100, len(failed))


def by_model(rows: Iterable[Row]) -> list[Row]:
    return [row | {"model": model} for row in rows for model in row["models"]]


Held = Callable[[Rows, dict[str, Row], dict[str, Row]], None]
"""Rows of a panel, interactions and sessions of the truth."""

SUCCESS: dict[str, Held] = {
    "agents.success_now": lambda f, i, _: check_rates(f, i.values(), known="n"),
    "agents.success_by_version": lambda f, i, _: check_rates(
        f, i.values(), *VERSION, n="interactions"
    ),
    "agents.sessions_by_version": lambda f, _, s: check_rates(
        f, s.values(), *VERSION, n="sessions"
    ),
    "agents.changes": lambda f, i, _: check_rates(
        f, i.values(), "environment", "agent", known="n"
    ),
    "agents.success_over_time": lambda f, i, _: check_series(f, i.values()),
    "agents.success_by_agent_over_time": lambda f, i, _: check_series(f, i.values(), "agent"),
    "agents.success_by_version_over_time": lambda f, i, _: check_series(f, i.values(), "version"),
    "agents.deployments": lambda f, i, _: check_rates(
        f, [r for r in i.values() if r["agent_version"]], *VERSION, n="interactions", known=None
    ),
    "agents.reasons_over_time": lambda f, i, _: check_reasons(f, i.values()),
    "agents.success_by_model": lambda f, i, _: check_rates(
        f, by_model(i.values()), "model", n="n", rate="rate"
    ),
    "agents.success_by_language": lambda f, i, _: check_total(f, i.values()),
    "usage.cost_by_version": lambda f, i, _: check_cost(f, i.values()),
    "versions.measures": lambda f, i, _: check_rates(f, i.values(), *VERSION, n="interactions"),
    "versions.together": lambda f, i, _: check_together(f, i.values()),
    "failures.groups": lambda f, i, _: check_groups(
        f, i.values(), ("fingerprint", "fingerprint")
    ),
    "failures.new": lambda f, i, _: check_groups(f, i.values(), ("fingerprint", "fingerprint")),
    "failures.by_tool": lambda f, i, _: check_groups(
        f, [r | {"failure_tool": r["failure_tool"] or "no tool"} for r in i.values()],
        ("tool", "failure_tool"), ("reason", "failure_reason"),
    ),
    "failures.examples": lambda f, i, _: check_examples(f, i),
    "sessions.search": lambda f, _, s: check_outcomes(f, s, "session_id"),
    "sessions.interactions": lambda f, i, _: check_outcomes(f, i, "interaction_id"),
    "sessions.turns": lambda f, i, _: check_turns(f, i, lambda _, r: r["session_id"] == "web"),
    "sessions.turn": lambda f, i, _: check_turns(f, i, lambda n, _: n == "nested"),
}  # fmt: skip
"""Every statement of a panel that says what succeeded or failed."""

ELSEWHERE = {
    "agents.comments",  # the failing tool beside what a user wrote
    "agents.deployment_annotations",  # counts nothing
    "agents.reasons_seen",  # of those that succeeded too
    "evaluators.decisions",  # what judges did
    "failures.clusters",  # what the station for clusters found
    "usage.loops",  # needs interactions of twenty steps
    "report.attainment",  # below, with the rule that reads the same
}
_ABOUT = re.compile(r"succe|failure|failed|\bsuccess")


def test_every_panel_about_success_is_held() -> None:
    about = {name for name, sql in PANELS.items() if _ABOUT.search(sql)}
    assert about - ELSEWHERE - SUCCESS.keys() == set()
    assert SUCCESS.keys() - about == set()


# -- the test ------------------------------------------------------------------------------------


def test_all_count_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # Detection has seen what was known when it was sealed, each interaction once.
    detected(world, world.detection, world.truth(world.on_time))
    world.judge()
    truth = world.truth()
    interactions, sessions = truth.interactions(), truth.sessions()
    states = Counter(row["state"] for row in interactions.values())
    assert states["ended"] > 10 < states["unfinished"]
    assert not states["open"]
    check(world.pipeline, truth)
    # The reference is no mirror: another inactivity gives other counts.
    with pytest.raises(AssertionError):
        check(world.pipeline, Truth(world.events, world.sealed, 10**6, JUDGED.trusted_scores))
    # What it would be given now, with all that was said late.
    again = Recording()
    replay(world, again)
    detected(world, again, truth)
    command(world, truth, monkeypatch)
    wrong = {}
    for name, held in SUCCESS.items():
        try:
            held(world.ask(PANELS[name]), interactions, sessions)
        except (AssertionError, KeyError) as error:
            wrong[name] = repr(error)[:500]
    assert wrong == {}
    objectives(world, interactions.values())
    evidence(world, interactions.values())
    # Nothing that the audit would change, whose judgement is the same.
    before = world.pipeline.state()
    assert result_audit.repair(world.pipeline.results) == 0
    assert audit.reconcile(world.pipeline.results) == 0
    assert world.pipeline.state() == before


def replay(world: World, station: Recording) -> None:
    """Give a station everything from the beginning, hour by hour."""
    store, state = world.stations(), station.begin()
    for lo in range(world.begin - HOUR, world.sealed // S, HOUR):
        hi = min(lo + HOUR, world.sealed // S)
        state, _ = station.step(Sealed(lo, hi, store.results(lo, hi), store.settled(lo, hi)), state)


def detected(world: World, station: Recording, truth: Truth) -> None:
    """Streams of detection against the truth."""
    rows = list(truth.interactions().values())
    by_agent = rates(rows, "environment", "agent")
    assert station.volume() == {key: n for key, (n, _, _) in by_agent.items()}
    assert station.observed("failure") == {
        key: (known - yes, known) for key, (_, known, yes) in by_agent.items() if known
    }
    given_up = Counter((r["environment"], r["agent"]) for r in rows if r["state"] == "unfinished")
    assert station.observed("unfinished") == {
        key: (given_up[key], n) for key, (n, _, _) in by_agent.items()
    }
    judged = [r for r in rows if r["success_source"] in ("outcome", "score")]
    assert station.observed("late_failure") == {
        key: (known - yes, known)
        for key, (_, known, yes) in rates(judged, "environment", "agent").items()
    }
    if station is world.detection:
        read = world.pipeline.store.query("SELECT sum(interactions) AS n FROM station_read FINAL")
        assert read["n"][0] == len(rows)
        assert watch(world.pipeline.store, JUDGED)["late"] == 0


def command(world: World, truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    """``driftline metrics --json`` as it prints."""
    for name in ("url", "user", "password", "database"):
        value = getattr(world.clickhouse, name)
        monkeypatch.setenv(f"DRIFTLINE_CLICKHOUSE_{name.upper()}", value)
    done = CliRunner().invoke(app, ["metrics", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    compare_metrics(json.loads(done.stdout), truth)


def objectives(world: World, rows: Iterable[Row]) -> None:
    """The rule on error budgets, and the table of objectives."""
    expected = {key: v for key, v in rates(rows, "environment", "agent").items() if v[1]}
    burn = world.ask(queries.render("rules.burn", rows={"objectives": [OBJECTIVE]}, rule=True).sql)
    assert {(r["environment"], r["agent"]): r["value"] for r in burn if r["value"]} == {
        key: pytest.approx((known - yes) / known / 0.1 / 2)
        for key, (_, known, yes) in expected.items()
        if known > yes
    }
    row = (*OBJECTIVE[:4], 30)
    kept = world.ask(queries.render("report.attainment", rows={"objectives": [row]}).sql)
    assert {(r["environment"], r["agent"]): (r["n"], r["bad"]) for r in kept} == {
        key: (known, known - yes) for key, (_, known, yes) in expected.items()
    }


def evidence(world: World, rows: Iterable[Row]) -> None:
    """What a finding rests on, of every agent."""
    for (environment, agent), (_, known, yes) in rates(rows, "environment", "agent").items():
        found = explain(
            Finding(
                finding_id="f", version=world.sealed // S, kind="failure", signal="failure",
                severity="page", status="open", environment=environment, agent=agent,
                began=world.begin, found=world.begin,
            ),
            world.stations().context(environment, agent, world.begin, world.sealed // S),
        )  # fmt: skip
        failed = [
            r for r in rows
            if (r["environment"], r["agent"], r["success"]) == (environment, agent, 0)
        ]  # fmt: skip
        kinds = Counter(
            (r["failure_reason"], r["failure_tool"], r["failure_template"]) for r in failed
        )
        shown = {(e["reason"], e["tool"], e["template"]): e["since"] for e in found.evidence}
        most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert list(shown.items()) == most
        assert len(failed) == known - yes
        if known:
            assert found.sessions == len({r["session_id"] for r in failed})
