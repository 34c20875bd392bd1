"""Signals that are mixes: which models, tools and languages an agent's interactions have.

The most frequent categories of the warm-up are indicators of an `EnsembleDetector`, and so is
everything else together: a model that was never used before moves *other*, and is named by what
became more frequent. A tick is a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Self

import numpy as np
import polars as pl

from detectors.change.ensembles import EnsembleDetector
from processors.signals import BY_NAME, of
from processors.stations.base import Action, Change
from processors.stations.seasons import Seasons
from processors.stations.streams import (
    WEEK,
    Register,
    Thresholds,
    ended,
    finite,
    opened,
    recovered,
    starts,
)
from processors.stations.tails import MINUTE

CATEGORIES: Final = 4
_OTHER: Final = CATEGORIES
_WIDTH: Final = CATEGORIES + 1
_NAMED: Final = 32  # names of other categories that are counted
_LATELY: Final = 0.125  # of the warm-up: interactions after which what is lately is before


def mixtures(rows: pl.DataFrame) -> pl.DataFrame:
    """Interactions per category and minute: ``minute``, the key, ``names``, ``counts``, ``n``."""
    parts = [_mixed(rows, signal.name) for signal in of("mix")]
    return pl.concat(parts).sort("minute", "signal", "environment", "agent").collect()


def _mixed(rows: pl.DataFrame, name: str) -> pl.LazyFrame:
    at = ("minute", "environment", "agent")
    value = pl.col(name)
    lazy = rows.lazy().select(*at, BY_NAME[name].value.alias(name))
    if lazy.collect_schema()[name] == pl.List(pl.String):
        known = lazy.filter(value.list.len() > 0).select(*at, v=value.list.unique())
        flat = known.explode("v")
    else:
        known = flat = lazy.filter(value != "").select(*at, v=value)
    each = flat.group_by(*at, "v").agg(count=pl.len().cast(pl.Int64)).sort("v")
    named = each.group_by(at).agg(names=pl.col("v"), counts=pl.col("count"))
    return named.join(known.group_by(at).agg(n=pl.len()), on=at).with_columns(signal=pl.lit(name))


class MixStreams:
    """All mixes of a bucket; parameters as in `processors.stations.rates`."""

    def __init__(self, thresholds: Thresholds, warm_up: float) -> None:
        self.thresholds = thresholds
        self.warm_up = warm_up
        self.register = Register()
        self.seasons = Seasons()
        # Interactions by name, and of all under '': of other categories once these are known.
        self.learnt: list[Counter[str]] = []
        self.lately: list[list[Counter[str]]] = []
        self.categories: list[list[str]] = []
        self.detector = EnsembleDetector(
            0, _WIDTH, warm_up=warm_up, direction="up", settle=WEEK // MINUTE
        )

    def step(self, seen: pl.DataFrame) -> list[Change]:
        """Take minutes of `mixtures`, in order of time."""
        changes: list[Change] = []
        rows = seen.select("minute", "signal", "environment", "agent", "names", "counts", "n")
        for minute, part in groupby(rows.iter_rows(), itemgetter(0)):
            changes += self._tick(int(minute), self.register.of_regulars(int(minute), list(part)))
        return changes

    def _tick(self, at: int, part: Sequence[tuple[Any, ...]]) -> list[Change]:
        self._grow(part)
        total = np.zeros((self.detector.n_groups, _WIDTH))
        n = np.zeros((self.detector.n_groups, 1))
        for _, signal, environment, agent, names, counts, many in part:
            i = self.register.index[(signal, environment, agent, "")]
            self.register.last[i] = at
            if self._learns(i, names, counts, many):
                continue
            total[i], n[i] = np.minimum(self._sorted(i, names, counts, many), many), many
        self.register.tick(at)
        self._note_progress()
        before = self.detector.detected
        self.seasons.update(self.detector, at, total, n)
        at += MINUTE
        found, over = starts(before, self.detector.detected)
        changes = [recovered(self.register.open.pop(int(i)), at) for i in over]
        return changes + [self._open(int(i), at) for i in found]

    def _grow(self, part: Sequence[tuple[Any, ...]]) -> None:
        fresh = self.register.add((row[1], row[2], row[3], "") for row in part)
        if fresh:
            self.detector.extend(fresh)
            self.seasons.extend(fresh * _WIDTH)
            self.learnt += [Counter() for _ in range(fresh)]
            self.lately += [[Counter(), Counter()] for _ in range(fresh)]
            self.categories += [[] for _ in range(fresh)]
            self._require()

    def _require(self) -> None:
        """Let the parameters of now apply to all streams."""
        members = self.detector.members
        effects = [BY_NAME[key[0]].min_effect for key in self.register.keys]
        members.require(np.arange(members.n_streams), np.repeat(effects, _WIDTH), self.warm_up)
        self.detector.arl = self.thresholds.notice(max(self.detector.n_groups, 1), MINUTE)

    def _learns(self, i: int, names: list[str], counts: list[int], n: int) -> bool:
        """Whether the stream still learns its categories; takes the minute if so."""
        if self.categories[i]:
            return False
        self.learnt[i].update(dict(zip(names, counts, strict=True)))
        self.learnt[i][""] += n
        if self.learnt[i][""] >= self.warm_up / 4:
            named = [item for item in self.learnt[i].items() if item[0]]
            ordered = sorted(named, key=lambda item: (-item[1], item[0]))
            self.categories[i] = [name for name, _ in ordered[:CATEGORIES]]
            for name in self.categories[i]:
                del self.learnt[i][name]
        return True

    def _sorted(self, i: int, names: list[str], counts: list[int], n: int) -> np.ndarray:
        """Interactions per category; names of the others are counted as they come."""
        found = np.zeros(CATEGORIES + 1)
        if self.lately[i][1][""] >= self.warm_up * _LATELY:
            self.learnt[i] = _frequent(self.learnt[i] + self.lately[i][0])
            self.lately[i] = [self.lately[i][1], Counter()]
        others = self.lately[i][1]
        others[""] += n
        for name, count in zip(names, counts, strict=True):
            known = self.categories[i].index(name) if name in self.categories[i] else _OTHER
            found[known] += count
            if known == _OTHER:
                others[name] += count
        self.lately[i][1] = _frequent(others)
        return found

    def _open(self, i: int, at: int) -> Change:
        d = self.detector
        leading = int(d.leading[i])
        member = i * _WIDTH + leading
        name, environment, agent, _ = self.register.keys[i]
        known = self.categories[i]
        value = known[leading] if leading < len(known) else self._risen(i)
        low, high = d.members.observed_interval()
        known_season = self.seasons.knows(member)
        change = opened(
            (name, environment, agent, value),
            self.register.time_of(int(d.members.tick[member] - d.change_start[i])),
            at,
            BY_NAME[name].severity,
            direction="up",
            label="" if value in known else f"{value} and others",
            e_value=float(d.e_value[i]),
            baseline=finite((d.members.expected if known_season else d.members.baseline)[member]),
            observed=finite(d.members.observed[member]),
            low=finite(low[member]),
            high=finite(high[member]),
            n=int(d.members.observed_n[member]),
        )
        self.register.open[i] = change
        return change

    def _note_progress(self) -> None:
        if not self.register.open:
            return
        d = self.detector
        observed, expected, leading = d.observed, d.members.expected, d.leading
        for i, change in self.register.open.items():
            member = i * _WIDTH + int(leading[i])
            known = self.seasons.knows(member)
            baseline = finite(expected[member]) if known else change.baseline
            self.register.open[i] = replace(change, observed=finite(observed[i]), baseline=baseline)

    def _risen(self, i: int) -> str:
        """Which of the others has become more frequent by most."""
        lately, before = self.lately[i][0] + self.lately[i][1], self.learnt[i]
        usual = lately[""] / max(before[""], 1)
        names = sorted(lately.keys() - {""})
        return max(names, key=lambda name: lately[name] - usual * before[name], default="other")

    def accept(self, action: Action, at: int) -> list[Change]:
        """Take the new mix for normal, whichever category moved."""
        i = self.register.found(action.finding)
        if i is None:
            return []
        self.detector.accept([i])
        self.seasons.forget(slice(i * _WIDTH, (i + 1) * _WIDTH))
        return [ended(self.register.open.pop(i), at, "accepted")]

    def retire(self, before: int, at: int) -> list[Change]:
        """Forget streams without a value since ``before``; their open changes end."""
        gone = self.register.unused(before)
        if not gone.size:
            return []
        rows = np.setdiff1d(np.arange(self.detector.n_groups), gone)
        self.detector.take(rows)
        self.seasons.take((rows[:, None] * _WIDTH + np.arange(_WIDTH)).ravel())
        self.learnt = [self.learnt[i] for i in rows]
        self.lately = [self.lately[i] for i in rows]
        self.categories = [self.categories[i] for i in rows]
        over = [ended(change, at, "retired") for change in self.register.keep(rows)]
        self._require()
        return over

    def dump(self) -> dict[str, Any]:
        """State as JSON types."""
        return {
            "detector": self.detector.snapshot(),
            "register": self.register.dump(),
            "seasons": self.seasons.dump(),
            "learnt": [list(c.items()) for c in self.learnt],
            "lately": [[list(c.items()) for c in part] for part in self.lately],
            "categories": self.categories,
        }

    def load(self, raw: dict[str, Any]) -> Self:
        """Take a stored state over; the parameters of now win over those it was made with."""
        self.detector = EnsembleDetector.restore(raw["detector"])
        self.register = Register.load(raw["register"])
        self.seasons.load(raw.get("seasons"), self.detector.members.n_streams)
        self.learnt = [Counter(dict(items)) for items in raw["learnt"]]
        lately = raw.get("lately", [[[], []] for _ in self.learnt])
        self.lately = [[Counter(dict(items)) for items in part] for part in lately]
        self.categories = raw["categories"]
        self.detector.members.settle = WEEK // MINUTE
        self._require()
        return self


def _frequent(counts: Counter[str]) -> Counter[str]:
    """The most frequent names, once there are too many."""
    kept = len(counts) > _NAMED
    return Counter(dict(counts.most_common(_NAMED // 2))) if kept else counts
