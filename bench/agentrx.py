"""Clusters against human root causes: the 29 failed AgentRx runs of tau-retail.

The figures of driftline come from the runs themselves. Purity and V reward small clusters, so they
are read beside the ARI. Intervals are bootstrapped over runs; a run drawn twice agrees with itself,
which lifts the ARI, so the 95 % quantile of the same labels in shuffled order stands beside it.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score, silhouette_score, v_measure_score
from sklearn.preprocessing import StandardScaler, normalize

from bench.pairs import data_folder
from bench.report import result
from detectors.failures.clusters import FailureClusters
from detectors.failures.features import Failure
from detectors.failures.fingerprint import template

Labels = NDArray[np.int64]
Run = dict[str, Any]

_WRITES: Final = ("modify", "return", "exchange", "cancel", "transfer")


def measure(quick: bool, seed: int) -> list[dict[str, Any]]:
    """The 29 failed AgentRx runs with human root causes, from the runs themselves."""
    labelled = labelled_runs()
    if labelled is None:
        return []
    runs, truth = labelled
    texts = [" ".join(_said(run, "user", "assistant", "tool")) for run in runs]
    vectors = TfidfVectorizer(stop_words="english").fit_transform(texts)
    rng = np.random.default_rng(seed)
    reshuffled = 100 if quick else 1000
    found: dict[str | None, Labels] = {
        None: _clustered([failure(run) for run in runs], seed),
        "behaviour_ward": _by_behaviour(runs),
        "tfidf_kmeans_true_k": KMeans(7, n_init=10, random_state=seed).fit_predict(vectors),
    }
    results = []
    for metric, score in (
        ("agentrx_ari", adjusted_rand_score),
        ("agentrx_purity", purity),
        ("agentrx_v_measure", v_measure_score),
    ):
        for peer, labels in found.items():
            low, high = _bootstrap(score, truth, labels, rng, 100 if quick else 1000)
            value = float(score(truth, labels))
            results.append(result(metric, value, "1", peer=peer, low=low, high=high, n=len(truth)))
        draws = [score(truth, rng.integers(7, size=len(truth))) for _ in range(100)]
        results.append(result(metric, float(np.mean(draws)), "1", peer="random", n=len(truth)))
    for peer, labels in found.items():
        shuffled = [adjusted_rand_score(truth, rng.permutation(labels)) for _ in range(reshuffled)]
        chance = float(np.quantile(shuffled, 0.95))
        results.append(result("agentrx_ari_shuffled_p95", chance, "1", peer=peer, n=reshuffled))
    return results


def labelled_runs() -> tuple[list[Run], Labels] | None:
    """Failed runs and the number of their root cause; None without the data."""
    labels = data_folder() / "agentrx_tau_retail_failure_labels.jsonl.gz"
    runs = data_folder() / "agentrx_tau_retail_trajectories.jsonl.gz"
    if not (labels.exists() and runs.exists()):
        return None
    by_id = {str(row["task_id"]): row for row in _lines(runs)}
    rows = list(_lines(labels))
    causes = np.unique([root_cause(row) for row in rows], return_inverse=True)[1]
    return [by_id[str(row["trajectory_id"])] for row in rows], causes.astype(np.int64)


def root_cause(row: dict[str, Any]) -> str:
    """Category of the failure that the label calls the root cause."""
    cause = row["root_cause"]
    wanted = cause.get("failure_id") if isinstance(cause, dict) else cause
    for labelled in row["failures"]:
        if labelled.get("failure_id") == wanted:
            return str(labelled["failure_category"])
    return str(row["failures"][0]["failure_category"])


def failure(run: Run) -> Failure:
    """A run as a failure: its last call and error, its path, what the user said last."""
    path = tuple(call["name"] for call in _calls(run))
    errors = _errors(run)
    return Failure(
        reason="task_failed",
        tool=path[-1] if path else "",
        message=errors[-1] if errors else "",
        path=path,
        text=" ".join(_said(run, "user"))[-1500:],
    )


def purity(truth: Labels, labels: Labels) -> float:
    """Share of the members that have their cluster's most frequent cause."""
    cells = Counter(zip(labels.tolist(), truth.tolist(), strict=True))
    best: dict[int, int] = {}
    for (label, _), size in cells.items():
        best[label] = max(best.get(label, 0), size)
    return sum(best.values()) / len(truth)


def _clustered(failures: Sequence[Failure], seed: int) -> Labels:
    clusters = FailureClusters(min_cluster_size=3, min_samples=1, min_new=3, seed=seed)
    clusters.assign_many(failures)
    clusters.refit(failures)
    names = [clusters.lookup(f) or f"alone {i}" for i, f in enumerate(failures)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _by_behaviour(runs: Sequence[Run]) -> Labels:
    """Ward's clusters of what the agents did, words left out; their number by the silhouette."""
    steps = TfidfVectorizer(analyzer=_steps, sublinear_tf=True).fit_transform(runs)
    amounts = StandardScaler().fit_transform(np.log1p([_amounts(run) for run in runs]))
    vectors = np.hstack([steps.toarray(), normalize(amounts)])
    cuts = [AgglomerativeClustering(k).fit_predict(vectors) for k in range(3, 11)]
    best: Labels = max(cuts, key=lambda labels: float(silhouette_score(vectors, labels)))
    return best


def _steps(run: Run) -> list[str]:
    """Transitions between tools, error templates, shapes of the arguments of writing calls."""
    calls = _calls(run)
    writes = [call for call in calls if call["name"].startswith(_WRITES)]
    path = ["start", *(call["name"] for call in calls), "end"]
    return [
        *(f"{a}>{b}" for a, b in pairwise(path)),
        *(f"error={template(error)}" for error in _errors(run)),
        *(f"write={call['name']}" for call in writes),
        *(f"{c['name']}({','.join(sorted(json.loads(c['arguments'])))})" for c in writes),
    ]


def _amounts(run: Run) -> list[float]:
    calls, errors = _calls(run), _errors(run)
    user, agent = _said(run, "user"), _said(run, "assistant")
    writes = [call["name"] for call in calls if call["name"].startswith(_WRITES)]
    return [
        float(len(calls)),
        float(len(errors)),
        len(errors) / max(len(calls), 1),
        float(len(user)),
        float(len(agent)),
        float(len(writes)),
        float(len(set(writes))),
        float("transfer_to_human_agents" in writes),
        float(np.mean([len(text) for text in agent] or [0])),
        float(np.mean([len(text) for text in user] or [0])),
        sum("yes" in text.lower() for text in user) / max(len(user), 1),  # confirmations
    ]


def _calls(run: Run) -> list[dict[str, Any]]:
    return [call["function"] for m in run["traj"] for call in (m.get("tool_calls") or [])]


def _errors(run: Run) -> list[str]:
    return [text for text in _said(run, "tool") if "error" in text[:20].lower()]


def _said(run: Run, *roles: str) -> list[str]:
    return [str(m["content"]) for m in run["traj"] if m["role"] in roles and m.get("content")]


def _bootstrap(
    score: Callable[..., float], truth: Labels, labels: Labels, rng: np.random.Generator, runs: int
) -> tuple[float, float]:
    picks = [rng.integers(len(truth), size=len(truth)) for _ in range(runs)]
    low, high = np.quantile([score(truth[p], labels[p]) for p in picks], [0.025, 0.975])
    return float(low), float(high)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row.get("record", row)
