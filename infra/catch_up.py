"""Waiting until the pipeline has caught up with what was sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ingest.core.errors import Unavailable
from processors.clickhouse import Store
from processors.derive import sealing

_POLL_S = 0.25


def wait_until_settled(
    store: Store,
    log_id: str,
    offsets: Mapping[int, int],
    timeout: float = 120.0,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Return when all records before ``offsets`` are rows, and windows and interactions too.

    Parameters
    ----------
    store, log_id
        Where to look, and the incarnation of the log.
    offsets
        Per partition of the events topic, the offset after the last record.
    timeout
        Seconds without any progress after which to give up.
    tick
        Called between looks.

    Raises
    ------
    Unavailable
        Nothing has moved for ``timeout`` seconds, or ClickHouse was away so long; the events are
        safe in Kafka all the same.
    """
    last, deadline = None, time.monotonic() + timeout
    while True:
        try:
            rows = sealing.read(store, log_id)
        except Unavailable:
            if time.monotonic() > deadline:  # until then it may come back, as workers may
                raise
        else:
            if sealing.settled(rows, offsets):
                return
            progress = sorted(rows.select("topic", "partition", "offset").iter_rows())
            if progress != last:
                last, deadline = progress, time.monotonic() + timeout
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the events are in Kafka, but no worker has moved for {timeout:.0f} s;"
                " see `driftline status` and the worker's log"
            )
        tick()
        time.sleep(_POLL_S)
