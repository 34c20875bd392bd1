"""How well structural reasons find failed sessions: rewards hidden, beside guessing."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.pairs import data_folder
from bench.report import report, result
from detectors.compare.agreement import agreement, wilson
from detectors.outcomes import (
    OutcomeConfig,
    Traffic,
    interaction_reasons,
    session_reasons,
)
from detectors.outcomes.config import DEFAULTS
from ingest import codec
from ingest.core.errors import Rejected
from ingest.core.events import MAX_FUTURE_NS, Event
from ingest.replay import Options, load_info, read
from processors.evaluators.parsing import parse

Say = Callable[[str], None]
Results = list[dict[str, Any]]

FILES: Final = (
    "tau2_retail_gpt41_vs_sft_simulations",
    "tau2_telecom_gpt41_vs_sft_simulations",
    "tau2_telecom_gpt4o_simulations",
    "tau2_telecom_solo_gpt41_vs_sft_simulations",
    "agentrx_tau_retail_trajectories",
    "sweagent_trajectories",
)

_PACKAGES: Final = ("driftline", "numpy", "polars")
_DRAWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Recording:
    """Events of one file without its outcomes, and whether each session failed.

    Attributes
    ----------
    failed
        Columns ``session_id`` and ``failed``; empty where the file has no reward.
    """

    name: str
    events: pl.DataFrame
    failed: pl.DataFrame


def run(quick: bool, seed: int, say: Say = lambda line: None) -> dict[str, Any]:
    """Measure the reasons on every recording that is there.

    Parameters
    ----------
    quick
        Less simulated traffic for the speed; the recordings are small and always read whole.
    seed
        Of the random baseline and the traffic.
    say
        Takes one line of progress.
    """
    results: Results = []
    sessions, interactions = [], []
    for name in FILES:
        recording = load(name)
        if recording is None:
            say(f"{name}: not there, left out; set DRIFTLINE_DATA to the folder of the recordings")
            continue
        say(name)
        found = of_sessions(recording)
        results += _tool_errors(recording)
        if recording.failed.is_empty():
            results += _without(name, found)
            continue
        results += _of_file(name, found, seed)
        sessions.append(found)
        interactions.append(of_interactions(recording))
    if sessions:
        together = pl.concat(sessions)
        # what scripts look for, first
        results = _of_file("all", together, seed) + _seen(together) + results
        results += _of_file("interactions", pl.concat(interactions), seed)
    say("recorded judges, their answers read by the parser")
    results += judges()
    say("speed on simulated traffic")
    results += _speed(quick, seed)
    results += pipeline_share(quick, seed, say)
    return report("outcomes", seed, _PACKAGES, results)


def load(name: str) -> Recording | None:
    """Events and hidden rewards of a recording; None without the file."""
    events = read_all(name)
    if events is None:
        return None
    outcomes = events.filter(pl.col("kind") == "outcome")
    failed = outcomes.select("session_id", failed=pl.col("value") < 1)
    return Recording(name, events.filter(pl.col("kind") != "outcome"), failed)


def read_all(name: str) -> pl.DataFrame | None:
    """All events of a recording, outcomes among them; None without the file."""
    path = data_folder() / f"{name}.jsonl.gz"
    infos = data_folder() / "tau2_run_info.jsonl.gz"
    if not path.is_file():
        return None
    options = Options(infos=load_info(infos) if infos.is_file() else {})
    return frame([item for item in read(path, options) if not isinstance(item, Rejected)])


def frame(events: Sequence[Event]) -> pl.DataFrame:
    """Events as the columns that a worker sees."""
    now = max(event.time_unix_nano for event in events) + MAX_FUTURE_NS
    return codec.decode([codec.encode(events)], [now]).frame


def of_sessions(recording: Recording) -> pl.DataFrame:
    """One row per session: reasons, whether they fail, and the hidden truth where there is one."""
    found = session_reasons(judged(Traffic(recording.events)))
    return found.join(recording.failed, on="session_id", how="left")


def of_interactions(recording: Recording) -> pl.DataFrame:
    """One row per interaction; the truth is whether their session failed, in whatever part."""
    return judged(Traffic(recording.events)).join(recording.failed, on="session_id")


def judged(traffic: Traffic, config: OutcomeConfig = DEFAULTS) -> pl.DataFrame:
    """Results of interactions as `session_reasons` reads them."""
    asked = pl.col("text").filter("by_user", pl.col("text") != "")
    said = traffic.messages.group_by("unit").agg(
        request=asked.first(), answer=pl.col("text").filter(~pl.col("by_user")).last()
    )
    calls = traffic.calls.group_by("unit").agg(tool_calls=pl.len())
    first = (
        traffic.rows.sort("at")
        .group_by("unit")
        .agg(pl.col("session_id").drop_nulls().min(), start=pl.col("at").first())
    )
    return (
        interaction_reasons(traffic, config)
        .rename({"interaction_id": "unit"})
        .join(traffic.units, on="unit")
        .join(first, on="unit")
        .join(said, on="unit", how="left")
        .join(calls, on="unit", how="left")
        .with_columns(
            pl.col("session_id").fill_null(pl.col("unit")),
            pl.col("request", "answer").fill_null(""),
            pl.col("tool_calls").fill_null(0),
        )
        .rename({"unit": "interaction_id"})
    )


def _of_file(name: str, found: pl.DataFrame, seed: int) -> Results:
    truth = found["failed"].to_numpy()
    codes = sorted({code for codes in found["reasons"] for code in codes})
    flags = {"any_failing": found["fails"].to_numpy()} | {
        code: found["reasons"].list.contains(code).to_numpy() for code in codes
    }
    results: Results = []
    for reason, flagged in flags.items():
        results += _figures(name, reason, flagged, truth)
    for reason, flagged in flags.items():
        results += _random(name, reason, flagged, truth, seed)
    return results + _majority(name, truth)


def _figures(
    name: str,
    reason: str,
    flagged: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    peer: str | None = None,
) -> Results:
    """Precision, recall and lift of a flag; None where nothing is flagged."""
    hits, n, failures = int((flagged & truth).sum()), int(flagged.sum()), int(truth.sum())
    base = failures / len(truth)
    low, high = wilson(hits, n)
    r_low, r_high = wilson(hits, failures)
    scope = {"reason": reason, "file": name}
    rows = [
        result("precision", hits / n if n else None, "share", peer=peer, low=low, high=high, n=n),
        result(
            "recall", hits / failures if failures else None, "share", peer=peer,
            low=r_low, high=r_high, n=failures,
        ),
        result(
            "lift", hits / n / base if n and base else None, "times the share of failures",
            peer=peer, low=low / base if base else None, high=high / base if base else None, n=n,
        ),
    ]  # fmt: skip
    return [{**row, **scope} for row in rows]


def _majority(name: str, truth: NDArray[np.bool_]) -> Results:
    """Saying of every session what most of them are."""
    same = np.full(len(truth), truth.mean() > 0.5)
    return _figures(name, "any_failing", same, truth, peer="majority")


def _random(
    name: str, reason: str, flagged: NDArray[np.bool_], truth: NDArray[np.bool_], seed: int
) -> Results:
    """Flagging as many sessions at random."""
    n, failures, base = int(flagged.sum()), int(truth.sum()), truth.mean()
    if not n or not failures:
        return []
    draws = np.random.default_rng(seed).hypergeometric(failures, len(truth) - failures, n, _DRAWS)
    low, high = (float(x) for x in np.quantile(draws, (0.025, 0.975)))
    found = []
    for metric, unit, total in (
        ("precision", "share", n),
        ("recall", "share", failures),
        ("lift", "times the share of failures", n * base),
    ):
        mean = float(draws.mean()) / total
        row = result(metric, mean, unit, peer="random", low=low / total, high=high / total, n=n)
        found.append({**row, "reason": reason, "file": name})
    return found


def _without(name: str, found: pl.DataFrame) -> Results:
    """A file without rewards: only how many of its sessions are flagged."""
    n, flagged = len(found), int(found["fails"].sum())
    low, high = wilson(flagged, n)
    row = result("flagged", flagged / n, "share, no reward", low=low, high=high, n=n)
    return [{**row, "reason": "any_failing", "file": name}]


def _tool_errors(recording: Recording) -> Results:
    calls = recording.events.filter(pl.col("kind") == "tool_call")
    errors = int((calls["status"] == "error").sum())
    row = result("tool_errors", errors, "calls", n=len(calls))
    return [{**row, "reason": None, "file": recording.name}]


def _seen(found: pl.DataFrame) -> Results:
    """Failed sessions that show nothing at all, and those that show marks only."""
    failed = found.filter("failed")
    silent = int((failed["reasons"].list.len() == 0).sum())
    marked = int((~failed["fails"] & (failed["reasons"].list.len() > 0)).sum())
    counts = {"failures_without_any_sign": silent, "failures_only_marked": marked}
    scope = {"reason": None, "file": "all"}
    return [
        {**result(metric, count / len(failed), "share of failures", n=len(failed)), **scope}
        for metric, count in counts.items()
    ]


def _speed(quick: bool, seed: int) -> Results:
    """CPU per event, beside decoding the same events."""
    from ingest.simulate import Simulation, SimulationConfig

    config = SimulationConfig(
        start_ns=10**18, duration_s=3600 if quick else 10_800, rate=6.0, seed=seed
    )
    played = list(Simulation(config).events())
    value = codec.encode(played)
    results = []
    events = frame(played)
    rows = judged(Traffic(events))
    steps: tuple[tuple[str, str | None, Callable[[], object]], ...] = (
        ("cpu_us_per_event", "decoding", lambda: codec.decode([value], [2 * 10**18])),
        ("cpu_us_per_event", None, lambda: interaction_reasons(events)),
        ("cpu_us_per_event_sessions", None, lambda: session_reasons(rows)),
    )
    for metric, peer, step in steps:
        began = time.process_time()
        step()
        took = (time.process_time() - began) / len(events) * 1e6
        results.append({**result(metric, took, "us", peer=peer, n=len(events)),
                        "reason": None, "file": "simulated"})  # fmt: skip
    return results


def pipeline_share(quick: bool, seed: int, say: Say) -> Results:
    """Share of the pipeline's CPU: with everything on, and with one of both off, in one run."""
    from bench.load import Load
    from bench.throughput import driftline

    load = Load(events=200_000 if quick else 800_000, rate=40_000.0, content_bytes=300, seed=seed)
    off = {name: {f"DRIFTLINE_RESULTS_{name.upper()}": "false"} for name in _PARTS}
    spent = {}
    for name, settings in (("all", None), *off.items()):
        say(f"the pipeline, {'everything on' if settings is None else name + ' off'}")
        spent[name] = next(
            r for r in driftline(load, settings) if r["metric"] == "cpu_seconds_per_million"
        )
    whole = spent["all"]["value"]
    return [
        {**result("pipeline_cpu_share", 1 - spent[name]["value"] / whole, "share",
                  n=spent[name]["n"]), "reason": None, "file": name}
        for name in _PARTS
    ]  # fmt: skip


_PARTS: Final = ("outcomes", "satisfaction")


def judges() -> Results:
    """Agreement of recorded judges, their answers read by the parser, with the reward."""
    path = data_folder() / "tau2_retail_llm_judge_verdicts.jsonl.gz"
    if not path.is_file():
        return []
    pairs: dict[str, tuple[list[bool], list[bool]]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            names = {"verdict": "judge_verdict", "justification": "judge_justification"}
            answer = {key: record[name] for key, name in names.items()}
            passed = parse(json.dumps(answer)).passed
            if passed is not None:
                judged, truth = pairs.setdefault(record["judge_prompt_name"], ([], []))
                judged.append(passed)
                truth.append(record["tau2_success"])
    found = {name: agreement(*both).kappa for name, both in sorted(pairs.items())}
    return [
        {**result("kappa", kappa.value, "kappa", low=kappa.low, high=kappa.high, n=kappa.n),
         "reason": None, "file": name}
        for name, kappa in found.items()
    ]  # fmt: skip
