"""Verdicts on real pairs of versions: tau2-bench runs of one model before and after fine-tuning."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.report import result
from detectors.compare.verdicts import compare_means, compare_paired

_FILES: Final = ("retail", "telecom", "telecom_solo")


def data_folder() -> Path:
    """Folder of the test data: ``DRIFTLINE_DATA``, by default ``../shared/data``."""
    return Path(os.environ.get("DRIFTLINE_DATA", Path(__file__).parents[1] / "../shared/data"))


def versions(domain: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Runs of the base model and of the fine-tuned one by task id; None without the data."""
    file = data_folder() / f"tau2_{domain}_gpt41_vs_sft_simulations.jsonl.gz"
    if not file.exists():
        return None
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            run = row.get("record", row)
            tuned = Path(row["_source"]["path"]).name.startswith("ft:")
            (new if tuned else old)[str(run["task_id"])] = run
    return old, new


def measure(seed: int) -> list[dict[str, Any]]:
    """Success and latency of the pairs, matched by task, and shuffles within one version.

    Each of ``pairs.DOMAIN.METRIC`` is the mean difference per task, new minus old, with its
    confidence sequence; latency is the logarithm of the ratio. The interval excludes 0 when the
    versions differ.
    """
    results = []
    for domain in _FILES:
        pair = versions(domain)
        if pair is None:
            continue
        old, new = pair
        tasks = sorted(old.keys() & new.keys())
        for metric, value in (("success", _success), ("log_latency", _latency)):
            difference = [value(new[t]) - value(old[t]) for t in tasks]
            verdict = compare_paired(difference, margin=0.02, tuned_for=40)
            results.append(
                result(
                    f"pairs.{domain}.{metric}", verdict.difference, "difference",
                    low=verdict.low, high=verdict.high, n=len(tasks),
                )
            )  # fmt: skip
            alerts = _shuffled([value(run) for run in old.values()], seed)
            name = f"pairs.{domain}.{metric}.shuffled_differ"
            results.append(result(name, alerts, "share", n=200))
    return results


def _shuffled(values: list[float], seed: int, runs: int = 200) -> float:
    """How often two random halves of one version are called different."""
    rng = np.random.default_rng(seed)
    half = len(values) // 2
    wrong = 0
    for _ in range(runs):
        mixed = rng.permutation(np.array(values))
        parts = [(len(x), x.sum(), (x**2).sum()) for x in (mixed[:half], mixed[half:])]
        verdict = compare_means(parts[0], parts[1], margin=0.0, tuned_for=40)
        wrong += verdict.answer in ("better", "worse")
    return wrong / runs


def _success(run: dict[str, Any]) -> float:
    return float((run.get("reward_info") or {}).get("reward") == 1)


def _latency(run: dict[str, Any]) -> float:
    return float(np.log(run["duration"]))
