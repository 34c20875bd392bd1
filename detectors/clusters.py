"""Failure clusters with an identity: online assignment, periodic refit, ids that last.

1. A failure whose key (fingerprint, masked text, path) was seen before goes where it went then.
2. Any other is scored against the clusters' term profiles; below the calibrated similarity it is
   *unclustered* and waits in a pool. When a waiting failure and at least ``min_new - 1`` others
   resemble each other, they become a cluster at once.
3. Now and then `FailureClusters.refit` looks at a window as a whole: HDBSCAN finds the dense cores
of
   the vectors, cores with similar profiles are joined, everything is scored against the profiles,
   and the result is matched to the known clusters by their common members. The largest overlap
   inherits the id; splits, merges, births are written into the lineage. Clusters absent from the
   window stay known.

References
----------
R. Campello, D. Moulavi, J. Sander: Density-based clustering based on hierarchical density
estimates. PAKDD 2013.  M. Spiliopoulou et al.: MONIC: modeling and monitoring cluster transitions.
KDD 2006.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import HDBSCAN, AgglomerativeClustering

from detectors.base import Ints, Snapshot
from detectors.features import Embedder, Failure, FailureFeatures
from detectors.pool import Pool
from detectors.terms import Profiles, Rarity, Terms, count, dot, terms_of

UNCLUSTERED: Final = ""
_CORES: Final = 6_000  # distinct failures HDBSCAN looks at: its distance matrix is quadratic
_KEYS: Final = 200_000
_MEMORY: Final = 0.3  # weight of what a cluster was before, against the window of a refit
_LOYALTY: Final = 0.05  # similarity that being known as one cluster is worth ...
_APART: Final = 0.1  # ... and that being known as two costs
_SAME: Final = 0.3  # overlap at which a cluster of a refit is a known one


@dataclass(slots=True)
class Cluster:
    """One kind of failure.

    Attributes
    ----------
    id
        Lasts as long as the cluster.
    name
        Words that set it apart.
    size
        Failures assigned since it exists.
    medoid, examples
        Its most typical failure, and others chosen to differ.
    parents
        Ids it came from by a split or took in by a merge.
    """

    id: str
    name: str = ""
    size: int = 0
    medoid: Failure | None = None
    examples: list[Failure] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Transition:
    """What became of a cluster: survived, born, split (from ``source``), merged (it took in)."""

    what: str
    cluster: str
    source: str = ""


class FailureClusters:
    """Clusters failures as they come and keeps their identity.

    Parameters
    ----------
    min_cluster_size, min_samples
        Of HDBSCAN at a refit.
    min_new
        Failures that resemble each other before they become a cluster between refits.
    join
        Similarity of profiles at which two dense cores are one cluster.
    similar
        Similarity at which waiting failures resemble each other.
    n_components, embed
        Of the vectors, see `detectors.features.FailureFeatures`.
    seed
        Of every random choice; the same failures in the same order give the same ids.

    Examples
    --------
    >>> clusters = FailureClusters(min_new=3)
    >>> said = ["paid to the old card", "refund went to the old card", "old card got the refund"]
    >>> [clusters.assign(Failure(tool="refund", text=text)) for text in said]
    ['', '', 'b9f4760b6b04']
    """

    _params = ("min_cluster_size", "min_samples", "min_new", "join", "similar", "n_components")

    def __init__(
        self,
        min_cluster_size: int = 10,
        min_samples: int = 5,
        min_new: int = 4,
        join: float = 0.25,
        similar: float = 0.25,
        n_components: int = 256,
        embed: Embedder | None = None,
        seed: int = 0,
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.min_new = min_new
        self.join = join
        self.similar = similar
        self.n_components = n_components
        self.embed = embed
        self.seed = seed
        self.clusters: dict[str, Cluster] = {}
        self.lineage: list[Transition] = []
        self.aliases: dict[str, str] = {}
        self._counts: dict[str, dict[str, float]] = {}
        self._sizes: dict[str, float] = {}
        self._profiles = Profiles({}, {})
        self._limit = 0.3
        self._known: dict[str, str] = {}
        self._pool = Pool()
        self._seen = Rarity()
        self._births = 0

    # -- one failure at a time ---------------------------------------------------------------------

    def assign(self, failure: Failure) -> str:
        """Cluster id of a failure, '' while it belongs to none. May found a cluster."""
        key = failure.key
        known = self._known.get(key)
        if known is None:
            terms = terms_of(failure)
            self._seen.add(terms)
            best, similarity = self._profiles.best(terms)
            known = best if similarity >= self._limit else self._found(key, failure, terms)
            if known != UNCLUSTERED:
                self._remember(key, known)
        if known != UNCLUSTERED:
            self.clusters[known].size += 1
        return known

    def assign_many(self, failures: Iterable[Failure]) -> list[str]:
        """Cluster ids of failures in the order they happened."""
        return [self.assign(failure) for failure in failures]

    def lookup(self, failure: Failure) -> str:
        """Cluster id of a failure without counting it or founding anything."""
        return self._placed(failure.key, terms_of(failure))

    def current(self, cluster: str) -> str:
        """Id under which a cluster goes now: its own, or that of what it was merged into."""
        return self.aliases.get(cluster, cluster)

    def novelty(self, failure: Failure) -> float:
        """How unlike everything known a failure is: 0 typical ... 1 nothing in common."""
        return 1.0 - min(self._profiles.best(terms_of(failure))[1], 1.0)

    def name(self, cluster: str) -> str:
        """Words that set a cluster apart."""
        return self._profiles.label(cluster)

    # -- a window as a whole -----------------------------------------------------------------------

    def refit(self, window: Sequence[Failure]) -> list[Transition]:
        """Cluster a window anew and carry the known identities over.

        Parameters
        ----------
        window
            Recent failures in the order they happened, e.g. of the last weeks, at most some 50,000.

        Returns
        -------
        list of Transition
            Also appended to ``lineage``.
        """
        distinct: dict[str, Failure] = {}
        for failure in window:
            distinct.setdefault(failure.key, failure)
        keys = list(distinct)
        if len(keys) <= self.min_cluster_size:
            return []
        terms = {key: terms_of(distinct[key]) for key in keys}
        repeats = Counter(failure.key for failure in window)
        labels = self._cores([distinct[key] for key in keys])
        before = {key: self._placed(key, terms[key]) for key in keys}
        fresh = self._joined(keys, terms, labels, before)
        transitions, names = self._matched(keys, repeats, before, fresh)
        self._adopt(keys, terms, repeats, fresh, names, transitions)
        self._describe(keys, distinct, terms)
        self.lineage += transitions
        return transitions

    def _cores(self, failures: Sequence[Failure]) -> Ints:
        """Dense cores by HDBSCAN on a fixed sample; -1 for the rest. Shape (n_failures,)."""
        rng = np.random.default_rng(self.seed)
        size = min(len(failures), _CORES)
        sample = np.sort(rng.permutation(len(failures))[:size])
        chosen = [failures[i] for i in sample]
        features = FailureFeatures(self.n_components, embed=self.embed, seed=self.seed)
        vectors = features.fit(chosen).transform(chosen)
        model = HDBSCAN(
            min_cluster_size=self.min_cluster_size, min_samples=self.min_samples, copy=True
        )
        labels = np.full(len(failures), -1, np.int64)
        labels[sample] = model.fit_predict(vectors)
        return labels

    def _joined(
        self,
        keys: Sequence[str],
        terms: dict[str, Terms],
        labels: Ints,
        before: dict[str, str],
    ) -> list[int]:
        """Join cores with similar profiles and score every failure; -1 for unclustered."""
        found: list[int] = labels.tolist()
        limit = self._limit
        for _ in range(2):  # the second round joins what the first made recognisable
            present = sorted({c for c in found if c >= 0})
            if not present:
                return list(found)
            members = _grouped(keys, found)
            counts = {str(c): count(terms[k] for k in members[c]) for c in present}
            sizes = {str(c): float(len(members[c])) for c in present}
            profiles = Profiles(counts, sizes)
            home = {str(c): _most(before[k] for k in members[c]) for c in present}
            group = self._groups(profiles, home)
            merged = [group[str(c)] if c >= 0 else -1 for c in found]
            members = _grouped(keys, merged)
            profiles = Profiles(
                {str(c): count(terms[k] for k in members[c]) for c in sorted(members)},
                {str(c): float(len(members[c])) for c in members},
            )
            scored = [profiles.best(terms[k]) for k in keys]
            own = [s for (_, s), c in zip(scored, merged, strict=True) if c >= 0]
            limit = float(np.clip(np.quantile(own, 0.02), 0.15, 0.35))
            found = [int(best) if best and s >= limit else -1 for best, s in scored]
        self._limit = limit
        return list(found)

    def _groups(self, profiles: Profiles, home: dict[str, str]) -> dict[str, int]:
        """Cores to join. Those of one known cluster stay together a little more readily."""
        names = list(home)
        if len(names) < 2:
            return dict.fromkeys(names, 0)

        def away(a: str, b: str) -> float:
            known = home[a] and home[b]
            loyalty = 0.0 if not known else _LOYALTY if home[a] == home[b] else -_APART
            return 1 - profiles.similarity(a, b) - loyalty

        distance = np.array([[away(a, b) for b in names] for a in names])
        np.fill_diagonal(distance, 0)
        tree = AgglomerativeClustering(
            n_clusters=None,
            metric="precomputed",
            linkage="average",
            distance_threshold=1 - self.join,
        )
        joined = tree.fit_predict(np.maximum(distance, 0))
        return {name: int(g) for name, g in zip(names, joined, strict=True)}

    def _matched(
        self,
        keys: Sequence[str],
        repeats: Counter[str],
        before: dict[str, str],
        fresh: Sequence[int],
    ) -> tuple[list[Transition], dict[int, str]]:
        """Ids for the clusters of a refit: the best one-to-one overlap with the known ones."""
        new = sorted({c for c in fresh if c >= 0})
        old = sorted({b for b in before.values() if b})
        shared = np.zeros((len(old), len(new)))
        sizes: Counter[Any] = Counter()
        for key, c in zip(keys, fresh, strict=True):
            weight = repeats[key]
            sizes[before[key]] += weight
            sizes[c] += weight
            if before[key] and c >= 0:
                shared[old.index(before[key]), new.index(c)] += weight
        overlap = np.zeros_like(shared)
        for i, o in enumerate(old):
            for j, c in enumerate(new):
                overlap[i, j] = shared[i, j] / max(min(sizes[o], sizes[c]), 1)
                # an equal share of two pieces: the larger piece is the same cluster
                overlap[i, j] *= 0.5 + 0.5 * shared[i, j] / max(
                    sizes[o] + sizes[c] - shared[i, j], 1
                )
        names: dict[int, str] = {}
        result: list[Transition] = []
        if old and new:
            for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[i, j] >= _SAME:
                    names[new[j]] = old[i]
                    result.append(Transition("survived", old[i]))
        for j, c in enumerate(new):
            if c in names:
                continue
            first = next(k for k, f in zip(keys, fresh, strict=True) if f == c)
            names[c] = self._new_id(first)
            source = old[int(shared[:, j].argmax())] if old and shared[:, j].any() else ""
            split = bool(source) and shared[:, j].max() >= 0.5 * sizes[c]
            result.append(
                Transition("split" if split else "born", names[c], source if split else "")
            )
        taken = set(names.values())
        for i, o in enumerate(old):
            if o not in taken and shared[i].any() and shared[i].max() >= 0.5 * sizes[o]:
                result.append(Transition("merged", names[new[int(shared[i].argmax())]], o))
        return result, names

    def _adopt(
        self,
        keys: Sequence[str],
        terms: dict[str, Terms],
        repeats: Counter[str],
        fresh: Sequence[int],
        names: dict[int, str],
        transitions: Sequence[Transition],
    ) -> None:
        """Take over the profiles of a refit; merged clusters end, absent ones stay as they are."""
        members = _grouped(keys, fresh)
        for c, name in names.items():
            # one memory for every cluster, so that words that went out of use fade
            old = {t: _MEMORY * n for t, n in self._counts.get(name, {}).items()}
            window = count(terms[k] for k in members[c])
            self._counts[name] = {
                t: n
                for t in sorted(old.keys() | window.keys())
                if (n := old.get(t, 0.0) + window.get(t, 0.0)) >= 0.05
            }
            self._sizes[name] = _MEMORY * self._sizes.get(name, 0.0) + len(members[c])
            if name not in self.clusters:
                self.clusters[name] = Cluster(name, size=sum(repeats[k] for k in members[c]))
        for step in transitions:
            if step.what == "merged":
                self._absorb(step.source, step.cluster)
            elif step.what == "split":
                self.clusters[step.cluster].parents.append(step.source)
        self._profiles = Profiles(self._counts, self._sizes)
        self._known = {}
        for key, c in zip(keys, fresh, strict=True):
            if c >= 0:
                self._remember(key, names[c])
                self._pool.pop(key)

    def _absorb(self, gone: str, into: str) -> None:
        """End a cluster that a refit merged into another; its id stays an alias for ever."""
        old = self.clusters.pop(gone)
        survivor = self.clusters[into]
        survivor.size += old.size
        survivor.parents.append(gone)
        del self._counts[gone], self._sizes[gone]
        self.aliases[gone] = into
        self.aliases.update({a: into for a, to in self.aliases.items() if to == gone})

    def _describe(
        self, keys: Sequence[str], distinct: dict[str, Failure], terms: dict[str, Terms]
    ) -> None:
        """Name, medoid and differing examples of every cluster in the window."""
        members = _grouped(keys, [self._known.get(key, UNCLUSTERED) for key in keys])
        for name, inside in members.items():
            if name == UNCLUSTERED:
                continue
            vectors = {key: self._profiles.weights(terms[key]) for key in inside[:200]}
            profile = self._profiles.profile[name]
            typical = sorted(vectors, key=lambda k: -dot(vectors[k], profile))
            chosen = typical[:1]
            while len(chosen) < min(4, len(vectors)):
                # farthest from what is chosen, among those that are typical enough
                rest = [k for k in typical[: max(len(typical) // 2, 4)] if k not in chosen]
                if not rest:
                    break
                chosen.append(
                    min(rest, key=lambda k: max(dot(vectors[k], vectors[c]) for c in chosen))
                )
            cluster = self.clusters[name]
            cluster.name = self._profiles.label(name)
            cluster.medoid = distinct[chosen[0]]
            cluster.examples = [distinct[key] for key in chosen[1:]]

    # -- between refits ----------------------------------------------------------------------------

    def _found(self, key: str, failure: Failure, terms: Terms) -> str:
        """Let a failure wait, or found a cluster with those that resemble it."""
        self._pool.add(key, failure, self._seen.weights(terms))
        alike = [other for other in self._pool.resembling(key, self.similar) if other != key]
        if len(alike) + 1 < self.min_new:
            return UNCLUSTERED
        self._pool.pop(key)
        founders = [f for other in alike if (f := self._pool.pop(other)) is not None]
        name = self._new_id(key)
        self._counts[name] = count([terms, *(terms_of(f) for f in founders)])
        self._sizes[name] = float(len(founders) + 1)
        self._profiles.add(name, self._counts[name], self._sizes[name])
        self.clusters[name] = Cluster(
            name, self._profiles.label(name), len(founders), failure, founders[:3]
        )
        for other in alike:
            self._remember(other, name)
        self.lineage.append(Transition("born", name))
        return name

    def _placed(self, key: str, terms: Terms) -> str:
        known = self._known.get(key)
        if known is not None:
            return known
        best, similarity = self._profiles.best(terms)
        return best if similarity >= self._limit else UNCLUSTERED

    def _remember(self, key: str, cluster: str) -> None:
        self._known[key] = cluster
        if len(self._known) > _KEYS:
            del self._known[next(iter(self._known))]

    def _new_id(self, key: str) -> str:
        self._births += 1
        text = f"{self.seed}:{self._births}:{key}".encode()
        return hashlib.blake2b(text, digest_size=6).hexdigest()

    # -- state as text -----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types."""
        return {
            "detector": "FailureClusters",
            "version": 1,
            "params": {name: getattr(self, name) for name in (*self._params, "seed")},
            "clusters": [asdict(cluster) for cluster in self.clusters.values()],
            "lineage": [asdict(step) for step in self.lineage],
            "aliases": self.aliases,
            "counts": self._counts,
            "sizes": self._sizes,
            "limit": self._limit,
            "known": self._known,
            "pool": self._pool.snapshot(),
            "seen": self._seen.snapshot(),
            "births": self._births,
        }

    @classmethod
    def restore(cls, snapshot: Snapshot, embed: Embedder | None = None) -> Self:
        """Build the clusters of a snapshot again; ValueError if it is of another kind."""
        if (snapshot.get("detector"), snapshot.get("version")) != ("FailureClusters", 1):
            raise ValueError("not a snapshot of FailureClusters, version 1")
        restored = cls(**snapshot["params"], embed=embed)
        for raw in snapshot["clusters"]:
            medoid = raw["medoid"]
            cluster = Cluster(**{**raw, "medoid": _failure(medoid) if medoid else None})
            cluster.examples = [_failure(example) for example in raw["examples"]]
            restored.clusters[cluster.id] = cluster
        restored.lineage = [Transition(**step) for step in snapshot["lineage"]]
        restored.aliases = dict(snapshot["aliases"])
        restored._counts = {k: dict(v) for k, v in snapshot["counts"].items()}
        restored._sizes = dict(snapshot["sizes"])
        restored._profiles = Profiles(restored._counts, restored._sizes)
        restored._limit = snapshot["limit"]
        restored._known = dict(snapshot["known"])
        for key, raw, weights in snapshot["pool"]:
            restored._pool.add(key, _failure(raw), weights)
        restored._seen = Rarity(**snapshot["seen"])
        restored._births = snapshot["births"]
        return restored


def _failure(raw: dict[str, Any]) -> Failure:
    return Failure(**{**raw, "path": tuple(raw["path"]), "arguments": tuple(raw["arguments"])})


def _most(labels: Iterable[str]) -> str:
    """Most frequent label, the alphabetically first of equals."""
    counted = Counter(labels)
    return min(counted, key=lambda label: (-counted[label], label))


def _grouped(keys: Sequence[str], labels: Sequence[Any]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for key, label in zip(keys, labels, strict=True):
        groups.setdefault(label, []).append(key)
    groups.pop(-1, None)
    return groups
