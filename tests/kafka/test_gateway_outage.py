"""Apache Kafka stopped for two minutes under load: what standard clients send is there after."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from dashboards.accounting import account
from infra.embedded.process import start, stop, wait_for_port
from tests.kafka.harness import Bed
from tests.support.common import eventually, free_port
from tests.support.gateway_load import Exporters, Flood, Memory

OUTAGE_S = 120
QUEUE_MB = 16

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture
def served(bed: Bed) -> Iterator[tuple[str, int]]:
    """URL and process id of a gateway with default timeouts on the cluster of the test."""
    port = free_port()
    log = bed.folder / "gateway.log"
    more = {"DRIFTLINE_GATEWAY_PORT": str(port), "DRIFTLINE_GATEWAY_QUEUE_MB": str(QUEUE_MB)}
    process = start([sys.executable, "-m", "infra.cli", "gateway"], log, bed.variables() | more)
    try:
        wait_for_port(process, port, "gateway", log)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        stop(process, 25)


def test_two_minutes_without_kafka(bed: Bed, served: tuple[str, int]) -> None:
    url, pid = served
    (node,) = bed.cluster.nodes
    memory = Memory(pid)
    exporters, flood = Exporters(url), Flood(url, threads=2, text=200)
    time.sleep(5)
    node.kill()
    began = time.monotonic()
    before = flood.statuses[200]
    time.sleep(OUTAGE_S / 2)
    assert flood.statuses[200] <= before + 2  # answers that were on their way
    assert flood.statuses[503] > 100
    time.sleep(OUTAGE_S - (time.monotonic() - began))
    node.start()
    bed.cluster.wait_ready()
    # The last retry of the exporters comes at most a minute and a fifth after Kafka.
    exporters.finish(within_s=100)
    flood.finish()
    memory.stop()
    assert exporters.outcomes.keys() == {SpanExportResult.SUCCESS}
    assert flood.statuses[200] > before
    assert flood.slowest_s < 12  # eight for Kafka, the rest is a busy machine
    assert memory.most - memory.first < (3 * QUEUE_MB + 32) << 20
    bed.worker()
    bed.settle(120)
    sent = exporters.sent | flood.stored
    found = bed.store.query("SELECT DISTINCT event_id FROM events")["event_id"].to_list()
    assert sent <= set(found)
    books = account(bed.store)
    assert books["balanced"], books
    assert books["dead_lettered"] == books["collisions"] == 0
    eventually(lambda: account(bed.store)["stored"] == len(set(found)), 30)
