"""Three nodes of Apache Kafka, three copies, two of which must agree: any one may be lost."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from infra.doctor.kafka import judge, look
from infra.topics import driftline_topics
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


def test_the_doctor_sees_what_a_cluster_says_of_itself(bed: Bed, three: Cluster) -> None:
    topics = driftline_topics(4, 24)

    def codes() -> set[str]:
        return {found.code for found in judge(look(bed.kafka, topics), topics)}

    def alter(name: str, value: str) -> None:
        with three.admin() as admin:
            admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, EVENTS_TOPIC, {name: value})]
            )

    assert codes() == set()
    for code, name, wrong, right in (
        ("retention_bytes", "retention.bytes", "1000000", "-1"),
        ("unclean_election", "unclean.leader.election.enable", "true", "false"),
        ("insync", "min.insync.replicas", "1", "2"),
        ("insync_all", "min.insync.replicas", "3", "2"),
    ):
        alter(name, wrong)
        eventually(lambda c=code: codes() == {c}, 20)
        alter(name, right)
        eventually(lambda: codes() == set(), 20)
    three.nodes[2].kill()
    eventually(lambda: codes() == {"under_replicated"}, 60)
    three.nodes[2].start()
    three.wait_ready()
    eventually(lambda: codes() == set(), 60)
