"""evaluator, evaluators, evaluate: judge traffic, and see what was judged and what was not."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands import open_store
from infra.commands.report import seconds
from infra.commands.runtime import HealthPort
from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    pass

group = typer.Typer(
    help="Who judges, how much of the traffic, at what cost, and how far to trust it.\n\n"
    "Examples: driftline evaluators\n"
    "driftline evaluators list --json",
    invoke_without_command=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(evaluator)
    app.command()(evaluate)
    app.add_typer(group, name="evaluators")


def evaluator(health_port: HealthPort = None) -> None:
    """Run evaluators: decide which targets are judged, and judge them.

    `driftline up` runs one by itself when evaluators.file is set; run more of them, as many as the
    topic driftline.evaluate has partitions. Budgets hold over all of them. Workers never wait for
    it.

    Example: driftline evaluator --health-port 9500
    """
    from infra import logs, wiring
    from infra.settings import evaluators as section
    from infra.settings import load
    from infra.settings.prices import install_prices
    from infra.topics import create_topics, driftline_topics, log_id
    from ingest.core.events import EVENTS_TOPIC

    os.nice(5)  # on a host that is busy, the stream first; with 10 it would starve
    settings = load()
    logs.configure("evaluator", settings.log.format, settings.log.level)
    install_prices(settings)
    specs = section.evaluators(settings)
    from dataclasses import replace

    from processors.evaluators.app import EvaluatorsConfig, run_evaluators
    from processors.health import HealthConfig

    kafka = wiring.kafka(settings)
    wanted = driftline_topics(settings.kafka.partitions, settings.kafka.retention_hours)
    create_topics(kafka, wanted, settings.kafka.replication)
    run_evaluators(
        EvaluatorsConfig(
            evaluators=specs,
            guard=wiring.redactor(settings),
            kafka=replace(kafka, log_id=log_id(kafka, EVENTS_TOPIC)),
            clickhouse=wiring.clickhouse(settings),
            keys=section.keys(settings, specs),
            otlp_url=settings.evaluators.otlp_url,
            health=HealthConfig(
                port=health_port or settings.health.port,
                host=settings.health.host,
                limits=wiring.limits(settings),
            ),
        )
    )


@group.callback()
def evaluators(context: typer.Context, as_json: Json = False) -> None:
    """Show coverage, cost, latency, failures and agreement; without a command, as `list` does."""
    if context.invoked_subcommand is None:
        list_command(as_json=as_json)


@group.command(name="list")
def list_command(as_json: Json = False) -> None:
    """One line per evaluator: its targets by decision, what it costs, how far it agrees.

    Every target that ended since an evaluator began has one decision; `undecided` are those that
    have none yet. A rate of judgements is only shown beside the agreement of its judge with people
    and outcomes.

    Examples: driftline evaluators list
              driftline evaluators list --json | jq '.[].decisions'
    """
    from dashboards.evaluators import overview

    found = overview(open_store())
    if as_json:
        emit_json(found)
        return
    if not found:
        say("no evaluator has run yet; see docs/evaluators.md")
        return
    print_table(
        (
            *("evaluator", "kind", "targets", "judged", "coverage", "failed", "waiting"),
            *("cost USD", "p95 ms", "kappa", "labels", "pass rate"),
        ),
        [_line(one) for one in found],
    )
    for one in found:
        parts = [f"{n} {state}" for state, n in one["decisions"].items()]
        failures = [f"{n} {reason}" for reason, n in one["failures"].items()]
        why = f"; failed: {', '.join(failures)}" if failures else ""
        say(f"{one['evaluator']}: {', '.join(parts)}, {one['undecided']} undecided{why}")


def _line(one: dict[str, Any]) -> tuple[Any, ...]:
    decisions, agreement, rate = one["decisions"], one["agreement"], one["pass_rate"]
    kappa = agreement and agreement["kappa"]
    return (
        *(one["evaluator"], one["kind"], one["targets"], decisions.get("done", 0)),
        _share(one["coverage"]),
        *(decisions.get("failed", 0), decisions.get("pending", 0) + decisions.get("not_ready", 0)),
        *(one["cost_usd"] if one["cost_usd"] is None else f"{one['cost_usd']:.4f}",),
        one["latency_ms"]["p95"],
        _interval(kappa),
        agreement["n"] if agreement else 0,
        _interval(rate) if rate else "unknown without labels",
    )


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _interval(estimate: dict[str, Any] | None) -> str | None:
    if not estimate or estimate["value"] is None:
        return None
    return f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"


def evaluate(
    since: Annotated[str, typer.Option(metavar="AGE", help="Targets that ended this recently.")],
    name: Annotated[
        list[str] | None, typer.Option("--evaluator", help="Only this evaluator; repeatable.")
    ] = None,
    until: Annotated[str, typer.Option(metavar="AGE", help="And no later than this ago.")] = "0s",
    usd: Annotated[
        float | None, typer.Option("--budget", min=0.000001, help="US dollars to spend at most.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--calls-per-minute", min=1, help="Calls a minute at most.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge the past: every target of a span that no evaluator has judged yet.

    Each evaluator gets the budget given here, apart from that of live traffic; what is beyond it is
    `over_budget`. Filters and rates hold as they do for live traffic. Done by whatever runs
    `driftline evaluator`.

    Examples: driftline evaluate --since 7d --budget 5
              driftline evaluate --since 24h --evaluator resolved --calls-per-minute 60
    """
    import msgspec
    import polars as pl

    from infra.settings import evaluators as section
    from infra.settings import load
    from infra.settings.prices import install_prices
    from processors.derive.sealing import clock_ns
    from processors.evaluators.app import check
    from processors.evaluators.records import MOST, Records
    from processors.evaluators.spec import Budget

    settings = load()
    install_prices(settings)
    known = section.evaluators(settings)
    missing = set(name or ()) - {spec.name for spec in known}
    if missing:
        raise UsageError(f"no such evaluator: {', '.join(sorted(missing))}")
    specs = [spec for spec in known if not name or spec.name in name]
    store = open_store(reader=False)
    records = Records(store)
    budget = Budget(calls_per_minute=calls, usd_per_week=usd)
    check([msgspec.structs.replace(spec, budget=budget) for spec in specs], records)
    now = datetime.now(UTC)
    lo, hi = (int((now - timedelta(seconds=seconds(age))).timestamp()) for age in (since, until))
    run = uuid.uuid4().hex[:12]
    text = msgspec.json.encode(budget).decode()
    begun = [
        {"run": run, "evaluator": spec.name, "budget": text}
        | {n: datetime.fromtimestamp(t, UTC) for n, t in (("since", lo), ("until", hi))}
        for spec in specs
    ]
    moments = {"since": pl.Datetime("ms", "UTC"), "until": pl.Datetime("ms", "UTC")}
    asked: dict[str, int] = {}
    for spec in specs:
        asked[spec.name] = 0
        while True:
            found = records.lacking(spec, lo, hi, again=True)
            asked[spec.name] += len(records.decide(spec, found, clock_ns(), run))
            if len(found) < MOST:
                break
    # Last, because the planner looks for new runs.
    store.insert("evaluation_runs", pl.DataFrame(begun, schema_overrides=moments))
    if as_json:
        emit_json({"run": run, "asked": asked})
        return
    for one, n in asked.items():
        emit(f"{one:<24} {n} targets to judge")
    say(f"run {run}; follow it with `driftline evaluators`")
