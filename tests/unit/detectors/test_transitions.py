"""The order of steps: found where the mix of steps does not move."""

import json

import numpy as np
import pytest

from detectors.change.ensembles import EnsembleDetector
from detectors.change.transitions import END, OTHER, START, TransitionDetector, transition_counts

STATES = ["find", "check", "refund"]
USUAL, HASTY = STATES, ["find", "refund", "check"]


def tick(rng, share: float, n: int = 20):
    return [HASTY if x else USUAL for x in rng.random(n) < share]


def test_counts_have_ends_and_a_place_for_the_unknown():
    counts = transition_counts([["find", "magic"], []], ["find"])
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert (counts.sum(axis=0) == counts.sum(axis=1)).all()  # what is entered is left


def test_a_new_order_is_found_where_the_mix_of_tools_is_blind():
    rng = np.random.default_rng(1)
    order = TransitionDetector(2, STATES, warm_up=1500, dispersion=1.0)
    mix = EnsembleDetector(1, 3, direction="both", warm_up=1500, dispersion=1.0)
    for t in range(250):
        paths = tick(rng, 0.3 if t >= 150 else 0.05), tick(rng, 0.05)
        order.update([transition_counts(p, STATES) for p in paths])
        mix.update([[sum(p.count(s) for p in paths[0]) for s in STATES]], 60)
    assert order.detected.tolist() == [True, False]
    assert abs(order.change_start[0] - 150) <= 5
    before, after = order.leading[0]
    assert {before, after} <= {START, END, OTHER, *STATES}
    assert order.leading[1] is None
    assert order.observed[0] == pytest.approx(0.3, abs=0.1) or order.change_sign[0] == -1
    assert order.baseline[0, 1, 2] == pytest.approx(0.95, abs=0.03)
    assert not mix.detected.any()


def test_unchanged_chains_stay_within_the_guarantee():
    rng = np.random.default_rng(2)
    agents, ticks, arl = 60, 150, 1500
    p = rng.dirichlet(np.ones(5), (agents, 5))
    start = rng.poisson(30, (agents, 5))
    detector = TransitionDetector(agents, STATES, arl=arl, dispersion=1.0)

    def draw(n):
        return np.stack(
            [[rng.multinomial(n[a, s], p[a, s]) for s in range(5)] for a in range(agents)]
        )

    detector.calibrate(draw(20 * start))
    ever = np.zeros(agents, np.bool_)
    for _ in range(ticks):
        ever |= detector.update(draw(start)).detected
    assert ever.mean() <= ticks / arl


def test_an_accepted_order_is_the_new_normal_and_snapshots_restore():
    rng = np.random.default_rng(3)
    detector = TransitionDetector(1, STATES, warm_up=400, dispersion=1.0, arl=1000)
    for t in range(200):
        detector.update([transition_counts(tick(rng, 0.6 if t >= 100 else 0.05), STATES)])
    assert detector.detected[0]
    again = TransitionDetector.restore(json.loads(json.dumps(detector.snapshot())))
    assert again.snapshot() == detector.snapshot()
    assert np.array_equal(again.transition_e_values, detector.transition_e_values)
    detector.accept([0])
    assert not detector.detected[0]
    assert detector.baseline[0, 1, 3] == pytest.approx(0.6, abs=0.05)
    with pytest.raises(ValueError, match="shape"):
        detector.update([[[1]]])
    with pytest.raises(ValueError, match="not a snapshot"):
        TransitionDetector.restore({"detector": "x"})
