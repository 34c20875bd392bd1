"""Rules for telephone numbers: international, national, and announced by a word."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ingest.redaction import checks
from ingest.redaction.rule import ESCAPE, GAP, NUMBER_EDGE, WIDE_GAP, Match, Rule

_EXTENSION: Final = rb"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?"

_NOUNS: Final = (
    r"phones?(?:[_ -]?(?:number|no|nr))?|telephone(?:[_ ]number)?|tel(?:\.|[_ ]?(?:no|nr))?"
    r"|mobile(?:[_ -]?(?:number|no|phone))?|cell(?:[ -]?phone|[_ ]?number)?|whats ?app|sms|fax"
    r"|msisdn|contact[_ ]number|call[ -]?back[_ ]number|my number"
    r"|telefon(?:nummer|o|e|i|szam|u)?|telefoon(?:nummer)?|handy(?:nummer)?|rufnummer"
    r"|mobil(?:nummer|telefon)?|mobiel|tlf|teléfono|tél(?:éphone)?|portable|celular|móvil"
    r"|cellulare|puhelin(?:numero)?|電話(?:番号)?|手机(?:号)?|전화(?:번호)?|телефон"
).encode()
_VERBS: Final = (
    r"(?:call(?:ed|ing)?|dial(?:led|ing)?|text(?:ed|ing)?|ring|reach(?:ed|able)?|contact(?:ed)?"
    r"|ruf(?:en|t)?|appele[rz]|lláma(?:me|nos)?|chiama(?:mi|temi)?|bel)"
).encode()
_TO_WHOM: Final = (
    rb"(?: (?:me|us|him|her|them|back|at|on|the|number|under|is|my|directly|now|an|au|al|a|op"
    rb"|unter))*[: ]{1,2}"
)


def _phone(
    edge: bytes,
    whole: bytes,
    check: Callable[[Match], bool],
    head: bytes | None = None,
    *,
    in_ids: bool = False,
) -> Rule:
    return Rule(
        "phone",
        edge + (whole if head is None else head),
        re.compile(b"(?P<x>%b%b)(?![0-9])" % (whole, _EXTENSION)),
        check,
        in_ids=in_ids,
    )


_INTERNATIONAL: Final = _phone(  # +49 (0) 30 123456, 0044 20 7496 0786, (+351) 969 141 777
    NUMBER_EDGE,
    rb"(?:\+|00 ?)\(?[1-9](?:%b{0,3}[0-9]){6,15}" % WIDE_GAP,
    checks.is_international,
    rb"(?:\+|00[1-9])\(?[0-9]?(?:%b{0,3}[0-9]){6}" % WIDE_GAP,
    in_ids=True,
)
_NORTH_AMERICAN: Final = _phone(  # 212-555-0123, (212) 555-0123, 1.212.555.0123x45
    NUMBER_EDGE,
    rb"(?:(?:00)?1%b)?(?:\([0-9]{3}\)%b?|[0-9]{3}%b)[0-9]{3}%b[0-9]{4}" % ((GAP,) * 4),
    checks.is_whole_number,
)
_AREA_IN_PARENTHESES: Final = _phone(  # (0316) 05929 224, 8 (914) 177-76-31
    NUMBER_EDGE,
    rb"(?:[0-9]{1,2}%b?)?\([0-9]{2,5}\)%b{0,2}[0-9](?:%b?[0-9]){4,8}" % ((GAP,) * 3),
    checks.is_whole_number,
    rb"(?:[0-9]{1,2}%b?)?\([0-9]{2,5}\)%b{0,2}[0-9](?:%b?[0-9]){4}" % ((GAP,) * 3),
)
_TRUNK_ZERO: Final = _phone(  # 030 1234567, 01 23 45 67 89, 07700 900123, 02124/158683
    NUMBER_EDGE,
    rb"0[1-9](?:%b{0,2}[0-9]){6,11}" % GAP,
    checks.is_trunk_number,
    rb"0[1-9](?:%b{0,2}[0-9]){6}" % GAP,
)
_GROUPS: Final = _phone(  # 609 141 777, 91 41 77 76, 22 931 58 27, 12 3915-0008
    NUMBER_EDGE,
    rb"(?:[2-9][0-9](?:[0-9] [0-9]{3} [0-9]{3}| [0-9]{2} [0-9]{2} [0-9]{2})"
    rb"|[1-9][0-9](?: [0-9]{3} [0-9]{2} [0-9]{2}|[ -]9?[0-9]{4}-[0-9]{4}))",
    checks.is_lone_groups,
)
_ELEVEN: Final = _phone(  # 13891417776, 89161234567
    NUMBER_EDGE, rb"(?:1[3-9]|8[3489])[0-9]{9}", checks.is_mobile
)
_ANNOUNCED: Final = Rule(  # phone: 5551234567, "mobile": "12 3915-0008", call me at 39150008
    "phone",
    rb"(?i)(?:[^A-Za-z\x80-\xff]|%b)(?:(?:%b)[^0-9\0]{0,30}|%b[^0-9\0]{1,40})[0-9]"
    % (ESCAPE, _NOUNS, _VERBS),
    re.compile(
        rb"(?i:(?:%b)(?P<between>[^0-9\0]{0,30}?)|%b%b)"
        rb"(?P<x>[(+]{0,2}[0-9](?:%b{0,3}[0-9]){6,14}%b)(?![0-9])"
        % (_NOUNS, _VERBS, _TO_WHOM, WIDE_GAP, _EXTENSION)
    ),
    checks.is_announced_number,
)

PHONES: Final = (
    _INTERNATIONAL, _NORTH_AMERICAN, _AREA_IN_PARENTHESES, _TRUNK_ZERO, _GROUPS, _ELEVEN,
    _ANNOUNCED,
)  # fmt: skip
