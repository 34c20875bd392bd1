"""Whatever ids a token of staging/shop names, nothing of production/bank changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from dashboards.accounting import account
from ingest.access import Grant
from ingest.core.events import SCOPE, Event
from processors import audit
from processors.derive import result_audit
from processors.derive.judging import ResultsConfig
from tests.conftest import ClickHouse
from tests.integration.pipeline_harness import DERIVED, Pipeline

S = 10**9
T0 = 1_760_000_000 * S
BANK, SHOP, JUDGES = "production/bank", "staging/shop", "production"

Events = list[Event]


def event(event_id: str, kind: str, at: float, trace: str | None = None, **more: Any) -> Event:
    """An event of the bank, ``at`` seconds after the beginning."""
    given = {"environment": "production", "agent": "bank", "status": "ok", "user_id": "u"}
    return Event(
        event_id=event_id,
        kind=kind,
        time_unix_nano=T0 + int(at * S),
        interaction_id=trace,
        **given | more,
    )


def of(scope: str, events: Events) -> Events:
    """The events as a gateway lets them through for a token of this scope."""
    if not scope:
        return events
    environment, _, agent = scope.partition("/")
    return [
        replace(e, environment=environment, agent=agent or e.agent, attributes={SCOPE: scope})
        for e in events
    ]


def victims() -> Events:
    """A success, a failure, two agents below a web server, a run that goes on; two sessions."""
    found = []
    for n, (trace, status) in enumerate((("t1", "ok"), ("t2", "error"), ("t3", "ok"))):
        found += [
            event(f"{trace}-u", "user_message", 40 * n, trace, content="please pay my bill"),
            event(f"{trace}-m", "llm_call", 40 * n + 1, trace, model="m", input_tokens=5, cost_usd=0.1),
            event(f"{trace}-c", "tool_call", 40 * n + 2, trace, name="pay", status=status),
            event(f"{trace}-a", "agent_message", 40 * n + 3, trace, content="it is paid"),
        ]  # fmt: skip
    found += [
        event("t1-i", "interaction", 4, "t1", duration_ms=4_000.0, session_id="s1"),
        event("t2-i", "interaction", 44, "t2", session_id="s1", status="error", error_type="refused"),
        event("t4-a", "interaction", 121, "t4", parent_id="web", duration_ms=500.0),
        event("t4-b", "interaction", 131, "t4", parent_id="web", duration_ms=500.0),
    ]  # fmt: skip
    return found


def said() -> Events:
    """By the bank's own users."""
    return [
        event("f1", "feedback", 60, target="t1", name="thumbs", value=1.0),
        event("f2", "feedback", 61, target="s1", name="thumbs", value=1.0),
        event("o4", "outcome", 140, target="t4/t4-b", name="paid", value=1.0),
    ]


def judged() -> Events:
    """By a judge, whose token is of all of production."""
    return [
        event("j1", "score", 70, target="t1", name="judge", value=0.0, user_id=None),
        event("j2", "score", 71, target="s1", name="judge", value=0.9, user_id=None),
    ]


TARGETS = ("t1", "t2", "t3", "t4", "t4/t4-b", "s1", "t1@scope:production:bank")


def speaking(kind: str, value: float) -> Events:
    return [
        event(f"x-{kind}-{n}", kind, 200, target=target, name=name, value=value)
        for n, (target, name) in enumerate(
            (target, name) for target in TARGETS for name in ("judge", "thumbs", "paid")
        )
    ]


def own(event_id: str, **more: Any) -> Event:
    """An interaction of the attacker's own."""
    return event(event_id, "interaction", 90, more.pop("trace", event_id), **more)


FAILED: dict[str, Any] = {"status": "error", "error_type": "hacked"}

ATTACKS: dict[str, Callable[[], Events]] = {
    "outcome": lambda: speaking("outcome", 0.0),
    "feedback": lambda: speaking("feedback", 0.0),
    "score": lambda: speaking("score", 1.0),
    "closing event": lambda: (
        [event("x", "interaction", 100, t, **FAILED) for t in ("t1",)]
        + [event(f"x{t}", "interaction", 100, t, **FAILED) for t in ("t2", "t3", "t4")]
    ),
    "earlier start": lambda: [
        event(f"x{t}", "interaction", 5, t, duration_ms=60_000.0) for t in ("t1", "t3", "t4")
    ],
    "prolonging event": lambda: [
        event(f"x{t}", "tool_call", 900, t, name="steal", **FAILED) for t in ("t1", "t3")
    ],
    "colliding event id": lambda: (
        [
            replace(e, time_unix_nano=e.time_unix_nano - 5 * S, interaction_id="x", content="x")
            for e in victims()
        ]
        + [replace(e, time_unix_nano=T0, target="x", value=0.0) for e in said() + judged()]
    ),
    "exact copy": lambda: victims() + said() + judged(),
    "shared session": lambda: [own("x", session_id="s1", **FAILED), own("y", session_id="t1")],
    "name of another": lambda: [
        own(name, trace=name, session_id=session, **FAILED)
        for name in ("t4/t4-b", "t1@scope:production:bank", "s1", "s1@scope:production:bank")
        for session in (None, "s1@scope:production:bank")[: 1 + (name == "s1")]
    ],
}
ATTACKS["everything"] = lambda: [
    replace(e, event_id=f"{name} {e.event_id}") if n % 2 else e
    for name, attack in ATTACKS.items()
    if name != "everything"
    for n, e in enumerate(attack())
]


def tables() -> tuple[str, ...]:
    return "events", "evaluations", "collisions", "ledger", "dead_letters", "windows", *DERIVED, \
        "interaction_index", "session_index"  # fmt: skip


def run(pipeline: Pipeline, *deliveries: Events) -> dict[str, list[tuple[Any, ...]]]:
    """All that is derived of production, from these deliveries in this order."""
    for table in tables():
        pipeline.store.command(f"TRUNCATE TABLE {table}")
    for events in deliveries:
        pipeline.deliver(events)
        pipeline.recompute()
    audit.find_collisions(pipeline.results)
    pipeline.results.give_up(T0 + 400 * S)
    books = account(pipeline.store)
    assert books["balanced"], books
    assert not result_audit.repair(pipeline.results)
    assert audit.differences(pipeline.store).is_empty()
    return victims_rows(pipeline)


def victims_rows(pipeline: Pipeline) -> dict[str, list[tuple[Any, ...]]]:
    of_bank = "environment = 'production'"
    return {
        name: pipeline.store.query(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY ALL").rows()
        for name, columns, table, where in (
            ("results", "* EXCEPT (version, seen)", "interaction_results FINAL", f"live AND {of_bank}"),
            ("sessions", "* EXCEPT version", "session_results FINAL", f"live AND {of_bank}"),
            ("rollups", "* EXCEPT version", "rollups FINAL", f"n > 0 AND {of_bank}"),
            ("windows", "* EXCEPT version", "windows FINAL", f"events > 0 AND {of_bank}"),
            ("feedback", "*", "feedback", of_bank),
            ("scores", "*", "scores", of_bank),
            ("current", "*", "current_evaluations", "target IN ('t1', 't2', 's1', 't4/t4-b')"),
            ("failures", "*", "failures", of_bank),
        )
    }  # fmt: skip


@pytest.fixture
def judging(clickhouse: ClickHouse) -> Pipeline:
    return Pipeline(clickhouse, ResultsConfig(inactivity_s=200, trusted_scores=("judge",)))


@pytest.mark.parametrize("victim", ["", BANK])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_token_changes_nothing_of_others(judging: Pipeline, victim: str, attack: str) -> None:
    """In any order of arrival; and what is the attacker's own is there."""
    theirs = of(victim, victims()), of(victim, said()), of(JUDGES, judged())
    expected = run(judging, *theirs)
    known = {row[1]: row for row in expected["results"]}
    assert set(known) == {"t1", "t2", "t3", "t4", "t4/t4-b"}
    mine = of(SHOP, ATTACKS[attack]())
    for deliveries in (
        (*theirs, mine),
        (mine, *theirs),
        (theirs[0], mine, *theirs[1:]),
        (mine[::2] + theirs[0][::2], theirs[0][1::2] + mine[1::2], *theirs[1:]),
    ):
        found = run(judging, *deliveries)
        for name, rows in expected.items():
            assert found[name] == rows, name
    stored = judging.store.query("SELECT count() AS n FROM events FINAL WHERE agent = 'shop'")
    assert stored["n"][0] == len(mine)
    counted = judging.store.query(
        "SELECT sum(events) AS n FROM interaction_results FINAL WHERE live AND agent = 'shop'"
    )
    work = [e for e in mine if e.kind not in ("feedback", "score", "outcome")]
    ids = {e.event_id for e in work}
    assert counted["n"][0] == len(ids)
    if attack in ("outcome", "feedback", "score"):
        assert account(judging.store)["foreign_target"] == len(mine) - 3 * (not victim)


def test_who_may_speak_is_heard(judging: Pipeline) -> None:
    """The judge of all of production, the bank itself, and whoever is trusted; nobody else."""
    given = of(BANK, victims()), of(JUDGES, judged())

    def verdicts(*more: Events) -> dict[str, Any]:
        run(judging, *given, *more)
        rows = judging.store.query(
            "SELECT interaction_id, success, success_source FROM interactions"
        )
        return {name: (success, source) for name, success, source in rows.rows()}

    assert verdicts()["t1"] == (0, "score")
    assert verdicts()["t2"] == (0, "status")
    assert verdicts(of(BANK, said()))["t4/t4-b"] == (1, "outcome")
    good = [event("good", "outcome", 300, target="t2", name="n", value=1.0)]
    for scope, heard in (
        ("", True),
        (JUDGES, True),
        (BANK, True),
        ("production/a,bank", True),
        ("/bank", True),
        ("staging", False),
        ("staging/bank", False),
        ("production/shop", False),
    ):
        told = [replace(e, attributes={SCOPE: scope} if scope else None) for e in good]
        assert (verdicts(told)["t2"] == (1, "outcome")) is heard, scope
        assert account(judging.store)["foreign_target"] == (not heard)


def test_of_several_scopes_each_has_its_own(judging: Pipeline) -> None:
    """Also where the attacker's scope comes first in the alphabet: names change, numbers do not."""
    assert Grant("t", "dev").scope == "dev"
    theirs = of(BANK, victims()), of(BANK, said()), of(JUDGES, judged())
    expected = run(judging, *theirs)
    mine = of("dev/shop", victims()[::-1])
    for deliveries in ((*theirs, mine), (mine, *theirs), (theirs[0], mine, *theirs[1:])):
        found = run(judging, *deliveries)
        assert found["windows"] == expected["windows"]
        assert found["rollups"] == expected["rollups"]
        names = {"t1@scope:production:bank", "t2@scope:production:bank", "t3@scope:production:bank",
                 "t4@scope:production:bank", "t4@scope:production:bank/t4-b"}  # fmt: skip
        assert {row[1] for row in found["results"]} == names
        assert {row[1] for row in found["sessions"]} >= {"s1@scope:production:bank"}


def test_trusted_evaluations_reach_every_scope(judging: Pipeline) -> None:
    """Nobody can take an outcome away by using the id that it names."""
    said_ = [event("o", "outcome", 300, target="t1", name="n", value=0.0)]
    run(judging, of(BANK, victims()), of("dev/shop", victims()), said_)
    rows = judging.store.query(
        "SELECT interaction_id, success_source FROM interactions WHERE trace_id = 't1' ORDER BY ALL"
    ).rows()
    assert rows == [("t1", "outcome"), ("t1@scope:production:bank", "outcome")]
