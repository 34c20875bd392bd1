"""Every new version of an agent against the version before it, safe to look at at any time.

Only concurrent traffic counts: the hours of event time are strata, and an hour in which one of the
two versions had no interaction says nothing. So an outage hits both alike, and a canary of any
share is compared with what ran beside it. Verdicts are confidence sequences
(`detectors.compare.verdicts`); a measure that is worse is a finding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from detectors.base import Floats
from detectors.compare.verdicts import Verdict, compare_means
from processors.signals import TOKENS
from processors.stations.base import CELL, Action, Change, Output, Sealed, moment
from processors.stations.streams import change_fields, compress, ended, expand

_LAYOUT: Final = 1
_HOUR: Final = 3600
_DAY: Final = 86_400
_GONE_H: Final = 3  # hours in which an agent works without a version that is then gone
_ACCEPTED: Final = "accepted"  # instead of a verdict: by this measure the version is normal
_SHARES: Final = 6  # numbers per stratum: n, sum and sum of squares of either version


@dataclass(frozen=True, slots=True)
class Measure:
    """What versions are compared by.

    Attributes
    ----------
    value
        Of one interaction, null where it says nothing.
    margin
        Difference that does not matter: in the unit of the measure, relative for a ratio.
    ratio
        Whether versions are compared by the mean of the logarithm, as heavy tails are.
    """

    name: str
    value: pl.Expr
    unit: str
    margin: float
    higher_is_better: bool = False
    ratio: bool = False
    settled: bool = False
    severity: str = "page"

    @property
    def expression(self) -> pl.Expr:
        """What is averaged."""
        if not self.ratio:
            return self.value.cast(pl.Float64)
        return pl.when(self.value > 0).then(self.value).cast(pl.Float64).log()

    @property
    def width(self) -> float:
        """Margin in the unit of what is averaged."""
        return math.log1p(self.margin) if self.ratio else self.margin


MEASURES: Final = (
    Measure("success", pl.col("success"), "share", 0.02, higher_is_better=True),
    Measure(
        "satisfaction", pl.col("satisfaction"), "share", 0.05, higher_is_better=True, settled=True
    ),
    Measure("duration_ms", pl.col("duration_ms"), "ms", 0.1, ratio=True),
    Measure("cost_usd", pl.col("cost_usd"), "USD", 0.1, ratio=True),
    Measure("tokens", TOKENS, "tokens", 0.1, ratio=True, severity="notice"),
    Measure(
        "tool_errors", (pl.col("tool_errors") > 0).cast(pl.Float64), "share", 0.02,
        severity="notice",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class VersionsConfig:
    """How versions are compared.

    Attributes
    ----------
    alpha
        Probability that a version is ever called worse or better by a measure and is not.
    watch_days
        How long a new version is watched against the one before it.
    retire_days
        Versions without an interaction for so long are forgotten.
    """

    alpha: float = 0.005
    watch_days: int = 14
    retire_days: int = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A verdict on one measure: a row of ``verdicts``."""

    table: ClassVar[str] = "verdicts"
    schema: ClassVar[Mapping[str, Any]] = {
        "version": pl.UInt64(), "at": pl.Datetime("ms", "UTC"), "effect": pl.Float64(),
        "low": pl.Float64(), "high": pl.Float64(), "n_baseline": pl.UInt64(),
        "n_candidate": pl.UInt64(), "needed": pl.UInt64(),
    }  # fmt: skip

    environment: str
    agent: str
    baseline: str
    candidate: str
    measure: str
    verdict: str
    effect: float | None
    low: float | None
    high: float | None
    unit: str
    n_baseline: int
    n_candidate: int
    needed: int | None
    at: int

    def row(self) -> dict[str, Any]:
        """Values by column."""
        return {**asdict(self), "at": moment(self.at), "version": self.at}


@dataclass(slots=True)
class Pair:
    """A new version and the one before it: sums per measure and hour, verdicts, open changes.

    ``without`` are the latest hours in which the agent worked and the new version did not.
    """

    baseline: str
    candidate: str
    first: int
    last: int = 0
    hours: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    open: dict[str, Change] = field(default_factory=dict)
    without: list[int] = field(default_factory=list)

    def add(self, measure: str, hour: int, arm: int, sums: Sequence[float]) -> None:
        """Add number, sum and sum of squares of one version in an hour."""
        row = self.hours.setdefault(measure, {}).setdefault(hour, [0.0] * _SHARES)
        for i, value in enumerate(sums):
            row[3 * arm + i] += value

    def keep_shared(self, before: int) -> None:
        """Forget the hours before then in which one of the versions had no value."""
        for measure, hours in self.hours.items():
            kept = {h: row for h, row in hours.items() if h >= before or (row[0] and row[3])}
            self.hours[measure] = kept

    def table(self, measure: str) -> Floats:
        """Sums of the hours in which both versions had values, shape (hours, 6)."""
        rows = np.array(list(self.hours.get(measure, {}).values()), np.float64)
        rows = rows.reshape(-1, _SHARES)
        both: Floats = rows[(rows[:, 0] > 0) & (rows[:, 3] > 0)]
        return both


@dataclass(slots=True)
class VersionsState:
    """Versions of every agent with their traffic of late, and the pairs that are compared."""

    seen: dict[tuple[str, str], dict[str, tuple[int, float]]] = field(default_factory=dict)
    pairs: dict[tuple[str, str, str], Pair] = field(default_factory=dict)
    day: int = 0


class Versions:
    """The station; see `processors.stations.base.Station`."""

    name = "versions"
    fleet = False

    def __init__(self, config: VersionsConfig | None = None) -> None:
        self.config = config or VersionsConfig()
        self.parameters: Mapping[str, Any] = asdict(self.config)

    def begin(self) -> VersionsState:
        """State before anything was read."""
        return VersionsState()

    def step(self, sealed: Sealed, state: VersionsState) -> tuple[VersionsState, Sequence[Output]]:
        """Take what was sealed; returns verdicts that changed or an hour's end, and changes."""
        outputs: list[Output] = []
        for action in sealed.actions:
            outputs += self._accept(action, state, sealed.lo + CELL)
        now = sealed.results.filter(pl.col("decided") >= sealed.lo)
        self._meet(now, state, sealed.hi)
        touched = self._add(now, state, settled=False)
        touched |= self._add(sealed.settled, state, settled=True)
        self._miss(now, state)
        for key in sorted(touched):
            outputs += self._judge(key, state.pairs[key], sealed.hi)
        outputs += self._retire(state, sealed.hi)
        if sealed.hi // _DAY != state.day:
            state.day = sealed.hi // _DAY
            self._forget(state, state.day * _DAY)
        return state, outputs

    @staticmethod
    def _accept(action: Action, state: VersionsState, at: int) -> list[Output]:
        """Take a new version for normal by the measure of a finding: it is judged no more."""
        if action.action != "accept":
            return []
        outputs: list[Output] = []
        for pair in state.pairs.values():
            for measure, change in list(pair.open.items()):
                if change.change_id == action.finding:
                    pair.verdicts[measure] = _ACCEPTED
                    outputs.append(ended(pair.open.pop(measure), at, "accepted"))
        return outputs

    def _meet(self, rows: pl.DataFrame, state: VersionsState, at: int) -> None:
        """Note the traffic of every version; one that is new is paired with the busiest other."""
        known = rows.filter(pl.col("agent_version") != "")
        counts = (
            known.group_by("environment", "agent", "agent_version")
            .agg(first=pl.col("decided").min(), n=pl.len())
            .sort("first", "environment", "agent", "agent_version")
        )
        for environment, agent, version, first, n in counts.iter_rows():
            versions = state.seen.setdefault((environment, agent), {})
            if version not in versions and versions:
                baseline = max(versions, key=lambda v: (self._late(versions[v], first), v))
                key = environment, agent, version
                before = state.pairs.get(key)  # what was accepted of one that comes back stays so
                accepted = before.verdicts if before else {}
                state.pairs[key] = Pair(baseline, version, first, verdicts=accepted)
            past = self._late(versions.get(version, (first, 0.0)), at)
            versions[version] = (at, past + n)

    @staticmethod
    def _late(traffic: tuple[int, float], at: int) -> float:
        """Interactions, those of a day ago counting half."""
        return traffic[1] * float(0.5 ** (max(at - traffic[0], 0) / 86_400))

    def _add(
        self, rows: pl.DataFrame, state: VersionsState, *, settled: bool
    ) -> set[tuple[str, str, str]]:
        """Add the sums of both versions; returns the pairs whose new version got some."""
        if rows.is_empty() or not state.pairs:
            return set()
        arms: dict[tuple[str, str, str], list[tuple[tuple[str, str, str], int]]] = {}
        for key, pair in state.pairs.items():
            arms.setdefault((key[0], key[1], pair.baseline), []).append((key, 0))
            arms.setdefault((key[0], key[1], pair.candidate), []).append((key, 1))
        measures = [m for m in MEASURES if m.settled == settled]
        touched = set()
        for row in sums(rows, measures).iter_rows(named=True):
            for key, arm in arms.get((row["environment"], row["agent"], row["agent_version"]), ()):
                pair = state.pairs[key]
                if arm:
                    touched.add(key)
                pair.last = max(pair.last, row["last"]) if arm else pair.last
                for m in measures:
                    if row[f"n {m.name}"]:
                        found = [row[f"{part} {m.name}"] for part in ("n", "s", "q")]
                        pair.add(m.name, row["hour"], arm, found)
        return touched

    @staticmethod
    def _miss(rows: pl.DataFrame, state: VersionsState) -> None:
        """Note the hours in which agents worked without a version that has an open finding."""
        pairs = {key: pair for key, pair in state.pairs.items() if pair.open}
        if not pairs or rows.is_empty():
            return
        hour = pl.col("decided") // _HOUR * _HOUR
        by = rows.select("environment", "agent", "agent_version", hour=hour).unique().sort("hour")
        for environment, agent, version, at in by.iter_rows():
            for key, pair in pairs.items():
                if key[:2] == (environment, agent) and version != key[2]:
                    pair.without = [*(h for h in pair.without if h != at), at][-2 * _GONE_H :]

    def _judge(self, key: tuple[str, str, str], pair: Pair, at: int) -> list[Output]:
        outputs: list[Output] = []
        for measure in MEASURES:
            table, before = pair.table(measure.name), pair.verdicts.get(measure.name)
            if not len(table) or before == _ACCEPTED:
                continue
            verdict = judge(measure, table, self.config.alpha)
            answer = "undecided" if verdict.answer == "not enough data" else verdict.answer
            if answer != before or at % _HOUR == 0:
                pair.verdicts[measure.name] = answer
                outputs.append(comparison(measure, verdict, key, pair.baseline, at))
            if answer == "worse" and before != "worse":
                outputs += self._open(key, pair, measure, table, at)
            elif answer != "worse" and measure.name in pair.open:
                outputs.append(ended(pair.open.pop(measure.name), at, "recovered"))
        return outputs

    def _open(
        self, key: tuple[str, str, str], pair: Pair, measure: Measure, table: Floats, at: int
    ) -> list[Output]:
        """Announce a version; it is told once for as long as it is worse."""
        if measure.name in pair.open:
            return []
        text = "\x1f".join((*key, pair.baseline, measure.name, str(pair.first)))
        means = table[:, [1, 4]].sum(axis=0) / table[:, [0, 3]].sum(axis=0)
        before, after = np.exp(means) if measure.ratio else means
        worse = 1 - np.array([before, after]) if measure.higher_is_better else (before, after)
        change = Change(
            change_id=hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
            at=at, status="open", severity=measure.severity, station=self.name,
            signal=f"version_{measure.name}", direction="up", environment=key[0], agent=key[1],
            attribute="agent_version", value=pair.candidate, began=pair.first, found=at,
            e_value=1 / self.config.alpha, baseline=float(worse[0]), observed=float(worse[1]),
            unit=measure.unit, n=int(table[:, 3].sum()),
        )  # fmt: skip
        pair.open[measure.name] = change
        return [change]

    def _retire(self, state: VersionsState, at: int) -> list[Output]:
        """End the findings of versions that are gone, and pairs that were watched long enough.

        A night is no end: gone is who is missing while the agent works. Whoever comes back after
        that is met and judged as new.
        """
        outputs: list[Output] = []
        for key, pair in list(state.pairs.items()):
            done = at - pair.first > self.config.watch_days * _DAY
            since = pair.last // _HOUR * _HOUR
            missed = sum(since < hour <= at - _HOUR for hour in pair.without)
            if done or missed >= _GONE_H:
                reason = "unwatched" if done else "retired"
                outputs += [ended(change, at, reason) for change in pair.open.values()]
                accepted = {m: v for m, v in pair.verdicts.items() if v == _ACCEPTED}
                del state.pairs[key]
                if not done:
                    state.seen.get(key[:2], {}).pop(key[2], None)
                    if accepted:
                        kept = Pair(pair.baseline, pair.candidate, at, verdicts=accepted)
                        state.pairs[key] = kept
            elif at % _HOUR == 0:
                pair.keep_shared(at - 2 * _HOUR)  # feedback comes half an hour late
        return outputs

    def _forget(self, state: VersionsState, today: int) -> None:
        """Forget versions that did nothing for long, unless they are compared with another."""
        before = today - self.config.retire_days * _DAY
        paired = {(*key[:2], v) for key, p in state.pairs.items() for v in (p.baseline, key[2])}
        kept = {
            agent: {
                v: traffic for v, traffic in versions.items()
                if traffic[0] >= before or (*agent, v) in paired
            }
            for agent, versions in state.seen.items()
        }  # fmt: skip
        state.seen = {agent: versions for agent, versions in kept.items() if versions}

    def size(self, state: VersionsState) -> int:
        """Versions that are known, and pairs that are compared."""
        return len(state.pairs) + sum(map(len, state.seen.values()))

    def dump(self, state: VersionsState) -> bytes:
        """State as bytes."""
        return compress(
            {
                "layout": _LAYOUT,
                "day": state.day,
                "seen": [[*key, versions] for key, versions in state.seen.items()],
                "pairs": [
                    [*key[:2], p.baseline, p.candidate, p.first, p.last,
                     {m: list(h.items()) for m, h in p.hours.items()}, p.verdicts,
                     {m: change_fields(c) for m, c in p.open.items()}, p.without]
                    for key, p in state.pairs.items()
                ],
            }
        )  # fmt: skip

    def load(self, raw: bytes) -> VersionsState:
        """Build the state of `dump`."""
        found = expand(raw, _LAYOUT)
        seen = {
            (e, a): {v: (int(at), float(n)) for v, (at, n) in versions.items()}
            for e, a, versions in found["seen"]
        }
        pairs = {}
        for e, a, *pair in found["pairs"]:
            baseline, candidate, first, last, hours, verdicts, opened, *without = pair
            pairs[e, a, candidate] = Pair(
                baseline, candidate, first, last,
                {m: {int(h): row for h, row in rows} for m, rows in hours.items()}, verdicts,
                {m: Change(**c) for m, c in opened.items()}, *without,
            )  # fmt: skip
        return VersionsState(seen, pairs, found.get("day", 0))


def sums(rows: pl.DataFrame, measures: Iterable[Measure] = MEASURES) -> pl.DataFrame:
    """Number, sum and sum of squares of every measure per agent, version and hour."""
    values = {m.name: m.expression for m in measures}
    parts = []
    for name, value in values.items():
        parts += [
            value.count().alias(f"n {name}"),
            value.sum().alias(f"s {name}"),
            (value * value).sum().alias(f"q {name}"),
        ]
    hour = (pl.col("decided") // _HOUR * _HOUR).alias("hour")
    return (
        rows.group_by("environment", "agent", "agent_version", hour)
        .agg(*parts, last=pl.col("decided").max())
        .sort("environment", "agent", "agent_version", "hour")
    )


def judge(measure: Measure, table: Floats, alpha: float) -> Verdict:
    """Compare two versions by the sums of the hours that they share, shape (hours, 6)."""
    columns = table.T
    return compare_means(
        (columns[0], columns[1], columns[2]),
        (columns[3], columns[4], columns[5]),
        margin=measure.width,
        higher_is_better=measure.higher_is_better,
        alpha=alpha,
    )


def comparison(
    measure: Measure, verdict: Verdict, key: tuple[str, str, str], baseline: str, at: int
) -> Comparison:
    """A verdict as a row; effects of ratios are relative (0.1: ten per cent more)."""

    def shown(value: float) -> float | None:
        if not math.isfinite(value):
            return None
        return math.expm1(min(value, 50.0)) if measure.ratio else value

    return Comparison(
        environment=key[0],
        agent=key[1],
        baseline=baseline,
        candidate=key[2],
        measure=measure.name,
        verdict="undecided" if verdict.answer == "not enough data" else verdict.answer,
        effect=shown(verdict.difference),
        low=shown(verdict.low),
        high=shown(verdict.high),
        unit="ratio" if measure.ratio else measure.unit,
        n_baseline=verdict.n_old,
        n_candidate=verdict.n_new,
        needed=verdict.still_needed,
        at=at,
    )
