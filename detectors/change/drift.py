"""Drift of texts and other vectors: of the inputs, or of what the agent does with them.

`Topics` divides the inputs into groups, learnt on one half of the reference and counted on the
other, so that the groups cannot have been fitted to the counts. A change of the *inputs* is then a
change of a mix, a change of *behaviour* is a change of a rate within the groups, and both are
sequential detectors with a budget. Vectors as a whole, without groups, are compared in
`detectors.compare.twosample`.

References
----------
S. Rabanser, S. Guennemann, Z. Lipton: Failing loudly: an empirical study of methods for detecting
dataset shift. arXiv:1810.11953 (reduce first, then test; inputs apart from labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from detectors.base import Ints
from detectors.change.ensembles import EnsembleDetector


def text_features(n_components: int = 64, seed: int = 0) -> Any:
    """Scikit-learn pipeline from texts to unit vectors: hashed words, rarity, truncated SVD.

    Parameters
    ----------
    n_components
        Dimensions of the vectors.
    seed
        Of the randomised SVD.
    """
    return make_pipeline(
        HashingVectorizer(n_features=2**16, alternate_sign=False, norm=None),
        TfidfTransformer(sublinear_tf=True),
        TruncatedSVD(n_components, random_state=seed),
        Normalizer(copy=False),
    )


class Topics:
    """Groups of similar inputs.

    Parameters
    ----------
    n_topics
        How many groups. More groups see smaller changes and pay log(n_topics) more nats.
    n_components
        Dimensions of text vectors.
    seed
        Of the reduction and the grouping.

    Attributes
    ----------
    counts_ : ndarray of shape (n_topics,)
        Inputs per topic in the half of the reference that was not used to form the topics.
    """

    def __init__(self, n_topics: int = 10, n_components: int = 64, seed: int = 0) -> None:
        self.n_topics = n_topics
        self.n_components = n_components
        self.seed = seed

    def fit(self, texts: Sequence[str]) -> Self:
        """Form the topics from a random half and count the other; needs two texts per topic."""
        if len(texts) < 2 * self.n_topics:
            raise ValueError(f"{self.n_topics} topics need at least {2 * self.n_topics} texts")
        order = np.random.default_rng(self.seed).permutation(len(texts))
        half, others = ([texts[i] for i in part] for part in (order[::2], order[1::2]))
        self._features = text_features(min(self.n_components, len(half) - 1), self.seed)
        vectors = self._features.fit_transform(half)
        self._means = KMeans(self.n_topics, n_init=10, random_state=self.seed).fit(vectors)
        self.counts_ = np.bincount(self.predict(others), minlength=self.n_topics)
        return self

    def predict(self, texts: Sequence[str]) -> Ints:
        """Topic of every text, shape (n_texts,)."""
        topics: Ints = self._means.predict(self._features.transform(texts)).astype(np.int64)
        return topics


class InputAndBehaviour:
    """Separates drift of the inputs from drift of the behaviour on equal inputs.

    Parameters
    ----------
    n_topics
        Groups of inputs.
    arl
        Expected ticks between two false alarms, at least; half of the alarms to each question.

    Examples
    --------
    The share of hard inputs doubles, but the agent does with each kind what it always did:

    >>> rng = np.random.default_rng(1)
    >>> watch = InputAndBehaviour(2, arl=1000)
    >>> watch = watch.calibrate(inputs=[8000, 2000], failures=[400, 800])
    >>> for _ in range(60):
    ...     n = rng.multinomial(50, [0.6, 0.4])
    ...     watch = watch.update(n, rng.binomial(n, [0.05, 0.4]))
    >>> watch.input_drift, watch.behaviour_drift
    (True, False)
    """

    def __init__(self, n_topics: int, *, arl: float = 10_000.0) -> None:
        self.n_topics = n_topics
        self.arl = arl
        self.inputs = EnsembleDetector(1, n_topics, arl=2 * arl, direction="both", dispersion=1.0)
        self.behaviour = EnsembleDetector(
            1, n_topics, arl=2 * arl, direction="both", dispersion=1.0
        )

    def calibrate(self, inputs: ArrayLike, failures: ArrayLike) -> Self:
        """Set the reference: inputs and failures per topic, each of shape (n_topics,)."""
        counts = np.asarray(inputs, np.float64)
        self.inputs.calibrate([counts], counts.sum())
        # a topic that never occurred has no rate of its own yet: it gets the widest baseline
        self.behaviour.calibrate([np.where(counts > 0, failures, 0.5)], [np.maximum(counts, 1)])
        return self

    def update(self, inputs: ArrayLike, failures: ArrayLike) -> Self:
        """Take one tick: inputs and failures per topic, each of shape (n_topics,)."""
        counts = np.asarray(inputs, np.float64)
        self.inputs.update([counts], counts.sum())
        self.behaviour.update(np.asarray(failures, np.float64)[None], counts[None])
        return self

    @property
    def input_drift(self) -> bool:
        """Whether the mix of inputs is in a detected change."""
        return bool(self.inputs.detected[0])

    @property
    def behaviour_drift(self) -> bool:
        """Whether the failure rate on equal inputs is in a detected change."""
        return bool(self.behaviour.detected[0])
