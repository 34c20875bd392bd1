"""Dialogues of which only the acts are known: a logistic regression on n-grams of acts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.satisfaction.calibration import Calibration, Floats, Probabilities
from detectors.satisfaction.fitting import splits

LENGTH: Final = 3
STRENGTH: Final = 0.3

Acts = Sequence[str]


@dataclass(frozen=True, slots=True)
class SequenceModel:
    """Probability that a dialogue goes wrong, from its acts.

    Attributes
    ----------
    weights
        Per n-gram of acts, joined by spaces.
    per_act
        Weight of the logarithm of the number of acts.
    """

    weights: dict[str, float]
    per_act: float
    intercept: float
    calibration: Calibration

    @classmethod
    def fit(cls, dialogues: Sequence[Acts], labels: ArrayLike, seed: int = 7) -> Self:
        """Fit on dialogues; equal dialogues are never on both sides of a fold.

        Parameters
        ----------
        dialogues
            Acts of each dialogue, in order.
        labels
            0 or 1 per dialogue.
        """
        y = np.asarray(labels, int)
        groups = np.unique([" ".join(acts) for acts in dialogues], return_inverse=True)[1]
        left_out = np.zeros(len(y))
        for train, test in splits(y, groups, seed):
            part = _fitted([dialogues[i] for i in train], y[train])
            left_out[test] = _scores(part, [dialogues[i] for i in test])
        weights, per_act, intercept = _fitted(dialogues, y)
        return cls(weights, per_act, intercept, Calibration.fit(left_out, y))

    def scores(self, dialogues: Sequence[Acts]) -> Floats:
        """Log odds before calibration."""
        return _scores((self.weights, self.per_act, self.intercept), dialogues)

    def predict(self, dialogues: Sequence[Acts]) -> Probabilities:
        """Probability and interval per dialogue."""
        return self.calibration(self.scores(dialogues))


_Fitted = tuple[dict[str, float], float, float]


def _ngrams(acts: Acts) -> Iterator[str]:
    padded = ("<s>", *acts, "</s>")
    for length in range(1, LENGTH + 1):
        for at in range(len(padded) - length + 1):
            yield " ".join(padded[at : at + length])


def _fitted(dialogues: Sequence[Acts], labels: Any) -> _Fitted:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counts = CountVectorizer(analyzer=_ngrams, binary=True, min_df=2)
    x = hstack([counts.fit_transform(dialogues), csr_matrix(_lengths(dialogues)[:, None])])
    model = LogisticRegression(C=STRENGTH, solver="liblinear", random_state=0).fit(
        x.tocsr(), labels
    )
    *weights, per_act = model.coef_[0].tolist()
    names = counts.get_feature_names_out().tolist()
    return dict(zip(names, weights, strict=True)), per_act, float(model.intercept_[0])


def _scores(fitted: _Fitted, dialogues: Sequence[Acts]) -> Floats:
    weights, per_act, intercept = fitted
    sums = [sum(weights.get(gram, 0.0) for gram in set(_ngrams(acts))) for acts in dialogues]
    return np.array(sums) + per_act * _lengths(dialogues) + intercept


def _lengths(dialogues: Sequence[Acts]) -> Floats:
    return np.log1p([len(acts) for acts in dialogues])
