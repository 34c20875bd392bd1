"""The books on a real engine: they balance, and they stop balancing when anything is missing."""

import numpy as np
import pytest

from dashboards.accounting import account
from ingest.codec import decode, encode
from ingest.events import EVENTS_TOPIC, Event
from processors import marks, rows, windows
from processors.names import Names
from processors.store import ClickHouseConfig, Store

T0 = 1_760_000_000 * 10**9


@pytest.fixture
def store(clickhouse):
    return Store(
        ClickHouseConfig(clickhouse.url, clickhouse.user, clickhouse.password, clickhouse.database)
    )


def event(number, **fields):
    return Event(event_id=f"e{number}", time_unix_nano=T0, agent="a", kind="tool_call", **fields)


def deliver(store, values, log="log", partition=0, first=0):
    """Write what the sink writes of records with these values."""
    decoded = decode(values, [T0] * len(values))
    n = len(values)
    place = np.full(n, partition, np.uint32), np.arange(first, first + n, dtype=np.uint64)
    late = np.zeros(len(decoded.frame), np.bool_)
    late[:1] = True
    store.insert("events", rows.event_rows(decoded, log, *place))
    store.insert("ledger", rows.ledger_rows(decoded, log, EVENTS_TOPIC, *place, late))
    store.insert("dead_letters", rows.dead_letter_rows(decoded, log, EVENTS_TOPIC, *place))


def fill(store):
    good = encode([event(n) for n in range(10)])
    deliver(store, [good, good + b"\n{\n\n[]", b"nothing"])
    deliver(store, [encode([event(3, content="other")]), good, good], partition=1)
    deliver(store, [good], log="older", first=7)


def test_every_line_is_accounted_for(store):
    fill(store)
    books = account(store)
    partitions = books.pop("partitions")
    assert books == {
        "balanced": True,
        "accepted": 51,
        "stored": 10,
        "duplicates": 40,
        "collisions": 1,
        "dead_lettered": 4,
        "late": 3,
        "lost": 0,
    }
    assert [(p["log_id"], p["partition"], p["lines"], p["rows"]) for p in partitions] == [
        ("log", 0, 24, 20),
        ("log", 1, 21, 21),
        ("older", 0, 10, 10),
    ]
    assert all(p["balanced"] and p["gapless"] for p in partitions)
    assert partitions[2]["first_offset"] == 7


def test_delivering_again_changes_nothing(store):
    fill(store)
    before = account(store)
    fill(store)
    assert account(store) == before


def test_nothing_is_balanced(store):
    books = account(store)
    assert books["balanced"]
    assert books["accepted"] == 0
    assert books["partitions"] == []


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE ledger DELETE WHERE log_id = 'log' AND partition = 1 AND offset = 1",
        "ALTER TABLE dead_letters DELETE WHERE code = 'empty_line'",
        "ALTER TABLE ledger DELETE WHERE 1",
        "INSERT INTO dead_letters (log_id, topic, partition, offset, line, code) VALUES"
        " ('log', 'driftline.events', 0, 0, 0, 'invalid_json')",
        "INSERT INTO dead_letters (log_id, topic, partition, offset, line, code) VALUES"
        " ('log', 'driftline.events', 9, 0, 0, 'invalid_json')",
        "INSERT INTO events (event_id, agent, time, payload_hash) SELECT toString(number), 'a',"
        " now(), 0 FROM numbers(41)",
    ],
    ids=["a record", "a dead letter", "the ledger", "one too many", "a stranger", "strange rows"],
)
def test_what_is_missing_or_too_much_is_told(store, damage):
    fill(store)
    client = store._connect()
    client.command(damage, settings={"mutations_sync": 2})
    assert not account(store)["balanced"]


def test_collisions_are_letters_that_belong_to_no_line(store):
    """They are dead-lettered by the audit, long after their lines were counted as accepted."""
    fill(store)
    store.command(
        "INSERT INTO dead_letters (log_id, topic, partition, offset, line, code) VALUES"
        " ('log', 'driftline.events', 1, 0, 0, 'id_collision')"
    )
    assert account(store)["balanced"]


def test_events_that_the_store_lost_are_no_duplicates(store):
    fill(store)
    events = store.query("SELECT * FROM events")
    Names(store).admit(events)
    windows.recompute(store, 10, marks.dirty_cells(events))
    assert account(store)["balanced"]
    store.command("DELETE FROM events WHERE event_id IN ('e1', 'e2')")
    books = account(store)
    assert (books["balanced"], books["lost"], books["duplicates"]) == (False, 2, 40)
