"""What a model call costs by list price, where nobody said; a price not listed is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from ingest.errors import UsageError

_MILLION: Final = 1e6
_REMEMBERED: Final = 1_000
_DATED: Final = re.compile(r"[-@](?:\d{8}|\d{4}-\d\d-\d\d|latest|v\d+:\d+)$")


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens.

    Attributes
    ----------
    input, output
        Of a prompt and of an answer, reasoning included.
    cached_input
        Of input read from the provider's cache; None is the price of input.
    """

    input: float
    output: float
    cached_input: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices by model name, in lower case."""

    by_model: Mapping[str, Price] = field(default_factory=dict)
    _seen: dict[str, Price | None] = field(default_factory=dict, repr=False, compare=False)

    def cost(
        self,
        model: str | None,
        input_tokens: int | None,
        output_tokens: int | None,
        cached_tokens: int | None = None,
    ) -> float | None:
        """Cost of a call in US dollars; None when model or tokens are not known.

        Parameters
        ----------
        model
            As the provider or the program calls it. A provider before a slash and a date at the end
            are left out when the whole name has no price.
        input_tokens, output_tokens
            At least one must be known; the other then counts as none.
        cached_tokens
            Part of ``input_tokens``.

        Examples
        --------
        >>> prices = Prices({"m": Price(input=2.0, output=8.0, cached_input=0.5)})
        >>> prices.cost("lab/m-2025-01-31", 1_000_000, 0, 500_000)
        1.25
        >>> prices.cost("other", 10, 10) is None
        True
        """
        if model is None or (input_tokens is None and output_tokens is None):
            return None
        price = self._price(model)
        if price is None:
            return None
        cached = min(cached_tokens or 0, input_tokens or 0)
        cached_price = price.input if price.cached_input is None else price.cached_input
        total = (
            ((input_tokens or 0) - cached) * price.input
            + cached * cached_price
            + (output_tokens or 0) * price.output
        )
        return total / _MILLION

    def _price(self, model: str) -> Price | None:
        if model not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[model] = self._find(model)
        return self._seen[model]

    def _find(self, model: str) -> Price | None:
        name = model.lower()
        bare = name.rpartition("/")[2]
        for candidate in (name, bare, _DATED.sub("", bare)):
            if candidate in self.by_model:
                return self.by_model[candidate]
        return None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, Price]
    about: str = ""
    as_of: str = ""


def load(path: Path | None = None) -> Prices:
    """Read a price table.

    Parameters
    ----------
    path
        JSON as in ``ingest/prices.json``: ``{"models": {"name": {"input": 2.0, "output": 8.0,
        "cached_input": 0.5}}}`` in US dollars per million tokens; None is the table that comes with
        driftline. A file replaces that table, it does not add to it.

    Raises
    ------
    UsageError
        When the file is missing or not such a table.
    """
    return _packaged() if path is None else _read(path)


def as_of(path: Path | None = None) -> str:
    """Return the day of a price table as it says itself, YYYY-MM-DD; empty when it does not say.

    Raises
    ------
    UsageError
        When the file is missing or not such a table.
    """
    load(path)
    text = (files("ingest") / "prices.json").read_bytes() if path is None else path.read_bytes()
    return msgspec.json.decode(text, type=_File).as_of


def install(prices: Prices) -> None:
    """Make a table the one of this process; called once, at start, by who reads the settings."""
    _Installed.prices = prices


def installed() -> Prices:
    """Return the table of this process: the installed one, else that which comes with driftline."""
    return _Installed.prices or _packaged()


class _Installed:
    prices: Prices | None = None


def _read(path: Path) -> Prices:
    try:
        return _parse(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: not a price table ({error})") from None


@cache
def _packaged() -> Prices:
    return _parse((files("ingest") / "prices.json").read_bytes())


def _parse(text: bytes) -> Prices:
    models = msgspec.json.decode(text, type=_File).models
    return Prices({name.lower(): price for name, price in models.items()})
