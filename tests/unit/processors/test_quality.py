"""The limit on bad lines against a count that needs no cleverness."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.core.circuit_breaker import MAX_BAD_LINES, WINDOW_LINES, BadLines


def naive(flags):
    """Most bad lines in any 1,000 in a row."""
    return max(
        (sum(flags[i : i + WINDOW_LINES]) for i in range(len(flags) - WINDOW_LINES + 1)), default=0
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0, 0.4),
    sizes=st.lists(st.integers(0, 1_500), min_size=1, max_size=8),
)
def test_every_window_counts_however_the_lines_are_cut(seed, share, sizes):
    rng = np.random.default_rng(seed)
    flags = rng.random(sum(sizes)) < share
    quality, worst, exceeded = BadLines(), 0, False
    for part in np.split(flags, np.cumsum(sizes)[:-1]):
        quality.update(part)
        worst = max(worst, quality.worst)
        exceeded = exceeded or quality.exceeded
    assert worst == naive(flags.tolist())
    assert exceeded == (worst > MAX_BAD_LINES)


def test_what_lies_further_back_than_the_window_is_forgotten():
    quality = BadLines().update(np.ones(MAX_BAD_LINES, np.bool_))
    for _ in range(3):
        quality.update(np.zeros(1_000, np.bool_))
    assert quality.worst == 0
    assert not quality.exceeded


@pytest.mark.parametrize(("bad", "exceeded"), [(MAX_BAD_LINES, False), (MAX_BAD_LINES + 1, True)])
def test_a_fifth_is_allowed_and_not_one_more(bad, exceeded):
    flags = np.zeros(WINDOW_LINES, np.bool_)
    flags[-bad:] = True
    quality = BadLines().update(flags[:999])
    assert not quality.exceeded  # not yet a thousand lines to judge by
    assert quality.update(flags[999:]).exceeded is exceeded
