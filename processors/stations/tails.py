"""Signals with heavy tails: duration, time to first token, tokens, cost, steps.

The first ``warm_up`` values of a stream make a sketch; every later value counts by its rank in it
and by whether it lies above its high quantiles (`detectors.change.heavy_tails`). Ranks and
exceedances then have a warm-up of their own, which also measures how much they scatter. A tick is
a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Self

import numpy as np
import polars as pl

from detectors import sketch
from detectors.base import Floats, Ints
from detectors.change.ensembles import EnsembleDetector
from detectors.change.heavy_tails import RANK_DISPERSION, RankReference
from processors.signals import BY_NAME, of
from processors.stations.base import Action, Change, Sealed
from processors.stations.seasons import Seasons
from processors.stations.streams import (
    WEEK,
    Register,
    Thresholds,
    ended,
    opened,
    recovered,
    starts,
)

MINUTE: Final = 60
_TAILS: Final = (0.9, 0.99)
_QUANTILES: Final = (0.5, 0.95, 0.99)
"""Quantile that shows the change which each indicator (rank, above p90, above p99) sees."""

_WEIGHTS: Final = (0.5, 0.25, 0.25)
_EFFECTS: Final = (0.02, 0.02, 0.005)
"""Changes of each indicator that count as none: of the mean rank, and of the shares above."""

_SMALL: Final = "small"
"""Severity of a change that is certain, and below the smallest effect of its signal: never told."""

_TIMES: Final = 8
"""Parts of the day, for what is usual."""

_FEW: Final = 500  # values of a part of the day that say what is usual

_RECENT: Final = 1800
"""Seconds of values that show what a stream looks like now."""


def minutes(sealed: Sealed) -> pl.DataFrame:
    """Results of the minutes that this step completes."""
    lo, hi = (t // MINUTE * MINUTE for t in (sealed.lo, sealed.hi))
    return sealed.results.filter((pl.col("decided") >= lo) & (pl.col("decided") < hi)).with_columns(
        minute=pl.col("decided") // MINUTE * MINUTE
    )


def sketches(rows: pl.DataFrame) -> pl.DataFrame:
    """Log-histogram of every tail signal per minute: ``minute``, the key, ``bins``, ``counts``."""
    at = ("minute", "environment", "agent")
    signals = of("tail")
    values = rows.lazy().select(*at, *(s.value.cast(pl.Float64).alias(s.name) for s in signals))
    long = (
        values.unpivot(index=at, variable_name="signal", value_name="v")
        .filter(pl.col("v") >= 0)
        .collect()
    )
    key = (*at, "signal")
    return (
        long.lazy()
        .with_columns(bin=pl.Series(sketch.bin_index(long["v"].to_numpy())))
        .group_by(*key, "bin")
        .agg(count=pl.len())
        .sort("bin")
        .group_by(key)
        .agg(bins=pl.col("bin"), counts=pl.col("count").cast(pl.Int64))
        .sort("minute", "signal", "environment", "agent")
        .collect()
    )


def time_of_day(at: int) -> int:
    """Which part of the day (UTC) a moment lies in, 0 to 7."""
    return at % 86_400 // (86_400 // _TIMES)


def _add(sketched: dict[int, int], bins: Sequence[int], counts: Sequence[int]) -> None:
    for b, c in zip(bins, counts, strict=True):
        sketched[b] = sketched.get(b, 0) + c


@dataclass(slots=True)
class Tail:
    """What is known of one stream beside its evidence.

    ``bins`` and ``counts`` are the reference. ``usual`` are sketches by the time of day, until the
    season is known; ``recent`` are those of the half hours, the current one last.
    """

    bins: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    ready: bool = False
    half_hour: int = 0
    usual: dict[int, dict[int, int]] = field(default_factory=dict)
    recent: list[dict[int, int]] = field(default_factory=lambda: [{}, {}])

    def learn(self, bins: Iterable[int], counts: Iterable[int], enough: float) -> None:
        """Add to the reference until it holds ``enough`` values."""
        merged = sketch.merge([(self.bins, self.counts), (list(bins), list(counts))])
        self.bins, self.counts = merged[0].tolist(), merged[1].tolist()
        self.ready = sum(self.counts) >= enough

    def remember(self, at: int, bins: list[int], counts: list[int]) -> None:
        """Add to what the stream looks like now."""
        if at // _RECENT != self.half_hour:
            self.recent = [self.recent[1], {}]
            self.half_hour = at // _RECENT
        _add(self.recent[1], bins, counts)

    def quantiles(self, q: float, since: int, known: bool) -> tuple[float, float]:
        """Quantile of what is usual, and of what came lately.

        The first values, which make the reference, may all be of one night: once two weeks are
        ``known``, theirs of this time of day are what is usual.
        """
        parts = self.recent if since < self.half_hour * _RECENT else self.recent[1:]
        bins, counts = sketch.merge([(list(p), list(p.values())) for p in parts])
        usual = self.usual.get(time_of_day(self.half_hour * _RECENT), {})
        of = (self.bins, self.counts)
        if known and sum(usual.values()) >= _FEW:
            of = (list(usual), list(usual.values()))
        before = float(sketch.quantile(*sketch.merge([of]), q))
        return before, float(sketch.quantile(bins, counts, q)) if bins.size else before


class TailStreams:
    """All heavy-tailed streams of a bucket; parameters as in `processors.stations.rates`."""

    def __init__(self, thresholds: Thresholds, warm_up: float) -> None:
        self.thresholds = thresholds
        self.warm_up = warm_up
        self.register = Register()
        self.seasons = Seasons(RANK_DISPERSION)
        self.tails: list[Tail] = []
        self._references: dict[int, RankReference] = {}
        self.detector = self._fresh()

    def _fresh(self) -> EnsembleDetector:
        return EnsembleDetector(
            0, len(_WEIGHTS), weights=_WEIGHTS, warm_up=self.warm_up,
            floor=RANK_DISPERSION, min_effect=0.02, settle=WEEK // MINUTE,
        )  # fmt: skip

    def step(self, seen: pl.DataFrame) -> list[Change]:
        """Take minutes of `sketches`, in order of time."""
        changes: list[Change] = []
        rows = seen.select("minute", "signal", "environment", "agent", "bins", "counts")
        for minute, part in groupby(rows.iter_rows(), itemgetter(0)):
            changes += self._tick(int(minute), self.register.of_regulars(int(minute), list(part)))
        return changes

    def _tick(self, at: int, part: Sequence[tuple[Any, ...]]) -> list[Change]:
        self._grow(part)
        shape = (self.detector.n_groups, len(_WEIGHTS))
        total, n = np.zeros(shape), np.zeros((shape[0], 1))
        for _, signal, environment, agent, bins, counts in part:
            i = self.register.index[(signal, environment, agent, "")]
            self.register.last[i] = at
            total[i], n[i] = self._score(i, at, bins, counts)
        self.register.tick(at)
        before = self.detector.detected
        untold = [i for i, c in self.register.open.items() if c.severity == _SMALL]
        self.seasons.update(self.detector, at, total, n, untold)
        at += MINUTE
        found, over = starts(before, self.detector.detected)
        changes = [recovered(self._now(self.register.open.pop(int(i)), int(i)), at) for i in over]
        for i in found:
            self._open(int(i), at)
        changes += self._escalate(at)
        return [change for change in changes if change.severity != _SMALL]

    def _grow(self, part: Sequence[tuple[Any, ...]]) -> None:
        fresh = self.register.add((row[1], row[2], row[3], "") for row in part)
        if fresh:
            self.detector.extend(fresh)
            self.seasons.extend(fresh * len(_WEIGHTS))
            self.tails += [Tail() for _ in range(fresh)]
            self._require()

    def _require(self) -> None:
        """Let the parameters of now apply to all streams."""
        members = self.detector.members
        rows = np.arange(members.n_streams)
        members.require(rows, np.tile(_EFFECTS, self.detector.n_groups), self.warm_up)
        self.detector.arl = self.thresholds.notice(max(self.detector.n_groups, 1), MINUTE)

    def _score(self, i: int, at: int, bins: list[int], counts: list[int]) -> tuple[Floats, float]:
        tail = self.tails[i]
        if not tail.ready:
            tail.learn(bins, counts, self.warm_up)
            return np.zeros(len(_WEIGHTS)), 0.0
        tail.remember(at, bins, counts)
        change = self.register.open.get(i)
        if (change is None or change.severity == _SMALL) and not self._season_known(i):
            _add(tail.usual.setdefault(time_of_day(at), {}), bins, counts)
        if i not in self._references:
            self._references[i] = RankReference(_TAILS).fit(tail.bins, tail.counts)
        total, n = self._references[i].score(bins, counts)
        return np.minimum(total, n), float(n)

    def _season_known(self, i: int) -> bool:
        return self.seasons.knows(i * len(_WEIGHTS))

    def _figures(self, i: int, since: int, e_values: Floats) -> list[tuple[float, float]]:
        """Quantiles before and after, of the indicator that leads and of others that say so too."""
        leading = max(int(self.detector.leading[i]), 0)
        others = np.flatnonzero(e_values >= self.detector.arl).tolist()
        shown = dict.fromkeys((leading, *others))
        known = self._season_known(i)
        return [self.tails[i].quantiles(_QUANTILES[n], since, known) for n in shown]

    def _now(self, change: Change, i: int) -> Change:
        n = int(self.detector.members.observed_n.reshape(-1, len(_WEIGHTS))[i].max())
        return replace(change, n=max(n, change.n))

    def _severity(
        self, i: int, e_value: float, figures: Sequence[tuple[float, float]]
    ) -> tuple[str, tuple[float, float]]:
        """What a change is worth, and the figures that say so; a page only by what leads."""
        signal = BY_NAME[self.register.keys[i][0]]
        large = [
            after - before >= signal.min_effect * max(before, 1e-9) for before, after in figures
        ]
        limit = self.thresholds.page(self.detector.n_groups, MINUTE)
        if large[0]:
            loud = e_value >= limit and signal.severity == "page"
            return "page" if loud else "notice", figures[0]
        return ("notice", figures[large.index(True)]) if any(large) else (_SMALL, figures[0])

    def _open(self, i: int, at: int) -> None:
        """Note a change; what it is worth, `_escalate` says."""
        d = self.detector
        member = i * len(_WEIGHTS) + max(int(d.leading[i]), 0)
        began = self.register.time_of(int(d.members.tick[member] - d.change_start[i]))
        self.register.open[i] = opened(
            self.register.keys[i], began, at, _SMALL, direction="up", e_value=0.0,
            n=int(d.members.observed_n[member]),
        )  # fmt: skip

    def _escalate(self, at: int) -> list[Change]:
        """Changes that have become large enough to tell, or whose evidence has grown to a page."""
        changes = []
        quiet = [i for i, c in self.register.open.items() if c.severity != "page"]
        each = self.detector.indicator_e_values if quiet else np.zeros((0, 0))
        for i in quiet:
            change, e_value = self.register.open[i], float(each[i] @ np.array(_WEIGHTS))
            figures = self._figures(i, change.began, each[i])
            severity, (before, after) = self._severity(i, e_value, figures)
            if severity not in (_SMALL, change.severity):
                told = replace(
                    change, severity=severity, e_value=e_value, at=at,
                    found=at if change.severity == _SMALL else change.found,
                    baseline=before, observed=after,
                )  # fmt: skip
                self.register.open[i] = told
                changes.append(told)
        return changes

    def accept(self, action: Action, at: int) -> list[Change]:
        """Take what came since the alarm for the new normal: the stream warms up again."""
        i = self.register.found(action.finding)
        if i is None:
            return []
        self.detector.accept([i])
        self.tails[i].usual.clear()
        self.seasons.forget(slice(i * len(_WEIGHTS), (i + 1) * len(_WEIGHTS)))
        return [ended(self.register.open.pop(i), at, "accepted")]

    def retire(self, before: int, at: int) -> list[Change]:
        """Forget streams without a value since ``before``; their open changes end."""
        gone = self.register.unused(before)
        if not gone.size:
            return []
        rows: Ints = np.setdiff1d(np.arange(self.detector.n_groups), gone)
        self.detector.take(rows)
        self.seasons.take((rows[:, None] * len(_WEIGHTS) + np.arange(len(_WEIGHTS))).ravel())
        self.tails = [self.tails[i] for i in rows]
        self._references = {}
        over = [ended(change, at, "retired") for change in self.register.keep(rows)]
        self._require()
        return over

    def dump(self) -> dict[str, Any]:
        """State as JSON types."""
        return {
            "detector": self.detector.snapshot(),
            "register": self.register.dump(),
            "seasons": self.seasons.dump(),
            "tails": [
                [
                    t.bins,
                    t.counts,
                    t.ready,
                    t.half_hour,
                    [list(part.items()) for part in t.recent],
                    [[time, list(part.items())] for time, part in t.usual.items()],
                ]
                for t in self.tails
            ],
        }

    def load(self, raw: dict[str, Any]) -> Self:
        """Take a stored state over; the parameters of now win over those it was made with."""
        self.detector = EnsembleDetector.restore(raw["detector"])
        self.detector.members.settle = WEEK // MINUTE
        self.register = Register.load(raw["register"])
        self.seasons.load(raw.get("seasons"), self.detector.members.n_streams)
        self.tails = []
        for bins, counts, ready, half, recent, *rest in raw["tails"]:
            usual = {time: dict(part) for time, part in (rest[0] if rest else [])}
            self.tails.append(Tail(bins, counts, ready, half, usual, [dict(p) for p in recent]))
        self._references = {}
        self._require()
        return self
