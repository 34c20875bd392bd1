"""A worker that breaks the protocol in one way: ``python -m tests.kafka.mutant MUTATION``.

Each mutation is made where the worker meets Kafka or ClickHouse, so it holds whatever the code in
between looks like. It says when it first took effect; a test that does not find those words fails,
for then nothing was broken. ``none`` is the worker as it is, and ``DIE_AFTER_COMMIT`` in the
environment makes any of them kill itself after its first commit.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import polars as pl
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import RecordMetadata, TopicPartition
from faust.transport.consumer import ThreadDelegateConsumer

import infra.topics
from infra.cli import main
from ingest.core.events import DIRTY_TOPIC
from processors.clickhouse import Store
from processors.consumer import GROUP
from processors.derive import dirty_marks

_LATE_S = 30
_said = set[str]()


def _hit(name: str) -> None:
    if name not in _said:
        _said.add(name)
        print(hit(name), file=sys.stderr, flush=True)


def hit(name: str) -> str:
    """What the log of a worker says once the mutation took effect."""
    return f"mutation took effect: {name}"


def commit_before_insert() -> None:
    """Acknowledge records as soon as they are read."""
    real = AIOKafkaConsumer.getmany

    async def getmany(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = await real(self, *args, **kwargs)
        if self._group_id == GROUP and found:
            _hit("commit_before_insert")
            await self.commit({place: part[-1].offset + 1 for place, part in found.items()})
        return found

    AIOKafkaConsumer.getmany = getmany


def mark_after_commit() -> None:
    """Hold the sink's dirty marks back until the offsets are committed."""
    send, commit = AIOKafkaProducer.send, AIOKafkaConsumer.commit
    held: list[tuple[Any, Any, Any]] = []

    async def hold(self: Any, topic: str, *args: Any, **kwargs: Any) -> Any:
        if topic != DIRTY_TOPIC:
            return await send(self, topic, *args, **kwargs)
        held.append((self, args, kwargs))
        _hit("mark_after_commit")
        answer = self._loop.create_future()
        place = TopicPartition(topic, kwargs["partition"])
        answer.set_result(RecordMetadata(*place, place, 0, 0, 0, 0))
        return answer

    async def commit_first(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = await commit(self, *args, **kwargs)
        if self._group_id == GROUP:
            for producer, more, options in held:
                await (await send(producer, DIRTY_TOPIC, *more, **options))
            held.clear()
        return done

    AIOKafkaProducer.send, AIOKafkaConsumer.commit = hold, commit_first


def _in_statements(name: str, changed: Callable[[str], str]) -> None:
    """Change the SQL that computes derived rows."""
    real = Store.command

    def command(self: Store, sql: str, *args: Any, **kwargs: Any) -> None:
        mutated = changed(sql)
        if mutated != sql:
            _hit(name)
        real(self, mutated, *args, **kwargs)

    Store.command = command  # type: ignore[method-assign]


def read_without_final() -> None:
    """Compute windows and interactions from rows as they lie there, repeats included."""
    _in_statements(
        "read_without_final", lambda sql: re.sub(r"(FROM events( AS e)?) FINAL", r"\1", sql)
    )


def constant_version() -> None:
    """Give every derived row the same version: whoever comes last wins."""
    # The epoch stays, what is counted is left out.
    _in_statements(
        "constant_version",
        lambda sql: re.sub(r"(bitShiftLeft\(toUInt64\(\d+\), 40\)) \+ (\w+)", r"\1 + 0 * \2", sql),
    )


def results_before_sealed() -> None:
    """Settle interactions without an end when they are computed, not when event time is past."""
    real = Store.insert

    def insert(self: Store, table: str, frame: pl.DataFrame) -> None:
        if table == "interaction_results" and (frame["state"] == "open").any():
            _hit("results_before_sealed")
            unfinished = pl.col("state") == "open"
            frame = frame.with_columns(
                state=pl.when(unfinished).then(pl.lit("unfinished")).otherwise("state"),
                version=pl.col("version") + unfinished.cast(pl.UInt64),
            )
        real(self, table, frame)

    Store.insert = insert  # type: ignore[method-assign]


def without_late_feedback() -> None:
    """Compute results from what was said of them when their events came, and never again."""
    real = Store.query

    def query(self: Store, sql: str, *args: Any, **kwargs: Any) -> pl.DataFrame:
        if " AS judges" not in sql:
            return real(self, sql, *args, **kwargs)
        found = real(self, sql, *args, **kwargs)
        if (found["judges"] != 0).any():
            _hit("without_late_feedback")
        return found.filter(pl.col("judges") == 0)

    Store.query = query  # type: ignore[method-assign]


def replaced_results_twice() -> None:
    """Add up results as they lie there, those that were replaced included."""
    _in_statements(
        "replaced_results_twice",
        lambda sql: re.sub(r"(FROM (interaction|session)_results AS r) FINAL", r"\1", sql),
    )


def same_log() -> None:
    """Take every incarnation of a topic for the same log."""

    def log_id(*_: Any) -> str:
        _hit("same_log")
        return "always-the-same"

    infra.topics.log_id = log_id


def without_late() -> None:
    """Leave windows alone once later ones have been seen."""
    real, newest = dirty_marks.dirty_cells, [0]

    def dirty_cells(events: pl.DataFrame) -> pl.DataFrame:
        cells = real(events)
        newest[0] = max(newest[0], cells["start"].max() or 0)
        kept = cells.filter(pl.col("start") > newest[0] - _LATE_S)
        if len(kept) < len(cells):
            _hit("without_late")
        return kept

    dirty_marks.dirty_cells = dirty_cells


def pass_over() -> None:
    """Lose now and then what Faust has fetched of the dirty topic, as it may when partitions move.

    A fault that the protocol has to stand, not one that breaks it.
    """
    real, fetched = ThreadDelegateConsumer._getmany, [0]

    async def getmany(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = await real(self, *args, **kwargs)
        fetched[0] += bool(found)
        if not found or fetched[0] % 5:
            return found
        _hit("pass_over")
        return {}

    ThreadDelegateConsumer._getmany = getmany


def _die_after_commit() -> None:
    commit = AIOKafkaConsumer.commit

    async def last(self: Any, *args: Any, **kwargs: Any) -> None:
        if self._group_id == GROUP:
            # Past what any mutation has put around it: nothing may follow the commit.
            await _innermost(self, *args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        await commit(self, *args, **kwargs)

    AIOKafkaConsumer.commit = last


_innermost = AIOKafkaConsumer.commit

MUTATIONS: dict[str, Callable[[], None]] = {
    mutation.__name__: mutation
    for mutation in (
        commit_before_insert,
        read_without_final,
        constant_version,
        mark_after_commit,
        results_before_sealed,
        without_late_feedback,
        replaced_results_twice,
        same_log,
        without_late,
    )
} | {"none": lambda: None}

FAULTS: dict[str, Callable[[], None]] = {"pass_over": pass_over}


if __name__ == "__main__":
    (MUTATIONS | FAULTS)[sys.argv[1]]()
    if "DIE_AFTER_COMMIT" in os.environ:
        _die_after_commit()
    sys.argv = ["driftline", "worker"]
    main()
