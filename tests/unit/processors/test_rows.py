"""Decoded records to rows: what a table holds is a function of the payload and its place alone."""

import hashlib
import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.failures.fingerprint import template
from detectors.sketch import RELATIVE_ERROR, ZERO_BIN, bin_value
from ingest.codec import decode, encode
from ingest.core.events import Event
from processors.write import rows

NOW = 1_760_000_000_000_000_000
S = 10**9


def event(**fields):
    base = {"event_id": "e", "time_unix_nano": NOW, "agent": "shop", "kind": "tool_call"}
    return Event(**(base | fields))


def decoded(*records):
    """Records of events or of raw bytes, each at a partition and offset of its own."""
    values = [r if isinstance(r, bytes) else encode(r) for r in records]
    return decode(values, [NOW] * len(values))


def places(n):
    return np.arange(n, dtype=np.uint32) % 3, np.arange(n, dtype=np.uint64) + 10


def event_rows(*records):
    return rows.event_rows(decoded(*records), "log", *places(len(records)))


def test_an_event_keeps_its_payload_and_learns_its_place():
    found = event_rows([event(event_id="a", duration_ms=2.5), event(event_id="b")], [event()])
    assert found["event_id"].to_list() == ["a", "b", "e"]
    assert found["partition"].to_list() == [0, 0, 1]
    assert found["offset"].to_list() == [10, 10, 11]
    assert found["line"].to_list() == [0, 1, 0]
    assert found["log_id"].unique().to_list() == ["log"]
    assert found["time"].dtype == pl.Datetime("ns", "UTC")
    assert found["time"].to_physical().to_list() == [NOW] * 3
    assert not {"record", "time_unix_nano"} & set(found.columns)


def test_the_place_does_not_change_the_key():
    """A repeat at another offset, record and line lands on the same row."""
    key = ["agent", "time", "event_id", "payload_hash"]
    first = event_rows([event(content="x")]).select(key)
    again = event_rows([event(event_id="other")], [event(event_id="o2"), event(content="x")])
    assert again.filter(pl.col("event_id") == "e").select(key).equals(first)


@given(st.lists(st.none() | st.floats(0, 1e15), min_size=1, max_size=20))
def test_the_bin_of_a_duration_is_within_one_percent_and_null_without_one(durations):
    found = event_rows([event(duration_ms=d) for d in durations])
    for bin_, duration in zip(found["duration_bin"].to_list(), durations, strict=True):
        if duration is None:
            assert bin_ is None
        elif duration == 0:
            assert bin_ == ZERO_BIN
        elif duration > 1e-280:
            assert float(bin_value(bin_)) == pytest.approx(duration, rel=RELATIVE_ERROR + 1e-9)


@given(st.lists(st.none() | st.sampled_from(["Order #W12 not found", "timeout", "HTTP 503"])))
def test_error_templates_are_those_of_the_messages(messages):
    found = event_rows([event(error_message=m, status="error") for m in [*messages, None]])
    expected = [None if m is None else template(m) for m in [*messages, None]]
    assert found["error_template"].to_list() == expected
    assert found["error_template"].dtype == pl.String


def test_nothing_decoded_gives_no_rows():
    found = event_rows(b"{", b"")
    assert found.is_empty()
    assert rows.evaluation_rows(found).is_empty()
    assert found.schema == event_rows([event()]).schema


def test_evaluations_say_whom_they_judge():
    judged = rows.evaluation_rows(
        event_rows(
            [
                event(event_id="1", kind="feedback", target="t", interaction_id="i"),
                event(event_id="2", kind="score", interaction_id="i", session_id="s"),
                event(event_id="3", kind="outcome", session_id="s", value=1.0, reason="r"),
                event(event_id="4", kind="outcome"),
                event(event_id="5", kind="tool_call", target="t"),
                event(event_id="6", kind="interaction", interaction_id="i"),
            ]
        )
    )
    assert judged.select("event_id", "target").rows() == [
        ("1", "t"),
        ("2", "i"),
        ("3", "s"),
        ("4", None),
    ]
    assert judged.row(2, named=True)["value"] == 1.0
    assert judged.row(2, named=True)["reason"] == "r"


def books(found, late=None):
    late = np.zeros(len(found.frame), np.bool_) if late is None else late
    return rows.ledger_rows(found, "log", "topic", *places(len(found.lines)), late)


def test_the_ledger_has_a_row_for_every_record():
    good = [event(event_id="a"), event(event_id="b")]
    found = decoded(good, b"{\n\n" + encode(good) + b"\n[]", b"", good[:1])
    late = np.array([0, 1, 0, 1, 1], np.bool_)  # of the five accepted events
    ledger = books(found, late)
    assert ledger["lines"].to_list() == [2, 5, 1, 1]
    assert ledger["rows"].to_list() == [2, 2, 0, 1]
    assert ledger["dead_lettered"].to_list() == [0, 3, 1, 0]
    assert ledger["late"].to_list() == [1, 1, 0, 1]
    assert ledger["offset"].to_list() == [10, 11, 12, 13]
    assert ledger["partition"].to_list() == [0, 1, 2, 0]
    assert set(ledger["log_id"]) == {"log"}
    assert set(ledger["topic"]) == {"topic"}


line = st.sampled_from(
    [encode([event(event_id="a")]), encode([event(event_id="b")]), b"{", b"", b"7", b"\xff"]
)


@given(st.lists(st.lists(line, max_size=6).map(b"\n".join), min_size=1, max_size=6))
def test_lines_are_rows_or_dead_letters(values):
    found = decoded(*values)
    ledger = books(found)
    assert (ledger["lines"] == ledger["rows"] + ledger["dead_lettered"]).all()
    letters = rows.dead_letter_rows(found, "log", "topic", *places(len(values)))
    per_record = letters.group_by("partition", "offset").len()
    joined = ledger.join(per_record, on=["partition", "offset"], how="left")
    assert joined["len"].fill_null(0).to_list() == ledger["dead_lettered"].to_list()


def test_a_dead_letter_names_place_and_reason_but_not_content():
    secret = b'{"event_id": "tell nobody"'
    found = decoded([event()], encode([event()]) + b"\n" + secret)
    (letter,) = rows.dead_letter_rows(found, "log", "topic", *places(2)).to_dicts()
    assert "nobody" not in json.dumps(letter)
    assert letter.pop("detail")
    assert letter == {
        "log_id": "log",
        "topic": "topic",
        "partition": 1,
        "offset": 11,
        "line": 1,
        "code": "invalid_json",
        "bytes": len(secret),
        "sha256": hashlib.sha256(secret).hexdigest(),
    }


@pytest.mark.parametrize(
    ("at_s", "late"),
    [(1_000.0, False), (1_024.999_999_999, False), (1_025.0, True), (1_040.0, True)],
)
def test_late_is_what_comes_after_its_cell_was_sealed(at_s, late):
    """A cell [1000, 1010) is sealed once the watermark stands at 1025."""
    cell = pl.DataFrame(
        {"time": [datetime.fromtimestamp(1_000, UTC), datetime.fromtimestamp(1_009, UTC)]},
        schema={"time": pl.Datetime("ns", "UTC")},
    )
    watermarks = np.array([round(at_s * S)] * 2, dtype=np.int64)
    assert rows.is_late(cell, watermarks).tolist() == [late, late]


def test_nothing_is_late_before_anything_was_seen():
    never = np.array([-(2**62)], dtype=np.int64)
    assert not rows.is_late(event_rows([event(time_unix_nano=0)]), never).any()
