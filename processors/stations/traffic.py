"""How much traffic an agent has: silence, and a volume unlike the same hour of other weeks.

A silent agent sends nothing, so evidence is a gap: with expected interactions ``L`` since the last
one, the chance of a gap so long is ``exp(-L)`` for independent arrivals. Every interaction begins
a gap, so a week has as many chances of a false alarm as interactions; the threshold on ``L`` prices
them all. ``L`` is halved and divided by the scatter of the counts, because arrivals come in bursts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Self, TypeAlias

import numpy as np
import polars as pl

from detectors.base import Bools, Floats, pack, unpack
from detectors.change.seasonal import HOURS
from processors.stations.base import Action, Change
from processors.stations.seasons import hour_of_week
from processors.stations.streams import Register, Thresholds, ended, opened, recovered
from processors.stations.tails import MINUTE

Minute: TypeAlias = Sequence[tuple[Any, ...]]
"""Rows of one minute: its time, environment, agent, interactions."""

HOUR: Final = 3600
_MEMORY: Final = 0.3  # weight of the latest week in the profile
_LEAST_HOURS: Final = 2
_LOUD: Final = 4.0  # standard deviations
_UNEXPLAINED: Final = 0.3  # relative scatter of an hour between weeks that is nothing special


def counts(rows: pl.DataFrame) -> pl.DataFrame:
    """Interactions per agent and minute."""
    return rows.group_by("minute", "environment", "agent").agg(n=pl.len()).sort(
        "minute", "environment", "agent"
    )  # fmt: skip


class TrafficStreams:
    """Silence and volume of all agents of a bucket; parameters as in `rates`."""

    _ARRAYS: Final = ("profile", "hours", "gap", "last", "this_hour", "squares", "scatter", "away")

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self.register = Register()
        self.position = 0
        # Interactions per hour of the week; also in memory as short as it is stored.
        self.profile = np.full((0, HOURS), np.nan, np.float32)
        self.hours = np.zeros(0)  # whole hours seen
        self.gap = np.zeros(0)  # expected interactions since the last
        self.last = np.zeros(0)
        self.this_hour = np.zeros(0)
        self.squares = np.zeros(0)
        self.scatter = np.ones(0)  # variance of a minute's count over its mean
        self.away = np.zeros(0)  # hours in a row with a volume unlike the profile
        self.silent: dict[int, Change] = {}
        self.unusual: dict[int, Change] = {}

    def step(self, seen: pl.DataFrame, lo: int, hi: int) -> list[Change]:
        """Take the minutes from ``lo`` to ``hi`` with the `counts` of those that have any."""
        changes: list[Change] = []
        first = lo // MINUTE * MINUTE
        rows = seen.select("minute", "environment", "agent", "n").iter_rows()
        by_minute = {minute: list(part) for minute, part in groupby(rows, itemgetter(0))}
        if not self.register.keys and not by_minute:
            return changes
        for at in range(first, hi // MINUTE * MINUTE, MINUTE):
            changes += self._tick(at, by_minute.get(at))
        return changes

    def _tick(self, at: int, part: Minute | None) -> list[Change]:
        changes = self._close_hour(at) if at % HOUR == 0 and self.register.keys else []
        n = self._counted(at, part)
        active = n > 0
        self.gap = np.where(active, 0.0, self.gap + self._expected(at) / 60)
        self.last[active] = at
        self.this_hour += n
        self.squares += n * n
        changes += self._speak(active, at + MINUTE)
        return changes + self._fall_silent(at + MINUTE)

    def _counted(self, at: int, part: Minute | None) -> Floats:
        if part is None:
            return np.zeros(len(self.register.keys))
        keys = [("silence", environment, agent, "") for _, environment, agent, _ in part]
        self._grow(self.register.add(keys), at)
        n = np.zeros(len(self.register.keys))
        rows = [self.register.index[key] for key in keys]
        n[rows] = [row[3] for row in part]
        for i in rows:
            self.register.last[i] = at
        return n

    def _grow(self, fresh: int, at: int) -> None:
        if not fresh:
            return
        self.profile = np.vstack([self.profile, np.full((fresh, HOURS), np.nan, np.float32)])
        for name in self._ARRAYS[1:]:
            start = 1.0 if name == "scatter" else 0.0
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full(fresh, start)]))
        self.hours[-fresh:] = -1 if at % HOUR else 0  # the first hour may be half an hour

    def _expected(self, at: int) -> Floats:
        """Interactions per hour that the profile gives reason to expect now."""
        hour = hour_of_week(at)
        with np.errstate(all="ignore"):
            same_day = np.fmin.reduce(self.profile[:, hour % 24 :: 24], axis=1)
            any_hour = np.fmin.reduce(self.profile, axis=1)
        known = self.profile[:, hour]
        guess = np.where(np.isnan(known), np.where(np.isnan(same_day), any_hour, same_day), known)
        return np.where(self.hours >= _LEAST_HOURS, np.nan_to_num(guess), 0.0)

    def _close_hour(self, at: int) -> list[Change]:
        """Judge the hour that ended and let the profile learn it."""
        hour, n = hour_of_week(at - HOUR), self.this_hour
        known = self.profile[:, hour]
        whole = self.hours >= 0
        changes = self._judge_volume(known, n, at) if whole.any() else []
        quiet = np.zeros(n.size, np.bool_)
        quiet[list(self.silent)] = True
        learn = whole & ~quiet
        fresh = np.isnan(known)
        updated = np.where(fresh, n, (1 - _MEMORY) * np.nan_to_num(known) + _MEMORY * n)
        self.profile[learn, hour] = updated[learn]
        mean = n / 60
        spread = (self.squares / 60 - mean**2) / np.maximum(mean, 1e-9)
        busy = learn & (n >= 30)
        self.scatter[busy] = np.maximum(
            1.0, (1 - _MEMORY) * self.scatter[busy] + _MEMORY * spread[busy]
        )
        self.hours += 1
        self.this_hour = np.zeros(n.size)
        self.squares = np.zeros(n.size)
        return changes

    def _judge_volume(self, known: np.ndarray, n: Floats, at: int) -> list[Change]:
        usual = np.maximum(np.nan_to_num(known), 1.0)
        deviation = np.sqrt(self.scatter * usual + (_UNEXPLAINED * usual) ** 2)
        z = np.where((self.hours >= HOURS) & ~np.isnan(known), (n - usual) / deviation, 0.0)
        ratio = np.maximum(n, 0.5) / usual
        odd = (np.abs(z) >= _LOUD) | ((np.abs(z) >= _LOUD / 2) & (ratio <= 0.5))
        self.away = np.where(odd, self.away + 1, 0)
        changes = []
        for i in np.flatnonzero((self.away == 0) & self._marked(self.unusual)):
            changes.append(recovered(self.unusual.pop(int(i)), at))
        for i in np.flatnonzero((self.away == 2) & ~self._marked(self.unusual)):
            _, environment, agent, _ = self.register.keys[i]
            found = opened(
                ("volume", environment, agent, ""), at - 2 * HOUR, at, "notice",
                direction="up" if z[i] > 0 else "down", e_value=math.exp(min(z[i] ** 2 / 2, 100)),
                baseline=float(usual[i]), observed=float(n[i]), n=int(n[i]),
            )  # fmt: skip
            self.unusual[int(i)] = found
            changes.append(found)
        return changes

    def _marked(self, rows: dict[int, Change]) -> Bools:
        mask = np.zeros(len(self.register.keys), np.bool_)
        mask[list(rows)] = True
        return mask

    def _speak(self, active: Bools, at: int) -> list[Change]:
        return [recovered(self.silent.pop(i), at) for i in sorted(self.silent) if active[i]]

    def _fall_silent(self, at: int) -> list[Change]:
        evidence = self.gap / (2 * self.scatter)
        changes = []
        for i in np.flatnonzero(evidence > 5):
            week = max(float(np.nansum(self.profile[i])), 1.0) * len(self.register.keys)
            chances = week * self.thresholds.shares
            e_value = math.exp(min(float(evidence[i]), 300)) / week
            severity = "page" if self.hours[i] >= HOURS else "notice"
            budget = (
                self.thresholds.pages_per_week
                if severity == "page"
                else self.thresholds.notices_per_week
            )
            if int(i) in self.silent or evidence[i] < math.log(chances / budget):
                continue
            change = opened(
                self.register.keys[i], int(self.last[i]) + MINUTE, at, severity,
                direction="down", e_value=e_value, baseline=float(self.gap[i]), observed=0.0,
            )  # fmt: skip
            self.silent[int(i)] = change
            changes.append(change)
        return changes

    def accept(self, action: Action, at: int) -> list[Change]:
        """Take the present volume, or none, for normal: the profile is learnt anew."""
        every = [(rows, i) for rows in (self.silent, self.unusual) for i in rows]
        found = [(rows, i) for rows, i in every if rows[i].change_id == action.finding]
        if not found:
            return []
        rows, i = found[0]
        self.profile[i], self.hours[i], self.gap[i] = np.nan, -1, 0.0
        return [ended(rows.pop(i), at, "accepted")]

    def retire(self, before: int, at: int) -> list[Change]:
        """Forget agents without an interaction since ``before``; their open changes end."""
        gone = set(self.register.unused(before).tolist())
        if not gone:
            return []
        rows = np.array([i for i in range(len(self.register.keys)) if i not in gone], np.int64)
        over = [
            ended(c, at, "retired") for part in (self.silent, self.unusual) for i, c in part.items()
            if i in gone
        ]  # fmt: skip
        new = {int(old): at for at, old in enumerate(rows)}
        self.silent = {new[i]: c for i, c in self.silent.items() if i in new}
        self.unusual = {new[i]: c for i, c in self.unusual.items() if i in new}
        for name in self._ARRAYS:
            setattr(self, name, getattr(self, name)[rows])
        self.register.keep(rows)
        return over

    def dump(self) -> dict[str, Any]:
        """State as JSON types."""
        from processors.stations.streams import change_fields

        return {
            "register": self.register.dump(),
            "arrays": {n: pack(getattr(self, n)) for n in self._ARRAYS},
            "last": self.last.tolist(),
            "open": [
                [[i, change_fields(c)] for i, c in part.items()]
                for part in (self.silent, self.unusual)
            ],
        }

    def load(self, raw: dict[str, Any]) -> Self:
        """Take a stored state over."""
        self.register = Register.load(raw["register"])
        for name in self._ARRAYS:
            setattr(self, name, unpack(raw["arrays"][name]).astype(getattr(self, name).dtype))
        self.last = np.array(raw["last"], np.float64)
        self.silent, self.unusual = ({int(i): Change(**c) for i, c in part} for part in raw["open"])
        return self
