"""Decoded records to the rows of the tables. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.failures.fingerprint import template
from detectors.sketch import bin_index
from ingest.codec import Decoded
from ingest.core.events import EVALUATION_KINDS, SCOPE
from processors.derive.sealing import SEAL_DELAY_NS

# Of the attributes as we write them; within a text a quote has a backslash before it.
_SCOPE: Final = rf'[{{,]"{re.escape(SCOPE)}":"((?:[^"\\]|\\.)*)"'

_EVALUATION_COLUMNS: Final = (
    "target", "kind", "name", "user_id", "time", "event_id", "payload_hash",
    "environment", "agent", "value", "reason", "rule_version",
)  # fmt: skip


def event_rows(
    decoded: Decoded,
    log_id: str,
    partitions: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.uint64],
) -> pl.DataFrame:
    """Rows of ``events``.

    Parameters
    ----------
    decoded
        What the records came to.
    log_id
        Incarnation of the log they stand in.
    partitions, offsets
        Where each record stands, shape (n_records,).
    """
    frame = decoded.frame
    record = frame["record"].to_numpy()
    duration = frame["duration_ms"]
    bins = pl.Series("duration_bin", bin_index(duration.fill_null(0.0).to_numpy()), pl.Int16)
    scopes = _scopes(frame["attributes"])
    return frame.drop("record", "time_unix_nano").with_columns(
        frame["time_unix_nano"].cast(pl.Datetime("ns", "UTC")).alias("time"),
        pl.when(duration.is_null()).then(None).otherwise(bins).alias("duration_bin"),
        _templates(frame),
        pl.lit(log_id).alias("log_id"),
        pl.Series("partition", partitions[record], pl.UInt32),
        pl.Series("offset", offsets[record], pl.UInt64),
        *([] if scopes is None else [scopes]),
    )


def _scopes(attributes: pl.Series) -> pl.Series | None:
    """Column ``scope``, what bound tokens may speak of; None where no event came by one."""
    if attributes.null_count() == len(attributes):
        return None
    if not attributes.str.contains(f'"{SCOPE}"', literal=True).any():
        return None
    written = attributes.str.extract(_SCOPE).fill_null("").alias("scope")
    distinct = written.unique().to_list()
    told = [msgspec.json.decode(f'"{one}"', type=str) for one in distinct]
    return written.replace_strict(distinct, told, return_dtype=pl.String)


def _templates(frame: pl.DataFrame) -> pl.Series:
    """Column ``error_template``; each distinct message is masked once."""
    messages = frame["error_message"]
    distinct = messages.unique().drop_nulls()
    if distinct.is_empty():
        return pl.Series("error_template", [None], pl.String).new_from_index(0, len(frame))
    masked = [template(message) for message in distinct]
    return messages.replace_strict(distinct, masked, default=None, return_dtype=pl.String).alias(
        "error_template"
    )


def evaluation_rows(events: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``evaluations``: the feedback, scores and outcomes among ``events``."""
    return (
        events.filter(pl.col("kind").is_in(EVALUATION_KINDS))
        .with_columns(target=pl.coalesce("target", "interaction_id", "session_id"))
        .select(*_EVALUATION_COLUMNS, *(["scope"] if "scope" in events.columns else []))
    )


def ledger_rows(
    decoded: Decoded,
    log_id: str,
    topic: str,
    partitions: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.uint64],
    late: npt.NDArray[np.bool_],
) -> pl.DataFrame:
    """Rows of ``ledger``, one per record; ``late`` flags the accepted events, shape (n_rows,)."""
    n = len(decoded.lines)
    record = decoded.frame["record"].to_numpy()
    rejected = np.array([r.record for r in decoded.rejections], dtype=np.int64)
    return pl.DataFrame(
        {
            "partition": partitions,
            "offset": offsets,
            "lines": decoded.lines,
            "rows": np.bincount(record, minlength=n),
            "late": np.bincount(record[late], minlength=n),
            "dead_lettered": np.bincount(rejected, minlength=n),
        }
    ).with_columns(log_id=pl.lit(log_id), topic=pl.lit(topic))


def empty_rows(empty: Iterable[tuple[int, int, int]], log_id: str, topic: str) -> pl.DataFrame:
    """Rows of ``ledger``, without lines, for offsets that Kafka has no record for.

    Parameters
    ----------
    empty
        Partition, first offset and the offset after the last.
    log_id, topic
        Incarnation of the log, and its topic.
    """
    found = [(partition, at) for partition, first, after in empty for at in range(first, after)]
    return pl.DataFrame(
        found, orient="row", schema={"partition": pl.UInt32, "offset": pl.UInt64}
    ).with_columns(
        pl.lit(0, pl.Int64).alias("lines"), pl.lit(0, pl.Int64).alias("rows"),
        pl.lit(0, pl.Int64).alias("late"), pl.lit(0, pl.Int64).alias("dead_lettered"),
        pl.lit(log_id).alias("log_id"), pl.lit(topic).alias("topic"),
    )  # fmt: skip


def dead_letter_rows(
    decoded: Decoded,
    log_id: str,
    topic: str,
    partitions: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.uint64],
) -> pl.DataFrame:
    """Rows of ``dead_letters``: coordinates and reason of each rejected line, not its content."""
    rejections = decoded.rejections
    record = np.array([r.record for r in rejections], dtype=np.int64)
    return pl.DataFrame(
        {
            "partition": partitions[record],
            "offset": offsets[record],
            "line": [r.line for r in rejections],
            "code": [str(r.code) for r in rejections],
            "detail": [r.detail for r in rejections],
            "bytes": [r.size for r in rejections],
            "sha256": [r.sha256 for r in rejections],
        }
    ).with_columns(log_id=pl.lit(log_id), topic=pl.lit(topic))


def is_late(events: pl.DataFrame, watermarks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which events come after their cell was sealed.

    Parameters
    ----------
    events
        Rows of ``events``.
    watermarks
        The watermark of each row's partition before this batch, ns, shape (n_rows,).
    """
    time = events["time"].to_physical().to_numpy()
    cell_end = (time // (10 * 10**9) + 1) * (10 * 10**9)
    late: npt.NDArray[np.bool_] = cell_end + SEAL_DELAY_NS <= watermarks
    return late
