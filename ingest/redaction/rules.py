"""Every rule of redaction, in the order in which they win."""

from __future__ import annotations

from typing import Final

from ingest.redaction.credentials import CREDENTIALS
from ingest.redaction.personal import PERSONAL
from ingest.redaction.phones import PHONES
from ingest.redaction.rule import Rule

RULES: Final[tuple[Rule, ...]] = (*CREDENTIALS, *PERSONAL, *PHONES)
"""Every rule; where two begin at one place the earlier wins."""

LABELS: Final[tuple[str, ...]] = tuple(dict.fromkeys(rule.label for rule in RULES))
"""The classes."""
