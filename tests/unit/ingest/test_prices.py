"""Costs equal figures computed by hand from the published list, and that list's own calculator."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider
from hypothesis import given
from hypothesis import strategies as st

from ingest.limits import Limits
from ingest.otlp import events_of_traces
from ingest.prices import Price, Prices, Rates, TokenUsage, listed
from ingest.prices.listed import ListedModel
from ingest.prices.model_ids import Name
from ingest.prices.usage import KINDS
from tests.support.common import data_file

_TABLE = Path(__file__).with_name("prices_cases.csv").read_text("utf-8")
CASES = list(csv.DictReader(_TABLE.splitlines()))
PRICES = Prices()
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9


def by_hand(arithmetic: str) -> Fraction:
    """Sum of products, as the column writes it."""
    total = Fraction(0)
    for term in arithmetic.split(" + "):
        product = Fraction(1)
        for factor in term.split("*"):
            product *= Fraction(factor)
        total += product
    return total


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model']} {case['tokens']}")
def test_a_cost_is_the_figure_computed_by_hand(case: dict[str, str]) -> None:
    usage = TokenUsage(**{k: int(n) for k, n in (p.split("=") for p in case["tokens"].split())})
    found = PRICES.cost(
        case["provider"] or None,
        case["model"],
        usage,
        service=case["service"] or None,
        time_ns=ns(case["at"]) if case["at"] else NOW_NS,
    )
    if not case["arithmetic"]:
        assert case["usd"] == ""
        assert found is None
        return
    assert by_hand(case["arithmetic"]) == Fraction(case["usd"])
    assert found is not None
    assert abs(found.usd - float(case["usd"])) <= 1e-9


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert len({(c["provider"], c["model"]) for c in CASES}) >= 60


@pytest.mark.parametrize("provider", providers, ids=lambda provider: provider.id)
def test_every_listed_price_agrees_with_the_lists_own_calculator(provider: Provider) -> None:
    for model in provider.models:
        _agrees(
            provider, model, {"input_tokens": 1000, "output_tokens": 77, "cache_read_tokens": 300}
        )
        _agrees(provider, model, {"input_tokens": 900_000, "output_tokens": 7})
        _agrees(
            provider,
            model,
            {
                "input_tokens": 999,
                "cache_read_tokens": 10,
                "cache_write_tokens": 90,
                "output_tokens": 0,
            },
        )


def _agrees(provider: Provider, model: ModelInfo, used: dict[str, int]) -> None:
    found = ListedModel(provider.id, model.id, Name(provider.id, model.id), model, None)
    tariff = found.tariff(NOW_NS)
    assert tariff is not None
    usd = tariff.usd(
        TokenUsage(
            input=used["input_tokens"],
            output=used["output_tokens"],
            cached=used.get("cache_read_tokens"),
            cache_write=used.get("cache_write_tokens"),
        )
    )
    if usd is None:  # it lists no price for these tokens, where the calculator counts nothing
        listed_for = vars(model.get_prices(NOW))
        assert "input_mtok" not in listed_for or "output_mtok" not in listed_for
        return
    theirs = model.calc_price(Usage(**used), provider, genai_request_timestamp=NOW).total_price
    assert abs(usd - float(theirs)) <= 1e-9


TOKENS = st.none() | st.integers(0, 10**7)


@given(st.builds(TokenUsage, *[TOKENS] * 9))
def test_every_token_counts_once_and_none_is_negative(usage: TokenUsage) -> None:
    inside = usage.inside()
    counts = inside.by_kind()
    assert min(counts) >= 0
    assert sum(counts) == (inside.input or 0) + (inside.output or 0)
    assert inside.inside() == inside
    cost = PRICES.cost("openai", "gpt-realtime", usage)
    assert cost is None or cost.usd >= 0
    assert (cost is None) == (usage.input is None or usage.output is None)


def test_ones_own_prices_win_by_any_name_and_null_takes_a_price_away() -> None:
    prices = Prices(
        {
            "claude-sonnet-4": Price(
                input=1, output=2, above={100: Rates(input=10)}, batch=Rates(input=0.5, output=1)
            ),
            "azure/gpt-4o": Price(input=7, output=7),
            "gpt-4o-mini": None,
            "free": Price(input=0, output=0),
        },
        "ours of 2026-01-01",
    )
    million = TokenUsage(1_000_000, 0)

    def usd(provider: str | None, model: str, usage: TokenUsage = million) -> float | None:
        found = prices.cost(provider, model, usage)
        return None if found is None else found.usd

    assert usd("aws.bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0") == 10
    assert usd(None, "claude-sonnet-4", TokenUsage(100, 1_000_000)) == pytest.approx(2.0001)
    assert usd("azure.ai.openai", "gpt-4o") == 7
    assert usd("openai", "gpt-4o") == 2.5
    assert usd("openai", "gpt-4o-mini-2024-07-18") is None
    assert usd("ollama", "free") == 0
    batch = prices.cost(None, "claude-sonnet-4", million, service="batch")
    assert batch is not None
    assert batch.usd == 0.5
    assert prices.cost(None, "claude-sonnet-4", million, service="flex") is None


def test_an_explanation_adds_up_and_names_its_list() -> None:
    usage = TokenUsage(input=19, output=50, cached=39_000)
    said = PRICES.explain("anthropic", "claude-sonnet-4-20250514", usage)
    assert said["cost_usd"] == pytest.approx(sum(line["usd"] for line in said["lines"]))
    assert [line["kind"] for line in said["lines"]] == ["input", "cached_input", "output"]
    assert said["list"] == listed.about()
    assert said["tokens"]["input"] == 39_019
    unknown = PRICES.explain(None, "gpt-9", usage)
    assert (unknown["cost_usd"], unknown["list"], unknown["own_names"]) == (None, None, ["gpt-9"])


def test_kinds_are_the_fields_of_a_price() -> None:
    assert Rates.__struct_fields__ == KINDS
    assert Price.__struct_fields__[: len(KINDS)] == KINDS


@given(st.text(max_size=300), st.none() | st.text(max_size=20))
def test_no_name_breaks_the_search(model: str, provider: str | None) -> None:
    found = PRICES.cost(provider, model, TokenUsage(1, 1))
    assert found is None or found.usd >= 0


def test_cache_tokens_of_a_recorded_sender_are_priced() -> None:
    folder = data_file("otlp_cases/expected.json").parent
    expected = json.loads((folder / "expected.json").read_text("utf-8"))["14-anthropic-cache.json"]
    body = gzip.decompress((folder / "14-anthropic-cache.json.gz").read_bytes())
    events = events_of_traces(body, encoding="json", limits=Limits()).events
    calls = {event.agent: event for event in events if event.kind == "llm_call"}
    assert sorted(calls) == expected["agents"]
    for agent, right in expected["per_agent"].items():
        call = calls[agent]
        usd = right["cost_usd"]
        assert (call.input_tokens, call.output_tokens) == (right["input_tokens"], 50)
        assert call.cost_usd == pytest.approx(0.0065 if isinstance(usd, dict) else usd, abs=1e-9)
