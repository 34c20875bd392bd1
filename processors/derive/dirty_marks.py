"""Dirty marks: the cells of event time whose derived rows have to be computed again.

A mark follows its data: it is produced once the rows are stored, and committed once what it
asks for is stored. Marks of one agent go to one partition, so the last of them sees all its rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import polars as pl
from xxhash import xxh3_64_intdigest

CELL_SECONDS: Final = 10
_RECORD_BYTES: Final = 1_000_000  # Kafka takes 1 MiB, with its own bytes, unless told otherwise


def dirty_cells(events: pl.DataFrame) -> pl.DataFrame:
    """Cells that rows of ``events`` belong to.

    Returns
    -------
    polars.DataFrame
        ``environment``, ``agent`` and ``start``, seconds since 1970, once for each ``source``, the
        partition that the events come from, with their ``first`` and ``last`` offset and how many
        ``rows`` they are.
    """
    seconds = pl.col("time").to_physical() // 1_000_000_000
    cell = "environment", "agent", (seconds // CELL_SECONDS * CELL_SECONDS).alias("start")
    return events.group_by(*cell, pl.col("partition").alias("source")).agg(
        first=pl.col("offset").min(), last=pl.col("offset").max(), rows=pl.len()
    )


def rollup_cells(cells: pl.DataFrame, width: int) -> pl.DataFrame:
    """The windows of ``width`` seconds that contain the given cells."""
    start = pl.col("start") // width * width
    return cells.select("environment", "agent", start.alias("start")).unique()


def pack(marks: pl.DataFrame, partitions: int) -> Iterator[tuple[int, bytes]]:
    """Split marks over partitions by agent; yields (partition, record value).

    Several records of a partition where one would be more than Kafka takes.
    """
    if marks.is_empty():
        return
    agents = marks["agent"].cast(pl.Binary).to_list()
    chosen = np.fromiter(map(xxh3_64_intdigest, agents), np.uint64, len(agents))
    split = marks.with_columns(pl.Series("partition", chosen % partitions)).partition_by(
        "partition", as_dict=True, include_key=False
    )
    for (partition,), part in split.items():
        for value in _records(part):
            yield int(partition), value


def _records(part: pl.DataFrame) -> Iterator[bytes]:
    # Halved until it fits: names of 256 characters compress well or not at all.
    buffer = io.BytesIO()
    part.write_ipc_stream(buffer, compression="zstd")
    if buffer.tell() <= _RECORD_BYTES:
        yield buffer.getvalue()
        return
    half = part.height // 2
    yield from _records(part[:half])
    yield from _records(part[half:])


def unpack(values: Iterable[bytes]) -> pl.DataFrame:
    """Marks from several records, each once."""
    return pl.concat([pl.read_ipc_stream(value) for value in values], how="diagonal").unique()
