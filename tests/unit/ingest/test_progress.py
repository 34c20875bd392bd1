"""Health by progress: a pure function of what is known and the clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.core import telemetry
from ingest.core.health.sampler import PartitionPosition, Sampler
from ingest.core.health.verdict import (
    LOOP_SECONDS,
    Limits,
    PartitionHealth,
    ProgressTracker,
    Snapshot,
    judge,
)

LIMITS = Limits(unready_after=15, unhealthy_after=120)
TOPIC = "driftline.events"


def facts(*standings: PartitionHealth, at: float = 1000.0, **others: object) -> Snapshot:
    return Snapshot(at=at, joined=True, standings=standings, **others)  # type: ignore[arg-type]


def test_an_idle_worker_without_lag_is_healthy_for_ever() -> None:
    track = ProgressTracker(TOPIC, 0, since=0.0)
    for now in range(0, 100_000, 1000):
        track.update(lag=0, position=7, now=now)
    verdict = judge(facts(track.at(100_000.0), at=100_000.0), 100_001.0, LIMITS)
    assert (verdict.ready, verdict.healthy, verdict.reasons) == (True, True, ())


def test_a_record_after_long_idleness_gets_its_time() -> None:
    track = ProgressTracker(TOPIC, 0, since=0.0)
    track.update(lag=0, position=7, now=5000.0)
    track.update(lag=1, position=7, now=5000.5)
    assert track.at(5001.0).stalled_s == 0.5
    assert judge(facts(track.at(5001.0), at=5001.0), 5001.0, LIMITS).ready


def test_lag_without_progress_is_unready_then_unhealthy_and_says_where() -> None:
    track = ProgressTracker(TOPIC, 3, since=0.0)
    track.update(lag=0, position=40, now=0.0)
    verdicts = {}
    for now in range(1, 131):  # the lag grows, nothing is stored
        track.update(lag=now * 10, position=40, now=float(now))
        found = facts(track.at(now), at=float(now), doing={"insert into events": now - 1.0})
        verdicts[now] = judge(found, float(now), LIMITS)
    changes = [now for now in range(2, 131) if verdicts[now].status != verdicts[now - 1].status]
    assert [(now, verdicts[now].status) for now in changes] == [(16, "unready"), (121, "unhealthy")]
    (reason,) = verdicts[16].reasons
    assert (reason.code, reason.topic, reason.partition, reason.lag) == ("stalled", TOPIC, 3, 160)
    assert reason.text.endswith("(insert into events: 15 s)")
    body = verdicts[16].body("worker")
    assert body["status"] == "unready"
    assert body["reasons"][0]["partition"] == 3
    assert body["partitions"][0]["lag"] == 160
    track.update(lag=100, position=900, now=131.0)  # it moves again, though lag is left
    assert judge(facts(track.at(131.5), at=131.5), 131.5, LIMITS).ready


def test_slow_progress_is_progress() -> None:
    track = ProgressTracker(TOPIC, 0, since=0.0)
    for now in range(0, 1000, 10):  # lag grows all the time
        track.update(lag=1 + now, position=now, now=float(now))
        assert judge(facts(track.at(now + 9.0), at=now + 9.0), now + 9.0, LIMITS).ready


def test_one_stalled_partition_of_many_is_enough_and_the_worst_comes_first() -> None:
    standings = [PartitionHealth(TOPIC, n, lag=5, stalled_s=float(n)) for n in range(30)]
    verdict = judge(facts(*standings), 1000.0, LIMITS)
    assert (verdict.ready, verdict.healthy) == (False, True)
    assert [reason.partition for reason in verdict.reasons] == list(range(29, 14, -1))


def test_a_silent_broker_is_told_from_an_idle_topic() -> None:
    heard = PartitionHealth(TOPIC, 0, lag=0, silent_s=0.6)
    silent = PartitionHealth(TOPIC, 0, lag=0, silent_s=16.0)
    never = PartitionHealth(TOPIC, 0, lag=None, silent_s=16.0)
    assert judge(facts(heard), 1000.0, LIMITS).ready
    for standing in (silent, never):
        verdict = judge(facts(standing), 1000.0, LIMITS)
        assert [reason.code for reason in verdict.reasons] == ["broker_silent"]


def test_a_parked_partition_is_told_and_to_start_again_would_not_help() -> None:
    place = PartitionPosition(TOPIC, 3, position=7, end=900, parked="too many bad lines")
    sampler = Sampler(0.0)
    for now in (0.0, 10_000.0):
        found = sampler.sample([place], {"read": now}, now, 10**6)
        verdict = judge(found, now, LIMITS)
        assert (verdict.ready, verdict.healthy) == (False, True)
        (reason,) = verdict.reasons
        assert (reason.code, reason.partition, reason.lag) == ("too_many_bad_lines", 3, 893)
        assert (reason.text, reason.for_s) == ("too many bad lines", now)
    assert telemetry.STALLED.labels(TOPIC, "3")._value.get() == 10_000.0  # which alerts watch


def test_a_loop_that_stands_still_is_found_without_any_partition() -> None:
    verdict = judge(facts(loops={"read": 0.2, "write": 20.0}), 1000.0, LIMITS)
    assert [(reason.code, reason.partition) for reason in verdict.reasons] == [("loop_stuck", None)]
    assert "write" in verdict.reasons[0].text


def test_a_process_that_stops_saying_where_it_stands_is_unready() -> None:
    found = facts(PartitionHealth(TOPIC, 0, lag=0))
    assert judge(found, 1000.0 + LOOP_SECONDS, LIMITS).ready
    verdict = judge(found, 1001.0 + LOOP_SECONDS, LIMITS)
    assert [reason.code for reason in verdict.reasons] == ["process_stuck"]
    assert verdict.status == "unready"
    assert judge(found, 1121.0, LIMITS).status == "unhealthy"


def test_starting_is_unready_and_not_for_ever() -> None:
    assert judge(Snapshot(at=0.0), 0.0, LIMITS).status == "unready"
    assert judge(Snapshot(at=0.0), 119.0, LIMITS).status == "unready"
    assert judge(Snapshot(at=0.0), 121.0, LIMITS).status == "unhealthy"


@given(
    st.lists(
        st.tuples(st.floats(0.1, 60), st.one_of(st.none(), st.integers(0, 100)), st.integers(0, 3)),
        max_size=40,
    )
)
def test_a_stall_is_exactly_the_time_with_lag_and_without_a_move(
    steps: list[tuple[float, int | None, int]],
) -> None:
    """Against a second way to say it: look back to the last sample that was no stall."""
    track, now, position, history = ProgressTracker(TOPIC, 0, since=0.0), 0.0, 0, []
    for wait, lag, moved in steps:
        now, position = now + wait, position + moved
        track.update(lag, position, now)
        history.append((now, lag, position))
    expected = 0.0
    if history and history[-1][1]:
        last = 0.0
        for index, (at, lag, where) in enumerate(history):
            before = history[index - 1] if index else (0.0, None, None)
            if not lag or not before[1] or where != before[2]:
                last = at
        expected = now - last
    assert track.at(now).stalled_s == expected
