"""bench: how fast and how good."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.console import Json, emit_json, print_table, say
from ingest.core.errors import UsageError

NAMES = (
    "throughput", "live", "freshness", "scaling", "detectors", "clusters", "redaction", "gateway",
    "outcomes", "satisfaction", "dashboards", "incidents", "evaluators",
    "stations",
)  # fmt: skip
_PLOTTED = ("detectors", "clusters")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(bench)


def bench(
    name: Annotated[str, typer.Argument(metavar="|".join(NAMES), help="What to measure.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="The same figures from less data, less certain.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the generated data.")] = 7,
    out: Annotated[Path, typer.Option(help="Folder for plots.")] = Path("bench/out"),
    as_json: Json = False,
) -> None:
    """Measure driftline beside its peers on this machine, in one run.

    Example: driftline bench throughput --quick --json
    """
    found = _run(name, quick, seed, out)
    if as_json:
        emit_json(found)
        return
    print_table(
        ("metric", "who", "value", "unit", "95 % interval", "n"),
        [
            (
                _metric(r), r["peer"] or "driftline", _number(r["value"]), r["unit"],
                f"{_number(r['low'])} - {_number(r['high'])}" if r["low"] is not None else None,
                r["n"],
            )
            for r in found["results"]
        ],
        title=f"{name}, seed {found['seed']}, {found['machine']['cpus']} processors",
    )  # fmt: skip
    say("versions: " + ", ".join(f"{k} {v}" for k, v in found["versions"].items() if v))


def _run(name: str, quick: bool, seed: int, out: Path) -> dict[str, Any]:
    if name not in NAMES:
        raise UsageError(f"there is no bench {name!r}; there are {', '.join(NAMES)}")
    try:
        module = import_module(f"bench.{name}")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"benchmarks are part of the repository, not of the package ({error}):"
            " clone it and run `make bench`"
        ) from error
    plots = {"out": out} if name in _PLOTTED else {}
    found: dict[str, Any] = module.run(quick, seed, say=say, **plots)
    return found


def _metric(row: dict[str, Any]) -> str:
    """Metric and, where a bench has them, the file and the reason it is about."""
    return ".".join(part for part in (row.get("file"), row.get("reason"), row["metric"]) if part)


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
