"""regressions: failures of production as cases for evaluation frameworks, and their results."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands import open_store
from infra.console import Json, emit_json, print_table, say
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from processors.clickhouse import Store
    from processors.regressions import Standing

regressions_app = typer.Typer(
    help="Failures of production as cases for evaluation frameworks, and their results.\n\n"
    "Examples: driftline regressions export --agent support --format inspect -o cases.jsonl\n"
    "driftline regressions check results.xml --agent-version v16\n"
    "driftline regressions list --agent support --json",
    no_args_is_help=True,
)
Agent = Annotated[str, typer.Option(help="Whose failures.")]
Cluster = Annotated[str, typer.Option(help="Only failures of this cluster.")]
Limit = Annotated[
    int, typer.Option(help="Failures to read at most; the newest.", min=1, max=2**32 - 1)
]

_RESULTS = """
SELECT case_id, at, passed, agent_version FROM regression_results FINAL ORDER BY case_id, at
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(regressions_app, name="regressions")


@regressions_app.command()
def export(
    agent: Agent,
    cluster: Cluster = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="jsonl, promptfoo, inspect, deepeval, pytest, langsmith or openai-evals.",
        ),
    ] = "jsonl",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File; a folder for pytest and openai-evals."),
    ] = None,
    limit: Limit = 5_000,
) -> None:
    """Write the failures of an agent as deduplicated cases, each with a rubric.

    Exit 1 when there is none.

    Examples: driftline regressions export --agent support > cases.jsonl
              driftline regressions export --agent support --format pytest -o regressions/
              driftline regressions export --agent support --format openai-evals -o registry/
              (then: oaieval gpt-4.1-mini driftline-regressions --registry_path registry)
    """
    import sys

    from processors.regressions import FILES, known_format, load_cases, write
    from processors.regressions import export as exported

    known_format(form)
    if form in FILES and out is None:
        raise UsageError(f"{form} is more than one file: give a folder with -o")
    found, unread = load_cases(open_store(), agent, cluster, limit)
    text = exported(found, form)
    if form in FILES and out is not None:
        write(found, form, out)
    elif out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, "utf-8")
    say(f"{len(found)} cases")
    _say_unread(unread)
    if not found:
        raise typer.Exit(1)


@regressions_app.command()
def check(
    results: Annotated[Path, typer.Argument(help="JUnit XML or JSONL {id, passed, version}.")],
    agent_version: Annotated[
        str, typer.Option("--agent-version", help="Version that was tested.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Read results back: which cases are fixed, open or regressed. Exit 1 when one failed.

    Example: driftline regressions check results.xml --agent-version v16
    """
    import polars as pl

    from ingest.core.errors import Rejected
    from processors.regressions import read_results

    try:
        found = read_results(results.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {results}: {error}") from None
    except ValueError as error:
        raise Rejected("invalid_results", f"{results}: {error}") from None
    now = datetime.now(UTC)
    frame = pl.DataFrame(
        {
            "case_id": [r.case for r in found],
            "agent_version": [r.version or agent_version for r in found],
            "at": [now] * len(found),
            "passed": [int(r.passed) for r in found],
            "source": [results.name] * len(found),
        },
        schema_overrides={"passed": pl.UInt8, "at": pl.Datetime("ms", "UTC")},
    )
    store = open_store(reader=False)
    store.insert("regression_results", frame)
    stood = _standings(store, {})
    tested = [asdict(stood[r.case]) for r in found]
    if as_json:
        emit_json(tested)
    else:
        print_table(
            ("case", "passed", "status"),
            [(r.case, r.passed, stood[r.case].status) for r in found],
        )
    failed = sum(not r.passed for r in found)
    say(f"{len(found) - failed} passed, {failed} failed")
    if failed:
        raise typer.Exit(1)


@regressions_app.command("list")
def list_cases(
    agent: Agent, cluster: Cluster = "", limit: Limit = 5_000, as_json: Json = False
) -> None:
    """List cases with their state by results and by later traffic: open, fixed or regressed.

    Example: driftline regressions list --agent support --json
    """
    from processors.regressions import load_cases

    store = open_store()
    found, unread = load_cases(store, agent, cluster, limit)
    _say_unread(unread)
    last = {case.id: datetime.fromisoformat(case.last_seen) for case in found}
    stood = _standings(store, last)
    rows = [
        {**asdict(case), "status": stood[case.id].status if case.id in stood else "open"}
        for case in found
    ]
    if as_json:
        emit_json(rows)
        return
    print_table(
        ("case", "status", "cluster", "reason", "request", "last seen"),
        [
            (r["id"], r["status"], r["cluster"], ", ".join(r["failure"]["reasons"]),
             r["messages"][-1]["content"][:80], r["last_seen"])
            for r in rows
        ],
    )  # fmt: skip


def _say_unread(unread: int) -> None:
    if unread:
        say(f"{unread} older failures were not read; --limit reads more")


def _standings(store: Store, last_failure: dict[str, datetime]) -> dict[str, Standing]:
    from processors.regressions import standing

    results: dict[str, list[tuple[Any, bool, str]]] = {}
    for case, at, passed, version in store.query(_RESULTS).iter_rows():
        results.setdefault(case, []).append((at, bool(passed), version))
    return {case: standing(case, rows, last_failure.get(case)) for case, rows in results.items()}
