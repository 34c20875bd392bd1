"""Secrets and personal data never pass the gateway: what is captured, and what is cut out.

`Redactor` is what others use; `rules` says what is looked for, `scanner` finds it.
"""

from ingest.redaction.redactor import Capture, RedactionConfig, Redactor
from ingest.redaction.rules import LABELS

__all__ = ["LABELS", "Capture", "RedactionConfig", "Redactor"]
