"""Tokens, cost and first token of a model call, from single attributes and from usage objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ingest.otlp import conventions
from ingest.otlp.attributes import MappedAttributes, Span, number, string
from ingest.otlp.dialects import DISJOINT, REASONING_APART, WHOLE
from ingest.otlp.structures import mapping, structure
from ingest.otlp.truncation import ns_from_iso
from ingest.prices import Prices, TokenUsage, installed

MS: Final = 1_000_000

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("input_tokens", "prompt_tokens", "input", "inputTokens", "promptTokens"),
    "output_tokens": (
        "output_tokens", "completion_tokens", "output", "outputTokens", "completionTokens",
    ),
    "cached_tokens": (
        "cache_read_input_tokens", "input_cached_tokens", "cached_tokens", "cache_read",
        "cachedInputTokens", "input_cache_read", "cachedContentTokenCount", "cachedContentTokens",
    ),
    "cache_write_tokens": (
        "cache_creation_input_tokens", "input_cache_creation", "cache_creation", "cache_write",
        "cache_write_tokens", "cacheCreationInputTokens", "cacheWriteInputTokens",
    ),
    "reasoning_tokens": ("reasoning_tokens", "output_reasoning_tokens", "reasoning",
                         "reasoningTokens", "output_reasoning", "thoughtsTokenCount",
                         "thoughtsTokens"),
}  # fmt: skip
"""Keys of usage objects as providers and tracing SDKs write them."""

_DETAILS: Final = (
    "prompt_tokens_details", "input_tokens_details", "input_token_details",
    "completion_tokens_details", "output_tokens_details", "output_token_details",
)  # fmt: skip
_COST_OF_USAGE: Final = {"cost_usd": ("cost",)}
"""What gateways (OpenRouter, Vercel's) say in usage objects that a call cost."""

_FOR_AN_HOUR: Final = {"cache_write_1h": ("ephemeral_1h_input_tokens",)}
"""Of what was written to a cache, in Anthropic's usage objects, what it keeps longer."""

_AUDIO: Final = {"input_audio": _DETAILS[:3], "output_audio": _DETAILS[3:]}
"""Objects of a usage object that say how much of a total was audio."""

_COST_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "cost_usd": ("total", "total_cost"),
    "input_cost": ("input", "input_cost"),
    "output_cost": ("output", "output_cost"),
}


def fields_of(
    span: Span, found: MappedAttributes, prices: Prices | None, dialect: str
) -> dict[str, Any]:
    """Return the fields of an event that speak of a model call."""
    if "output" in found.values:
        _read_response(found.values)
    if "model" not in found.values:
        _read_model(found.values)
    counts = _counted(span, found, prices, dialect)
    return {**counts, "time_to_first_token_ms": _first_token_ms(span, found.values)}


def sums_of(
    span: Span, found: MappedAttributes, prices: Prices | None, dialect: str
) -> dict[str, Any]:
    """Return the tokens and cost that the span of an agent says of all its calls together."""
    if _SUMS.isdisjoint(found.values):
        return {}
    counts = _counted(span, found, prices, dialect)
    return counts if any(counts.values()) else {}


_SUMS: Final = frozenset(
    {"input_tokens", "output_tokens", "usage", "cost", "cost_usd", "input_cost", "output_cost"}
)


def _counted(
    span: Span, found: MappedAttributes, prices: Prices | None, dialect: str
) -> dict[str, Any]:
    values = found.values
    disjoint = _holds(DISJOINT, dialect, values, span)
    if "usage" in values:
        disjoint = _read_usage(_counts(values["usage"]), values) or disjoint
    if "cost" in values:
        _read(mapping(structure(values["cost"])), _COST_KEYS, values)
    tokens: dict[str, int | None] = {
        name: int(values[name]) if name in values else None for name in _KEYS
    }
    tokens["input_tokens"] = _whole_input(tokens, disjoint)
    apart = tokens["reasoning_tokens"] and _holds(REASONING_APART, dialect, values, span)
    if apart and tokens["output_tokens"] is not None:
        tokens["output_tokens"] += tokens["reasoning_tokens"] or 0
    model = values.get("model")
    cost = _cost_said(values)
    if cost is None and model is not None:
        cost = _priced(span, found, tokens, installed() if prices is None else prices)
    return {**tokens, "cost_usd": cost}


def _holds(
    of_dialects: Mapping[str, tuple[str, ...]], dialect: str, values: Mapping[str, Any], span: Span
) -> bool:
    """Tell whether a way of counting is that of a dialect, of all or of this provider."""
    of_providers = of_dialects.get(dialect)
    if of_providers is None:
        return False
    provider = string(values.get("provider")) or ""
    return provider.startswith(of_providers) and WHOLE.isdisjoint(span.attributes)


_PRICED: Final = (*_AUDIO, *_FOR_AN_HOUR)
_SERVICE_TIERS: Final = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
)
"""Attributes that say by which service, at which price, a provider answered."""


def _priced(
    span: Span, found: MappedAttributes, tokens: Mapping[str, int | None], prices: Prices
) -> float | None:
    usage = TokenUsage(
        input=tokens["input_tokens"],
        output=tokens["output_tokens"],
        cached=tokens["cached_tokens"],
        cache_write=tokens["cache_write_tokens"],
        reasoning=tokens["reasoning_tokens"],
        **{field: int(found.values[field]) for field in _PRICED if field in found.values},
    )
    cost = prices.cost(
        string(found.values.get("provider")),
        string(found.values["model"]) or "",
        usage,
        service=next(filter(None, map(found.rest.get, _SERVICE_TIERS)), None)
        or found.values.get("service_tier"),
        time_ns=span.end_ns or span.start_ns,
    )
    return None if cost is None else cost.usd


def _read_response(values: dict[str, Any]) -> None:
    """Take what only the provider's response says, where that is the output of the call."""
    output, model = values["output"], values.get("model")
    if not isinstance(output, str):
        return
    # A search for a plain text first: it costs a twentieth of the pattern.
    has_usage = (
        "_details" in output
        and _SAYS_DETAILS.search(output) is not None
        and not values.keys() >= _OF_DETAILS
    )
    has_usage = has_usage or ('"usage"' in output and values.keys().isdisjoint(_COUNTED))
    if not has_usage and ('"model_name"' not in output or f'"{model}"' in output):
        return
    for part in _responses(structure(output)):
        if has_usage:
            _read_usage(mapping(part.get("usage", part.get("usage_metadata"))), values)
        answered = part.get("model_name")
        if isinstance(answered, str):
            values["model"] = answered


_COUNTED: Final = ("input_tokens", "output_tokens", "usage")
_OF_DETAILS: Final = frozenset({"cached_tokens", "reasoning_tokens"})
_SAYS_DETAILS: Final = re.compile(r"put_tokens?_details|(?:prompt|completion)_tokens_details")


def _read_model(values: dict[str, Any]) -> None:
    """Take the model that only the provider's response names, or else the request."""
    for field in ("output", "parameters", "input"):
        given = values.get(field)
        if isinstance(given, str) and '"model"' in given:
            for part in _responses(structure(given)):
                if isinstance(part.get("model"), str):
                    values["model"] = part["model"]
                    return


_WITHIN: Final = (
    "generations", "generation_info", "message", "kwargs", "response_metadata", "llm_output",
)  # fmt: skip


def _responses(found: Any, depth: int = 7) -> Iterator[dict[str, Any]]:
    """Objects that may be a provider's response, or LangChain's record of one."""
    if isinstance(found, list) and found and depth:
        yield from _responses(found[0], depth - 1)
    elif isinstance(found, dict) and depth:
        yield found
        for key in _WITHIN:
            yield from _responses(found.get(key), depth - 1)


def _counts(usage: Any) -> dict[str, Any]:
    """Return a usage object, also as Python prints one; nothing in it is text.

    Of the AI SDK's metadata the object of each provider, with the provider's own usage object.
    """
    if isinstance(usage, str):
        if "oken" not in usage and "put" not in usage and '"cost"' not in usage:
            return {}
        if usage.startswith("{'"):
            usage = usage.replace("'", '"').replace("None", "null")
    counts = mapping(structure(usage))
    for part in [part for key, part in counts.items() if key not in _DETAILS]:
        for name in _INNER if isinstance(part, dict) else ():
            counts = {**mapping(part.get(name)), **part, **counts}
    return counts


_INNER: Final = ("usage", "usageMetadata")
"""What providers call their usage objects within the AI SDK's metadata."""


def _read_usage(usage: Mapping[str, Any], values: dict[str, Any]) -> bool:
    """Take counts from a usage object, and tell whether its parts are disjoint."""
    details = {k: v for name in _DETAILS for k, v in mapping(usage.get(name)).items()}
    wholes = {name: _with_parts(usage, name) for name in ("input", "output") if name in usage}
    _read({**details, **usage, **wholes}, _KEYS, values)
    _read(mapping(usage.get("cache_creation")), _FOR_AN_HOUR, values)
    _read(usage, _COST_OF_USAGE, values)
    if isinstance(usage.get("service_tier"), str):
        values.setdefault("service_tier", usage["service_tier"])
    for field, names in _AUDIO.items():
        for name in names:
            _read(mapping(usage.get(name)), {field: ("audio_tokens", "audio")}, values)
    parts = (*_KEYS["cached_tokens"], *_KEYS["cache_write_tokens"])
    return "input" in usage and any(name in usage for name in parts)


def _with_parts(usage: Mapping[str, Any], name: str) -> Any:
    """Langfuse's ``output`` with ``output_reasoning`` and the like, which it does not contain.

    Parts that a cache took part in are not among them: `_whole_input` adds these.
    """
    parts = (
        number(count)
        for key, count in usage.items()
        if key.startswith(f"{name}_") and "priority" not in key and key not in _NO_PARTS
    )
    count = number(usage[name])
    return count if count is None else count + sum(part or 0 for part in parts)


_NO_PARTS: Final = frozenset(
    {"input_tokens", "output_tokens", *_KEYS["cached_tokens"], *_KEYS["cache_write_tokens"]}
)


def _read(given: Mapping[str, Any], keys: Mapping[str, tuple[str, ...]], values: Any) -> None:
    for field, names in keys.items():
        counts = (number(given[name]) for name in names if name in given)
        count = next((count for count in counts if count is not None), None)
        if count is not None:
            values.setdefault(field, count)


def _whole_input(tokens: Mapping[str, int | None], disjoint: bool) -> int | None:
    """Input tokens with those that a cache took part in; fewer cannot contain more."""
    given = tokens["input_tokens"]
    of_cache = (tokens["cached_tokens"] or 0) + (tokens["cache_write_tokens"] or 0)
    if of_cache and given is not None and (disjoint or of_cache > given):
        return given + of_cache
    return given


def _cost_said(values: Mapping[str, Any]) -> float | None:
    total = values.get("cost_usd")
    if total is not None:
        return total or None
    cost = 0.0
    for field, tokens in (("input_cost", "input_tokens"), ("output_cost", "output_tokens")):
        part = values.get(field)
        if part is None or (part == 0 and values.get(tokens)):
            return None
        cost += part
    return cost or None


def _first_token_ms(span: Span, values: Mapping[str, Any]) -> float | None:
    if "first_token_s" in values:
        first: float = values["first_token_s"] * 1e3
        # Some write milliseconds under a name that means seconds; none came after the last token.
        late = span.end_ns is not None and first > (span.end_ns - span.start_ns) / MS
        return first / 1e3 if late else first
    if "first_token_ms" in values:
        return float(values["first_token_ms"])
    if not span.start_ns:
        return None
    if "first_token_at" in values:
        return _since_start_ms(span, values["first_token_at"])
    tokens = [m.time_ns for m in span.moments if m.name in conventions.FIRST_TOKEN_EVENTS]
    return max(min(tokens) - span.start_ns, 0) / MS if tokens else None


def _since_start_ms(span: Span, at: str) -> float | None:
    try:
        return max(ns_from_iso(at) - span.start_ns, 0) / MS
    except ValueError:
        return None
