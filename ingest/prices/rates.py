"""What each kind of token costs, and what a call costs by that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from ingest.prices.usage import KINDS, TokenUsage

MILLION: Final = 1_000_000
Dollars = Annotated[float, Meta(ge=0, le=1e9)]

_SAME_AS: Final = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "input_audio": "input",
    "cached_audio": "cached_input",
    "reasoning": "output",
    "output_audio": "output",
}
"""Whose price a kind without one has, because providers list only what differs."""


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """US dollars per million tokens by kind; None costs what the kind that contains it costs.

    Attributes
    ----------
    input, output
        Of a prompt and of an answer. None is not known, and then no such call has a cost.
    """

    input: Dollars | None = None
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    input_audio: Dollars | None = None
    cached_audio: Dollars | None = None
    output: Dollars | None = None
    reasoning: Dollars | None = None
    output_audio: Dollars | None = None


class Price(Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Price of a model.

    Attributes
    ----------
    above
        Rates of the whole call when its prompt has more tokens than the key; a kind that is not
        given keeps its price.
    batch
        Rates of calls that are processed in batches.
    per_request
        US dollars of each call, whatever its tokens.
    """

    above: dict[Annotated[int, Meta(gt=0)], Rates] = {}
    batch: Rates | None = None
    per_request: Dollars = 0.0


class Line(NamedTuple):
    """Part of a cost: tokens of a kind, their rate in US dollars per million, what they cost."""

    kind: str
    tokens: int
    rate: float | None
    same_as: str | None

    @property
    def usd(self) -> float | None:
        """Cost in US dollars; None when the rate is not known."""
        return None if self.rate is None else self.tokens * self.rate / MILLION


class Tariff:
    """A price made ready for arithmetic.

    Parameters
    ----------
    price
        As listed.
    """

    def __init__(self, price: Price) -> None:
        own = dict(zip(KINDS, astuple(price)[: len(KINDS)], strict=True))
        self._steps = [(0, own)]
        for above in sorted(price.above):
            given = zip(KINDS, astuple(price.above[above]), strict=True)
            own = own | {kind: rate for kind, rate in given if rate is not None}
            self._steps.append((above, own))
        self._filled = [(above, tuple(map(_filled(own).get, KINDS))) for above, own in self._steps]
        self.per_request = price.per_request

    def usd(self, usage: TokenUsage) -> float | None:
        """Cost of a call in US dollars; None when its tokens or the rate of some are not known."""
        rates = self._filled[self._step(usage) if len(self._filled) > 1 else 0][1]
        if not _is_known(usage, rates):
            return None
        if not any(usage[_USUAL:]) and usage.input is not None and rates[0] is not None:
            # Nearly every call, at a third of the time.
            cached = min(usage.cached or 0, usage.input)
            cost = (usage.input - cached) * rates[0] + cached * (rates[1] or 0.0)
            answer = usage.output or 0
            if answer and (rate := rates[_OUTPUT]) is not None:
                cost += answer * rate
            elif answer:
                return None
            return cost / MILLION + self.per_request
        total = 0.0
        for tokens, rate in zip(usage.by_kind(), rates, strict=True):
            if tokens:
                if rate is None:
                    return None
                total += tokens * rate
        return total / MILLION + self.per_request

    def lines(self, usage: TokenUsage) -> Iterator[Line]:
        """Parts of the cost, for a person to check."""
        step = self._step(usage)
        own, rates = self._steps[step][1], self._filled[step][1]
        for kind, tokens, rate in zip(KINDS, usage.by_kind(), rates, strict=True):
            if tokens:
                yield Line(kind, tokens, rate, None if own[kind] == rate else _source(own, kind))

    def threshold(self, usage: TokenUsage) -> int:
        """Number of prompt tokens above which the rates of this call begin."""
        return self._steps[self._step(usage)][0]

    def _step(self, usage: TokenUsage) -> int:
        tokens, step = usage.input or 0, len(self._steps) - 1
        while step and tokens <= self._steps[step][0]:
            step -= 1
        return step


def _is_known(usage: TokenUsage, rates: tuple[float | None, ...]) -> bool:
    """Whether no total that would cost something is missing, nor both."""
    if usage.input is None:
        return usage.output is not None and rates[0] == 0
    return usage.output is not None or not rates[_OUTPUT]


_OUTPUT: Final = KINDS.index("output")
_USUAL: Final = TokenUsage._fields.index("cache_write")
"""Fields before this one: input, output, cached."""


def _filled(own: dict[str, float | None]) -> dict[str, float | None]:
    filled = dict(own)
    for kind, other in _SAME_AS.items():
        if filled[kind] is None:
            filled[kind] = filled[other]
    return filled


def _source(own: dict[str, float | None], kind: str) -> str:
    while own[kind] is None and kind in _SAME_AS:
        kind = _SAME_AS[kind]
    return kind
