"""What is looked for: each class of secret and of personal data, as data.

A rule has two halves. The *head* is a pattern for Vectorscan, which scans for all heads at once and
says where one begins; it is exact about where a thing may start and demands its shortest form. The
*whole* is a pattern for Python's ``re``, matched at that place only, so that it costs nothing where
nothing is; a *check* then tells a card from a number. Every whole is bounded or stops at the first
byte that cannot belong to it, so that no text takes more than linear time.

Formats are those that issuers publish: ISO/IEC 7812 cards, ISO 13616 IBANs, E.164 and national
telephone numbers, RFC 7519 tokens, RFC 7468 keys, and the documented prefixes of API keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Match = re.Match[bytes]

ESCAPE: Final = rb"\\(?:[nrtbf]|u[0-9a-fA-F]{4})"
"""In JSON text a thing may follow an escaped line end, whose letter is no part of it."""

WORD_EDGE: Final = rb"(?:[^0-9A-Za-z]|" + ESCAPE + rb")"
NUMBER_EDGE: Final = rb"(?:[^0-9A-Za-z.+\-]|" + ESCAPE + rb")"

GAP: Final = rb"(?:[ .\-/]|\xc2\xa0|\xe2\x80[\x91\xaf])"
WIDE_GAP: Final = rb"(?:[ .\-/()]|\xc2\xa0|\xe2\x80[\x91\xaf])"
"""What may stand between the digits of a number: also the blanks and hyphens that never break."""


DISGUISE: Final = (
    rb"(?:\xc2\xad|\xcd\x8f|\xd8\x9c|\xe1\xa0\x8e|\xe2\x80[\x8b-\x8f\xaa-\xae]"
    rb"|\xe2\x81[\xa0-\xa9]|\xef\xbb\xbf|&#[0-9xX]|&(?:commat|period|colon|lowbar|hyphen|dash);)"
)
"""Marks without width, and HTML's entities for signs of addresses and keys."""

NO_WIDTH: Final = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one form of one class is found.

    Attributes
    ----------
    label
        The class, which stands in brackets where the thing was.
    head
        Vectorscan pattern of an edge and the shortest form.
    whole
        Matched from where the thing begins. Its group ``x``, else all of it, is replaced.
    check
        Whether a match is one.
    edge
        Whether the head begins with a byte (or an escape) before the thing.
    backwards
        Where the head is in the middle of the thing: what may stand before it, written backwards.
    in_ids
        Whether names and ids are searched too. Numbers are not, for most ids are numbers.
    group
        Which group of ``whole`` is replaced.
    """

    label: str
    head: bytes
    whole: re.Pattern[bytes]
    check: Callable[[Match], bool] | None = None
    edge: bool = True
    backwards: re.Pattern[bytes] | None = None
    in_ids: bool = False
    group: str | int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", "x" if "x" in self.whole.groupindex else 0)
