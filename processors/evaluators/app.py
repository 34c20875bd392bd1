"""The composition root of the role ``evaluator``: plans, judges, and sends scores.

::

    results ──> Planner ──> evaluation_decisions
                  └─> driftline.evaluate ──> Pool ──> endpoints, rules, functions
                                              └─> driftline.events (scores), evaluation_calls

It is a process of its own, so a judge that hangs takes nothing from the workers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import faust
import msgspec
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError
from faust.types import TP
from mode import Service

from ingest import codec
from ingest.core.errors import Unavailable, UsageError
from ingest.core.events import EVALUATE_TOPIC, EVENTS_TOPIC, FINDINGS_TOPIC, Event
from ingest.core.kafka import KafkaConfig
from ingest.producer import locality_key
from processors.app import app_on
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive import sealing
from processors.evaluators import items
from processors.evaluators.items import Item
from processors.evaluators.ledger import Ledger
from processors.evaluators.model import is_priced
from processors.evaluators.planner import Planner
from processors.evaluators.pool import Guard, Pool
from processors.evaluators.records import Records
from processors.evaluators.spec import Any_, Chat, Decisions
from processors.findings import Finding
from processors.health import Health, HealthConfig

APP_ID: Final = "driftline-evaluators"
_DRAIN_S: Final = 8.0
"""Seconds that calls under way have to end when the process is told to stop."""


@dataclass(frozen=True, slots=True)
class EvaluatorsConfig:
    """What the role needs to know; `infra.settings` fills it.

    ``keys`` are bearer tokens by evaluator; ``otlp_url`` is where scores go as OTLP logs too.
    """

    evaluators: Sequence[Any_]
    guard: Guard
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    clickhouse: ClickHouseConfig = field(default_factory=ClickHouseConfig)
    keys: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    otlp_url: str | None = None
    health: HealthConfig = field(default_factory=HealthConfig)


class _Judges(Service):  # type: ignore[misc]
    """The pool with the life of the app."""

    def __init__(self, pool: Pool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._pool = pool

    async def on_start(self) -> None:
        self._pool.start()

    async def on_stop(self) -> None:
        await self._pool.stop(_DRAIN_S)


def build_app(config: EvaluatorsConfig) -> faust.App:
    """A Faust app with planner and pool.

    Raises
    ------
    UsageError
        An evaluator cannot be run as it is configured.
    Unavailable
        When ClickHouse does not answer.
    """
    store = Store(config.clickhouse)
    records = Records(store)
    check(config.evaluators, records)
    app = app_on(config.kafka, APP_ID)
    app.begin = lambda: None
    work = app.topic(EVALUATE_TOPIC, value_serializer="raw", value_type=bytes)
    findings = app.topic(FINDINGS_TOPIC, key_serializer="raw", value_serializer="raw")
    scores = app.topic(EVENTS_TOPIC, key_serializer="raw", value_serializer="raw", value_type=bytes)

    async def publish(events: Sequence[Event]) -> None:
        for event in events:
            key = locality_key(event).encode()
            await _sent(scores, codec.encode([event]), key, [codec.CANONICAL_HEADER])

    async def send(item: Item) -> None:
        await _sent(work, items.encode(item), item.target.encode(), [])

    pool = Pool(
        config.evaluators, records, Ledger(store, uuid.uuid4().hex[:12]), publish, config.keys,
        config.guard, config.otlp_url,
    )  # fmt: skip
    seals = sealing.Sealing()

    def sealed() -> int:
        rows = sealing.read(store, config.kafka.log_id)
        return seals.update(rows, sealing.clock_ns()).sealed

    def leads() -> bool:
        return TP(EVALUATE_TOPIC, 0) in app.consumer.assignment()

    async def tell(finding: Finding) -> None:
        await _sent(findings, finding.message(), finding.finding_id.encode(), [])

    planner = Planner(config.evaluators, store, sealed, leads, send, tell)
    app.service(_Judges(pool))
    app.service(planner)
    health = Health(config.health, tuple, planner.turned, tuple, "evaluator")
    health.serve()
    app.service(health)

    @app.agent(work, name="driftline.evaluate", concurrency=1)  # type: ignore[untyped-decorator]
    async def judge(stream: Any) -> None:
        async for record in stream:
            try:
                pool.offer(items.decode(record))
            except msgspec.DecodeError:
                continue  # not of ours, or of another version: what is pending is sent again

    return app


def check(evaluators: Sequence[Any_], records: Records) -> None:
    """Whether every filter and every budget can be kept.

    Raises
    ------
    UsageError
        Which evaluator cannot be run, and why.
    """
    for spec in evaluators:
        try:
            records.lacking(spec, 0, 0)
        except ClickHouseError as error:
            text = str(error).partition("DB::Exception: ")[2][:300] or str(error)[:300]
            raise UsageError(f"evaluator {spec.name}: filter: {text}") from None
        if isinstance(spec, Chat | Decisions) and spec.budget.in_usd and not is_priced(spec):
            raise UsageError(
                f"evaluator {spec.name}: the price of {spec.model} is not known, so a budget in"
                " dollars cannot be kept; give `price`"
            )


async def _sent(topic: Any, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> None:
    """Send a record; returns once Kafka has it."""
    try:
        await (await topic.send(key=key, value=value, headers=headers))
    except (KafkaError, TimeoutError, OSError) as error:
        raise Unavailable(f"Kafka does not take a record: {error}") from error


def run_evaluators(config: EvaluatorsConfig) -> None:
    """Run until told to stop. Does not return.

    Raises
    ------
    UsageError
        An evaluator cannot be run as it is configured.
    Unavailable
        When ClickHouse does not answer at start.
    """
    app = build_app(config)
    faust.Worker(app, override_logging=False, redirect_stdouts=False).execute_from_commandline()
