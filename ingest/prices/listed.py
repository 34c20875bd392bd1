"""The published list of prices: the package genai-prices, which ships its data with its code.

A newer list is a newer version of that dependency. Nothing is fetched while driftline runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from ingest.prices.model_ids import Name
from ingest.prices.rates import Price, Rates, Tariff

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, Provider

_KEYS: Final = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "cached_audio": "cache_audio_read_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "output_audio": "output_audio_mtok",
}
"""How the list calls the price of each kind."""

_SERVICES: Final = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
}
"""How the list tells services apart; every other one is the standard service."""


@dataclass(frozen=True, slots=True, eq=False)
class ListedModel:
    """A model of the list.

    Attributes
    ----------
    provider, model
        Its names there.
    wanted
        By which name it was found.
    """

    provider: str
    model: str
    wanted: Name
    info: ModelInfo
    service: dict[str, str] | None

    def tariff(self, time_ns: int) -> Tariff | None:
        """Tariff at a time, ns since 1970; None when the service has no price."""
        at = datetime.fromtimestamp(time_ns / 1e9, UTC)
        prices = self.info.get_prices(at, self.service)
        if self.service is not None and prices == self.info.get_prices(at):
            return None
        return _tariff(tuple(sorted(_given(prices).items())))

    @property
    def changes(self) -> bool:
        """Whether its price depends on the time."""
        variants = self.info.price_variants if self.service is not None else None
        return isinstance(self.info.prices, list) or any(v.constraint for v in variants or ())


def find(names: Iterable[Name], service: str | None) -> ListedModel | None:
    """Return the first of these models that the list has.

    Parameters
    ----------
    names
        As from `ingest.prices.model_ids.names_of`.
    service
        Such as ``batch``; None is the standard service.
    """
    context = _SERVICES.get(service or "")
    for name in names:
        for provider in _providers_for(name):
            info = _index(provider.id).find(name.name)
            if info is None:
                continue
            if context is not None and info not in provider.models:
                return None  # a variant of the provider it comes from, not of this one
            return ListedModel(provider.id, info.id, name, info, context)
    return None


@cache
def latest_change() -> date:
    """Day of the latest change of a price in the list."""
    models = [model for provider in _providers().values() for model in provider.models]
    prices = [price for model in models if isinstance(model.prices, list) for price in model.prices]
    days: list[date] = [d for p in prices if (d := getattr(p.constraint, "start_date", None))]
    return max(day for day in days if day <= datetime.now(UTC).date())


@cache
def about() -> str:
    """Name, version and date of the list: the day of its latest change of a price."""
    latest = latest_change().isoformat()
    return f"genai-prices {version('genai-prices')}, latest change of a price {latest}"


@cache
def _providers() -> dict[str, Provider]:
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


def _providers_for(name: Name) -> list[Provider]:
    """The provider named, else the first that knows such names as its own."""
    providers = _providers()
    if name.provider is not None:
        return [providers[name.provider]] if name.provider in providers else []
    return [p for p in providers.values() if p.model_match and p.model_match.is_match(name.name)][
        :1
    ]


class _Index:
    """Models of a provider, then of those whose models it also serves, by exact name or rule."""

    def __init__(self, models: Iterable[ModelInfo]) -> None:
        self._exact: dict[str, tuple[int, ModelInfo]] = {}
        self._rules: list[tuple[int, ModelInfo]] = []
        patterns: list[str] = []
        for rank, model in enumerate(models):
            names = _exact_names(model.match)
            if names is None:
                self._rules.append((rank, model))
                patterns += _patterns(model.match)
            for name in names or ():
                self._exact.setdefault(name, (rank, model))
        # Most names that no rule fits are told by one search instead of one per rule.
        self._any_rule = re.compile("|".join(dict.fromkeys(patterns)) or r"(?!)")

    def find(self, name: str) -> ModelInfo | None:
        """Return the first model that the name fits."""
        last, found = self._exact.get(name, (sys.maxsize, None))
        for rank, model in self._rules if self._any_rule.search(name) else ():
            if rank > last:
                break
            if model.is_match(name):
                return model
        return found


@cache
def _index(provider_id: str) -> _Index:
    providers = _providers()
    provider = providers[provider_id]
    also = [providers[other] for other in provider.fallback_model_providers or ()]
    return _Index(model for some in (provider, *also) for model in some.models)


def _exact_names(match: MatchLogic) -> list[str] | None:
    """Names that a rule lists one by one; None when it is more than such a list."""
    clauses = getattr(match, "or_", [match])
    names = [getattr(clause, "equals", None) for clause in clauses]
    return None if None in names else [name.lower() for name in names if name is not None]


def _patterns(match: MatchLogic) -> Iterator[str]:
    """Patterns of a rule's parts; a name that none of them finds does not fit the rule."""
    parts = getattr(match, "or_", None) or getattr(match, "and_", None)
    if parts is not None:
        for part in parts:
            yield from _patterns(part)
        return
    ((form, text),) = vars(match).items()
    yield _PATTERNS[form].format(text if form == "regex" else re.escape(text.lower()))


_PATTERNS: Final = {
    "starts_with": r"\A(?:{})",
    "ends_with": r"(?:{})\Z",
    "contains": "(?:{})",
    "equals": r"\A(?:{})\Z",
    "regex": "(?:{})",
}


def _given(prices: ModelPrice) -> dict[str, Any]:
    return {
        key: (value.base, *((tier.start, tier.price) for tier in value.tiers))
        if hasattr(value, "tiers")
        else (value,)
        for key, value in vars(prices).items()
        if value is not None
    }


@cache
def _tariff(given: tuple[tuple[str, Any], ...]) -> Tariff:
    prices = dict(given)
    kinds = {kind: prices[key] for kind, key in _KEYS.items() if key in prices}
    above: dict[int, dict[str, float]] = {}
    for kind, (_, *tiers) in kinds.items():
        for start, rate in tiers:
            above.setdefault(start, {})[kind] = float(rate)
    per_request = prices.get("requests_kcount", (0,))[0]
    price: dict[str, Any] = {kind: float(base) for kind, (base, *_) in kinds.items()}
    price["above"] = {start: Rates(**rates) for start, rates in above.items()}
    return Tariff(Price(**price, per_request=float(per_request) / 1000))
