"""How far event time has come, told from rows and a clock that the test sets."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.events import DIRTY_TOPIC, EVENTS_TOPIC
from processors.derive import sealing as watermarks
from processors.derive.sealing import Sealing, report, settled

S = 10**9
NOW = 1_760_000_000 * S
SCHEMA = {
    "topic": pl.String,
    "partition": pl.UInt32,
    "watermark": pl.Int64,
    "offset": pl.UInt64,
    "lag": pl.UInt64,
    "marked": pl.List(pl.UInt64),
    "advanced": pl.Int64,
    "updated": pl.Int64,
    "heard": pl.Int64,
}


def rows(*found):
    return pl.DataFrame(list(found), schema=SCHEMA, orient="row")


def partition(
    number, watermark, *, lag=0, marked=(0, 0), updated=NOW, offset=1, still_s=60, heard=None
):
    """What the sink says of a partition that has stood still for a while; times in ns."""
    return (
        EVENTS_TOPIC, number, watermark, offset, lag, list(marked),
        updated // 10**6 - round(still_s * 1000), updated // 10**6,
        (updated if heard is None else heard) // 10**6,
    )  # fmt: skip


def done(number, offset):
    """What a recompute agent says of a partition of marks."""
    return (DIRTY_TOPIC, number, 0, offset, 0, [], *[NOW // 10**6] * 3)


def test_nothing_is_known_before_the_first_report():
    assert report(rows(), NOW) is None
    assert Sealing().update(rows(), NOW).sealed == 0
    assert Sealing().update(rows(done(0, 9)), NOW).sealed == 0


def test_the_slowest_partition_with_lag_holds_all_back():
    slow, fast = NOW - 500 * S, NOW - 100 * S
    found = report(rows(partition(0, slow, lag=3), partition(1, fast, lag=1)), NOW)
    assert found.watermark == slow


def test_a_partition_without_lag_does_not_hold_back():
    slow, fast = NOW - 5_000 * S, NOW - 100 * S
    found = report(rows(partition(0, slow), partition(1, fast, lag=1)), NOW)
    assert found.watermark == fast


def test_a_partition_that_has_just_moved_holds_back_though_it_has_no_lag():
    """More may be on its way: between two records of a replay there is no lag either."""
    slow, fast = NOW - 5_000 * S, NOW - 100 * S
    moving = rows(partition(0, slow, still_s=2.9), partition(1, fast, lag=1))
    assert report(moving, NOW).watermark == slow
    still = rows(partition(0, slow, still_s=3), partition(1, fast, lag=1))
    assert report(still, NOW).watermark == fast
    assert report(rows(partition(0, slow, still_s=0)), NOW).watermark == slow


def test_lag_holds_back_even_before_the_first_event_is_stored():
    found = report(rows(partition(0, 0, lag=1), partition(1, NOW)), NOW)
    assert found.watermark == 0


@pytest.mark.parametrize("age_s", [0, 20, 40, 3_000, 3_600])
def test_idle_live_traffic_follows_the_clock_at_a_distance(age_s):
    """Otherwise the last cells of an agent that falls silent would never be sealed."""
    found = report(rows(partition(0, NOW - age_s * S), partition(1, 0)), NOW)
    assert found.watermark == max(NOW - age_s * S, NOW - 30 * S)


def given_up(reached, updated):
    """What the leader of the stations says of event time that was reached; times in ns."""
    return (watermarks.GIVEN_UP, 0, reached, 0, 0, [], *[updated // 10**6] * 3)


@pytest.mark.parametrize("away_h", [0.5, 1, 1.5, 5, 100])
def test_live_traffic_that_stays_away_is_followed_by_the_clock_for_as_long(away_h):
    """An agent with little traffic is silent for hours before that is sure."""
    later = NOW + round(away_h * 3600) * S
    still = rows(partition(0, NOW, updated=later, still_s=away_h * 3600))
    assert report(still, later).watermark == later - 30 * S


@pytest.mark.parametrize("down_h", [0.1, 5])
@pytest.mark.parametrize("since_h", [0.01, 3])
def test_a_restart_does_not_forget_that_traffic_was_live(since_h, down_h):
    """A worker that starts takes its partitions for such that have just moved."""
    stopped = NOW + round(since_h * 3600) * S
    later = stopped + round(down_h * 3600) * S
    kept = given_up(stopped - 60 * S, stopped)
    assert report(rows(partition(0, NOW, updated=later), kept), later).watermark == later - 30 * S


def test_what_was_live_long_ago_does_not_make_a_replay_live():
    """What is replayed was not there yet when event time last went along with the clock."""
    later = NOW + 90 * 24 * 3600 * S
    replayed = partition(0, NOW + 50 * 24 * 3600 * S, updated=later)
    found = report(rows(replayed, given_up(NOW - 60 * S, NOW)), later)
    assert found.watermark == NOW + 50 * 24 * 3600 * S + 60 * S


def test_idle_traffic_of_the_past_ends_shortly_after_its_last_event():
    """So that what is replayed from last year can go on with its next file."""
    last = NOW - 400 * 24 * 3600 * S
    assert report(rows(partition(0, last)), NOW).watermark == last + 60 * S
    much_later = rows(partition(0, last, updated=NOW + 9_000 * S))
    assert report(much_later, NOW + 9_000 * S).watermark == last + 60 * S
    followed = rows(partition(0, last), given_up(last + 45 * S, NOW))
    assert report(followed, NOW).watermark == last + 60 * S


def test_a_dead_reporter_says_nothing_of_the_clock():
    """Its partition may be full of events that nobody reads."""
    last = NOW - 20 * S
    late = NOW + 300 * S
    dead = rows(partition(0, last, updated=NOW), partition(1, last - S, updated=late))
    assert report(dead, late).watermark == last
    assert report(rows(partition(0, last, updated=late)), late).watermark == late - 30 * S


def test_a_replay_is_sealed_as_far_as_idle_partitions_have_heard_of_it():
    """Its records in other partitions may be on their way to a worker that has not seen them."""
    sealing, past = Sealing(), NOW - 90 * 24 * 3600 * S
    idle = [partition(0, past), partition(1, past)]
    before = sealing.update(rows(*idle), NOW).sealed
    assert before == past + 60 * S - 20 * S

    replayed = partition(0, past + 3_600 * S, updated=NOW + 2 * S, lag=5)
    silent = partition(1, past, updated=NOW + S)
    assert sealing.update(rows(replayed, silent), NOW + 2 * S).sealed == before
    says_the_same = partition(1, past, updated=NOW + 3 * S, heard=NOW + S)
    assert sealing.update(rows(replayed, says_the_same), NOW + 3 * S).sealed == before

    full = partition(1, past + 90 * S, updated=NOW + 4 * S, lag=3)
    assert sealing.update(rows(replayed, full), NOW + 4 * S).sealed == past + 90 * S - 20 * S
    empty = partition(1, past + 3_500 * S, updated=NOW + 9 * S)
    assert sealing.update(rows(replayed, empty), NOW + 9 * S).sealed == past + 3_580 * S


def test_what_a_replay_has_reached_is_all_when_everybody_heard_of_it():
    sealing, past = Sealing(), NOW - 90 * 24 * 3600 * S
    last = partition(0, past + 3_600 * S)
    silent = partition(1, past, updated=NOW - S)
    assert sealing.update(rows(last, silent), NOW).sealed == past - 20 * S
    silent = partition(1, past, updated=NOW + 8 * S)
    assert sealing.update(rows(last, silent), NOW + 8 * S).sealed == past + 3_640 * S


def test_live_traffic_waits_for_no_report_of_an_idle_partition():
    """Whatever comes later happened later."""
    live = partition(0, NOW, lag=1, updated=NOW)
    silent = partition(1, NOW - 5_000 * S, updated=NOW - 8 * S)
    assert Sealing().update(rows(live, silent), NOW).sealed == NOW - 20 * S
    dead = partition(1, NOW - 5_000 * S, updated=NOW - 60 * S)
    assert Sealing().update(rows(live, dead), NOW).sealed == NOW - 60 * S


def test_no_events_no_event_time():
    assert report(rows(partition(0, 0)), NOW).watermark == 0


def test_marks_are_the_furthest_that_anybody_made():
    found = report(rows(partition(0, 1, marked=(5, 1)), partition(1, 1, marked=(2, 7))), NOW)
    assert found.marked == (5, 7)


@pytest.mark.parametrize("marked", [[(5,), (2, 7)], [(2, 7), (5,)]])
def test_partitions_that_were_added_are_waited_for_though_not_everybody_knows_them(marked):
    both = [partition(number, NOW, lag=1, marked=some) for number, some in enumerate(marked)]
    assert watermarks.marks_made(rows(*both)) == (5, 7)
    sealing = Sealing()
    assert sealing.update(rows(*both, done(0, 5), done(1, 6)), NOW).sealed == 0
    assert not settled(rows(*both, done(0, 5), done(1, 6)), {0: 1, 1: 1})
    assert sealing.update(rows(*both, done(0, 5), done(1, 7)), NOW).sealed == NOW - 20 * S
    assert settled(rows(*both, done(0, 5), done(1, 7)), {0: 1, 1: 1})


def test_cells_are_sealed_whole_and_with_a_delay():
    lagging = partition(0, NOW + 9 * S, lag=1)
    assert NOW % (10 * S) == 0
    assert Sealing().update(rows(lagging), NOW).sealed == NOW - 10 * S
    lagging = partition(0, NOW + 5 * S, lag=1)
    assert Sealing().update(rows(lagging), NOW).sealed == NOW - 10 * S
    lagging = partition(0, NOW + 5 * S - 1, lag=1)
    assert Sealing().update(rows(lagging), NOW).sealed == NOW - 20 * S


def test_marks_that_are_not_worked_off_hold_sealing_back():
    sealing = Sealing()
    first = partition(0, NOW, lag=1, marked=(3, 4))
    assert sealing.update(rows(first, done(0, 3), done(1, 3)), NOW).sealed == 0
    assert sealing.update(rows(first, done(0, 3)), NOW).sealed == 0
    assert sealing.update(rows(first, done(0, 3), done(1, 4)), NOW).sealed == NOW - 20 * S


def test_a_later_report_seals_only_with_its_own_marks():
    """What was reported first is sealed although newer marks keep coming all the time."""
    sealing = Sealing()
    sealing.update(rows(partition(0, NOW, lag=1, marked=(3, 0))), NOW)
    later = partition(0, NOW + 100 * S, lag=1, marked=(8, 0))
    assert sealing.update(rows(later, done(0, 3)), NOW).sealed == NOW - 20 * S
    assert sealing.update(rows(later, done(0, 7)), NOW).sealed == NOW - 20 * S
    assert sealing.update(rows(later, done(0, 8)), NOW).sealed == NOW + 80 * S


@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 1), st.integers(0, 3))))
def test_what_is_sealed_stays_sealed(steps):
    sealing, before = Sealing(), 0
    for watermark, lag, lagging_marks in steps:
        found = rows(
            partition(0, NOW + watermark * S, lag=lag, marked=(lagging_marks, 0)), done(0, 2)
        )
        sealed = sealing.update(found, NOW).sealed
        assert sealed >= before
        assert sealed % (10 * S) == 0
        before = sealed


def test_settled_wants_rows_and_all_that_follows_from_them():
    stored = partition(1, NOW, offset=7, marked=(2, 5))
    assert not settled(rows(), {1: 7})
    assert not settled(rows(partition(1, NOW, offset=6)), {1: 7})
    assert not settled(rows(stored), {1: 7})
    assert not settled(rows(stored, done(0, 2), done(1, 4)), {1: 7})
    assert settled(rows(stored, done(0, 2), done(1, 5)), {1: 7})
    assert settled(rows(stored, done(0, 2), done(1, 5)), {1: 3})
    assert not settled(rows(stored, done(0, 2), done(1, 5)), {0: 1, 1: 7})


def test_settled_does_not_wait_for_partitions_of_no_interest():
    other = partition(0, NOW, offset=1, lag=99, marked=(50, 50))
    mine = partition(1, NOW, offset=7, marked=(2, 5))
    assert settled(rows(other, mine, done(0, 2), done(1, 5)), {1: 7})
    assert settled(rows(other), {})


def test_progress_rows_fit_the_table():
    found = watermarks.progress_rows("log", {0: 3, 2: 9})
    assert found.schema == pl.Schema(watermarks.SCHEMA)
    assert found.select("log_id", "topic", "partition", "offset").rows() == [
        ("log", DIRTY_TOPIC, 0, 3),
        ("log", DIRTY_TOPIC, 2, 9),
    ]
    assert (datetime.now(UTC) - found["updated"][0]).total_seconds() < 60
