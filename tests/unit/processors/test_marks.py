"""Dirty marks: no cell gets lost on its way, and an agent's marks stay together."""

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.derive import dirty_marks, windows

cell = st.tuples(
    st.sampled_from(["production", "test"]),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    st.integers(0, 400_000_000).map(lambda n: n * 10),
)


def frame(cells):
    schema = {"environment": pl.String, "agent": pl.String, "start": pl.Int64}
    return pl.DataFrame(list(cells), schema=schema, orient="row")


@given(st.lists(cell, max_size=60), st.integers(1, 7))
def test_every_cell_arrives_once(cells, partitions):
    packed = list(dirty_marks.pack(frame(cells), partitions))
    if not cells:
        assert packed == []
        return
    values = [value for _, value in packed]
    assert sorted(dirty_marks.unpack(values * 2).rows()) == sorted(set(cells))
    assert all(0 <= partition < partitions for partition, _ in packed)
    assert len({partition for partition, _ in packed}) == len(packed)


@given(st.lists(cell, min_size=1, max_size=30), st.integers(1, 7), st.randoms())
def test_an_agent_has_one_partition_whatever_else_is_marked(cells, partitions, random):
    def where(some):
        return {
            agent: partition
            for partition, value in dirty_marks.pack(frame(some), partitions)
            for agent in dirty_marks.unpack([value])["agent"]
        }

    whole = where(cells)
    part = random.sample(cells, random.randint(1, len(cells)))
    assert where(part).items() <= whole.items()


def dirty(names):
    """Marks as the sink makes them, one of each name."""
    numbers = range(len(names))
    events = pl.DataFrame(
        {
            "environment": names, "agent": names, "time": numbers,
            "partition": numbers, "offset": [2**60 + n * n for n in numbers],
        }
    )  # fmt: skip
    return dirty_marks.dirty_cells(
        events.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC")))
    )


@pytest.mark.parametrize("partitions", [1, 3])
def test_marks_of_the_longest_names_are_records_that_kafka_takes(partitions):
    """1 MiB by default, with the record's and the batch's own bytes."""
    letters = random.Random(1)
    longest = "".join(map(chr, letters.choices(range(0x10000, 0x110000), k=256)))
    found = dirty(["".join(letters.sample(longest, 256)) for _ in range(4_000)])
    packed = list(dirty_marks.pack(found, partitions))
    assert max(len(value) for _, value in packed) <= (1 << 20) - 1_000
    assert (
        dirty_marks.unpack(value for _, value in packed).sort("agent").equals(found.sort("agent"))
    )


def test_marks_that_fit_are_one_record():
    """Each is a record to commit, and the embedded broker counts a batch of them as one."""
    assert len(list(dirty_marks.pack(dirty([f"agent-{n}" for n in range(4_000)]), 1))) == 1


def test_the_partition_is_part_of_the_contract():
    """Workers of today and tomorrow must agree: xxh3-64 of the name, modulo the partitions."""
    packed = dirty_marks.pack(
        frame([("p", agent, 0) for agent in ("booking", "support", "shop")]), 4
    )
    found = {a: p for p, value in packed for a in dirty_marks.unpack([value])["agent"]}
    assert found == {"booking": 3, "support": 1, "shop": 1}


@given(st.lists(st.integers(0, 4_000_000_000 * 10**9), min_size=1))
def test_an_events_cell_is_the_ten_seconds_around_it(times):
    events = pl.DataFrame(
        {
            "environment": "p",
            "agent": "a",
            "time": times,
            "partition": 1,
            "offset": range(len(times)),
        }
    ).with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC")))
    expected = {t // 10**9 - t // 10**9 % 10 for t in times}
    found = dirty_marks.dirty_cells(events)
    assert sorted(found["start"]) == sorted(expected)
    assert found["rows"].sum() == len(times)
    for start, first, last in found.select("start", "first", "last").iter_rows():
        offsets = [n for n, t in enumerate(times) if t // 10**10 * 10 == start]
        assert (first, last) == (offsets[0], offsets[-1])


@given(st.lists(cell, min_size=1), st.sampled_from(windows.WIDTHS))
def test_coarser_windows_contain_their_cells(cells, width):
    found = dirty_marks.rollup_cells(frame(cells), width)
    assert found.is_unique().all()
    assert set(found.rows()) == {(e, a, s - s % width) for e, a, s in cells}
