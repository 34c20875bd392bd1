"""An estimator of dissatisfaction: logistic scores and their calibrations, as plain numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Self

import numpy as np
import polars as pl

from detectors.satisfaction.calibration import Calibration, Floats
from detectors.satisfaction.features import CONTEXT, FEATURES
from detectors.satisfaction.language import COVERED

FORMAT: Final = 2

OTHER_LANGUAGE: Final = 0.25
"""Coverage where the words cannot be read and only the rest can."""

LAST_TURN: Final = 0.5
"""Coverage where the user said nothing after the answer."""


@dataclass(frozen=True, slots=True)
class Score:
    """A logistic score and what turns it into probabilities.

    Attributes
    ----------
    weights
        Per feature, by name; features without one do not count.
    intercept
        Of the score.
    calibration
        Turns scores into probabilities.
    """

    weights: dict[str, float]
    intercept: float
    calibration: Calibration

    def __call__(self, frame: pl.DataFrame) -> Floats:
        """Score per row of `features`, on the scale of log odds before calibration."""
        names = list(self.weights)
        weights = np.array([self.weights[name] for name in names])
        values = frame.select(names).to_numpy()
        # summed feature by feature: a row's score does not depend on the rows beside it
        return np.asarray((values * weights).sum(axis=1) + self.intercept, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "intercept": round(self.intercept, 6),
            "weights": {name: round(value, 6) for name, value in self.weights.items()},
            "calibration": self.calibration.to_json(),
        }

    @classmethod
    def from_json(cls, body: dict[str, Any], features: tuple[str, ...]) -> Self:
        """Build from what `to_json` gave; ``features`` are those that may have a weight."""
        weights = {str(name): float(value) for name, value in body["weights"].items()}
        if not weights.keys() <= set(features):
            raise KeyError("weights")
        calibration = Calibration.from_json(body["calibration"])
        return cls(weights, float(body["intercept"]), calibration)


ALONE: Final = tuple(name for name in FEATURES if name not in CONTEXT)
"""Features of an interaction alone."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates how probable it is that a user was not satisfied.

    Attributes
    ----------
    within
        Score of an interaction beside the others of its session.
    alone
        Score of an interaction of which nothing else is known.
    trained_on
        What they were fitted to, for people.
    """

    within: Score
    alone: Score
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
            if found["format"] != FORMAT:
                raise KeyError("format")  # noqa: TRY301 - one message for all of them
            within = Score.from_json(found["within"], FEATURES)
            return cls(within, Score.from_json(found["alone"], ALONE), found["trained_on"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not an estimator of format {FORMAT}: {error}") from None

    def dump(self) -> str:
        """JSON text of the estimator."""
        body = {
            "alone": self.alone.to_json(),
            "format": FORMAT,
            "trained_on": self.trained_on,
            "within": self.within.to_json(),
        }
        lines = (f' "{key}": {json.dumps(body[key], sort_keys=True)}' for key in body)
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def predict(self, frame: pl.DataFrame, *, alone: bool = False) -> pl.DataFrame:
        """Estimate dissatisfaction.

        Parameters
        ----------
        frame
            From `detectors.satisfaction.features`.
        alone
            Whether each interaction is judged without the others of its session.

        Returns
        -------
        polars.DataFrame
            ``interaction_id``, ``session_id``; ``p``, the probability of dissatisfaction, with
            ``low`` and ``high``; ``coverage``, which part of the evidence could be read, from 0 to
            1.
        """
        score = self.alone if alone else self.within
        found = score.calibration(score(frame))
        readable = pl.when(pl.col("language").is_in(COVERED)).then(1.0).otherwise(OTHER_LANGUAGE)
        last = pl.lit(value=True) if alone else pl.col("has_next") == 0
        return frame.select(
            "interaction_id",
            "session_id",
            p=pl.Series(found.p, dtype=pl.Float64),
            low=pl.Series(found.low, dtype=pl.Float64),
            high=pl.Series(found.high, dtype=pl.Float64),
            coverage=readable * pl.when(last).then(LAST_TURN).otherwise(1.0),
        )
