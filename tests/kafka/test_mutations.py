"""Each rule of the delivery protocol broken on purpose: the suite's own check must notice.

Every scenario is run with the worker as it is as well, so that what is noticed is the mutation.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from kafka import KafkaProducer

from ingest import codec
from ingest.core.events import EVENTS_TOPIC, Event
from tests.kafka import truth
from tests.kafka.harness import Bed
from tests.kafka.mutant import MUTATIONS, hit
from tests.kafka.traffic import Traffic
from tests.support.common import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

Scenario = Callable[[Bed, str], None]


def send(bed: Bed, *records: list[Event]) -> None:
    """Produce records to one partition, each with the events given."""
    producer = KafkaProducer(bootstrap_servers=bed.cluster.bootstrap_servers, acks="all")
    futures = [producer.send(EVENTS_TOPIC, codec.encode(r), partition=0) for r in records]
    for future in futures:
        future.get(timeout=30)
    producer.close()


def killed_after_the_commit(bed: Bed, mutation: str) -> None:
    """The first thing that a worker acknowledges is the last thing it does."""
    events = Traffic(11).interactions(40, time.time_ns())
    send(bed, events)
    bed.worker(mutation, DIE_AFTER_COMMIT="1").wait(60)
    # Another worker would also audit, and so repair in time what must not be wrong at all.
    if bed.lag():
        bed.worker()
        bed.settle()
    bed.check(events)


def every_event_comes_twice(bed: Bed, mutation: str) -> None:
    bed.worker(mutation)
    events = Traffic(12).interactions(40, time.time_ns())
    send(bed, events, events)
    bed.settle()
    bed.check(events * 2)


def a_slow_writer_comes_last(bed: Bed, mutation: str) -> None:
    """Rows computed from half of the events are stored after those computed from all of them."""
    bed.worker(mutation)
    events = Traffic(13).interactions(60, time.time_ns())
    send(bed, events[::2])
    bed.settle()
    for table in ("windows", "interaction_results"):
        bed.store.command(f"CREATE TABLE slow_{table} AS {table}")
        bed.store.command(f"INSERT INTO slow_{table} SELECT * FROM {table} FINAL")
    send(bed, events[1::2])
    bed.settle()
    for table in ("windows", "interaction_results"):
        bed.store.command(f"INSERT INTO {table} SELECT * FROM slow_{table}")
    bed.check(events)


def the_topic_is_made_anew(bed: Bed, mutation: str) -> None:
    traffic, events = Traffic(14), []
    for last in (False, True):
        worker = bed.worker(mutation)
        made = traffic.interactions(40, time.time_ns())
        send(bed, made)
        events += made
        bed.settle(reported=mutation == "none")  # the broken one reports of a log that is not
        if not last:
            worker.terminate()
            worker.wait(30)
            bed.cluster.delete_topics()
            bed.make_topics()
    bed.check(events)


def a_part_comes_late(bed: Bed, mutation: str) -> None:
    bed.worker(mutation)
    traffic, now = Traffic(15), time.time_ns()
    events = traffic.interactions(40, now)
    send(bed, events)
    bed.settle()
    # What the audit at start would repair must not be there yet.
    log = bed.folder / "worker-1.log"
    eventually(lambda: "reconciled" in log.read_text(), 60)
    late = traffic.interactions(40, now - 600 * 10**9)
    send(bed, late)
    bed.settle()
    bed.check(events + late)


def some_never_end(bed: Bed, mutation: str) -> None:
    """Nobody knows yet whether they will."""
    bed.worker(mutation)
    events = Traffic(16).interactions(60, time.time_ns())
    assert any(row["state"] == "open" for row in truth.interactions(events).values())
    send(bed, events)
    bed.settle()
    bed.check(events)


def users_speak_late(bed: Bed, mutation: str) -> None:
    """Feedback and outcomes of interactions whose results are long stored."""
    bed.worker(mutation)
    events = [e for e in Traffic(17).interactions(40, time.time_ns()) if e.kind != "feedback"]
    send(bed, events)
    bed.settle()
    log = bed.folder / "worker-1.log"
    eventually(lambda: "reconciled" in log.read_text(), 60)
    late = [
        Event(
            event_id=f"{name}-{kind}", time_unix_nano=time.time_ns(), agent="judge", kind=kind,
            value=float(n % 3 == 0), target=name,
        )
        for n, name in enumerate(truth.interactions(events))
        for kind in ("feedback", "outcome")
    ]  # fmt: skip
    send(bed, late)
    bed.settle()
    bed.check(events + late)


def results_are_replaced(bed: Bed, mutation: str) -> None:
    """What is known of an interaction grows, and no merge drops what was known before."""
    bed.store.command("SYSTEM STOP MERGES interaction_results")
    bed.worker(mutation)
    events = Traffic(18).interactions(40, time.time_ns())
    send(bed, events[::2])
    bed.settle()
    send(bed, events[1::2])
    bed.settle()
    bed.check(events)


SCENARIOS: dict[str, tuple[Scenario, str]] = {
    "commit_before_insert": (killed_after_the_commit, "events differ"),
    "mark_after_commit": (killed_after_the_commit, "windows differ"),
    "read_without_final": (every_event_comes_twice, "windows differ"),
    "constant_version": (a_slow_writer_comes_last, "windows differ"),
    "results_before_sealed": (some_never_end, "interactions differ"),
    "without_late_feedback": (users_speak_late, "interactions differ"),
    "replaced_results_twice": (results_are_replaced, "rollups differ"),
    "same_log": (the_topic_is_made_anew, "accepted"),
    "without_late": (a_part_comes_late, "windows differ"),
}
"""Per mutation what brings it to light, and what the check says."""


@pytest.mark.parametrize("mutation", SCENARIOS)
def test_a_broken_protocol_is_noticed(bed: Bed, mutation: str) -> None:
    scenario, words = SCENARIOS[mutation]
    with pytest.raises(AssertionError, match=words):
        scenario(bed, mutation)
    assert hit(mutation) in (bed.folder / "worker-1.log").read_text()


@pytest.mark.parametrize(
    "scenario",
    dict.fromkeys(scenario for scenario, _ in SCENARIOS.values()),
    ids=lambda s: s.__name__,
)
def test_the_protocol_as_it_is_stands_the_same(bed: Bed, scenario: Scenario) -> None:
    scenario(bed, "none")


def test_every_mutation_has_a_scenario() -> None:
    assert MUTATIONS.keys() == SCENARIOS.keys() | {"none"}
