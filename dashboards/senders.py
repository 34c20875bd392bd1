"""What arrives from whom, in which dialect, how far it is understood, and what to do.

Spans are read from ``events``, where each span is one row however often it was sent; log records
that became no events from ``ignored_records``, refusals from ``dead_letters``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dashboards import queries
from ingest.otlp.conventions import KNOWN, is_flattened
from processors.clickhouse import Store

_ATTRIBUTES: Final = """
SELECT
    if(JSONExtractString(attributes, 'service.name') = '', agent,
        JSONExtractString(attributes, 'service.name')) AS service,
    JSONExtractString(attributes, 'otel.scope.name') AS scope,
    replaceRegexpAll(
        arrayJoin(JSONExtractKeys(attributes)), '[.][0-9]+([.]|$)', '.N\\\\1') AS name,
    count() AS spans
FROM events
WHERE time >= toDateTime64({since:Int64}, 9, 'UTC')
    AND position(attributes, '"span.name"') > 0
    AND (kind != 'span' OR position(attributes, '"driftline.dialect"') = 0)
GROUP BY service, scope, name ORDER BY spans DESC LIMIT 100 BY service, scope
"""

_IGNORED: Final = """
SELECT service, scope, name, reason, sum(records) AS records, max(minute) AS last_seen
FROM ignored_records FINAL
WHERE minute >= toDateTime({since:Int64}, 'UTC')
GROUP BY service, scope, name, reason ORDER BY records DESC
"""

_REFUSED: Final = """
SELECT code, count() AS letters
FROM dead_letters FINAL
WHERE ingested >= toDateTime64({since:Int64}, 3, 'UTC')
    AND (startsWith(topic, 'v1/') OR startsWith(topic, 'otlp_'))
GROUP BY code ORDER BY letters DESC
"""

_CONVENTIONS: Final = (
    "driftline.", "otel.", "service.", "span.name", "http.", "url.", "net.", "network.", "server.",
    "client.", "user_agent.", "error.", "exception.", "code.", "thread.", "process.", "host.",
    "telemetry.", "gen_ai.request.", "gen_ai.response.", "gen_ai.tool.", "gen_ai.agent.", "rpc.",
    "db.", "messaging.", "mcp.", "deployment.", "gen_ai.output.type", "gen_ai.usage.total_tokens",
)  # fmt: skip
"""Attributes of known conventions, whether a field takes them or not."""


def senders(store: Store, since: int = 0) -> list[dict[str, Any]]:
    """Who sent what since a time in seconds: one entry per service and instrumentation scope.

    Returns
    -------
    list of dict
        ``service``, ``scope``, ``dialects`` (name to spans; the empty one was not understood),
        ``spans``, ``understood``, ``model_calls``, ``with_tokens``, ``with_cost``, ``ignored``
        (reason to log records), ``unknown_attributes`` (name and spans, the most frequent first),
        ``last_seen`` and ``advice``.
    """
    given = {"since": since}
    found: defaultdict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    spans = queries.render("pipeline.senders", {**queries.EVERYTHING, "from": since})
    for row in store.query(spans.sql, spans.parameters).to_dicts():
        _add(found[row["service"], row["scope"]], row)
    for row in store.query(_ATTRIBUTES, given).to_dicts():
        entry = found.get((row["service"], row["scope"]))
        if entry is not None and is_unknown(row["name"]):
            entry["unknown_attributes"].append({"name": row["name"], "spans": row["spans"]})
    for row in store.query(_IGNORED, given).to_dicts():
        entry = found[row["service"], row["scope"]] or _empty()
        found[row["service"], row["scope"]] = entry
        _count(entry["ignored"], row["reason"], row["records"])
        entry["ignored_names"].append((row["name"], row["reason"], row["records"]))
        entry["last_seen"] = max(filter(None, (entry["last_seen"], str(row["last_seen"]))))
    return [_finished(*key, entry) for key, entry in sorted(found.items())]


def refused(store: Store, since: int = 0) -> dict[str, int]:
    """Spans, log records and requests that were refused, by code."""
    rows = store.query(_REFUSED, {"since": since}).to_dicts()
    return {row["code"]: row["letters"] for row in rows}


def is_unknown(name: str) -> bool:
    """Tell whether an attribute is of no dialect and no convention.

    >>> is_unknown("shop.cart"), is_unknown("http.route"), is_unknown("gen_ai.request.model")
    (True, False, False)
    """
    return name not in KNOWN and not name.startswith(_CONVENTIONS) and not is_flattened(name)


_SUMS: Final = ("spans", "model_calls", "untold_tokens", "with_tokens", "with_cost", "runs",
                "without_session")  # fmt: skip


def _empty() -> dict[str, Any]:
    return {
        "dialects": {}, **dict.fromkeys(_SUMS, 0), "understood": 0, "unpriced": [], "ignored": {},
        "ignored_names": [], "unknown_attributes": [], "last_seen": None,
    }  # fmt: skip


def _add(entry: dict[str, Any], row: dict[str, Any]) -> None:
    for name, value in _empty().items():
        entry.setdefault(name, value)
    _count(entry["dialects"], row["dialect"], row["spans"])
    for name in _SUMS:
        entry[name] += row[name]
    entry["understood"] += row["spans"] if row["dialect"] else 0
    entry["unpriced"] += row["unpriced"]
    entry["last_seen"] = max(filter(None, (entry["last_seen"], str(row["last_seen"]))))


def _count(counts: dict[str, int], key: str, number: int) -> None:
    counts[key] = counts.get(key, 0) + number


_SHOWN: Final = (
    "dialects", "spans", "understood", "model_calls", "with_tokens", "with_cost", "ignored",
    "unknown_attributes", "last_seen",
)  # fmt: skip


def _finished(service: str, scope: str, entry: dict[str, Any]) -> dict[str, Any]:
    shown = {name: entry[name] for name in _SHOWN}
    return {"service": service, "scope": scope, **shown, "advice": list(advice(service, entry))}


def advice(service: str, entry: dict[str, Any]) -> Iterable[str]:
    """Yield one line per finding: what is missing and what to do."""
    spans, lost = entry["spans"], entry["spans"] - entry["understood"]
    if lost:
        yield (
            f"{lost} of {spans} spans of `{service}` are of no known dialect and count as work of"
            " the service: docs/senders.md lists what is understood"
        )
    unpriced = entry["with_tokens"] - entry["with_cost"]
    if unpriced > 0:
        models = ", ".join(f"`{name}`" for name in dict.fromkeys(entry["unpriced"])) or "its model"
        yield f"{unpriced} model calls of `{service}` have no price: add {models} to prices.file"
    if entry["untold_tokens"]:
        yield (
            f"{entry['untold_tokens']} model calls of `{service}` say no tokens: have streamed"
            " calls report usage (stream_options.include_usage for OpenAI)"
        )
    if entry["runs"] and entry["without_session"] == entry["runs"]:
        yield (
            f"no run of `{service}` names its session: set gen_ai.conversation.id or session.id"
            " on it, so that turns of one conversation belong together"
        )
    yield from _about_logs(service, entry["ignored_names"])


_WHY: Final = {
    "no_agent_work": "they are no events of agents; send only those to driftline",
    "told_by_spans": "its spans say the same",
    "no_meaning": "this event has no meaning here",
    "no_words": "they hold no words; switch on content capture to get them",
}


def _about_logs(service: str, names: Sequence[tuple[str, str, int]]) -> Iterable[str]:
    for name, reason, records in names[:3]:
        if reason in _WHY:
            yield f"{records} log records `{name}` of `{service}` were ignored: {_WHY[reason]}"
