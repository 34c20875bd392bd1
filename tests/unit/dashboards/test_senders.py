"""Advice about what senders do not say."""

from __future__ import annotations

from typing import Any

import polars as pl

from dashboards import senders

ROW: dict[str, Any] = {
    "service": "checkout", "scope": "ai", "dialect": "gen_ai", "spans": 200, "model_calls": 150,
    "untold_tokens": 5, "with_tokens": 145, "with_cost": 0, "runs": 20, "without_session": 20,
    "unpriced": ["gpt-5.5"], "last_seen": "2026-11-28 10:00:00",
}  # fmt: skip


class FakeStore:
    """Answers each query by the table it reads."""

    def __init__(self, **tables: list[dict[str, Any]]) -> None:
        self._tables = tables

    def query(self, sql: str, parameters: dict[str, Any]) -> pl.DataFrame:
        name = next(name for name in ("arrayJoin", "ignored_records", "FROM events") if name in sql)
        return pl.DataFrame(self._tables.get(name.rpartition(" ")[2], []))


def found(**tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return senders.senders(FakeStore(**tables))  # type: ignore[arg-type]


def test_one_line_per_finding() -> None:
    [entry] = found(events=[ROW, {**ROW, "dialect": "", "spans": 7, "model_calls": 0,
                                  "untold_tokens": 0, "with_tokens": 0, "runs": 0,
                                  "without_session": 0, "unpriced": []}])  # fmt: skip
    assert (entry["spans"], entry["understood"]) == (207, 200)
    assert entry["dialects"] == {"gen_ai": 200, "": 7}
    assert entry["advice"] == [
        "7 of 207 spans of `checkout` are of no known dialect and count as work of the service:"
        " docs/senders.md lists what is understood",
        "145 model calls of `checkout` have no price: add `gpt-5.5` to prices.file",
        "5 model calls of `checkout` say no tokens: have streamed calls report usage"
        " (stream_options.include_usage for OpenAI)",
        "no run of `checkout` names its session: set gen_ai.conversation.id or session.id on it, so"
        " that turns of one conversation belong together",
    ]


def test_nothing_to_say_of_a_sender_that_says_everything() -> None:
    [entry] = found(events=[{**ROW, "untold_tokens": 0, "with_cost": 145, "without_session": 1}])
    assert entry["advice"] == []


def test_unknown_attributes_and_ignored_records_have_names() -> None:
    names = [
        {"service": "checkout", "scope": "ai", "name": name, "spans": 3}
        for name in ("shop.cart", "gen_ai.request.temperature", "span.name")
    ]
    ignored = {
        "service": "shop", "scope": "app", "name": "(no event name)", "reason": "no_agent_work",
        "records": 12, "last_seen": "2026-11-28 10:01:00",
    }  # fmt: skip
    first, second = found(events=[ROW], arrayJoin=names, ignored_records=[ignored])
    assert first["unknown_attributes"] == [{"name": "shop.cart", "spans": 3}]
    assert (second["service"], second["ignored"]) == ("shop", {"no_agent_work": 12})
    assert second["spans"] == 0
    assert second["advice"] == [
        "12 log records `(no event name)` of `shop` were ignored: they are no events of agents;"
        " send only those to driftline"
    ]
