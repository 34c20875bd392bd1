"""What both encodings of OTLP have in common."""

from __future__ import annotations

from typing import Any, Final

from ingest.core.errors import Rejected
from ingest.core.events import RejectionCode
from ingest.limits import Limits
from ingest.otlp.conventions import KNOWN, MESSAGE_KEYS, carries_content, is_flattened
from ingest.otlp.structures import without_media
from ingest.otlp.truncation import capped

ERROR: Final = 2
"""STATUS_CODE_ERROR."""

REMOTE: Final = 0x300
"""SPAN_FLAGS: it is known whether the parent is of another process, and it is."""


def bound(count: int, limits: Limits) -> None:
    """Refuse a request of too many spans or records, or of too many groups of them.

    Each level is counted before the next is looked into: an empty group takes two bytes.
    """
    if count > limits.max_records:
        raise Rejected(RejectionCode.TOO_MANY_RECORDS, f"{count}, at most {limits.max_records}")


def short(name: str, text: str, limits: Limits) -> str:
    """Cut a text that is too long, at a character and with a mark that says how much is missing.

    One that holds words may be much longer: it is read whole, and of its words few are kept.
    """
    if len(text) <= limits.max_words_length and (name in MESSAGE_KEYS or carries_content(name)):
        return text
    return capped(without_media(text), limits.max_attribute_length)


def cut(found: dict[str, Any], count: int) -> dict[str, Any]:
    """Leave out attributes beyond ``count``, unknown ones first and of these the last.

    Of flattened lists stay what the version is computed from, and the last messages: the turn.
    """
    unknown = [name for name in found if name not in KNOWN]
    listed = [name for name in unknown if is_flattened(name)]
    if listed:
        turns = [name for name in listed if not _is_prelude(name)]
        prelude = [name for name in listed if _is_prelude(name)]
        others = [name for name in unknown if not is_flattened(name)]
        unknown = [*prelude, *reversed(turns), *others]
    for name in unknown[max(count - (len(found) - len(unknown)), 0) :]:
        del found[name]
    return found


def _is_prelude(name: str) -> bool:
    """Tell whether a leaf is of the first message, which is the system's, or of a tool."""
    return name.startswith(_TOOLS) or name.split(".", 3)[2] == "0"


_TOOLS: Final = ("llm.tools.", "llm.request.functions.")


ERRORS: Final = frozenset({ERROR, "2", "STATUS_CODE_ERROR", "STATUSCODE_ERROR", "ERROR"})
"""How a failed status is written: by number, as the enum's name, or by its bare name."""

SERVERS: Final = frozenset({2, "2", "SPAN_KIND_SERVER", "SERVER"})


def optional_id(raw: bytes, size: int) -> str | None:
    """Return an id in hexadecimal, None when there is none: nothing, or zeros only."""
    return checked_id(raw, size) if any(raw) else None


def checked_id(raw: bytes, size: int) -> str:
    """Return an id in hexadecimal; one of a wrong length or of zeros only is none."""
    if len(raw) != size or not any(raw):
        raise Rejected(RejectionCode.INVALID_FIELD, "an id is missing or has a wrong length")
    return raw.hex()
