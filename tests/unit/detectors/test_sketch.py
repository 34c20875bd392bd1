import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import sketch

POSITIVE = st.floats(1e-6, 1e12)
SAMPLES = st.lists(st.one_of(st.just(0.0), POSITIVE), min_size=1, max_size=60)


def heavy_tailed(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    body = rng.lognormal(6, 1.5, n)
    return np.where(rng.random(n) < 0.1, 100 * rng.pareto(1.05, n), body)


@given(SAMPLES, st.floats(0, 1))
def test_quantile_is_within_one_percent_of_the_lower_percentile(values: list[float], q: float):
    exact = np.percentile(values, 100 * q, method="lower")
    # both definitions must floor the same product, so give numpy's own q
    estimate = float(sketch.quantile(*sketch.histogram(values), 100 * q / 100))
    assert abs(estimate - exact) <= sketch.RELATIVE_ERROR * exact * (1 + 1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 101, 100_000])
@pytest.mark.parametrize("seed", range(5))
def test_quantiles_of_heavy_tails(seed: int, n: int):
    values = heavy_tailed(seed, n)
    q = np.array([0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0])
    exact = np.quantile(values, q, method="lower")
    estimate = sketch.quantile(*sketch.histogram(values), q)
    assert np.all(np.abs(estimate / exact - 1) <= sketch.RELATIVE_ERROR * (1 + 1e-9))


@given(st.lists(SAMPLES, min_size=1, max_size=5), st.randoms())
def test_merging_parts_in_any_order_equals_the_sketch_of_all(parts, order):
    whole = sketch.histogram([value for part in parts for value in part])
    order.shuffle(parts)
    bins, counts = sketch.merge(sketch.histogram(part) for part in parts)
    assert bins.tolist() == whole[0].tolist()
    assert counts.tolist() == whole[1].tolist()


@given(st.lists(st.floats(1e-280, 1e280), min_size=1, max_size=50))
def test_a_value_lies_within_one_percent_of_its_bin(values: list[float]):
    represented = sketch.bin_value(sketch.bin_index(values))
    assert np.all(np.abs(represented / np.array(values) - 1) <= 0.01 * (1 + 1e-9))


def test_extremes_keep_out_of_the_bin_of_zero():
    bins = sketch.bin_index([0.0, 5e-324, 1e-300, 1.7e308, math.inf])
    assert bins.dtype == np.int16
    assert bins.tolist() == [-32768, -32767, -32767, 32767, 32767]


@pytest.mark.parametrize("bad", [-1.0, math.nan, -math.inf])
def test_what_is_not_a_duration_is_refused(bad: float):
    with pytest.raises(ValueError, match="missing"):
        sketch.bin_index([1.0, bad])


def test_empty():
    assert sketch.bin_index([]).shape == (0,)
    assert np.isnan(sketch.quantile([], [], 0.5))
    assert sketch.merge([])[0].shape == (0,)
    bins, counts = sketch.merge([([3], [0])])
    assert bins.size == counts.size == 0


def test_quantile_does_not_need_order():
    assert sketch.quantile([5, 1, 5, 3], [1, 2, 1, 0], [0, 0.5, 1]).tolist() == (
        sketch.bin_value([1, 1, 5]).tolist()
    )
    with pytest.raises(ValueError, match="q must"):
        sketch.quantile([1], [1], 1.5)
