"""Failures as vectors: what was said, and the signature of what failed.

Words (one and two at a time) and character n-grams of the text are weighted by rarity and reduced
by a truncated SVD, which lets wordings that share company come close although they share no word.
The signature (reason, tool, template, path, argument shape) enters as tokens with a weight of its
own. A sentence model can be given as a callable and takes the place of the SVD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from detectors.failures.fingerprint import fingerprint, template

Vectors = NDArray[np.float32]
Embedder = Callable[[Sequence[str]], NDArray[Any]]
"""Texts to vectors of shape (n, d), e.g. ``model.embed`` of a static sentence model."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of one failure. Empty where not known.

    Attributes
    ----------
    reason, tool, message
        Machine-readable reason, the tool that failed, its error message as it came.
    path
        Steps of the interaction: tools or decisions in order.
    arguments
        Names of the arguments of the failing call.
    text
        What the user would say went wrong: a summary, a complaint, the last answer.
    """

    reason: str = ""
    tool: str = ""
    message: str = ""
    path: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    text: str = ""

    @classmethod
    def restore(cls, raw: Mapping[str, Any]) -> Self:
        """Build the failure of ``dataclasses.asdict`` again, also after a detour through JSON."""
        return cls(**{**raw, "path": tuple(raw["path"]), "arguments": tuple(raw["arguments"])})

    @property
    def fingerprint(self) -> str:
        """Deterministic identity: hash of reason, tool and template, 16 hex characters."""
        return fingerprint(self.reason, self.tool, template(self.message))

    @property
    def key(self) -> str:
        """Identity including the masked text: what repeats exactly is clustered once."""
        return fingerprint(self.fingerprint, template(self.text), " ".join(self.path))


class FailureFeatures:
    """Vectors of failures, in the manner of scikit-learn's transformers.

    Parameters
    ----------
    n_components
        Dimensions of the reduced text.
    signature_weight
        Weight of the signature beside the text, 0 ... 1: squared length of its part of a vector.
    embed
        Optional sentence model in place of TF-IDF and SVD.
    seed
        Of the randomised SVD.
    """

    def __init__(
        self,
        n_components: int = 128,
        signature_weight: float = 0.1,
        embed: Embedder | None = None,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.signature_weight = signature_weight
        self.embed = embed
        self.seed = seed

    def fit(self, failures: Sequence[Failure]) -> Self:
        """Learn vocabulary, rarity and reduction from at least two failures."""
        self._signature = TfidfVectorizer(analyzer=_signature_tokens, sublinear_tf=True)
        self._signature.fit(failures)
        if self.embed is not None:
            return self
        texts = [masked_text(f) for f in failures]
        self._words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
        self._words.fit(texts or [""])
        self._chars = TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=(3, 4),
            sublinear_tf=True,
            max_features=20_000,
            dtype=np.float32,
        ).fit(texts)
        terms = self._terms(texts)
        size = min(self.n_components, min(terms.shape) - 1)
        self._svd = TruncatedSVD(max(size, 1), random_state=self.seed, n_iter=3).fit(terms)
        return self

    def transform(self, failures: Sequence[Failure]) -> Vectors:
        """Unit vectors, shape (n_failures, d); cosine similarity is the dot product."""
        texts = [masked_text(f) for f in failures]
        if self.embed is not None:
            text = np.asarray(self.embed(texts), np.float32)
        else:
            text = self._svd.transform(self._terms(texts))
        share = self.signature_weight
        signature = _squeezed(self._signature.transform(failures))
        parts = [np.sqrt(1 - share) * normalize(text), np.sqrt(share) * signature]
        vectors: Vectors = normalize(np.hstack(parts)).astype(np.float32)
        return vectors

    def _terms(self, texts: Sequence[str]) -> Any:
        return sparse.hstack(
            [self._words.transform(texts), 0.5 * self._chars.transform(texts)], format="csr"
        )


def masked_text(failure: Failure) -> str:
    """Text of a failure with everything that varies masked; its message where it has no text."""
    return template(failure.text or failure.message).lower()


def _signature_tokens(failure: Failure) -> list[str]:
    steps = failure.path
    return [
        f"reason={failure.reason}",
        f"tool={failure.tool}",
        f"template={template(failure.message)}",
        *(f"step={a}>{b}" for a, b in pairwise(steps)),
        f"arguments={','.join(sorted(failure.arguments))}",
    ]


def _squeezed(signature: Any, size: int = 32) -> NDArray[np.float32]:
    """A fixed random projection (seeded by position), so that signatures stay short."""
    rng = np.random.default_rng(20_260)
    signs = rng.choice([-1.0, 1.0], (signature.shape[1], size)) / np.sqrt(size)
    squeezed: NDArray[np.float32] = normalize(signature @ signs).astype(np.float32)
    return squeezed
