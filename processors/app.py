"""The composition root of a worker: one Faust app with everything attached, in order.

::

    driftline.events ──> EventWriter ──> events, evaluations, ledger, dead_letters
                          └─> driftline.dirty ──> WindowUpdater ──> windows
                                                   └─> ResultStore ──> results, rollups
                                  what is sealed ──> stations ──> station_changes, findings
                                                         └─> driftline.findings ──> Notifier
                                  what is stored ──> Audit ──> collisions, repairs
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import faust
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP

from ingest.core import fetch_wait
from ingest.core.errors import DriftlineError
from ingest.core.events import DIRTY_TOPIC, FINDINGS_TOPIC
from ingest.core.health.sampler import PartitionPosition
from ingest.core.kafka import KafkaConfig
from processors.audit import Audit
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive.judging import ResultsConfig
from processors.derive.result_store import ResultStore
from processors.derive.window_updater import WindowUpdater
from processors.health import Health, HealthConfig
from processors.keeping import Keeper, Retention
from processors.notify.service import Notifier, NotifyConfig
from processors.stations.base import owned
from processors.stations.detection import DetectionConfig
from processors.stations.service import station_runner
from processors.write.dead_letters import DeadLetterWriter
from processors.write.erased import Tombstones
from processors.write.event_writer import EventWriter, EventWriterConfig

log = logging.getLogger(__name__)

APP_ID: Final = "driftline"
BUG_EXIT: Final = 70
"""Exit code after an unexpected error: the process dies, so that nothing is committed."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker needs to know; `infra.settings` fills it.

    ``incarnation`` says which log the events topic is now; `kafka.log_id` is what it said at start.
    ``recompute_interval`` is how many seconds lie at least between two computations of cells;
    ``backlog_rest`` is how many seconds that may wait while a
    backlog is worked off.
    """

    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    clickhouse: ClickHouseConfig = field(default_factory=ClickHouseConfig)
    sink: EventWriterConfig = field(default_factory=EventWriterConfig)
    results: ResultsConfig = field(default_factory=ResultsConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    recompute_interval: float = 1.0
    backlog_rest: float = 30.0
    keep: Retention = field(default_factory=Retention)
    incarnation: Callable[[], str] | None = None


# Three classes for one number: Faust lets a broker hold an empty answer back for 1.5 s, and has
# no setting for it.
class _ConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        fetch_wait.adapt(consumer)
        return consumer


class _Consumer(Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def generation(self) -> int | None:
        settled = self._active_partitions is not None and not self.app.rebalancing
        return self.app.consumer_generation_id if settled else None

    def begun(self) -> dict[TP, int]:
        marked = (tp for tp in self.assignment() if tp.topic == DIRTY_TOPIC)
        return {tp: self._committed_offset.get(tp) or 0 for tp in marked}

    async def first(self, partition: TP) -> int:
        try:
            found: int = (await self.earliest_offsets(partition))[partition]
        except (TimeoutError, KafkaError):
            return 0
        return found

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        ours = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        return bool(ours) and await self._commit(ours)

    def end(self, partition: TP) -> int:
        return self.highwater(partition) or 0

    async def rewind(self, partition: TP, offset: int) -> None:
        if partition in self.assignment():
            with contextlib.suppress(TimeoutError, KafkaError):  # it has just moved
                await self.seek_wait({partition: offset})


class _App(faust.App):  # type: ignore[misc]
    begin: Callable[[], None]
    """Called first; other services only begin once Faust's group has been joined."""

    async def on_first_start(self) -> None:
        # Not what Faust does here: it makes folders, in which nothing would be kept.
        self.begin()

    def _new_transport(self) -> Any:
        transport = super()._new_transport()
        transport.Consumer = _Consumer
        return transport


def app_on(kafka: KafkaConfig, name: str = APP_ID) -> Any:
    """A Faust app without topics; its name is that of its consumer group."""
    return _App(
        name,
        broker=[f"kafka://{server}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        # Faust's defaults make the first join of some brokers take a minute.
        broker_rebalance_timeout=6.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=3.0,
        # A leader that moves while a position is looked up is only found by new metadata: aiokafka
        # does not ask for them then, and would wait five minutes.
        consumer_metadata_max_age_ms=15_000,
        # It would leave the group when nothing is fetched, as without a partition, and not come
        # back. That it gets on is what health says.
        broker_max_poll_interval=7 * 86_400.0,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        web_enabled=False,
        # With buffered events, shutdown would otherwise wait for ever.
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        processing_guarantee="at_least_once",
    )


def build_app(config: WorkerConfig) -> faust.App:
    """A fresh Faust app with sink, recompute agent and detection attached."""
    store = Store(config.clickhouse)
    app = app_on(config.kafka)
    dirty = app.topic(DIRTY_TOPIC, value_serializer="raw", value_type=bytes, acks=False)
    incarnation = config.incarnation or (lambda: config.kafka.log_id)
    sink = EventWriter(config.kafka, store, config.sink, _stop_for, incarnation)
    app.service(sink)
    app.begin = sink.join  # a group takes seconds to join, so both at once
    leads = partial(_leads, app)
    tell = partial(sink.tell, FINDINGS_TOPIC)
    held = partial(_buckets, app, sink)
    tombstones = Tombstones(store, config.sink.erasing_key)
    results = ResultStore(store, config.results)
    stations = station_runner(store, results, config.kafka.log_id, config.detection, held, tell)
    app.service(stations)
    audit = Audit(results, config.kafka.log_id, leads, sink.fresh_for)
    app.service(audit)
    app.service(DeadLetterWriter(config.kafka, store, tombstones))
    notifier = Notifier(store, config.notify, leads)
    app.service(notifier)
    recompute = WindowUpdater(
        store,
        results,
        config.kafka.log_id,
        lambda: app.consumer,
        config.recompute_interval,
        partial(_caught_up, sink, config.backlog_rest),
        partial(_exit, BUG_EXIT),
    )
    app.service(recompute)
    app.service(Keeper(store, config.keep, leads))
    health = Health(
        config.health,
        partial(_places, app, sink, recompute),
        sink.loop_last_seen,
        lambda: [*stations.health(), audit.health()],
    )
    health.serve()  # before anything that may hang
    app.service(health)

    found = app.topic(FINDINGS_TOPIC, value_serializer="raw", value_type=bytes, acks=True)

    @app.agent(found, name="driftline.notify", concurrency=1)  # type: ignore[untyped-decorator]
    async def notify(stream: Any) -> None:
        async for record in stream:
            await notifier.handle(record)

    @app.agent(dirty, name="driftline.recompute", concurrency=1)  # type: ignore[untyped-decorator]
    async def follow(stream: Any) -> None:
        await recompute.follow(stream)

    return app


async def _caught_up(sink: EventWriter, at_most: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(sink.caught_up.wait(), at_most)


def _places(
    app: faust.App, sink: EventWriter, recompute: WindowUpdater
) -> Iterator[PartitionPosition]:
    """Where every partition stands that this worker reads."""
    yield from sink.places()
    for tp in app.consumer.assignment():
        if tp.topic == DIRTY_TOPIC:
            yield PartitionPosition(
                tp.topic, tp.partition, recompute.done.get(tp.partition), app.consumer.highwater(tp)
            )


def _buckets(app: faust.App, sink: EventWriter) -> list[str]:
    """Buckets of agents whose stations run here: they follow the dirty topic's partitions."""
    held = [tp.partition for tp in app.consumer.assignment() if tp.topic == DIRTY_TOPIC]
    return owned(held, sink.dirty_partitions)


def _leads(app: faust.App) -> bool:
    """The worker that computes the first partition of the dirty topic also audits."""
    return TP(DIRTY_TOPIC, 0) in app.consumer.assignment()


def _credentials(kafka: KafkaConfig) -> Any:
    context = kafka.ssl_context()
    if kafka.sasl_mechanism is not None:
        return faust.SASLCredentials(
            mechanism=kafka.sasl_mechanism,
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def _stop_for(error: DriftlineError) -> None:
    """Stop at once; the code says whether restarting would meet the same again."""
    print(f"driftline worker stopped: {error}", file=sys.stderr, flush=True)  # noqa: T201
    _exit(error.exit_code)


def _exit(code: int) -> None:
    logging.shutdown()
    os._exit(code)


def run_worker(config: WorkerConfig) -> None:
    """Run a worker until it is told to stop. Does not return.

    Raises
    ------
    Unavailable
        When ClickHouse does not answer at start.
    """
    # Decoding makes millions of tuples that live for one batch; the collector would scan them all.
    gc.set_threshold(500_000, 50, 50)
    Store(config.clickhouse).query("SELECT 1 AS ok")
    app = build_app(config)
    # Logging is set up by the caller.
    faust.Worker(app, override_logging=False, redirect_stdouts=False).execute_from_commandline()
