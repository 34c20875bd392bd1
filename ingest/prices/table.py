"""Prices of one's own on top of the published list, and the table of this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import asdict

from ingest.core.errors import UsageError
from ingest.prices import listed
from ingest.prices.listed import ListedModel
from ingest.prices.model_ids import names_of, own_names
from ingest.prices.rates import Price, Tariff
from ingest.prices.usage import TokenUsage

_REMEMBERED: Final = 1_000
_MINUTE_NS: Final = 60 * 10**9
"""Listed prices change at the beginning of a minute."""

_STANDARD: Final = frozenset({"", "standard", "default", "auto", "on_demand"})


class Found(NamedTuple):
    """Where the price of a model comes from.

    Attributes
    ----------
    source
        Name and date of the list.
    provider, model
        As that list names them; a table of one's own names no provider.
    """

    source: str
    provider: str | None
    model: str
    tariff: Tariff | None
    listed: ListedModel | None = None

    def at(self, time_ns: int | None) -> Tariff | None:
        """Tariff at a time, ns since 1970, now when None."""
        if self.listed is None:
            return self.tariff
        minute = (time.time_ns() if time_ns is None else time_ns) // _MINUTE_NS
        return _tariff_at(self.listed, minute)


@lru_cache(maxsize=4096)
def _tariff_at(model: ListedModel, minute: int) -> Tariff | None:
    return model.tariff(minute * _MINUTE_NS)


class Cost(NamedTuple):
    """Cost of a call in US dollars, and where its price comes from."""

    usd: float
    found: Found


class Prices:
    """A table of prices.

    Parameters
    ----------
    own
        Prices by model name, in any case, that win over the published list; None says that the
        model has no price.
    source
        Name and date of that table.

    Examples
    --------
    >>> prices = Prices({"m": Price(input=2.0, output=8.0, cached_input=0.5)})
    >>> usage = TokenUsage(input=1_000_000, output=0, cached=500_000)
    >>> prices.cost(None, "lab/m-2025-01-31", usage).usd
    1.25
    >>> prices.cost(None, "some-other", usage) is None
    True
    """

    def __init__(
        self, own: Mapping[str, Price | None] | None = None, source: str = "own prices"
    ) -> None:
        self._own = {name.lower(): price for name, price in (own or {}).items()}
        self._source = source
        self._seen: dict[tuple[str | None, str, str | None], Found | None] = {}

    def cost(
        self,
        provider: str | None,
        model: str | None,
        usage: TokenUsage,
        *,
        service: str | None = None,
        time_ns: int | None = None,
    ) -> Cost | None:
        """Cost of a call; None when its model, its tokens or the price of some are not known.

        Parameters
        ----------
        provider
            As the sender calls it.
        model
            As the provider or the program calls it.
        usage
            Tokens; parts beside their total are put into it.
        service
            ``batch``, ``flex``, ``priority`` or ``fast``; others are the standard service.
        time_ns
            When the call was, ns since 1970, for prices that changed; now when None.
        """
        if not model:
            return None
        key = (provider, model, service)
        if key not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[key] = self._find(provider, model, service)
        found = self._seen[key]
        tariff = None if found is None else found.at(time_ns)
        usd = None if tariff is None else tariff.usd(usage.inside())
        return None if usd is None or found is None else Cost(usd, found)

    def explain(
        self,
        provider: str | None,
        model: str,
        usage: TokenUsage,
        *,
        service: str | None = None,
        time_ns: int | None = None,
    ) -> dict[str, Any]:
        """Say how `cost` comes to its result, as plain JSON types."""
        usage = usage.inside()
        found = self._find(provider, model, service)
        tariff = None if found is None else found.at(time_ns)
        cost = self.cost(provider, model, usage, service=service, time_ns=time_ns)
        return {
            "model": model,
            "provider": provider,
            "service": service or "standard",
            "cost_usd": None if cost is None else cost.usd,
            "list": found and found.source,
            "listed_provider": found and found.provider,
            "listed_model": found and found.model,
            "own_names": own_names(provider, model),
            "tokens": {name: n for name, n in usage._asdict().items() if n is not None},
            "above_tokens": tariff and tariff.threshold(usage),
            "per_request_usd": tariff and tariff.per_request,
            "lines": [
                {**line._asdict(), "usd": line.usd}
                for line in (tariff.lines(usage) if tariff is not None else ())
            ],
        }

    def _find(self, provider: str | None, model: str, service: str | None) -> Found | None:
        if service is not None and service.lower() in _STANDARD:
            service = None
        for name in own_names(provider, model):
            if name in self._own:
                price = self._own[name]
                tariff = None if price is None else _own_tariff(price, service)
                return Found(self._source, None, name, tariff)
        model_found = listed.find(names_of(provider, model), service)
        if model_found is None:
            return None
        fixed = None if model_found.changes else model_found.tariff(0)
        return Found(
            listed.about(),
            model_found.provider,
            model_found.model,
            fixed,
            model_found if model_found.changes else None,
        )


def _own_tariff(price: Price, service: str | None) -> Tariff | None:
    if service is None:
        return Tariff(price)
    if service != "batch" or price.batch is None:
        return None
    return Tariff(Price(**asdict(price.batch), per_request=price.per_request))


class _File(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, Price | None]
    about: str = ""
    date: str = ""


def load(path: Path | None = None) -> Prices:
    """Read a price table and the published list below it.

    Parameters
    ----------
    path
        JSON: ``{"models": {"name": {"input": 2.0, "output": 8.0, "cached_input": 0.5}}}`` in US
        dollars per million tokens, as `Price` has it; None is the published list alone.

    Raises
    ------
    UsageError
        When the file is missing or not such a table.
    """
    listed.about()  # reads the list now rather than at the first call
    return Prices() if path is None else _read(path)


def as_of(path: Path | None = None) -> str:
    """Return the day of a price table, YYYY-MM-DD; empty where the user's file does not say it.

    Raises
    ------
    UsageError
        When the file is missing or not such a table.
    """
    if path is None:
        return listed.latest_change().isoformat()
    _read(path)
    return msgspec.json.decode(path.read_bytes(), type=_File).date


def install(prices: Prices) -> None:
    """Make a table the one of this process; called once, at start, by who reads the settings."""
    _Installed.prices = prices


def installed() -> Prices:
    """Return the table of this process: the installed one, else the published list."""
    return _Installed.prices


def cost(
    provider: str | None,
    model: str | None,
    usage: TokenUsage,
    *,
    service: str | None = None,
    time_ns: int | None = None,
) -> Cost | None:
    """`Prices.cost` of the table of this process."""
    return _Installed.prices.cost(provider, model, usage, service=service, time_ns=time_ns)


def explain(
    provider: str | None,
    model: str,
    usage: TokenUsage,
    *,
    service: str | None = None,
    time_ns: int | None = None,
) -> dict[str, Any]:
    """`Prices.explain` of the table of this process."""
    return _Installed.prices.explain(provider, model, usage, service=service, time_ns=time_ns)


class _Installed:
    prices = Prices()


def _read(path: Path) -> Prices:
    try:
        raw = path.read_bytes()
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        file = msgspec.json.decode(raw, type=_File)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a price table ({error})") from None
    return Prices(file.models, f"{path} of {file.date or changed.date().isoformat()}")
