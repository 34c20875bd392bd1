"""bench: how fast and how good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infra.console import Json, emit_json, print_table, say
from ingest.errors import UsageError

NAMES = (
    "throughput", "freshness", "scaling", "detectors", "clusters", "redaction", "gateway",
    "outcomes", "satisfaction",
)  # fmt: skip


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
    if name == "throughput":
        from infra.bench import throughput

        return throughput.run(quick, seed, say)
    if name == "freshness":
        from infra.bench import freshness

        return freshness.run(quick, seed, say)
    if name == "scaling":
        from infra.bench import scaling

        return scaling.run(quick, seed, say)
    if name == "detectors":
        from infra.bench import detectors

        return detectors.run(quick, seed, out, say)
    if name == "clusters":
        from infra.bench import clusters

        return clusters.run(quick, seed, out, say)
    if name == "redaction":
        from infra.bench import redaction

        return redaction.run(quick, seed, say)
    if name == "gateway":
        from infra.bench import gateway

        return gateway.run(quick, seed, say)
    if name == "outcomes":
        from infra.bench import outcomes

        return outcomes.run(quick, seed, say)
    if name == "satisfaction":
        from infra.bench import satisfaction

        return satisfaction.run(quick, seed, say)
    raise UsageError(f"there is no bench {name!r}; there are {', '.join(NAMES)}")


def _metric(row: dict[str, Any]) -> str:
    """Metric and, where a bench has them, the file and the reason it is about."""
    return ".".join(part for part in (row.get("file"), row.get("reason"), row["metric"]) if part)


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
