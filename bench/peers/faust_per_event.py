"""The job as a plain Faust agent: one event after the other, a table per figure, batched inserts.

Counts, errors, latency sums and a latency histogram per agent and 10 s window, seen ids for
duplicates, and rows in ClickHouse. Leaves events, seconds and CPU seconds in the file ``result``.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import clickhouse_connect
import faust

from ingest.core.events import EVENTS_TOPIC


def main() -> None:
    """Consume the topic until it has seen as many events as the last argument says."""
    expected = int(sys.argv[2])
    app = faust.App(
        "per-event", broker=f"kafka://{os.environ['PEER_KAFKA']}", web_enabled=False,
        store="memory://", datadir=sys.argv[1],
        topic_allow_declare=False, topic_disable_leader=True,
        broker_rebalance_timeout=6.0, broker_session_timeout=10.0,
        consumer_auto_offset_reset="earliest", stream_wait_empty=False,
    )  # fmt: skip
    client = clickhouse_connect.get_client(
        dsn=os.environ["PEER_CLICKHOUSE_URL"], username="driftline",
        password=os.environ["PEER_CLICKHOUSE_PASSWORD"],
    )  # fmt: skip
    client.command(
        "CREATE TABLE per_event (event_id String, time UInt64, agent String, kind String,"
        " status String, duration Float64) ENGINE = MergeTree ORDER BY (agent, time)"
    )
    topic = app.topic(EVENTS_TOPIC, value_serializer="raw", value_type=bytes)
    windows: dict[tuple[str, int], list[float]] = {}
    histograms: dict[tuple[str, int, int], int] = {}
    interactions: dict[str, list[float]] = {}
    seen: set[str] = set()
    pending: list[tuple[Any, ...]] = []
    log_gamma = math.log(1.01 / 0.99)

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def count(stream: Any) -> None:
        n, began, cpu = 0, 0.0, 0.0
        async for value in stream:
            if n == 0:
                began, cpu = time.monotonic(), time.process_time()
            event = json.loads(value)
            n += 1
            if event["event_id"] not in seen:
                seen.add(event["event_id"])
                failed = event.get("status", "ok") == "error"
                key = event["agent"], event["time_unix_nano"] // 10_000_000_000
                for row in (
                    windows.setdefault(key, [0, 0, 0.0]),
                    interactions.setdefault(event["interaction_id"], [0, 0, 0.0]),
                ):
                    row[0] += 1
                    row[1] += failed
                    row[2] += event["duration_ms"]
                size = math.ceil(math.log(event["duration_ms"]) / log_gamma)
                histograms[(*key, size)] = histograms.get((*key, size), 0) + 1
                pending.append(
                    (
                        event["event_id"], event["time_unix_nano"], event["agent"],
                        event["kind"], event.get("status", "ok"), event["duration_ms"],
                    )
                )  # fmt: skip
            if len(pending) >= 10_000 or n == expected:
                client.insert("per_event", pending)
                pending.clear()
            if n == expected:
                took, spent = time.monotonic() - began, time.process_time() - cpu
                (Path(sys.argv[1]) / "result").write_text(f"{n} {took} {spent}")
                os._exit(0)

    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


if __name__ == "__main__":
    main()
