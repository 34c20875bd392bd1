import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import pack, unpack
from detectors.change.rates import RateDetector


def run(detector: RateDetector, rates, rng, n: int = 1) -> np.ndarray:
    """First tick at which each stream is detected, or -1."""
    first = np.full(detector.n_streams, -1)
    for tick, rate in enumerate(rates):
        detector.update(rng.binomial(n, rate, detector.n_streams), n)
        first[(first < 0) & detector.detected] = tick
    return first


def test_false_alarms_stay_within_the_guarantee_with_an_unknown_baseline():
    # P(alarm within T ticks) <= T / arl, references of 200 values only
    rng = np.random.default_rng(3)
    streams, ticks, arl = 800, 800, 4000
    detector = RateDetector(streams, arl=arl, dispersion=1.0, direction="both")
    detector.calibrate(rng.binomial(200, 0.1, streams), 200)
    alarms = (run(detector, [0.1] * ticks, rng) >= 0).mean()
    assert 0 < alarms <= ticks / arl


def test_a_doubled_failure_rate_is_found_within_150_events():
    rng = np.random.default_rng(4)
    detector = RateDetector(400, arl=10_000, dispersion=1.0)
    detector.calibrate(rng.binomial(10_000, 0.1, 400), 10_000)
    first = run(detector, [0.2] * 600, rng)
    assert (first >= 0).all()
    assert np.median(first + 1) <= 150
    assert (detector.change_sign == 1).all()
    low, high = detector.observed_interval()
    assert np.mean((low <= 0.2) & (high >= 0.2)) >= 0.9


def test_the_start_of_the_change_is_dated():
    rng = np.random.default_rng(5)
    detector = RateDetector(300, dispersion=1.0, warm_up=5000)
    run(detector, [0.1] * 600 + [0.25] * 60, rng, n=10)
    late = detector.change_start - 600
    assert detector.detected.all()
    assert abs(np.median(late)) <= 2
    assert np.quantile(np.abs(late), 0.9) <= 20


def test_a_fall_is_found_only_when_asked_for():
    rng = np.random.default_rng(6)
    kinds = {d: RateDetector(20, dispersion=1.0, direction=d) for d in ("up", "down", "both")}
    for detector in kinds.values():
        run(detector, [0.3] * 200 + [0.1] * 100, rng, n=10)
    assert not kinds["up"].detected.any()
    assert kinds["down"].detected.all()
    assert kinds["both"].detected.all()
    assert (kinds["both"].change_sign == -1).all()


def test_recovery_needs_evidence_of_its_own():
    rng = np.random.default_rng(8)
    detector = RateDetector(50, dispersion=1.0)
    run(detector, [0.1] * 150 + [0.3] * 60, rng, n=10)
    assert detector.detected.all()
    detector.update(0, 1)
    assert detector.detected.all()  # one good interaction ends nothing
    run(detector, [0.1] * 120, rng, n=10)
    assert not detector.detected.any()
    assert (detector.change_start == -1).all()
    assert (detector.e_value < detector.threshold).all()
    run(detector, [0.3] * 60, rng, n=10)
    assert detector.detected.all()  # armed again


def test_changes_below_the_minimum_effect_are_no_changes():
    rng = np.random.default_rng(9)
    strict = RateDetector(60, dispersion=1.0, min_effect=0.0)
    lenient = RateDetector(60, dispersion=1.0, min_effect=0.05)
    found = []
    for detector in (strict, lenient):
        detector.calibrate(rng.binomial(20_000, 0.1, 60), 20_000)
        found.append(run(detector, [0.14] * 300, rng, n=20) >= 0)
    assert found[0].all()
    assert not found[1].any()


def test_overdispersion_is_measured_and_answered():
    rng = np.random.default_rng(10)
    arl, streams, ticks = 2000, 200, 400
    naive = RateDetector(streams, arl=arl, dispersion=1.0, warm_up=20_000)
    aware = RateDetector(streams, arl=arl, warm_up=20_000)
    alarms = np.zeros((2, streams), np.bool_)
    for _ in range(200 + ticks):
        failures = rng.binomial(100, rng.beta(2, 18, streams))
        alarms[0] |= naive.update(failures, 100).detected
        alarms[1] |= aware.update(failures, 100).detected
    # variance of a beta-binomial over a binomial's: 1 + (n - 1) / (a + b + 1)
    assert np.median(aware.dispersion_used) == pytest.approx(1 + 99 / 21, rel=0.35)
    assert alarms[0].mean() > 0.9
    assert alarms[1].mean() <= ticks / arl


def test_warm_up_ticks_without_events_and_small_n():
    detector = RateDetector(2, warm_up=10)
    detector.update([0, 0], [0, 10])
    assert detector.warm.tolist() == [False, True]
    assert np.isnan(detector.baseline[0])
    assert detector.baseline[1] == 0
    assert detector.e_value.tolist() == [0, 0]
    before = detector.update([0, 1], [1, 2]).e_value
    assert np.array_equal(detector.update(0, 0).e_value, before)  # nothing happened, nothing moves
    assert detector.tick.tolist() == [3, 3]


@pytest.mark.parametrize(("total", "n"), [(2, 1), (-1, 1), (np.nan, 1), (1, np.nan)])
def test_impossible_counts_are_refused(total: float, n: float):
    with pytest.raises(ValueError, match="total"):
        RateDetector().update(total, n)


def test_huge_windows_stay_finite():
    detector = RateDetector(1, dispersion=1.0).calibrate(100, 10_000)
    for _ in range(5):
        detector.update(10**7, 10**7)
    assert np.isfinite(detector.e_value).all()
    for _ in range(5):
        detector.update(0, 10**7)
    assert np.isfinite(detector.e_value).all()
    assert not detector.detected[0]


def test_streams_do_not_influence_each_other():
    rng = np.random.default_rng(12)
    data = rng.binomial(5, 0.2, (300, 4))
    together = RateDetector(4, warm_up=300)
    alone = [RateDetector(1, warm_up=300) for _ in range(4)]
    for row in data:
        together.update(row, 5)
        for detector, value in zip(alone, row, strict=True):
            detector.update(value, 5)
    assert together.e_value.tolist() == [float(d.e_value[0]) for d in alone]


def test_extend_and_reset():
    detector = RateDetector(1, warm_up=10).update(1, 10)
    detector.extend(2)
    assert detector.warm.tolist() == [True, False, False]
    detector.update(1, 10)
    detector.reset([0])
    assert detector.warm.tolist() == [False, True, True]
    assert detector.tick.tolist() == [2, 1, 1]


def test_an_accepted_change_is_the_new_normal():
    rng = np.random.default_rng(13)
    detector = RateDetector(60, dispersion=1.0, warm_up=1000)
    run(detector, [0.1] * 150 + [0.3] * 250, rng, n=10)
    assert detector.detected.all()
    assert detector.baseline.mean() == pytest.approx(0.1, abs=0.01)
    detector.accept(np.arange(30))
    assert detector.detected.tolist() == [False] * 30 + [True] * 30
    assert detector.warm.all()  # what came since the alarm was enough
    # only what came after the alarm: not biased by what rang it
    assert detector.baseline[:30].mean() == pytest.approx(0.3, abs=0.005)
    run(detector, [0.3] * 300, rng, n=10)
    assert not detector.detected[:30].any()
    run(detector, [0.5] * 40, rng, n=10)
    assert detector.detected[:30].all()
    with pytest.raises(ValueError, match="detected"):
        RateDetector(1).accept([0])


def test_an_acceptance_without_enough_values_goes_on_with_the_warm_up():
    rng = np.random.default_rng(14)
    detector = RateDetector(1, dispersion=1.0, warm_up=1000)
    for tick in range(1000):
        detector.update(rng.binomial(10, 0.1 if tick < 200 else 0.4), 10)
        if detector.detected[0]:
            break
    detector.update(4, 10)
    detector.accept([True])
    assert detector.warm.tolist() == [False]
    assert detector.baseline_n.tolist() == [10]
    run(detector, [0.4] * 99, rng, n=10)
    assert detector.warm.tolist() == [True]


def test_single_streams_can_be_calibrated_again():
    detector = RateDetector(3, dispersion=1.0).calibrate([10, 20, 30], 100)
    detector.calibrate(50, 200, streams=[1])
    assert detector.baseline.tolist() == [0.1, 0.25, 0.3]
    with pytest.raises(ValueError, match="total"):
        detector.calibrate(3, 2, streams=[0])


def test_a_reference_that_has_grown_sees_what_a_short_one_cannot():
    found = {}
    for settle in (0, 2000):
        rng = np.random.default_rng(2)
        detector = RateDetector(40, warm_up=500, settle=settle, arl=50_000)
        assert (run(detector, [0.1] * 2500, rng, 5) >= 0).sum() <= 2
        assert bool(detector.baseline_n.max() > 9_000) == (settle > 0)
        found[settle] = (run(detector, [0.13] * 1500, rng, 5) >= 0).mean()
    assert found[2000] >= 0.95 > 0.5 > found[0]


def test_a_reference_does_not_grow_over_a_change():
    rng = np.random.default_rng(4)
    detector = RateDetector(20, warm_up=1000, settle=1000, arl=10_000)
    rates = [0.1] * 400 + [0.4] * 100 + [0.1] * 1400
    assert (run(detector, rates, rng, 5) >= 400).all()
    assert not detector.detected.any()
    assert np.abs(detector.baseline - 0.1).max() < 0.02
    assert detector.baseline_n.min() > 4_000  # of before the change and after it


def test_what_was_expected_follows_the_offset():
    rng = np.random.default_rng(15)
    detector = RateDetector(1, dispersion=1.0).calibrate(1000, 10_000)
    away = np.log(0.25 / 0.75) - np.log(0.1 / 0.9)  # 0.25 is expected now
    for _ in range(200):
        detector.update(rng.binomial(20, 0.5), 20, away)
    assert detector.expected[0] == pytest.approx(0.25, abs=0.001)
    assert detector.observed[0] == pytest.approx(0.5, abs=0.03)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(5, 9)), min_size=1, max_size=40),
    st.integers(0, 40),
    st.sampled_from(["up", "down", "both"]),
)
def test_a_restored_detector_goes_on_bit_for_bit(ticks, cut, direction):
    whole = RateDetector(2, warm_up=30, arl=50, direction=direction, settle=20)
    parted = RateDetector(2, warm_up=30, arl=50, direction=direction, settle=20)
    for at, (failures, n) in enumerate(ticks):
        if at == cut:
            parted = RateDetector.restore(json.loads(json.dumps(parted.snapshot())))
        whole.update([failures, 0], n)
        parted.update([failures, 0], n)
    assert parted.snapshot() == whole.snapshot()


def test_a_foreign_snapshot_is_refused():
    good = RateDetector(2).snapshot()
    with pytest.raises(ValueError, match="not a snapshot"):
        RateDetector.restore({**good, "version": 99})
    bad = {**good, "state": {**good["state"], "_tick": pack(np.zeros(3, np.int64))}}
    with pytest.raises(ValueError, match="shape"):
        RateDetector.restore(bad)
    with pytest.raises(ValueError, match="numbers only"):
        unpack({"dtype": "|O8", "shape": [1], "data": ""})


def test_state_fits_four_kib_per_stream():
    detector = RateDetector(1000, direction="both")
    size = sum(v.nbytes for v in vars(detector).values() if isinstance(v, np.ndarray))
    assert size / 1000 <= 4096
