"""Ratings and comments: what is understood, what is refused and with which words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.errors import Rejected
from ingest.core.events import Event
from ingest.gateway.feedback import RETRY_NS, Memory, event_of

NOW = 1_780_000_000_000_000_000


def read(memory: Memory | None = None, now: int = NOW, **fields: object) -> Event:
    raw = json.dumps({"session_id": "s", **fields}).encode()
    return event_of(raw, memory or Memory(), now, "shop")


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"thumbs": "up"}, "thumbs", 1.0),
        ({"thumbs": "Down"}, "thumbs", 0.0),
        ({"thumbs": True}, "thumbs", 1.0),
        ({"thumbs": 0}, "thumbs", 0.0),
        ({"stars": 1}, "stars", 0.0),
        ({"stars": 5}, "stars", 1.0),
        ({"stars": 3.5}, "stars", 0.625),
        ({"csat": 4}, "csat", 0.75),
        ({"csat": 0, "scale": [0, 10]}, "csat", 0.0),
        ({"csat": 7, "scale": [0, 10]}, "csat", 0.7),
        ({"csat": 1, "scale": [5, 1]}, "csat", 1.0),
        ({"comment": "well done"}, "comment", None),
        ({"stars": 2, "comment": "meh", "name": "survey"}, "survey", 0.25),
    ],
)
def test_a_rating_becomes_a_value(given: dict[str, object], name: str, value: float | None) -> None:
    event = read(**given)
    assert (event.kind, event.name, event.value) == ("feedback", name, value)
    assert (event.session_id, event.interaction_id, event.agent) == ("s", None, "shop")
    assert event.content == given.get("comment")
    assert event.time_unix_nano == NOW


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "expected one of thumbs, stars, csat, label, or a comment"),
        ({"thumbs": "up", "stars": 5}, "got thumbs and stars"),
        ({"thumbs": "sideways"}, 'expected "up" or "down"'),
        ({"thumbs": 2}, 'expected "up" or "down"'),
        ({"label": "maybe"}, "label"),
        ({"label": "pass", "stars": 5}, "got stars and label"),
        ({"stars": 0}, "expected a number from 1 to 5"),
        ({"stars": 6}, "expected a number from 1 to 5"),
        ({"stars": "5"}, "Expected `int | float | null`, got `str`"),
        ({"csat": 11, "scale": [0, 10]}, "expected a number from 0 to 10"),
        ({"csat": 1, "scale": [1, 1]}, "expected two different numbers"),
        ({"csat": 1e308, "scale": [-1e308, 1e308]}, "not too far apart"),
        ({"stars": 1, "scale": [1, 10]}, "only csat has a scale"),
        ({"stars": 1, "session_id": None}, "expected exactly one of session_id"),
        ({"stars": 1, "trace_id": "a" * 32}, "got session_id and trace_id"),
        ({"stars": 1, "session_id": None, "trace_id": "abc"}, "32 hexadecimal digits"),
        ({"stars": 1, "time": "yesterday"}, "expected ISO 8601 or nanoseconds"),
        ({"stars": 1, "time": 1_780_000_000}, "expected ISO 8601 or nanoseconds"),
        ({"stras": 1}, "an unknown field; known are session_id"),
    ],
)
def test_a_wrong_one_is_told_what_is_expected(given: dict[str, object], words: str) -> None:
    with pytest.raises(Rejected) as caught:
        read(**given)
    assert words in caught.value.detail
    assert caught.value.code in ("invalid_field", "missing_field")


def test_no_message_quotes_what_was_sent() -> None:
    for wrong in ({"thumbs": "sk-secret"}, {"time": "sk-secret"}, {"sk-secret": 1}):
        with pytest.raises(Rejected) as caught:
            read(**wrong)
        assert "sk-secret" not in str(caught.value)


def test_a_trace_id_is_the_interaction() -> None:
    dashed = "0AF76519-16CD-43DD-8448-EB211C80319C"
    event = read(session_id=None, trace_id=dashed, thumbs="up")
    assert event.interaction_id == "0af7651916cd43dd8448eb211c80319c"
    assert event.session_id is None


def test_a_retry_with_its_time_is_the_same_event_anywhere() -> None:
    one = read(stars=4, user_id="u", time="2026-06-01T10:00:00Z")
    two = read(stars=4, user_id="u", time="2026-06-01T10:00:00Z", now=NOW + 10**15)
    assert one == two
    assert one.time_unix_nano == 1_780_308_000_000_000_000
    assert read(stars=4, user_id="u", time="2026-06-01T10:00:01Z").event_id != one.event_id


def test_without_a_time_the_last_rating_repeated_is_a_retry() -> None:
    memory = Memory()
    up = read(memory, thumbs="up")
    assert read(memory, NOW + RETRY_NS, thumbs="up") == up
    down = read(memory, NOW + 5, thumbs="down")
    assert down.time_unix_nano == NOW + 5
    again = read(memory, NOW + 9, thumbs="up")
    assert again.time_unix_nano == NOW + 9
    assert len({up.event_id, down.event_id, again.event_id}) == 3
    assert read(memory, NOW + 9 + RETRY_NS + 1, thumbs="up") != again
    assert read(memory, NOW + 11, thumbs="down", user_id="other").time_unix_nano == NOW + 11


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.gateway.feedback._REMEMBERED", 3)
    memory = Memory()
    for number in range(10):
        read(memory, session_id=f"s{number}", thumbs="up")
    assert [key[1] for key in memory.seen] == ["s7", "s8", "s9"]


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_whatever_comes_is_an_event_or_refused(value: object) -> None:
    for name in ("thumbs", "stars", "csat", "scale", "time", "comment", "session_id"):
        try:
            event = read(**{"csat": 3, name: value})
        except Rejected:
            continue
        assert event.value is None or 0 <= event.value <= 1


def test_a_label_is_an_outcome_of_one_name():
    event = read(label="fail", name="mine", user_id="anna", reason="wrong_refund")
    assert (event.kind, event.name, event.value) == ("outcome", "label", 0.0)
    assert (event.session_id, event.user_id, event.reason) == ("s", "anna", "wrong_refund")
    assert read(label="pass").value == 1.0
