"""The audit on a real engine: collisions found, what differs repaired, whoever is killed where."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import polars as pl
import pytest

from dashboards.accounting import account
from ingest.core.errors import Unavailable
from ingest.core.events import DIRTY_TOPIC, EVALUATION_KINDS, EVENTS_TOPIC
from processors import audit
from processors.clickhouse import Store
from processors.derive import dirty_marks, result_audit, scopes, sealing, windows
from tests.integration.pipeline_harness import Pipeline, batches, check, collided
from tests.integration.pipeline_reference import Truth, traffic
from tests.integration.test_scope import event, of
from tests.support.common import eventually


@pytest.mark.parametrize(("seed", "at_once"), [(0, 100_000), (1, 100_000), (2, 7)])
def test_of_colliding_events_the_smallest_counts(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, seed: int, at_once: int
) -> None:
    """The others are dead-lettered and counted nowhere, whichever came first."""
    monkeypatch.setattr(audit, "_LOSERS_AT_ONCE", at_once)
    rng, events = random.Random(seed), collided(traffic(seed))
    truth = Truth(events)
    assert len(truth.losers) > 30
    found = 0
    for batch in batches(rng, events + rng.sample(events, 40)):
        pipeline.deliver(batch)
        if rng.random() < 0.3:
            pipeline.recompute()
        if rng.random() < 0.2:
            found += audit.find_collisions(pipeline.results)
    pipeline.recompute()
    found += audit.find_collisions(pipeline.results)
    assert found == len(truth.losers)
    assert audit.find_collisions(pipeline.results) == 0
    known = pipeline.store.query(
        "SELECT event_id, toUnixTimestamp64Nano(time), payload_hash FROM collisions FINAL"
    )
    assert sorted(known.rows()) == truth.losers
    letters = pipeline.store.query("SELECT code, count() AS n FROM dead_letters FINAL GROUP BY 1")
    assert letters.rows() == [("id_collision", len(truth.losers))]
    check(pipeline, truth)
    books = account(pipeline.store)
    assert books["balanced"]
    assert books["collisions"] == len(truth.losers)
    assert books["stored"] == len(truth.counted)
    assert books["duplicates"] == 40
    assert books["accepted"] == books["stored"] + books["duplicates"] + books["collisions"]
    assert audit.reconcile(pipeline.results) == 0


@pytest.mark.parametrize("at_once", [10**9, 40])
def test_reconcile_repairs_what_was_made_from_a_part(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(audit, "_EVENTS_PER_STATEMENT", at_once)
    events = collided(traffic(6))
    pipeline.deliver(events[:200])
    pipeline.recompute()
    pipeline.deliver(events[200:])
    audit.find_collisions(pipeline.results)
    pipeline.dirty.clear()  # the marks of the second part are lost
    with pytest.raises(AssertionError):
        check(pipeline, Truth(events))
    assert (len(audit._spans(pipeline.store)) > 3) == (at_once == 40)
    touched = {(e.environment, e.agent, e.time_unix_nano // 10**10) for e in events[200:]}
    assert 0 < audit.reconcile(pipeline.results) <= len(touched)
    assert audit.reconcile(pipeline.results) == 0
    check(pipeline, Truth(events))


def test_only_what_differs_twice_alike_is_repaired(pipeline: Pipeline) -> None:
    """What differs once may have its marks still to come."""
    events = traffic(8)
    pipeline.deliver(events[:200])
    pipeline.recompute()
    pipeline.deliver(events[200:300])
    suspected = audit.differences(pipeline.store)
    assert not suspected.is_empty()
    pipeline.dirty.pop()  # lost for ever
    assert audit.reconcile(pipeline.results, suspected.clear()) == 0
    pipeline.deliver(events[300:])
    now = audit.differences(pipeline.store)
    changed = now.join(suspected, on=now.columns, how="anti")
    assert not changed.is_empty()
    assert audit.reconcile(pipeline.results, suspected) == len(now) - len(changed) > 0
    left = audit.differences(pipeline.store)
    assert left.join(suspected, on=left.columns, how="semi").is_empty()
    pipeline.recompute()
    audit.reconcile(pipeline.results)
    result_audit.repair(pipeline.results)
    check(pipeline, Truth(events))


def test_the_audit_waits_for_the_marks_it_has_seen(pipeline: Pipeline) -> None:
    service = audit.Audit(pipeline.results, "log", lambda: True, lambda: 0.0)
    events = traffic(9)

    def report(topic: str, offset: int, marked: list[int]) -> None:
        now = datetime.now(UTC)
        row = ("log", topic, 0, 0, offset, 0, marked, now, now)
        pipeline.store.insert(
            "watermarks", pl.DataFrame([row], schema=sealing.SCHEMA, orient="row")
        )

    pipeline.deliver(events)
    report(EVENTS_TOPIC, 1, [7])
    report(DIRTY_TOPIC, 6, [])
    for _ in range(3):
        service._look()
        assert not audit.differences(pipeline.store).is_empty()
    report(DIRTY_TOPIC, 7, [])
    service._look()
    assert audit.differences(pipeline.store).is_empty()
    check(pipeline, Truth(events))


class Killed(Exception):
    pass


def kill_after(writes: int, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever uses the store can write so often, and then is no more."""
    written = itertools.count()

    def write(call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        if next(written) >= writes:
            raise Killed
        call(*args, **kwargs)

    for name in ("insert", "command"):
        monkeypatch.setattr(pipeline.store, name, partial(write, getattr(pipeline.store, name)))


# Dead letters, collisions, cells and parts of interactions, minutes, hours.
@pytest.mark.parametrize("writes", range(6))
def test_a_search_for_collisions_that_is_killed_leaves_nothing_for_ever(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    events = collided(traffic(4)[:150])
    pipeline.deliver(events)
    pipeline.recompute()
    with monkeypatch.context() as patch:
        kill_after(writes, pipeline, patch)
        with pytest.raises(Killed):
            audit.find_collisions(pipeline.results)
    audit.find_collisions(pipeline.results)
    audit.reconcile(pipeline.results)
    truth = Truth(events)
    check(pipeline, truth)
    letters = pipeline.store.query("SELECT code, count() AS n FROM dead_letters FINAL GROUP BY 1")
    assert letters.rows() == [("id_collision", len(truth.losers))]
    assert audit.differences(pipeline.store).is_empty()


LOST = (
    "DELETE FROM session_results WHERE cityHash64(session_id) % 2",
    "DELETE FROM rollups WHERE unit = 'sessions'",
    "DELETE FROM rollups WHERE width_s = 60 AND cityHash64(toString(start)) % 2",
    "DELETE FROM rollups WHERE width_s = 3600",
    "DELETE FROM rollups WHERE width_s = 86400",
)


@pytest.mark.parametrize("lost", LOST)
def test_results_that_are_lost_are_made_again(pipeline: Pipeline, lost: str) -> None:
    events = traffic(8)
    pipeline.deliver(events)
    pipeline.recompute()
    assert result_audit.repair(pipeline.results) == 0
    pipeline.store.command(lost)
    assert result_audit.repair(pipeline.results) > 0
    check(pipeline, Truth(events))
    assert result_audit.repair(pipeline.results) == 0


def test_feedback_that_results_have_not_heard_of_is_found(pipeline: Pipeline) -> None:
    events = traffic(8)
    pipeline.deliver([e for e in events if e.kind not in EVALUATION_KINDS])
    pipeline.recompute()
    pipeline.deliver([e for e in events if e.kind in EVALUATION_KINDS])
    cells, pipeline.dirty = pl.concat(pipeline.dirty), []
    for width in windows.WIDTHS:
        windows.recompute(pipeline.store, width, dirty_marks.rollup_cells(cells, width))
    with pytest.raises(AssertionError):
        check(pipeline, Truth(events))
    assert audit.reconcile(pipeline.results) == 0  # every event is in its cell
    assert result_audit.repair(pipeline.results) > 0
    check(pipeline, Truth(events))


@pytest.mark.parametrize("scope", ["", "production/bank"])
def test_feedback_on_a_further_interaction_of_a_trace_is_found(
    pipeline: Pipeline, scope: str
) -> None:
    """Also where another keeps the id of the trace: then it is named within its scope."""

    events = of(
        scope,
        [
            event("web", "span", 1, "t"),
            event("e1", "interaction", 1, "t", parent_id="web"),
            event("e2", "interaction", 2, "t", parent_id="web"),
            event("u1", "interaction", 1, "u"),
        ],
    )
    if scope:  # whoever is trusted keeps both ids
        events += [event(f"trusted {trace}", "interaction", 1, trace) for trace in "tu"]
    pipeline.deliver(events)
    pipeline.recompute()
    named = pipeline.store.query("SELECT interaction_id FROM interactions")["interaction_id"]
    (further,) = (name for name in named if "/" in name)
    (other,) = (name for name in named if name.startswith("u@" if scope else "u"))
    assert scopes.MARK in further if scope else further.startswith("t/")

    pipeline.deliver(
        [event(f"f {n}", "feedback", 9, target=n, value=0.0) for n in (further, other)]
    )
    pipeline.dirty.clear()
    assert result_audit.repair(pipeline.results) == 2
    heard = pipeline.store.query("SELECT interaction_id FROM interactions WHERE satisfaction = 0")
    assert set(heard["interaction_id"]) == {further, other}
    assert result_audit.repair(pipeline.results) == 0


@pytest.mark.parametrize("at_once", [10**9, 40])
@pytest.mark.parametrize("made", [1, 2])
def test_minutes_and_hours_that_stayed_behind_are_found_and_computed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, at_once: int, made: int
) -> None:
    """Spans of events end at minutes, which lie within hours: nothing differs because of that."""
    monkeypatch.setattr(audit, "_EVENTS_PER_STATEMENT", at_once)
    events = traffic(6)
    pipeline.deliver(events[:200])
    pipeline.recompute()
    assert audit.differences(pipeline.store).is_empty()
    pipeline.deliver(events[200:])
    cells, pipeline.dirty = pl.concat(pipeline.dirty), []
    pipeline.results.update(cells)
    for width in windows.WIDTHS[:made]:
        windows.recompute(pipeline.store, width, dirty_marks.rollup_cells(cells, width))
    with pytest.raises(AssertionError):
        check(pipeline, Truth(events))

    found = audit.differences(pipeline.store)
    assert set(found["width_s"]) == {windows.WIDTHS[made]}
    assert (found["stored"] > found["derived"]).all()
    computed = widths_computed(monkeypatch)
    once = found.with_columns(pl.col("derived") + 1)  # it was another difference then
    assert audit.reconcile(pipeline.results, once) == 0
    assert not computed
    assert audit.reconcile(pipeline.results, found) == len(found)
    assert computed == list(windows.WIDTHS[made:])
    assert audit.differences(pipeline.store).is_empty()
    check(pipeline, Truth(events))


def widths_computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The width of whatever is computed from now on."""
    computed: list[int] = []
    recompute = windows.recompute

    def noted(store: Store, width: int, found: pl.DataFrame) -> None:
        computed.append(width)
        recompute(store, width, found)

    monkeypatch.setattr(windows, "recompute", noted)
    return computed


def test_comparing_everything_does_not_put_off_the_next_search(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = threading.Event()
    differences = audit.differences

    def slowly(store: Store) -> pl.DataFrame:
        time.sleep(1)  # half a minute to rest, if the rest followed it
        compared.set()
        return differences(store)

    monkeypatch.setattr(audit, "differences", slowly)
    monkeypatch.setattr(audit, "_EVERY_S", 0.1)
    events = traffic(4)[:50]
    pipeline.deliver(events)
    pipeline.recompute()
    others = collided(events)[len(events) :]
    expected = len(Truth([*events, *others]).losers)

    def found() -> bool:
        counted = pipeline.store.query("SELECT count() AS n FROM collisions FINAL")
        return int(counted["n"][0]) == expected > 0

    async def live() -> None:
        service = audit.Audit(pipeline.results, "log", lambda: True, lambda: 60.0)
        await service.start()
        try:
            assert await asyncio.to_thread(compared.wait, 30)
            await asyncio.to_thread(pipeline.deliver, others)
            await asyncio.to_thread(eventually, found, 25)
        finally:
            await service.stop()

    asyncio.run(live())


def test_a_comparison_that_failed_is_not_tried_again_all_the_time(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def too_long(_store: Store) -> pl.DataFrame:
        time.sleep(0.3)
        tried.append(time.monotonic())
        raise Unavailable("it took too long")

    monkeypatch.setattr(audit, "differences", too_long)
    service = audit.Audit(pipeline.results, "log", lambda: True, lambda: 60.0)
    with pytest.raises(Unavailable):
        service._look()
    service._look()
    assert len(tried) == 1
    monkeypatch.setattr(audit, "_SHARE", 100.0)
    monkeypatch.setattr(audit, "_EVERY_S", 0.0)
    service._due = 0.0
    for _ in range(2):
        with pytest.raises(Unavailable):
            service._look()
        time.sleep(0.02)
    assert len(tried) == 3
