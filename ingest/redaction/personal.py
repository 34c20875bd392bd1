"""Rules for personal data other than telephone numbers: mail, cards, accounts."""

from __future__ import annotations

import re
from typing import Final

from ingest.redaction import checks
from ingest.redaction.rule import GAP, NUMBER_EDGE, WORD_EDGE, Rule

_LOCAL: Final = rb"[A-Za-z0-9._%+&~'\-\x80-\xff]"
_HOST: Final = rb"[A-Za-z0-9\x80-\xff]"
_SIGN: Final = rb"(?:@|%(?:25)?40)"
"""The sign of an address, also as URLs write it."""

_EMAIL: Final = Rule(
    "email",
    # From the sign on: to look for where an address may begin costs as much as all other rules.
    _LOCAL + _SIGN + _HOST,
    re.compile(
        rb"[.%%&~'\-]*+(?P<x>(?:(?!%b)%b)++%b(?:%b[A-Za-z0-9\x80-\xff-]{0,62}\.){1,8}"
        rb"(?:[A-Za-z\x80-\xff]{2,63}|xn--[a-z0-9-]{2,59}))" % (_SIGN, _LOCAL, _SIGN, _HOST)
    ),
    checks.is_address,
    edge=False,
    backwards=re.compile(_LOCAL + rb"*"),
    in_ids=True,
)

_CARD: Final = Rule(
    "card",
    WORD_EDGE + rb"[2-6][0-9]{3}(?:" + GAP + rb"?[0-9]){8}",
    re.compile(
        rb"(?:[0-9]{12,19}"
        rb"|[0-9]{4}(" + GAP + rb")[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,4}){1,2}"
        rb"|[0-9]{4}(" + GAP + rb")[0-9]{6}\2[0-9]{4,5})(?![0-9])"
    ),
    checks.is_card,
)

_COUNTRIES: Final = [country for group in checks.IBAN_COUNTRIES.values() for country in group]

_IBAN_GAP: Final = rb"(?:[ -]|\xc2\xa0)"

_IBAN: Final = Rule(
    "iban",
    rb"(?i)%b(?:%b)[0-9]{2}(?:%b?[0-9A-Z]){11}" % (WORD_EDGE, b"|".join(_COUNTRIES), _IBAN_GAP),
    re.compile(
        rb"(?:" + b"|".join(
            rb"(?:(?i:%b)[0-9]{2}(?:%b?[0-9A-Za-z]){%d})"
            % (b"|".join(countries), _IBAN_GAP, length - 4)
            for length, countries in checks.IBAN_COUNTRIES.items()
        ) + rb")(?!-?[0-9A-Za-z])"
    ),
    checks.is_iban,
    in_ids=True,
)  # fmt: skip

_SSN: Final = Rule(
    "ssn",
    NUMBER_EDGE + rb"[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}",
    re.compile(rb"(?!000|666)[0-8][0-9]{2}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])"),
)

PERSONAL: Final = (_EMAIL, _CARD, _IBAN, _SSN)
