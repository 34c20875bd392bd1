"""Two samples of vectors: are they of one kind? Tests for windows, and one that runs for ever.

For finished windows there are three statistics with one calibration: permutation. If all vectors
are exchangeable, the observed statistic is as likely as any permuted one to be the largest, which
makes the p-value and the e-value valid for every sample size and every law.

- `energy_test`: any difference, no parameter; strongest for shifts.
- `mmd_test`: any difference at the scale of the kernel; also sees changes of shape.
- `classifier_test`: a classifier tries to tell the samples apart; the AUROC is an effect size that
  people understand. Strongest in many dimensions when few of them changed.

**Inputs or behaviour?** Given ``strata`` (the topic of the input that each vector belongs to), only
vectors of equal stratum are permuted and compared. A mix of inputs that moved is then no evidence;
what is left is a change of the vectors (answers, paths) *on equal inputs*.

**Many windows** against one reference are dependent tests. Their number times alpha still bounds
the expected false alerts: with `budget`, announce a window whose p-value is at most ``1 /
FalseAlarmBudget.threshold(n_streams)``, one tick being one window, and take more permutations than
that. Do not multiply their e-values. `ClassifierBet` may be looked at all the time.

References
----------
G. Szekely, M. Rizzo: Energy statistics: a class of statistics based on distances. J. Statist.
Plann. Inference 143 (2013).
A. Gretton et al.: A kernel two-sample test. JMLR 13 (2012).
D. Lopez-Paz, M. Oquab: Revisiting classifier two-sample tests. arXiv:1610.06545.
A. Podkopaev, A. Ramdas: Sequential predictive two-sample and independence testing.
arXiv:2305.00143.
Z. Ren, R. Barber: Derandomised knockoffs: leveraging e-values (soft-rank e-values). JRSS-B 86
(2024).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances

from detectors.base import Bools, Floats, Snapshot, pack, unpack

Vectors: TypeAlias = NDArray[Any]
Strata: TypeAlias = tuple[ArrayLike, ArrayLike]

_SHARPNESS: Final = 3.0  # of the soft rank: e-values of a few hundred for what stands out clearly


class TwoSample(NamedTuple):
    """What a test of two samples found.

    Attributes
    ----------
    effect
        Energy distance (unit of the vectors), squared MMD (0 ... 2), or AUROC (1/2 is none).
    p_value
        P(an effect this large) for samples of one kind; at least ``1 / (permutations + 1)``.
    e_value
        Evidence against "of one kind", expectation at most 1; at most ``permutations + 1``.
    """

    effect: float
    p_value: float
    e_value: float


def energy_test(
    reference: Vectors,
    window: Vectors,
    permutations: int = 499,
    seed: int = 0,
    strata: Strata | None = None,
) -> TwoSample:
    """Two-sample test by energy distance.

    Parameters
    ----------
    reference, window
        Vectors of shape (n, d) and (m, d); the distance matrix is (n + m) squared, so subsample.
    permutations
        More of them make smaller p-values possible.
    seed
        Of the permutations.
    strata
        Stratum of every vector of the reference and of the window, shapes (n,) and (m,).

    Raises
    ------
    ValueError
        Without vectors, or without a stratum that occurs in both samples.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> found = energy_test(rng.normal(size=(80, 3)), rng.normal(0.8, 1, (80, 3)))
    >>> round(found.effect, 2), found.p_value
    (1.02, 0.002)
    """
    return _permuted(
        reference, window, lambda x: -pairwise_distances(x), permutations, seed, strata
    )


def mmd_test(
    reference: Vectors,
    window: Vectors,
    permutations: int = 499,
    seed: int = 0,
    strata: Strata | None = None,
    bandwidth: float | None = None,
) -> TwoSample:
    """Two-sample test by maximum mean discrepancy with a Gaussian kernel.

    Parameters
    ----------
    reference, window, permutations, seed, strata
        As in `energy_test`.
    bandwidth
        Of the kernel; by default the median distance of the pooled vectors, which every permutation
        leaves as it is.

    Examples
    --------
    Twice the scatter around the same mean:

    >>> rng = np.random.default_rng(1)
    >>> mmd_test(rng.normal(size=(80, 3)), rng.normal(0, 2, (80, 3))).p_value
    0.002
    """

    def kernel(pooled: Vectors) -> Floats:
        squared = pairwise_distances(pooled, metric="sqeuclidean")
        width = bandwidth**2 if bandwidth is not None else np.median(squared)
        gram: Floats = np.exp(-squared / (2 * max(float(width), 1e-12)))
        return gram

    return _permuted(reference, window, kernel, permutations, seed, strata)


def classifier_test(
    reference: Vectors,
    window: Vectors,
    permutations: int = 499,
    seed: int = 0,
    strata: Strata | None = None,
) -> TwoSample:
    """Two-sample test by a classifier: logistic regression on one half, AUROC on the other.

    The labels of the second half are permuted, for which the classifier is a fixed function: one
    fit, and exact however it overfits.

    Parameters
    ----------
    reference, window, permutations, seed, strata
        As in `energy_test`; two vectors of each sample at least. The AUROC is the mean over strata
        of the held-out half, by how many pairs they have.

    Examples
    --------
    One of thirty dimensions moved:

    >>> rng = np.random.default_rng(1)
    >>> before, after = rng.normal(size=(2, 300, 30))
    >>> after[:, 7] += 0.8
    >>> found = classifier_test(before, after)
    >>> round(found.effect, 2), found.p_value
    (0.63, 0.002)
    """
    rng = np.random.default_rng(seed)
    pooled, is_window, stratum = _pooled(reference, window, strata)
    train = np.zeros(len(pooled), np.bool_)
    for label in (False, True):
        own = rng.permutation(np.flatnonzero(is_window == label))
        if own.size < 2:
            raise ValueError("a classifier needs two vectors of each sample at least")
        train[own[: own.size // 2]] = True
    model = LogisticRegression(class_weight="balanced", max_iter=500)
    model.fit(pooled[train], is_window[train])
    score: Floats = model.decision_function(pooled[~train])
    held, group = is_window[~train], stratum[~train]
    wins, pairs = np.zeros(permutations + 1), 0.0
    for rows in _mixed(held, group):
        labels = _labels(held[rows], permutations, rng)
        ranks = stats.rankdata(score[rows])
        m = int(held[rows].sum())
        wins += labels @ ranks - m * (m + 1) / 2
        pairs += m * (rows.size - m)
    return _judged(wins / pairs)


class ClassifierBet:
    """Sequential classifier test: pairs of vectors, one live and one from the past, for ever.

    A logistic regression, learnt on earlier pairs only, bets on which of the two is the live one.
    If live and past are of one kind, no bettor can win; the stakes are the evidence, and a new one
    is put in at every tick (e-SR), so that the change may begin at any time:

        P(false alarm within T ticks) <= T / arl,

    if given the past, swapping the live vector of a pair with the other changes no probabilities.
    That needs *fresh* vectors of the past for every tick: what was live a week ago at the same
    hour, for instance. A fixed reference drawn from again and again would in time be told apart by
    its own accidents.

    Parameters
    ----------
    dimensions
        Of the vectors.
    arl
        Expected ticks between two false alarms, at least: the threshold.
    rate
        Learning rate of the regression, in units of 1 over the mean square of a pair's difference
        in one dimension.

    Examples
    --------
    Unit vectors, twenty pairs per tick; the live ones drift at tick 100:

    >>> rng = np.random.default_rng(4)
    >>> bet = ClassifierBet(8, arl=1000)
    >>> for tick in range(200):
    ...     past, live = rng.normal(size=(2, 20, 8))
    ...     live[:, 2] += 0.7 * (tick >= 100)
    ...     bet = bet.update(live, past)
    ...     if bet.detected:
    ...         break
    >>> tick
    109
    """

    def __init__(self, dimensions: int, *, arl: float = 10_000.0, rate: float = 0.3) -> None:
        self.dimensions = dimensions
        self.arl = arl
        self.rate = rate
        self._weights = np.zeros(dimensions)
        self._length = 0.0  # mean squared length of a difference so far
        self._seen = 0
        self._evidence = np.zeros(len(_STAKES))
        self._detected = False

    @property
    def e_value(self) -> float:
        """Evidence that live and past differ, at the last tick."""
        return float(self._evidence.mean())

    @property
    def threshold(self) -> float:
        """The e-value at which a change is announced; equal to ``arl``."""
        return float(self.arl)

    @property
    def detected(self) -> bool:
        """Whether the evidence has reached the threshold since the last `reset`."""
        return self._detected

    @property
    def direction(self) -> Floats:
        """What the classifier looks at, shape (dimensions,): positive is more in live vectors."""
        return self._weights.copy()

    def update(self, live: ArrayLike, past: ArrayLike) -> Self:
        """Take one tick.

        Parameters
        ----------
        live, past
            Vectors of equal shape (m, dimensions), m >= 0; row i of one is paired with row i of the
            other.

        Raises
        ------
        ValueError
            If the shapes differ or are not (m, dimensions).
        """
        new, old = np.asarray(live, np.float64), np.asarray(past, np.float64)
        if new.shape != old.shape or new.shape[1:] != (self.dimensions,):
            raise ValueError("live and past must both have the shape (m, dimensions)")
        if not len(new):
            return self
        away = new - old
        # Swapping a pair flips the sign of its bet: expectation 0 given what was learnt before.
        bets = np.tanh(away @ self._weights / 2)
        steps = np.log1p(_STAKES * bets[:, None]).sum(axis=0)
        self._evidence = np.minimum((self._evidence + 1) * np.exp(np.minimum(steps, 200)), 1e200)
        self._detected |= self.e_value >= self.arl
        self._learn(away)
        return self

    def reset(self) -> Self:
        """Drop evidence and alarm; what was learnt stays."""
        self._evidence[:] = 0
        self._detected = False
        return self

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        return {
            "detector": "ClassifierBet",
            "version": 1,
            "params": {"dimensions": self.dimensions, "arl": self.arl, "rate": self.rate},
            "weights": pack(self._weights),
            "evidence": pack(self._evidence),
            "length": self._length,
            "seen": self._seen,
            "detected": self._detected,
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the detector of a snapshot again; ValueError if it is of another kind."""
        if (snapshot.get("detector"), snapshot.get("version")) != ("ClassifierBet", 1):
            raise ValueError("not a snapshot of ClassifierBet, version 1")
        bet = cls(**snapshot["params"])
        weights, evidence = unpack(snapshot["weights"]), unpack(snapshot["evidence"])
        if weights.shape != bet._weights.shape or evidence.shape != bet._evidence.shape:
            raise ValueError("the arrays of the snapshot have the wrong shape")
        bet._weights, bet._evidence = weights, evidence
        bet._length, bet._seen = float(snapshot["length"]), int(snapshot["seen"])
        bet._detected = bool(snapshot["detected"])
        return bet

    def _learn(self, away: Floats) -> None:
        """One gradient step per tick on the log loss of "which one is live", with decay."""
        self._length += (float((away**2).sum()) - len(away) * self._length) / (
            self._seen + len(away)
        )
        self._seen += len(away)
        surprise = special.expit(-(away @ self._weights))
        gradient = surprise @ away / len(away)
        step = self.rate / max(self._length / self.dimensions, 1e-12)
        self._weights = _MEMORY * self._weights + step * gradient


_STAKES: Final = np.array((0.1, 0.3, 0.7))
_MEMORY: Final = 0.97  # what a tick leaves of the weights: the calm before a change is forgotten


def _permuted(
    reference: Vectors,
    window: Vectors,
    similarity: Any,
    permutations: int,
    seed: int,
    strata: Strata | None,
) -> TwoSample:
    """Squared distance of the mean embeddings under a similarity, summed over strata."""
    rng = np.random.default_rng(seed)
    pooled, is_window, stratum = _pooled(reference, window, strata)
    groups = _mixed(is_window, stratum)
    total = sum(rows.size for rows in groups)
    effect = np.zeros(permutations + 1)
    for rows in groups:
        labels = _labels(is_window[rows], permutations, rng)
        m = int(is_window[rows].sum())
        contrast = labels / m - ~labels / (rows.size - m)
        gram = similarity(pooled[rows])
        effect += rows.size / total * np.einsum("ij,ij->i", contrast @ gram, contrast)
    return _judged(effect)


def _pooled(
    reference: Vectors, window: Vectors, strata: Strata | None
) -> tuple[Vectors, Bools, NDArray[Any]]:
    """All vectors, which of them are the window's, and their strata."""
    if not (len(reference) and len(window)):
        raise ValueError("both samples need vectors")
    pooled = np.vstack([reference, window])
    is_window: Bools = np.arange(len(pooled)) >= len(reference)
    if strata is None:
        return pooled, is_window, np.zeros(len(pooled))
    stratum = np.concatenate([np.asarray(s) for s in strata])
    if stratum.shape != is_window.shape:
        raise ValueError("strata must give one label per vector")
    return pooled, is_window, stratum


def _mixed(is_window: Bools, stratum: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Rows of every stratum that has vectors of both samples."""
    groups = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    found = [rows for rows in groups if 0 < is_window[rows].sum() < rows.size]
    if not found:
        raise ValueError("no stratum occurs in both samples")
    return found


def _labels(is_window: Bools, permutations: int, rng: np.random.Generator) -> Bools:
    """The labels as they are, then permuted, shape (permutations + 1, n)."""
    labels = np.tile(is_window, (permutations + 1, 1))
    labels[1:] = rng.permuted(labels[1:], axis=1)
    return labels


def _judged(effects: Floats) -> TwoSample:
    """P-value and e-value of the first effect among all, which are exchangeable if none is real."""
    p = float((effects >= effects[0] - 1e-12 * (1 + abs(effects[0]))).mean())
    # Any weighing that treats all alike has this share's expectation at one over their number.
    spread = float(effects.std())
    scaled = (effects - effects.mean()) / spread if spread > 0 else np.zeros_like(effects)
    share = special.softmax(_SHARPNESS * scaled)[0]
    return TwoSample(float(effects[0]), p, float(share * effects.size))
