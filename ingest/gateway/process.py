"""A gateway as a process: from the first connection to Kafka to the last answer."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ingest.core.connection import check_connection
from ingest.core.kafka import KafkaConfig
from ingest.gateway.batcher import Batcher
from ingest.gateway.config import GatewayConfig
from ingest.gateway.record_producer import KafkaRecordProducer, RecordProducer
from ingest.gateway.server import Gateway, Policy, serve


def run_gateway(
    config: GatewayConfig, kafka: KafkaConfig, policy: Policy, ready: Callable[[int], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is under way and stop.

    Parameters
    ----------
    config, policy
        Bounds; who and what is let in.
    kafka
        Where events go.
    ready
        Told the port when requests are taken.

    Raises
    ------
    Unavailable
        No broker answers at the start, or the topic is missing.
    UsageError
        The address cannot be had.
    """
    connect = partial(KafkaRecordProducer, kafka, config.answer_s)
    asyncio.run(_run(config, connect, partial(check_connection, kafka), policy, ready))


async def _run(
    config: GatewayConfig,
    connect: Callable[[], RecordProducer],
    probe: Callable[[], None],
    policy: Policy,
    ready: Callable[[int], None],
) -> None:
    # Requests leave few cycles behind; looking for them a hundred times a second, among all that
    # was imported, is a tenth of the processor time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    batcher = Batcher(connect, probe, config.queue_bytes, config.linger_s, config.answer_s)
    watch = asyncio.create_task(batcher.watch())
    try:
        async with serve(config, Gateway(config, policy, batcher)) as port:
            ready(port)
            stopped = asyncio.create_task(stop.wait())
            # A watch that ends has met a bug: then so does the process.
            await asyncio.wait((stopped, watch), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
    finally:
        watch.cancel()
        await batcher.close(config.drain_s)
        with suppress(asyncio.CancelledError):
            await watch
