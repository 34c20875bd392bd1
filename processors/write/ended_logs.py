"""Books of logs that are no more.

A worker stores rows before it books them. When it dies in between, it reads the same records
again, unless their log has ended, as that of the embedded broker does with its process. What is
stored of such a log is booked here, so that the ledger says what is stored.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from ingest.core.events import EVENTS_TOPIC
from processors.clickhouse import Store
from processors.write.rows import empty_rows

_UNBOOKED: Final = f"""
SELECT log_id, partition, offset, any(l.after) AS after,
    uniqExactIf(line, accepted) AS rows, uniqExactIf(line, NOT accepted) AS dead_lettered
FROM
(
    SELECT log_id, partition, offset, line, true AS accepted FROM events
    WHERE log_id != {{log_id:String}}
    UNION ALL
    SELECT log_id, partition, offset, line, false AS accepted FROM dead_letters
    WHERE log_id != {{log_id:String}} AND topic = '{EVENTS_TOPIC}' AND code != 'id_collision'
) AS stored
LEFT JOIN
(
    SELECT log_id, partition, max(offset) + 1 AS after FROM ledger
    WHERE topic = '{EVENTS_TOPIC}' GROUP BY log_id, partition
) AS l USING (log_id, partition)
WHERE offset >= l.after
GROUP BY log_id, partition, offset ORDER BY log_id, partition, offset
"""  # noqa: S608 - of our own constants


def book_ended_logs(store: Store, log_id: str) -> int:
    """Book what is stored of every log but this one; records that came to nothing are passed over.

    Returns
    -------
    int
        Lines that were booked.

    Raises
    ------
    Unavailable
        When ClickHouse is away; a repeat books the rest.
    """
    found = store.query(_UNBOOKED, {"log_id": log_id}).with_columns(
        lines=pl.col("rows") + pl.col("dead_lettered"), late=pl.lit(0), topic=pl.lit(EVENTS_TOPIC)
    )
    numbers = pl.col("offset", "lines", "rows", "dead_lettered", "late").cast(pl.Int64)
    books = [found.drop("after").with_columns(numbers)]
    for (log, partition), records in found.group_by("log_id", "partition"):
        offsets = records["offset"].to_list()
        first = records["after"][0] or offsets[0]
        gaps = [
            (int(str(partition)), before, offset)
            for before, offset in zip([first, *(o + 1 for o in offsets[:-1])], offsets, strict=True)
        ]
        books.append(empty_rows(gaps, str(log), EVENTS_TOPIC).with_columns(numbers))
    # At once: what is booked up to an offset must be booked before it as well.
    store.insert("ledger", pl.concat(books, how="diagonal_relaxed"))
    return int(found["lines"].sum())
