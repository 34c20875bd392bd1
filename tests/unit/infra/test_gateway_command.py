"""Who may come in, and what the settings of the gateway become."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.commands.gateway import admission, gateway_config
from infra.settings import Settings, load
from ingest.access import Grant, add, revoke
from ingest.core.errors import UsageError
from ingest.gateway.admission import ANYONE


def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **gateway: str) -> Settings:
    for name, value in gateway.items():
        monkeypatch.setenv(f"DRIFTLINE_GATEWAY_{name.upper()}", value)
    return load({"home": tmp_path})


def test_without_tokens_this_machine_may_send_and_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grant = admission(tmp_path / "tokens.json", settings(monkeypatch, tmp_path))
    assert "anybody on this machine may send, nobody else" in capsys.readouterr().err
    assert grant(None) == ANYONE


def test_the_first_token_closes_the_door_and_it_stays_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.json"
    grant = admission(path, settings(monkeypatch, tmp_path))
    token, _ = add(path, Grant("team", "staging"))
    assert grant(None) is None
    assert grant(f"Bearer {token}") == Grant("team", "staging")
    other, _ = add(path, Grant("other"))
    revoke(path, "team")
    assert grant(f"Bearer {token}") is None
    assert grant(f"Bearer {other}") == Grant("other")
    path.unlink()
    assert grant(None) is None
    assert grant(f"Bearer {other}") is None


def test_other_machines_need_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    open_to_all = settings(monkeypatch, tmp_path, host="0.0.0.0")
    with pytest.raises(UsageError, match="other machines could send, and there are no tokens"):
        admission(path, open_to_all)
    add(path, Grant("team"))
    assert admission(path, open_to_all)(None) is None


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.json"
    with pytest.raises(UsageError, match="does not exist"):
        admission(path, settings(monkeypatch, tmp_path, tokens_file=str(path)))


def test_settings_become_bounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = gateway_config(
        settings(monkeypatch, tmp_path, max_body_mb="2", linger_ms="7", queue_mb="3")
    )
    assert (config.host, config.port, config.tls) == ("127.0.0.1", 4318, None)
    assert config.limits.max_body_bytes == 2 * 2**20
    assert (config.linger_s, config.queue_bytes) == (0.007, 3 * 2**20)


def test_a_certificate_needs_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file in (certificate, key):
        file.write_text("nonsense")
    with pytest.raises(UsageError, match="need each other"):
        settings(monkeypatch, tmp_path, tls_certfile=str(certificate))
    with pytest.raises(UsageError, match="do not fit"):
        gateway_config(settings(monkeypatch, tmp_path, tls_keyfile=str(key)))
