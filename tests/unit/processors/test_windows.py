"""How much one statement is to compute."""

from __future__ import annotations

import itertools

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from processors.derive import windows

MOST_CELLS = 2_000


def _marks(starts: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"agent": [f"agent-{start % 3}" for start in starts], "start": starts},
        schema={"agent": pl.String, "start": pl.Int64},
    )


@given(
    starts=st.lists(st.integers(0, 60).map(lambda n: n * 10), min_size=1, max_size=80),
    sizes=st.dictionaries(st.integers(0, 60).map(lambda n: n * 10), st.integers(1, 50)),
    most=st.integers(1, 200),
)
def test_a_part_has_no_more_rows_than_it_may(
    starts: list[int], sizes: dict[int, int], most: int
) -> None:
    marks = _marks(starts)
    parts = windows.portions(marks, sizes, most)
    assert pl.concat(parts).sort("start", "agent").equals(marks.sort("start", "agent"))
    bounds = [(part["start"].min(), part["start"].max()) for part in parts]
    for (_, last), (first, _) in itertools.pairwise(bounds):
        assert last < first  # type: ignore[operator]
    for part, (first, last) in zip(parts, bounds, strict=True):
        # A range may span windows between that are not marked, so their rows count as well.
        read = sum(n for start, n in sizes.items() if first <= start <= last)  # type: ignore[operator]
        assert read <= most or part["start"].n_unique() == 1


def test_a_part_is_as_large_as_it_may_be() -> None:
    parts = windows.portions(_marks([10, 20, 30, 40, 50]), dict.fromkeys(range(10, 60, 10), 4), 8)
    assert [part["start"].to_list() for part in parts] == [[10, 20], [30, 40], [50]]


def test_empty_windows_count_as_well() -> None:
    parts = windows.portions(_marks(list(range(0, 50_000, 10))), {}, 1)
    assert [len(part) for part in parts] == [MOST_CELLS, MOST_CELLS, 1_000]
