"""Three nodes of Apache Kafka, three copies, two of which must agree: any one may be lost."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from ingest.core.events import DIRTY_TOPIC, EVENTS_TOPIC
from tests.kafka.harness import Bed
from tests.kafka.traffic import Load
from tests.support.common import eventually
from tests.support.kafka_cluster import Cluster

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(300),
    # kafka-python leaves a socket to the garbage collector with each connection refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Those sockets are closed within the test that left them."""
    yield
    gc.collect()


def test_a_broker_is_lost_under_load_and_comes_back(bed: Bed, three: Cluster) -> None:
    assert three.in_sync(EVENTS_TOPIC) == three.in_sync(DIRTY_TOPIC) == 3
    with Load(bed.kafka, seed=5) as load:
        bed.worker()
        bed.worker()
        eventually(bed.stored, 60)
        time.sleep(3)
        lost = three.leader(EVENTS_TOPIC, 0)
        lost.kill()
        eventually(lambda: three.leader(EVENTS_TOPIC, 0).number != lost.number, 60)
        sends, stored = load.sends, bed.stored()
        eventually(lambda: load.sends > sends + 20 and bed.stored() > stored, 60)
        assert three.in_sync(EVENTS_TOPIC) == 2
        lost.start()
        three.wait_ready()
        eventually(lambda: three.in_sync(EVENTS_TOPIC) == 3, 60)
        events = load.finish()
    bed.settle()
    bed.check(events, repeats_allowed=True)


def test_every_broker_in_turn_is_frozen_or_killed(bed: Bed, three: Cluster) -> None:
    """With the events' leaders, the groups' coordinators and the controller among them."""
    with Load(bed.kafka, seed=6) as load:
        bed.worker()
        eventually(bed.stored, 60)
        for number, node in enumerate(three.nodes):
            if number == 0:
                node.freeze()
                time.sleep(14)  # longer than the cluster waits for a node
                node.thaw()
            else:
                node.kill()
                time.sleep(5)
                node.start()
            three.wait_ready()
            eventually(lambda: three.in_sync(EVENTS_TOPIC) == 3, 60)
        sends = load.sends
        eventually(lambda: load.sends > sends + 10, 60)
        events = load.finish()
    bed.settle()
    bed.check(events, repeats_allowed=True)
