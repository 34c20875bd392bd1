"""The books: every line that arrived is stored once, a duplicate, a collision or a dead letter.

Read from ClickHouse alone. ``lines = rows + dead-lettered`` holds per partition of each log, with
offsets that leave no gap; ``rows = stored + expired + duplicates + collisions`` holds over all of
them, and every event that a window ever counted is still stored or has expired. All that is up to
where the ledger has come, for the lines of a record are stored before it is booked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ingest.core.events import EVENTS_TOPIC
from processors.audit import count_lost_events
from processors.clickhouse import Store, literal
from processors.keeping import horizons
from processors.write.erased import MARK

_BOOKED_WITHIN_S: Final = 10.0
_ASK_EVERY_S: Final = 0.2
_PINNED_PLACES: Final = 1_000

_PARTITIONS: Final = """
SELECT log_id, topic, partition, countIf(l.lines > 0) AS records,
    countIf(l.lines = 0) AS passed_over,
    min(offset) AS first_offset, max(offset) AS last_offset, sum(lines) AS lines, sum(rows) AS rows,
    sum(dead_lettered) AS dead_lettered, sum(late) AS late, max(ingested) AS booked
FROM ledger AS l FINAL GROUP BY log_id, topic, partition ORDER BY log_id, topic, partition
"""

# The ledger goes on while we read: whatever is asked is asked up to the same offsets. Those of all
# logs would make statements too long, but of old ones all is booked that ever will.
_UP_TO: Final = """
WITH
    (SELECT (groupArray(place), groupArray(end)) FROM
    (
        SELECT concat(log_id, '/', toString(partition)) AS place, max(offset) + 1 AS end
        FROM ledger WHERE log_id NOT IN {logs} GROUP BY log_id, partition
    )) AS old,
    arrayConcat(CAST({places}, 'Array(String)'), old.1) AS places,
    arrayConcat(CAST({ends}, 'Array(UInt64)'), old.2) AS ends
"""
_BOOKED: Final = "(offset < transform(concat(log_id, '/', toString(partition)), places, ends, 0))"

_LETTERS: Final = f"code != 'id_collision' AND topic = '{EVENTS_TOPIC}'"

_UNBOOKED: Final = f"""
SELECT log_id, partition, offset, uniqExact(line, event_id) AS n FROM
(
    SELECT log_id, partition, offset, line, event_id FROM events WHERE NOT {_BOOKED}
    UNION ALL
    SELECT log_id, partition, offset, line, '' FROM dead_letters WHERE {_LETTERS} AND NOT {_BOOKED}
)
GROUP BY log_id, partition, offset
"""

_DEAD_LETTERS: Final = f"""
SELECT log_id, topic, partition, count() AS n FROM dead_letters FINAL
WHERE {_LETTERS} AND {_BOOKED} AND {{live_letters}} GROUP BY log_id, topic, partition
UNION ALL
SELECT log_id, topic, partition, sum(rows) AS n FROM expired FINAL
WHERE table = 'dead_letters' AND topic = '{EVENTS_TOPIC}' GROUP BY log_id, topic, partition
"""

# An event bears the place of its last copy: one that was booked is booked, whatever comes again.
_KEY: Final = "(agent, time, event_id, payload_hash)"
_EVENTS: Final = f"""
SELECT count() AS kept, uniqExact(event_id, scope) AS distinct,
    countIf(startsWith(event_id, '{MARK}')) AS erased FROM events FINAL
WHERE {{live_events}} AND ({_BOOKED} OR {_KEY} IN
    (SELECT agent, time, event_id, payload_hash FROM events WHERE {_BOOKED} AND {_KEY} IN
        (SELECT agent, time, event_id, payload_hash FROM events WHERE NOT {_BOOKED})))
"""

_EXPIRED: Final = """
SELECT sum(rows), sum(collisions), sum(erased) FROM expired FINAL WHERE table = 'events'
"""

_FOREIGN: Final = "SELECT count() AS n FROM foreign_evaluations"

_Rows = list[tuple[Any, ...]]


def account(store: Store) -> dict[str, Any]:
    """Add up the books, up to where the ledger has come.

    Returns
    -------
    dict
        ``balanced``, ``accepted``, ``stored``, ``duplicates``, ``collisions``, ``dead_lettered``,
        ``late`` (an "of which" of accepted), ``expired`` (events that retention took away;
        ``stored`` is without them), ``erased`` (an "of which" of both: rows of people who were
        erased count on under a pseudonym), ``lost`` (events that windows counted and that
        are no longer stored, which the ledger alone would take for duplicates), ``unbooked`` (lines
        that are stored and that the ledger has not got some seconds later: their worker hangs or is
        dead, or they come from elsewhere; no other number counts them, and the books do not
        balance), ``foreign_target`` (an "of which" of stored: evaluations by bound tokens of what
        their scope does not admit, which count for nothing) and ``partitions``, each with its own
        ``balanced`` and with the offsets that were ``passed_over``, because Kafka has no record for
        them: the ends of transactions.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    awaited = _await_booking(store)
    booked = _booked(store)
    ends = _ends(booked)
    letters: dict[tuple[str, str, int], int] = {}
    live = {
        "{live_events}": horizons(store).live(),
        "{live_letters}": horizons(store, "dead_letters").live("ingested", None),
    }
    for *place, n in _ask(store, _DEAD_LETTERS, ends, live):
        letters[tuple(place)] = letters.get(tuple(place), 0) + n
    partitions = [
        _partition(row, letters.get((row["log_id"], row["topic"], row["partition"]), 0))
        for row in booked
    ]
    ((kept, distinct, erased),) = _ask(store, _EVENTS, ends, live)
    ((expired, expired_collisions, expired_erased),) = store.query(_EXPIRED).rows()
    accepted = sum(p["rows"] for p in partitions)
    lost = count_lost_events(store)
    duplicates = accepted - kept - lost - expired
    unbooked = sum(n for *_, n in _unbooked(awaited, ends))
    return {
        "balanced": duplicates >= 0
        and not lost
        and not unbooked
        and all(p["balanced"] for p in partitions),
        "accepted": accepted,
        "stored": distinct,
        "expired": expired - expired_collisions,
        "duplicates": duplicates,
        "collisions": kept - distinct + expired_collisions,
        "dead_lettered": sum(p["dead_lettered"] for p in partitions),
        "late": sum(p["late"] for p in partitions),
        "lost": lost,
        "erased": erased + expired_erased,
        "unbooked": unbooked,
        "foreign_target": int(store.query(_FOREIGN)["n"][0]),
        "partitions": partitions,
    }


def _await_booking(store: Store) -> _Rows:
    """What is stored now and not in the ledger some seconds later; not what comes meanwhile."""
    awaited = _ask(store, _UNBOOKED, _ends(_booked(store)))
    deadline = time.monotonic() + _BOOKED_WITHIN_S
    while awaited and time.monotonic() < deadline:
        time.sleep(_ASK_EVERY_S)
        awaited = _unbooked(awaited, _ends(_booked(store)))
    return awaited


def _booked(store: Store) -> list[dict[str, Any]]:
    return list(store.query(_PARTITIONS).iter_rows(named=True))


def _ends(booked: list[dict[str, Any]]) -> dict[tuple[str, int], int]:
    """The offset after the last that is booked, by log and partition, of the newest logs."""
    logs: dict[str, list[dict[str, Any]]] = {}
    for row in booked:
        logs.setdefault(row["log_id"], []).append(row)
    ends: dict[tuple[str, int], int] = {}
    for log_id in sorted(logs, key=lambda log_id: max(r["booked"] for r in logs[log_id]))[::-1]:
        if ends and len(ends) + len(logs[log_id]) > _PINNED_PLACES:
            break
        ends |= {(log_id, row["partition"]): row["last_offset"] + 1 for row in logs[log_id]}
    return ends


def _unbooked(stored: _Rows, ends: Mapping[tuple[str, int], int]) -> _Rows:
    return [
        (log_id, partition, offset, n)
        for log_id, partition, offset, n in stored
        if offset >= ends.get((log_id, partition), 0)
    ]


def _ask(
    store: Store,
    statement: str,
    ends: Mapping[tuple[str, int], int],
    live: Mapping[str, str] | None = None,
) -> _Rows:
    """Rows of a statement that asks what is booked up to these offsets."""
    places = ", ".join(literal(f"{log_id}/{partition}") for log_id, partition in ends)
    logs = literal({log_id for log_id, _ in ends} or [""])
    up_to = _UP_TO.format(logs=logs, places=f"[{places}]", ends=list(ends.values()))
    for name, condition in (live or {}).items():
        statement = statement.replace(name, condition)
    return store.query(up_to + statement).rows()


def _partition(row: dict[str, Any], dead_letters: int) -> dict[str, Any]:
    del row["booked"]
    offsets = row["last_offset"] - row["first_offset"] + 1
    gapless = offsets == row["records"] + row["passed_over"]
    whole = row["lines"] == row["rows"] + row["dead_lettered"]
    return row | {
        "gapless": gapless,
        "balanced": gapless and whole and dead_letters == row["dead_lettered"],
    }
