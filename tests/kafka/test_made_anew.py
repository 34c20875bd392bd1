"""A topic that is deleted and made again while a worker reads it."""

from __future__ import annotations

import time

import pytest

from infra.embedded.process import last_line
from infra.topics import log_id
from ingest.core.events import EVENTS_TOPIC
from ingest.producer import KafkaEventProducer
from tests.kafka.harness import Bed
from tests.kafka.traffic import Traffic

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


def test_a_running_worker_ends_rather_than_mix_two_logs(bed: Bed) -> None:
    traffic, events, logs = Traffic(5), [], []
    worker = bed.worker()
    for round_ in range(2):
        logs.append(log_id(bed.kafka, EVENTS_TOPIC))
        with KafkaEventProducer(bed.kafka) as producer:
            made = traffic.interactions(200, time.time_ns())
            producer.send(made)
            events += made
        if round_ == 0:
            bed.settle()
            bed.cluster.delete_topics()
            bed.make_topics()

    assert worker.wait(60) == 3
    assert "deleted and made again" in last_line(bed.folder / "worker-1.log")
    bed.workers.clear()
    bed.worker()  # as a supervisor would
    bed.settle()
    bed.check(events)
    assert len(set(logs)) == 2
    stored = bed.store.query("SELECT DISTINCT log_id FROM ledger")["log_id"].to_list()
    assert set(stored) == set(logs)
