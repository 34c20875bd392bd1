"""A judge that changes in silence and an agent that changes are told apart."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from detectors.compare.judge_drift import JudgeWatch
from detectors.compare.ppi import powered_mean

RUNS, TICKS, CHANGE = 60, 240, 120
ANCHORS, STEADY, LIVE = 60, 3, 40


def run(seed, judge=0.0, agent=0.0):
    """Blame of one simulated run: hours of 40 judgements and 3 anchors.

    Anchors have verdicts of their own, some of them doubtful, and the judge says what it says with
    noise. ``judge`` is how much stricter it grows, ``agent`` how much worse the agents do.
    """
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.4, 0.2, ANCHORS)  # of a pass, for each anchor; most are certain
    first = chance > 0.5
    watch, turn = JudgeWatch(ANCHORS), 0
    for tick in range(TICKS):
        after = tick >= CHANGE
        strict = 1 - judge * after
        n = ANCHORS if watch.suspicious else STEADY
        chosen = (turn + np.arange(n)) % ANCHORS
        turn += n
        verdicts = rng.random(n) < chance[chosen] * strict
        rate = (0.75 - agent * after) * strict
        found = watch.update(
            rng.binomial(LIVE, rate), LIVE, int((verdicts != first[chosen]).sum()), n
        )
        if found:
            return found
    return None


@pytest.mark.parametrize(("who", "change"), [("judge", {"judge": 0.25}), ("agent", {"agent": 0.2})])
def test_the_right_one_is_blamed(who, change):
    blamed = [run(seed, **change) for seed in range(RUNS)]
    counts = Counter(one.who if one else "nobody" for one in blamed)
    assert counts[who] >= 55, counts
    early = [one for one in blamed if one and one.found < CHANGE]
    assert len(early) <= 3
    delays = [one.found - CHANGE for one in blamed if one and one.who == who]
    assert np.median(delays) < 48


def test_quiet_runs_blame_nobody_beyond_the_budget():
    # Two streams, each with at most one false alarm in 10,000 ticks: 60 x 240 x 2 / 10,000 = 2.9.
    blamed = [run(1_000 + seed) for seed in range(RUNS)]
    assert sum(one is not None for one in blamed) <= 6


def test_intervals_cover_and_are_never_wider_than_the_labels_alone():
    rng = np.random.default_rng(3)
    covered = wider = 0
    for _ in range(1_000):
        truth = rng.random(1_100) < 0.7
        judged = np.where(rng.random(1_100) < 0.2, True, truth) & (rng.random(1_100) < 0.9)
        found = powered_mean(truth[:100], judged[:100], judged[100:])
        covered += found.low <= 0.7 <= found.high
        width, alone = found.high - found.low, found.classical_high - found.classical_low
        wider += width > 1.02 * alone
    assert 930 <= covered <= 970
    assert wider == 0
