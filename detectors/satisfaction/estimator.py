"""An estimator of dissatisfaction: a logistic score and its calibration, as plain numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Self

import numpy as np
import polars as pl

from detectors.satisfaction.calibration import Calibration, Floats
from detectors.satisfaction.features import FEATURES
from detectors.satisfaction.language import COVERED

FORMAT: Final = 1

OTHER_LANGUAGE: Final = 0.25
"""Coverage where the words cannot be read and only the rest can."""

LAST_TURN: Final = 0.5
"""Coverage where the user said nothing after the answer."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates how probable it is that a user was not satisfied.

    Attributes
    ----------
    weights
        Per feature, by name; features without one do not count.
    intercept
        Of the score.
    calibration
        Turns scores into probabilities.
    trained_on
        What it was fitted to, for people.
    """

    weights: dict[str, float]
    intercept: float
    calibration: Calibration
    trained_on: dict[str, Any]

    @classmethod
    def load(cls, text: str | None = None) -> Self:
        """Build an estimator from JSON text; without it, the one that ships with driftline.

        Raises
        ------
        ValueError
            When the text is not an estimator of this format.
        """
        if text is None:
            text = files("detectors.satisfaction").joinpath("model.json").read_text("utf-8")
        try:
            found = json.loads(text)
            if found["format"] != FORMAT or not set(found["weights"]) <= set(FEATURES):
                raise KeyError("format or weights")  # noqa: TRY301 - one message for all of them
            weights = {str(name): float(value) for name, value in found["weights"].items()}
            calibration = Calibration.from_json(found["calibration"])
            return cls(weights, float(found["intercept"]), calibration, found["trained_on"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not an estimator of format {FORMAT}: {error}") from None

    def dump(self) -> str:
        """JSON text of the estimator."""
        body = {
            "format": FORMAT,
            "trained_on": self.trained_on,
            "intercept": round(self.intercept, 6),
            "weights": {name: round(value, 6) for name, value in self.weights.items()},
            "calibration": self.calibration.to_json(),
        }
        lines = (f' "{key}": {json.dumps(body[key], sort_keys=True)}' for key in sorted(body))
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def scores(self, frame: pl.DataFrame) -> Floats:
        """Score per row of `features`, on the scale of log odds before calibration."""
        names = list(self.weights)
        weights = np.array([self.weights[name] for name in names])
        values = frame.select(names).to_numpy()
        # summed feature by feature: a row's score does not depend on the rows beside it
        return np.asarray((values * weights).sum(axis=1) + self.intercept, dtype=np.float64)

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Estimate dissatisfaction.

        Parameters
        ----------
        frame
            From `detectors.satisfaction.features`.

        Returns
        -------
        polars.DataFrame
            ``interaction_id``; ``p``, the probability of dissatisfaction, with ``low`` and
            ``high``; ``coverage``, which part of the evidence could be read, from 0 to 1.
        """
        found = self.calibration(self.scores(frame))
        readable = pl.when(pl.col("language").is_in(COVERED)).then(1.0).otherwise(OTHER_LANGUAGE)
        followed = pl.when(pl.col("has_next") > 0).then(1.0).otherwise(LAST_TURN)
        return frame.select(
            "interaction_id",
            p=pl.Series(found.p, dtype=pl.Float64),
            low=pl.Series(found.low, dtype=pl.Float64),
            high=pl.Series(found.high, dtype=pl.Float64),
            coverage=readable * followed,
        )
