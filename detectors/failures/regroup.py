"""A window of failures as a whole: dense cores, pieces, and what belongs together.

HDBSCAN finds the dense cores of the vectors. Cores and the clusters known before divide the window
into pieces, and pieces that speak alike are joined. So a core that mixes two small known clusters,
which happens wherever both are near the size that HDBSCAN can see, does not mix them: only their
words can.

References
----------
R. Campello, D. Moulavi, J. Sander: Density-based clustering based on hierarchical density
estimates. PAKDD 2013.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from sklearn.cluster import HDBSCAN, AgglomerativeClustering

from detectors.base import Ints
from detectors.failures.features import Failure, FailureFeatures
from detectors.failures.terms import Profiles, Terms, Usage, affinity

_CORES: Final = 6_000  # distinct failures HDBSCAN looks at: its distance matrix is quadratic

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Window:
    """Distinct failures in the order they happened.

    Attributes
    ----------
    terms
        Of each failure.
    before
        Known cluster of each failure, '' for none.
    memory
        How the known clusters spoke so far.
    few
        Members too few to judge by: a part of a cluster does not go its own way, and a cluster is
        helped out by its memory.
    """

    terms: Sequence[Terms]
    before: Sequence[str]
    memory: Mapping[str, Usage]
    few: int


def dense_cores(
    failures: Sequence[Failure],
    features: FailureFeatures,
    min_cluster_size: int,
    min_samples: int,
    seed: int,
) -> Ints:
    """Dense cores by HDBSCAN on a fixed sample; -1 for the rest. Shape (n_failures,)."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(len(failures))[:_CORES])
    chosen = [failures[i] for i in sample]
    vectors = features.fit(chosen).transform(chosen)
    model = HDBSCAN(
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        algorithm="brute",  # in hundreds of dimensions a tree of points only costs
        copy=True,
    )
    labels = np.full(len(failures), -1, np.int64)
    labels[sample] = model.fit_predict(vectors)
    return labels


def regroup(window: Window, cores: Ints, join: float, limit: float) -> tuple[list[int], float]:
    """Join pieces that speak alike and score every failure against the result.

    Parameters
    ----------
    window
        What is to be grouped.
    cores
        Of `dense_cores`.
    join
        Affinity at which two pieces are one.
    limit
        Similarity from which a failure belonged to a cluster so far.

    Returns
    -------
    groups : list of int
        -1 for what resembles none.
    limit
        The new one: nearly all members of the joined pieces reach it.
    """
    found = _pieces(window, cores)
    for _ in range(2):  # the second round joins what the first made recognisable
        members = grouped(range(len(found)), found)
        members.pop(-1, None)
        if not members:
            return found, limit
        merged = _joined(window, members, join)
        found = [merged[piece] if piece >= 0 else -1 for piece in found]
        inside = grouped(range(len(found)), found)
        profiles = Profiles({str(c): _usage(window, m) for c, m in inside.items() if c >= 0})
        scored = [profiles.best(terms) for terms in window.terms]
        own = [s for (_, s), group in zip(scored, found, strict=True) if group >= 0]
        limit = float(np.clip(np.quantile(own, 0.02), 0.15, 0.35))
        found = [int(best) if best and s >= limit else -1 for best, s in scored]
    return found, limit


def grouped(items: Iterable[Item], labels: Sequence[int]) -> dict[int, list[Item]]:
    """Items by label, labels in order of appearance."""
    groups: dict[int, list[Item]] = {}
    for item, label in zip(items, labels, strict=True):
        groups.setdefault(label, []).append(item)
    return groups


def _pieces(window: Window, cores: Ints) -> list[int]:
    """Number every piece: what a core and a known cluster share, or a known cluster without core.

    What lies in no core follows later, by its score.
    """
    cells = list(zip(window.before, cores.tolist(), strict=True))
    sizes = Counter(cells)
    kept = {cell for cell, n in sizes.items() if cell[1] >= 0 and n >= window.few}
    cored = {before for before, _ in kept}
    names: dict[tuple[str, int], int] = {}
    found = []
    for before, core in cells:
        if (before, core) in kept:
            cell = (before, core)
        elif before and before not in cored:
            cell = (before, -1)
        else:
            found.append(-1)
            continue
        found.append(names.setdefault(cell, len(names)))
    return found


def _joined(window: Window, members: Mapping[int, list[int]], join: float) -> dict[int, int]:
    """Group of every piece: average linkage over affinities."""
    pieces = sorted(members)
    if len(pieces) < 2:
        return dict.fromkeys(pieces, 0)
    near = affinity([_usage(window, members[piece]) for piece in pieces])
    tree = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1 - join
    )
    groups = tree.fit_predict(np.clip(1 - near, 0, None))
    return dict(zip(pieces, groups.tolist(), strict=True))


def _usage(window: Window, members: Sequence[int]) -> Usage:
    """How a piece speaks; a few members of a known cluster are helped out by its memory."""
    usage = Usage.of(window.terms[i] for i in members)
    home = _most(window.before[i] for i in members)
    if len(members) < window.few and home:
        return usage.plus(
            window.memory[home], (window.few - len(members)) / window.memory[home].size
        )
    return usage


def _most(labels: Iterable[str]) -> str:
    """Most frequent label, the alphabetically first of equals."""
    counted = Counter(labels)
    return min(counted, key=lambda label: (-counted[label], label))
