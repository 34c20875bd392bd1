"""Secrets and personal data never pass the gateway: what is captured, and what is cut out.

`Redactor` is what others use; `capture` decides what stays at all, `rules` says what is looked for,
`scanner` finds it.
"""

from ingest.redaction.capture import Capture
from ingest.redaction.redactor import RedactionConfig, Redactor
from ingest.redaction.rules import LABELS

__all__ = ["LABELS", "Capture", "RedactionConfig", "Redactor"]
