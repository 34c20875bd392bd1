"""Whatever ids a token of staging/shop names, nothing of production/bank changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from msgspec.structs import replace

from dashboards.accounting import account
from ingest.access import Grant
from ingest.codec import payload_hash
from ingest.core.events import SCOPE, Event
from processors import audit
from processors.derive import result_audit, scopes
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
            event(f"{trace}-m", "llm_call", 40 * n + 1, trace, model="m", cost_usd=0.1),
            event(f"{trace}-c", "tool_call", 40 * n + 2, trace, name="pay", status=status),
            event(f"{trace}-a", "agent_message", 40 * n + 3, trace, content="it is paid"),
        ]  # fmt: skip
    found += [
        event("t1-i", "interaction", 4, "t1", duration_ms=4_000.0, session_id="s1"),
        event("t2-i", "interaction", 44, "t2", session_id="s1", status="error"),
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
    return victims_rows(pipeline)


def victims_rows(pipeline: Pipeline) -> dict[str, list[tuple[Any, ...]]]:
    of_bank = "environment = 'production'"
    statements = {
        "results": "* EXCEPT (version, seen) FROM interaction_results FINAL WHERE live AND "
        + of_bank,
        "sessions": f"* EXCEPT version FROM session_results FINAL WHERE live AND {of_bank}",
        "rollups": f"* EXCEPT version FROM rollups FINAL WHERE n > 0 AND {of_bank}",
        "windows": f"* EXCEPT version FROM windows FINAL WHERE events > 0 AND {of_bank}",
        "feedback": f"* FROM feedback WHERE {of_bank}",
        "scores": f"* FROM scores WHERE {of_bank}",
        "failures": f"* FROM failures WHERE {of_bank}",
        "current": "* FROM current_evaluations WHERE target IN ('t1', 't2', 's1', 't4/t4-b')",
    }
    return {
        name: pipeline.store.query(f"SELECT {rest} ORDER BY ALL").rows()
        for name, rest in statements.items()
    }


@pytest.fixture
def judging(clickhouse: ClickHouse) -> Pipeline:
    return Pipeline(clickhouse, ResultsConfig(inactivity_s=200, trusted_scores=("judge",)))


EXPECTED: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
"""Without any attack, by the scope of the victim."""


@pytest.mark.parametrize("victim", ["", BANK])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_token_changes_nothing_of_others(judging: Pipeline, victim: str, attack: str) -> None:
    """In any order of arrival; and what is the attacker's own is there."""
    events, told = of(victim, victims()), of(victim, said()) + of(JUDGES, judged())
    if victim not in EXPECTED:
        EXPECTED[victim] = run(judging, events + told)
    expected = EXPECTED[victim]
    assert {row[1] for row in expected["results"]} == {"t1", "t2", "t3", "t4", "t4/t4-b"}
    mine = of(SHOP, ATTACKS[attack]())
    first = (list(ATTACKS).index(attack) + bool(victim)) % 2
    orders = [(mine, events + told) if first else (events + told, mine)]
    if attack == "everything":
        mixed = mine[::2] + events[::2], events[1::2] + mine[1::2]
        orders = [(events, mine, told), (*mixed, told), (mine[::-1] + told + events[::-1],)]
    for deliveries in orders:
        found = run(judging, *deliveries)
        for name, rows in expected.items():
            assert found[name] == rows, name
    books = account(judging.store)
    assert books["balanced"], books
    assert not result_audit.repair(judging.results)
    assert audit.differences(judging.store).is_empty()
    stored = judging.store.query(
        "SELECT count() AS n, uniqExactIf(event_id, kind NOT IN ('feedback', 'score', 'outcome'))"
        " AS work FROM events FINAL WHERE agent = 'shop'"
    )
    assert stored["n"][0] == len(set(map(payload_hash, mine)))
    counted = judging.store.query(
        "SELECT sum(events) AS n FROM interaction_results FINAL WHERE live AND agent = 'shop'"
    )
    assert counted["n"][0] == stored["work"][0]
    if attack in ("outcome", "feedback", "score"):
        # All but those of a name that is nobody's.
        assert books["foreign_target"] == len(mine) - 3


def test_who_may_speak_is_heard(judging: Pipeline) -> None:
    """The judge of all of production, the bank itself, and whoever is trusted; nobody else."""
    may = {
        "": True, JUDGES: True, BANK: True, "production/a,bank": True, "/bank": True,
        "staging": False, "staging/bank": False, "production/shop": False,
    }  # fmt: skip
    runs = [event(f"e{n}", "interaction", n, f"i{n}", status="error") for n in range(len(may))]
    told = [
        event(f"o{n}", "outcome", 300, target=f"i{n}", name="n", value=1.0) for n in range(len(may))
    ]
    run(
        judging,
        of(BANK, victims() + said() + runs) + of(JUDGES, judged()),
        [
            replace(e, attributes={SCOPE: scope} if scope else None)
            for e, scope in zip(told, may, strict=True)
        ],
    )
    rows = judging.store.query("SELECT interaction_id, success, success_source FROM interactions")
    found = {name: (success, source) for name, success, source in rows.rows()}
    assert found["t1"] == (0, "score")
    assert found["t2"] == (0, "status")
    assert found["t4/t4-b"] == (1, "outcome")
    for n, (scope, heard) in enumerate(may.items()):
        assert (found[f"i{n}"] == (1, "outcome")) is heard, scope
    assert account(judging.store)["foreign_target"] == 3


def test_of_several_scopes_each_has_its_own(judging: Pipeline) -> None:
    """Also where the attacker's scope comes first in the alphabet: names change, numbers do not."""
    assert Grant("t", "dev").scope == "dev"
    theirs = of(BANK, victims() + said()) + of(JUDGES, judged())
    expected = run(judging, theirs)
    mine = of("dev/shop", victims()[::-1])
    for deliveries in ((theirs, mine), (mine, theirs)):
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


# -- the tests above would notice ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "rule", "without"),
    [
        ("closing event", "of_traces", lambda: pl.col("trace")),
        ("shared session", "of_sessions", lambda _: pl.col("raw")),
        ("outcome", "admits", lambda: pl.lit(value=True)),
    ],
)
def test_a_rule_that_is_gone_is_noticed(
    judging: Pipeline, monkeypatch: pytest.MonkeyPatch, attack: str, rule: str, without: Any
) -> None:
    monkeypatch.setattr(scopes, rule, without)
    with pytest.raises(AssertionError):
        test_a_token_changes_nothing_of_others(judging, BANK, attack)


def test_a_search_for_collisions_over_all_scopes_is_noticed(
    judging: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_SUSPECTED", "_LOSERS"):
        statement = getattr(audit, name)
        assert "event_id, scope" in statement
        monkeypatch.setattr(audit, name, statement.replace("event_id, scope", "event_id"))
    with pytest.raises(AssertionError):
        test_a_token_changes_nothing_of_others(judging, BANK, "colliding event id")
