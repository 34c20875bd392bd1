"""The books on a real engine: they balance, and they stop balancing when anything is missing."""

import threading
import time

import numpy as np
import pytest

from dashboards import accounting
from dashboards.accounting import account
from ingest.codec import decode, encode
from ingest.core.events import EVENTS_TOPIC, Event
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive import dirty_marks, windows
from processors.write import rows
from processors.write.cardinality import CardinalityLimiter
from processors.write.ended_logs import book_ended_logs

T0 = 1_760_000_000 * 10**9


def event(number, **fields):
    return Event(event_id=f"e{number}", time_unix_nano=T0, agent="a", kind="tool_call", **fields)


def deliver(store, values, log="log", partition=0, first=0):
    """Write what the sink writes of records with these values."""
    for table, found in written(values, log, partition, first).items():
        store.insert(table, found)


def written(values, log="log", partition=0, first=0):
    """What the sink writes of records with these values, in its order."""
    decoded = decode(values, [T0] * len(values))
    n = len(values)
    place = np.full(n, partition, np.uint32), np.arange(first, first + n, dtype=np.uint64)
    late = np.zeros(len(decoded.frame), np.bool_)
    late[:1] = True
    return {
        "events": rows.event_rows(decoded, log, *place),
        "dead_letters": rows.dead_letter_rows(decoded, log, EVENTS_TOPIC, *place),
        "ledger": rows.ledger_rows(decoded, log, EVENTS_TOPIC, *place, late),
    }


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
        "expired": 0,
        "erased": 0,
        "unbooked": 0,
        "foreign_target": 0,
    }
    assert [(p["log_id"], p["partition"], p["lines"], p["rows"]) for p in partitions] == [
        ("log", 0, 24, 20),
        ("log", 1, 21, 21),
        ("older", 0, 10, 10),
    ]
    assert all(p["balanced"] and p["gapless"] for p in partitions)
    assert partitions[2]["first_offset"] == 7


def test_offsets_without_a_record_leave_no_gap(store):
    """Else the end of every transaction would be one."""
    good = encode([event(1)])
    for first in (0, 3, 7):
        deliver(store, [good, good], first=first)
    assert not account(store)["balanced"]
    store.insert("ledger", rows.empty_rows([(0, 2, 3), (0, 5, 7)], "log", EVENTS_TOPIC))
    books = account(store)
    (partition,) = books["partitions"]
    assert books["balanced"]
    assert (partition["gapless"], partition["records"], partition["passed_over"]) == (True, 6, 3)
    assert (partition["lines"], books["accepted"], books["unbooked"]) == (6, 6, 0)


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
def test_what_is_missing_or_too_much_is_told(store, monkeypatch, damage):
    monkeypatch.setattr(accounting, "_BOOKED_WITHIN_S", 0.1)
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
    CardinalityLimiter(store).admit(events)
    windows.recompute(store, 10, dirty_marks.dirty_cells(events))
    assert account(store)["balanced"]
    store.command("DELETE FROM events WHERE event_id IN ('e1', 'e2')")
    books = account(store)
    assert (books["balanced"], books["lost"], books["duplicates"]) == (False, 2, 40)


# Three new events, a repeat, a collision with one that is booked, a line that is none.
UNDER_WAY = encode([event(n) for n in (10, 11, 12, 0)] + [event(1, content="third")]) + b"\n{"


@pytest.mark.parametrize("stored", [("events",), ("events", "dead_letters"), ("dead_letters",)])
@pytest.mark.parametrize("partition", [1, 7])
def test_what_is_stored_and_not_booked_is_told_apart(store, monkeypatch, stored, partition):
    """The books are as if it were not there, and yet it was not booked in time."""
    monkeypatch.setattr(accounting, "_BOOKED_WITHIN_S", 0.3)
    store.command("SYSTEM STOP MERGES events")
    fill(store)
    before = account(store)
    record = written([UNDER_WAY], partition=partition, first=3)
    for table in stored:
        store.insert(table, record[table])
    unbooked = sum(len(record[table]) for table in stored)
    assert account(store) == before | {"balanced": False, "unbooked": unbooked}


def test_what_is_stored_of_a_log_that_ended_is_booked(store):
    """Nobody reads it again, so the books would never balance."""
    fill(store)
    before = account(store)
    record = written([UNDER_WAY], partition=1, first=5)  # 3 and 4 came to nothing
    store.insert("events", record["events"])
    new = written([encode([event(99)])], log="strange", partition=7, first=3)
    store.insert("events", new["events"])
    assert book_ended_logs(store, "log") == 1
    assert book_ended_logs(store, "new") == 5
    assert book_ended_logs(store, "new") == 0
    books = account(store)
    assert (books["balanced"], books["unbooked"]) == (True, 0)
    gained = {"accepted": 6, "stored": 4, "duplicates": 1, "collisions": 1, "dead_lettered": 0}
    assert {name: books[name] - before[name] for name in gained} == gained
    assert [p["passed_over"] for p in books["partitions"]] == [0, 2, 0, 0]


def test_what_is_about_to_be_booked_is_awaited(store):
    fill(store)
    before = account(store)
    record = written([UNDER_WAY], partition=1, first=3)
    store.insert("events", record["events"])
    rest = threading.Timer(0.5, lambda: [store.insert(t, record[t]) for t in list(record)[1:]])
    rest.start()
    books = account(store)
    rest.join()
    gained = {"accepted": 5, "stored": 3, "duplicates": 1, "collisions": 1, "dead_lettered": 1}
    assert {name: books[name] - before[name] for name in gained} == gained
    assert (books["balanced"], books["unbooked"]) == (True, 0)


def test_under_traffic_that_never_ends_the_books_are_exact(store, monkeypatch):
    """Every record brings ten events, five repeats of the last one and a line that is none."""
    monkeypatch.setattr(accounting, "_BOOKED_WITHIN_S", 120)
    store.command("SYSTEM STOP MERGES events")
    ended = threading.Event()

    def send():
        under_way, offset = [], 0
        while not ended.is_set():
            events = [event(n) for n in range(10 * offset - 5, 10 * offset + 10) if n >= 0]
            (first, *rest) = written([encode(events) + b"\n{"], first=offset).items()
            for table, found in (first, *under_way):
                store.insert(table, found)
                time.sleep(0.05)
            under_way, offset = rest, offset + 1  # there is always one that is not booked

    traffic = threading.Thread(target=send)
    traffic.start()
    try:
        seen = []
        while len(seen) < 6:
            began = time.monotonic()
            books = account(store)
            assert time.monotonic() - began < 100
            if not books["partitions"]:
                continue
            records = books["partitions"][0]["last_offset"] + 1
            seen.append(records)
            assert (books["balanced"], books["unbooked"]) == (True, 0), books
            assert books["stored"] == 10 * records
            assert books["duplicates"] == 5 * (records - 1)
            assert books["dead_lettered"] == records
    finally:
        ended.set()
        traffic.join()
    assert seen[0] < seen[-1]


def test_the_books_of_any_number_of_logs_fit_into_a_statement(clickhouse, store):
    fill(store)
    store.command(
        "INSERT INTO ledger (log_id, topic, partition, offset)"
        " SELECT hex(sipHash128(intDiv(number, 8))), 'driftline.events', number % 8, 0"
        " FROM numbers(8000)"
    )
    reader = ClickHouseConfig(
        clickhouse.url, "reader", clickhouse.reader_password, clickhouse.database
    )
    books = account(Store(reader))
    assert len(books["partitions"]) == 8_003
    assert (books["balanced"], books["stored"], books["unbooked"]) == (True, 10, 0)
