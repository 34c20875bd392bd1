"""The price table of a process is the one that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import load
from infra.settings.prices import install_prices
from ingest import prices
from ingest.core.errors import UsageError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = prices.installed()
    yield
    prices.install(before)


def test_a_table_lies_on_top_of_the_published_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usd(model: str) -> float | None:
        found = prices.cost(None, model, prices.TokenUsage(1_000_000, 1_000_000))
        return None if found is None else found.usd

    install_prices(load())
    assert usd("gpt-4o") == 12.5
    path = tmp_path / "prices.json"
    monkeypatch.setenv("DRIFTLINE_PRICES_FILE", str(path))
    with pytest.raises(UsageError, match="does not exist"):
        load()
    path.write_text(
        '{"models": {"ours": {"input": 3, "output": 4}, "gpt-4o": {"input": 1, "output": 1},'
        ' "gpt-4o-mini": null}}'
    )
    install_prices(load())
    assert usd("ours") == 7.0
    assert usd("gpt-4o-2024-08-06") == 2.0
    assert usd("gpt-4o-mini") is None
    assert usd("o3") == 10.0
    for wrong in ("{}", '{"models": {"m": {"input": -1}}}', '{"models": {"m": {"inptu": 1}}}'):
        path.write_text(wrong)
        with pytest.raises(UsageError, match="not a price table"):
            install_prices(load())
