"""Failures that belong to no cluster yet, and which of them resemble each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Self

from detectors.failures.features import Failure
from detectors.failures.terms import dot

CAPACITY: Final = 2_000
_TELLING: Final = 8  # terms of a failure that are followed to others; the rest weighs little
_HOPS: Final = 2  # wordings of one cause may be alike only through a third


class Pool:
    """Waiting failures by key, oldest first; the oldest goes when the pool is full."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Failure, Mapping[str, float]]] = {}
        self._index: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: str, failure: Failure, weights: Mapping[str, float]) -> None:
        """Let a failure wait; ``weights`` is the unit vector of its terms."""
        self.pop(key)
        self._waiting[key] = (failure, weights)
        for term in _telling(weights):
            self._index.setdefault(term, {})[key] = None
        if len(self._waiting) > CAPACITY:
            self.pop(next(iter(self._waiting)))

    def pop(self, key: str) -> Failure | None:
        """Take a failure out; None if it does not wait."""
        failure, weights = self._waiting.pop(key, (None, {}))
        for term in _telling(weights):
            keys = self._index[term]
            del keys[key]
            if not keys:
                del self._index[term]
        return failure

    def resembling(self, key: str, similar: float) -> list[str]:
        """Keys alike to a waiting failure, directly or through one in between, itself first."""
        reached, front = [key], [key]
        for _ in range(_HOPS):
            front = [
                other for at in front for other in self._alike(at, similar) if other not in reached
            ]
            front = list(dict.fromkeys(front))
            reached += front
        return reached

    def snapshot(self) -> list[list[Any]]:
        """Key, failure and weights of everything that waits, as JSON types."""
        return [[key, asdict(f), dict(weights)] for key, (f, weights) in self._waiting.items()]

    @classmethod
    def restore(cls, snapshot: Iterable[Sequence[Any]]) -> Self:
        """Build the pool of a snapshot again."""
        pool = cls()
        for key, failure, weights in snapshot:
            pool.add(key, Failure.restore(failure), weights)
        return pool

    def _alike(self, key: str, similar: float) -> list[str]:
        mine = self._waiting[key][1]
        near = {other: None for term in _telling(mine) for other in self._index.get(term, ())}
        return [o for o in near if o != key and dot(mine, self._waiting[o][1]) >= similar]


def _telling(weights: Mapping[str, float]) -> list[str]:
    return sorted(weights, key=lambda term: (-weights[term], term))[:_TELLING]
