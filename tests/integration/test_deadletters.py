"""Dead letters as a user meets them: counted, shown without secrets, tried again, counted once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer

from ingest.core.events import DEAD_LETTERS_TOPIC, EVENTS_TOPIC
from tests.conftest import Runtime
from tests.support.common import eventually, free_port

CARD, MAIL = "4111 1111 1111 1111", "ann.lee@example.org"


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"letter-{number}",
        "time_unix_nano": time.time_ns(),
        "agent": "shop",
        "environment": "test",
        "kind": "tool_call",
        **fields,
    }


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime that keeps originals for an hour, fed with what cannot become events."""
    runtime = Runtime(tmp_path_factory.mktemp("letters") / "home", free_port(16))
    hour = {"DRIFTLINE_PROCESSING_KEEP_ORIGINALS_HOURS": "1"}
    started = runtime.driftline("up", "--detach", environment=hour)
    assert started.returncode == 0, started.stderr
    soon = time.time_ns() + (300 + 8) * 10**9  # too far ahead, and 8 s later no longer
    lines: list[bytes] = [
        json.dumps(line(0)).encode(),
        json.dumps(line(1, time_unix_nano=soon, content=f"mail {MAIL}")).encode(),
        json.dumps(line(2, kind="nonsense", content=f"card {CARD}")).encode(),
        f'{{"agent": "shop", "said by": "{MAIL}"'.encode(),
        json.dumps(line(3, content="x" * 300_000)).encode(),
        json.dumps(line(4, time_unix_nano=soon, session_id=MAIL)).encode(),
        b"\xff\xfe\x00",
    ]
    foreign = {
        "log_id": "other", "topic": "otlp_spans", "partition": 0, "offset": 9, "line": 0,
        "code": "invalid_protobuf", "bytes": 3, "kept": "binary",
    }  # fmt: skip
    producer = KafkaProducer(bootstrap_servers=runtime.kafka.bootstrap_servers)
    producer.send(EVENTS_TOPIC, b"\n".join(lines), partition=1)
    producer.send(DEAD_LETTERS_TOPIC, json.dumps(foreign).encode(), partition=0)
    producer.send(DEAD_LETTERS_TOPIC, b"no letter", partition=0)
    producer.close()
    with runtime.client() as client:
        count = "SELECT count() FROM dead_letters FINAL"
        eventually(lambda: client.command(count) == 7, within_s=40)
    time.sleep(max(0.0, (soon - time.time_ns()) / 1e9 - 300))
    yield runtime
    runtime.driftline("down")


def command(runtime: Runtime, *arguments: str, code: int = 0) -> Any:
    done = runtime.driftline("deadletters", *arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def stored(runtime: Runtime) -> tuple[int, int]:
    with runtime.client() as client:
        return tuple(  # type: ignore[return-value]
            client.query("SELECT count(), uniqExact(event_id) FROM events FINAL").result_rows[0]
        )


def test_they_are_counted_by_reason_topic_and_agent(keeping: Runtime) -> None:
    rows = command(keeping, "list")
    counted = {(row["code"], row["topic"], row["agent"]): row["letters"] for row in rows}
    assert counted == {
        ("future_time", EVENTS_TOPIC, "shop"): 2,
        ("invalid_field", EVENTS_TOPIC, "shop"): 1,
        ("invalid_json", EVENTS_TOPIC, ""): 1,
        ("line_too_long", EVENTS_TOPIC, "shop"): 1,
        ("invalid_utf8", EVENTS_TOPIC, ""): 1,
        ("invalid_protobuf", "otlp_spans", ""): 1,
    }
    assert all(row["first"] <= row["last"] for row in rows)
    assert [row["code"] for row in command(keeping, "list", "--code", "invalid_json")] == [
        "invalid_json"
    ]
    assert command(keeping, "list", "--since", "1h") == rows
    shown = keeping.driftline("deadletters", "list").stdout.splitlines()
    assert shown[0].split("\t")[:3] == ["code", "topic", "environment"]
    assert len(shown) == 7


def test_they_are_shown_with_place_and_without_secrets(keeping: Runtime) -> None:
    done = keeping.driftline("deadletters", "show", "--json")
    assert CARD not in done.stdout
    assert MAIL not in done.stdout
    rows = {row["place"].split("/", 1)[1]: row for row in json.loads(done.stdout)}
    assert rows["1/0/2"]["kept"] == "redacted"
    assert json.loads(rows["1/0/2"]["text"])["event_id"] == "letter-2"
    assert rows["1/0/3"]["kept"] == "masked"
    assert rows["1/0/4"]["kept"] == "cut"
    assert rows["1/0/6"]["kept"] == "binary"
    assert rows["1/0/4"]["original_kept"]
    (one,) = command(keeping, "show", "1/0/3")
    assert one == rows["1/0/3"]
    people = keeping.driftline("deadletters", "show", "1/0/3", f"{EVENTS_TOPIC}/1/0/4").stdout
    assert people.count(EVENTS_TOPIC) == 2
    assert command(keeping, "show", "1/7/7") == []
    assert keeping.driftline("deadletters", "show", "first").returncode == 2


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(keeping: Runtime) -> None:
    before = stored(keeping)
    for arguments in (["replay", "--dry-run"], ["replay"]):
        told = command(keeping, *arguments)
        assert told["dry_run"]
        assert (told["letters"], told["would_send"]) == (7, 2)
        rows = {row["place"]: row for row in told["rows"]}
        assert rows[f"{EVENTS_TOPIC}/1/0/1"]["event_id"] == "letter-1"
        assert "still refused: invalid_field" in rows[f"{EVENTS_TOPIC}/1/0/2"]["why_not"]
        assert "at its source" in rows["otlp_spans/0/9/0"]["why_not"]
    assert stored(keeping) == before
    assert keeping.driftline("deadletters", "replay", "--yes", "--dry-run").returncode == 2
    command(keeping, "replay", "--code", "invalid_json", code=1)


def test_replayed_twice_they_count_once_and_redacted(keeping: Runtime) -> None:
    before = stored(keeping)
    assert command(keeping, "replay", "--yes")["sent"] == 2
    eventually(lambda: stored(keeping) == (before[0] + 2, before[1] + 2), within_s=30)
    told = command(keeping, "replay", "--yes", code=1)
    assert told["sent"] == 0
    assert told["not_sent"]["already sent as event letter-1"] == 1
    assert command(keeping, "replay", "--yes", "--again")["sent"] == 2
    with keeping.client() as client:
        lines = "SELECT sum(rows) FROM ledger FINAL"
        eventually(lambda: client.command(lines) == before[0] + 4, within_s=30)
        said = "SELECT content, session_id FROM events FINAL WHERE event_id LIKE 'letter-%'"
        texts = str(client.query(said).result_rows)
    assert stored(keeping) == (before[0] + 2, before[1] + 2)
    assert "[email" in texts
    assert MAIL not in texts
    books = json.loads(keeping.driftline("accounting", "--json").stdout)
    assert books["balanced"]
    assert books["duplicates"] == 2
    (future,) = command(keeping, "list", "--code", "future_time")
    assert future["replayed"] == 2


def test_without_its_original_a_masked_letter_says_so(keeping: Runtime) -> None:
    with keeping.client() as client:
        client.command("TRUNCATE TABLE dead_letter_originals")
        client.command("TRUNCATE TABLE dead_letter_replays")
    told = command(keeping, "replay")
    reasons = {row["place"].split("/", 1)[1]: row["why_not"] for row in told["rows"]}
    assert reasons["1/0/1"] is None
    assert "redaction may have changed its ids" in reasons["1/0/5"]
    assert "only its beginning" in reasons["1/0/4"]
    assert "no text" in reasons["1/0/6"]
