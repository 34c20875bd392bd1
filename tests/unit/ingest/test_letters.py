"""What is kept of a dead letter: redacted, bounded, and honest about whether it can be replayed."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ingest.core.dead_letters import MAX_TEXT_BYTES, WHY_NOT, DeadLetter, letter, retain
from ingest.redaction import Redactor

redact = Redactor().redact_text
CARD, MAIL = "4111 1111 1111 1111", "ann.lee@example.org"
EVENT = {"event_id": "e-1", "time_unix_nano": 1_760_000_000_123_456_789, "agent": "shop"}


def test_a_line_without_anything_to_hide_is_kept_as_it_was() -> None:
    raw = json.dumps({**EVENT, "kind": "tool_call", "schema_version": 2}).encode()
    assert retain(raw, redact) == ("", "shop", "whole", raw.decode())


def test_an_object_keeps_its_ids_and_numbers() -> None:
    said = {
        **EVENT,
        "kind": "nothing",
        "content": f"{MAIL} pays with {CARD}",
        "more": [{"x": CARD}],
    }
    kept = retain(json.dumps(said).encode(), redact)
    found = json.loads(kept.text)
    assert kept.kept == "redacted"
    assert {name: found[name] for name in EVENT} == EVENT
    assert "[email]" in found["content"]
    assert CARD not in kept.text
    assert MAIL not in kept.text


def test_a_secret_in_an_id_or_outside_of_json_is_masked_and_cannot_be_replayed() -> None:
    for raw in (json.dumps({**EVENT, "session_id": MAIL}).encode(), f"user {MAIL} {{".encode()):
        kept = retain(raw, redact)
        assert kept.kept == "masked"
        assert MAIL not in kept.text
        assert kept.kept in WHY_NOT


def test_a_secret_as_a_number_of_an_unknown_field_is_hidden() -> None:
    kept = retain(json.dumps({**EVENT, "card": 4111111111111111}).encode(), redact)
    assert "4111111111111111" not in kept.text


def test_long_lines_are_cut_after_they_were_redacted() -> None:
    raw = ("x" * (MAX_TEXT_BYTES - 10) + f" {CARD} " + "y" * 1000).encode()
    kept = retain(raw, redact)
    assert kept.kept == "cut"
    assert len(kept.text.encode()) <= MAX_TEXT_BYTES
    assert "4111" not in kept.text
    assert retain(b"a" * (2 << 20), redact) == ("", "", "cut", "")


def test_bytes_that_are_no_text() -> None:
    assert retain(b"\x0a\x00\xff\xfe", redact).kept == "binary"
    kept = retain(b"\xff\xfe " + MAIL.encode(), redact)
    assert kept.kept == "masked"
    assert MAIL not in kept.text


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda t: t.encode("utf-8"))))
def test_whatever_arrives_is_kept_somehow(raw: bytes) -> None:
    kept = retain(raw, redact)
    if kept.kept == "whole":
        assert kept.text.encode() == raw


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_no_object_hides_a_card_from_redaction(value: object) -> None:
    raw = json.dumps({"a": value, "b": [CARD, {"c": f"x {MAIL} y"}]}).encode()
    text = retain(raw, redact).text
    assert CARD not in text
    assert MAIL not in text


def test_a_letter_says_where_and_why() -> None:
    made = letter(b"{", ("log", "otlp_spans", 1, 2, 3), "invalid_json", "d" * 999, redact)
    assert (made.log_id, made.topic, made.partition, made.offset, made.line) == (
        "log", "otlp_spans", 1, 2, 3,
    )  # fmt: skip
    assert (made.bytes, made.kept, made.text, len(made.detail)) == (1, "whole", "{", 256)
    assert letter(b"{", ("l", "t", 0, 0, 0), "c", "", None) == DeadLetter(
        log_id="l", topic="t", partition=0, offset=0, line=0, code="c", bytes=1,
        sha256=made.sha256,
    )  # fmt: skip
