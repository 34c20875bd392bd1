"""Tokens let in whom they should, for as long as they should."""

from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import access
from ingest.access import Grant, Tokens
from ingest.core.errors import UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "tokens.json"


def bearer(token: str) -> str:
    return f"Bearer {token}"


def test_a_token_gives_its_own_grant_and_no_other(path: Path) -> None:
    shop = Grant("shop-team", "production", frozenset({"shop"}))
    anything = Grant("platform")
    shop_token, _ = access.add(path, shop)
    platform_token, _ = access.add(path, anything)
    tokens = Tokens.load(path)
    assert tokens.grant(bearer(shop_token)) == shop
    assert tokens.grant(bearer(platform_token)) == anything


def test_only_a_whole_bearer_header_is_taken(path: Path) -> None:
    token, _ = access.add(path, Grant("team"))
    tokens = Tokens.load(path)
    for header in (f"bearer {token}", f"  BEARER   {token} "):
        assert tokens.grant(header) is not None
    for header in (
        None, "", token, f"Basic {token}", f"Bearer {token[:-1]}", f"Bearer {token}x",
        f"Bearer {token} {token}", "Bearer " + "a" * 10_000, f"Bearer {token}\u00e9",
    ):  # fmt: skip
        assert tokens.grant(header) is None


@given(st.text(max_size=200) | st.text(max_size=100).map(bearer))
def test_no_header_crashes_or_is_let_in(header: str) -> None:
    assert Tokens.load(Path("/nonexistent/tokens.json")).grant(header) is None


def test_the_token_is_kept_nowhere_and_the_file_is_private(path: Path) -> None:
    token, kept = access.add(path, Grant("team"))
    for file in path.parent.iterdir():
        assert token.removeprefix(access.PREFIX) not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert kept.sha256 in path.read_text()


def test_rotation_needs_no_restart(path: Path) -> None:
    tokens = Tokens.load(path)
    assert len(tokens) == 0
    old, kept = access.add(path, Grant("team"))
    new, _ = access.add(path, Grant("team"))
    assert tokens.grant(bearer(old)) is not None
    assert tokens.grant(bearer(new)) is not None
    assert [token.id for token in access.revoke(path, kept.id)] == [kept.id]
    assert tokens.grant(bearer(old)) is None
    assert tokens.grant(bearer(new)) is not None
    assert len(access.revoke(path, "team")) == 1
    assert access.revoke(path, "team") == []
    assert tokens.grant(bearer(new)) is None


def test_a_token_expires(path: Path) -> None:
    token, kept = access.add(path, Grant("team"), lifetime_s=60)
    now = float(kept.created)
    tokens = Tokens(path, clock=lambda: now)
    assert tokens.grant(bearer(token)) is not None
    now += 60
    assert tokens.grant(bearer(token)) is None


def test_a_damaged_replacement_changes_nothing_and_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token, _ = access.add(path, Grant("team"))
    tokens = Tokens.load(path)
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    with caplog.at_level(logging.ERROR):
        assert tokens.grant(bearer(token)) is not None
    assert str(path) in caplog.text
    assert token not in caplog.text
    path.unlink()
    assert tokens.grant(bearer(token)) is None, "a file that is gone lets nobody in"


def test_a_file_that_others_may_change_is_refused(path: Path) -> None:
    access.add(path, Grant("team"))
    os.chmod(path, 0o620)
    with pytest.raises(UsageError, match="chmod go-w"):
        Tokens.load(path)
    path.chmod(0o600)
    path.write_text('{"version": 1, "tokens": [{"id": 1}]}')
    with pytest.raises(UsageError, match="no file of tokens"):
        Tokens.load(path)


def test_many_may_add_at_once(path: Path) -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: made.append(access.add(path, Grant(f"t{n}"))[0]))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens = Tokens.load(path)
    assert len(tokens) == 12
    assert {tokens.grant(bearer(token)).name for token in made} == {f"t{n}" for n in range(12)}
