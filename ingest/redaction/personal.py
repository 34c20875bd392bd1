"""Rules for personal data other than telephone numbers: mail, cards, accounts."""

from __future__ import annotations

import re
from typing import Final

from ingest.redaction import checks
from ingest.redaction.rule import GAP, NUMBER_EDGE, WORD_EDGE, Rule

_LOCAL: Final = rb"[A-Za-z0-9._%+&~'\-\x80-\xff]"
_HOST: Final = rb"[A-Za-z0-9\x80-\xff]"

_EMAIL: Final = Rule(
    "email",
    # From the sign on: to look for where an address may begin costs as much as all other rules.
    _LOCAL + b"@" + _HOST,
    re.compile(
        rb"[.%%&~'\-]*+(?P<x>%b++@(?:%b[A-Za-z0-9\x80-\xff-]{0,62}\.){1,8}"
        rb"(?:[A-Za-z\x80-\xff]{2,63}|xn--[a-z0-9-]{2,59}))" % (_LOCAL, _HOST)
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

_IBAN: Final = Rule(
    "iban",
    rb"(?i)%b(?:%b)[0-9]{2}(?: ?[0-9A-Z]){11}" % (WORD_EDGE, b"|".join(_COUNTRIES)),
    re.compile(
        rb"(?:" + b"|".join(
            rb"(?:(?i:%s)[0-9]{2}(?:[ -]?[0-9A-Za-z]){%d})" % (b"|".join(countries), length - 4)
            for length, countries in checks.IBAN_COUNTRIES.items()
        ) + rb")(?![0-9A-Za-z])"
    ),
    checks.is_iban,
)  # fmt: skip

_SSN: Final = Rule(
    "ssn",
    NUMBER_EDGE + rb"[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}",
    re.compile(rb"(?!000|666)[0-8][0-9]{2}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])"),
)

PERSONAL: Final = (_EMAIL, _CARD, _IBAN, _SSN)
