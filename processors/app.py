"""The composition root of a worker: one Faust app with everything attached, in order.

::

    driftline.events ──> Sink ──> events, evaluations, ledger, dead_letters
                          └─> driftline.dirty ──> recompute ──> windows, interaction_cells
                                  what is sealed ──> Detection ──> findings, alert_events
                                  what is stored ──> Audit ──> collisions, repairs
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import faust
import polars as pl
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP, EventT

from ingest import telemetry
from ingest.errors import DriftlineError
from ingest.events import DIRTY_TOPIC
from ingest.kafka import FETCH_MAX_WAIT_MS, KafkaConfig
from ingest.sampling import Place
from processors import marks, watermarks, windows
from processors.audit import Audit
from processors.detection import Detection, DetectionConfig
from processors.health import Health, HealthConfig
from processors.letters import Letterbox
from processors.retry import until_done
from processors.sink import Sink, SinkConfig
from processors.store import ClickHouseConfig, Store

log = logging.getLogger(__name__)

APP_ID: Final = "driftline"
_LONG_S: Final = 0.5
_REST_S: Final = 0.4  # after computing windows for longer than that
BUG_EXIT: Final = 70
"""Exit code after an unexpected error: the process dies, so that nothing is acknowledged."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker needs to know; `infra.settings` fills it.

    ``incarnation`` says which log the events topic is now; `kafka.log_id` is what it said at start.
    ``recompute_interval`` is how many seconds of marks are gathered before windows and
    interactions are computed again; ``backlog_rest`` is how many seconds that may wait while a
    backlog is worked off.
    """

    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    clickhouse: ClickHouseConfig = field(default_factory=ClickHouseConfig)
    sink: SinkConfig = field(default_factory=SinkConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    recompute_interval: float = 0.1
    backlog_rest: float = 30.0
    incarnation: Callable[[], str] | None = None


# Three classes for one number: Faust lets a broker hold an empty answer back for 1.5 s, and has
# no setting for it.
class _ConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001
        return consumer


class _Consumer(Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _App(faust.App):  # type: ignore[misc]
    def _new_transport(self) -> Any:
        transport = super()._new_transport()
        transport.Consumer = _Consumer
        return transport


def build_app(config: WorkerConfig) -> faust.App:
    """A fresh Faust app with sink, recompute agent and detection attached."""
    store = Store(config.clickhouse)
    app = _App(
        APP_ID,
        broker=[f"kafka://{server}" for server in config.kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(config.kafka),
        # Faust's defaults make the first join of some brokers take a minute.
        broker_rebalance_timeout=6.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=1.0,
        broker_max_poll_interval=600.0,
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
    dirty = app.topic(
        DIRTY_TOPIC, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes
    )
    incarnation = config.incarnation or (lambda: config.kafka.log_id)
    sink = Sink(config.kafka, store, config.sink, _stop_for, incarnation)
    app.service(sink)
    leads = partial(_leads, app)
    app.service(Detection(store, config.kafka.log_id, config.detection, leads))
    app.service(Audit(store, config.kafka.log_id, leads, sink.fresh_for))
    app.service(Letterbox(config.kafka, store))
    done: dict[int, int] = {}
    health = Health(config.health, partial(_places, app, sink, done), sink.turned)
    health.serve()  # before anything that may hang
    app.service(health)

    @app.agent(dirty, name="driftline.recompute", concurrency=1)  # type: ignore[untyped-decorator]
    async def recompute(stream: Any) -> None:
        # What is read of a backlog is old news anyway: store it first, for every computation of a
        # cell reads the whole cell.
        await _caught_up(sink, config.backlog_rest)
        async for events in stream.noack_take(1_000, within=config.recompute_interval):
            started = time.monotonic()
            try:
                partitions = await sink.dirty_partitions()
                await _work_off(store, config.kafka.log_id, dirty, partitions, events)
                for event in events:
                    await stream.ack(event)
                    done[event.message.partition] = event.message.offset + 1
            except Exception:
                # Faust would acknowledge the marks and go on; dying acknowledges nothing.
                log.exception("recompute failed")
                _exit(BUG_EXIT)
            if time.monotonic() - started > _LONG_S:
                await asyncio.sleep(_REST_S)  # so that inserts come to their turn
            await _caught_up(sink, config.backlog_rest)

    return app


async def _caught_up(sink: Sink, at_most: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(sink.caught_up.wait(), at_most)


async def _work_off(
    store: Store,
    log_id: str,
    dirty: faust.TopicT,
    partitions: int,
    events: Sequence[EventT[Any]],
) -> None:
    """Compute what the marks name, coarser windows after finer ones, then say how far we are."""
    named: dict[bytes, list[bytes]] = {}
    for event in events:
        named.setdefault(event.key, []).append(event.value)
    for finer, coarser in zip(windows.WIDTHS, (*windows.WIDTHS[1:], None), strict=True):
        values = named.pop(str(finer).encode(), None)
        if values is None:
            continue
        cells = marks.unpack(values)
        with telemetry.RECOMPUTE_SECONDS.labels(str(finer)).time():
            await until_done(partial(asyncio.to_thread, windows.recompute, store, finer, cells))
        if coarser is not None:
            await _mark_coarser(dirty, partitions, marks.coarser(cells, coarser), coarser)
    done = {event.message.partition: event.message.offset + 1 for event in events}
    rows = watermarks.progress_rows(log_id, done)
    await until_done(lambda: asyncio.to_thread(store.insert, "watermarks", rows))


async def _mark_coarser(
    dirty: faust.TopicT, partitions: int, cells: pl.DataFrame, width: int
) -> None:
    """Pass the mark on, once the finer rows are stored, to whoever computes the coarser window."""
    for partition, value in marks.pack(cells, partitions):
        await until_done(
            lambda p=partition, v=value: _sent(dirty, str(width).encode(), v, p)  # type: ignore[misc]
        )


async def _sent(dirty: faust.TopicT, key: bytes, value: bytes, partition: int) -> None:
    await (await dirty.send(key=key, value=value, partition=partition))


def _places(app: faust.App, sink: Sink, done: dict[int, int]) -> Iterator[Place]:
    """Where every partition stands that this worker reads; ``done`` says how far its marks are."""
    yield from sink.places()
    marked = {tp for tp in app.consumer.assignment() if tp.topic == DIRTY_TOPIC}
    for gone in done.keys() - {tp.partition for tp in marked}:
        del done[gone]  # whoever has it now works on
    for tp in marked:
        yield Place(tp.topic, tp.partition, done.get(tp.partition), app.consumer.highwater(tp))


def _leads(app: faust.App) -> bool:
    """Whoever computes the first partition of the dirty topic also runs the detectors."""
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
    # Logging is set up by whoever runs us.
    faust.Worker(app, override_logging=False, redirect_stdouts=False).execute_from_commandline()
