"""Freshness: from a record's being sent to its interactions' being in ``driftline metrics``.

Events come at a steady rate with the time of their sending, and about every three seconds (asking
takes a third of a core-second) what ended in the last seconds is asked for, as by ``driftline
metrics --since 15s``. Each agent's events go to one partition and are stored in order, so an answer
with k interactions holds the first k sent. How long ago the next one was sent when the answer came
is how far behind the answer was; one that holds all that was sent before it was asked for is as far
behind as it took. Beside it stands how far behind the data were at the moment of asking, without
what the query took.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np

from bench.load import Load, records
from bench.report import report, result
from bench.throughput import PACKAGES, SEED, Beside, bed, cpu_seconds, nothing
from dashboards.agent_report import Selection, collect
from ingest.codec import CANONICAL_HEADER
from ingest.core.errors import Unavailable
from ingest.core.events import EVENTS_TOPIC
from ingest.core.kafka import KafkaConfig
from processors.clickhouse import Store

RATE: Final = 5_000
_SETTLE_S: Final = 5.0  # what is sent before is not judged: the worker warms up
_PATIENCE_S: Final = 30.0
_SINCE_S: Final = 15


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure how old the newest visible number is, at 5,000 events per second.

    Parameters
    ----------
    quick
        For 10 s instead of 60.
    seed
        Of the load.
    say
        Told what is being measured.

    Raises
    ------
    Unavailable
        When what was sent is not visible 30 s after the last of it.
    """
    say(f"sending {RATE:,} events/s for {_seconds(quick):.0f} s ...")
    return report("freshness", seed, PACKAGES, measure(_seconds(quick), seed))


def _seconds(quick: bool) -> float:
    return _SETTLE_S + (10 if quick else 60)


def measure(seconds: float, seed: int, beside: Beside = nothing) -> list[dict[str, Any]]:
    """The figures of live traffic of so many seconds, also with something beside it."""
    with bed() as found, beside(found):
        store = Store(found.clickhouse)
        found.start()
        wait_for(lambda: _assigned(store), "the worker")
        begun = time.time() + 1.0
        load = Load(
            events=int(seconds * RATE), rate=RATE, agents=28, lines_per_record=500, seed=seed,
            end_ns=int((begun + seconds) * 1e9),
        )  # fmt: skip
        values = list(records(load))
        closings = [_closings(value) for _, value in values]
        # In the order of their sending.
        ends: dict[str, list[int]] = defaultdict(list)
        for agent, end in chain.from_iterable(closings):
            ends[agent].append(end)
        sent: dict[str, list[float]] = defaultdict(list)
        shift = max(0.0, time.time() - begun + 0.5)

        def note(number: int, now: float) -> None:
            for agent, _ in closings[number]:
                sent[agent].append(now)

        producer = threading.Thread(
            target=produce, args=(found.kafka, values, begun + shift, load, note)
        )
        spent = cpu_seconds(found.processes)
        producer.start()
        answers = _watch(store, load, producer, begun + shift + _SETTLE_S, sent, ends, seed)
        spent = cpu_seconds(found.processes) - spent
    names = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    return [
        result("rate", RATE, "events/s", n=load.events),
        *(
            result(f"{metric}_{name}", float(np.quantile(waits, q)), "s", n=len(waits))
            for metric, waits in (
                ("freshness", answers.behind), ("behind_when_asked", answers.behind_when_asked)
            )
            for name, q in names
        ),
        result("metrics_query_p50", float(np.median(answers.took)), "s", n=len(answers.took)),
        result("cpu_seconds_per_million", spent / load.events * 1e6, "CPU-s", n=load.events),
    ]  # fmt: skip


def produce(
    kafka: KafkaConfig,
    values: list[tuple[int, bytes]],
    begun: float,
    load: Load,
    told: Callable[[int, float], None] = lambda _number, _time: None,
) -> None:
    """Send records at the pace of their load.

    Parameters
    ----------
    kafka
        The broker.
    values
        Partition and value of each record.
    begun
        When the first is sent, s since 1970.
    load
        What they are of.
    told
        Called with the number of each record and the time at which it was sent.
    """
    from kafka import KafkaProducer

    producer = KafkaProducer(
        **kafka.client_options(), acks="all", compression_type="lz4", batch_size=0,
        bootstrap_timeout_ms=10_000,
    )  # fmt: skip
    for number, (partition, value) in enumerate(values):
        due = begun + number * load.lines_per_record / load.rate
        time.sleep(max(0.0, due - time.time()))
        now = time.time()
        producer.send(EVENTS_TOPIC, value=value, partition=partition, headers=[CANONICAL_HEADER])
        told(number, now)
    producer.flush(30)
    producer.close()


def _closings(value: bytes) -> list[tuple[str, int]]:
    """Agent and end, ns of event time, of the interactions that a record closes."""
    events = (msgspec.json.decode(s) for s in value.split(b"\n") if b'"kind":"interaction"' in s)
    return [(event["agent"], event["time_unix_nano"]) for event in events]


@dataclass(slots=True)
class _Answers:
    """Seconds: how far behind each agent's number was, and how long each answer took."""

    behind: list[float] = field(default_factory=list)
    behind_when_asked: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)


def _watch(
    store: Store,
    load: Load,
    producer: threading.Thread,
    judged_from: float,
    sent: dict[str, list[float]],
    ends: dict[str, list[int]],
    seed: int,
) -> _Answers:
    """Ask for the metrics until all is in them."""
    rng = np.random.default_rng(seed)
    answers = _Answers()
    patience = time.monotonic() + load.events / load.rate + _PATIENCE_S
    while time.monotonic() < patience:
        # At random moments, so as not to keep step with the worker.
        time.sleep(rng.uniform(2.0, 4.0))
        if not producer.is_alive():
            seen = _interactions(store, Selection())
            if all(seen[agent] == len(times) for agent, times in sent.items()):
                return answers
            continue
        asked = time.time()
        recent = Selection(since=int(asked) - _SINCE_S)
        seen = _interactions(store, recent)
        answered = time.time()
        if asked < judged_from:
            continue
        answers.took.append(answered - asked)
        for agent, times in sent.items():
            k = bisect_left(ends[agent], (recent.begins or 0) * 10**9) + seen[agent]
            newest = min(times[k], asked) if k < len(times) else asked
            answers.behind.append(answered - newest)
            answers.behind_when_asked.append(asked - newest)
    raise Unavailable("not all of what was sent can be seen 30 s after the last of it")


def _interactions(store: Store, selection: Selection) -> Counter[str]:
    entries = collect(store, selection, parts=False)
    return Counter({entry["agent"]: entry["interactions"]["n"] for entry in entries})


def _assigned(store: Store) -> bool:
    found = store.query("SELECT count() AS n FROM watermarks FINAL")
    return int(found["n"][0]) >= 4


def wait_for(ready: Callable[[], bool], what: str) -> None:
    """Wait for 60 s at most until something is ready.

    Raises
    ------
    Unavailable
        It is not.
    """
    patience = time.monotonic() + 60
    while not ready():
        if time.monotonic() > patience:
            raise Unavailable(f"{what} was not ready within 60 s")
        time.sleep(0.2)
