"""Rules for all events and how they are packed."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ingest import codec
from ingest.access import Grant
from ingest.core.events import MAX_FUTURE_NS, Event
from ingest.gateway.admission import ANYONE, MAX_BYTES, MAX_EVENTS, AdmissionResult, Refusal, admit
from ingest.producer import locality_key, partition_of

NOW = 1_780_000_000_000_000_000
PARTITIONS = 3


def event(number: int = 0, **fields: object) -> Event:
    given = {"time_unix_nano": NOW, "agent": "shop", "kind": "tool_call", **fields}
    return Event(event_id=f"e{number}", **given)  # type: ignore[arg-type]


def admitted(events: list[Event], grant: Grant = ANYONE) -> AdmissionResult:
    return admit(events, [], grant, lambda same: same, PARTITIONS, NOW)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60_000)), max_size=60))
def test_every_event_is_in_one_parcel_of_its_partition(shapes: list[tuple[int, int]]) -> None:
    events = [
        event(number, interaction_id=f"i{which}", content="x" * size)
        for number, (which, size) in enumerate(shapes)
    ]
    found = admitted(events)
    lines = {}
    for batch in found.batches:
        assert batch.events == batch.lines.count(b"\n") + 1 <= MAX_EVENTS
        assert len(batch.lines) <= MAX_BYTES or batch.events == 1
        for line in batch.lines.split(b"\n"):
            lines[line] = batch.partition
    assert lines == {codec.encode([e]): partition_of(locality_key(e), PARTITIONS) for e in events}
    assert found.accepted == len(events)
    assert not found.refusals


def test_more_events_than_a_record_holds_are_cut() -> None:
    found = admitted([event(n, session_id="s") for n in range(2 * MAX_EVENTS + 1)])
    assert [batch.events for batch in found.batches] == [MAX_EVENTS, MAX_EVENTS, 1]


def test_what_no_worker_takes_is_refused() -> None:
    huge = event(1, attributes={str(n): "y" * 60_000 for n in range(6)}, session_id="s")
    found = admitted([event(0, session_id="s"), huge, event(2, session_id="s")])
    assert found.accepted == 2
    assert [refused.code for refused in found.refusals] == ["line_too_long"]


def test_the_past_is_taken_and_the_future_is_not() -> None:
    limit = NOW + MAX_FUTURE_NS
    times = (0, NOW, limit, limit + 1, 4_102_444_800_000_000_000)
    found = admitted([event(n, time_unix_nano=time) for n, time in enumerate(times)])
    assert found.accepted == 3
    assert found.reasons() == "future_time (2): more than 5 minutes ahead of the gateway"


def test_what_is_refused_twice_under_one_id_counts_twice() -> None:
    found = admitted([event(1, time_unix_nano=NOW + 2 * MAX_FUTURE_NS) for _ in range(2)])
    assert [refused.code for refused in found.refusals] == ["future_time"] * 2


def test_a_token_binds_environment_and_agents() -> None:
    grant = Grant("team", "staging", frozenset({"shop", "help"}))
    events = [event(0, environment="production"), event(1, agent="bank"), event(2, agent="help")]
    found = admitted(events, grant)
    assert found.accepted == 2
    assert [refused.code for refused in found.refusals] == ["forbidden"]
    assert all(b'"environment":"staging"' in batch.lines for batch in found.batches)
    assert all(b"bank" not in batch.lines for batch in found.batches)


def attributes(found: AdmissionResult) -> dict[str, dict[str, str]]:
    lines = [line for batch in found.batches for line in batch.lines.split(b"\n")]
    events = [msgspec.json.decode(line, type=Event) for line in lines]
    return {event.event_id: event.attributes or {} for event in events}


def test_what_a_bound_token_sends_says_what_it_may_speak_of() -> None:
    forged = {"driftline.scope": "production/bank", "a": "b"}
    events = [event(0, attributes=forged, target="i-of-bank", kind="outcome"), event(1)]
    found = attributes(admitted(events, Grant("team", "staging", frozenset({"shop", "help"}))))
    assert found == {
        "e0": {"a": "b", "driftline.scope": "staging/help,shop"},
        "e1": {"driftline.scope": "staging/help,shop"},
    }
    assert attributes(admitted([event()], Grant("team", "staging"))) == {
        "e0": {"driftline.scope": "staging"}
    }
    assert attributes(admitted([event()])) == {"e0": {}}
    full = event(0, attributes={str(n): "" for n in range(256)})
    assert len(attributes(admitted([full], Grant("team", "staging")))["e0"]) == 256


def test_events_that_name_no_agent_belong_to_the_tokens() -> None:
    """Parts of an agent's work often name their service only."""
    service = {"attributes": {"service.name": "api"}, "agent": "api"}
    events = [
        event(0, interaction_id="t", **service),
        event(1, interaction_id="t", agent="help", attributes={"service.name": "api"}),
        event(2, interaction_id="u", **service),
        event(3, interaction_id="u", agent="bank", attributes={"service.name": "api"}),
    ]

    def agents(*allowed: str) -> dict[str, str]:
        batches = admitted(events, Grant("team", None, frozenset(allowed))).batches
        lines = [line for batch in batches for line in batch.lines.split(b"\n")]
        found = [msgspec.json.decode(line, type=Event) for line in lines]
        return {event.event_id: event.agent for event in found}

    assert agents("help") == {"e0": "help", "e1": "help", "e2": "help"}
    assert agents("help", "shop") == {"e0": "help", "e1": "help"}


def test_redaction_sees_every_event_before_it_is_packed() -> None:
    def blank(events: list[Event]) -> list[Event]:
        return [event(number) for number, _ in enumerate(events)]

    found = admit([event(7, content="secret")], [], ANYONE, blank, PARTITIONS, NOW)
    assert b"secret" not in found.batches[0].lines


def test_refusals_of_the_decoder_stay() -> None:
    found = admit([], [Refusal("too_deep", "x")], ANYONE, lambda e: e, PARTITIONS, NOW)
    assert (found.accepted, found.reasons(), found.size) == (0, "too_deep (1): x", 0)
