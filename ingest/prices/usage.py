"""The tokens of a model call by kind, each part inside its total."""

from __future__ import annotations

from typing import Final, NamedTuple

KINDS: Final = (
    "input", "cached_input", "cache_write", "cache_write_1h", "input_audio", "cached_audio",
    "output", "reasoning", "output_audio",
)  # fmt: skip
"""Kinds of tokens with a price of their own; `TokenUsage.by_kind` counts each token once."""


class TokenUsage(NamedTuple):
    """Tokens of a call; None is not reported.

    Attributes
    ----------
    input
        All of the prompt, cached and audio tokens included.
    output
        All of the answer, reasoning and audio tokens included.
    cached, cache_write
        Parts of ``input`` read from and written to the provider's cache.
    cache_write_1h
        The part of ``cache_write`` that is kept for an hour; the rest is kept for five minutes.
    input_audio, cached_audio
        The part of ``input`` that is audio, and the part of that which was cached.
    reasoning, output_audio
        Parts of ``output``.
    """

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    input_audio: int | None = None
    cached_audio: int | None = None
    output_audio: int | None = None

    def inside(self) -> TokenUsage:
        """Put parts that were reported beside a total into it.

        Some providers count cached tokens in the prompt, others beside it; some count reasoning in
        the answer, others beside it. Parts larger than their total cannot be in it.

        Examples
        --------
        >>> TokenUsage(input=19, cached=39_000).inside().input
        39019
        >>> TokenUsage(input=39_019, cache_write=39_000).inside().input
        39019
        >>> TokenUsage(output=10, reasoning=50).inside().output
        60
        """
        written = max(self.cache_write or 0, self.cache_write_1h or 0)
        cached = (self.cached or 0) + written
        total, answer, thought = self.input, self.output, self.reasoning or 0
        if total is not None and cached > total:
            total += cached
        if answer is not None and thought > answer:
            answer += thought
        if total == self.input and answer == self.output:
            return self
        return self._replace(input=total, output=answer)

    def by_kind(self) -> tuple[int, ...]:
        """Count every token once, in the order of `KINDS`; never negative.

        Examples
        --------
        >>> TokenUsage(input=100, output=20, cached=60, reasoning=5).by_kind()
        (40, 60, 0, 0, 0, 0, 15, 5, 0)
        """
        total, answer = self.input or 0, self.output or 0
        cached = min(self.cached or 0, total)
        written = min(max(self.cache_write or 0, self.cache_write_1h or 0), total - cached)
        for_hour = min(self.cache_write_1h or 0, written)
        cached_audio = min(self.cached_audio or 0, cached)
        heard = min(max((self.input_audio or 0) - cached_audio, 0), total - cached - written)
        thought = min(self.reasoning or 0, answer)
        spoken = min(self.output_audio or 0, answer - thought)
        return (
            total - cached - written - heard,
            cached - cached_audio,
            written - for_hour,
            for_hour,
            heard,
            cached_audio,
            answer - thought - spoken,
            thought,
            spoken,
        )
