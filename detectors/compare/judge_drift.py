"""Who changed, the judge or the agents? Told apart by anchors, targets that are judged again.

Judgements of live traffic move when agents change and when the judge does. Anchors are fixed, so
what moves there is the judge. Two streams are watched: the mean of live judgements, and how often
the judge departs from what it first said of an anchor. Each has the sequential detector of
`detectors.change.rates`, and with it a bound on false alarms.

Live traffic is plentiful and anchors are few, so a changed judge mostly shows in live traffic
first. Nobody is blamed for that alone: the watch is then *suspicious*, which asks for the anchors
to be judged again at once, `ROUNDS` times, and decides then. The verdict is Fisher's exact test of
the departures since the change began against those of before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from scipy import stats

from detectors.change.rates import RateDetector

JUDGE_ALPHA: Final = 0.02
"""Chance that an agent's change is blamed on a judge that did not change."""

ROUNDS: Final = 3
"""How often all anchors are judged again before somebody is blamed."""


@dataclass(frozen=True, slots=True)
class Blame:
    """One change and whose it is.

    Attributes
    ----------
    who
        ``judge`` or ``agent``.
    began, found
        Ticks.
    baseline, observed
        Of the judge: share of anchors on which it departs from its first verdict. Of the agent:
        mean of live judgements.
    e_value
        Evidence of the stream that told.
    n
        Anchors or judgements since the change began.
    """

    who: Literal["judge", "agent"]
    began: int
    found: int
    baseline: float
    observed: float
    e_value: float
    n: int


class JudgeWatch:
    """Follows one evaluator; a tick is a span of time, such as an hour.

    Parameters
    ----------
    anchors
        How many anchors there are.
    arl
        Expected ticks between two false alarms of one stream, at least.
    warm_up
        Live judgements that make the reference; `anchor_warm_up` re-judgements.

    Examples
    --------
    A judge that turns strict at tick 120 while agents stay as they are:

    >>> import numpy as np
    >>> rng, watch = np.random.default_rng(1), JudgeWatch(anchors=60)
    >>> for tick in range(200):
    ...     strict, n = tick >= 120, 60 if watch.suspicious else 4
    ...     departs = int(rng.binomial(n, 0.3 if strict else 0.04))
    ...     found = watch.update(int(rng.binomial(50, 0.55 if strict else 0.8)), 50, departs, n)
    ...     if found:
    ...         break
    >>> found.who, 120 <= found.found < 130
    ('judge', True)
    """

    def __init__(
        self,
        anchors: int,
        arl: float = 10_000.0,
        warm_up: int = 1_000,
        anchor_warm_up: int = 200,
    ) -> None:
        self._anchors = anchors
        self._live = RateDetector(
            arl=arl, warm_up=warm_up, min_effect=0.02, dispersion=1.0, direction="both"
        )
        self._anchor = RateDetector(
            arl=arl, warm_up=anchor_warm_up, min_effect=0.02, dispersion=1.0, direction="up"
        )
        self._ticks: list[tuple[float, int, int, int]] = []
        self._suspected: int | None = None
        self._alarm = 0
        self._blamed = False

    @property
    def suspicious(self) -> bool:
        """Whether live judgements moved and too few anchors were judged again since to say why."""
        return self._suspected is not None and not self._blamed

    @property
    def alarm(self) -> int:
        """Tick in which live judgements were found to have moved; of meaning while suspicious."""
        return self._alarm

    def update(self, live: float, n: int, departures: int, anchors: int) -> Blame | None:
        """Take one tick: the first change that can be told, then nothing more.

        Parameters
        ----------
        live, n
            Sum of the live judgements, each from 0 to 1, and how many.
        departures, anchors
            Re-judged anchors on which the judge departs from its first verdict, and how many were
            re-judged.
        """
        self._ticks.append((live, n, departures, anchors))
        now = len(self._ticks) - 1
        self._live = self._live.update(live, n)
        self._anchor = self._anchor.update(departures, anchors)
        if self._blamed:
            return None
        if self._anchor.detected[0]:
            return self._blame("judge", int(self._anchor.change_start[0]), now)
        if self._suspected is None and self._live.detected[0]:
            self._suspected, self._alarm = int(self._live.change_start[0]), now
        if self._suspected is None:
            return None
        # The start is an estimate; what was judged after the alarm is after the change for certain.
        since = self._ticks[self._alarm + 1 :]
        if sum(tick[3] for tick in since) < ROUNDS * self._anchors:
            return None
        before = self._ticks[: self._suspected]
        known = [sum(tick[i] for tick in before) for i in (2, 3)]
        told = [sum(tick[i] for tick in since) for i in (2, 3)]
        moved = stats.fisher_exact(
            [[told[0], told[1] - told[0]], [known[0], known[1] - known[0]]], alternative="greater"
        )
        who: Literal["judge", "agent"] = "judge" if moved.pvalue < JUDGE_ALPHA else "agent"
        return self._blame(who, self._suspected, now)

    def _blame(self, who: Literal["judge", "agent"], began: int, found: int) -> Blame:
        self._blamed = True
        at, count = (2, 3) if who == "judge" else (0, 1)
        parts = self._ticks[:began], self._ticks[began:]
        sums = [(sum(t[at] for t in part), int(sum(t[count] for t in part))) for part in parts]
        rates = [total / n if n else 0.0 for total, n in sums]
        detector = self._anchor if who == "judge" else self._live
        evidence = float(detector.e_value[0])
        return Blame(who, began, found, rates[0], rates[1], evidence, sums[1][1])
