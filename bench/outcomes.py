"""How well structural reasons find failed sessions: rewards hidden, beside guessing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.pairs import data_folder
from bench.report import report, result
from detectors.compare.agreement import wilson
from detectors.outcomes import REASONS, interaction_reasons, session_reasons
from ingest import codec
from ingest.core.errors import Rejected
from ingest.core.events import MAX_FUTURE_NS, Event
from ingest.replay import Options, load_info, read

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
    say("speed on simulated traffic")
    results += _speed(quick, seed)
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
    found = session_reasons(recording.events).select("session_id", "reasons", "fails")
    if recording.failed.is_empty():
        return found
    return found.join(recording.failed, on="session_id", validate="1:1")


def of_interactions(recording: Recording) -> pl.DataFrame:
    """The same for interactions; the truth is whether their session failed, in whatever part."""
    sessions = recording.events.select("interaction_id", "session_id").drop_nulls().unique()
    found = interaction_reasons(recording.events).join(sessions, on="interaction_id")
    return found.select("session_id", "reasons", "fails").join(recording.failed, on="session_id")


def _of_file(name: str, found: pl.DataFrame, seed: int) -> Results:
    truth = found["failed"].to_numpy()
    codes = sorted({code for codes in found["reasons"] for code in codes})
    results = _figures(name, "any_failing", found["fails"].to_numpy(), truth)
    for code in codes:
        flagged = found["reasons"].list.contains(code).to_numpy()
        results += _figures(name, code, flagged, truth)
    return results + _baselines(name, found["fails"].to_numpy(), truth, seed)


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


def _baselines(
    name: str, flagged: NDArray[np.bool_], truth: NDArray[np.bool_], seed: int
) -> Results:
    """Saying what most sessions are, and flagging as many sessions at random."""
    majority = np.full(len(truth), truth.mean() > 0.5)
    rng = np.random.default_rng(seed)
    draws = [int((rng.permutation(flagged) & truth).sum()) for _ in range(_DRAWS)]
    n, failures = int(flagged.sum()), int(truth.sum())
    results = _figures(name, "any_failing", majority, truth, peer="majority")
    for metric, total in (("precision", n), ("recall", failures)):
        if total:
            low, mean, high = (
                float(x) / total for x in (*np.quantile(draws, (0.025,)), np.mean(draws),
                                           *np.quantile(draws, (0.975,)))
            )  # fmt: skip
            row = result(metric, mean, "share", peer="random", low=low, high=high, n=total)
            results.append({**row, "reason": "any_failing", "file": name})
    return results


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
    steps: tuple[tuple[str, str | None, Callable[[pl.DataFrame], object]], ...] = (
        ("cpu_us_per_event", "decoding", lambda _: codec.decode([value], [2 * 10**18])),
        ("cpu_us_per_event", None, interaction_reasons),
        ("cpu_us_per_event_sessions", None, session_reasons),
    )
    events = frame(played)
    for metric, peer, step in steps:
        began = time.process_time()
        step(events)
        took = (time.process_time() - began) / len(events) * 1e6
        results.append({**result(metric, took, "us", peer=peer, n=len(events)),
                        "reason": None, "file": "simulated"})  # fmt: skip
    return results


def reason_table(results: Results, scope: str = "all") -> str:
    """The figures of all files together as a table in Markdown, for docs/outcomes.md."""
    rows = {
        (r["reason"], r["metric"]): r for r in results if r["peer"] is None and r["file"] == scope
    }
    lines = [
        "| reason | default | precision (95 % interval) | flagged | recall | lift |",
        "|---|---|---|---|---|---|",
    ]
    for code, severity in (("any_failing", ""), *((r.code, r.severity) for r in REASONS)):
        precision = rows.get((code, "precision"))
        if precision is None or precision["value"] is None:
            lines.append(f"| `{code}` | {severity} | never seen | 0 | | |")
            continue
        recall, lift = rows[code, "recall"], rows[code, "lift"]
        lines.append(
            f"| `{code}` | {severity} | {precision['value']:.2f}"
            f" ({precision['low']:.2f} to {precision['high']:.2f}) | {precision['n']}"
            f" | {recall['value']:.2f} | {lift['value']:.1f} |"
        )
    return "\n".join(lines)
