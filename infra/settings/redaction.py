"""The settings of redaction, and the redactor that they make."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr, field_validator

from infra.settings.sections import Section, revealed
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from infra.settings import Settings
    from ingest.redaction import Redactor

CaptureMode = Literal["off", "hashed", "redacted", "full"]

_KEY_FILE = "redaction.key"


class RedactionSettings(Section):
    """What is kept of what agents and their users say."""

    capture: CaptureMode = Field(
        default="redacted",
        description="what is said: off drops everything but technical facts, hashed keeps a keyed"
        " hash of it, redacted cuts out secrets and personal data, full keeps everything"
        " (docs/privacy.md)",
    )
    agents: dict[str, CaptureMode] = Field(
        default_factory=dict,
        description='agents or services that differ from redaction.capture, as {"name": "off"}',
    )
    keep: tuple[str, ...] = Field(
        default=(),
        description='classes not to redact, as ["phone"]; without it all: private_key, jwt,'
        " api_key, secret, password, token, cookie, email, card, iban, ssn, phone",
    )
    patterns: dict[str, str] = Field(
        default_factory=dict,
        description='more to redact, as {"customer_number": "KD-[0-9]{8}"}: class and pattern,'
        " in PCRE without look-around and back-references, which takes linear time on any text",
    )
    key: SecretStr | None = Field(
        default=None,
        description="keys pseudonyms and hashes; must be the same for every gateway and worker of"
        " one installation. Without it one is made and kept in the home folder",
    )

    @field_validator("keep")
    @classmethod
    def _known(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        from ingest.redaction import LABELS

        for label in keep:
            if label not in LABELS:
                raise ValueError(f"{label!r} is no class; there are {', '.join(LABELS)}")
        return keep


def redactor(settings: Settings) -> Redactor:
    """Make the redactor of these settings.

    Raises
    ------
    UsageError
        A pattern is wrong, or no key is given and none can be kept.
    """
    from ingest.redaction import Capture, RedactionConfig, Redactor

    section = settings.redaction
    given = revealed(section.key)
    return Redactor(
        RedactionConfig(
            capture=Capture(section.capture),
            agents={agent: Capture(mode) for agent, mode in section.agents.items()},
            keep=frozenset(section.keep),
            patterns=section.patterns,
            key=_kept_key(settings.home) if given is None else given.encode(),
        )
    )


def _kept_key(home: Path) -> bytes:
    """The key of this home folder, made once, by the first process."""
    path = home / _KEY_FILE
    try:
        if not path.exists():
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = home / f".{_KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
            with os.fdopen(
                os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
            ) as file:
                file.write(secrets.token_hex(32))
            try:
                os.link(fresh, path)  # fails where another process has been faster
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot keep a key in {home}: {error.strerror}; set DRIFTLINE_REDACTION_KEY"
        ) from None
    if not key:
        raise UsageError(f"{path} is empty; remove it, or set DRIFTLINE_REDACTION_KEY")
    return key
