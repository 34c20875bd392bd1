"""The codec: every line is a row or a rejection, and nothing else decides which."""

import json
import math
from decimal import Decimal

import jsonschema
import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import SCHEMA, decode, encode, payload_hash, split_lines
from ingest.core.events import FIELDS, Event, RejectionCode, json_schema

NOW = 1_760_000_000_000_000_000
VALID = jsonschema.Draft202012Validator(json_schema())

text = st.text(st.characters(codec="utf-8"), max_size=40)
key = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
count = st.integers(0, 2**53)
amount = st.floats(0, 1e15)


def optional(strategy):
    return st.none() | strategy


events = st.builds(
    Event,
    event_id=key,
    time_unix_nano=st.integers(0, NOW),
    agent=key,
    kind=st.sampled_from(["llm_call", "tool_call", "interaction", "feedback"]),
    environment=key,
    agent_version=optional(text),
    session_id=optional(key),
    interaction_id=optional(key),
    duration_ms=optional(amount),
    name=optional(text),
    status=st.sampled_from(["ok", "error"]),
    error_message=optional(text),
    input_tokens=optional(count),
    cost_usd=optional(amount),
    content=optional(text),
    attributes=optional(st.dictionaries(text, text, max_size=4)),
    value=optional(st.floats(0, 1)),
    target=optional(key),
)


def one(**fields) -> bytes:
    base = {"event_id": "a", "time_unix_nano": 1, "agent": "x", "kind": "tool_call"}
    return json.dumps(base | fields).encode()


@given(st.lists(st.lists(events, min_size=1, max_size=5), min_size=1, max_size=4))
def test_round_trip(records):
    decoded = decode([encode(r) for r in records], [NOW] * len(records))
    assert decoded.rejections == []
    assert decoded.frame.schema == pl.Schema(SCHEMA)
    flat = [e for r in records for e in r]
    for row, event in zip(decoded.frame.iter_rows(named=True), flat, strict=True):
        expected = msgspec.structs.asdict(event)
        if expected["attributes"] is not None:
            row["attributes"] = json.loads(row["attributes"])
        assert {name: row[name] for name in FIELDS} == expected
        assert row["payload_hash"] == payload_hash(event)


@given(st.lists(st.lists(events, min_size=1, max_size=5), min_size=1, max_size=4))
def test_who_says_that_lines_are_canonical_says_the_same_events(records):
    values = [encode(r) for r in records]
    limits = [NOW] * len(records)
    believed = decode(values, limits, [True] * len(records)).frame
    assert believed.equals(decode(values, limits).frame)


def test_a_false_claim_changes_the_hash_alone():
    """The books tell such repeats from others: they are collisions, not duplicates."""
    line = one(duration_ms=5, name="x")
    told, claimed = decode([line], [NOW]).frame, decode([line], [NOW], [True]).frame
    assert told.drop("payload_hash").equals(claimed.drop("payload_hash"))
    assert not told["payload_hash"].equals(claimed["payload_hash"])
    beside_a_bad_one = decode([b"bad\n" + line], [NOW], [True]).frame
    assert beside_a_bad_one["payload_hash"].equals(claimed["payload_hash"])


def reference(line: bytes) -> bool:
    """Is this line a valid event? By the standard library and the published schema alone."""

    def refuse(constant):
        raise ValueError(constant)

    try:
        # Decimal, because 1.0 is an integer to JSON Schema and not to the contract.
        value = json.loads(line.decode(), parse_constant=refuse, parse_float=Decimal)
    except ValueError:
        return False
    return VALID.is_valid(value)


@st.composite
def mutated(draw):
    raw = bytearray(encode([draw(events)]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw) - 1))
        how = draw(st.sampled_from(["set", "delete", "insert", "cut"]))
        if how == "cut":
            del raw[at + 1 :]
        elif how == "delete" and len(raw) > 1:
            del raw[at]
        elif how == "insert":
            raw.insert(at, draw(st.integers(0, 255)))
        else:
            raw[at] = draw(st.integers(0, 255))
    return bytes(raw)


@settings(max_examples=300)
@given(st.lists(events.map(lambda e: encode([e])) | mutated() | st.binary(max_size=60), max_size=8))
def test_one_bad_line_never_costs_its_batch(lines):
    value = b"\n".join(lines)
    found = split_lines(value)
    decoded = decode([value], [NOW])
    assert decoded.lines.tolist() == [len(found)]
    rejected = {r.line for r in decoded.rejections}
    accepted = set(decoded.frame["line"].to_list())
    assert rejected | accepted == set(range(len(found)))
    assert not rejected & accepted
    for number, line in enumerate(found):
        if number in rejected and rb"\ud" in line.lower():
            continue  # a lone surrogate, which only the standard library takes for text
        assert (number in accepted) == reference(line), line


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", RejectionCode.EMPTY_LINE),
        (b"   ", RejectionCode.EMPTY_LINE),
        (b"{", RejectionCode.INVALID_JSON),
        (one() + one(), RejectionCode.INVALID_JSON),
        (b'{"event_id":"\xff"}', RejectionCode.INVALID_UTF8),
        (one(note="\xff").replace(b"\\u00ff", b"\xff"), RejectionCode.INVALID_UTF8),
        (b"[1]", RejectionCode.NOT_AN_OBJECT),
        (b"17", RejectionCode.NOT_AN_OBJECT),
        (b'{"event_id":"a"}', RejectionCode.MISSING_FIELD),
        (one(duration_ms="1"), RejectionCode.INVALID_FIELD),
        (one(duration_ms=-1), RejectionCode.INVALID_FIELD),
        (one(kind="secret thing"), RejectionCode.INVALID_FIELD),
        (one(event_id=""), RejectionCode.INVALID_FIELD),
        (one(value=1.5), RejectionCode.INVALID_FIELD),
        (one(time_unix_nano=True), RejectionCode.INVALID_FIELD),
        (one(attributes={"a": 1}), RejectionCode.INVALID_FIELD),
        (one(schema_version=2), RejectionCode.UNSUPPORTED_VERSION),
        (one(x=0)[:-2] + b"[" * 100_000 + b"]" * 100_000 + b"}", RejectionCode.TOO_DEEP),
        (one(content="x" * 300_000), RejectionCode.LINE_TOO_LONG),
        (one(duration_ms=math.nan), RejectionCode.INVALID_JSON),
        (one(time_unix_nano=NOW + 301 * 10**9), RejectionCode.FUTURE_TIME),
    ],
)
def test_every_code(line, code):
    good = one(event_id="good")
    decoded = decode([good + b"\n" + line + b"\n" + good], [NOW])
    assert [r.code for r in decoded.rejections] == [code]
    assert decoded.rejections[0].line == 1
    assert decoded.frame["event_id"].to_list() == ["good", "good"]
    assert "secret" not in decoded.rejections[0].detail


def test_a_value_spread_over_lines_is_no_event():
    spread = one().replace(b",", b",\n")
    decoded = decode([spread + b"\n" + one() + one()], [NOW])
    assert decoded.frame.is_empty()
    assert len(decoded.rejections) == decoded.lines.sum()


def test_records_without_a_value_are_counted():
    decoded = decode([None, b"", one() + b"\n"], [NOW] * 3)
    assert decoded.lines.tolist() == [1, 1, 1]
    assert [(r.record, r.code) for r in decoded.rejections] == [
        (0, RejectionCode.EMPTY_LINE),
        (1, RejectionCode.EMPTY_LINE),
    ]


def test_a_good_line_decodes_the_same_beside_a_bad_one():
    alone = decode([one(attributes={"b": "1", "a": "é"})], [NOW]).frame
    beside = decode([one(attributes={"b": "1", "a": "é"}) + b"\n{"], [NOW]).frame
    assert alone.equals(beside)


def test_the_time_limit_is_the_records_not_the_clocks():
    line = one(time_unix_nano=NOW + 300 * 10**9)
    assert decode([line], [NOW]).frame.height == 1
    assert decode([line], [NOW - 1]).rejections[0].code == RejectionCode.FUTURE_TIME


def test_two_values_on_a_line_and_none_on_another_do_not_make_up_for_each_other() -> None:
    good = encode([Event(event_id="a", time_unix_nano=1, agent="shop", kind="tool_call")])
    spread = good.replace(b",", b",\n", 1)  # one value on two lines
    for value in (
        good + good + b"\n" + spread,
        good + good + b"\n\n",
        good + b" " + good + b"\n{}",
    ):
        decoded = decode([value], [10**18])
        assert decoded.frame.is_empty()
        assert len(decoded.rejections) == decoded.lines[0] == len(split_lines(value))
