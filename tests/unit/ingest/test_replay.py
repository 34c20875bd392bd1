"""Order, pace, shift and tally of a replay, against a clock that only moves when told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.errors import Rejected, Unavailable
from ingest.core.events import Event
from ingest.producer import ListProducer
from ingest.replay.publish import TICK_S, Clock, Shift, Tally, end_ns, replay, shift_to_now

S = 10**9


def event(at_s: float, **fields: object) -> Event:
    given_ = {
        "event_id": f"e{at_s}",
        "time_unix_nano": int(at_s * S),
        "agent": "a",
        "kind": "score",
    }
    return Event(**{**given_, **fields})  # type: ignore[arg-type]


@dataclass
class FakeTime:
    """A clock whose time passes only in sleep."""

    ns: int = 1_000_000 * S
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ns += math.ceil(seconds * S)  # a sleep is never shorter

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.ns, self.sleep)


@dataclass
class Timed(ListProducer):
    """Remembers when each event was flushed."""

    time: FakeTime = field(default_factory=FakeTime)
    at: dict[str, float] = field(default_factory=dict)

    def flush(self) -> None:
        for pending in self.pending:
            self.at[pending.event_id] = (self.time.ns - 1_000_000 * S) / S
        ListProducer.flush(self)


def test_events_are_sent_oldest_first_and_counted() -> None:
    producer, seen = ListProducer(), list[int]()
    items = [
        event(3),
        Rejected("invalid_field", "x"),
        event(1),
        Rejected("invalid_field"),
        event(2),
    ]
    tally = replay(items, producer, report=lambda tally: seen.append(tally.accepted))
    assert [e.time_unix_nano // S for e in producer.flushed] == [1, 2, 3]
    assert (tally.read, tally.accepted, tally.last_ns) == (5, 3, 3 * S)
    assert tally.rejected == {"invalid_field": 2}
    assert tally.details == {"invalid_field": "x"}
    assert seen[-1] == 3


def test_an_event_of_the_future_is_refused_as_the_worker_would() -> None:
    time = FakeTime()
    at_limit, beyond = event(1_000_300), event(1_000_300.1)
    tally = replay([beyond, at_limit], producer := ListProducer(), clock=time.clock)
    assert producer.flushed == [at_limit]
    assert tally.rejected == {"future_time": 1}


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_pace(speed: float) -> None:
    producer = Timed(time=(time := FakeTime()))
    times = [0.0, 0.01, 5.0, 5.0, 60.0]
    replay(
        [event(at, event_id=f"{n}") for n, at in enumerate(times)],
        producer,
        speed=speed,
        clock=time.clock,
    )
    for n, at in enumerate(times):
        assert at / speed <= producer.at[f"{n}"] <= at / speed + TICK_S + 1e-6


def test_full_speed_never_waits() -> None:
    time = FakeTime()
    replay([event(at) for at in range(2500)], producer := ListProducer(), clock=time.clock)
    assert time.slept == []
    assert len(producer.flushed) == 2500


def test_what_the_producer_cannot_keep_is_an_error() -> None:
    class Away(ListProducer):
        def flush(self) -> None:
            raise Unavailable("away")

    with pytest.raises(Unavailable):
        replay([event(1)], Away())


def test_nothing_to_replay() -> None:
    assert replay([], ListProducer()) == Tally()
    assert shift_to_now([Rejected("x")], 5) is None


def test_shift_moves_times_and_all_ids_together() -> None:
    original = event(1, session_id="s", interaction_id="i", parent_id="p", target="t", user_id="u")
    moved = Shift(255)(original)
    assert moved == event(
        1,
        event_id="e1+ff",
        time_unix_nano=S + 255,
        session_id="s+ff",
        interaction_id="i+ff",
        parent_id="p+ff",
        target="t+ff",
        user_id="u",
    )
    assert Shift(-255)(event(1)).event_id == "e1-ff"
    assert Shift(255)(event(1)).session_id is None


@given(st.text(min_size=1, max_size=256), st.text(min_size=1, max_size=256), st.integers(1, 2**60))
def test_shifted_ids_fit_and_stay_apart(one: str, other: str, delta: int) -> None:
    first, second = (Shift(delta)(event(1, event_id=text)).event_id for text in (one, other))
    assert 0 < len(first) <= 256
    assert (first == second) == (one == other)
    assert first != Shift(delta + 1)(event(1, event_id=one)).event_id


@given(
    st.lists(st.integers(0, 3600), min_size=1, max_size=5),
    st.sampled_from([0.5, 1.0, 3.0, math.inf]),
)
def test_the_last_event_is_now_and_none_is_ever_ahead(times: list[int], speed: float) -> None:
    time = FakeTime()
    events = [event(at, event_id=f"{n}") for n, at in enumerate(times)]
    shift = shift_to_now(events, time.ns, speed)
    assert shift is not None
    ahead = []

    class Watching(ListProducer):
        def flush(self) -> None:
            ahead.extend(e.time_unix_nano - time.ns for e in self.pending)
            ListProducer.flush(self)

    replay(map(shift, events), producer := Watching(), speed=speed, clock=time.clock)
    assert len(producer.flushed) == len(times)
    assert max(ahead) <= 0
    if speed >= 1:
        assert max(ahead) >= -2 * TICK_S * S


def test_end() -> None:
    assert end_ns(100, 60, math.inf) == 100
    assert end_ns(100, 60, 1.0) == 160
    assert end_ns(100, 60, 2.0) == 130
    assert end_ns(100, 60, 0.5) == 160
