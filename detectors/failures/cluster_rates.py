"""Surging and emerging clusters: rates of failures against opportunities, one false-alarm budget.

Every cluster is a stream of a `rates.RateDetector`: failures of the cluster per tick,
among the interactions that could have failed that way. All share the threshold of a
`budget.FalseAlarmBudget`, so the expected number of false alerts a week is bounded however
many clusters there are and however they hang together.

**A cluster founded between refits** has a past as well: the m-th failure of its kind in N
opportunities is what founded it. If its rate had been constant, N would be the waiting time for m
successes, and ``P(N >= n)`` is the probability of at most ``m - 1`` successes among ``n - 1``. So a
reference of ``m - 1`` failures in all earlier opportunities gives an exact p-value, though the
moment of founding was chosen by the data. What rings on top of it is *emerging*: more frequent than
ever since the watch began. A cluster born in a refit learns its reference from then on, since its
past was not counted tick by tick.

References
----------
J. Shin, A. Ramdas, A. Rinaldo: E-detectors: a nonparametric framework for sequential change
detection. arXiv:2203.03532.
J. B. S. Haldane: On a method of estimating frequencies. Biometrika 33 (1945), for waiting times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detectors.base import Snapshot
from detectors.change.budget import FalseAlarmBudget
from detectors.change.rates import RateDetector
from detectors.failures.lineage import Transition


@dataclass(frozen=True, slots=True)
class Surge:
    """A cluster that is more frequent than it was.

    Attributes
    ----------
    cluster
        Its id.
    emerging
        Whether it is compared with the time before it was a cluster.
    e_value
        Evidence at the last tick.
    baseline, observed
        Failures per opportunity in the reference, and since the change.
    low, high
        95 % interval of ``observed``.
    since, alarm
        Ticks (0-based) at which the change likely began, and at which it was announced.
    """

    cluster: str
    emerging: bool
    e_value: float
    baseline: float
    observed: float
    low: float
    high: float
    since: int
    alarm: int


class ClusterSurges:
    """Follows the rate of every cluster and announces those that rise.

    Parameters
    ----------
    alerts_per_week, ticks_per_week
        Of the `FalseAlarmBudget`: expected false alerts of all clusters together.
    warm_up
        Opportunities that make a reference.
    dispersion
        Of the `RateDetector`: 1 for independent interactions (the guarantee is exact), None to
        measure it while a stream warms up.
    min_effect
        Smallest rise in failures per opportunity worth an alarm.

    Attributes
    ----------
    opportunities, tick
        Seen so far.

    Examples
    --------
    A kind that fails in 2 of 1,000 interactions, and from tick 100 on in 20:

    >>> rng = np.random.default_rng(3)
    >>> surges = ClusterSurges(alerts_per_week=1, ticks_per_week=1_008, warm_up=50_000)
    >>> for tick in range(200):
    ...     counts = {"lost parcel": rng.binomial(1_000, 0.02 if tick >= 100 else 0.002)}
    ...     if surges.update(counts, 1_000).surging:
    ...         break
    >>> tick, surges.surging[0].cluster, surges.surging[0].since
    (100, 'lost parcel', 100)
    """

    _params: ClassVar = (
        "alerts_per_week",
        "ticks_per_week",
        "warm_up",
        "dispersion",
        "min_effect",
    )

    def __init__(
        self,
        alerts_per_week: float = 1.0,
        ticks_per_week: float = 1_008.0,
        *,
        warm_up: float = 10_000.0,
        dispersion: float | None = 1.0,
        min_effect: float = 0.0,
    ) -> None:
        self.alerts_per_week = alerts_per_week
        self.ticks_per_week = ticks_per_week
        self.warm_up = warm_up
        self.dispersion = dispersion
        self.min_effect = min_effect
        self.opportunities = 0.0
        self.tick = 0
        self._budget = FalseAlarmBudget(alerts_per_week, ticks_per_week)
        self._rates = RateDetector(
            0, warm_up=warm_up, dispersion=dispersion, min_effect=min_effect, direction="up"
        )
        self._streams: dict[str, int] = {}
        self._free: list[int] = []
        self._young: set[str] = set()

    def __len__(self) -> int:
        """Clusters that are followed."""
        return len(self._streams)

    @property
    def threshold(self) -> float:
        """E-value at which a cluster is announced now."""
        return self._rates.threshold

    @property
    def e_values(self) -> dict[str, float]:
        """Current evidence for a rise of every cluster, e.g. for `budget.board`."""
        values = self._rates.e_value
        return {name: float(values[at]) for name, at in self._streams.items()}

    @property
    def surging(self) -> list[Surge]:
        """Clusters in a rise that was announced and is not over, strongest evidence first."""
        rates = self._rates
        detected, e_value, baseline = rates.detected, rates.e_value, rates.baseline
        if not detected.any():
            return []
        observed, (low, high) = rates.observed, rates.observed_interval()
        late = self.tick - rates.tick  # a stream counts from its own beginning
        since, alarm = rates.change_start + late, rates.alarm_tick + late
        found = [
            Surge(
                cluster=name,
                emerging=name in self._young,
                e_value=float(e_value[at]),
                baseline=float(baseline[at]),
                observed=float(observed[at]),
                low=float(low[at]),
                high=float(high[at]),
                since=int(since[at]),
                alarm=int(alarm[at]),
            )
            for name, at in self._streams.items()
            if detected[at]
        ]
        return sorted(found, key=lambda surge: (-surge.e_value, surge.cluster))

    def update(
        self,
        counts: Mapping[str, float],
        opportunities: float | Mapping[str, float],
        founded: Mapping[str, int] | None = None,
    ) -> Self:
        """Take one tick.

        Parameters
        ----------
        counts
            Failures of each cluster in the tick. A cluster never seen before is followed from now
            on, one that does not appear had none.
        opportunities
            Interactions that could have failed, or per cluster how many could have failed that way.
        founded
            Clusters that `FailureClusters.assign` founded in this tick, and of how many failures.
            Their counts in this tick made them and are no evidence.

        Raises
        ------
        ValueError
            If a cluster has more failures than opportunities.
        """
        founded = founded or {}
        everyone = (
            max(opportunities.values(), default=0.0)
            if isinstance(opportunities, Mapping)
            else opportunities
        )
        for name in sorted(counts.keys() | founded.keys()):
            if name not in self._streams:
                self._enter(name, founded.get(name))
        total, n = np.zeros(self._rates.n_streams), np.zeros(self._rates.n_streams)
        for name, at in self._streams.items():
            if name in founded:
                continue
            total[at] = counts.get(name, 0.0)
            if isinstance(opportunities, Mapping):
                n[at] = opportunities.get(name, 0.0)
            else:
                n[at] = opportunities
        self._rates.update(total, n)
        self.opportunities += everyone
        self.tick += 1
        return self

    def follow(self, transitions: Iterable[Transition]) -> Self:
        """Take what a refit did: merged clusters end, and what took them in or split starts anew.

        Their counts before and after are not of the same thing, so the reference is learnt again.
        """
        for step in transitions:
            if step.what == "merged":
                self._leave(step.source)
            if step.what in ("merged", "split"):
                changed = step.cluster if step.what == "merged" else step.source
                if changed in self._streams:
                    self._rates.reset([self._streams[changed]])
                    self._young.discard(changed)
        return self

    def require(self, warm_up: float) -> Self:
        """Let another warm-up apply from now on; references that are made stay."""
        self.warm_up = self._rates.warm_up = warm_up
        self._rates.require(np.arange(self._rates.n_streams), self.min_effect, warm_up)
        return self

    def accept(self, cluster: str) -> Self:
        """Take the present rate of a cluster for its normal one."""
        self._rates.accept([self._streams[cluster]])
        self._young.discard(cluster)
        return self

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types."""
        return {
            "detector": "ClusterSurges",
            "version": 1,
            "params": {name: getattr(self, name) for name in self._params},
            "opportunities": self.opportunities,
            "tick": self.tick,
            "rates": self._rates.snapshot(),
            "streams": dict(self._streams),
            "free": list(self._free),
            "young": sorted(self._young),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the surges of a snapshot again; ValueError if it is of another kind."""
        if (snapshot.get("detector"), snapshot.get("version")) != ("ClusterSurges", 1):
            raise ValueError("not a snapshot of ClusterSurges, version 1")
        restored = cls(**snapshot["params"])
        restored.opportunities = snapshot["opportunities"]
        restored.tick = snapshot["tick"]
        restored._rates = RateDetector.restore(snapshot["rates"])
        restored._streams = dict(snapshot["streams"])
        restored._free = list(snapshot["free"])
        restored._young = set(snapshot["young"])
        restored._budget.threshold(restored._rates.n_streams)
        return restored

    def _enter(self, name: str, founders: int | None) -> None:
        if self._free:
            at = self._free.pop()
        else:
            at = self._rates.n_streams
            self._rates.extend(1)
            self._rates.arl = self._budget.threshold(self._rates.n_streams)
        self._streams[name] = at
        past = math.floor(self.opportunities)
        if founders is not None and past >= max(self.warm_up, founders):
            self._rates.calibrate(founders - 1, past, streams=[at])
            self._young.add(name)

    def _leave(self, name: str) -> None:
        """Free the stream of a cluster that ended; a stream that was paid for is used again."""
        at = self._streams.pop(name, None)
        if at is not None:
            self._rates.reset([at])
            self._free.append(at)
            self._young.discard(name)
