"""What is said to an agent and by it is found nowhere when it must not be kept.

Every recorded sender's request, and one of each dialect, carries a canary wherever something may be
said; nothing that leaves the gateway, the receiver or a dead letter may hold it.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ingest import codec
from ingest.core.events import Event
from ingest.kafka_receiver import Policy, ReceiverConfig, translate
from ingest.otlp.truncation import capped
from ingest.redaction import Capture, RedactionConfig, Redactor
from processors.write.dead_letters import DeadLettersConfig, kept_of, original_rows
from tests.support.common import DATA
from tests.unit.ingest.gateway_harness import served
from tests.unit.ingest.test_dialects import SPOKEN
from tests.unit.ingest.test_otlp import attributes, logs, span, traces

SAID = "please tell canary7f3a9c91 about it"
SECRET = "canary7f3a9c91@example.org sk-ant-api03-canary7f3a9c91aB3dE5"
CANARY = "canary7f3a9c91"
FOLDER = DATA / "otlp_cases"
CASES = sorted(path.name for path in FOLDER.glob("*.json.gz"))
EXPECTED = json.loads((FOLDER / "expected.json").read_text("utf-8")) if CASES else {}

LOG = {
    "timeUnixNano": "1780000000000000000",
    "eventName": "gen_ai.client.inference.operation.details",
    "traceId": "a" * 32,
    "spanId": "b" * 16,
    "body": {"stringValue": "a message"},
    "attributes": attributes({"gen_ai.operation.name": "chat", "acme.note": "a note"}),
}


def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, route and body of every request without a canary."""
    for name in CASES:
        found = json.loads(gzip.decompress((FOLDER / name).read_bytes()))
        for body in found if isinstance(found, list) else [found]:
            yield name, "/v1/logs" if "resourceLogs" in body else "/v1/traces", body
    for dialect, said in SPOKEN.items():
        yield dialect, "/v1/traces", traces(span(attributes=said), resource={"service.name": "s"})
    yield "log", "/v1/logs", logs(LOG)


REQUESTS = list(requests())
IDS = [f"{number}-{name}" for number, (name, _, _) in enumerate(REQUESTS)]


def poisoned(body: Any, said: str) -> Any:
    """The request with the canary in every text, status, note, exception and unknown attribute."""
    if isinstance(body, list):
        return [poisoned(item, said) for item in body]
    if not isinstance(body, dict):
        return body
    out = {key: poisoned(value, said) for key, value in body.items()}
    text = out.get("stringValue")
    if isinstance(text, str) and (set(text) & set(' {["\n') or len(text) > 64):
        out["stringValue"] = _with(text, said)
    if "spanId" in out and ("startTimeUnixNano" in out or "name" in out):
        error = attributes({"exception.type": "E", "exception.message": said,
                            "exception.stacktrace": f"at {said}"})  # fmt: skip
        out["status"] = {"code": 2, "message": said}
        out["name"] = f"{out['name']} {said}"
        out["events"] = [*out.get("events", ()), {"name": "exception", "timeUnixNano":
            out["endTimeUnixNano"], "attributes": error}, {"name": said, "attributes": []},
            {"name": "gen_ai.evaluation.result", "attributes": attributes({
                "gen_ai.evaluation.name": "judge", "gen_ai.evaluation.score.label": said,
                "gen_ai.evaluation.explanation": said})}]  # fmt: skip
    if "attributes" in out and ("spanId" in out or "body" in out):
        extra = {"acme.note": said, f"note {said}": "x", "http.url": f"https://x/?q={said}",
                 "url.full": f"https://x/?q={said}", "acme.deep": {"a": [said]},
                 "gen_ai.request.stop_sequences": said, "db.query.text": said,
                 "user_agent.original": said, "error.type": said}  # fmt: skip
        out["attributes"] = [*out["attributes"], *attributes(extra)]
    return out


def _with(text: str, said: str) -> str:
    """A text, or the texts of JSON within it, with more said."""
    try:
        inner = json.loads(text)
    except ValueError:
        return f"{text} {said}"
    if not isinstance(inner, list | dict | str):
        return f"{text} {said}"
    return json.dumps(_deep(inner, said))


def _deep(value: Any, said: str) -> Any:
    match value:
        case str():
            return f"{value} {said}" if " " in value else value
        case list():
            return [_deep(item, said) for item in value]
        case dict():
            return {key: _deep(item, said) for key, item in value.items()}
    return value


def services(body: dict[str, Any]) -> set[str]:
    groups = body.get("resourceSpans") or body.get("resourceLogs") or []
    return {
        a["value"]["stringValue"]
        for group in groups
        for a in group.get("resource", {}).get("attributes", ())
        if a["key"] == "service.name"
    } or {"unknown_service"}


def redactor(mode: str, body: dict[str, Any]) -> Redactor:
    if mode == "per service":
        agents = dict.fromkeys(services(body), Capture.OFF)
        return Redactor(RedactionConfig(Capture.FULL, agents, key=b"k"))
    return Redactor(RedactionConfig(Capture(mode), key=b"k"))


def passed(mode: str, route: str, body: dict[str, Any]) -> bytes:
    """What the gateway stores of a request with a canary, which it shows nowhere."""
    poison = json.dumps(poisoned(body, SECRET if mode == "redacted" else SAID)).encode()
    assert CANARY.encode() in poison
    with served(redact=redactor(mode, body).apply) as gateway:
        answer = gateway.post(route, poison)
        broken = gateway.post(route, poison[:-9] + CANARY.encode())
        stored = b"\n".join(record for _, record in gateway.producer.stored)
        metrics = gateway.request("GET", "/metrics").body
    assert (answer.status, broken.status) == (200, 400), answer.body
    for place in (stored, answer.body, broken.body, metrics):
        assert CANARY.encode() not in place
    return stored


@pytest.mark.parametrize("mode", ["off", "hashed", "redacted", "per service"])
def test_no_sender_gets_a_canary_through_the_gateway(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    accepted = 0
    for (name, route, body), which in zip(REQUESTS, IDS, strict=True):
        stored = passed(mode, route, body)
        assert CANARY not in caplog.text, which
        accepted += len(stored.splitlines())
        if mode in ("off", "per service"):
            for text in EXPECTED.get(name.removesuffix(".gz"), {}).get("must_not_store_off", ()):
                assert json.dumps(text)[1:-1].encode() not in stored, (which, text)
    assert accepted > len(REQUESTS)


@pytest.mark.parametrize("mode", ["off", "hashed", "redacted"])
def test_no_canary_in_what_the_receiver_sends(mode: str) -> None:
    said = SECRET if mode == "redacted" else SAID
    for (_, route, body), which in zip(REQUESTS, IDS, strict=True):
        hide = redactor(mode, body)
        policy = Policy(hide.apply, hide.redact_text, hide.keeps_text_of)
        poison = json.dumps(poisoned(body, said)).encode()
        topic = "otlp_logs" if route == "/v1/logs" else "otlp_spans"
        for raw in (poison, poison[:-9], b"\xff" + poison, poison.replace(b'"name"', b'"nome"')):
            record: Any = SimpleNamespace(
                topic=topic, partition=0, offset=0, timestamp=0, value=raw
            )
            found = translate([record], ReceiverConfig(), policy)
            sent = msgspec.json.encode([found.events, found.letters])
            assert CANARY.encode() not in sent, which


@pytest.mark.parametrize("mode", ["off", "hashed", "redacted"])
def test_no_canary_in_dead_letters_and_originals(mode: str) -> None:
    said = SECRET if mode == "redacted" else SAID
    event = Event(event_id="e", time_unix_nano=1, agent="shop", kind="llm_call", content=said,
                  error_message=said, attributes={"acme.note": said})  # fmt: skip
    good = codec.encode([event])
    bad = [
        good.replace(b"llm_call", b"nope"), good[:-5], good.replace(b'"shop"', b"7"),
        good.replace(b'"e"', b'""'), b"no json " + said.encode(), b"\xff" + said.encode(),
        json.dumps(said).encode(),
    ]  # fmt: skip
    values = [b"\n".join(bad)]
    rejections = codec.decode(values, [2]).rejections
    assert len(rejections) == len(bad)
    hide = Redactor(RedactionConfig(Capture(mode), key=b"k"))
    kept = kept_of(values, rejections, DeadLettersConfig(hide.redact_text, 1.0, hide.keeps_text_of))
    assert CANARY not in kept.columns.write_json()
    if mode != "redacted":  # a fit of untouched bytes is what the setting asks for
        places = kept.columns.select(
            log_id="agent", topic="agent", partition="agent", offset="agent", line="agent"
        )
        assert original_rows(places, kept.originals, 1.0).is_empty()


def test_letters_of_agents_follow_their_own_setting() -> None:
    hide = Redactor(RedactionConfig(agents={"bank": Capture.OFF}, key=b"k"))
    config = DeadLettersConfig(hide.redact_text, 1.0, hide.keeps_text_of)
    lines = [
        b'{"agent": "bank", "content": "canary"}', b'{"agent": "shop", "content": "hello"}',
        b'{"agent": "bank", "content": "canary', b"canary",
    ]  # fmt: skip
    values = [b"\n".join(lines)]
    kept = kept_of(values, codec.decode(values, [2]).rejections, config)
    assert kept.columns["agent"].to_list() == ["bank", "shop", "", ""]
    assert [bool(text) for text in kept.columns["text"]] == [False, True, False, False]
    assert [original is None for original in kept.originals] == [True, False, True, True]


def test_no_part_of_a_secret_is_left_where_a_text_is_cut() -> None:
    hide = Redactor(RedactionConfig(Capture.REDACTED, key=b"k"))
    for before in range(900, 1024):
        cut = capped(f"{'a' * before} {SECRET} and so on" + " and on" * 200, 1024)
        assert len(cut) <= 1024
        assert CANARY[:4] not in hide.redact_text(cut)


def test_a_setting_holds_for_parts_that_do_not_name_the_agent() -> None:
    """Children come before the root, whose agent has the setting; another trace keeps its text."""
    asked = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": SAID, "acme.note": SAID}
    child = span(spanId="c" * 16, parentSpanId="b" * 16, attributes=asked)
    root = span(attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bank"})
    other = span(traceId="d" * 32, attributes=asked)
    for capture, absent in ((Capture.OFF, True), (Capture.FULL, False)):
        hide = Redactor(RedactionConfig(agents={"bank": capture}, key=b"k"))
        with served(redact=hide.apply) as gateway:
            assert gateway.post("/v1/traces", traces(child, root, other)).status == 200
            events = gateway.events()
        mine = [e for e in events if e["interaction_id"] == "a" * 32]
        rest = [e for e in events if e["interaction_id"] == "d" * 32]
        assert (CANARY not in json.dumps(mine)) is absent
        assert CANARY in json.dumps(rest)
