"""OTLP requests: both encodings say the same, a bad span costs only itself, in any order."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from ingest import codec
from ingest.core.errors import Rejected
from ingest.core.events import Event
from ingest.limits import Limits
from ingest.otlp import Encoding, Translation, events_of_logs, events_of_traces

LIMITS = Limits()
NOW = 1_760_000_000_000_000_000


def any_value(value: Any) -> dict[str, Any]:
    """A value in OTLP's JSON."""
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [any_value(item) for item in value]}}
    return {"kvlistValue": {"values": attributes(value)}}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def span(**fields: Any) -> dict[str, Any]:
    values = fields.pop("attributes", {})
    return {
        "traceId": "a" * 32,
        "spanId": "b" * 16,
        "name": "s",
        "kind": 3,
        "startTimeUnixNano": str(NOW),
        "endTimeUnixNano": str(NOW + 10**9),
        "attributes": attributes(values),
        **fields,
    }


def traces(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    about = {"attributes": attributes(resource or {"service.name": "shop"})}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [{"spans": list(spans)}]}]}


def logs(*records: dict[str, Any]) -> dict[str, Any]:
    about = {"attributes": attributes({"service.name": "shop"})}
    return {"resourceLogs": [{"resource": about, "scopeLogs": [{"logRecords": list(records)}]}]}


def protobuf(request: dict[str, Any]) -> bytes:
    """Return the same request in protobuf, written without protobuf's JSON, whose ids differ."""
    if "resourceLogs" in request:
        message: Any = ExportLogsServiceRequest()
        groups, scopes, items = "resourceLogs", "scopeLogs", "logRecords"
    else:
        message = ExportTraceServiceRequest()
        groups, scopes, items = "resourceSpans", "scopeSpans", "spans"
    for group in request[groups]:
        of_resource = getattr(message, "resource_" + scopes[5:].lower()).add()
        of_resource.resource.attributes.extend(map(_pair, group["resource"]["attributes"]))
        for scope in group[scopes]:
            of_scope = getattr(of_resource, "scope_" + scopes[5:].lower()).add()
            for item in scope[items]:
                target = (of_scope.spans if items == "spans" else of_scope.log_records).add()
                _fill(target, item)
    return bytes(message.SerializeToString())


def _fill(target: Any, item: dict[str, Any]) -> None:
    for key, value in item.items():
        name = "".join("_" + c.lower() if c.isupper() else c for c in key)
        if name in ("trace_id", "span_id", "parent_span_id"):
            setattr(target, name, bytes.fromhex(value))
        elif name == "attributes":
            target.attributes.extend(map(_pair, value))
        elif name == "events":
            for event in value:
                _fill(target.events.add(), event)
        elif name == "status":
            _fill(target.status, value)
        elif name == "body":
            target.body.CopyFrom(_value(value))
        else:
            setattr(target, name, int(value) if name.endswith("nano") else value)


def _pair(pair: dict[str, Any]) -> KeyValue:
    return KeyValue(key=pair["key"], value=_value(pair["value"]))


def _value(value: dict[str, Any]) -> AnyValue:
    match next(iter(value.items()), None):
        case ("boolValue", x):
            return AnyValue(bool_value=x)
        case ("intValue", x):
            return AnyValue(int_value=int(x))
        case ("doubleValue", x):
            return AnyValue(double_value=x)
        case ("stringValue", x):
            return AnyValue(string_value=x)
        case ("arrayValue", x):
            return AnyValue(array_value={"values": [_value(item) for item in x["values"]]})
        case ("kvlistValue", x):
            return AnyValue(kvlist_value={"values": [_pair(pair) for pair in x["values"]]})
    return AnyValue()


def translate(request: dict[str, Any], encoding: Encoding, limits: Limits = LIMITS) -> Translation:
    body = json.dumps(request).encode() if encoding == "json" else protobuf(request)
    events_of = events_of_logs if "resourceLogs" in request else events_of_traces
    return events_of(body, encoding=encoding, limits=limits)


def both(request: dict[str, Any], limits: Limits = LIMITS) -> Translation:
    """Translate both encodings, which must come to the same."""
    found = translate(request, "json", limits)
    assert translate(request, "protobuf", limits) == found
    for event in found.events:
        line = codec.encode([event])
        decoded = codec.decode([line], [5 * 10**18])
        assert decoded.rejections == []
        # The gateway says of its records that they are canonical.
        assert decoded.frame.equals(codec.decode([line], [5 * 10**18], [True]).frame)
    return found


BOTH: tuple[Encoding, ...] = ("json", "protobuf")


def test_a_trace() -> None:
    root = span(
        attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "talk"}
    )
    call = span(
        spanId="c" * 16,
        parentSpanId="b" * 16,
        attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"},
        status={"code": 2, "message": "gone"},
        events=[
            {
                "name": "exception",
                "timeUnixNano": str(NOW),
                "attributes": attributes({"exception.type": "KeyError"}),
            }
        ],
    )
    found = both(traces(root, call))
    assert [event.kind for event in found.events] == ["interaction", "tool_call"]
    interaction, tool = found.events
    assert (interaction.session_id, interaction.duration_ms) == ("talk", 1000.0)
    assert (tool.status, tool.error_type, tool.error_message) == ("error", "KeyError", "gone")
    assert tool.parent_id == interaction.event_id
    assert {event.agent for event in found.events} == {"shop"}


def test_pieces_in_any_order_come_to_the_same_events() -> None:
    spans = [
        span(
            spanId=f"{n:016x}",
            **({"parentSpanId": f"{n // 2:016x}"} if n > 1 else {}),
            attributes={"gen_ai.operation.name": "chat" if n % 3 else "execute_tool", "n": n},
        )
        for n in range(1, 40)
    ]
    whole = {codec.payload_hash(event) for event in both(traces(*spans)).events}
    chance = random.Random(4)
    for _ in range(5):
        chance.shuffle(spans)
        cut = chance.randrange(len(spans))
        pieces = [traces(*spans[:cut]), traces(*spans[cut:]), traces(*spans[: cut // 2])]
        events = [event for piece in pieces for event in translate(piece, "protobuf").events]
        assert {codec.payload_hash(event) for event in events} == whole


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"traceId": "ab"}, "invalid_field"),
        ({"traceId": "0" * 32}, "invalid_field"),
        ({"spanId": ""}, "invalid_field"),
        ({"parentSpanId": "ab"}, "invalid_field"),
        ({"startTimeUnixNano": "0", "endTimeUnixNano": "0"}, "invalid_field"),
        ({"endTimeUnixNano": str(5 * 10**18)}, "invalid_field"),
    ],
)
def test_a_bad_span_costs_only_itself(fields: dict[str, Any], code: str) -> None:
    found = both(traces(span(spanId="c" * 16), span(**fields), span()))
    assert [event.event_id[-21:-5] for event in found.events if event.kind == "span"] == [
        "c" * 16,
        "b" * 16,
    ]
    assert [rejection.code for rejection in found.rejected] == [code]


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": "z" * 32},
        {"name": 7},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": -5},
        {"attributes": [{"key": 5}]},
        {"attributes": [{"key": "a", "value": {"intValue": "9" * 5000}}]},
    ],
)
def test_a_bad_span_of_json_costs_only_itself(fields: dict[str, Any]) -> None:
    found = translate(traces({**span(), **fields}, span()), "json")
    assert len(found.events) == 1
    assert [rejection.code for rejection in found.rejected] == ["invalid_field"]
    assert not any("z" * 32 in r.detail or "soon" in r.detail for r in found.rejected)


@pytest.mark.parametrize(
    ("kind", "text"), [("intValue", "many"), ("intValue", "9" * 5000), ("doubleValue", "much")]
)
def test_a_resource_whose_number_is_none_is_refused(kind: str, text: str) -> None:
    attributes = [{"key": "a", "value": {kind: text}}]
    for name, events_of in (("Spans", events_of_traces), ("Logs", events_of_logs)):
        body = {f"resource{name}": [{"resource": {"attributes": attributes}, f"scope{name}": []}]}
        body[f"resource{name}"][0][f"scope{name}"] = [{"spans": [{}], "logRecords": [{}]}]
        with pytest.raises(Rejected) as caught:
            events_of(json.dumps(body).encode(), encoding="json", limits=LIMITS)
        assert caught.value.code == "invalid_field"
        assert text not in caught.value.detail


@pytest.mark.parametrize(
    ("body", "json_code"),
    [
        (b"\xff\xfe", "invalid_utf8"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_field"),
        (b'{"resourceSpans": 3}', "invalid_field"),
        (b'{"resourceSpans":' + b"[" * 100_000, "invalid_field"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    ],
)
def test_a_body_that_is_no_request(body: bytes, json_code: str) -> None:
    for events_of in (events_of_traces, events_of_logs):
        with pytest.raises(Rejected) as caught:
            events_of(body.replace(b"Spans", b"Logs") if events_of is events_of_logs else body,
                      encoding="json", limits=LIMITS)  # fmt: skip
        assert caught.value.code == json_code
        with pytest.raises(Rejected) as caught:
            events_of(body, encoding="protobuf", limits=LIMITS)
        assert caught.value.code == "invalid_protobuf"


@pytest.mark.parametrize("encoding", BOTH)
def test_too_many_spans(encoding: Encoding) -> None:
    request = traces(*[span()] * 11)
    with pytest.raises(Rejected, match="too_many_records"):
        translate(request, encoding, Limits(max_records=10))
    assert len(translate(request, encoding, Limits(max_records=11)).events) == 11


def test_nested_values_have_a_bound() -> None:
    value: Any = "x"
    for _ in range(20):
        value = [value]
    request = traces(span(attributes={"nested": value}), span(spanId="c" * 16))
    assert len(both(request).events) == 2
    found = both(request, Limits(max_depth=10))
    assert ([r.code for r in found.rejected], len(found.events)) == (["too_deep"], 1)


def test_what_exceeds_is_cut_and_what_is_known_stays() -> None:
    many = {f"other{n}": "x" for n in range(300)}
    request = traces(
        span(attributes={**many, "gen_ai.operation.name": "chat", "gen_ai.conversation.id": "t"})
    )
    event = both(request, Limits(max_attributes=20)).events[0]
    assert (event.kind, event.session_id) == ("llm_call", "t")
    assert event.attributes is not None
    assert sum(name.startswith("other") for name in event.attributes) == 18
    long = both(traces(span(attributes={"a": "x" * 500})), Limits(max_attribute_length=100))
    assert long.events[0].attributes is not None
    assert len(long.events[0].attributes["a"]) == 100


def test_old_and_far_times_follow_a_rule() -> None:
    times = {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    assert both(traces(span(**times))).events[0].time_unix_nano == 2
    late = str(4_102_444_800 * 10**9)
    times = {"startTimeUnixNano": late, "endTimeUnixNano": late}
    assert both(traces(span(**times))).events[0].time_unix_nano == int(late)
    times = {"startTimeUnixNano": late, "endTimeUnixNano": str(int(late) + 1)}
    assert both(traces(span(**times))).rejected[0].code == "invalid_field"


def test_a_parent_in_another_process() -> None:
    step = {"langfuse.observation.type": "span"}
    local = span(parentSpanId="c" * 16, flags=0x101, attributes=step)
    remote = span(parentSpanId="c" * 16, flags=0x301, attributes=step)
    assert both(traces(local)).events[0].kind == "span"
    assert both(traces(remote)).events[0].kind == "interaction"


def record(name: str, body: Any = None, **fields: Any) -> dict[str, Any]:
    values = fields.pop("attributes", {})
    return {
        "eventName": name,
        "timeUnixNano": str(NOW),
        "traceId": "a" * 32,
        "spanId": "b" * 16,
        "body": any_value(body),
        "attributes": attributes(values),
        **fields,
    }


def only(found: Translation) -> Event:
    (event,) = found.events
    return event


def test_messages_in_log_events() -> None:
    user = only(both(logs(record("gen_ai.user.message", {"content": "hello", "role": "user"}))))
    assert (user.kind, user.content, user.agent) == ("user_message", "hello", "shop")
    assert (user.interaction_id, user.parent_id) == ("a" * 32, f"{'a' * 32}:{'b' * 16}:span")
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}
    agent = only(both(logs(record("gen_ai.choice", choice))))
    assert (agent.kind, agent.content) == ("agent_message", "hi")
    calls = {"finish_reason": "tool_calls", "message": {"tool_calls": [{"id": "1"}]}}
    repeats = [
        record("gen_ai.choice", calls),
        record("gen_ai.system.message", {"content": "Sell."}),
        record("gen_ai.assistant.message", {"content": "hi"}),
        record("gen_ai.tool.message", {"content": "3"}),
        record("", "an ordinary line"),
    ]
    found = both(logs(*repeats))
    assert (found.events, found.rejected) == ([], [])
    assert found.ignored == {
        ("shop", "", "gen_ai.choice", "no_words"): 1,
        ("shop", "", "gen_ai.system.message", "history"): 1,
        ("shop", "", "gen_ai.assistant.message", "history"): 1,
        ("shop", "", "gen_ai.tool.message", "history"): 1,
        ("shop", "", "(no event name)", "no_agent_work"): 1,
    }
    named = record("", {"content": "hello"}, attributes={"event.name": "gen_ai.user.message"})
    assert only(both(logs(named))).content == "hello"


def test_details_of_an_operation() -> None:
    said = [
        {"role": "system", "parts": [{"type": "text", "content": "Sell."}]},
        {"role": "user", "parts": [{"type": "text", "content": "hello"}]},
    ]
    told = [{"role": "assistant", "parts": [{"type": "text", "content": "hi"}]}]
    details = {
        "gen_ai.input.messages": said,
        "gen_ai.output.messages": told,
        "gen_ai.conversation.id": "talk",
    }
    name = "gen_ai.client.inference.operation.details"
    found = both(logs(record(name, attributes=details)))
    assert [(e.kind, e.content) for e in found.events] == [
        ("user_message", "hello"),
        ("agent_message", "hi"),
    ]
    assert {e.session_id for e in found.events} == {"talk"}
    assert len({e.event_id for e in found.events}) == 2


def test_a_judgement_that_stands_alone_or_in_a_trace() -> None:
    judged = {
        "gen_ai.evaluation.name": "tone",
        "gen_ai.evaluation.score.value": 0.5,
        "gen_ai.conversation.id": "talk",
    }
    name = "gen_ai.evaluation.result"
    score = only(both(logs(record(name, attributes=judged))))
    assert (score.kind, score.name, score.value) == ("score", "tone", 0.5)
    assert (score.interaction_id, score.session_id) == ("a" * 32, "talk")
    alone = only(both(logs(record(name, attributes=judged, traceId="", spanId=""))))
    assert (alone.interaction_id, alone.session_id) == (None, "talk")
    later = only(
        both(logs(record(name, attributes=judged, timeUnixNano="0", observedTimeUnixNano=str(NOW))))
    )
    assert later.time_unix_nano == NOW


def test_the_same_record_twice_is_one_event() -> None:
    one = record("gen_ai.choice", {"message": {"content": "hello"}})
    found = both(logs(one, one, {**one, "timeUnixNano": str(NOW + 1)}))
    assert len({event.event_id for event in found.events}) == 2


known = st.sampled_from(
    [
        "gen_ai.operation.name", "openinference.span.kind", "gen_ai.usage.input_tokens",
        "gen_ai.usage.cost", "gen_ai.response.model", "gen_ai.conversation.id",
        "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
        "llm.input_messages.0.message.content", "llm.output_messages.0.message.role",
        "gen_ai.tool.definitions", "llm.invocation_parameters", "traceloop.entity.input",
        "gen_ai.response.time_to_first_chunk", "error.type", "mcp.method.name",
    ]
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["chat", "LLM", "execute_tool", "tools/call", '[{"role": "user"}]', "[{}]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
moments = st.fixed_dictionaries(
    {
        "name": st.sampled_from(
            ["exception", "gen_ai.choice", "gen_ai.user.message", "gen_ai.evaluation.result", "x"]
        ),
        "timeUnixNano": st.integers(0, NOW).map(str),
        "attributes": st.dictionaries(
            st.sampled_from(["message", "content", "gen_ai.evaluation.score.value"]), values
        ).map(attributes),
    }
)


@given(
    st.dictionaries(known | texts, values, max_size=8),
    st.lists(moments, max_size=3),
    st.booleans(),
    st.integers(0, 2),
)
def test_whatever_a_span_says_both_encodings_come_to_valid_events(
    said: dict[str, Any], events: list[dict[str, Any]], root: bool, code: int
) -> None:
    parent = {} if root else {"parentSpanId": "c" * 16}
    found = both(traces(span(attributes=said, events=events, status={"code": code}, **parent)))
    assert found.events
    assert found.rejected == []


@given(
    st.sampled_from(["gen_ai.user.message", "gen_ai.choice", "gen_ai.evaluation.result",
                     "gen_ai.client.inference.operation.details", ""]),
    values,
    st.dictionaries(known | texts, values, max_size=5),
)  # fmt: skip
def test_whatever_a_record_says_both_encodings_come_to_valid_events(
    name: str, body: Any, said: dict[str, Any]
) -> None:
    assert both(logs(record(name, body, attributes=said))).rejected == []


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    for events_of in (events_of_traces, events_of_logs):
        for encoding in BOTH:
            try:
                events_of(body, encoding=encoding, limits=LIMITS)
            except Rejected as rejected:
                assert rejected.code
