"""How well failures are grouped: planted modes, human labels, identity over a month, speed."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score, v_measure_score

from detectors.clusters import FailureClusters
from detectors.features import Failure, FailureFeatures, masked_text
from infra.bench import planted
from infra.bench.isolated import run_peer
from infra.bench.pairs import data_folder
from infra.bench.report import report, result

Say = Callable[[str], None]
Labels = NDArray[np.int64]

_PACKAGES: Final = ("driftline", "numpy", "scipy", "scikit-learn")


def run(quick: bool, seed: int, out: Path, say: Say = lambda line: None) -> dict[str, Any]:
    """Measure the clusters beside their peers.

    Parameters
    ----------
    quick
        Fewer failures, days and repetitions: the same figures with wider intervals.
    seed
        Of the data and of every method.
    out
        Folder for plots; unused here.
    say
        Takes one line of progress.
    """
    results: list[dict[str, Any]] = []
    for part in (_planted, _new_modes, _month, _human_labels, _speed):
        say(part.__doc__ or "")
        results += part(quick, seed)
    return report("clusters", seed, _PACKAGES, results)


def _planted(quick: bool, seed: int) -> list[dict[str, Any]]:
    """Forty planted modes as a stream, refit four times (twice when quick)."""
    slow = () if quick else ("river", "bertopic")  # a minute each: left out when quick
    runs = [
        _one_stream(seed + i, 2000 if quick else 4000, ("drain3", *slow))
        for i in range(2 if quick else 3)
    ]
    units = {"cluster_ratio": "found/true", "wrong_merge": "share of pairs"}
    results = []
    for who, metric in runs[0]:
        values = [found[who, metric] for found in runs]
        spread = (min(values), max(values))
        results.append(
            result(
                metric, float(np.mean(values)), units.get(metric, "1"), peer=who or None,
                low=spread[0], high=spread[1], n=len(values),
            )
        )  # fmt: skip
    return results


def _one_stream(seed: int, n: int, envs: Sequence[str] = ()) -> dict[tuple[str, str], float]:
    data = planted.stream(n, seed)
    clusters, arrived = FailureClusters(seed=seed), list[str]()
    quarter = n // (2 if n < 4000 else 4)
    for at in range(0, n, quarter):
        arrived += clusters.assign_many(data.failures[at : at + quarter])
        clusters.refit(data.failures[: at + quarter])
    final = [clusters.lookup(f) for f in data.failures]
    scores: dict[tuple[str, str], float] = {}
    _score(scores, "", data.truth, _alone(final))
    scores["", "ari_on_arrival"] = float(adjusted_rand_score(data.truth, _alone(arrived)))
    texts = [masked_text(f) for f in data.failures]
    vectors = TfidfVectorizer().fit_transform(texts)
    mine = FailureFeatures(seed=seed)
    features = mine.fit(data.failures).transform(data.failures)
    dense = HDBSCAN(min_cluster_size=8, cluster_selection_method="leaf", copy=True)
    dense_labels = [str(x) if x >= 0 else "" for x in dense.fit_predict(features)]
    rng = np.random.default_rng(seed)
    peers: dict[str, Sequence[Any]] = {
        "fingerprint": [f.fingerprint for f in data.failures],
        "tfidf_kmeans_true_k": KMeans(40, n_init=2, random_state=seed)
        .fit_predict(vectors)
        .tolist(),
        "hdbscan_leaf_noise_alone": _alone(dense_labels),
        "random": rng.integers(40, size=n).tolist(),
    }
    request = {"texts": texts, "messages": [f.message for f in data.failures], "seed": seed}
    for env in envs:
        answer = run_peer(env, "cluster_peers", request)
        peers.update({k: _alone([str(x) for x in v]) for k, v in (answer or {}).items()})
    for who, labels in peers.items():
        _score(scores, who, data.truth, list(labels))
    return scores


def _score(
    scores: dict[tuple[str, str], float], who: str, truth: Labels, labels: Sequence[Any]
) -> None:
    found = Counter(labels)
    scores[who, "ari"] = float(adjusted_rand_score(truth, labels))
    scores[who, "v_measure"] = float(v_measure_score(truth, labels))
    several = sum(1 for size in found.values() if size > 1)
    planted_modes = sum(1 for t, size in Counter(truth.tolist()).items() if size > 1)
    scores[who, "cluster_ratio"] = several / planted_modes
    together = sum(size * (size - 1) / 2 for size in found.values())
    cells = Counter(zip(truth.tolist(), labels, strict=True))
    right = sum(size * (size - 1) / 2 for size in cells.values())
    scores[who, "wrong_merge"] = 1 - right / together if together else 0.0


def _alone(labels: Sequence[str]) -> list[str]:
    """Give every unclustered failure a cluster of its own."""
    return [label if label not in ("", "-1") else f"alone {i}" for i, label in enumerate(labels)]


def _new_modes(quick: bool, seed: int) -> list[dict[str, Any]]:
    """At which of its failures does a mode never seen before become a cluster."""
    waits, into_old = [], []
    births: list[bool] = []
    for new in range(0, 40, 20 if quick else 3):
        rest = [m for m in range(40) if m != new]
        clusters = FailureClusters(seed=seed)
        history = planted.stream(1500 if quick else 3000, seed + 100 + new, chosen=rest).failures
        clusters.assign_many(history)
        clusters.refit(history)
        known = set(clusters.clusters)
        background = planted.stream(1000, seed + 200 + new, chosen=rest)
        fresh = planted.stream(12, seed + 300 + new, chosen=[new], singletons=0).failures
        at = np.sort(np.random.default_rng(seed + new).choice(1000, 12, replace=False)).tolist()
        labels: list[str] = []
        truths: dict[str, list[int]] = {}
        for i, failure in enumerate(background.failures):
            label = clusters.assign(failure)
            truths.setdefault(label, []).append(int(background.truth[i]))
            if i in at:
                labels.append(clusters.assign(fresh[at.index(i)]))
        waits.append(next((i + 1 for i, x in enumerate(labels) if x and x not in known), 13))
        into_old.append(np.mean([label in known for label in labels]))
        births += [
            bool(np.mean([t >= 1000 for t in truths[name]]) > 0.5)
            for name in set(clusters.clusters) - known
            if name in truths
        ]
    return [
        result("new_mode_members_p50", float(np.median(waits)), "failures", n=len(waits)),
        result("new_mode_members_p90", float(np.quantile(waits, 0.9)), "failures", n=len(waits)),
        result("new_mode_into_old", float(np.mean(into_old)), "share", n=12 * len(waits)),
        result("births_of_noise", float(np.mean(births or [False])), "share", n=len(births)),
    ]


def _month(quick: bool, seed: int) -> list[dict[str, Any]]:
    """Which modes keep their id over daily refits, three restarts, wording that drifts."""
    days, per_day, window = (4, 250, 4) if quick else (30, 400, 10)
    clusters = FailureClusters(seed=seed)
    history: list[planted.Planted] = []
    before: dict[int, str] = {}
    kept: list[bool] = []
    first: dict[int, str] = {}
    for day in range(1 - window, days):  # the window is full when the month begins
        drift = max(day, 0) / (days - 1)
        data = planted.stream(per_day, 1000 * seed + day + window, drift=drift)
        clusters.assign_many(data.failures)
        history = [*history, data][-window:]
        failures = [f for part in history for f in part.failures]
        clusters.refit(failures)
        if day in (days // 4, days // 2, 3 * days // 4):
            clusters = FailureClusters.restore(json.loads(json.dumps(clusters.snapshot())))
        if day < 0:
            continue
        truth = np.concatenate([part.truth for part in history])
        now = _homes(truth, [clusters.lookup(f) for f in failures])
        kept += [now[m] == clusters.current(before[m]) for m in now if m in before]
        for mode, name in now.items():
            first.setdefault(mode, name)
        before = now
    month_kept = [clusters.current(first[m]) == name for m, name in before.items()]
    return [
        result("id_kept", float(np.mean(kept)), "share of refits", n=len(kept)),
        result("id_kept_whole_month", float(np.mean(month_kept)), "share", n=len(month_kept)),
    ]


def _homes(truth: Labels, labels: Sequence[str]) -> dict[int, str]:
    """Main cluster of every mode that has one of ten members at least."""
    homes = {}
    for mode in range(40):
        inside = Counter(
            x for x, t in zip(labels, truth.tolist(), strict=True) if t == mode and x
        ).most_common(1)
        if inside and inside[0][1] >= 10:
            homes[mode] = inside[0][0]
    return homes


def _human_labels(quick: bool, seed: int) -> list[dict[str, Any]]:
    """The 29 failed AgentRx runs with human root causes, from the runs themselves."""
    runs = _agentrx()
    if runs is None:
        return []
    failures, truth, texts = runs
    clusters = FailureClusters(min_cluster_size=3, min_samples=1, min_new=3, seed=seed)
    clusters.assign_many(failures)
    clusters.refit(failures)
    mine = np.unique(_alone([clusters.lookup(f) for f in failures]), return_inverse=True)[1]
    vectors = TfidfVectorizer(stop_words="english").fit_transform(texts)
    kmeans = KMeans(7, n_init=10, random_state=seed).fit_predict(vectors)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(7, size=len(truth)) for _ in range(200)]
    results = []
    for metric, score in (
        ("agentrx_ari", adjusted_rand_score),
        ("agentrx_purity", _purity),
        ("agentrx_v_measure", v_measure_score),
    ):
        for peer, labels in ((None, mine), ("tfidf_kmeans_true_k", kmeans)):
            low, high = _bootstrap(score, truth, labels, rng, 200 if quick else 2000)
            value = float(score(truth, labels))
            results.append(result(metric, value, "1", peer=peer, low=low, high=high, n=len(truth)))
        chance = float(np.mean([score(truth, d) for d in draws]))
        results.append(result(metric, chance, "1", peer="random", n=len(truth)))
    return results


def _agentrx() -> tuple[list[Failure], Labels, list[str]] | None:
    folder = data_folder()
    labels = folder / "agentrx_tau_retail_failure_labels.jsonl.gz"
    runs = folder / "agentrx_tau_retail_trajectories.jsonl.gz"
    if not (labels.exists() and runs.exists()):
        return None
    by_id = {str(row["task_id"]): row for row in _lines(runs)}
    failures, truth, texts = [], [], []
    for row in _lines(labels):
        run = by_id[str(row["trajectory_id"])]
        failure, text = agentrx_failure(run)
        failures.append(failure)
        texts.append(text)
        truth.append(root_cause(row))
    return failures, np.unique(truth, return_inverse=True)[1].astype(np.int64), texts


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row.get("record", row) for row in rows]


def root_cause(row: dict[str, Any]) -> str:
    """Category of the failure that the label calls the root cause."""
    cause = row["root_cause"]
    wanted = cause.get("failure_id") if isinstance(cause, dict) else cause
    for failure in row["failures"]:
        if failure.get("failure_id") == wanted:
            return str(failure["failure_category"])
    return str(row["failures"][0]["failure_category"])


def agentrx_failure(run: dict[str, Any]) -> tuple[Failure, str]:
    """A run as a failure: its last writing call, its errors, its path, what was said last."""
    messages = run["traj"]
    calls = [call["function"] for m in messages for call in (m.get("tool_calls") or [])]
    errors = [
        str(m["content"])
        for m in messages
        if m["role"] == "tool" and "error" in str(m["content"])[:20].lower()
    ]
    said = [str(m["content"]) for m in messages if m["role"] == "user" and m.get("content")]
    path = tuple(call["name"] for call in calls)
    text = " ".join(str(m.get("content") or "") for m in messages if m["role"] != "system")
    return (
        Failure(
            reason="task_failed",
            tool=path[-1] if path else "",
            message=errors[-1] if errors else "",
            path=path,
            text=" ".join(said)[-1500:],
        ),
        text,
    )


def _purity(truth: Labels, labels: Labels) -> float:
    cells = Counter(zip(labels.tolist(), truth.tolist(), strict=True))
    best: dict[int, int] = {}
    for (label, _), size in cells.items():
        best[label] = max(best.get(label, 0), size)
    return sum(best.values()) / len(truth)


def _bootstrap(
    score: Callable[..., float], truth: Labels, labels: Labels, rng: np.random.Generator, runs: int
) -> tuple[float, float]:
    picks = [rng.integers(len(truth), size=len(truth)) for _ in range(runs)]
    low, high = np.quantile([score(truth[p], labels[p]) for p in picks], [0.025, 0.975])
    return float(low), float(high)


def _speed(quick: bool, seed: int) -> list[dict[str, Any]]:
    """Assignments per second and core, and the refit of a large window."""
    clusters = FailureClusters(seed=seed)
    history = planted.stream(1500 if quick else 3000, seed).failures
    clusters.assign_many(history)
    clusters.refit(history)
    placed = [f for f in history if clusters.lookup(f)]
    rng = np.random.default_rng(seed)
    unseen = planted.stream(1000, seed + 1).failures
    mixed = [
        placed[rng.integers(len(placed))] if rng.random() < 0.95 else unseen[i % len(unseen)]
        for i in range(4_000 if quick else 10_000)
    ]
    begin = time.process_time()
    clusters.assign_many(mixed)
    fast = len(mixed) / (time.process_time() - begin)
    scored = planted.stream(1000 if quick else 4000, seed + 2).failures
    begin = time.process_time()
    clusters.assign_many(scored)
    slow = len(scored) / (time.process_time() - begin)
    size = 2_000 if quick else 50_000
    window = planted.stream(size, seed + 3).failures
    begin = time.process_time()
    FailureClusters(seed=seed).refit(window)
    took = time.process_time() - begin
    return [
        result("assign_known_95", fast, "failures/s", n=len(mixed)),
        result("assign_all_scored", slow, "failures/s", n=len(scored)),
        result("refit", took, "CPU-s", n=size),
    ]
