"""Who may send: bearer tokens, each bound to an environment and, if wished, to agents.

The file of tokens holds their SHA-256 only. A fast hash is right here: a token carries 256 random
bits, so nobody finds it by trying however fast they try, and a slow hash such as bcrypt, made for
passwords that people choose, would only let strangers spend our processor with wrong tokens.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from ingest.core.errors import UsageError

_log = logging.getLogger(__name__)

PREFIX: Final = "dlt_"
"""How every token begins, so that scanners for leaked secrets, ours included, know one."""

_MAX_HEADER: Final = 512
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9_-]{20,128})", re.IGNORECASE | re.ASCII)


class Grant(msgspec.Struct, frozen=True):
    """What the bearer of a token may do.

    Attributes
    ----------
    name
        Who it is, for logs and metrics.
    environment
        The one environment it may write to; None is any.
    agents
        The agents it may write for; None is all.
    """

    name: str
    environment: str | None = None
    agents: frozenset[str] | None = None

    @property
    def scope(self) -> str | None:
        """What the token is bound to, as its events say it; None when it is bound to nothing.

        >>> Grant("a", "staging", frozenset({"shop", "bank"})).scope, Grant("b", "staging").scope
        ('staging/bank,shop', 'staging')
        """
        if self.environment is None and self.agents is None:
            return None
        agents = "" if self.agents is None else "/" + ",".join(sorted(self.agents))
        return f"{self.environment or ''}{agents}"


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as kept: everything but the token.

    ``created`` and ``expires`` are seconds since 1970; ``expires`` None is never.
    """

    id: str
    sha256: str
    grant: Grant
    created: int
    expires: int | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int = 1
    tokens: tuple[Token, ...] = ()


class Tokens:
    """The tokens of a file, read again whenever it has been replaced.

    Make one with `load`.

    Parameters
    ----------
    path
        The file; where there is none nobody is admitted.
    clock
        Seconds since 1970, for expiry.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen = _identity(path)
        self._tokens = _read(path).tokens

    @classmethod
    def load(cls, path: Path) -> Tokens:
        """Read a file of tokens.

        Raises
        ------
        UsageError
            It is damaged, or others than its owner can change it.
        """
        return cls(path)

    def grant(self, authorization: str | None) -> Grant | None:
        """What the sender of this ``Authorization`` header may do; None when it is not known.

        Every token is compared, each in constant time, so that the time taken tells nothing.
        """
        self._refresh()
        if authorization is None or len(authorization) > _MAX_HEADER:
            return None
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            return None
        given = hashlib.sha256(match[1].encode()).hexdigest()
        found: Token | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, given):
                found = token
        if found is None or (found.expires is not None and self._clock() >= found.expires):
            return None
        return found.grant

    def __len__(self) -> int:
        self._refresh()
        return len(self._tokens)

    def _refresh(self) -> None:
        identity = _identity(self._path)
        if identity == self._seen:
            return
        self._seen = identity
        try:
            self._tokens = _read(self._path).tokens
        except UsageError as error:
            # Whoever replaced it made a mistake; those who are in stay in until it is mended.
            _log.error("%s; the tokens read before stay in force", error)
        else:
            _log.info("%d tokens in force", len(self._tokens))


def tokens_of(path: Path) -> tuple[Token, ...]:
    """The tokens of a file, without the tokens themselves. Raises `UsageError`."""
    return _read(path).tokens


def add(path: Path, grant: Grant, lifetime_s: int | None = None) -> tuple[str, Token]:
    """Make a token; a gateway that serves from the file knows it at once.

    Parameters
    ----------
    path
        The file, created with mode 0600 when missing.
    grant
        What its bearer may do. A name may have several tokens, which is how one is rotated.
    lifetime_s
        Seconds until it expires.

    Returns
    -------
    tuple
        The token, which is kept nowhere, and what is kept.

    Raises
    ------
    UsageError
        The file is damaged or cannot be written.
    """
    text = PREFIX + secrets.token_urlsafe(32)
    now = int(time.time())
    kept = Token(
        id=secrets.token_hex(4),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        grant=grant,
        created=now,
        expires=None if lifetime_s is None else now + lifetime_s,
    )
    with _changing(path):
        _write(path, (*_read(path).tokens, kept))
    return text, kept


def revoke(path: Path, name: str) -> list[Token]:
    """Take tokens out of force, by id or all of a name; returns them. Raises `UsageError`."""
    with _changing(path):
        tokens = _read(path).tokens
        gone = [token for token in tokens if name in (token.id, token.grant.name)]
        if gone:
            _write(path, tuple(token for token in tokens if token not in gone))
    return gone


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o022:
                raise UsageError(f"{path} can be changed by others: chmod go-w {path}")
            return msgspec.json.decode(file.read(), type=_File)
    except FileNotFoundError:
        return _File()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no file of tokens: {error}") from None


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Let one process at a time read, change and replace the file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write to {path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(tokens=tokens))) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
