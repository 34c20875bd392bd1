"""A count per agent and 10 s window in Bytewax, from the topic, nothing stored.

Leaves events, seconds and CPU seconds in the file ``result``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.testing import TestingSink, run_main

from ingest.core.events import EVENTS_TOPIC


def main() -> None:
    """Count all events of the topic, which have to be as many as the last argument says."""
    expected = int(sys.argv[2])
    counted: list[Any] = []
    flow = Dataflow("count")
    source = KafkaSource([os.environ["PEER_KAFKA"]], [EVENTS_TOPIC], tail=False)
    events = op.flat_map("decode", op.input("records", flow, source), _decode)
    keyed = op.key_on("agent", events, lambda event: event["agent"])
    windows = win.fold_window(
        "count",
        keyed,
        EventClock(_time, wait_for_system_duration=timedelta(seconds=15)),
        TumblingWindower(length=timedelta(seconds=10), align_to=datetime(2026, 1, 1, tzinfo=UTC)),
        int,
        lambda count, _: count + 1,
        lambda a, b: a + b,
    )
    op.output("out", windows.down, TestingSink(counted))
    began, cpu = time.monotonic(), time.process_time()
    run_main(flow)  # type: ignore[no-untyped-call]
    total = sum(count for _, (_, count) in counted)
    if total != expected:
        raise SystemExit(f"counted {total} of {expected}")
    took, spent = time.monotonic() - began, time.process_time() - cpu
    (Path(sys.argv[1]) / "result").write_text(f"{total} {took} {spent}")


def _decode(record: Any) -> Iterator[dict[str, Any]]:
    return map(json.loads, record.value.split(b"\n"))


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(event["time_unix_nano"] / 1e9, UTC)


if __name__ == "__main__":
    main()
