"""Requests unlike the known ones, told by words that were never used before.

The words of an agent's first requests set bits of a small map; a second part of them shows how
large a share of unknown words is usual. From then on a request counts as new when more of its words
are unknown than in 95 of 100 requests. The rate of new requests is a signal like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import polars as pl
from xxhash import xxh32_intdigest

from detectors.base import Bools, Floats, Ints, pack, unpack

BITS: Final = 1 << 14
LEARNT: Final = 600
"""Requests whose words are learnt, and again as many that show how many unknown words are usual."""

_UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD: Final = rf"[[^\W\d_]--{_UNSPACED}]{{3,}}|{_UNSPACED}{{2}}"
"""Words; where a script writes none apart, every two neighbouring characters."""

_LONGEST: Final = 600  # characters of a request that are looked at


@dataclass(slots=True)
class Vocabulary:
    """Words that the requests of one agent use."""

    known: np.ndarray = field(default_factory=lambda: np.zeros(BITS // 8, np.uint8))
    seen: int = 0
    shares: list[float] = field(default_factory=list)
    limit: float = -1.0

    def novel(self, words: Words) -> Floats:
        """Per request 1 when it is unlike the known ones, 0 when not, NaN while that is learnt."""
        found = np.full(len(words), np.nan)
        learnt = min(LEARNT - self.seen, len(words))
        if learnt > 0:
            at = words.bits(0, learnt)
            np.bitwise_or.at(self.known, at >> 3, (1 << (at & 7)).astype(np.uint8))
            self.seen += learnt
        first = max(learnt, 0)
        unknown = words.share(~(self.known[words.bit >> 3] >> (words.bit & 7)).astype(bool))
        if self.limit < 0 and first < len(words):
            calibrated = min(LEARNT - len(self.shares), len(words) - first)
            self.shares += np.round(unknown[first : first + calibrated], 4).tolist()
            first += calibrated
            if len(self.shares) >= LEARNT:
                self.limit = max(float(np.quantile(self.shares, 0.95)), 0.25)
                self.shares = []
        if self.limit >= 0:
            found[first:] = unknown[first:] > self.limit
        return found


@dataclass(frozen=True, slots=True)
class Words:
    """Distinct words of some requests as bits: those of request i are ``bit[at[i]:at[i + 1]]``."""

    bit: Ints
    at: Ints

    def __len__(self) -> int:
        return self.at.size - 1

    def part(self, first: int, end: int) -> Words:
        """Requests ``first`` to ``end`` by themselves."""
        return Words(self.bits(first, end), self.at[first : end + 1] - self.at[first])

    def bits(self, first: int, end: int) -> Ints:
        """Words of requests ``first`` to ``end``."""
        return self.bit[self.at[first] : self.at[end]]

    def share(self, mask: Bools) -> Floats:
        """Share of each request's words that ``mask`` marks."""
        sums: Floats = np.add.reduceat(mask.astype(float), self.at[:-1]) / np.diff(self.at)
        return sums


class Novelty:
    """The vocabularies of all agents of a bucket."""

    def __init__(self) -> None:
        self.vocabularies: dict[tuple[str, str], Vocabulary] = {}

    def step(self, rows: pl.DataFrame) -> pl.DataFrame:
        """New requests among results, as `processors.stations.rates.observations` takes them."""
        asked = rows.filter(pl.col("request") != "").select(
            "decided",
            "environment",
            "agent",
            words=pl.col("request")
            .str.slice(0, _LONGEST)
            .str.to_lowercase()
            .str.replace_all(f"({_UNSPACED})", "$1 $1")
            .str.extract_all(_WORD)
            .list.unique(maintain_order=True),
        )
        # All agents at once: a query for each would cost more than its work.
        asked = asked.filter(pl.col("words").list.len() > 0).sort(
            "environment", "agent", maintain_order=True
        )
        return (
            asked.lazy()
            .with_columns(novel=pl.Series(self._judged(asked), dtype=pl.Float64))
            .filter(pl.col("novel").is_not_nan())
            .group_by(tick="decided", environment="environment", agent="agent")
            .agg(total=pl.col("novel").sum(), n=pl.len().cast(pl.Float64))
            .select(
                "tick", pl.lit("new_request").alias("signal"), "environment", "agent",
                pl.lit("").alias("value"), "total", "n",
            )
            .collect()
        )  # fmt: skip

    def _judged(self, asked: pl.DataFrame) -> Floats:
        """What every request is to its agent's vocabulary; requests in order of agents."""
        if asked.is_empty():
            return np.zeros(0)
        words = _words(asked["words"])
        parts = asked.group_by("environment", "agent", maintain_order=True).len()
        found, first = [], 0
        for environment, agent, n in parts.iter_rows():
            vocabulary = self.vocabularies.setdefault((environment, agent), Vocabulary())
            found.append(vocabulary.novel(words.part(first, first + n)))
            first += n
        return np.concatenate(found)

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


def _words(lists: pl.Series) -> Words:
    """Bits of the distinct words of requests, each of which has some."""
    flat = lists.explode()
    known = flat.unique()
    bits = [xxh32_intdigest(word.encode()) % BITS for word in known]
    bit = flat.replace_strict(known, bits, return_dtype=pl.Int64).to_numpy()
    request = np.repeat(np.arange(len(lists)), lists.list.len().to_numpy())
    distinct = np.unique(request * BITS + bit)  # two words may share a bit
    at = np.searchsorted(distinct, np.arange(len(lists) + 1) * BITS)
    return Words(distinct % BITS, at)
