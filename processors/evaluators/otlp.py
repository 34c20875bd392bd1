"""Scores as OpenTelemetry events ``gen_ai.evaluation.result``, for other tools to read. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingest.core.events import Event
from ingest.otlp.conventions import EVALUATION_EVENT


def logs(events: Iterable[Event]) -> dict[str, Any]:
    """An OTLP/JSON ExportLogsServiceRequest: a log record per score.

    Names are those of the semantic conventions; what they have no name for begins with
    ``driftline.``. The id of a trace is given where the target's is one.
    """
    records = [_record(event) for event in events]
    scope = {"scope": {"name": "driftline.evaluators"}, "logRecords": records}
    service = _attribute("service.name", "driftline")
    return {"resourceLogs": [{"resource": {"attributes": [service]}, "scopeLogs": [scope]}]}


def _record(event: Event) -> dict[str, Any]:
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
        "attributes": [_attribute(key, value) for key, value in named.items() if value is not None],
        **({"traceId": trace} if is_trace else {}),
    }


def _attribute(key: str, value: str | float) -> dict[str, Any]:
    kind = "stringValue" if isinstance(value, str) else "doubleValue"
    return {"key": key, "value": {kind: value}}
