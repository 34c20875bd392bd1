"""A count per agent and 10 s window in Bytewax, over lines in memory, nothing stored.

Leaves events, seconds and CPU seconds in the file ``result``.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.testing import TestingSink, TestingSource, run_main


def main() -> None:
    """Count the lines of the file that the first argument's folder holds."""
    lines = (Path(sys.argv[1]) / "lines").read_bytes().split(b"\n")
    counted: list[Any] = []
    flow = Dataflow("count")
    stream = op.input("lines", flow, TestingSource(lines, batch_size=500))
    events = op.map("decode", stream, json.loads)
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
    if total != len(lines):
        raise SystemExit(f"counted {total} of {len(lines)}")
    took, spent = time.monotonic() - began, time.process_time() - cpu
    (Path(sys.argv[1]) / "result").write_text(f"{total} {took} {spent}")


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(event["time_unix_nano"] / 1e9, UTC)


if __name__ == "__main__":
    main()
