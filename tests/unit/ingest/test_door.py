"""What a Collector wrote becomes redacted events and dead letters; nothing stops the door."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest import kafka_receiver
from ingest.kafka_receiver import BadMessages, Policy, ReceiverConfig, Translated, translate
from ingest.limits import Limits
from ingest.redaction import Redactor

MAIL, CARD = "ann.lee@example.org", "4111 1111 1111 1111"
REDACTOR = Redactor()
POLICY = Policy(REDACTOR.apply, REDACTOR.redact_text, REDACTOR.keeps_text_of)
CONFIG = ReceiverConfig(log_ids={"otlp_spans": "log-a"})


@dataclass(frozen=True)
class Record:
    """What the door looks at of a consumer's record."""

    value: bytes | None
    topic: str = "otlp_spans"
    partition: int = 3
    offset: int = 41
    timestamp: int = 1_795_893_308_000


def request(spans: int, content: str = "hello", bad: int = 0) -> ExportTraceServiceRequest:
    """Model calls of one trace, below a root; of the first ``bad`` the ids are too short."""
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    for number in range(spans):
        span = scope.spans.add()
        span.trace_id = b"\x01" * (15 if number < bad else 16)
        span.span_id, span.parent_span_id = (number + 1).to_bytes(8, "big"), b"\x09" * 8
        span.name = "chat"
        span.start_time_unix_nano, span.end_time_unix_nano = 10**18, 10**18 + 10**9
        for key, value in (
            ("gen_ai.operation.name", "chat"), ("gen_ai.agent.name", "shop"),
            ("gen_ai.completion", content),
        ):  # fmt: skip
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = key, value
    return made


def as_json(made: ExportTraceServiceRequest) -> bytes:
    """OTLP's JSON: protobuf's, but with ids in hexadecimal."""
    from google.protobuf.json_format import MessageToDict

    body = MessageToDict(made)
    for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            span[name] = base64.b64decode(span[name]).hex()
    return json.dumps(body).encode()


def run(*values: bytes | None, config: ReceiverConfig = CONFIG) -> Translated:
    records = [Record(value, offset=41 + n) for n, value in enumerate(values)]
    return translate(records, config, POLICY)


def ids(translated: Translated) -> list[str]:
    return sorted(e.event_id for _, events in translated.events for e in events)


def test_protobuf_and_json_come_to_the_same_events() -> None:
    made = request(5)
    first, second = run(made.SerializeToString()), run(as_json(made))
    assert ids(first) == ids(second)
    assert sum(e.kind == "llm_call" for e in first.events[0][1]) == 5
    assert first.letters == second.letters == []
    assert first.bad == second.bad == [False]
    assert first.events[0][0] == "otlp_spans"


def test_an_encoding_that_is_set_is_not_guessed() -> None:
    strict = ReceiverConfig(encoding="otlp_proto")
    assert run(as_json(request(1)), config=strict).bad == [True]
    assert run(as_json(request(1)), config=ReceiverConfig(encoding="otlp_json")).bad == [False]


def test_events_and_letters_are_redacted() -> None:
    translated = run(
        request(1, f"{MAIL} pays with {CARD}").SerializeToString(),
        json.dumps({"resourceSpans": 7, "said": MAIL}).encode(),
    )
    told = str(translated.events) + str(translated.letters)
    assert MAIL not in told
    assert CARD not in told
    assert "[email]" in told


def test_letters_say_which_message_and_which_span() -> None:
    translated = run(b"\xff\xffnothing", request(3, bad=2).SerializeToString(), None)
    places = [
        (one.log_id, one.topic, one.partition, one.offset, one.line) for one in translated.letters
    ]
    assert places == [
        ("log-a", "otlp_spans", 3, 41, 0),
        ("log-a", "otlp_spans", 3, 42, 0),
        ("log-a", "otlp_spans", 3, 42, 1),
    ]
    assert [one.code for one in translated.letters] == ["invalid_protobuf", *["invalid_field"] * 2]
    assert translated.bad == [True, False, False]  # a message with some good in it is no bad one
    assert sum(e.kind == "llm_call" for _, events in translated.events for e in events) == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"resourceSpans": ' + b"[" * 100_000, "too_deep"),
        (b'{"a": "\xff"}', "invalid_utf8"),
        (b"{broken", "invalid_json"),
        (b"{" + b" " * 5000 + b"}", "body_too_large"),
        (request(20).SerializeToString(), "too_many_records"),
    ],
)
def test_limits_hold_and_name_their_code(value: bytes, code: str) -> None:
    size = 4000 if code == "body_too_large" else 1 << 20
    limits = Limits(max_decompressed_bytes=size, max_records=10)
    (one,) = run(value, config=ReceiverConfig(limits=limits)).letters
    assert one.code == code


def test_a_bug_in_the_translation_costs_the_message_and_not_the_door(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError(MAIL)

    monkeypatch.setattr(kafka_receiver.otlp, "events_of_traces", broken)
    (one,) = run(b"{}").letters
    assert (one.code, one.detail) == (kafka_receiver.UNTRANSLATABLE, "KeyError")
    assert "could not be translated" in caplog.text


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_whatever_arrives_is_an_event_a_letter_or_nothing(values: list[bytes]) -> None:
    translated = run(*values, *(b"{" + value for value in values))
    assert len(translated.bad) == 2 * len(values)
    whole = [one for one in translated.letters if one.line == 0]
    assert len({one.offset for one in whole}) == len(whole)
    assert all(one.code != kafka_receiver.UNTRANSLATABLE for one in translated.letters)


def test_the_limit_needs_a_full_window() -> None:
    assert not BadMessages().update([True] * 999).exceeded
    assert BadMessages().update([True] * 1000).exceeded
    recovered = BadMessages().update([True] * 250 + [False] * 1000)
    assert not recovered.exceeded
