"""An agent against its fleet: blind to what hits all, awake to what hits one."""

import json

import numpy as np
import pytest

from detectors.change.contrast import FleetContrast
from detectors.change.rates import RateDetector

AGENTS, LEARN, WATCH = 60, 200, 300


def fleet(rng, shocks: float = 0.0):
    """Rates and traffic of agents, and shocks (log) common to all, as different as in life."""
    rates = rng.uniform(0.01, 0.12, AGENTS)
    n = rng.poisson(rng.lognormal(2.5, 0.8, AGENTS), (LEARN + WATCH, AGENTS))
    common = np.exp(rng.normal(0, shocks, (LEARN + WATCH, 1)))
    common[LEARN + 50 :] *= 2.0 if shocks else 1.0  # a provider gets worse, for good
    return np.minimum(rates * common, 0.9), n


def test_a_common_cause_rings_nobody_and_rings_all_without_the_contrast():
    rng = np.random.default_rng(1)
    p, n = fleet(rng, shocks=0.3)
    failed = rng.binomial(n, p)
    arl = 20_000
    contrast = FleetContrast(arl=arl).fit(failed[:LEARN], n[:LEARN])
    alone = RateDetector(AGENTS, arl=arl, dispersion=1.0)
    alone.calibrate(failed[:LEARN].sum(axis=0), n[:LEARN].sum(axis=0))
    rang = np.zeros((2, AGENTS), np.bool_)
    for t in range(LEARN, LEARN + WATCH):
        rang[0] |= contrast.update(failed[t], n[t]).detected
        rang[1] |= alone.update(failed[t], n[t]).detected
    assert rang[0].sum() <= 3  # expectation at most 60 * 300 / 20,000 = 0.9
    assert rang[1].mean() > 0.8


def test_false_alarms_stay_within_the_guarantee():
    arl, ticks, learn = 2000, 200, 60
    alarms = 0
    for seed in range(12):
        rng = np.random.default_rng([2, seed])
        n = np.full((learn + ticks, AGENTS), 15)
        common = np.exp(rng.normal(0, 0.5, (learn + ticks, 1)))
        failed = rng.binomial(n, np.minimum(rng.uniform(0.01, 0.1, AGENTS) * common, 1))
        contrast = FleetContrast(arl=arl, dispersion=1.0).fit(failed[:learn], n[:learn])
        ever = np.zeros(AGENTS, np.bool_)
        for t in range(learn, learn + ticks):
            ever |= contrast.update(failed[t], n[t]).detected
        alarms += ever.sum()
    assert alarms / (12 * AGENTS) <= ticks / arl


def test_the_one_that_leaves_is_found_measured_and_recovers():
    rng = np.random.default_rng(3)
    p, n = fleet(rng, shocks=0.3)
    n[:, 7] = 30
    p = p.copy()
    p[LEARN + 50 : LEARN + 150, 7] = np.minimum(p[LEARN + 50 : LEARN + 150, 7] * 2.5, 0.9)
    failed = rng.binomial(n, p)
    contrast = FleetContrast(arl=20_000).fit(failed[:LEARN], n[:LEARN])
    for t in range(LEARN, LEARN + 150):
        contrast.update(failed[t], n[t])
    assert contrast.detected[7]
    assert contrast.change_sign[7] == 1
    assert contrast.change_start[7] == pytest.approx(50, abs=10)
    low, high = contrast.rate_ratio_interval()
    assert 1.5 < low[7] < contrast.rate_ratio[7] < high[7] < 4
    assert np.isnan(contrast.rate_ratio[~contrast.detected]).all()
    for t in range(LEARN + 150, LEARN + WATCH):
        contrast.update(failed[t], n[t])
    assert not contrast.detected[7]


def test_a_large_agent_that_rings_no_longer_hides_in_the_rest():
    n = np.full((300, 3), [500, 20, 20])
    rng = np.random.default_rng(4)
    contrast = FleetContrast(arl=1000).fit(rng.binomial(n, 0.05), n)
    for _ in range(300):
        contrast.update(rng.binomial(n[0], [0.15, 0.05, 0.05]), n[0])
    assert contrast.detected.tolist() == [True, False, False]


def test_shocks_in_the_reference_do_not_bias_the_rates():
    rng = np.random.default_rng(5)
    n = np.full((400, 4), 200)
    n[200:, 0] = 5  # agent 0 was quiet while all failed five times as often
    p = np.array([0.05, 0.05, 0.02, 0.1]) * np.where(np.arange(400) < 200, 1, 5)[:, None]
    failed = rng.binomial(n, p)
    expected = FleetContrast().fit(failed, n).update([0, 0, 0, 0], n[0]).shares
    naive = failed.sum(axis=0) / n.sum(axis=0)
    assert naive[0] < 0.5 * naive[1]  # what it looks like
    rates = FleetContrast().fit(failed, n)._rate
    assert rates[0] / rates[1] == pytest.approx(1, abs=0.12)
    assert not expected.detected.any()


def test_ticks_that_say_nothing_move_nothing():
    rng = np.random.default_rng(6)
    n = np.full((100, 3), 40)
    contrast = FleetContrast().fit(rng.binomial(n, 0.1), n)
    before = contrast.update([4, 4, 9], 40).e_value
    assert np.array_equal(contrast.update(0, 0).e_value, before)
    assert np.array_equal(contrast.update(0, 40).e_value, before)
    assert np.array_equal(contrast.update([30, 0, 0], [40, 0, 0]).e_value, before)


def test_what_cannot_be_is_refused_and_snapshots_restore():
    rng = np.random.default_rng(7)
    n = np.full((50, 3), 40)
    contrast = FleetContrast().fit(rng.binomial(n, 0.1), n)
    contrast.update([9, 1, 2], 40)
    again = FleetContrast.restore(json.loads(json.dumps(contrast.snapshot())))
    assert again.update([9, 1, 2], 40).snapshot() == contrast.update([9, 1, 2], 40).snapshot()
    with pytest.raises(ValueError, match="between 0 and n"):
        contrast.update([50, 0, 0], 40)
    with pytest.raises(ValueError, match="call fit"):
        FleetContrast().update(1, 2)
    with pytest.raises(ValueError, match="two agents"):
        FleetContrast().fit(n[:, :1], n[:, :1])
    with pytest.raises(ValueError, match="every agent"):
        FleetContrast().fit(0 * n, n * [1, 1, 0])
    with pytest.raises(ValueError, match="fit"):
        contrast.extend(1)
