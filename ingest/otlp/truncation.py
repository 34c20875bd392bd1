"""Foreign values made fit for the contract: times, identifiers and capped content."""

from __future__ import annotations

import string
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from xxhash import xxh3_64_hexdigest

MAX_TEXT: Final = 16_384
"""Characters kept of one content field. Four of them, escaped, stay below a line's limit."""

MAX_ATTRIBUTE: Final = 1_024
"""Characters kept of one attribute."""

MAX_ATTRIBUTES: Final = 64
"""Attributes kept of one event."""

MAX_LABEL: Final = 256
"""Characters kept of a name or an identifier."""

_OURS: Final = ("driftline.", "otel.scope.name", "service.name", "span.name", "gen_ai.provider")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def ns_from_iso(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time, exact to the microsecond; naive means UTC.

    Raises
    ------
    ValueError
        When the text is not a time.

    Examples
    --------
    >>> ns_from_iso("2025-08-01T16:16:37.053887")
    1754064997053887000
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time is not ISO 8601") from None
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def capped(text: str, limit: int = MAX_TEXT) -> str:
    """Shorten a text to ``limit`` characters, the last of which say what is missing.

    The marker carries a hash of the whole, so that two texts which differ beyond the limit still
    differ. Lone surrogates, which JSON can spell but UTF-8 cannot, become question marks. No word
    is kept in part: of half an address or key nobody could tell what it is, and redact it.

    Examples
    --------
    >>> capped("to " + "x" * 100, 42)
    'to ...[103 characters, 52f81c6f7ebf5f7b]'
    """
    if len(text) <= limit and text.isascii():
        return text
    encoded = text.encode("utf-8", "replace")
    text = encoded.decode()
    if len(text) <= limit:
        return text
    marker = f"...[{len(text)} characters, {xxh3_64_hexdigest(encoded)}]"
    return text[: _before_a_word(text, limit - len(marker))] + marker


def _before_a_word(text: str, cut: int) -> int:
    """Move a cut to the start of the word that it is in, unless that is longer than secrets are."""
    before, after = text[max(cut - _MAX_WORD, 0) : cut], text[cut : cut + _MAX_WORD]
    started = len(before) - len(before.rstrip(_WORD))
    goes_on = len(after) - len(after.lstrip(_WORD))
    return cut - started if goes_on and started + goes_on <= _MAX_WORD else cut


_WORD: Final = string.ascii_letters + string.digits + "@._+-/=%:~"
_MAX_WORD: Final = 256


def label(text: str | None) -> str | None:
    """Cap a name; an empty one is not known."""
    return capped(text, MAX_LABEL) if text else None


def content(text: str | None) -> str | None:
    """Cap a content; an empty one is not known."""
    return capped(text) if text else None


def attributes(values: Mapping[str, str | None]) -> dict[str, str] | None:
    """Cap attributes in number and length; empty values are left out.

    Of too many those that driftline itself reads stay and the first others in alphabetical order,
    and ``driftline.attributes_dropped`` counts the rest.
    """
    kept = {
        name if len(name) <= MAX_LABEL and name.isascii() else capped(name, MAX_LABEL): (
            value
            if len(value) <= MAX_ATTRIBUTE and value.isascii()
            else capped(value, MAX_ATTRIBUTE)
        )
        for name, value in values.items()
        if value
    }
    if len(kept) > MAX_ATTRIBUTES:
        dropped = str(len(kept) - (MAX_ATTRIBUTES - 1))
        ordered = sorted(kept.items(), key=lambda item: (not item[0].startswith(_OURS), item[0]))
        kept = dict(ordered[: MAX_ATTRIBUTES - 1])
        kept["driftline.attributes_dropped"] = dropped
    return kept or None
