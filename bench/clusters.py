"""How well failures are grouped: planted modes, human labels, identity over a month, speed."""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score, v_measure_score

from bench import agentrx, planted
from bench.isolated import run_peer
from bench.report import report, result
from detectors.failures.cluster_rates import ClusterSurges
from detectors.failures.clusters import FailureClusters
from detectors.failures.features import FailureFeatures, masked_text

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
    for part in (_planted, _orders, _new_modes, _month, _surges, agentrx.measure, _speed):
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
        values = [found[who, metric] for found in runs if (who, metric) in found]
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
    dense = HDBSCAN(
        min_cluster_size=8, cluster_selection_method="leaf", algorithm="brute", copy=True
    )
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
        answer = run_peer(env, "cluster_peers", request, timeout=1800)
        peers.update({k: _alone([str(x) for x in v]) for k, v in (answer or {}).items()})
    for who, labels in peers.items():
        _score(scores, who, data.truth, list(labels))
    return scores


def _orders(quick: bool, seed: int) -> list[dict[str, Any]]:
    """How far clusters depend on the order of arrival: every pair of random orders of a stream."""
    n, orders = (800, 4) if quick else (2000, 20)
    failures = planted.stream(n, seed).failures
    labels = []
    for order in range(orders):
        turned = np.random.default_rng([seed, order]).permutation(n)
        clusters, done = FailureClusters(seed=seed), 0
        for part in np.array_split(turned, 2):
            clusters.assign_many([failures[i] for i in part])
            clusters.refit([failures[i] for i in turned[: done + part.size]])
            done += part.size
        labels.append(_alone([clusters.lookup(f) for f in failures]))
    scores = [adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]
    return [
        result(
            "order_ari", float(np.mean(scores)), "1", low=min(scores), high=max(scores),
            n=len(scores),
        )
    ]  # fmt: skip


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
    days, per_day, window = (5, 300, 5) if quick else (30, 400, 10)
    clusters = FailureClusters(seed=seed)
    history: list[planted.Planted] = []
    before: dict[int, str] = {}
    kept: list[bool] = []
    stayed: list[bool] = []
    first: dict[int, str] = {}
    for day in range(1 - window, days):  # the window is full when the month begins
        drift = max(day, 0) / 29  # as fast when quick as in a whole month
        data = planted.stream(per_day, 1000 * seed + day + window, drift=drift)
        clusters.assign_many(data.failures)
        history = [*history, data][-window:]
        failures = [f for part in history for f in part.failures]
        old = [clusters.lookup(f) for f in failures]
        clusters.refit(failures)
        if day in (days // 4, days // 2, 3 * days // 4):
            clusters = FailureClusters.restore(json.loads(json.dumps(clusters.snapshot())))
        if day < 0:
            continue
        truth = np.concatenate([part.truth for part in history])
        labels = [clusters.lookup(f) for f in failures]
        stayed += _stayed(old, labels, clusters.current)
        now = _homes(truth, labels)
        kept += [now[m] == clusters.current(before[m]) for m in now if m in before]
        for mode, name in now.items():
            first.setdefault(mode, name)
        before = now
    month_kept = [clusters.current(first[m]) == name for m, name in before.items()]
    return [
        result("id_kept", float(np.mean(kept)), "share of refits", n=len(kept)),
        result("id_kept_by_members", float(np.mean(stayed)), "share of refits", n=len(stayed)),
        result("id_kept_whole_month", float(np.mean(month_kept)), "share", n=len(month_kept)),
    ]


def _stayed(old: Sequence[str], new: Sequence[str], current: Callable[[str], str]) -> list[bool]:
    """Whether most members of each cluster of ten at least are under its id after a refit."""
    went: dict[str, Counter[str]] = {}
    for before, after in zip(old, new, strict=True):
        if before:
            went.setdefault(before, Counter())[after] += 1
    return [
        to.most_common(1)[0][0] == current(name) for name, to in went.items() if to.total() >= 10
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


def _surges(quick: bool, seed: int) -> list[dict[str, Any]]:
    """Surging and emerging clusters: false alerts against the budget of one a week, and delays."""
    rng = np.random.default_rng(seed)
    n_clusters, weeks, learn = (60, 4, 2) if quick else (200, 20, 4)
    rates = 10 ** rng.uniform(-4, -1.5, n_clusters)
    names = [f"c{i}" for i in range(n_clusters)]
    surges = ClusterSurges(1.0, 168, warm_up=learn * 168 * 450)
    alarms, ringing = 0, set[str]()
    for _ in range((learn + weeks) * 168):
        n = int(rng.integers(300, 600))
        surges.update(dict(zip(names, rng.binomial(n, rates).tolist(), strict=True)), n)
        now = {surge.cluster for surge in surges.surging}
        alarms += len(now - ringing)
        ringing = now
    low, high = (
        (stats.gamma.ppf(0.05, alarms) if alarms else 0.0),
        stats.gamma.ppf(0.95, alarms + 1),
    )
    results = [
        result("surge_false_alerts", alarms / weeks, "per week, budget 1",
               low=low / weeks, high=high / weeks, n=n_clusters * weeks)
    ]  # fmt: skip
    runs = 5 if quick else 40
    for metric, before, after in (
        ("emerging_failures", 0.0, 0.003),
        ("surge_x2_failures", 0.01, 0.02),
    ):
        needed = [_until_found(rng, before, after) for _ in range(runs)]
        for name, share in (("p50", 0.5), ("p90", 0.9)):
            value = float(np.quantile(needed, share))
            results.append(result(f"{metric}_{name}", value, "failures", n=runs))
    return results


def _until_found(rng: np.random.Generator, before: float, after: float) -> int:
    """Failures of a kind from its rise to the alarm, in ticks of 10 minutes beside 40 others."""
    others = {f"c{i}": 10 for i in range(40)}
    surges = ClusterSurges(1.0, 1_008, warm_up=100_000)
    for _ in range(200):
        mine = {"kind": int(rng.binomial(1_000, before))} if before else {}
        surges.update({**others, **mine}, 1_000)
    failures = 0
    founded = None if before else {"kind": 4}
    for _ in range(1_000):
        hits = 4 if founded else int(rng.binomial(1_000, after))
        failures += hits
        surges.update({**others, "kind": hits}, 1_000, founded)
        founded = None
        if any(surge.cluster == "kind" for surge in surges.surging):
            break
    return failures


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
    size = 1_000 if quick else 50_000
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:  # its memory is nobody else's
        took, peak = alone.submit(_refit_cost, size, seed).result()
    return [
        result("assign_known_95", fast, "failures/s", n=len(mixed)),
        result("assign_all_scored", slow, "failures/s", n=len(scored)),
        result("refit", took, "CPU-s", n=size),
        result("refit_peak_memory", peak, "GiB", n=size),
    ]


def _refit_cost(size: int, seed: int) -> tuple[float, float]:
    """CPU seconds of a refit, and the peak memory of a process that did nothing else."""
    window = planted.stream(size, seed + 3).failures
    begin = time.process_time()
    FailureClusters(seed=seed).refit(window)
    took = time.process_time() - begin
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
