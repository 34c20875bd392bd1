"""Has the order of an agent's steps changed? Transition probabilities as mixes of their own.

An agent that used to look an order up before refunding it and now refunds first calls the same
tools equally often: the mix of tools does not move, the transitions do. Given the step before, the
next step is a draw from a mix; every previous step has one, and a change moves some categories of
some of them. Each transition is an indicator of an `EnsembleDetector`, whose evidence is their
mean, so a group of k states pays log(k squared) nats, once, for not knowing where to look.

The guarantee is that of `rates` if the steps are a Markov chain: given the step before,
the next is independent of everything earlier. Longer habits make transitions scatter more than
that, which the measured dispersion (``dispersion=None``) answers approximately.

References
----------
P. Billingsley: Statistical methods in Markov chains. Ann. Math. Statist. 32 (1961): given its
previous states, a chain's transitions are independent multinomials.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Bools, Floats, Ints, Snapshot
from detectors.change.ensembles import EnsembleDetector

START: Final = "<start>"
END: Final = "<end>"
OTHER: Final = "<other>"


def transition_counts(paths: Iterable[Sequence[str]], states: Sequence[str]) -> Ints:
    """Count the transitions of paths, beginning and end included.

    Parameters
    ----------
    paths
        Steps of each interaction in order, e.g. the tools it called.
    states
        Steps to tell apart; every other one counts as `OTHER`. Keep them few: the evidence of a
        change is shared between all transitions.

    Returns
    -------
    ndarray of shape (len(states) + 2, len(states) + 2)
        Row: the step before (`START`, states, `OTHER`). Column: the next (`END`, states, `OTHER`).

    Examples
    --------
    >>> transition_counts([["find", "refund"], ["find", "find"]], ["find", "refund"])
    array([[0, 2, 0, 0],
           [1, 1, 1, 0],
           [1, 0, 0, 0],
           [0, 0, 0, 0]])
    """
    size = len(states) + 2
    at = {state: i for i, state in enumerate(states, start=1)}
    counts = np.zeros((size, size), np.int64)
    for path in paths:
        steps = [0, *(at.get(step, size - 1) for step in path), 0]  # START and END share the 0
        for before, after in pairwise(steps):
            counts[before, after] += 1
    return counts


class TransitionDetector:
    """Change detector of the transition probabilities of many agents.

    Parameters
    ----------
    n_groups
        How many agents to follow.
    states
        Steps to tell apart, as in `transition_counts`.
    arl
        Expected ticks between two false alarms of one agent, at least.
    **params
        Of every transition: see `RateDetector`. ``warm_up`` counts the steps out of each state.

    Examples
    --------
    From tick 100 on, the agent refunds before it looks: the tools are called as often as before.

    >>> rng = np.random.default_rng(2)
    >>> usual, hasty = ["find", "check", "refund"], ["find", "refund", "check"]
    >>> states = ["find", "check", "refund"]
    >>> detector = TransitionDetector(1, states, warm_up=1500, dispersion=1.0)
    >>> for tick in range(200):
    ...     odd = rng.random(20) < (0.2 if tick >= 100 else 0.05)
    ...     paths = [hasty if x else usual for x in odd]
    ...     detector = detector.update([transition_counts(paths, states)])
    ...     if detector.detected[0]:
    ...         break
    >>> tick, int(detector.change_start[0]), detector.leading[0]
    (107, 100, ('find', 'check'))
    """

    def __init__(
        self, n_groups: int, states: Sequence[str], *, arl: float = 10_000.0, **params: Any
    ) -> None:
        self.n_groups = n_groups
        self.states = tuple(states)
        self.arl = arl
        size = len(self.states) + 2
        self.mixes = EnsembleDetector(
            n_groups, size * size, arl=arl, **{"direction": "both", **params}
        )

    @property
    def e_value(self) -> Floats:
        """Current evidence for a change of any transition, shape (n_groups,)."""
        return self.mixes.e_value

    @property
    def transition_e_values(self) -> Floats:
        """Evidence of every transition, shape (n_groups, size, size) as `transition_counts`."""
        return self._square(self.mixes.indicator_e_values)

    @property
    def threshold(self) -> float:
        """The e-value at which a change is announced; equal to ``arl``."""
        return float(self.arl)

    @property
    def detected(self) -> Bools:
        """Whether each agent is in a detected change, shape (n_groups,)."""
        return self.mixes.detected

    @property
    def change_start(self) -> Ints:
        """Tick at which the change likely began, shape (n_groups,); -1 without one."""
        return self.mixes.change_start

    @property
    def change_sign(self) -> Ints:
        """+1 where the leading transition became more frequent, -1 less, 0 without a change."""
        return self.mixes.change_sign

    @property
    def baseline(self) -> Floats:
        """Transition probabilities of the reference, shape (n_groups, size, size)."""
        return self._square(self.mixes.baseline)

    @property
    def observed(self) -> Floats:
        """Probability of the leading transition since the change began; NaN without one."""
        return self.mixes.observed

    @property
    def leading(self) -> list[tuple[str, str] | None]:
        """The transition with most evidence at the alarm, per agent; None without a change."""
        size = len(self.states) + 2
        rows, columns = (START, *self.states, OTHER), (END, *self.states, OTHER)
        return [
            None if i < 0 else (rows[i // size], columns[i % size])
            for i in self.mixes.leading.tolist()
        ]

    def update(self, counts: ArrayLike) -> Self:
        """Take one tick: `transition_counts` of every agent, shape (n_groups, size, size)."""
        self.mixes.update(*self._steps(counts))
        return self

    def calibrate(self, counts: ArrayLike, dispersion: ArrayLike | None = None) -> Self:
        """Set the reference, shape as in `update`; a step never taken gets the widest baseline."""
        total, n = self._steps(counts)
        self.mixes.calibrate(np.where(n > 0, total, 0.5), np.maximum(n, 1.0), dispersion)
        return self

    def accept(self, groups: ArrayLike) -> Self:
        """Take the changed order of ``groups`` (indices) for normal: see `EnsembleDetector`."""
        self.mixes.accept(groups)
        return self

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        return {
            "detector": "TransitionDetector",
            "version": 1,
            "params": {"n_groups": self.n_groups, "states": list(self.states), "arl": self.arl},
            "mixes": self.mixes.snapshot(),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the detector of a snapshot again; ValueError if it is of another kind."""
        if (snapshot.get("detector"), snapshot.get("version")) != ("TransitionDetector", 1):
            raise ValueError("not a snapshot of TransitionDetector, version 1")
        detector = cls(**snapshot["params"])
        size = len(detector.states) + 2
        detector.mixes = EnsembleDetector.restore(snapshot["mixes"])
        if (detector.mixes.n_groups, detector.mixes.indicators) != (detector.n_groups, size**2):
            raise ValueError("the mixes of the snapshot do not fit its states")
        return detector

    def _steps(self, counts: ArrayLike) -> tuple[Floats, Floats]:
        size = len(self.states) + 2
        taken = np.asarray(counts, np.float64)
        if taken.shape != (self.n_groups, size, size):
            raise ValueError(f"counts must have the shape {(self.n_groups, size, size)}")
        out_of = np.broadcast_to(taken.sum(axis=2, keepdims=True), taken.shape)
        return taken.reshape(self.n_groups, -1), out_of.reshape(self.n_groups, -1)

    def _square(self, values: Floats) -> Floats:
        size = len(self.states) + 2
        return values.reshape(self.n_groups, size, size)
