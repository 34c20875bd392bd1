"""The audit on a real engine: killed anywhere, the next one repairs what it left behind."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl
import pytest

from ingest.errors import Unavailable
from processors import audit, marks, windows
from processors.store import Store
from tests.conftest import ClickHouse
from tests.integration.pipeline_reference import Truth, traffic
from tests.integration.test_pipeline_sql import Pipeline, check, collided
from tests.support import eventually


@pytest.fixture
def pipeline(clickhouse: ClickHouse) -> Pipeline:
    return Pipeline(clickhouse)


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
            audit.find_collisions(pipeline.store)
    audit.find_collisions(pipeline.store)
    audit.reconcile(pipeline.store)
    truth = Truth(events)
    check(pipeline, truth)
    letters = pipeline.store.query("SELECT code, count() AS n FROM dead_letters FINAL GROUP BY 1")
    assert letters.rows() == [("id_collision", len(truth.losers))]
    assert audit.differences(pipeline.store).is_empty()


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
    for width in windows.WIDTHS[:made]:
        windows.recompute(pipeline.store, width, marks.coarser(cells, width))
    with pytest.raises(AssertionError):
        check(pipeline, Truth(events))

    found = audit.differences(pipeline.store)
    assert set(found["width_s"]) == {windows.WIDTHS[made]}
    assert (found["stored"] > found["derived"]).all()
    computed = widths_computed(monkeypatch)
    once = found.with_columns(pl.col("derived") + 1)  # it was another difference then
    assert audit.reconcile(pipeline.store, once) == 0
    assert not computed
    assert audit.reconcile(pipeline.store, found) == len(found)
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
        service = audit.Audit(pipeline.store, "log", lambda: True, lambda: 60.0)
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
        time.sleep(0.1)
        tried.append(time.monotonic())
        raise Unavailable("it took too long")

    monkeypatch.setattr(audit, "differences", too_long)
    service = audit.Audit(pipeline.store, "log", lambda: True, lambda: 60.0)
    with pytest.raises(Unavailable):
        service._look()
    service._look()
    assert len(tried) == 1
    monkeypatch.setattr(audit, "_SHARE", 10.0)
    service._due = 0.0
    for _ in range(2):
        with pytest.raises(Unavailable):
            service._look()
        time.sleep(0.02)
    assert len(tried) == 3
