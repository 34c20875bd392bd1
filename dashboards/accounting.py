"""The books: every line that arrived is stored once, a duplicate, a collision or a dead letter.

Read from ClickHouse alone. ``lines = rows + dead-lettered`` holds per partition of each log, with
offsets that leave no gap; ``rows = stored + duplicates + collisions`` holds over all of them, and
every event that a window ever counted is still stored.
"""

from __future__ import annotations

from typing import Any, Final

from processors.audit import missing
from processors.store import Store

_PARTITIONS: Final = """
SELECT log_id, topic, partition, count() AS records, min(offset) AS first_offset,
    max(offset) AS last_offset, sum(lines) AS lines, sum(rows) AS rows,
    sum(dead_lettered) AS dead_lettered, sum(late) AS late
FROM ledger FINAL GROUP BY log_id, topic, partition ORDER BY log_id, topic, partition
"""

_DEAD_LETTERS: Final = """
SELECT log_id, topic, partition, count() AS n FROM dead_letters FINAL
WHERE code != 'id_collision' AND topic = 'driftline.events' GROUP BY log_id, topic, partition
"""

_EVENTS: Final = "SELECT count() AS kept, uniqExact(event_id) AS distinct FROM events FINAL"


def account(store: Store) -> dict[str, Any]:
    """Add up the books.

    Returns
    -------
    dict
        ``balanced``, ``accepted``, ``stored``, ``duplicates``, ``collisions``, ``dead_lettered``,
        ``late`` (an "of which" of accepted), ``lost`` (events that windows counted and that are no
        longer stored, which the ledger alone would take for duplicates) and ``partitions``, each
        with its own ``balanced``.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    letters = {
        (row["log_id"], row["topic"], row["partition"]): row["n"]
        for row in store.query(_DEAD_LETTERS).iter_rows(named=True)
    }
    partitions = [
        _partition(row, letters.pop((row["log_id"], row["topic"], row["partition"]), 0))
        for row in store.query(_PARTITIONS).iter_rows(named=True)
    ]
    kept, distinct = store.query(_EVENTS).row(0)
    accepted = sum(p["rows"] for p in partitions)
    lost = missing(store)
    duplicates = accepted - kept - lost
    return {
        "balanced": duplicates >= 0
        and not lost
        and not letters
        and all(p["balanced"] for p in partitions),
        "accepted": accepted,
        "stored": distinct,
        "duplicates": duplicates,
        "collisions": kept - distinct,
        "dead_lettered": sum(p["dead_lettered"] for p in partitions),
        "late": sum(p["late"] for p in partitions),
        "lost": lost,
        "partitions": partitions,
    }


def _partition(row: dict[str, Any], dead_letters: int) -> dict[str, Any]:
    gapless = row["last_offset"] - row["first_offset"] + 1 == row["records"]
    whole = row["lines"] == row["rows"] + row["dead_lettered"]
    return row | {
        "gapless": gapless,
        "balanced": gapless and whole and dead_letters == row["dead_lettered"],
    }
