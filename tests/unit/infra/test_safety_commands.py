"""Tokens and redaction as a person sets them up."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import typer

from infra import wiring
from infra.commands import tokens
from infra.settings import load
from ingest.access import Tokens
from ingest.core.errors import UsageError
from ingest.core.events import Event


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_token_is_made_listed_and_revoked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens.add("shop-team", "production", ["shop"], "90d", None, as_json=True)
    made = json.loads(capsys.readouterr().out)
    grant = Tokens.load(home / "tokens.json").grant(f"Bearer {made['token']}")
    assert grant is not None
    assert (grant.name, grant.environment) == ("shop-team", "production")
    tokens.list_(None, as_json=True)
    shown = capsys.readouterr().out
    assert made["token"] not in shown
    (listed,) = json.loads(shown)
    assert (listed["id"], listed["agents"], listed["in_force"]) == (made["id"], ["shop"], True)
    tokens.revoke(made["id"], None)
    tokens.list_(None, as_json=True)
    assert json.loads(capsys.readouterr().out) == []
    with pytest.raises(typer.Exit) as ended:
        tokens.revoke(made["id"], None)
    assert ended.value.exit_code == 1


def test_the_settings_name_another_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_GATEWAY_TOKENS_FILE", str(home / "other.json"))
    tokens.add("team", None, None, None, None, as_json=True)
    assert len(Tokens.load(home / "other.json")) == 1
    with pytest.raises(UsageError, match="name"):
        tokens.add(" ", None, None, None, None, as_json=True)
    for environment, agent in (("eu/test", "shop"), ("test", "shop,bank")):
        with pytest.raises(UsageError, match="slash"):
            tokens.add("team", environment, [agent], None, None, as_json=True)


def test_pseudonyms_outlive_a_restart(home: Path) -> None:
    event = Event(
        event_id="e", time_unix_nano=1, agent="a", kind="llm_call", user_id="ann@example.org"
    )
    first, again = (wiring.redactor(load()).apply([event])[0] for _ in range(2))
    assert first == again
    assert first.user_id != event.user_id
    assert stat.S_IMODE((home / "redaction.key").stat().st_mode) == 0o600


def test_settings_of_redaction(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_REDACTION_AGENTS", '{"quiet": "off"}')
    monkeypatch.setenv("DRIFTLINE_REDACTION_PATTERNS", '{"customer": "KD-[0-9]{4}"}')
    monkeypatch.setenv("DRIFTLINE_REDACTION_KEEP", '["email"]')
    monkeypatch.setenv("DRIFTLINE_REDACTION_KEY", "shared")
    redactor = wiring.redactor(load())
    assert redactor.redact_text("KD-1234 a@b.io") == "[customer] a@b.io"
    said = Event(event_id="e", time_unix_nano=1, agent="quiet", kind="llm_call", content="x")
    assert redactor.apply([said])[0].content is None
    assert not (home / "redaction.key").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDACTION_CAPTURE", "some"), ("REDACTION_AGENTS", '{"a": "some"}'),
        ("REDACTION_KEEP", '["phon"]'), ("REDACTION_PATTERNS", '{"a": "("}'),
        ("REDACTION_PATTERNS", '{"A b": "x"}'),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"DRIFTLINE_{name}", value)
    with pytest.raises(UsageError):
        wiring.redactor(load())
