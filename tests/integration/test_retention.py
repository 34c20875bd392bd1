"""Three months in fast-forward: the disk stays flat, the books balance, results do not change."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from dashboards.accounting import account
from ingest.codec import decode, encode
from ingest.core.events import EVENTS_TOPIC, Event
from processors import audit
from processors.derive import result_audit
from processors.keeping import Horizons, Retention, days_of, expire, horizons
from processors.write import rows
from processors.write.dead_letters import DeadLettersConfig, kept_of, refuse_expired
from tests.integration.pipeline_harness import FAR, Pipeline

S = 10**9
FIRST = date(2026, 3, 1)
DAYS = 91
STEP = 13
KEEP = Retention(raw=39, content=13, environments={"staging": 26}, dead_letters=30)


def day_of_traffic(day: date, rng: random.Random) -> list[Event]:
    """Six interactions of three events, every third of them in staging."""
    events = []
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    for n in range(6):
        trace = f"{day}-{n}"
        at = midnight + rng.randrange(86_000)
        common: dict[str, Any] = {
            "agent": "booking", "interaction_id": trace, "user_id": f"u{n}",
            "environment": "staging" if n % 3 == 0 else "production",
        }  # fmt: skip
        kinds: list[dict[str, Any]] = [
            {"kind": "user_message", "content": f"please {rng.random()}"},
            {"kind": "tool_call", "name": "search", "tool_result": "x" * 500, "cost_usd": 0.1},
            {"kind": "interaction", "duration_ms": 10.0, "status": rng.choice(["ok", "error"])},
        ]
        events += [
            Event(event_id=f"{trace}-{k}", time_unix_nano=(at + k) * S, **common, **kind)
            for k, kind in enumerate(kinds)
        ]
    return events


def deliver(pipeline: Pipeline, events: list[Event], known: Horizons) -> int:
    """As a worker does: what is too old is refused; returns how many were."""
    value = encode(events)
    decoded = decode([value], [FAR])
    kept = kept_of([value], decoded.rejections, DeadLettersConfig())
    decoded, kept = refuse_expired(decoded, kept, known.expired(decoded.frame), [value])
    place = np.zeros(1, np.uint32), np.array([pipeline.offset], np.uint64)
    stored = rows.event_rows(decoded, "log", *place)
    late = np.zeros(len(stored), np.bool_)
    pipeline.write(stored)
    letters = rows.dead_letter_rows(decoded, "log", EVENTS_TOPIC, *place).hstack(kept.columns)
    pipeline.store.insert("dead_letters", letters)
    ledger = rows.ledger_rows(decoded, "log", EVENTS_TOPIC, *place, late)
    pipeline.store.insert("ledger", ledger)
    pipeline.offset += 1
    return len(decoded.rejections)


def digest(pipeline: Pipeline, before: date) -> list[Any]:
    """Everything derived of what ended before a day, but for its words."""
    at = f"< toDateTime('{before} 00:00:00', 'UTC') ORDER BY ALL"
    return [
        pipeline.store.query(f"SELECT * {what} {at}").rows()
        for what in (
            "EXCEPT (request, answer, words_gone) FROM interaction_results FINAL WHERE cell",
            "EXCEPT (request, answer) FROM session_results FINAL WHERE cell",
            "FROM rollups FINAL WHERE width_s = 86400 AND start",
            "FROM windows FINAL WHERE width_s = 60 AND start",
        )
    ]


def size(pipeline: Pipeline, table: str) -> int:
    sql = (
        "SELECT toUInt64(sum(bytes_on_disk)) AS n FROM system.parts WHERE active"
        " AND database = currentDatabase() AND table = {t:String}"
    )
    return int(pipeline.store.query(sql, {"t": table})["n"][0])


def test_three_months(pipeline: Pipeline) -> None:
    rng, store, sent = random.Random(5), pipeline.store, 0
    sizes, early = [], []
    for begin in range(0, DAYS, STEP):
        today = FIRST + timedelta(days=begin + STEP)
        events = [
            event
            for n in range(STEP)
            for event in day_of_traffic(FIRST + timedelta(days=begin + n), rng)
        ]
        assert deliver(pipeline, events, horizons(store)) == 0
        sent += len(events)
        pipeline.recompute()
        if begin == 2 * STEP:
            early = digest(pipeline, FIRST + timedelta(days=begin))
        expire(store, KEEP, today, wait_s=0.0)
        sizes.append(size(pipeline, "events"))
    last = FIRST + timedelta(days=math.ceil(DAYS / STEP) * STEP)

    # As much as the days that are kept, not as all that came.
    full = sizes[KEEP.raw // STEP + 1 :]
    assert max(full) < 1.2 * min(full)
    books = account(store)
    assert books["balanced"]
    assert books["accepted"] == sent == books["stored"] + books["expired"]
    assert books["expired"] > sent / 2
    assert books["stored"] < sent / 2
    assert digest(pipeline, FIRST + timedelta(days=2 * STEP)) == early
    assert audit.reconcile(pipeline.results) == 0
    assert result_audit.repair(pipeline.results) == 0
    left = store.query(
        "SELECT environment, toDate(min(time)) AS first, countIf(content != '') AS words,"
        " toDate(minIf(time, content != '')) AS spoken FROM events GROUP BY 1 ORDER BY 1"
    ).to_dicts()
    ages = {row["environment"]: (last - row["first"]).days for row in left}
    assert ages == {"production": KEEP.raw, "staging": KEEP.environments["staging"]}
    assert all((last - row["spoken"]).days <= KEEP.content for row in left)
    words = store.query("SELECT count() AS n FROM interaction_results WHERE request != ''")["n"][0]
    assert 0 < words < sent / 3

    # What comes late for a day that has expired is refused, with a reason, and the books say so.
    late = day_of_traffic(last - timedelta(days=33), random.Random(1))  # gone in staging only
    gone = day_of_traffic(FIRST, random.Random(2))
    refused = deliver(pipeline, late + gone, horizons(store))
    assert refused == len(late) // 3 + len(gone)
    codes = store.query("SELECT code, count() AS n FROM dead_letters FINAL GROUP BY code").rows()
    assert codes == [("expired", refused)]
    pipeline.recompute()
    books = account(store)
    assert books["balanced"]
    assert books["dead_lettered"] == refused

    # Dead letters go as well, and are still in the books.
    expire(store, KEEP, datetime.now(UTC).date() + timedelta(days=31), wait_s=0.0)
    assert store.query("SELECT count() AS n FROM dead_letters")["n"][0] == 0
    books = account(store)
    assert books["balanced"]
    assert books["dead_lettered"] == refused
    assert books["stored"] == 0


def test_what_was_judged_stands_when_its_words_go(pipeline: Pipeline) -> None:
    at = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())
    common: dict[str, Any] = {"agent": "booking", "session_id": "s"}
    asked = {"kind": "user_message", "content": "This is useless, I am really angry."}
    closed = {"kind": "interaction", "status": "ok"}
    said: dict[str, list[dict[str, Any]]] = {
        "answered": [asked, {"kind": "agent_message", "content": "Sorry, here you are."}, closed],
        "silent": [asked, {"kind": "agent_message", "content": ""}, closed],
    }
    events = [
        Event(event_id=f"{trace}-{n}", time_unix_nano=(at + n) * S, interaction_id=trace,
              **common, **part)
        for trace, parts in said.items()
        for n, part in enumerate(parts)
    ]  # fmt: skip
    deliver(pipeline, events, Horizons())
    pipeline.recompute()
    of = (
        "SELECT interaction_id, success, success_source, reasons, dissatisfaction, coverage,"
        " language FROM interaction_results FINAL WHERE live ORDER BY 1"
    )
    before = pipeline.store.query(of)
    assert before["success"].to_list() == [1, 0]
    assert before["reasons"].to_list() == [[], ["empty_answer"]]
    assert before["dissatisfaction"].null_count() == 0

    expire(pipeline.store, Retention(content=13), date(2026, 6, 1), wait_s=0.0)
    assert pipeline.store.query("SELECT max(content) AS c FROM events")["c"][0] == ""
    ratings = [
        Event(event_id=f"late-{trace}", time_unix_nano=(at + 9) * S, kind="feedback", value=0.5,
              target=trace, agent="booking")
        for trace in said
    ]  # fmt: skip
    deliver(pipeline, ratings, Horizons())
    pipeline.recompute()
    assert pipeline.store.query(of).equals(before)
    rated = "SELECT sum(satisfaction_n) AS n FROM interaction_results FINAL WHERE live"
    assert pipeline.store.query(rated)["n"][0] == 2
    assert result_audit.repair(pipeline.results) == 0


def test_a_run_that_stopped_half_way_counts_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = day_of_traffic(FIRST, random.Random(0))
    deliver(pipeline, events, Horizons())
    store = pipeline.store
    keep, today = Retention(raw=5), FIRST + timedelta(days=20)

    def stopped(sql: str, *_: Any, **__: Any) -> None:
        assert "DROP PARTITION" in sql
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "command", stopped)
        with pytest.raises(KeyboardInterrupt):
            expire(store, keep, today, wait_s=0.0)
    assert account(store)["expired"] == len(events)  # counted, so the books do not look there
    assert expire(store, keep, today, wait_s=0.0)["events"] == ["20260301"]
    books = account(store)
    assert (books["expired"], books["stored"], books["balanced"]) == (len(events), 0, True)
    # Rows of whoever hung come again, and go again.
    pipeline.write(pipeline.decoded(events))
    assert expire(store, keep, today, wait_s=0.0)["events"] == ["20260301"]
    books = account(store)
    assert books["expired"] == books["duplicates"] == len(events)
    assert books["balanced"]


def test_only_whole_partitions_have_days() -> None:
    assert days_of("20260230") is None
    assert days_of("202613") is None
    assert pl.DataFrame({"environment": ["a"], "time_unix_nano": [86_399 * S]}).pipe(
        Horizons(0, {"a": 1}).expired
    )[0]
