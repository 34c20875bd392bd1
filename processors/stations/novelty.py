"""Requests unlike the known ones, told by words that were never used before.

The words of an agent's first requests set bits of a small map; a second part of them shows how
large a share of unknown words is usual. From then on a request counts as new when more of its words
are unknown than in 95 of 100 requests. The rate of new requests is a signal like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import polars as pl
from xxhash import xxh32_intdigest

from detectors.base import pack, unpack

BITS: Final = 1 << 14
LEARNT: Final = 600
"""Requests whose words are learnt, and again as many that show how many unknown words are usual."""

_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_LONGEST: Final = 600  # characters of a request that are looked at


@dataclass(slots=True)
class Vocabulary:
    """Words that the requests of one agent use."""

    known: np.ndarray = field(default_factory=lambda: np.zeros(BITS // 8, np.uint8))
    seen: int = 0
    shares: list[float] = field(default_factory=list)
    limit: float = -1.0

    def novel(self, request: str) -> float | None:
        """1 when a request is unlike the known ones, 0 when not, None while that is learnt."""
        words = {
            xxh32_intdigest(w.encode()) % BITS for w in _WORD.findall(request[:_LONGEST].lower())
        }
        if not words:
            return None
        at = np.fromiter(words, np.int64, len(words))
        if self.seen < LEARNT:
            self.seen += 1
            np.bitwise_or.at(self.known, at >> 3, (1 << (at & 7)).astype(np.uint8))
            return None
        unknown = float(1 - (self.known[at >> 3] >> (at & 7) & 1).mean())
        if self.limit >= 0:
            return float(unknown > self.limit)
        self.shares.append(round(unknown, 4))
        if len(self.shares) >= LEARNT:
            self.limit = max(float(np.quantile(self.shares, 0.95)), 0.25)
            self.shares = []
        return None


class Novelty:
    """The vocabularies of all agents of a bucket."""

    def __init__(self) -> None:
        self.vocabularies: dict[tuple[str, str], Vocabulary] = {}

    def step(self, rows: pl.DataFrame) -> pl.DataFrame:
        """New requests among results, as `processors.stations.rates.observations` takes them."""
        asked = rows.filter(pl.col("request") != "").select(
            "decided", "environment", "agent", "request"
        )
        judged = pl.Series(self._judge(asked.iter_rows()), dtype=pl.Float64)
        return (
            asked.with_columns(judged.alias("novel"))
            .drop_nulls("novel")
            .group_by(tick="decided", environment="environment", agent="agent")
            .agg(total=pl.col("novel").sum(), n=pl.len().cast(pl.Float64))
            .select(
                "tick", pl.lit("new_request").alias("signal"), "environment", "agent",
                pl.lit("").alias("value"), "total", "n",
            )
        )  # fmt: skip

    def _judge(self, rows: Iterable[tuple[Any, ...]]) -> list[float | None]:
        return [
            self.vocabularies.setdefault((environment, agent), Vocabulary()).novel(request)
            for _, environment, agent, request in rows
        ]

    def keep(self, agents: set[tuple[str, str]]) -> None:
        """Forget the words of all other agents."""
        self.vocabularies = {k: v for k, v in self.vocabularies.items() if k in agents}

    def dump(self) -> list[Any]:
        """State as JSON types."""
        return [
            [*key, pack(v.known), v.seen, v.shares, v.limit] for key, v in self.vocabularies.items()
        ]

    def load(self, raw: list[Any]) -> Self:
        """Take a stored state over."""
        self.vocabularies = {
            (environment, agent): Vocabulary(unpack(known), seen, shares, limit)
            for environment, agent, known, seen, shares, limit in raw
        }
        return self
