"""A price explains itself: list, date, match, arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from ingest import prices


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    before = prices.installed()
    yield
    prices.install(before)


def run(*arguments: str):
    return CliRunner().invoke(app, ["prices", *arguments])


def test_an_explanation_as_json() -> None:
    answer = run(
        "us.anthropic.claude-sonnet-4-20250514-v1:0", "--provider", "aws.bedrock",
        "--input-tokens", "19", "--cached-tokens", "39000", "--output-tokens", "50", "--json",
    )  # fmt: skip
    said = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert said["cost_usd"] == pytest.approx(0.012507, abs=1e-9)
    assert said["list"].startswith("genai-prices ")
    assert (said["listed_provider"], said["tokens"]["input"]) == ("aws", 39_019)
    assert [(line["kind"], line["tokens"], line["rate"]) for line in said["lines"]] == [
        ("input", 19, 3.0), ("cached_input", 39_000, 0.3), ("output", 50, 15.0),
    ]  # fmt: skip


def test_an_explanation_for_a_person() -> None:
    answer = run("gpt-4o", "--input-tokens", "1000", "--output-tokens", "50")
    assert answer.exit_code == 0
    assert "match: gpt-4o is openai/gpt-4o, standard service" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "cost: 0.003 USD"


def test_ones_own_file_is_named_with_its_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"date": "2026-02-03", "models": {"ours": {"input": 1, "output": 2}}}')
    monkeypatch.setenv("DRIFTLINE_PRICES_FILE", str(path))
    said = json.loads(run("ours", "--json").stdout)
    assert (said["list"], said["cost_usd"]) == (f"{path} of 2026-02-03", 3.0)


def test_what_has_no_price_says_how_to_give_it_one() -> None:
    answer = run("lab/gpt-9")
    assert answer.exit_code == 1
    assert "add it to prices.file as lab/gpt-9 or gpt-9" in answer.output
    assert json.loads(run("gpt-9", "--json").stdout)["cost_usd"] is None
    assert run("gpt-4o", "--service", "flex").exit_code == 1
