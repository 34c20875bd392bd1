"""What driftline finds as OpenTelemetry log events, for other tools to read. Pure.

A request is OTLP/JSON, an ExportLogsServiceRequest. What the semantic conventions have no name for
begins with ``driftline.``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ingest.core.events import Event
from ingest.otlp.conventions import EVALUATION_EVENT

FINDING_EVENT: Final = "driftline.finding"
_SEVERITIES: Final = {"page": ("ERROR", 17), "notice": ("WARN", 13)}
_OVER: Final = ("INFO", 9)


def of_scores(events: Iterable[Event]) -> dict[str, Any]:
    """A log event per score; the id of a trace is given where the target's is one."""
    return _request("driftline.evaluators", [_of_score(event) for event in events])


def of_finding(record: Mapping[str, Any]) -> dict[str, Any]:
    """The log event of a record of the topic ``driftline.findings``.

    Every field of `docs/schemas/finding.json` that is known is an attribute
    ``driftline.finding.<field>``; the body is the title, and the time that when it was found, or
    ended. A finding that is over has the severity INFO.
    """
    over = record["status"] == "recovered"
    text, number = _OVER if over else _SEVERITIES.get(record["severity"], _OVER)
    known = {f"{FINDING_EVENT}.{name}": value for name, value in record.items()}
    moment = datetime.fromisoformat(record["ended"] if over else record["found"])
    event = {
        "timeUnixNano": str(int(moment.timestamp()) * 10**9),
        "eventName": FINDING_EVENT,
        "severityText": text,
        "severityNumber": number,
        "body": {"stringValue": record["title"]},
        "attributes": _attributes({"gen_ai.agent.name": record["agent"] or None, **known}),
    }
    return _request("driftline.findings", [event])


def _request(scope: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    logs = {"scope": {"name": scope}, "logRecords": records}
    service = _attributes({"service.name": "driftline"})
    return {"resourceLogs": [{"resource": {"attributes": service}, "scopeLogs": [logs]}]}


def _of_score(event: Event) -> dict[str, Any]:
    label = (event.attributes or {}).get("gen_ai.evaluation.score.label")
    named = {
        "gen_ai.evaluation.name": event.name,
        "gen_ai.evaluation.score.value": event.value,
        "gen_ai.evaluation.score.label": label,
        "gen_ai.evaluation.explanation": event.content,
        "gen_ai.agent.name": event.agent,
        "gen_ai.conversation.id": event.session_id,
        "gen_ai.response.model": event.model,
        "driftline.target": event.target,
        "driftline.evaluator.version": event.rule_version,
    }
    trace = (event.interaction_id or "").partition("/")[0]
    is_trace = len(trace) == 32 and all(digit in "0123456789abcdef" for digit in trace)
    return {
        "timeUnixNano": str(event.time_unix_nano),
        "eventName": EVALUATION_EVENT,
        "attributes": _attributes(named),
        **({"traceId": trace} if is_trace else {}),
    }


def _attributes(named: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes of what is known."""
    return [{"key": k, "value": _value(v)} for k, v in named.items() if v is not None]


def _value(value: Any) -> dict[str, Any]:
    """A JSON value as OTLP's AnyValue; integers are texts, as proto3's JSON wants them."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(value)}}
    return {"arrayValue": {"values": [_value(v) for v in value]}}
