"""Dirty marks: what has to be computed again, with the time bounds in which to look.

A mark follows its data: it is produced once the rows are stored, and acknowledged once what it
asks for is stored. Marks of one thing go to one partition, so the last of them sees all the rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import polars as pl
from xxhash import xxh3_64_intdigest

from ingest.events import EVALUATION_KINDS

INTERACTIONS: Final = b"interactions"
CELLS: Final = b"10"
CELL_SECONDS: Final = 10


def dirty_interactions(events: pl.DataFrame) -> pl.DataFrame:
    """Interactions that rows of ``events`` belong to.

    Returns
    -------
    polars.DataFrame
        ``interaction_id``, and ``lo`` and ``hi``, the earliest and latest event time in ns.
    """
    time = pl.col("time").to_physical()
    return (
        events.filter(
            pl.col("interaction_id").is_not_null() & ~pl.col("kind").is_in(EVALUATION_KINDS)
        )
        .group_by("interaction_id")
        .agg(time.min().alias("lo"), time.max().alias("hi"))
    )


def dirty_cells(events: pl.DataFrame) -> pl.DataFrame:
    """Cells that rows of ``events`` belong to.

    Returns
    -------
    polars.DataFrame
        ``environment``, ``agent`` and ``start``, seconds since 1970.
    """
    seconds = pl.col("time").to_physical() // 1_000_000_000
    return events.select(
        "environment", "agent", start=(seconds // CELL_SECONDS) * CELL_SECONDS
    ).unique()


def coarser(cells: pl.DataFrame, width: int) -> pl.DataFrame:
    """The windows of ``width`` seconds that contain the given cells."""
    return cells.with_columns(start=pl.col("start") // width * width).unique()


def pack(marks: pl.DataFrame, partitions: int) -> Iterator[tuple[int, bytes]]:
    """Split marks over partitions by what they name; yields (partition, record value)."""
    if marks.is_empty():
        return
    named = marks["interaction_id"] if "interaction_id" in marks.columns else marks["agent"]
    chosen = np.fromiter(
        map(xxh3_64_intdigest, named.cast(pl.Binary).to_list()), np.uint64, len(named)
    )
    split = marks.with_columns(partition=pl.Series(chosen % partitions)).partition_by(
        "partition", as_dict=True, include_key=False
    )
    for (partition,), part in split.items():
        buffer = io.BytesIO()
        part.write_ipc_stream(buffer, compression="zstd")
        yield int(partition), buffer.getvalue()


def unpack(values: Iterable[bytes]) -> pl.DataFrame:
    """Marks of one kind from several records, each thing once, its bounds joined."""
    marks = pl.concat([pl.read_ipc_stream(value) for value in values])
    if "lo" not in marks.columns:
        return marks.unique()
    return join_bounds(marks)


def join_bounds(marks: pl.DataFrame) -> pl.DataFrame:
    """One row per interaction with the earliest ``lo`` and the latest ``hi``."""
    return marks.group_by("interaction_id").agg(pl.col("lo").min(), pl.col("hi").max())
