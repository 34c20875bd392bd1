"""Many hosts: each is cut off, lost and back, and workers come and go with the lag; exact."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.sizing import lag_threshold, replicas
from tests.chaos.check import check
from tests.chaos.faults import LONGER_THAN_A_SESSION_S
from tests.chaos.harness import EVENTS, PARTITIONS, SINK_GROUP, Size
from tests.kafka.hosts import PATIENCE_S, Deployment
from tests.support.common import REQUIRED
from tests.support.kafka_cluster import Cluster, cluster
from tests.support.network import Network, no_network
from tests.support.processes import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    reason = no_network()
    if reason is not None:
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def spread(
    _kafka_possible: None, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Three nodes of Kafka on three hosts."""
    hosts = [network.host(f"kafka-{number}") for number in (1, 2, 3)]
    with cluster(tmp_path_factory.mktemp("kafka") / "hosts", 9092, nodes=3, hosts=hosts) as made:
        yield made


Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(network: Network, spread: Cluster, tmp_path: Path) -> Iterator[Deploy]:
    made: list[Deployment] = []

    def deploy(per_second: int) -> Deployment:
        bed = Deployment(network, spread, tmp_path, Size(per_second=per_second))
        made.append(bed)
        bed.open()
        return bed

    yield deploy
    for bed in made:
        bed.close()
    spread.delete_topics()


def exact(bed: Deployment) -> None:
    bed.settle()
    true, problems = check(bed)
    assert not problems, "\n".join(problems)
    assert {event["agent"] for event in true.counted} > {"collected", "agent-1"}


def test_hosts_that_events_come_by_are_cut_off(deploy: Deploy, spread: Cluster) -> None:
    bed = deploy(600)
    for _ in range(2):
        bed.worker()
    with bed.senders as senders:
        bed.until_at_work()
        leader = spread.leader(EVENTS, 0).host
        assert leader is not None
        for host, way in (
            (leader, "gateway"),
            (bed.gateway.host, "receiver"),
            (bed.receiver.host, "gateway"),
        ):
            host.unplug()
            time.sleep(LONGER_THAN_A_SESSION_S)
            before = senders.sent[way]
            until(
                lambda b=before, w=way: senders.sent[w] > b,
                PATIENCE_S,
                f"the {way} without {host.name}",
            )
            bed.until_at_work()
            host.plug()
            bed.until_at_work()
        senders.finish()
    exact(bed)


def test_workers_and_clickhouse_are_cut_off(deploy: Deploy, spread: Cluster) -> None:
    bed = deploy(600)
    for _ in range(2):
        bed.worker()
    assert bed.store.host is not None
    with bed.senders as senders:
        bed.until_at_work()
        cut, deaf = bed.worker_hosts
        cut.unplug()
        time.sleep(LONGER_THAN_A_SESSION_S)
        bed.until_at_work()
        cut.plug()
        bed.store.host.unplug()
        time.sleep(LONGER_THAN_A_SESSION_S)
        bed.store.host.plug()
        bed.until_at_work()
        # The worst: it can still write, and does not hear that its partitions are another's.
        kafkas = [node.host for node in spread.nodes if node.host is not None]
        deaf.lose(*kafkas)
        time.sleep(LONGER_THAN_A_SESSION_S)
        bed.until_at_work()
        deaf.find(*kafkas)
        bed.until_at_work()
        senders.finish()
    exact(bed)


def test_each_part_is_lost_and_started_again(deploy: Deploy, spread: Cluster) -> None:
    bed = deploy(600)
    for _ in range(2):
        bed.worker()
    with bed.senders as senders:
        bed.until_at_work()
        node = spread.leader(EVENTS, 0)
        node.kill()
        until(lambda: spread.leader(EVENTS, 0).number != node.number, PATIENCE_S, "another leader")
        bed.until_at_work()
        node.start()
        spread.wait_ready()
        for part in (bed.gateway, bed.receiver):
            part.kill()
            time.sleep(1)
            part.start()
            bed.until_at_work()
        bed.end_worker(bed.running()[0])
        bed.until_at_work()
        bed.worker()
        bed.store.kill()
        time.sleep(LONGER_THAN_A_SESSION_S)
        bed.store.start()
        bed.until_at_work()
        senders.finish()
    exact(bed)


def test_workers_follow_the_lag(deploy: Deploy, spread: Cluster) -> None:
    """One, four and one again, as many as `infra.sizing.replicas` wants; as KEDA, but quicker.

    An outage of ClickHouse leaves a backlog. While it lasts nobody gets on, so the lag, however
    large, starts no workers, which could do nothing either.
    """
    bed = deploy(100)
    threshold = lag_threshold(2_500, 2, 60)
    bed.worker()
    wanted: list[int] = []
    before: dict[int, tuple[int, int]] = {}

    def poll() -> None:
        nonlocal before
        at = spread.positions(SINK_GROUP, EVENTS)
        lag = {p: end - done if done > before[p][0] else 0 for p, (done, end) in at.items()}
        before = at
        wanted.append(replicas(lag, threshold, 1, PARTITIONS))
        print(f"{sum(lag.values())} records wait, {len(bed.running())} workers of {wanted[-1]}")
        running = bed.running()
        if wanted[-1] > len(running):
            for _ in range(wanted[-1] - len(running)):
                bed.worker()
        elif len(wanted) >= 5 and max(wanted[-5:]) < len(running):
            bed.end_worker(running[-1], politely=True)
        time.sleep(0.3)

    def members() -> int:
        with spread.admin() as admin:
            return len(admin.describe_groups([SINK_GROUP])[SINK_GROUP]["members"])

    assert bed.store.host is not None
    with bed.senders as senders, bed.produce(2_000):
        bed.until_at_work()
        bed.store.host.unplug()
        waiting = lambda: sum(spread.lag(SINK_GROUP, EVENTS).values())  # noqa: E731
        until(lambda: waiting() > 8 * threshold, PATIENCE_S, "a backlog")
        bed.finish()
        before = spread.positions(SINK_GROUP, EVENTS)
        for _ in range(10):
            poll()
        assert set(wanted) == {1}
        bed.store.host.plug()
        until(lambda: poll() or len(bed.running()) == PARTITIONS, PATIENCE_S, "four workers", 0)
        until(lambda: members() == PARTITIONS, PATIENCE_S, "four workers to share the partitions")
        until(lambda: poll() or len(bed.running()) == 1, PATIENCE_S, "one worker", 0)
        senders.finish()
    exact(bed)
