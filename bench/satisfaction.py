"""How well dissatisfaction is estimated without a model call, on people's own verdicts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.dialogues import Acts, betold, conversations, shipped_recordings, topical_chat
from bench.outcomes import frame
from bench.report import report, result
from bench.sequences import SequenceModel
from detectors.compare.agreement import Estimate
from detectors.outcomes import Traffic
from detectors.satisfaction import Estimator, features, turns
from detectors.satisfaction.calibration import Calibration, Floats, Probabilities, expected_error
from detectors.satisfaction.fitting import inputs, left_out_scores, offsets, splits
from detectors.satisfaction.labels import labels
from detectors.satisfaction.quality import auc_interval, f1, intervals_that_cover

Say = Callable[[str], None]
Results = list[dict[str, Any]]

HIDDEN: Final = 2
"""Utterances that are hidden for the early figure."""

_PACKAGES: Final = ("driftline", "numpy", "scikit-learn", "polars")
_COMPLAINT: Final = re.compile(r"human|agent|repeat|negate|cancel|complain|unclear|fallback|sorry")


def run(quick: bool, seed: int, say: Say = lambda line: None) -> dict[str, Any]:
    """Measure the estimators beside the length of a dialogue and words of complaint.

    Parameters
    ----------
    quick
        Less simulated traffic for the speed; the recordings are small and always read whole.
    seed
        Of the folds and of the traffic.
    say
        Takes one line of progress.
    """
    results: Results = []
    acts = betold()
    if acts is None:
        say("BETOLD is not there, left out; set DRIFTLINE_DATA to the folder of the recordings")
    else:
        say("BETOLD: hang-ups and requests for a human, folds without equal dialogues")
        results += _betold(acts, seed)
    rated = topical_chat()
    if rated is None:
        say("Topical-Chat is not there, left out; set DRIFTLINE_DATA")
    else:
        say("Topical-Chat: turns that the partner rated low")
        results += _topical(frame(rated), seed)
    say("recorded users and agents, the reward as label")
    results += _recordings(seed)
    say("speed on simulated traffic")
    results += _speed(quick, seed)
    return report("satisfaction", seed, _PACKAGES, results)


def left_out(
    dialogues: Sequence[tuple[str, ...]], failed: NDArray[np.bool_], seed: int
) -> tuple[Probabilities, NDArray[Any]]:
    """Probability of every dialogue by a model that has seen no equal one, and the groups."""
    groups = np.unique([" ".join(acts) for acts in dialogues], return_inverse=True)[1]
    columns = np.zeros((3, len(dialogues)))
    for train, test in splits(failed.astype(int), groups, seed):
        model = SequenceModel.fit([dialogues[i] for i in train], failed[train], seed)
        found = model.predict([dialogues[i] for i in test])
        columns[:, test] = found.p, found.low, found.high
    return Probabilities(*columns), groups


def _betold(acts: Acts, seed: int) -> Results:
    found, groups = left_out(acts.dialogues, acts.failed, seed)
    early, early_groups = left_out(acts.without_last(HIDDEN), acts.failed, seed)
    results = _quality(found, acts.failed, groups, seed)
    results.append(_row("auc_early", auc_interval(early.p, acts.failed, early_groups, seed)))
    for peer, count in (("length_only", len), ("lexicon_only", _complaints)):
        for metric, dialogues, whose in (
            ("auc", acts.dialogues, groups),
            ("auc_early", acts.without_last(HIDDEN), early_groups),
        ):
            scores = [float(count(dialogue)) for dialogue in dialogues]
            results.append(_row(metric, auc_interval(scores, acts.failed, whose, seed), peer=peer))
    return results


def _complaints(acts: Sequence[str]) -> int:
    return sum(bool(_COMPLAINT.search(act)) for act in acts if act.startswith("nlu:"))


def _topical(events: pl.DataFrame, seed: int) -> Results:
    """Left-out figures of an estimator fitted here, and of the shipped one, which saw none."""
    rated = features(turns(Traffic(events))).join(
        labels(events).drop("session_id"), on="interaction_id"
    )
    low = rated["dissatisfied"].to_numpy().astype(np.int64)
    groups = conversations(rated["session_id"])
    x = inputs(rated)
    scores = left_out_scores(x, low, groups, np.zeros(len(low)), seed)
    results = _quality(_calibrated(scores, low, groups, seed), low, groups, seed, "topical_chat_")
    shipped = auc_interval(Estimator.load().within(rated), low, groups, seed)
    results.append(_row("topical_chat_auc_shipped", shipped))
    cues = rated.select(pl.sum_horizontal("next_correction", "next_blame", "next_frustration",
                                          "next_unclear", "next_still_broken"))  # fmt: skip
    peers = {
        "length_only": -rated["answer_length"].to_numpy(),
        "lexicon_only": cues.to_series().to_numpy(),
    }
    for peer, values in peers.items():
        results.append(_row("topical_chat_auc", auc_interval(values, low, groups, seed), peer=peer))
    auc = next(r for r in results if r["metric"] == "topical_chat_auc")
    results.append(result("topical_chat_margin", auc["low"] - 0.5, "lower end above chance"))
    return results


def _recordings(seed: int) -> Results:
    """Left-out figures of what the shipped estimator is fitted to: agents, rewards as labels."""
    parts = [
        features(turns(Traffic(events)))
        .join(labels(events).drop("session_id"), on="interaction_id")
        .with_columns(source=pl.lit(name))
        for name, events in shipped_recordings()
    ]
    if not parts:
        return []
    table = pl.concat(parts)
    y = table["dissatisfied"].to_numpy().astype(np.int64)
    groups, source = table["session_id"].to_numpy(), table["source"].to_numpy()
    results = []
    for alone, prefix in ((False, "recordings_"), (True, "recordings_alone_")):
        x = inputs(table, alone=alone)
        scores = left_out_scores(x, y, groups, offsets(y, source), seed)
        results += _quality(_calibrated(scores, y, groups, seed), y, groups, seed, prefix)
    length = auc_interval(-table["answer_length"].to_numpy(), y, groups, seed)
    return [*results, _row("recordings_auc", length, peer="length_only")]


def _calibrated(
    scores: Floats, y: NDArray[np.int64], groups: NDArray[Any], seed: int
) -> Probabilities:
    """Probabilities of rows that the calibration has not seen."""
    columns = np.zeros((3, len(y)))
    for train, test in splits(y, groups, seed + 1):
        found = Calibration.fit(scores[train], y[train])(scores[test])
        columns[:, test] = found.p, found.low, found.high
    return Probabilities(*columns)


def _quality(
    found: Probabilities, y: NDArray[Any], groups: NDArray[Any], seed: int, prefix: str = ""
) -> Results:
    n = len(y)
    return [
        _row(f"{prefix}auc", auc_interval(found.p, y, groups, seed)),
        result(f"{prefix}f1", f1(found.p > 0.5, y), "at one half", n=n),
        result(f"{prefix}ece", expected_error(found.p, y), "share", n=n),
        _row(f"{prefix}interval_coverage", intervals_that_cover(found, y), "share of groups"),
        result(f"{prefix}interval_width", float((found.high - found.low).mean()), "share", n=n),
    ]


def _row(metric: str, found: Estimate, unit: str = "area", peer: str | None = None) -> Any:
    return result(metric, found.value, unit, peer=peer, low=found.low, high=found.high, n=found.n)


def _speed(quick: bool, seed: int) -> Results:
    """CPU per event of features and estimate, alone and beside the outcomes of the same events."""
    from detectors.outcomes import interaction_reasons
    from ingest import codec
    from ingest.simulate import Simulation, SimulationConfig

    config = SimulationConfig(
        start_ns=10**18, duration_s=3600 if quick else 10_800, rate=6.0, seed=seed
    )
    played = list(Simulation(config).events())
    value = codec.encode(played)
    events, estimator = frame(played), Estimator.load()
    traffic = Traffic(events)
    interaction_reasons(traffic)
    steps: tuple[tuple[str, str | None, Callable[[], object]], ...] = (
        ("cpu_us_per_event", "decoding", lambda: codec.decode([value], [2 * 10**18])),
        ("cpu_us_per_event", None, lambda: estimator.predict(features(turns(Traffic(events))))),
        (
            "cpu_us_per_event_beside_outcomes",
            None,
            lambda: estimator.predict(features(turns(traffic))),
        ),
    )
    results = []
    for metric, peer, step in steps:
        began = time.process_time()
        step()
        took = (time.process_time() - began) / len(events) * 1e6
        results.append(result(metric, took, "us", peer=peer, n=len(events)))
    return results
