"""Bytes that are no events, straight to the topic: none stops the worker, all are accounted for."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
from collections import defaultdict
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from kafka import KafkaProducer

from ingest import codec
from ingest.core.events import EVENTS_TOPIC, MAX_FUTURE_NS, Event, json_schema
from tests.conftest import Runtime
from tests.support.common import eventually

VALID = jsonschema.Draft202012Validator(json_schema())
NOW = 1_760_000_000 * 10**9
GOOD, BAD = 20_000, 2_000
PartitionPosition = tuple[int, int, int]


def good(rng: random.Random, number: int) -> bytes:
    return codec.encode(
        [
            Event(
                event_id=f"good{number}",
                time_unix_nano=NOW + rng.randrange(3_600 * 10**9),
                agent=rng.choice(("shop", "desk", "ünï")),
                kind=rng.choice(("llm_call", "tool_call", "interaction")),
                interaction_id=f"i{number % 500}",
                duration_ms=rng.lognormvariate(4, 2),
                content="x" * rng.randrange(200),
                attributes={"region": "eu"},
                status=rng.choice(("ok", "error")),
            )
        ]
    )


def mutated(rng: random.Random, number: int) -> bytes:
    """An event with a few bytes changed, some of them in the middle of its numbers and names."""
    line = bytearray(good(rng, 1_000_000 + number))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(line))
        match rng.choice(("set", "cut", "insert", "delete", "swap", "digit")):
            case "set":
                line[at] = rng.randrange(256)
            case "cut":
                del line[at + 1 :]
            case "insert":
                line.insert(at, rng.choice((*b'"{}[],:-0\\\x00\x80\xff', rng.randrange(256))))
            case "delete" if len(line) > 1:
                del line[at]
            case "swap":
                line = bytearray(line.replace(b'"tool_call"', b'"gossip"').replace(b":1760", b":9"))
            case _:
                line = bytearray(re.sub(rb":(\d)", rb":-\1", bytes(line), count=1))
    return bytes(line)


def noise(rng: random.Random, number: int) -> bytes:
    match rng.randrange(8):
        case 0:
            return b""
        case 1:
            return rng.choice((b"null", b"[]", b"7", b'""', b"{}", b"NaN", b"[" * 5_000, b"\x00"))
        case 2:
            return good(rng, 2_000_000 + number).replace(b'"agent"', b'"nobody"')
        case 3:  # dated ten minutes ahead
            ahead = NOW + 10**12 * 10**6
            line = good(rng, 3_000_000 + number)
            return re.sub(rb'"time_unix_nano":\d+', b'"time_unix_nano":%d' % ahead, line)
        case _:
            return rng.randbytes(rng.randint(1, 80))


def lines(seed: int) -> list[bytes]:
    """Good, mutated and random lines; bytes that happen to hold a newline are further lines."""
    rng = random.Random(seed)
    bad = [rng.choice((mutated, noise))(rng, n) for n in range(BAD)]
    found = [*bad, *(good(rng, n) for n in range(GOOD))]
    rng.shuffle(found)
    return found


def records(seed: int, mixed: list[bytes]) -> list[tuple[int, bytes]]:
    """(partition, value): records of one line and of hundreds."""
    rng, found = random.Random(seed), []
    while mixed:
        size = rng.choice((1, 1, 1, 2, 10, 200, 300))
        found.append((rng.randrange(4), b"\n".join(mixed[:size])))
        mixed = mixed[size:]
    return found


def is_event(line: bytes, recorded_ms: int) -> bool:
    """By the standard library, the published schema and the rule about the future alone."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        # Decimal, because 1.0 is an integer to JSON Schema and not to the contract.
        value = json.loads(line.decode(), parse_constant=refuse, parse_float=Decimal)
    except (ValueError, RecursionError):
        return False
    if rb"\ud" in line.lower() and any(0xD800 <= ord(c) < 0xE000 for c in json.dumps(value)):
        return False  # a lone surrogate, which only the standard library takes for text
    if not VALID.is_valid(value):
        return False
    return bool(value["time_unix_nano"] <= recorded_ms * 10**6 + MAX_FUTURE_NS)


def produce(runtime: Runtime, values: list[tuple[int, bytes]]) -> dict[tuple[int, int], Any]:
    """Send records; returns (value, timestamp in ms) by (partition, offset)."""
    producer = KafkaProducer(acks="all", linger_ms=20, **runtime.kafka.client_options())
    try:
        sent = [
            (value, producer.send(EVENTS_TOPIC, value=value, partition=partition))
            for partition, value in values
        ]
        producer.flush(30)
        found = {}
        for value, future in sent:
            about = future.get(30)
            found[about.partition, about.offset] = (value, about.timestamp)
        return found
    finally:
        producer.close()


def worker(runtime: Runtime) -> dict[str, Any]:
    (found,) = [p for p in runtime.status()["components"] if p["name"] == "worker-1"]
    return dict(found)


def ids_of(valid: list[bytes]) -> set[str]:
    return {json.loads(line)["event_id"] for line in valid}


@pytest.mark.slow
def test_two_thousand_bad_lines_among_twenty_thousand(runtime: Runtime) -> None:
    before = worker(runtime)
    sent = produce(runtime, records(2, lines(1)))
    log_id = runtime.status()["log_id"]
    valid: dict[PartitionPosition, bytes] = {}
    invalid: dict[PartitionPosition, bytes] = {}
    for (partition, offset), (value, recorded_ms) in sent.items():
        for number, line in enumerate(codec.split_lines(value)):
            chosen = valid if is_event(line, recorded_ms) else invalid
            chosen[partition, offset, number] = line
    assert len(invalid) > 1_500
    assert len(valid) >= GOOD
    with runtime.client() as client:
        seen = "SELECT sum(lines) FROM ledger FINAL"
        eventually(
            lambda: client.command(seen) == len(valid) + len(invalid), within_s=60, every_s=0.3
        )
        letters = list(client.query("SELECT * FROM dead_letters FINAL").named_results())
        counted = "SELECT sum(events) FROM windows FINAL WHERE width_s = 3600 AND scope = 'all'"
        eventually(lambda: client.command(counted) == len(ids_of(list(valid.values()))), 30, 0.3)
        stored = client.query("SELECT partition, offset, line, event_id FROM events").result_rows
    assert {(r["partition"], r["offset"], r["line"]) for r in letters} == set(invalid)
    for row in letters:
        line = invalid[row["partition"], row["offset"], row["line"]]
        assert row["sha256"] == hashlib.sha256(line).hexdigest()
        assert row["bytes"] == len(line)
        assert (row["log_id"], row["topic"]) == (log_id, EVENTS_TOPIC)
        assert row["code"]
    assert len({row["code"] for row in letters}) >= 7
    assert {row[3] for row in stored} == ids_of(list(valid.values()))
    assert {row[:3] for row in stored} <= set(valid)
    done = runtime.driftline("accounting", "--json")
    assert done.returncode == 0
    books = json.loads(done.stdout)
    assert books["accepted"] == len(valid)
    assert books["dead_lettered"] == len(invalid)
    after = worker(runtime)
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])


def test_a_partition_with_too_many_bad_lines_is_parked_until_it_is_taken(runtime: Runtime) -> None:
    """Others go on, in this worker and in one that is started anew; nothing of it is lost."""
    rng = random.Random(9)
    produce(runtime, [(1, b"\n".join(good(rng, 5_000_000 + n) for n in range(1_000)))])

    def stored(client: Any, like: str) -> int:
        found = client.command(
            f"SELECT uniqExact(event_id) FROM events WHERE event_id LIKE 'good{like}'"
        )
        return int(found)

    distinct = "SELECT uniqExact(event_id) FROM events"
    count = f"SELECT ({distinct}), (SELECT count() FROM dead_letters FINAL)"
    with runtime.client() as client:
        eventually(lambda: stored(client, "5______") == 1_000, 30, 0.3)
        before = client.query(count).result_rows
        mixed = [good(rng, 6_000_000 + n) for n in range(750)] + [b"{broken"] * 250
        rng.shuffle(mixed)
        (place,) = produce(runtime, [(1, b"\n".join(mixed))])
        said = parked(runtime)
        for word in ("of 1000 lines", "partition 1", f"{place[1]}", "invalid_json", "take 1"):
            assert word in said
        eventually(lambda: "too_many_bad_lines" in runtime.driftline("status").stdout, 30)
        assert client.query(count).result_rows == before
        waits = "SELECT lag, parked FROM watermarks FINAL WHERE topic = 'driftline.events'"
        here = f"{waits} AND partition = 1"
        eventually(lambda: client.query(here).result_rows == [(1, 1)], 30, 0.3)
        # events of other partitions are stored, and their windows computed
        produce(runtime, [(2, b"\n".join(good(rng, 7_000_000 + n) for n in range(10)))])
        eventually(lambda: stored(client, "7______") == 10, 30, 0.3)
        counted = "SELECT sum(events) FROM windows FINAL WHERE width_s = 10 AND scope = 'all'"
        eventually(lambda: client.command(counted) == client.command(distinct), 60, 0.3)
        # a worker that is started anew finds the same
        ended = worker(runtime)["pid"]
        os.kill(int(ended), signal.SIGKILL)
        eventually(lambda: worker(runtime)["pid"] not in (None, ended), 60, 0.3)
        produce(runtime, [(1, good(rng, 8_000_000))])
        parked(runtime)
        refused = runtime.driftline("deadletters", "take", "77")
        assert refused.returncode == 2
        assert "no partition 77" in refused.stderr
        assert stored(client, "6______") == 0
        assert runtime.driftline("deadletters", "take", "1").returncode == 0
        eventually(
            lambda: (stored(client, "6______"), stored(client, "8______")) == (750, 1), 60, 0.3
        )
        letters = "SELECT count() FROM dead_letters FINAL WHERE partition = 1 AND offset ="
        eventually(lambda: client.command(f"{letters} {place[1]}") == 250, 60, 0.3)
    eventually(lambda: not json.loads(runtime.driftline("status", "--json").stdout)["reasons"], 60)
    eventually(lambda: json.loads(runtime.driftline("accounting", "--json").stdout)["balanced"], 60)


def parked(runtime: Runtime) -> str:
    """Why the worker is not ready, once it says that a partition is parked."""

    def said() -> str:
        reasons = json.loads(runtime.driftline("status", "--json").stdout)["reasons"]
        return " ".join(text for text in reasons if "too_many_bad_lines" in text)

    return str(eventually(said, 60, 0.3))


def test_the_judge_is_not_the_code_under_test() -> None:
    """Every kind of line occurs, and the reference tells them apart."""
    verdicts: dict[bool, int] = defaultdict(int)
    for line in lines(1):
        verdicts[is_event(line, 1_800_000_000_000)] += 1
    assert verdicts[True] >= GOOD
    assert verdicts[False] > 1_500
    assert not is_event(b"{}", 0)
    rng = random.Random(0)
    line = good(rng, 1)
    time_ms = json.loads(line)["time_unix_nano"] // 10**6 + 1
    assert is_event(line, time_ms - 300_000)
    assert not is_event(line, time_ms - 300_002)
