"""Clusters described by the words that set them apart, and failures scored against them.

A cluster's profile is how often each term occurs in its members, weighted by how few clusters use
the term (class-based TF-IDF, the rarity squared). It needs no common vector space, so it survives
refits and restarts, adapts by adding counts, gives the cluster its name, and scores a failure in
microseconds through an inverted index.

References
----------
M. Grootendorst: BERTopic: neural topic modeling with a class-based TF-IDF procedure.
arXiv:2203.05794.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from scipy import sparse

from detectors.base import Floats
from detectors.failures.features import Failure, masked_text
from detectors.failures.fingerprint import template

_WORD: Final = re.compile(r"[^\W\d_]{2,}|<\w+>")
_SAID: Final = re.compile(r"(?<!<)\b[^\W\d_]{2,}\b(?!>)")
_USED: Final = 0.02
"""A cluster uses a term when at least this share of its members has it."""

_FORGOTTEN: Final = 0.05  # members' worth below which a fading term is dropped
_VOCABULARY: Final = 200_000
_PRIOR: Final = 50  # failures imagined before the first, so that few do not decide what is rare

Terms = frozenset[str]


def terms_of(failure: Failure) -> Terms:
    """Words of the masked text and tokens of the signature (marked by ``=``)."""
    words = _WORD.findall(masked_text(failure))
    steps = failure.path
    tokens = [
        f"reason={failure.reason}",
        f"tool={failure.tool}",
        *(f"word={w}" for w in _WORD.findall(template(failure.message).lower())),
        *(f"step={a}>{b}" for a, b in pairwise(steps)),
        *(f"argument={name}" for name in failure.arguments),
    ]
    return frozenset([*words, *tokens])


def said_alike(message: str, other: str) -> bool:
    """Whether two error messages share a third of their words; what is masked is no word.

    >>> said_alike("timed out after 30 ms", "503 unavailable, timed: 30 ms")
    False
    >>> said_alike("card 17 was declined", "the card was declined by bank 3")
    True
    """
    one, two = (set(_SAID.findall(template(text).lower())) for text in (message, other))
    return 3 * len(one & two) >= len(one | two)


@dataclass(frozen=True, slots=True)
class Usage:
    """How a group of failures speaks.

    Attributes
    ----------
    counts
        In how many members each term occurs, terms in alphabetical order.
    size
        Members. Both may be fractions where older members count less.
    """

    counts: Mapping[str, float] = field(default_factory=dict)
    size: float = 0.0

    @classmethod
    def of(cls, members: Iterable[Terms]) -> Self:
        """Count the terms of the members."""
        total: Counter[str] = Counter()
        size = 0
        for terms in members:
            total.update(terms)
            size += 1
        return cls({t: float(total[t]) for t in sorted(total)}, float(size))

    def plus(self, older: Usage, share: float = 1.0) -> Usage:
        """Both together, ``older`` counting only ``share``; words out of use fade away."""
        old = {t: share * n for t, n in older.counts.items()}
        counts = {
            t: n
            for t in sorted(old.keys() | self.counts.keys())
            if (n := old.get(t, 0.0) + self.counts.get(t, 0.0)) >= _FORGOTTEN
        }
        return Usage(counts, self.size + share * older.size)

    def shares(self) -> Iterator[tuple[str, float]]:
        """Terms in use and the share of the members that has them."""
        return ((t, n / self.size) for t, n in self.counts.items() if n >= _USED * self.size)


class Profiles:
    """Profiles of clusters and the index that scores against them.

    Parameters
    ----------
    usages
        How each cluster speaks, by its id.
    """

    def __init__(self, usages: Mapping[str, Usage]) -> None:
        used = Counter(term for usage in usages.values() for term, _ in usage.shares())
        self._clusters = max(len(usages), 1)
        self._weight = {t: self._rarity(n) for t, n in used.items()}
        self._unknown = self._rarity(0)
        self._index: dict[str, list[tuple[str, float]]] = {}
        self.profile: dict[str, dict[str, float]] = {}
        for name in sorted(usages):
            self.add(name, usages[name])

    def _rarity(self, clusters: int) -> float:
        return math.log((self._clusters + 1) / (clusters + 1)) ** 2

    def add(self, name: str, usage: Usage) -> None:
        """Enter a new cluster without weighing the terms anew."""
        weights = {t: share * self._weight.get(t, self._unknown) for t, share in usage.shares()}
        norm = math.sqrt(sum(w * w for w in weights.values())) or 1.0
        profile = {t: w / norm for t, w in weights.items() if w > 0}
        self.profile[name] = profile
        for term, weight in profile.items():
            self._index.setdefault(term, []).append((name, weight))

    def weights(self, terms: Terms) -> dict[str, float]:
        """Unit vector of a failure's terms; terms no cluster uses weigh most."""
        found = {t: self._weight.get(t, self._unknown) for t in sorted(terms)}
        norm = math.sqrt(sum(w * w for w in found.values())) or 1.0
        return {t: w / norm for t, w in found.items() if w > 0}

    def best(self, terms: Terms) -> tuple[str, float]:
        """Most similar cluster and the cosine similarity; ('', 0.0) when nothing is shared."""
        scores: dict[str, float] = {}
        for term, weight in self.weights(terms).items():
            for name, share in self._index.get(term, ()):
                scores[name] = scores.get(name, 0.0) + weight * share
        if not scores:
            return "", 0.0
        name = min(scores, key=lambda n: (-scores[n], n))
        return name, scores[name]

    def label(self, name: str, words: int = 4) -> str:
        """Return the words that set a cluster apart, most telling first; its signature if none."""
        ranked = sorted(self.profile[name].items(), key=lambda item: (-item[1], item[0]))
        said = [t for t, _ in ranked if "=" not in t and not t.startswith("<")]
        return " ".join((said or [t for t, _ in ranked])[:words])


class Rarity:
    """How rare each term is among all failures seen, learnt one failure at a time.

    Parameters
    ----------
    counts, total
        In how many failures each term occurred, and how many there were.
    """

    def __init__(self, counts: Mapping[str, float] | None = None, total: float = 0) -> None:
        self._counts: Counter[str] = Counter(counts or {})
        self._total = total

    def add(self, terms: Terms) -> None:
        """Count one failure."""
        self._total += 1
        self._counts.update(terms)
        if len(self._counts) > _VOCABULARY:
            self._counts = Counter({t: c for t, c in self._counts.items() if c > 1})

    def weights(self, terms: Terms) -> dict[str, float]:
        """Unit vector of a failure's terms by squared rarity."""
        found = {
            t: math.log((self._total + _PRIOR) / (self._counts[t] + 0.5)) ** 2
            for t in sorted(terms)
        }
        norm = math.sqrt(sum(w * w for w in found.values())) or 1.0
        return {t: w / norm for t, w in found.items()}

    def snapshot(self) -> dict[str, Any]:
        """Arguments that build the same object."""
        return {"counts": {t: self._counts[t] for t in sorted(self._counts)}, "total": self._total}


def dot(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Inner product of two sparse vectors."""
    if len(one) > len(other):
        one, other = other, one
    return sum(weight * other[t] for t, weight in one.items() if t in other)


def affinity(usages: Sequence[Usage]) -> Floats:
    """How alike groups of failures speak: Bhattacharyya's coefficient of their terms.

    Square roots of the shares make many common words count for more than one rare word that two
    groups have by coincidence; terms weigh by how few groups use them.

    Parameters
    ----------
    usages
        One per group.

    Returns
    -------
    ndarray of shape (n_groups, n_groups)
        0 nothing in common ... 1 the same shares of the same terms.

    Examples
    --------
    >>> said = ["late van", "late van", "wrong pin"]
    >>> affinity([Usage.of([frozenset(text.split())]) for text in said]).round(2).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    column: dict[str, int] = {}
    entries = [
        (row, column.setdefault(term, len(column)), math.sqrt(share))
        for row, usage in enumerate(usages)
        for term, share in usage.shares()
    ]
    if not entries:
        return np.zeros((len(usages), len(usages)))
    rows, columns, roots = (np.array(part) for part in zip(*entries, strict=True))
    used = np.bincount(columns)
    values = roots * np.log((len(usages) + 1) / (used + 1))[columns]
    table = sparse.csr_array((values, (rows, columns)), (len(usages), len(column)))
    length = np.sqrt((table * table).sum(axis=1))
    near: Floats = (table @ table.T).toarray() / np.maximum(np.outer(length, length), 1e-300)
    return near
