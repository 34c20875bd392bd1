"""Detection over the past: what it would have found, with settings that one thinks of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from processors.clickhouse import Store
from processors.derive.result_store import ResultStore
from processors.stations.base import BUCKETS, CELL, FLEET
from processors.stations.detection import Detection, DetectionConfig
from processors.stations.runner import STEP_S, Stations
from processors.stations.service import incidents
from processors.stations.storage import ClickHouseStations, MemoryStations

_ALL: Final = [*(str(bucket) for bucket in range(BUCKETS)), FLEET]


def rehearse(
    store: Store, config: DetectionConfig, since: datetime, until: datetime
) -> list[dict[str, Any]]:
    """Findings that detection would have made of the stored results of a time range.

    Nothing is written. Detection begins anew at ``since``, so streams must warm up first; feedback
    and outcomes count as they are known now.

    Parameters
    ----------
    store
        The database.
    config
        How eager detection is.
    since, until
        Range of event time.

    Returns
    -------
    list
        Rows of ``findings``, incidents and members, in order of their ids.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """
    memory = MemoryStations()
    stored = ClickHouseStations(store, "", ResultStore(store))
    stations = Stations(memory, [Detection(config), incidents(config)])
    for lo, hi in _steps(int(since.timestamp()), int(until.timestamp())):
        memory.feed(stored.results(lo, hi), hi)
        more = True
        while more:
            _, more = stations.step(_ALL)
            stations.told()
    return memory.rows("findings")


def told(
    found: Iterable[Mapping[str, Any]], signal: str | None = None, agent: str | None = None
) -> list[Mapping[str, Any]]:
    """Findings of a signal and an agent as they would be told, in order of time.

    A member is told as part of its incident, unless that is of another signal or agent.
    """
    fits = [r for r in found if signal in (None, r["signal"]) and agent in (None, r["agent"])]
    ids = {row["finding_id"] for row in fits}
    return sorted((row for row in fits if row["incident"] not in ids), key=lambda row: row["found"])


def _steps(since: int, until: int) -> Iterator[tuple[int, int]]:
    lo, end = since // CELL * CELL, until // CELL * CELL
    while lo < end:
        hi = min((lo // STEP_S + 1) * STEP_S, end)
        yield lo, hi
        lo = hi
