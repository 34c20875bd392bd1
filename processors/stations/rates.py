"""Signals that are shares: failures, errors, ratings, unanswered requests, unknown tokens.

Every environment, agent and signal is a stream of one `RateDetector`, a tick a cell of 10 s. A
reason that never occurred before has all earlier interactions for its baseline: its first failure
is what made it a stream and is no evidence (`detectors.failures.cluster_rates` has the argument).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Self

import numpy as np
import polars as pl

from detectors.base import Floats, Ints, pack, unpack
from detectors.change.rates import RateDetector
from processors.signals import BY_NAME, of
from processors.stations.base import CELL, SETTLED, Action, Change, Sealed
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

_AT: Final = ("decided", "environment", "agent")
_OBSERVED: Final = ("signal", "environment", "agent", "value")
_PARENT: Final = "failure"
_RATED_SHARE: Final = 0.2
"""Ratings and late outcomes are rarer than interactions: so much of the warm-up is enough."""


def observations(sealed: Sealed, novel: pl.DataFrame | None = None) -> pl.DataFrame:
    """Sum and number of every rate signal per cell: ``tick``, the key, ``total`` and ``n``.

    ``novel`` holds the same for requests unlike the known ones. Rows of reasons have n = 0: all
    interactions of known outcome are their opportunities.
    """
    now = sealed.results.lazy().filter(pl.col("decided") >= sealed.lo)
    later = sealed.settled.lazy().with_columns(decided=pl.col("decided") + SETTLED)
    # Lazy to the end: many small steps, each begun by itself, would cost more than their work.
    parts = [
        _whole(now, [s.name for s in of("rate") if not s.per and not s.settled]),
        _whole(later, [s.name for s in of("rate") if s.settled]),
        _by_tool(now),
        _by_reason(now),
    ]
    if novel is not None and not novel.is_empty():
        parts.append(novel.lazy())
    return pl.concat(parts).sort("tick", *_OBSERVED).collect()


def _whole(rows: pl.LazyFrame, names: Sequence[str]) -> pl.LazyFrame:
    sums = [BY_NAME[name].value.cast(pl.Float64).alias(name) for name in names]
    each = [
        pl.struct(
            signal=pl.lit(name), total=pl.col(f"total {name}"), n=pl.col(f"n {name}")
        ).alias(name)
        for name in names
    ]  # fmt: skip
    return (
        rows.select(*_AT, *sums)
        .group_by(_AT)
        .agg(pl.all().sum().name.prefix("total "), pl.all().count().name.prefix("n "))
        .select(*_AT, found=pl.concat_list(each))
        .explode("found")
        .unnest("found")
        .filter(pl.col("n") > 0)
        .select(*_named(pl.col("signal"), pl.lit(""), pl.col("total"), pl.col("n")))
    )


def _by_tool(rows: pl.LazyFrame) -> pl.LazyFrame:
    known = rows.filter(pl.col("success").is_not_null() & (pl.col("tools").list.len() > 0))
    used = known.select(*_AT, "failure_tool", pl.col("tools").list.unique()).explode("tools")
    failed = (pl.col("failure_tool") == pl.col("tools")).sum().alias("failed")
    summed = used.group_by(*_AT, "tools").agg(failed, n=pl.len())
    named = _named(pl.lit("tool_failure"), pl.col("tools"), pl.col("failed"), pl.col("n"))
    return summed.select(*named)


def _by_reason(rows: pl.LazyFrame) -> pl.LazyFrame:
    failed = rows.filter((pl.col("success") == 0) & (pl.col("reasons").list.len() > 0))
    each = failed.select(*_AT, pl.col("reasons").list.unique()).explode("reasons")
    summed = each.group_by(*_AT, "reasons").agg(n=pl.len())
    return summed.select(
        *_named(pl.lit("reason"), pl.col("reasons"), pl.col("n"), pl.lit(0))
    )  # fmt: skip


def _named(signal: pl.Expr, value: pl.Expr, total: pl.Expr, n: pl.Expr) -> list[pl.Expr]:
    return [
        pl.col("decided").alias("tick"),
        signal.alias("signal"),
        pl.col("environment"),
        pl.col("agent"),
        value.alias("value"),
        total.cast(pl.Float64).alias("total"),
        n.cast(pl.Float64).alias("n"),
    ]


class RateStreams:
    """All rate streams of a bucket.

    Parameters
    ----------
    thresholds
        When a change is a notice, and when a page.
    warm_up
        Interactions that make a baseline.
    min_effect
        Smallest change of the failure rate worth a page; other signals say their own.
    effects
        The same of agents by name.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        warm_up: float,
        min_effect: float,
        effects: Mapping[str, float] | None = None,
    ) -> None:
        self.thresholds = thresholds
        self.warm_up = warm_up
        self.min_effect = min_effect
        self.effects = effects or {}
        self.register = Register()
        self.detector = RateDetector(
            0, warm_up=warm_up, direction="up", settle=WEEK // CELL
        )  # fmt: skip
        self.seasons = Seasons()
        self._parents: Ints = np.zeros(0, np.int64)
        self._seen: Floats = np.zeros(0)

    def step(self, seen: pl.DataFrame) -> list[Change]:
        """Take the cells of `observations`, in order of time."""
        changes: list[Change] = []
        if seen.is_empty():
            return changes
        names = seen.select(_OBSERVED).unique(maintain_order=True)
        self.register.add(names.iter_rows())
        codes = names.with_columns(
            code=pl.Series([self.register.index[key] for key in names.iter_rows()], dtype=pl.Int64)
        )
        rows = seen.join(codes, on=_OBSERVED, how="left", maintain_order="left")
        ticks = rows["tick"].to_numpy()
        cuts = np.flatnonzero(np.diff(ticks, prepend=-1))
        code, total, n = (rows[name].to_numpy() for name in ("code", "total", "n"))
        for first, end in zip(cuts, [*cuts[1:], ticks.size], strict=True):
            part = slice(first, end)
            changes += self._tick(int(ticks[first]), code[part], total[part], n[part])
        return changes

    def _tick(self, at: int, code: Ints, some: Floats, many: Floats) -> list[Change]:
        fresh = np.arange(self.detector.n_streams, int(code.max()) + 1)
        self._grow(fresh)
        total, n = np.zeros((2, self.detector.n_streams))
        total[code], n[code] = some, many
        children = np.flatnonzero(self._parents >= 0)
        n[children] = n[self._parents[children]]
        founded = fresh[self._parents[fresh] >= 0]
        self._calibrate_new(founded)
        self._seen += n
        total[founded] = n[founded] = 0
        for i in code:
            self.register.last[i] = at
        self.register.tick(at)
        return self._update(at, np.minimum(total, n), n)

    def _update(self, tick: int, total: Floats, n: Floats) -> list[Change]:
        before, at = self.detector.detected, tick + CELL
        self._note_progress()
        self.detector.update(total, n, self.seasons.offsets(tick))
        changed, warm = self.detector.detected, self.detector.warm
        self.seasons.learn(tick, total, n, changed, warm, self._calibrate)
        found, over = starts(before, self.detector.detected)
        changes = [self._close(int(i), at) for i in over]
        changes += self._escalate(at)
        changes += [self._open(int(i), at) for i in found]
        return changes

    def _grow(self, fresh: Ints) -> None:
        if not fresh.size:
            return
        self.detector.extend(fresh.size)
        self.seasons.extend(fresh.size)
        self._seen = np.concatenate([self._seen, np.zeros(fresh.size)])
        self._name_parents()
        self._require(fresh)

    def _name_parents(self) -> None:
        """Where the opportunities of a reason are counted; -1 for streams that count their own."""
        self._parents = np.array(
            [
                self.register.index.get((_PARENT, key[1], key[2], ""), -1)
                if key[0] == "reason" else -1
                for key in self.register.keys[: self.detector.n_streams]
            ],
            np.int64,
        )  # fmt: skip

    def _require(self, rows: Ints) -> None:
        self.detector.arl = self.thresholds.notice(self.detector.n_streams, CELL)
        signals = [BY_NAME[self.register.keys[i][0]] for i in rows]
        self.detector.require(
            rows,
            [self._least(i) for i in rows],
            [self.warm_up * (_RATED_SHARE if s.settled else 1.0) for s in signals],
        )

    def _least(self, i: int) -> float:
        """Smallest change of a stream that is worth a page."""
        name, _, agent, _ = self.register.keys[i]
        of_all = self.effects.get(agent, self.min_effect)
        return of_all if name == _PARENT else BY_NAME[name].min_effect

    def _calibrate_new(self, founded: Ints) -> None:
        past = self._seen[self._parents[founded]]
        enough = past >= self.warm_up
        if enough.any():
            rows = founded[enough]
            self.detector.calibrate(np.zeros(rows.size), past[enough], streams=rows)

    def _calibrate(self, total: Floats, n: Floats, dispersion: Floats, rows: Ints) -> None:
        self.detector.calibrate(total, n, dispersion, streams=rows)

    def _note_progress(self) -> None:
        """Keep the figures of open changes: a detector forgets them with the change."""
        if not self.register.open:
            return
        observed, count = self.detector.observed, self.detector.observed_n
        expected = self.detector.expected
        for i, change in self.register.open.items():
            known = self.seasons.knows(i)
            baseline = finite(expected[i]) if known else change.baseline
            self.register.open[i] = replace(
                change, observed=finite(observed[i]), baseline=baseline, n=int(count[i])
            )

    def _severity(self, i: int, e_value: float, effect: float) -> str:
        signal = BY_NAME[self.register.keys[i][0]]
        limit = self.thresholds.page(self.detector.n_streams, CELL)
        loud = signal.severity == "page" and e_value >= limit and effect >= self._least(i)
        return "page" if loud else "notice"

    def _open(self, i: int, at: int) -> Change:
        d, key = self.detector, self.register.keys[i]
        low, high = d.observed_interval()
        began = self.register.time_of(int(d.tick[i] - d.change_start[i]))
        e_value = float(d.evidence(np.array([i]))[0])
        baseline = float((d.expected if self.seasons.knows(i) else d.baseline)[i])
        change = opened(
            key,
            began - (SETTLED if BY_NAME[key[0]].settled else 0),
            at,
            self._severity(i, e_value, float(d.observed[i]) - baseline),
            direction="up",
            e_value=e_value,
            baseline=finite(baseline),
            observed=finite(d.observed[i]),
            low=finite(low[i]),
            high=finite(high[i]),
            n=int(d.observed_n[i]),
        )
        self.register.open[i] = change
        return change

    def _escalate(self, at: int) -> list[Change]:
        """Notices whose evidence has grown to that of a page."""
        quiet = [i for i, c in self.register.open.items() if c.severity == "notice"]
        if not quiet:
            return []
        e_values = self.detector.evidence(np.array(quiet))
        changes = []
        for i, e_value in zip(quiet, e_values.tolist(), strict=True):
            change = self.register.open[i]
            effect = (change.observed or 0.0) - (change.baseline or 0.0)
            if self._severity(i, e_value, effect) == "page":
                self.register.open[i] = replace(change, severity="page", e_value=e_value, at=at)
                changes.append(self.register.open[i])
        return changes

    def _close(self, i: int, at: int) -> Change:
        return recovered(self.register.open.pop(i), at)

    def accept(self, action: Action, at: int) -> list[Change]:
        """Take the new level of a stream for normal; nothing when it is in no change."""
        i = self.register.found(action.finding)
        if i is None:
            return []
        self.detector.accept([i])
        self.seasons.forget([i])
        return [ended(self.register.open.pop(i), at, "accepted")]

    def retire(self, before: int, at: int) -> list[Change]:
        """Forget streams without a value since ``before``; their open changes end."""
        gone = self.register.unused(before)
        if not gone.size:
            return []
        rows = np.setdiff1d(np.arange(self.detector.n_streams), gone)
        self.detector.take(rows)
        self.seasons.take(rows)
        self._seen = self._seen[rows]
        over = [ended(change, at, "retired") for change in self.register.keep(rows)]
        self._name_parents()
        self._require(np.arange(self.detector.n_streams))
        return over

    def dump(self) -> dict[str, Any]:
        """State as JSON types."""
        return {
            "detector": self.detector.snapshot(),
            "register": self.register.dump(),
            "seen": pack(self._seen),
            "seasons": self.seasons.dump(),
        }

    def load(self, raw: dict[str, Any]) -> Self:
        """Take a stored state over; the parameters of now win over those it was made with."""
        self.detector = RateDetector.restore(raw["detector"])
        self.register = Register.load(raw["register"])
        self._seen = unpack(raw["seen"])
        self.seasons = Seasons().load(raw.get("seasons"), self.detector.n_streams)
        self._name_parents()
        self.detector.warm_up = self.warm_up
        self.detector.settle = WEEK // CELL
        self._require(np.arange(self.detector.n_streams))
        return self
