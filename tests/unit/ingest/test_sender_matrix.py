"""Every sender class under every fault class: what a program did is what is understood of it."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest import codec
from ingest.core.events import Event
from ingest.limits import Limits
from ingest.otlp import Encoding, events_of_logs, events_of_traces
from tests.unit.ingest.sender_programs import EMITTERS, Call, Emitted, Program, Tool

LOGS = ("claude code logs", "codex logs", "gemini cli logs")
NO_ANSWER = (*LOGS, "claude code spans")
"""Senders that do not say the answer."""
NO_STATUS = LOGS
"""Senders that do not say how a run ended."""

Json = dict[str, Any]

WORDS = "Wo bleibt meine Bestellung \u202eA-17\u202c? \U0001f97e \u05e9\u05dc\u05d5\u05dd"
PROGRAMS: dict[str, Program] = {
    "plain": Program(),
    "failing tool": Program(
        steps=(Call(), Tool(error="no such index"), Call(180, 24, 100, answer="Not found."))
    ),
    "retried call": Program(
        steps=(Call(error="overloaded"), Call(), Tool(), Call(180, 24, 100, answer="On its way."))
    ),
    "crash": Program(steps=(Call(), Tool(error="boom")), crash="boom"),
    "words": Program(asked=WORDS, steps=(Call(answer=f"Ja: {WORDS}"),)),
    "quoted words": Program(asked='[urgent] say "hello" to {name}', steps=(Call(answer="ok"),)),
    "parallel tools": Program(
        steps=(Call(), Tool(), Tool("refund"), Tool("refund"), Call(answer="Done."))
    ),
}


def any_value(value: Any) -> Json:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
    return {"stringValue": value}


def attributes(values: Json) -> list[Json]:
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def span_json(span: Emitted) -> Json:
    found: Json = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": attributes(span.attributes),
    }
    if span.parent:
        found["parentSpanId"] = span.parent
    if span.error:
        kind, message = span.error
        raised = {"exception.type": kind, "exception.message": message}
        found["status"] = {"code": 2, "message": f"{message}\nTraceback (most recent call last):"}
        found["events"] = [
            {"name": "exception", "timeUnixNano": str(span.end), "attributes": attributes(raised)}
        ]
    return found


def log_json(log: Emitted) -> Json:
    return {
        "timeUnixNano": str(log.end),
        "eventName": log.name,
        "body": {} if log.body is None else {"stringValue": log.body},
        "attributes": attributes(log.attributes),
    }


def request(emitted: list[Emitted]) -> Json:
    resource = {"attributes": attributes({"service.name": "shop", "service.version": "3.1"})}
    scope = {"name": emitted[0].scope}
    if emitted[0].log:
        records = [log_json(log) for log in emitted]
        scoped = [{"scope": scope, "logRecords": records}]
        return {"resourceLogs": [{"resource": resource, "scopeLogs": scoped}]}
    spans = [span_json(span) for span in emitted]
    scoped = [{"scope": scope, "spans": spans}]
    return {"resourceSpans": [{"resource": resource, "scopeSpans": scoped}]}


def items(body: Json) -> list[Json]:
    """Spans or records of a request, to be changed in place."""
    if "resourceLogs" in body:
        return body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]  # type: ignore[no-any-return]
    return body["resourceSpans"][0]["scopeSpans"][0]["spans"]  # type: ignore[no-any-return]


def translate(raw: bytes, encoding: Encoding = "json") -> list[Event]:
    is_logs = b"resourceLogs" in raw or b"resource_logs" in raw
    decode = events_of_logs if is_logs else events_of_traces
    found = decode(raw, encoding=encoding, limits=Limits())
    assert found.rejected == []
    return found.events


def whole(body: Json) -> list[Event]:
    return translate(json.dumps(body).encode())


Fault = Callable[[Json], list[Event]]
FAULTS: dict[str, Fault] = {"none": whole}


def fault(name: str) -> Callable[[Fault], Fault]:
    def keep(how: Fault) -> Fault:
        FAULTS[name] = how
        return how

    return keep


@fault("zero ids")
def zero_ids(body: Json) -> list[Event]:
    for item in items(body):
        if "spanId" in item:
            item.setdefault("parentSpanId", "0" * 16)
        else:
            item |= {"traceId": "0" * 32, "spanId": "0" * 16}
    return whole(body)


@fault("names of enums")
def enum_names(body: Json) -> list[Event]:
    for item in items(body):
        if "status" in item:
            item["status"]["code"] = "STATUS_CODE_ERROR"
        item["kind"] = "SPAN_KIND_INTERNAL"
    return whole(body)


@fault("numbers as text")
def numbers_as_text(body: Json) -> list[Event]:
    for item in items(body):
        if "status" in item:
            item["status"]["code"] = "2"
        for pair in item["attributes"]:
            if "intValue" in pair["value"]:
                pair["value"] = {"stringValue": pair["value"]["intValue"]}
            elif "boolValue" in pair["value"]:
                pair["value"] = {"stringValue": str(pair["value"]["boolValue"]).lower()}
    return whole(body)


@fault("base64 ids")
def base64_ids(body: Json) -> list[Event]:
    for item in items(body):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in item:
                item[name] = base64.b64encode(bytes.fromhex(item[name])).decode()
    return whole(body)


@fault("snake case")
def snake_case(body: Json) -> list[Event]:
    raw = json.dumps(body)
    for name in ("resourceSpans", "scopeSpans", "resourceLogs", "scopeLogs", "logRecords",
                 "traceId", "spanId", "parentSpanId", "startTimeUnixNano", "endTimeUnixNano",
                 "timeUnixNano",
                 "stringValue", "intValue", "boolValue"):  # fmt: skip
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
        raw = raw.replace(f'"{name}"', f'"{snake}"')
    return translate(raw.encode())


@fault("white space")
def white_space(body: Json) -> list[Event]:
    return translate(json.dumps(body, indent=3, separators=(" , ", " : ")).encode())


@fault("protobuf")
def protobuf(body: Json) -> list[Event]:
    is_logs = "resourceLogs" in body
    for item in items(body):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in item:
                item[name] = base64.b64encode(bytes.fromhex(item[name])).decode()
    message = ExportLogsServiceRequest() if is_logs else ExportTraceServiceRequest()
    json_format.ParseDict(body, message)
    decode = events_of_logs if is_logs else events_of_traces
    return decode(message.SerializeToString(), encoding="protobuf", limits=Limits()).events


@fault("pieces in any order")
def pieces(body: Json) -> list[Event]:
    whole_list = list(items(body))
    random.Random(3).shuffle(whole_list)
    found: list[Event] = []
    for item in [*whole_list, *whole_list[:2]]:
        items(body)[:] = [item]
        found += whole(body)
    return list({event.event_id: event for event in found}.values())


@fault("behind a web server")
def behind_a_web_server(body: Json) -> list[Event]:
    if "resourceLogs" in body:
        return whole(body)
    told = {"http.request.method": "POST", "http.route": "/chat", "http.response.status_code": 200}
    server = Emitted("POST /chat", told, "fe" * 8, None, 2)
    health = replace(server, name="GET /healthz", id="fd" * 8, trace="7" * 32)
    for item in items(body):
        item.setdefault("parentSpanId", server.id)
    items(body).extend([span_json(server), span_json(health)])
    return whole(body)


@fault("clock set back")
def clock_set_back(body: Json) -> list[Event]:
    root = items(body)[-1]
    if "startTimeUnixNano" in root:
        root["endTimeUnixNano"] = str(int(root["startTimeUnixNano"]) - 40_000)
    found = whole(body)
    if "startTimeUnixNano" in root:
        [event] = [e for e in found if e.event_id.endswith(f"{root['spanId']}:span")]
        assert event.duration_ms is None
        assert (event.attributes or {})["driftline.clock"] == "skewed"
    return found


@fault("no end")
def no_end(body: Json) -> list[Event]:
    for item in items(body):
        item.pop("endTimeUnixNano", None)
    found = whole(body)
    assert all(e.duration_ms is None for e in found if e.event_id.endswith(":span")) or (
        "resourceLogs" in body
    )
    return found


def tops(events: list[Event]) -> list[Event]:
    parents = {event.event_id: event.parent_id for event in events}
    runs = {event.event_id for event in events if event.kind == "interaction"}

    def nested(event: Event) -> bool:
        at = event.parent_id
        while at is not None:
            if at in runs:
                return True
            at = parents.get(at)
        return False

    return [event for event in events if event.event_id in runs and not nested(event)]


def understood(name: str, events: list[Event]) -> Json:
    [top] = tops(events)
    words = {
        kind: [e.content for e in events if e.kind == kind and e.parent_id == top.event_id]
        for kind in ("user_message", "agent_message")
    }
    calls = [e for e in events if e.kind == "llm_call"]
    tools = [e for e in events if e.kind == "tool_call"]
    failed = [e for e in tools if e.status == "error"]
    return {
        "agents": {top.agent},
        "versions": {top.agent_version},
        "calls": Counter(e.status for e in calls),
        "tokens": [
            sum(getattr(e, f"{kind}_tokens") or 0 for e in calls)
            for kind in ("input", "output", "cached")
        ],
        "tools": Counter(e.name for e in tools),
        "failures": {(e.name, e.error_message) for e in failed},
        "sessions": {e.session_id for e in events} - {None},
        "users": {e.user_id for e in events} - {None},
        "request": words["user_message"],
        "answer": words["agent_message"] if name not in NO_ANSWER else None,
        "end": (top.status, top.error_message) if name not in NO_STATUS else None,
    }


def right(name: str, program: Program) -> Json:
    answered = [call for call in program.calls if not call.error]
    return {
        "agents": {program.agent},
        "versions": {"3.1"},
        "calls": Counter("error" if call.error else "ok" for call in program.calls),
        "tokens": [
            sum(getattr(call, kind) for call in answered) for kind in ("input", "output", "cached")
        ],
        "tools": Counter(tool.name for tool in program.tools),
        "failures": {(tool.name, tool.error) for tool in program.tools if tool.error},
        "sessions": {program.session},
        "users": {program.user},
        "request": [program.asked],
        "answer": None if name in NO_ANSWER else [program.answer] if program.answer else [],
        "end": None
        if name in NO_STATUS
        else ("error", program.crash)
        if program.crash
        else ("ok", None),
    }


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("name", EMITTERS)
def test_a_sender_under_a_fault_of_the_wire(name: str, how: str) -> None:
    program = PROGRAMS["plain"]
    events = FAULTS[how](request(EMITTERS[name](program)))
    assert understood(name, events) == right(name, program)
    codec.decode([codec.encode(events)], [2**62])  # the contract holds


@pytest.mark.parametrize("what", [name for name in PROGRAMS if name != "plain"])
@pytest.mark.parametrize("name", EMITTERS)
def test_a_sender_of_a_program_that_goes_wrong(name: str, what: str) -> None:
    program = PROGRAMS[what]
    events = whole(request(EMITTERS[name](program)))
    assert understood(name, events) == right(name, program)


def test_the_matrix_is_large_enough() -> None:
    assert len(EMITTERS) * (len(FAULTS) + len(PROGRAMS) - 1) >= 120
