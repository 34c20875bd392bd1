"""replay, simulate: ways in."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from infra.console import Json, emit_json, fail, print_table, say
from ingest.core.errors import Rejected, Unavailable, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ingest.producer import KafkaEventProducer
    from ingest.replay import Options
    from ingest.replay.publish import Tally

_Item = TypeVar("_Item")
SpeedOption = Annotated[
    str,
    typer.Option("--speed", metavar="max|FACTOR", help="Seconds of event time per second, or max."),
]
WaitOption = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Return only when all numbers include the events."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(replay)
    app.command()(simulate)


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Plain or gzip.")],
    info: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Info records of tau2 simulations taken out of a run."),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="auto|tau2|agentrx|sweagent|otel|events",
            help="Format of the files.",
        ),
    ] = "auto",
    speed: SpeedOption = "max",
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now", help="Move the events in time, the last one to now, under new ids."
        ),
    ] = False,
    agent: Annotated[
        str | None, typer.Option(help="Agent to say instead of the recorded one.")
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="Environment to say instead of the recorded one.")
    ] = None,
    wait: WaitOption = True,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Send nothing; say which attributes of spans are understood as what."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send recorded runs of agents as events.

    Understands tau2-bench simulations, tau-bench, AgentRx and SWE-agent trajectories, OTLP requests
    of spans or logs, spans as any-agent writes them to files, and canonical events, by content;
    plain, gzip or zstd. A file that is replayed again changes nothing: its events have the same
    ids, except with --shift-to-now, which makes new ones each time. Exit code 4 when every event
    was refused or nothing was understood.

    Examples: driftline replay simulations.jsonl.gz --info run_info.jsonl.gz
              driftline replay events.ndjson --shift-to-now --speed 10
              driftline replay traces.jsonl.gz --explain
    """
    from infra.settings import load
    from infra.settings.prices import install_prices
    from infra.wiring import redactor
    from ingest.replay import Format, Options, format_of, load_info, publish, read

    settings = load()
    install_prices(settings)
    factor = _speed(speed)
    if format_ not in list(Format):
        raise UsageError(f"no format {format_!r}; choose one of {', '.join(Format)}")
    options = Options(
        format=Format(format_),
        agent=agent,
        environment=environment,
        infos=load_info(info) if info else {},
    )
    for path in files:  # before anything is sent
        format_of(path, options)
    if explain:
        _explain(files, options, as_json)
        return
    shift = None
    if shift_to_now:
        again = (item for path in files for item in read(path, options))
        shift = publish.shift_to_now(again, time.time_ns(), factor)
    with _kafka() as producer, _Bar(as_json) as bar:
        started = time.monotonic()
        items = bar.watch(files, lambda path, file: read(path, options, file))
        if shift is not None:
            items = (item if isinstance(item, Rejected) else shift(item) for item in items)
        tally = publish.replay(
            items, producer, speed=factor, report=bar.show, redact=redactor(settings).apply
        )
    took_s = time.monotonic() - started
    if wait and tally.accepted:
        _await_processing(producer)
    _summarise(tally, took_s, {"files": len(files)}, as_json)
    _check_understood(tally, as_json)


def _explain(paths: list[Path], options: Options, as_json: bool) -> None:
    """Print how spans are understood: their kinds, then attribute by attribute."""
    from ingest.otlp.explain import KEPT, Coverage
    from ingest.replay import Format, format_of, otel
    from ingest.replay.files import records

    coverage = Coverage()
    for path in paths:
        if format_of(path, options) is not Format.OTEL:
            raise UsageError(f"{path} holds no spans; --explain is about spans only")
        for record in records(path):
            coverage.add(otel.spans_of(record))
    uses = sorted(coverage.uses.items(), key=lambda item: (item[0].kind, -item[1], item[0]))
    if as_json:
        emit_json(
            {
                "spans": [
                    {"kind": kind, "told_by": told, "spans": count}
                    for (kind, told), count in coverage.kinds.most_common()
                ],
                "attributes": [{**use._asdict(), "spans": count} for use, count in uses],
                "rejected": dict(coverage.rejected),
            }
        )
        return
    total = coverage.kinds.total()
    say(f"{total:,} spans understood by kind, {coverage.rejected.total():,} rejected")
    kinds = ((kind, told, count) for (kind, told), count in coverage.kinds.most_common())
    print_table(("kind", "told by", "spans"), list(kinds))
    rows = [
        (use.kind, use.attribute, use.field, use.dialect or None, count)
        for use, count in sorted(uses, key=lambda item: item[0].field == KEPT)
    ]
    print_table(("kind", "attribute", "understood as", "dialect", "spans"), rows)


def simulate(
    duration: Annotated[str, typer.Option(help="How long the traffic lasts: 90s, 40m, 6h.")] = "1h",
    rate: Annotated[str, typer.Option(help="Mean user requests: 2/s, 90/m, 500/h.")] = "2/s",
    seed: Annotated[int, typer.Option(help="The same seed gives the same traffic.", min=0)] = 0,
    end: Annotated[
        str, typer.Option(metavar="now|TIME", help="When it ends, as ISO 8601; TIME is UTC.")
    ] = "now",
    speed: SpeedOption = "max",
    incidents: Annotated[
        list[str] | None,
        typer.Option(
            "--incident",
            metavar="KIND@START[+LENGTH][:AGENT[/TOOL]]",
            help="Schedule tool_outage, model_outage, bad_version, latency_regression,"
            " token_regression or silent_regression; may be given several times.",
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what really happened, as JSON.")
    ] = None,
    to_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write canonical NDJSON, send nothing.")
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="Environment of the events [default: production].")
    ] = None,
    wait: WaitOption = True,
    as_json: Json = False,
) -> None:
    """Send made-up but realistic traffic of four agents, with incidents on a schedule.

    Agents support, retail, coding and research talk to users by day and night, call models and
    tools, retry, fail at times, are rated now and then, and get a new version half-way.

    Examples: driftline simulate --duration 6h --rate 2/s --seed 7 --incident tool_outage@40m
              driftline simulate --duration 30m --speed 1 --incident bad_version@5m+10m:support
              driftline simulate --to-file traffic.ndjson.gz --truth truth.json
    """
    from ingest.core.durations import seconds
    from ingest.producer import file_producer
    from ingest.replay import publish
    from ingest.simulate import Simulation, SimulationConfig
    from ingest.simulate.incidents import parse_incident

    factor, length_s = _speed(speed), seconds(duration)
    span_ns, now_ns = int(length_s * 1e9), time.time_ns()
    last_ns = publish.end_ns(now_ns, span_ns, factor) if end == "now" else _time(end)
    scheduled = [parse_incident(text, n) for n, text in enumerate(incidents or [], start=1)]
    simulation = Simulation(
        SimulationConfig(
            start_ns=last_ns - span_ns,
            duration_s=length_s,
            rate=_rate(rate),
            seed=seed,
            incidents=scheduled,
            environment=environment or "production",
        )
    )
    sink: AbstractContextManager[Any] = file_producer(to_file) if to_file else _kafka()
    # A file may speak of any time; the topic takes no event of the future.
    clock = publish.Clock(now_ns=lambda: last_ns) if to_file else publish.Clock()
    with _written(truth, simulation.truth), sink as producer, _Bar(as_json) as bar:
        started = time.monotonic()
        bar.expect(last_ns - span_ns, span_ns)
        tally = publish.replay(
            simulation.events(),
            producer,
            speed=math.inf if to_file else factor,
            clock=clock,
            report=bar.show,
        )
    took_s = time.monotonic() - started
    if wait and tally.accepted and not to_file:
        _await_processing(producer)
    about = {"run": simulation.config.run, "truth": str(truth) if truth else None}
    _summarise(tally, took_s, about, as_json)


def _kafka() -> KafkaEventProducer:
    from infra import wiring
    from infra.settings import load

    return wiring.producer(load())


def _await_processing(producer: KafkaEventProducer) -> None:
    """Wait until workers have caught up; say so when none does, for the events are safe anyway."""
    from infra import wiring
    from infra.catch_up import wait_until_settled
    from infra.settings import load
    from infra.topics import log_id
    from ingest.core.events import EVENTS_TOPIC
    from processors.clickhouse import Store

    settings = load()
    log = log_id(wiring.kafka(settings), EVENTS_TOPIC)
    try:
        store = Store(wiring.clickhouse(settings, reader=True))
        wait_until_settled(store, log, producer.acknowledged)
    except Unavailable as error:
        say(f"note: {error}")


class _Bar:
    """A progress bar on a terminal, and nothing elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._progress: Any = None
        self._part: Callable[[Tally], float] = partial(_part_sent, 0.0)
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn(
                    "{task.fields[accepted]:,} accepted, {task.fields[rejected]:,} rejected"
                ),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._progress.add_task("", total=1.0, accepted=0, rejected=0)

    def __enter__(self) -> _Bar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def watch(
        self, paths: list[Path], read: Callable[[Path, IO[bytes]], Iterator[_Item]]
    ) -> Iterator[_Item]:
        """Read files; the bytes read are the measure, and of these the events that were sent."""
        total, before = max(sum(path.stat().st_size for path in paths), 1), 0
        for path in paths:
            with path.open("rb") as file:
                self._part = partial(_part_read, file, before, total)
                yield from read(path, file)
                before += file.tell()
                self._part = partial(_part_sent, before / total)

    def expect(self, start_ns: int, span_ns: int) -> None:
        """Take event time as the measure."""
        self._part = lambda tally: ((tally.last_ns or start_ns) - start_ns) / span_ns

    def show(self, tally: Tally) -> None:
        """Show how far it has come."""
        if self._progress is not None:
            self._progress.update(
                self._task,
                completed=self._part(tally),
                accepted=tally.accepted,
                rejected=tally.rejected.total(),
            )


def _part_read(file: IO[bytes], before: int, total: int, tally: Tally) -> float:
    return _part_sent((before + file.tell()) / total, tally)


def _part_sent(part_read: float, tally: Tally) -> float:
    return part_read * (tally.accepted + tally.rejected.total()) / max(tally.read, 1)


@contextmanager
def _written(path: Path | None, truth: Callable[[], Any]) -> Iterator[None]:
    """Write the truth at the end, also of a run that was interrupted."""
    if path is None:
        yield
        return
    try:
        file = path.open("w")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    with file:
        try:
            yield
        finally:
            json.dump(truth(), file, indent=1)


def _summarise(tally: Tally, took_s: float, about: dict[str, Any], as_json: bool) -> None:
    rejected = tally.rejected.most_common()
    if as_json:
        emit_json(
            {
                **about,
                "accepted": tally.accepted,
                "rejected": dict(rejected),
                "details": tally.details,
                "seconds": round(took_s, 3),
            }
        )
    else:
        rows: list[tuple[Any, ...]] = [("accepted", tally.accepted, None, None)]
        rows += [("rejected", count, code, tally.details[code]) for code, count in rejected]
        print_table(("result", "events", "reason", "for instance"), rows)
        if about.get("truth"):
            say(f"what really happened is in {about['truth']}")
    if rejected and tally.accepted == 0:
        code, _ = rejected[0]
        fail(
            f"every event was refused, {code}: {tally.details[code]}",
            Rejected.exit_code,
            as_json=as_json,
        )
        raise typer.Exit(Rejected.exit_code)


def _check_understood(tally: Tally, as_json: bool) -> None:
    """End with exit code 4 when nothing of what was read is known to be an agent's or around it."""
    if tally.unknown < tally.accepted:
        return
    why = "there are no spans, log records or events in it"
    if tally.accepted:
        why = (
            f"all {tally.unknown} spans are of no known dialect, so they count as work of a service"
            " and not of an agent; docs/senders.md lists what is understood"
        )
    fail(f"nothing was understood: {why}", Rejected.exit_code, as_json=as_json)
    raise typer.Exit(Rejected.exit_code)


def _speed(text: str) -> float:
    try:
        factor = math.inf if text == "max" else float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not factor > 0:
        raise UsageError(f"--speed {text!r}: expected max or a number above 0, such as 10")
    return factor


def _rate(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/([smh]))?", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(
            f"--rate {text!r}: expected requests per second, minute or hour: 2/s, 90/m"
        )
    return float(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


def _time(text: str) -> int:
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--end {text!r}: expected now or ISO 8601, 2025-08-01T12:00") from None
    return int((time_ if time_.tzinfo else time_.replace(tzinfo=UTC)).timestamp()) * 10**9
