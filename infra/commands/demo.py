"""demo: the whole loop on simulated traffic."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.console import emit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.demo import Loop, Sent


_WORST = (
    "SELECT failure_template, count() FROM interactions WHERE notEmpty(failure_reason)"
    " GROUP BY 1 ORDER BY 2 DESC LIMIT 5"
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(demo)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running, to look around.")
    ] = False,
    port_base: Annotated[
        int | None, typer.Option("--port-base", metavar="N", help="First port [default: 17200].")
    ] = None,
) -> None:
    """Run the whole loop on simulated traffic: send, process, detect, cluster, page, export.

    Uses a home of its own, .driftline/demo, made anew each time.

    Example: driftline demo --keep
    """
    from infra import demo as steps
    from infra import wiring
    from infra.commands.board import token_of
    from infra.commands.runtime import down, up_in_background
    from infra.runtime_home import RuntimeHome
    from infra.settings import load
    from processors.clickhouse import Store

    home = load().home / "demo"
    begun = time.monotonic()
    _step("1/4", "starting broker, ClickHouse engine and worker ...")
    down(home)
    steps.fresh(home)
    try:
        with steps.webhook() as hook:
            up_in_background(load({"home": home, "port_base": port_base}), hook.settings)
            settings = load({"home": home, "port_base": port_base})
            hours = steps.HOURS
            _step("2/4", f"sending {hours} h of traffic of four agents, with a tool outage ...")
            with _progress() as show:
                sent, offsets = steps.send(settings, show)
            emit(f"      {sent.events:,} events in {sent.seconds:.1f} s")
            _step("3/4", "computing windows, interactions and sessions ...")
            steps.process(settings, offsets, lambda: None)
            _step("4/4", "waiting for the finding, its cluster and the page ...")
            store = Store(wiring.clickhouse(settings))
            loop = steps.follow(store, sent, hook, home / "cases.jsonl")
            _summary(store, sent, loop, hook.url, time.monotonic() - begun)
        running = RuntimeHome(home)
        state = running.running() if keep else None
        address = state.addresses.get("board") if state else None
        _next_steps(home, f"{address}/#token={token_of(running)}" if address else None)
    finally:
        if not keep:
            down(home)


def _step(number: str, text: str) -> None:
    emit(f"[{number}] {text}")
    sys.stdout.flush()


@contextmanager
def _progress() -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("      sending", total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _summary(store: Any, sent: Sent, loop: Loop, hook: str, took: float) -> None:
    from dashboards.accounting import account
    from dashboards.agent_report import collect
    from infra.commands.report import failure_text, print_summary

    emit("\nWhat came of it\n")
    print_summary(collect(store, parts=False), narrated=True)
    books, incident, found, page = account(store), sent.incident, loop.finding, loop.page
    emit(
        f"\nBooks      {books['accepted']:,} events accepted = {books['stored']:,} stored"
        f" + {books['duplicates']:,} duplicates + {books['collisions']:,} collisions;"
        f" {books['dead_lettered']:,} dead letters;"
        f" {'balanced' if books['balanced'] else 'NOT BALANCED'}"
    )
    delay = (found["found"] - loop.injected).total_seconds()
    emit(
        f"Incident   injected {loop.injected:%H:%M:%S} UTC: the tool {incident['tool']} of"
        f" {incident['agent']} answers with {incident['error_type']}"
    )
    emit(
        f"Found      {found['found']:%H:%M:%S} UTC, {delay:.0f} s of event time later:"
        f" {found['title']} (n = {found['n']}, e-value {found['e_value']:.3g})"
    )
    emit(f"Began      {found['began']:%H:%M:%S} UTC by the detector's estimate")
    emit(f"Failing    {failure_text(found['evidence'])}")
    emit(
        f"Cluster    {loop.cluster['cluster']}: {loop.cluster['name']},"
        f" {loop.cluster['size']} failures"
    )
    emit(f"Paged      POST {hook}, signature right, {len(page['findings'])} findings as one:")
    emit(f"           [{page['event']}, {page['severity']}] {page['title']}")
    emit(f"Cases      {loop.cases} to test a fix against, in {loop.file}")
    emit(f"\nAll of it took {took:.0f} s.")


def _next_steps(home: Path, board: str | None) -> None:
    at = f"DRIFTLINE_HOME={home} .venv/bin/driftline"
    if board is None:
        emit("\nTry next (the numbers above are kept):")
        emit(f"  {at} up --detach      # start it again, with its data")
        emit(f"  {at} board            # the address of its pages, once it runs")
    else:
        emit(f"\nBoard      {board}")
        emit("\nIt keeps running; the webhook ends here. Try next:")
    emit(f"  {at} findings show ID")
    emit(f"  {at} metrics --since 1h --scopes")
    emit(f"  {at} sql '{_WORST}'")
    if board is not None:
        emit(f"  {at} down")
