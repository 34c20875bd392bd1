"""What tells a card from a number and a key from a word. Pure; each takes a rule's match."""

from __future__ import annotations

import base64
import binascii
import math
import re
import string
from collections import Counter
from typing import Final

_Match = re.Match[bytes]

_NOT_DIGITS: Final = bytes(set(range(256)) - set(b"0123456789"))


def _digits(text: bytes) -> bytes:
    return text.translate(None, _NOT_DIGITS)


def luhn(digits: bytes) -> bool:
    """Whether ASCII digits end with their Luhn check digit (ISO/IEC 7812-1 annex B).

    >>> luhn(b"4111111111111111"), luhn(b"4111111111111112")
    (True, False)
    """
    total = 0
    for place, byte in enumerate(reversed(digits)):
        value = byte - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


_ISSUERS: Final = re.compile(
    rb"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    rb"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    rb"|3[47]\d{13}"  # American Express
    rb"|3(?:0[0-5]|095|[689]\d)\d{11,16}"  # Diners Club
    rb"|35\d{14,17}|(?:2131|1800)\d{11}"  # JCB
    rb"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}"  # Discover
    rb"|62\d{14,17}|8[12]\d{14,17}"  # UnionPay
    rb"|(?:50(?:18|20|38)|5[6-8]\d\d|6304|6390|6759|676[1-3])\d{8,15}"  # Maestro
)


def is_card(match: _Match) -> bool:
    """A payment card: a known issuer's range and length, and a right check digit."""
    start, text = match.start(), match.string
    if text[start - 1 : start] == b"." and text[start - 2 : start - 1].isdigit():
        return False  # digits of a fraction
    digits = _digits(match[0])
    return _ISSUERS.fullmatch(digits) is not None and luhn(digits)


IBAN_COUNTRIES: Final = {
    length: countries.encode().split()
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
}  # fmt: skip
"""Countries by the length of their IBANs, from the registry of ISO 13616."""
_NOT_ALNUM: Final = bytes(set(range(256)) - set((string.digits + string.ascii_letters).encode()))
_IBAN_VALUES: Final = {
    ord(char): str(int(char, 36)) for char in string.digits + string.ascii_letters
}


_DIGITS_ONLY: Final = (
    b"AE AT BA BE CZ DE DK EE ES FI FO GL HR HU IL IS LT ME NO PL PT RS SE SI SK TL TN VA XK"
)
"""Countries whose IBANs hold no further letters. One span id in 60,000 would else
be Belgian."""


def is_iban(match: _Match) -> bool:
    """An IBAN: digits where its country has no letters, and remainder 1 modulo 97."""
    iban = match[0].translate(None, _NOT_ALNUM)
    if iban[:2].upper() in _DIGITS_ONLY and not iban[2:].isdigit():
        return False
    return int("".join(map(_IBAN_VALUES.__getitem__, iban[4:] + iban[:4]))) % 97 == 1


def is_random(match: _Match) -> bool:
    """Characters that look drawn, not written: a digit among them, or both cases."""
    return _is_mixed(match[match.lastgroup or 0])


def entropy(text: bytes) -> float:
    """Shannon entropy of the bytes, in bits per byte.

    >>> entropy(b"aabb")
    1.0
    """
    n = len(text)
    return -sum(k / n * math.log2(k / n) for k in Counter(text).values())


_PLACEHOLDER: Final = re.compile(
    rb"[<\[{(].*|\*+|\$(?:(?-i:[A-Z_]+)|\{.*)|%(?:s|\w+%|\(.*)|\.+|x+|null|none|undefined|true|false|required|invalid|incorrect|missing"
    rb"|string|optional|redacted|hidden|your.*|changed?|reset.*|expired",
    re.IGNORECASE,
)


_PATH: Final = re.compile(rb"(?:\.{0,2}/[a-z0-9_.-]+)+/?|https?:.*")


def is_secret(match: _Match) -> bool:
    """What a name such as ``api_key`` is set to: long, mixed, and not a path or a sentence."""
    text = match["x"]
    return (
        _is_mixed(text)
        and not text.isdigit()
        and entropy(text) >= 3.0
        and _PATH.fullmatch(text) is None
    )


def is_query_secret(match: _Match) -> bool:
    """What a parameter such as ``key`` or ``sig`` of a URL is set to: drawn, not written."""
    text = match["x"]
    return (
        _is_mixed(text)
        and (len(text) >= 16 or entropy(text) >= 2.75)
        and not text.isdigit()
        and _WORDS.fullmatch(text) is None
    )


_WORDS: Final = re.compile(
    rb"[A-Za-z]++(?:[-_+.%/](?:[A-Za-z0-9]{1,4}(?![A-Za-z0-9])|[a-z]++))*+|[\d.,-]++"
)
"""Words, with numbers of a few digits between them: a page, a version, a place."""


def is_of_curl(match: _Match) -> bool:
    """An option of curl, which other programs have for other things."""
    before = match.string[max(0, match.start() - 512) : match.start()]
    return b"curl" in before.rpartition(b"\n\n")[2] and not match["x"].startswith((b"$", b"<"))


def is_password(match: _Match) -> bool:
    """What ``password`` is set to: anything quoted as a value, else what is not a plain word."""
    text = match["x"].rstrip(b".)]}>!?")
    if len(text) < 4 or _PLACEHOLDER.fullmatch(text):
        return False
    return match["quoted"] is not None or not text.isalpha()


def is_basic_login(match: _Match) -> bool:
    """Base64 of ``user:password``, as in HTTP's basic authentication."""
    text = match["x"]
    try:
        return b":" in base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return False


_DATE: Final = re.compile(
    rb"(?:19|20)\d\d[-/. ][01]\d[-/. ][0-3]\d|[0-3]?\d[-/. ][0-3]?\d[-/. ](?:19|20)\d\d"
    rb"|(?:19|20)\d\d[01]\d[0-3]\d(?:\d{4,6})?"
)
_FRACTION: Final = re.compile(rb"(?!\d{4}\.\d{4}\Z)\d+\.\d+")
_ADDRESS: Final = re.compile(rb"(?:\d{1,3}\.){3}\d{1,3}")
_YEARS: Final = re.compile(rb"(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d")


def is_international(match: _Match) -> bool:
    """A telephone number with its country: 8 to 15 digits, an optional trunk zero, an extension."""
    number = re.split(rb"[xe]", match["x"])[0]
    if number.isdigit() and _is_identifier(match):
        return False
    return 8 <= len(_digits(number)) <= 17 and _is_alone(match)


def is_whole_number(match: _Match) -> bool:
    """A telephone number in a national form, not a part of something longer."""
    return _is_alone(match) and _DATE.match(match["x"]) is None


def is_trunk_number(match: _Match) -> bool:
    """A telephone number that begins with the trunk zero of its country."""
    text = match["x"]
    number = re.split(rb"[xe]", text)[0]
    digits = _digits(number)
    if not 8 <= len(digits) <= 13 or not _is_alone(match):
        return False
    if number.isdigit():
        return len(digits) >= 9 and not _is_identifier(match)
    return _DATE.match(number) is None and _FRACTION.fullmatch(number) is None


_UNIT: Final = re.compile(
    rb" ?(?:[%\xe2$]|bytes?|[kmgt]i?b\b|eur|usd|gbp|dollars?|items?|rows?|users?|tokens?|ms\b"
    rb"|[0-9])",
    re.IGNORECASE,
)  # fmt: skip


def is_lone_groups(match: _Match) -> bool:
    """Groups of digits as in a telephone number, not an amount nor a series of numbers."""
    text, start, end = match.string, match.start(), match.end()
    if _YEARS.search(match[0]):
        return False
    before = text[max(0, start - 2) : start]
    return (
        _is_alone(match)
        and not before.strip().endswith((b"$", b"\xac", b"\xa3", b","))
        and not before[:1].isdigit()
        and _UNIT.match(text, end) is None
    )


_IDENTIFIER: Final = re.compile(
    rb"(?:#|(?<![a-z])(?:ids?|order|invoice|ticket|ref|reference|code|sku|items?|nr|no))"
    rb"[.\"':=\[# ]*",
    re.IGNORECASE,
)


def _is_identifier(match: _Match) -> bool:
    """Whether what stands before says that the digits name a thing."""
    before = match.string[max(0, match.start() - 24) : match.start()]
    return any(_IDENTIFIER.fullmatch(before, at) for at in range(len(before)))


def is_mobile(match: _Match) -> bool:
    """Eleven digits as mobile numbers of China and numbers of Russia are written."""
    return _is_alone(match) and not _is_identifier(match)


_OTHER_NOUN: Final = re.compile(
    rb"\bid\b|_id|order|#|\$|\bat time|time|date|\bsku|code|price|cost|total|balance|plan|account",
    re.IGNORECASE,
)


def is_announced_number(match: _Match) -> bool:
    """Digits after a word that announces a telephone number, and not after another such word."""
    number = re.split(rb"[xe]", match["x"])[0]
    if _OTHER_NOUN.search(match["between"] or b""):
        return False
    if not 7 <= len(_digits(number)) <= 15 or not _is_alone(match):
        return False
    return not any(
        form.match(number) for form in (_DATE, _YEARS, _ADDRESS)
    ) and not _FRACTION.fullmatch(number)


_BOUND: Final = re.compile(rb"[.,:/][0-9]|[-_]?[0-9A-Za-z]")


def _is_alone(match: _Match) -> bool:
    """Whether the number ends here and is no part of an identifier or of a longer number."""
    return _BOUND.match(match.string, match.end("x")) is None


def _is_mixed(text: bytes) -> bool:
    return bool(_digits(text)) or (text != text.lower() and text != text.upper())


def is_address(match: _Match) -> bool:
    """An e-mail address, not the login of a version control server."""
    return not match["x"].startswith((b"git@", b"hg@"))
