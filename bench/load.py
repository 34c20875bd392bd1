"""Seeded events for benchmarks, made column by column: a million lines in a few seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

_KINDS: Final = (
    "user_message", "llm_call", "tool_call", "llm_call",
    "tool_call", "llm_call", "agent_message", "interaction",
)  # fmt: skip

_SLICE_EVENTS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What the traffic looks like.

    ``rate`` is events per second of event time, ``content_bytes`` the size of the tool arguments
    and contents of a line on average, ``open_sessions`` how many interactions go on at a time.
    ``canonical`` says whether records bear `ingest.codec.CANONICAL_HEADER`, as driftline's own do.
    """

    events: int
    rate: float = 200_000.0
    agents: int = 30
    tools: int = 12
    partitions: int = 4
    lines_per_record: int = 500
    content_bytes: int = 0
    open_sessions: int = 1
    canonical: bool = True
    end_ns: int = 0
    seed: int = 7


def records(load: Load) -> Iterator[tuple[int, bytes]]:
    """Kafka records of the load: (partition, NDJSON value), in order of event time.

    Every interaction has eight events and stays in one partition; a session has five interactions.
    Made a million events at a time, so that a long load needs no more memory than a short one.
    """
    together = len(_KINDS) * load.open_sessions
    n = load.events // together * together
    slice_ = max(1, _SLICE_EVENTS // together) * together
    for first in range(0, n, slice_):
        yield from _records(load, first, min(n, first + slice_), n)


def _records(load: Load, first: int, after: int, n: int) -> list[tuple[int, bytes]]:
    frame = _frame(load, first, after, n)
    lines = frame.select("partition", line=_line(frame)).partition_by(
        "partition", as_dict=True, include_key=False
    )
    found: list[tuple[int, int, bytes]] = []
    for (partition,), part in lines.items():
        values = part["line"].to_list()
        for at in range(0, len(values), load.lines_per_record):
            value = "\n".join(values[at : at + load.lines_per_record]).encode()
            found.append((at, int(partition), value))
    found.sort(key=lambda record: record[:2])
    return [(partition, value) for _, partition, value in found]


def _frame(load: Load, first: int, after: int, end: int) -> pl.DataFrame:
    """Events ``first`` to before ``after`` of a load of ``end``."""
    rng = np.random.default_rng([load.seed, first])
    together = len(_KINDS) * load.open_sessions
    n = after - first
    at = np.arange(first, after)
    # Those that go on together take turns, one event each.
    interaction = at // together * load.open_sessions + at % load.open_sessions
    kind = at % together // load.open_sessions
    step = 1e9 / load.rate
    failed = rng.random(n) < 0.02
    return pl.DataFrame(
        {
            "id": rng.integers(0, 2**63, n // len(_KINDS))[interaction - first // len(_KINDS)],
            "step": kind,
            "time": load.end_ns - ((end - at) * step).astype(np.int64),
            "kind": np.array(_KINDS)[kind],
            "agent": interaction % load.agents,
            "session": interaction // 5,
            "tool": rng.integers(0, load.tools, n),
            "duration": rng.lognormal(6.0, 0.8, n).round(3),
            "input": rng.integers(100, 4000, n),
            "output": rng.integers(5, 500, n),
            "status": np.where(failed, "error", "ok"),
            "fill": rng.integers(0, 2 * load.content_bytes + 1, n),
            "partition": interaction % load.partitions,
        }
    )


def _line(frame: pl.DataFrame) -> pl.Expr:
    is_tool, is_model = pl.col("kind") == "tool_call", pl.col("kind") == "llm_call"
    failed = pl.col("status") == "error"
    content = pl.when(pl.col("fill") > 0).then(
        pl.format(
            ',"content":"{}"', pl.lit("lorem ipsum ").repeat_by(pl.col("fill") // 12).list.join("")
        )
    )
    fields = pl.format(
        '"event_id":"{}-{}","time_unix_nano":{},"agent":"agent-{}","kind":"{}",'
        '"agent_version":"v1","session_id":"session-{}","interaction_id":"{}",'
        '"duration_ms":{}{}{}{}{}{}',
        "id", "step", "time", "agent", "kind", "session", "id", "duration",
        pl.when(is_tool).then(pl.format(',"name":"tool-{}"', "tool")).otherwise(pl.lit("")),
        pl.when(is_model).then(pl.lit(',"model":"gpt-4.1"')).otherwise(pl.lit("")),
        pl.when(failed)
        .then(
            pl.format(
                ',"status":"error","error_type":"timeout",'
                '"error_message":"no answer after {} ms"', "duration",
            )
        )
        .otherwise(pl.lit("")),
        pl.when(is_model)
        .then(
            pl.format(
                ',"input_tokens":{},"output_tokens":{},"cost_usd":0.0021', "input", "output"
            )
        )
        .otherwise(pl.lit("")),
        content.otherwise(pl.lit("")),
    )  # fmt: skip
    # The outer braces apart: to the format they would be a placeholder.
    return pl.concat_str(pl.lit("{"), fields, pl.lit(',"attributes":{"region":"eu"}}'))
