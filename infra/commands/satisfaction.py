"""satisfaction: fit the estimator to a team's own feedback, and see what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import Rejected, UsageError

if TYPE_CHECKING:
    import polars as pl

    from detectors.satisfaction import Estimator

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE...", help="Recorded events with feedback or outcomes among them."),
]
Info = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Info records of tau2 simulations.")
]
Agent = Annotated[str | None, typer.Option(help="Name of the agent, where the files have none.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        help="Estimate dissatisfaction: fit to your own feedback, evaluate.", no_args_is_help=True
    )
    group.command()(fit)
    group.command()(evaluate)
    app.add_typer(group, name="satisfaction")


def fit(
    files: Files = None,
    recordings: Annotated[
        bool,
        typer.Option(
            "--recordings",
            help="Add the public recordings that the shipped estimator was fitted to "
            "(DRIFTLINE_DATA; from a checkout only).",
        ),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write it.")] = Path(
        "satisfaction.json"
    ),
    info: Info = None,
    agent: Agent = None,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 7,
) -> None:
    """Fit the estimator of dissatisfaction.

    Labels are the feedback and outcomes among the events: a value below one half is dissatisfied.
    The result is JSON of plain numbers.

    Examples: driftline satisfaction fit events.ndjson.gz -o satisfaction.json
    driftline satisfaction fit --recordings events.ndjson.gz
    """
    import numpy as np
    import polars as pl

    from detectors.satisfaction.fitting import fit as fitted

    rows = [_labelled(_events(path, info, agent), path.name) for path in files or ()]
    if recordings:
        from bench.dialogues import shipped_recordings

        rows += [_labelled(events, name) for name, events in shipped_recordings()]
    if not rows:
        raise UsageError("nothing to fit to; name files of events, or give --recordings")
    table = pl.concat(rows)
    if table.is_empty():
        raise Rejected("no_labels", "no interaction has feedback or an outcome")
    described = {
        name: {"rows": len(part), "dissatisfied": int(part["dissatisfied"].sum())}
        for (name,), part in table.group_by("source", maintain_order=True)
    }
    try:
        estimator = fitted(
            table, table["dissatisfied"].to_numpy(), table["group"].to_numpy(), described,
            sources=np.asarray(table["source"]), seed=seed,
        )  # fmt: skip
    except ValueError as error:
        raise Rejected("too_few_labels", str(error)) from None
    out.write_text(estimator.dump(), "utf-8")
    say(f"{out}: fitted to {len(table)} interactions of {len(described)} sources")


def evaluate(
    files: Files = None,
    model: Annotated[
        Path | None, typer.Option(help="From `satisfaction fit`; by default the shipped one.")
    ] = None,
    info: Info = None,
    agent: Agent = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 7,
    as_json: Json = False,
) -> None:
    """Hold the estimator against feedback and outcomes that it has not been fitted to.

    Example: driftline satisfaction evaluate last_week.ndjson.gz --model satisfaction.json
    """
    import polars as pl

    if not files:
        raise UsageError("name at least one file of events with feedback")
    estimator = _load(model)
    table = pl.concat([_labelled(_events(path, info, agent), path.name) for path in files])
    if table.is_empty():
        raise Rejected("no_labels", "no interaction has feedback or an outcome")
    found = _figures(estimator, table, seed)
    if as_json:
        emit_json(found)
        return
    print_table(
        ("figure", "value"),
        [(name, "not known" if value is None else f"{value:.3g}") for name, value in found.items()],
        title="dissatisfaction, estimated",
    )
    if found["auc"] is None:
        emit("All interactions have the same label, so there is nothing to tell apart.")


def _figures(estimator: Estimator, table: pl.DataFrame, seed: int) -> dict[str, Any]:
    from detectors.satisfaction.calibration import Probabilities, expected_error
    from detectors.satisfaction.quality import auc_interval, f1, intervals_that_cover

    found = estimator.predict(table)
    p, low, high = (found[name].to_numpy() for name in ("p", "low", "high"))
    y = table["dissatisfied"].to_numpy()
    area = auc_interval(p, y, table["group"].to_numpy(), seed)
    return {
        "n": len(table),
        "dissatisfied": int(y.sum()),
        "auc": area.value,
        "auc_low": area.low,
        "auc_high": area.high,
        "f1": f1(p > 0.5, y),
        "ece": expected_error(p, y),
        "interval_coverage": intervals_that_cover(Probabilities(p, low, high), y).value,
        "coverage": float(found["coverage"].to_numpy().mean()),
    }


def _load(model: Path | None) -> Estimator:
    from detectors.satisfaction import Estimator

    if model is None:
        return Estimator.load()
    try:
        return Estimator.load(model.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{model}: no such file; write one with `satisfaction fit`") from None
    except (ValueError, OSError) as error:
        raise Rejected("bad_model", f"{model}: {error}") from None


def _labelled(events: pl.DataFrame, source: str) -> pl.DataFrame:
    """Features, label, source and group of every interaction that has a label."""
    import polars as pl

    from detectors.outcomes import Traffic
    from detectors.satisfaction import features, turns
    from detectors.satisfaction.labels import labels

    known = labels(events).drop("session_id")
    group = pl.coalesce("session_id", "interaction_id").str.replace(":agent_[12]$", "")
    return (
        features(turns(Traffic(events)))
        .join(known, on="interaction_id")
        .with_columns(source=pl.lit(source), group=group)
    )


def _events(path: Path, info: Path | None, agent: str | None) -> pl.DataFrame:
    from ingest import codec
    from ingest.core.events import MAX_FUTURE_NS, Event
    from ingest.replay import Options, load_info, read

    options = Options(agent=agent, infos={} if info is None else load_info(info))
    items = list(read(path, options))
    events = [item for item in items if isinstance(item, Event)]
    refused = len(items) - len(events)
    if refused:
        say(f"{path}: {refused} of {len(items)} records refused")
    if not events:
        raise Rejected("no_events", f"{path} holds no event")
    newest = max(event.time_unix_nano for event in events) + MAX_FUTURE_NS
    return codec.decode([codec.encode(events)], [newest]).frame
