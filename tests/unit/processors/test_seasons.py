"""What differs from hour to hour, every week, is no change; what differs otherwise still is."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from detectors import sketch
from processors.signals import of
from processors.stations.base import Action, Sealed, empty_results
from processors.stations.detection import Detection, DetectionConfig
from processors.stations.incidents import Incidents
from processors.stations.mixes import MixStreams, mixtures
from processors.stations.rates import RateStreams
from processors.stations.runner import Stations
from processors.stations.seasons import Seasons, hour_of_week
from processors.stations.storage import MemoryStations
from processors.stations.streams import Thresholds, compress
from processors.stations.tails import TailStreams, minutes
from tests.support.stations import T0, results, run

HOUR, DAY, WEEK = 3_600, 86_400, 7 * 86_400
THRESHOLDS = Thresholds(1.0, 10.0, 8)
EVERY = 600  # seconds between two ticks of these tests


def at_night(at):
    return (at // HOUR) % 24 < 6


def ticks(first, end):
    return np.arange(T0 + first, T0 + end, EVERY)


def failures(at, night, day, seed=1):
    """Ticks of 40 interactions of one agent, which fail more often at night."""
    rng = np.random.default_rng([seed, int(at[0])])
    rate = np.where(at_night(at), night, day)
    return pl.DataFrame(
        {
            "tick": at, "signal": "failure", "environment": "production", "agent": "shop",
            "value": "", "total": rng.binomial(40, rate).astype(float), "n": 40.0,
        }
    )  # fmt: skip


def rates():
    return RateStreams(THRESHOLDS, 2_000.0, 0.01)


def test_a_rate_that_is_worse_every_night_is_a_change_only_until_its_weeks_are_known():
    streams = rates()
    early = streams.step(failures(ticks(12 * HOUR, 2 * WEEK), 0.30, 0.05))
    assert len({c.change_id for c in early}) >= 3  # night after night
    assert not streams.seasons.known.any()
    late = streams.step(failures(ticks(2 * WEEK, 5 * WEEK), 0.30, 0.05))
    assert [c for c in late if c.status == "open" and c.began >= T0 + 2 * WEEK + HOUR] == []
    # A day as bad as the nights, or a night that is worse still, is seen at once.
    for first, night, day in ((5 * WEEK + 12 * HOUR, 0.30, 0.30), (6 * WEEK, 0.60, 0.05)):
        streams.step(failures(ticks(5 * WEEK, first), 0.30, 0.05)) if day == 0.30 else None
        found = list(streams.step(failures(ticks(first, first + HOUR), night, day)))
        assert [c.status for c in found][:1] == ["open"], (night, day)
        usual = 0.05 if day == 0.30 else 0.30
        assert found[0].baseline == pytest.approx(usual, abs=0.03)
        after = streams.step(
            failures(ticks(first + HOUR, 6 * WEEK + (first >= 6 * WEEK) * DAY), 0.30, 0.05)
        )
        assert "recovered" in {c.status for c in after}


def test_a_slow_decline_is_not_taken_for_the_season():
    streams = rates()
    streams.step(failures(ticks(0, 3 * WEEK), 0.10, 0.05))
    opened = []
    for week in range(3, 12):
        worse = 1 + 0.15 * (week - 2)
        span = ticks(week * WEEK, (week + 1) * WEEK)
        opened += [
            c for c in streams.step(failures(span, 0.10 * worse, 0.05 * worse))
            if c.status == "open"
        ]  # fmt: skip
    assert opened
    level = streams.detector.baseline[0]
    assert level == pytest.approx((6 * 0.10 + 18 * 0.05) / 24, abs=0.005)


def test_what_happened_once_is_not_learnt():
    streams, noon = rates(), 2 * DAY + 12 * HOUR
    streams.step(failures(ticks(12 * HOUR, WEEK + noon), 0.10, 0.05))
    outage = streams.step(failures(ticks(WEEK + noon, WEEK + noon + 3 * HOUR), 0.6, 0.6))
    assert "open" in {c.status for c in outage}
    streams.step(failures(ticks(WEEK + noon + 3 * HOUR, 2 * WEEK + noon), 0.10, 0.05))
    assert streams.seasons.known.all()
    again = streams.step(failures(ticks(2 * WEEK + noon, 2 * WEEK + noon + HOUR), 0.6, 0.6))
    assert again[0].status == "open"
    assert again[0].baseline == pytest.approx(0.05, abs=0.02)


def test_a_change_at_the_turn_of_the_week_lasts():
    streams, before = rates(), 2 * WEEK - 3 * HOUR
    streams.step(failures(ticks(12 * HOUR, before), 0.10, 0.05))
    found = streams.step(failures(ticks(before, 2 * WEEK + 6 * HOUR), 0.6, 0.6))
    assert {c.status for c in found} == {"open"}
    assert not streams.seasons.known.any()
    streams.step(failures(ticks(2 * WEEK + 6 * HOUR, 3 * WEEK + HOUR), 0.10, 0.05))
    assert streams.seasons.known.all()


def known(night=0.30, day=0.05):
    streams = rates()
    streams.step(failures(ticks(12 * HOUR, 3 * WEEK), night, day))
    assert streams.seasons.known.all()
    return streams


def openings(changes):
    return [c.began - T0 for c in changes if c.status == "open"]


def test_a_change_that_lasts_is_one_change_whatever_the_hour():
    for night, day in ((0.60, 0.15), (0.60, 0.30), (0.75, 0.20)):
        streams = known()
        found = streams.step(failures(ticks(3 * WEEK, 4 * WEEK - DAY), night, day))
        assert len({c.change_id for c in found}) == 1, (night, day)
        assert "recovered" not in {c.status for c in found}


def test_a_day_that_is_worse_lasts_though_nights_always_were():
    streams = known(0.60)
    assert streams.step(failures(ticks(3 * WEEK, 3 * WEEK + 6 * HOUR), 0.60, 0.05)) == []
    found = streams.step(failures(ticks(3 * WEEK + 6 * HOUR, 3 * WEEK + DAY), 0.60, 0.15))
    assert len({c.change_id for c in found}) == 1
    assert "recovered" not in {c.status for c in found}


def test_what_is_told_as_usual_is_that_of_the_hours_of_the_change():
    streams = known()
    (first, *_) = streams.step(failures(ticks(3 * WEEK, 3 * WEEK + 20 * HOUR), 0.60, 0.15))
    assert first.baseline == pytest.approx(0.30, abs=0.03)
    (change,) = streams.register.open.values()
    assert change.baseline == pytest.approx((6 * 0.30 + 14 * 0.05) / 20, abs=0.02)


def test_thresholds_are_those_of_the_streams_that_are_left():
    streams = known()
    gone = failures(ticks(3 * WEEK, 3 * WEEK + HOUR), 0.1, 0.1).with_columns(agent=pl.lit("old"))
    streams.step(gone)
    streams.step(failures(ticks(3 * WEEK + HOUR, 4 * WEEK), 0.30, 0.05))
    streams.retire(T0 + 3 * WEEK + DAY, T0 + 4 * WEEK)
    assert streams.detector.n_streams == 1
    assert rates().load(streams.dump()).detector.arl == streams.detector.arl


def test_more_traffic_at_night_moves_nothing():
    streams = known()
    for week in range(3, 7):
        busy = failures(ticks(week * WEEK, (week + 1) * WEEK), 0.30, 0.05)
        rng = np.random.default_rng(week)
        night = at_night(busy["tick"].to_numpy())
        more = np.where(night, rng.binomial(80, 0.30, len(night)), 0)
        busy = busy.with_columns(total=pl.col("total") + more, n=pl.col("n") + 80.0 * night)
        assert streams.step(busy) == []


def test_nights_that_grow_worse_and_stay_so_do_not_make_days_odd():
    streams = known(0.10)
    found = []
    for week in range(3, 7):
        found += streams.step(failures(ticks(week * WEEK, (week + 1) * WEEK), 0.40, 0.05))
    assert max(openings(found)) <= 5 * WEEK  # the turn at which two such weeks are known
    assert "recovered" in {c.status for c in found}


@pytest.mark.parametrize("begin", [WEEK + 1800, WEEK + 9 * HOUR, WEEK + 4 * DAY + 12 * HOUR])
def test_a_change_that_goes_on_over_the_first_turn_is_neither_ended_nor_learnt(begin):
    streams = rates()
    streams.step(failures(ticks(0, begin), 0.05, 0.05))
    found = streams.step(failures(ticks(begin, 3 * WEEK), 0.15, 0.15))
    assert len(openings(found)) >= 1
    assert "recovered" not in {c.status for c in found}
    assert not streams.seasons.known.any()


def test_who_works_by_day_keeps_a_change_over_the_weekend():
    def at_work(first, end, rate):
        at = ticks(first, end)
        hours = (at // HOUR) % 24
        days = (at - T0) // DAY % 7
        return failures(at[(days < 5) & (hours >= 8) & (hours < 18)], rate, rate)

    streams, friday = rates(), WEEK + 4 * DAY + 12 * HOUR
    streams.step(at_work(12 * HOUR, friday, 0.05))
    found = streams.step(at_work(friday, 2 * WEEK + DAY, 0.25))
    assert len({c.change_id for c in found}) == 1
    assert "recovered" not in {c.status for c in found}


def test_a_part_of_a_week_is_no_week():
    streams = rates()
    streams.step(failures(ticks(5 * DAY, 2 * WEEK + HOUR), 0.2, 0.05))
    assert not streams.seasons.known.any()
    streams.step(failures(ticks(2 * WEEK + HOUR, 3 * WEEK + HOUR), 0.2, 0.05))
    assert streams.seasons.known.all()


def test_who_is_in_the_warm_up_stays_there():
    streams = RateStreams(THRESHOLDS, 1e6, 0.01)
    streams.step(failures(ticks(12 * HOUR, 3 * WEEK), 0.30, 0.05))
    assert not streams.detector.warm.any()
    assert not streams.seasons.known.any()
    assert not streams.seasons._cells.size  # and takes no memory


def test_who_warms_up_again_is_not_calibrated():
    seasons, called = Seasons(), []
    seasons.extend(1)
    quiet, n = np.zeros(1, np.bool_), np.array([20.0])
    for hour in range(2 * 168 + 1):
        warm = np.array([hour < 168])
        seasons.learn(T0 + hour * HOUR, n / 10, n, quiet, warm, lambda *found: called.append(found))
    assert called == []


def test_what_was_learnt_is_stored_and_a_state_of_before_is_taken_over():
    streams = rates()
    streams.step(failures(ticks(0, 3 * WEEK), 0.30, 0.05))
    assert streams.seasons.known.all()
    stored = json.loads(json.dumps(streams.dump()))
    again = rates().load(stored)
    rest = failures(ticks(3 * WEEK, 4 * WEEK), 0.30, 0.05)
    assert again.step(rest) == streams.step(rest)
    assert again.dump() == streams.dump()
    del stored["seasons"]
    older = rates().load(stored)
    older.step(rest)
    assert not older.seasons.known.any()


def test_an_accepted_level_is_learnt_anew():
    streams = rates()
    streams.step(failures(ticks(0, 3 * WEEK), 0.10, 0.05))
    (change,) = (
        c for c in streams.step(failures(ticks(3 * WEEK, 3 * WEEK + DAY), 0.4, 0.4))
        if c.status == "open" and c.severity == "page"
    )  # fmt: skip
    streams.accept(Action(change.change_id, "accept"), T0 + 3 * WEEK + DAY)
    assert not streams.seasons.known.any()
    quiet = streams.step(failures(ticks(3 * WEEK + DAY, 6 * WEEK), 0.4, 0.4))
    assert quiet == []
    assert streams.seasons.known.all()


def durations(at, slow, seed=0):
    """Ticks of 40 durations in ms, longer at night by a factor."""
    rows = []
    for tick in at.tolist():
        rng = np.random.default_rng([seed, tick])
        values = rng.lognormal(7, 0.5, 40) * (slow if at_night(tick) else 1.0)
        bins, counts = np.unique(sketch.bin_index(values), return_counts=True)
        rows.append((tick, "duration", "production", "shop", bins.tolist(), counts.tolist()))
    names = ["minute", "signal", "environment", "agent", "bins", "counts"]
    return pl.DataFrame(rows, names, orient="row")


def test_nights_that_are_slower_are_no_change_of_durations():
    streams = TailStreams(THRESHOLDS, 1_000.0)
    early = streams.step(durations(ticks(12 * HOUR, 2 * WEEK), 2.0))
    assert len({c.change_id for c in early}) >= 3
    late = streams.step(durations(ticks(2 * WEEK, 4 * WEEK), 2.0))
    assert [c for c in late if c.status == "open" and c.began >= T0 + 2 * WEEK + HOUR] == []
    stored = json.loads(json.dumps(streams.dump()))
    after = durations(ticks(4 * WEEK, 4 * WEEK + 2 * HOUR), 6.0)
    worse = streams.step(after)
    assert "open" in {c.status for c in worse}
    again = TailStreams(THRESHOLDS, 1_000.0).load(stored)
    assert again.step(after) == worse
    # Beside what is usual at night, not beside the noon whose values came first.
    (first, *_) = [c for c in worse if c.status == "open"]
    noon_p99 = np.exp(7 + 0.5 * 2.326)  # the tail leads
    assert first.baseline > 1.3 * noon_p99
    for tail in stored["tails"]:
        del tail[5:]  # as states of before have it
    assert TailStreams(THRESHOLDS, 1_000.0).load(stored).step(after)[0].status == "open"


class Changed:
    """Stands for a detector whose one group has been in a change all the time."""

    indicators = 3
    members = SimpleNamespace(warm=np.ones(3, np.bool_))

    def __init__(self):
        self.calibrated = []

    @property
    def detected(self):
        return np.array([not self.calibrated])

    def update(self, total, n, offset=None):
        assert total.shape == (1, 3)

    def calibrate(self, total, n, dispersion, *, groups):
        self.calibrated.append((total.shape, groups.tolist()))


@pytest.mark.parametrize("untold", [[0], []])
def test_a_change_that_lasts_has_no_season_unless_it_is_too_small_to_tell(untold):
    seasons, detector = Seasons(), Changed()
    seasons.extend(3)
    for hour in range(2 * 168 + 1):
        n = np.array([[20.0]])
        seasons.update(detector, T0 + hour * HOUR, np.full((1, 3), 5.0), n, untold)
    assert seasons.known.tolist() == [bool(untold)] * 3
    assert detector.calibrated == ([((1, 3), [0])] if untold else [])


def languages(at, german, seed=0):
    rng = np.random.default_rng([seed, int(at[0])])
    share = np.where(at_night(at), german, 0.1)
    many = rng.binomial(40, share)
    rows = [
        (t, "language", "production", "shop", ["de", "en"], [int(k), 40 - int(k)], 40)
        for t, k in zip(at.tolist(), many, strict=True)
    ]
    names = ["minute", "signal", "environment", "agent", "names", "counts", "n"]
    return pl.DataFrame(rows, names, orient="row")


def test_who_speaks_another_language_at_night_is_no_change_of_the_mix():
    streams = MixStreams(THRESHOLDS, 2_000.0)
    early = streams.step(languages(ticks(12 * HOUR, 2 * WEEK), 0.5))
    assert len({c.change_id for c in early}) >= 3
    late = streams.step(languages(ticks(2 * WEEK, 4 * WEEK), 0.5))
    assert [c for c in late if c.status == "open" and c.began >= T0 + 2 * WEEK + HOUR] == []
    worse = streams.step(languages(ticks(4 * WEEK, 4 * WEEK + 2 * HOUR), 0.9))
    assert [(c.status, c.value) for c in worse][:1] == [("open", "de")]
    assert worse[0].baseline == pytest.approx(0.5, abs=0.06)


def test_the_same_tools_in_another_order_are_another_mix():
    def seen(first, end, order):
        rows = [(T0 + cell + n, {"tools": order}) for cell in range(first, end, 10) for n in (0, 1)]
        sealed = Sealed(T0 + first, T0 + end, results(rows), empty_results())
        return mixtures(minutes(sealed))

    streams = MixStreams(THRESHOLDS, 500.0)
    assert streams.step(seen(0, 2 * HOUR, ["find", "check", "pay"])) == []
    found = streams.step(seen(2 * HOUR, 3 * HOUR, ["find", "pay", "check"]))
    assert [(c.signal, c.attribute, c.severity) for c in found] == [("order", "order", "notice")]
    assert found[0].value in ("find then pay", "pay then check")


def test_another_order_is_a_finding_with_examples():
    rows = [
        (T0 + cell + n, {"tools": ["find", "pay", "check"] if cell > 3 * HOUR else
                                  ["find", "check", "pay"], "agent_version": f"v{cell > 3 * HOUR}"})
        for cell in range(0, 4 * HOUR, 10) for n in (0, 1)
    ]  # fmt: skip
    store = MemoryStations()
    store.feed(results(rows), T0 + 4 * HOUR)
    config = DetectionConfig(warm_up=600)
    run(store, Stations(store, [Detection(config), Incidents()], save_every_s=0))
    (found,) = [f for f in store.rows("findings") if f["signal"] == "order"]
    assert found["title"].startswith(
        "shop (production): share of interactions that go find then pay"
    )
    assert found["examples"]
    assert json.loads(found["causes"])[0]["attribute"] == "agent_version"


def test_a_stored_state_takes_at_most_4_kib_a_stream():
    at = ticks(12 * HOUR, 3 * WEEK - 2 * HOUR)
    agents = [f"agent-{n}" for n in range(2)]
    streams, tails, mixes = rates(), TailStreams(THRESHOLDS, 1_000.0), MixStreams(THRESHOLDS, 500.0)
    plain = failures(at, 0.12, 0.05)
    named = [s.name for s in of("rate") if not s.per]
    streams.step(
        pl.concat(
            plain.with_columns(
                signal=pl.lit(name), agent=pl.lit(agent), total=pl.col("total").shuffle(n + m)
            )
            for n, name in enumerate(named) for m, agent in enumerate(agents)
        ).sort("tick")
    )  # fmt: skip
    each = [(a, s.name) for a in agents for s in of("tail")]
    tails.step(
        pl.concat(
            durations(at, 1.3, seed).with_columns(signal=pl.lit(name), agent=pl.lit(agent))
            for seed, (agent, name) in enumerate(each)
        ).sort("minute")
    )  # fmt: skip
    each = [(a, s.name) for a in agents for s in of("mix")]
    mixes.step(
        pl.concat(
            languages(at, 0.2, seed).with_columns(signal=pl.lit(name), agent=pl.lit(agent))
            for seed, (agent, name) in enumerate(each)
        ).sort("minute")
    )  # fmt: skip
    families = (streams, tails, mixes)
    assert all(f.seasons.known.all() for f in families)
    size = len(compress({str(n): f.dump() for n, f in enumerate(families)}))
    assert size / sum(len(f.register.keys) for f in families) < 4_096


def test_hours_without_traffic_and_weeks_without_any():
    seasons = Seasons()
    seasons.extend(2)
    called = []

    def calibrate(*found):
        called.append(found)

    neither, warm = np.zeros(2, np.bool_), np.ones(2, np.bool_)
    for week in (0, 1, 2):
        for hour in range(168):
            # The second one works three hours a day: too little to say how hours differ.
            n = np.array([20.0, 20.0 if hour % 24 in (9, 10, 11) else 0.0])
            seasons.learn(T0 + week * WEEK + hour * HOUR, n / 10, n, neither, warm, calibrate)
    assert seasons.known.tolist() == [True, False]
    assert seasons.offsets(T0) is not None
    (found,) = called
    assert found[3].tolist() == [0]
    assert np.abs(seasons.offsets(T0)).max() < 0.05  # every hour is alike
    # After a month of silence what goes on is learnt from the beginning.
    seasons.learn(
        T0 + 9 * WEEK, np.array([1.0, 1.0]), np.array([9.0, 9.0]), neither, warm, calibrate
    )
    assert len(called) == 1
    assert seasons._cells.sum() == 20
    assert not seasons._counts.any()


def test_monday_begins_at_midnight_utc():
    assert [hour_of_week(T0 + s) for s in (-1, 0, HOUR, WEEK)] == [167, 0, 1, 0]
