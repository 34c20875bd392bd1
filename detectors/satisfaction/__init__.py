"""Whether a user was satisfied, estimated from what was said and done, without a model call.

::

    cues         corrections, frustration, thanks and the like in English and Chinese
    language     the language of a text, by script first
    features     one row of numbers per interaction
    calibration  scores become probabilities with an interval (inductive Venn-Abers)
    estimator    `Estimator`: plain numbers, loaded from JSON
    fitting      an estimator from labelled interactions

The model card is docs/satisfaction.md.
"""

from detectors.satisfaction.estimator import Estimator
from detectors.satisfaction.features import FEATURES, features, turns

__all__ = ["FEATURES", "Estimator", "features", "turns"]
