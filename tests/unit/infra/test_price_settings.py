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


def test_a_table_replaces_the_one_that_comes_with_driftline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_prices(load())
    assert prices.installed().cost("gpt-4o", 1_000_000, 0) == 2.5
    path = tmp_path / "prices.json"
    monkeypatch.setenv("DRIFTLINE_PRICES_FILE", str(path))
    with pytest.raises(UsageError, match="does not exist"):
        load()
    path.write_text('{"models": {"ours": {"input": 3, "output": 4}}}')
    install_prices(load())
    assert prices.installed().cost("ours", 1_000_000, 1_000_000) == 7.0
    assert prices.installed().cost("gpt-4o", 1_000_000, 0) is None
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a price table"):
        install_prices(load())
