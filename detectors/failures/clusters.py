"""Failure clusters with an identity: online assignment, periodic refit, ids that last.

1. A failure whose key (fingerprint, masked text, path) was seen before goes where it went then.
2. Any other is scored against the clusters' term profiles; below the calibrated similarity it is
   *unclustered* and waits in a pool. When a waiting failure and at least ``min_new - 1`` others
   resemble each other, they become a cluster at once.
3. Now and then `FailureClusters.refit` looks at a window as a whole (`regroup`), and the
   result is matched to the known clusters by their common members (`lineage`). The
   largest overlap inherits the id; splits, merges, births are written into the lineage. Clusters
   absent from the window stay known.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import ClassVar, Final, Self

from detectors.base import Snapshot
from detectors.failures.cluster_summary import Cluster, describe
from detectors.failures.features import Embedder, Failure, FailureFeatures
from detectors.failures.lineage import Transition, absorb, match
from detectors.failures.regroup import Window, dense_cores, grouped, regroup
from detectors.failures.terms import Profiles, Rarity, Terms, Usage, said_alike, terms_of
from detectors.failures.unassigned import Pool

UNCLUSTERED: Final = ""
_KEYS: Final = 200_000
_FEW: Final = 5  # members too few to judge by
_MEMORY: Final = 0.3  # weight of what a cluster was before, against the window of a refit


class FailureClusters:
    """Clusters failures as they come and keeps their identity.

    Parameters
    ----------
    min_cluster_size, min_samples
        Of HDBSCAN at a refit.
    min_new
        Failures that resemble each other before they become a cluster between refits.
    join
        Affinity at which two pieces of a window are one cluster, see `terms.affinity`.
    similar
        Similarity at which waiting failures resemble each other.
    n_components, embed
        Of the vectors, see `detectors.failures.features.FailureFeatures`.
    seed
        Of every random choice; the same failures in the same order give the same ids.

    same_tool
        Whether an error message joins only clusters of the tool it came from whose typical message
        has a third of its words. Merging two kinds is worse than keeping them apart.

    Attributes
    ----------
    clusters : dict of str to Cluster
        What is known, by id.
    lineage : list of Transition
        What became of the clusters at every refit, oldest first.
    aliases : dict of str to str
        Ids that were merged away, and where to.

    Examples
    --------
    >>> clusters = FailureClusters(min_new=3)
    >>> said = ["paid to the old card", "refund went to the old card", "old card got the refund"]
    >>> [clusters.assign(Failure(tool="refund", text=text)) for text in said]
    ['', '', 'b9f4760b6b04']
    """

    _params: ClassVar = (
        "min_cluster_size",
        "min_samples",
        "min_new",
        "join",
        "similar",
        "n_components",
        "seed",
        "same_tool",
    )

    def __init__(
        self,
        min_cluster_size: int = 10,
        min_samples: int = 5,
        min_new: int = 4,
        join: float = 0.38,
        similar: float = 0.25,
        n_components: int = 256,
        embed: Embedder | None = None,
        seed: int = 0,
        same_tool: bool = False,
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.min_new = min_new
        self.join = join
        self.similar = similar
        self.n_components = n_components
        self.embed = embed
        self.seed = seed
        self.same_tool = same_tool
        self.clusters: dict[str, Cluster] = {}
        self.lineage: list[Transition] = []
        self.aliases: dict[str, str] = {}
        self._usages: dict[str, Usage] = {}
        self._weighed = 0  # usages by which the profiles weigh terms; the rest came later
        self._profiles = Profiles({})
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
            known = self._near(failure, terms) or self._found(key, failure, terms)
            if known != UNCLUSTERED:
                self._remember(key, known)
        if known != UNCLUSTERED:
            self.clusters[known].size += 1
        return known

    def establish(self, failure: Failure, repeats: int = 1) -> str:
        """Found a cluster of a failure that repeats exactly; returns its id.

        The id is a hash of the failure alone, whatever came before it. A failure that belongs to a
        cluster already stays there.
        """
        key = failure.key
        known = self._placed(failure, terms_of(failure))
        if known != UNCLUSTERED:
            return known
        text = f"{self.seed}:{key}".encode()
        name = hashlib.blake2b(text, digest_size=6).hexdigest()
        self._pool.pop(key)
        self._usages[name] = Usage.of([terms_of(failure)])
        self._profiles.add(name, self._usages[name])
        self.clusters[name] = Cluster(name, self._profiles.label(name), repeats, failure)
        self._remember(key, name)
        self.lineage.append(Transition("born", name))
        return name

    def assign_many(self, failures: Iterable[Failure]) -> list[str]:
        """Cluster ids of failures in the order they happened."""
        return [self.assign(failure) for failure in failures]

    def lookup(self, failure: Failure) -> str:
        """Cluster id of a failure without counting it or founding anything."""
        return self._placed(failure, terms_of(failure))

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
        repeats = Counter(failure.key for failure in window)
        distinct = {failure.key: failure for failure in reversed(window)}
        keys = list(repeats)
        if len(keys) <= self.min_cluster_size:
            return []
        terms = [terms_of(distinct[key]) for key in keys]
        before = [self._placed(distinct[key], of) for key, of in zip(keys, terms, strict=True)]
        cores = dense_cores(
            [distinct[key] for key in keys],
            FailureFeatures(self.n_components, embed=self.embed, seed=self.seed),
            self.min_cluster_size,
            self.min_samples,
            self.seed,
        )
        few = min(_FEW, self.min_cluster_size)
        groups, self._limit = regroup(
            Window(terms, before, self._usages, few), cores, self.join, self._limit
        )
        weights = [repeats[key] for key in keys]
        names, transitions = match(
            before, groups, weights, lambda group: self._new_id(keys[groups.index(group)]), few
        )
        members = grouped(range(len(keys)), groups)
        members.pop(-1, None)
        for group, inside in members.items():
            name = names[group]
            usage = Usage.of(terms[i] for i in inside)
            self._usages[name] = usage.plus(self._usages.get(name, Usage()), _MEMORY)
            if name not in self.clusters:
                self.clusters[name] = Cluster(name, size=sum(weights[i] for i in inside))
        self._follow(transitions)
        self._weighed = len(self._usages)
        self._profiles = Profiles(self._usages)
        self._known = {}
        for group, inside in members.items():
            described = {keys[i]: distinct[keys[i]] for i in inside}
            describe(
                self.clusters[names[group]],
                described,
                {keys[i]: terms[i] for i in inside},
                self._profiles,
            )
            for key in described:
                self._remember(key, names[group])
                self._pool.pop(key)
        return transitions

    def _follow(self, transitions: Sequence[Transition]) -> None:
        """Write down what became of the clusters; merged ones end, their ids stay aliases."""
        for step in transitions:
            cluster = self.clusters[step.cluster]
            if step.what == "split":
                cluster.parents.append(step.source)
            elif step.what == "merged":
                cluster.size += self.clusters.pop(step.source).size
                cluster.parents.append(step.source)
                del self._usages[step.source]
                absorb(self.aliases, step.source, step.cluster)
        self.lineage += transitions

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
        self._usages[name] = Usage.of([terms, *(terms_of(f) for f in founders)])
        self._profiles.add(name, self._usages[name])
        self.clusters[name] = Cluster(
            name, self._profiles.label(name), len(founders), failure, founders[:3]
        )
        for other in alike:
            self._remember(other, name)
        self.lineage.append(Transition("born", name))
        return name

    def _placed(self, failure: Failure, terms: Terms) -> str:
        return self._known.get(failure.key) or self._near(failure, terms)

    def _near(self, failure: Failure, terms: Terms) -> str:
        """The cluster that a failure resembles enough to join."""
        best, similarity = self._profiles.best(terms)
        if similarity < self._limit:
            return UNCLUSTERED
        typical = self.clusters[best].medoid
        if self.same_tool and failure.message and typical is not None:
            alike = typical.tool == failure.tool and said_alike(failure.message, typical.message)
            return best if alike else UNCLUSTERED
        return best

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
            "version": 2,
            "params": {name: getattr(self, name) for name in self._params},
            "clusters": [asdict(cluster) for cluster in self.clusters.values()],
            "lineage": [asdict(step) for step in self.lineage],
            "aliases": dict(self.aliases),
            "usages": {name: asdict(usage) for name, usage in self._usages.items()},
            "weighed": self._weighed,
            "limit": self._limit,
            "known": dict(self._known),
            "pool": self._pool.snapshot(),
            "seen": self._seen.snapshot(),
            "births": self._births,
        }

    @classmethod
    def restore(cls, snapshot: Snapshot, embed: Embedder | None = None) -> Self:
        """Build the clusters of a snapshot again; ValueError if it is of another kind."""
        if (snapshot.get("detector"), snapshot.get("version")) != ("FailureClusters", 2):
            raise ValueError("not a snapshot of FailureClusters, version 2")
        restored = cls(**snapshot["params"], embed=embed)
        restored.clusters = {raw["id"]: Cluster.restore(raw) for raw in snapshot["clusters"]}
        restored.lineage = [Transition(**step) for step in snapshot["lineage"]]
        restored.aliases = dict(snapshot["aliases"])
        restored._usages = {name: Usage(**raw) for name, raw in snapshot["usages"].items()}
        usages = list(restored._usages.items())
        restored._weighed = snapshot.get("weighed", len(usages))
        restored._profiles = Profiles(dict(usages[: restored._weighed]))
        for name, usage in usages[restored._weighed :]:
            restored._profiles.add(name, usage)
        restored._limit = snapshot["limit"]
        restored._known = dict(snapshot["known"])
        restored._pool = Pool.restore(snapshot["pool"])
        restored._seen = Rarity(**snapshot["seen"])
        restored._births = snapshot["births"]
        return restored
