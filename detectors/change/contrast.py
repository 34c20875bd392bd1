"""Does one agent fail more than the fleet gives reason to expect? Blind to what hits all alike.

A provider's outage, a holiday, a new model behind everybody's prompts: the failures of all agents
rise together, and a detector per agent rings for each of them. The contrast asks a question whose
answer does not move then: *of the failures of this tick, how many are this agent's?* Of S failures
in the fleet, an agent with a rate r_i and n_i interactions is expected to have a share

    w_i = n_i r_i / (n_i r_i + sum of n_j r_j over the others),

whatever common factor all rates are multiplied by: it cancels. The share is then a mean with an
unknown baseline and a known offset, and `rates` does the rest. The others enter through
their rates and their own failures of the same tick only: the agent is left out of what it is
compared with.

**The guarantee** is that of `rates` under: in every tick the failures of agent i are
Poisson with mean ``n_i r_i g``, where the factor g is arbitrary and may depend on everything that
went before. Given S, the agent's failures are then Binomial(S, w_i) exactly. Interactions that fail
at most once scatter less than Poisson, so for them the evidence errs on the quiet side (by the
share of interactions that fail: contrast what is rare, successes where failures are the rule).

**When it fails.** A common cause that hits agents unequally is a change of the contrast, and is
reported as one. The rates r_j of the others are estimates; their errors cancel while the mix of
traffic is the reference's, and enter in proportion where it is not. An agent in a detected change
no longer counts among "the others", so that one that carries much of the traffic does not make the
rest look good.

References
----------
J. Przyborowski, H. Wilenski: Homogeneity of results in testing samples from Poisson series.
Biometrika 31 (1940): the comparison of two rates given their sum.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from detectors.base import Bools, Floats, Ints, Snapshot, Streams
from detectors.change.baselines import Direction
from detectors.change.rates import RateDetector
from detectors.change.reference import TINY, scatter

_ROUNDS = 50  # of the fit; each is a matrix product, and a few suffice
_PRIOR = 0.5  # failures at the fleet's rate added to every agent: no rate is 0


class FleetContrast(Streams):
    """Change detector of every agent's failure rate relative to the rest of its fleet.

    Parameters
    ----------
    arl
        Expected ticks between two false alarms of one agent, at least.
    direction
        "up" (worse than the fleet), "down" or "both".
    dispersion
        As in `RateDetector`; None takes what `fit` measures.
    recovery
        As in `RateDetector`.

    Examples
    --------
    Twenty agents. At tick 100 all fail twice as often; at tick 200 agent 3 alone doubles again.

    >>> rng = np.random.default_rng(5)
    >>> rates = rng.uniform(0.02, 0.1, 20)
    >>> n = np.full((500, 20), 30)
    >>> contrast = FleetContrast(arl=10_000).fit(rng.binomial(n, rates), n)
    >>> for tick in range(300):
    ...     now = rates * (2 if tick >= 100 else 1)
    ...     now = np.where((np.arange(20) == 3) & (tick >= 200), 2 * now, now)
    ...     contrast = contrast.update(rng.binomial(30, now), 30)
    ...     if contrast.detected.any():
    ...         break
    >>> tick, np.flatnonzero(contrast.detected).tolist(), int(contrast.change_start[3])
    (214, [3], 202)
    """

    _params: ClassVar = ("arl", "direction", "dispersion", "recovery")
    _state: ClassVar = {
        "_rate": ("", np.float64),  # of each agent, up to a factor common to all
        "_base": ("", np.float64),  # log odds of its share in the reference
    }
    _rate: Floats
    _base: Floats

    def __init__(
        self,
        n_streams: int = 0,
        *,
        arl: float = 10_000.0,
        direction: Direction = "both",
        dispersion: float | None = None,
        recovery: float = 1_000.0,
    ) -> None:
        self.arl = arl
        self.direction: Direction = direction
        self.dispersion = dispersion
        self.recovery = recovery
        self.shares = self._watcher(n_streams)
        self._begin(n_streams)

    def _watcher(self, n_streams: int) -> RateDetector:
        return RateDetector(
            n_streams,
            arl=self.arl,
            direction=self.direction,
            dispersion=self.dispersion,
            recovery=self.recovery,
        )

    # -- what is known after the last tick ---------------------------------------------------------

    @property
    def e_value(self) -> Floats:
        """Current evidence for a change against the fleet, shape (n_streams,)."""
        return self.shares.e_value

    @property
    def threshold(self) -> float:
        """The e-value at which a change is announced; equal to ``arl``."""
        return float(self.arl)

    @property
    def detected(self) -> Bools:
        """Whether each agent has left its place in the fleet, shape (n_streams,)."""
        return self.shares.detected

    @property
    def change_start(self) -> Ints:
        """Tick (0-based, since `fit`) at which it likely left it; -1 without a change."""
        return self.shares.change_start

    @property
    def change_sign(self) -> Ints:
        """+1 for worse than the fleet, -1 for better, 0 without a change, shape (n_streams,)."""
        return self.shares.change_sign

    @property
    def rate_ratio(self) -> Floats:
        """How many times as often as the fleet leads one to expect, since the change began.

        Shape (n_streams,); NaN without a change. 1 is no change.
        """
        return self._as_ratio(self.shares.observed)

    def rate_ratio_interval(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Interval of `rate_ratio`; see `Episodes.observed_interval`.

        Returns
        -------
        low, high : ndarray of shape (n_streams,)
            NaN without a change.
        """
        low, high = self.shares.observed_interval(confidence)
        return self._as_ratio(low), self._as_ratio(high)

    # -- what moves it -----------------------------------------------------------------------------

    def fit(self, total: ArrayLike, n: ArrayLike) -> Self:
        """Learn every agent's place in the fleet, and forget all evidence.

        What the fleet did together in the reference does not matter: rates are fitted beside a
        factor per tick (maximum likelihood of the two-way Poisson model, by proportional fitting).

        Parameters
        ----------
        total, n
            Failures and interactions, shape (n_ticks, n_streams), ticks in order of time.

        Raises
        ------
        ValueError
            With fewer than two agents, an agent without interactions, or impossible counts.
        """
        failed, asked = np.asarray(total, np.float64), np.asarray(n, np.float64)
        if failed.shape != asked.shape or failed.ndim != 2 or failed.shape[1] < 2:
            raise ValueError("total and n must be (n_ticks, n_streams) of two agents at least")
        if not ((failed >= 0) & (failed <= asked)).all() or not asked.sum(axis=0).all():
            raise ValueError("total must lie between 0 and n, and every agent needs interactions")
        n_streams = failed.shape[1]
        fresh = type(self)(n_streams, **{name: getattr(self, name) for name in self._params})
        vars(self).update(vars(fresh))
        self._rate = _two_way(failed, asked)
        others = np.ones(n_streams, np.bool_)
        hits, pool, expected = self._shares_of(failed, asked, others)
        everything = pool.sum(axis=0)
        mean = (pool * expected).sum(axis=0) / np.maximum(everything, TINY)
        self._base = special.logit(np.clip(mean, TINY, 1 - TINY))
        spread = None
        if self.dispersion is None:
            spread = scatter(hits, pool, expected, 1.0)
        self.shares.calibrate(hits.sum(axis=0), np.maximum(everything, TINY), spread)
        return self

    def update(self, total: ArrayLike, n: ArrayLike) -> Self:
        """Take one tick of the whole fleet.

        Parameters
        ----------
        total, n
            Failures and interactions of every agent, shape (n_streams,) or numbers. An agent
            without interactions, and a tick without failures, say nothing.

        Raises
        ------
        ValueError
            Unless ``0 <= total <= n``, or before `fit`.
        """
        if not self.n_streams:
            raise ValueError("a contrast needs the fleet's reference: call fit() first")
        failed, asked = (
            np.broadcast_to(np.asarray(x, np.float64), (1, self.n_streams)) for x in (total, n)
        )
        if not ((failed >= 0) & (failed <= asked)).all():
            raise ValueError("total must lie between 0 and n")
        hits, pool, expected = self._shares_of(failed, asked, ~self.shares.detected)
        share = np.clip(expected[0], TINY, 1 - TINY)
        self.shares.update(hits[0], pool[0], special.logit(share) - self._base)
        return self

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        return {**super().snapshot(), "shares": self.shares.snapshot()}

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the detector of a snapshot again; ValueError if it is of another kind."""
        contrast = super().restore(snapshot)
        contrast.shares = RateDetector.restore(snapshot["shares"])
        if contrast.shares.n_streams != contrast.n_streams:
            raise ValueError("the parts of the snapshot follow different numbers of streams")
        return contrast

    def extend(self, count: int) -> Self:
        """Refuse: a new agent has no place in the fleet yet, learn it with `fit`.

        Raises
        ------
        ValueError
            Always: shares of a fleet are learned together.
        """
        raise ValueError("a fleet that grew needs a new reference: call fit()")

    # -- how ---------------------------------------------------------------------------------------

    def _shares_of(
        self, failed: Floats, asked: Floats, others: Bools
    ) -> tuple[Floats, Floats, Floats]:
        """Each agent's failures, those of agent and others together, and its expected share.

        All of shape (n_ticks, n_streams); the pool is 0 where nothing can be compared.
        """
        weight = asked * self._rate
        rest = [(x * others).sum(axis=1, keepdims=True) - x * others for x in (failed, weight)]
        rest[1] = np.maximum(rest[1], 0.0)  # the difference of two sums may miss 0 by a rounding
        comparable = (asked > 0) & (rest[1] > TINY * weight)
        pool = np.where(comparable, failed + rest[0], 0.0)
        expected = np.where(comparable, weight / np.maximum(weight + rest[1], TINY), 0.5)
        return np.where(comparable, failed, 0.0), pool, expected

    def _as_ratio(self, share: Floats) -> Floats:
        ratio: Floats = np.exp(special.logit(share) - special.logit(self.shares.expected))
        return ratio


def _two_way(failed: Floats, asked: Floats) -> Floats:
    """Rate of every agent in ``failures ~ Poisson(asked * rate * factor of the tick)``."""
    overall = failed.sum() / asked.sum()
    pseudo = _PRIOR / max(float(overall), TINY)  # interactions that bring _PRIOR failures
    rate: Floats = (failed.sum(axis=0) + _PRIOR) / (asked.sum(axis=0) + pseudo)
    per_tick = failed.sum(axis=1)
    for _ in range(_ROUNDS):
        factor = per_tick / np.maximum(asked @ rate, TINY)
        before, rate = rate, (failed.sum(axis=0) + _PRIOR) / (asked.T @ factor + pseudo)
        if np.allclose(before, rate, rtol=1e-9, atol=0):
            break
    return rate
