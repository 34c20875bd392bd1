"""A labelled corpus of what agents say, for measuring redaction.

Messages have one secret or one piece of personal data planted in them; clean ones are full of
numbers and names that are neither.

People's data come from Faker's providers in many locales; secrets are made after the formats that
their issuers publish. Nothing here knows the rules of `ingest.redaction`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

LOCALES: Final = (
    "en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pt_BR", "pl_PL", "sv_SE",
    "ja_JP", "en_IN", "en_AU", "de_AT", "tr_TR", "ru_RU", "es_MX", "fi_FI", "cs_CZ", "ko_KR",
)  # fmt: skip

_LOWER, _UPPER, _DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
_ALNUM = _LOWER + _UPPER + _DIGITS
_URLSAFE = _ALNUM + "-_"
_HEX = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Message:
    """A text; ``kind`` is None when it is clean, else what ``planted`` is."""

    text: str
    kind: str | None = None
    planted: str = ""
    variety: str = ""


class Corpus:
    """Makes messages, the same for the same seed.

    Parameters
    ----------
    seed
        Of everything random.
    """

    def __init__(self, seed: int) -> None:
        from faker import Faker

        self._random = random.Random(seed)  # noqa: S311
        self._fakers: dict[str, Any] = {locale: Faker(locale) for locale in LOCALES}
        for faker in self._fakers.values():
            faker.seed_instance(seed)
        self._english = self._fakers["en_US"]

    def planted(self, kind: str, n: int) -> Iterator[Message]:
        """``n`` messages with something of ``kind``: secret, card, email, phone or iban."""
        make: dict[str, Callable[[], tuple[str, str]]] = {
            "secret": self._secret, "card": self._card, "email": self._email,
            "phone": self._phone, "iban": self._iban,
        }  # fmt: skip
        for _ in range(n):
            variety, value = make[kind]()
            template = self._random.choice(_CONTEXTS[kind] + _ANYWHERE)
            if "%j" in template:  # within JSON
                text = template.replace("%j", json.dumps(value)[1:-1])
                value = json.dumps(value)[1:-1]
            else:
                text = template.replace("%s", value)
            yield Message(self._filled(text), kind, value, variety)

    def clean(self, n: int) -> Iterator[Message]:
        """``n`` messages without any."""
        for _ in range(n):
            parts = self._random.choices(_CLEAN, k=self._random.randint(1, 3))
            yield Message(" ".join(map(self._filled, parts)))

    def prose(self, size: int) -> str:
        """About ``size`` characters of clean messages."""
        text = ""
        while len(text) < size:
            text += self._filled(self._random.choice(_CLEAN)) + " " + self._english.sentence() + " "
        return text[:size]

    def _chars(self, alphabet: str, n: int) -> str:
        return "".join(self._random.choices(alphabet, k=n))

    def _secret(self) -> tuple[str, str]:
        name, make = self._random.choice(list(_SECRETS.items()))
        return name, make(self._chars)

    def _card(self) -> tuple[str, str]:
        kind = self._random.choice(
            ("visa16", "visa13", "visa19", "mastercard", "amex", "discover", "diners", "jcb16",
             "maestro")
        )  # fmt: skip
        digits = self._english.credit_card_number(card_type=kind)
        sign = self._random.choice(("", "", " ", "-"))
        if not sign or len(digits) not in (14, 15, 16):
            return kind, digits
        sizes = (4, 4, 4, 4) if len(digits) == 16 else (4, 6, len(digits) - 10)
        ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        groups = [digits[a:b] for a, b in pairwise(ends)]
        return kind, sign.join(groups)

    def _email(self) -> tuple[str, str]:
        faker = self._any()
        address = self._random.choice(
            (faker.email, faker.company_email, faker.free_email, faker.ascii_email)
        )()
        form = self._random.randrange(6)
        if form == 0:
            local, _, host = address.partition("@")
            address = f"{local}+{faker.ascii_free_email().partition('@')[0]}@{host}"
        elif form == 1:
            address = address.upper()
        return "email", address

    def _phone(self) -> tuple[str, str]:
        locale = self._random.choice(LOCALES)
        return locale, self._fakers[locale].phone_number()

    def _iban(self) -> tuple[str, str]:
        iban = self._fakers[self._random.choice(("de_DE", "en_GB", "fr_FR", "it_IT", "es_ES",
                                                 "nl_NL", "pl_PL", "de_AT"))].iban()  # fmt: skip
        if self._random.random() < 0.5:
            return "iban", " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))
        return "iban", iban

    def _any(self) -> Any:
        return self._fakers[self._random.choice(LOCALES)]

    def _filled(self, text: str) -> str:
        while "{" in text:
            before, _, rest = text.partition("{")
            if not rest[:1].islower() or "}" not in rest:
                text = before + "\x01" + rest
                continue
            name, _, after = rest.partition("}")
            if name not in _FILLERS:
                text = before + "\x01" + rest
                continue
            text = before + _FILLERS[name](self._random, self._english, self._chars) + after
        return text.replace("\x01", "{")


_Chars = Callable[[str, int], str]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwt(c: _Chars) -> str:
    header = {"alg": "HS256", "typ": "JWT"}
    claims = {"sub": c(_DIGITS, 10), "name": c(_LOWER, 8), "iat": 1700000000 + int(c(_DIGITS, 6))}
    signature = hashlib.sha256(c(_ALNUM, 20).encode()).digest()
    return ".".join(
        (*(_base64(json.dumps(p).encode()) for p in (header, claims)), _base64(signature))
    )


def _pem(kind: str) -> Callable[[_Chars], str]:
    def make(c: _Chars) -> str:
        lines = [c(_ALNUM + "+/", 64) for _ in range(12)] + [c(_ALNUM + "+/", 38) + "=="]
        return f"-----BEGIN {kind}-----\n" + "\n".join(lines) + f"\n-----END {kind}-----"

    return make


_SECRETS: Final[dict[str, Callable[[_Chars], str]]] = {
    "aws access key": lambda c: c("A", 1) + "KIA" + c(_UPPER + "234567", 16),
    "aws temporary key": lambda c: "ASIA" + c(_UPPER + "234567", 16),
    "aws secret key, assigned": lambda c: "aws_secret_access_key = " + c(_ALNUM + "/+", 40),
    "openai project key": lambda c: f"sk-proj-{c(_URLSAFE, 74)}T3BlbkFJ{c(_URLSAFE, 74)}",
    "openai legacy key": lambda c: f"sk-{c(_ALNUM, 20)}T3BlbkFJ{c(_ALNUM, 20)}",
    "anthropic key": lambda c: f"sk-ant-api03-{c(_URLSAFE, 93)}AA",
    "google api key": lambda c: "AIza" + c(_URLSAFE, 35),
    "google oauth token": lambda c: "ya29.a0" + c(_URLSAFE, 120),
    "github token": lambda c: "ghp_" + c(_ALNUM, 36),
    "github app token": lambda c: "ghs_" + c(_ALNUM, 36),
    "github fine-grained": lambda c: f"github_pat_{c(_ALNUM, 22)}_{c(_ALNUM, 59)}",
    "gitlab token": lambda c: "glpat-" + c(_URLSAFE, 20),
    "slack bot token": lambda c: f"xoxb-{c(_DIGITS, 12)}-{c(_DIGITS, 13)}-{c(_ALNUM, 24)}",
    "slack webhook": lambda c: (
        "https://hooks.slack.com/services/"
        f"T{c(_UPPER + _DIGITS, 10)}/B{c(_UPPER + _DIGITS, 10)}/{c(_ALNUM, 24)}"
    ),
    "stripe key": lambda c: "sk_live_" + c(_ALNUM, 24),
    "stripe restricted key": lambda c: "rk_test_" + c(_ALNUM, 99),
    "hugging face": lambda c: "hf_" + c(_LOWER + _UPPER, 34),
    "npm": lambda c: "npm_" + c(_ALNUM, 36),
    "pypi": lambda c: "pypi-AgEIcHlwaS5vcmc" + c(_URLSAFE, 140),
    "sendgrid": lambda c: f"SG.{c(_URLSAFE, 22)}.{c(_URLSAFE, 43)}",
    "twilio": lambda c: "SK" + c(_HEX, 32),
    "mailgun": lambda c: "key-" + c(_HEX, 32),
    "mailchimp": lambda c: f"{c(_HEX, 32)}-us{c('123456789', 1)}",
    "digitalocean": lambda c: "dop_v1_" + c(_HEX, 64),
    "databricks": lambda c: "dapi" + c(_HEX, 32),
    "grafana": lambda c: f"glsa_{c(_ALNUM, 32)}_{c(_HEX, 8)}",
    "shopify": lambda c: "shpat_" + c(_HEX, 32),
    "telegram bot": lambda c: f"{c('123456789', 1)}{c(_DIGITS, 9)}:AA{c(_URLSAFE, 33)}",
    "discord bot": lambda c: f"M{c(_ALNUM, 25)}.{c(_URLSAFE, 6)}.{c(_URLSAFE, 38)}",
    "vault": lambda c: "hvs." + c(_URLSAFE, 90),
    "groq": lambda c: "gsk_" + c(_ALNUM, 52),
    "azure storage": lambda c: f"AccountKey={c(_ALNUM + '+/', 86)}==",
    "jwt": _jwt,
    "bearer": lambda c: f"Authorization: Bearer {c(_URLSAFE, 43)}",
    "basic login": lambda c: (
        "Authorization: Basic "
        + base64.b64encode(f"{c(_LOWER, 7)}:{c(_ALNUM, 12)}".encode()).decode()
    ),
    "rsa private key": _pem("RSA PRIVATE KEY"),
    "pkcs8 private key": _pem("PRIVATE KEY"),
    "openssh private key": _pem("OPENSSH PRIVATE KEY"),
    "database url": lambda c: (
        f"postgresql://{c(_LOWER, 6)}:{c(_ALNUM + '!$%', 14)}@db.internal/app"
    ),
    "api key, assigned": lambda c: f"api_key={c(_ALNUM, 32)}",
    "client secret, JSON": lambda c: f'"client_secret": "{c(_URLSAFE, 40)}"',
    "password, JSON": lambda c: f'"password": "{c(_ALNUM + "!#$%&*", 12)}"',
    "password, said": lambda c: f"password is {c(_ALNUM, 6)}{c(_DIGITS, 2)}",
}

_VISIBLE: Final = {  # what of a variety may be seen
    "aws secret key, assigned": "aws_secret_access_key = ", "api key, assigned": "api_key=",
    "bearer": "Authorization: Bearer ", "basic login": "Authorization: Basic ",
    "client secret, JSON": '"client_secret": "', "password, JSON": '"password": "',
    "password, said": "password is ", "slack webhook": "https://hooks.slack.com/services/",
    "database url": "postgresql://",
}  # fmt: skip


def hidden(message: Message) -> str:
    """The part of what was planted that must not be seen again."""
    value = message.planted
    if message.variety == "database url":
        return value.split(":")[2].partition("@")[0]
    visible = _VISIBLE.get(message.variety, "")
    escaped = json.dumps(visible)[1:-1]
    for prefix in (visible, escaped):
        if prefix and value.startswith(prefix):
            return value[len(prefix) :]
    return value


_ANYWHERE: Final = (
    "%s",
    "Sure, it's %s",
    "I found this: %s\nShall I go on?",
    '{"status": "ok", "result": "%j", "took_ms": {int}}',
    '{"text": "Dear {first},\\n%j\\nThank you"}',
    "{name} ({city}) - %s - order {order}",
    "User said: '%s'.",
    "- {name}\n- %s\n- {city}",
)

_CONTEXTS: Final[dict[str, tuple[str, ...]]] = {
    "secret": (
        "export TOKEN_VALUE='%s'", "I get 401 with %s, can you check?", "```\n%s\n```",
        "ERROR {iso} request failed: header=%s status=403", '{"env": {"VALUE": "%j"}}',
        "Please rotate `%s` as soon as possible.",
    ),
    "card": (
        "My card number is %s, expires {month}/{year2}.", "Please charge %s for order {order}.",
        '{"payment": {"method": "card", "number": "%j"}, "amount": {price}}',
        "card: %s; cvv 123", "The card ending soon is %s?", "pay with %s",
    ),
    "email": (
        "You can write to %s.", "My e-mail is %s and my name is {name}.", "mailto:%s",
        '{"to": ["%j"], "subject": "Order {order}"}', "{name} <%s> wrote:", "cc: %s; {name}",
        "Account %s not found", "https://example.com/unsubscribe?u=%s&id={int}",
    ),
    "phone": (
        "You can reach me at %s.", "My phone number is %s, thanks.", "Call %s to confirm.",
        '{"name": "{name}", "phone": "%j", "city": "{city}"}', "Tel: %s", "Tel. %s / {city}",
        "Please send an SMS to %s when it ships.", '{"customer": {"mobile": "%j"}}',
        "The customer {name} (%s) asked for a refund.", "phone_number=%s",
        "Her mobile is %s but she prefers e-mail.", "WhatsApp: %s", "contact number: %s",
    ),
    "iban": (
        "Please refund to %s.", "IBAN: %s", '{"iban": "%j", "holder": "{name}"}',
        "My account is %s at the local bank.",
    ),
}  # fmt: skip

_CLEAN: Final = (
    "Your order {order} shipped on {date} and should arrive by {usdate}.",
    "The total is ${price}, including ${price} tax, for {small} items.",
    "Order #W{seven} contains item {ten}: {word} lamp, €{price}.",
    '{"order_id": "{order}", "item_ids": ["{ten}", "{ten}"], "total": {price}, "paid": true}',
    "Tracking number {twelve}, carrier reference 1Z{sixteen_upper}.",
    "Request {uuid} finished in {int} ms with status 200.",
    "{iso} INFO worker-{small} processed {int} rows, offset {nine}, lag {small}",
    "trace_id={hex32} span_id={hex16} parent={hex16}",
    "Please upgrade to version {small}.{small}.{small}; {small}.{small}.{small}-rc1 has a bug.",
    "Connection from {ip}:{port} to {ip} refused; retry in {small} s.",
    "Commit {hex40} by {first} changed {small} files on {date}.",
    "sha256:{hex64} verified",
    "Flight LH{three} leaves {city} at {time} on {eudate}, gate {small}, seat 12A.",
    "I could not find a reservation under the name {name}. Is the spelling right?",
    "The meeting is on {eudate} from {time} to {time}.",
    "The measurement at {lat}, {lon} was {price} on {date} {time}.",
    "Your password has been reset. A link expires in {small} minutes.",
    "Please never tell anyone your password, PIN or card number.",
    "max_tokens={int}, temperature=0.7, total tokens: {int}, prompt_tokens: {int}",
    "Error: invalid token at line {small}, column {small}: unexpected '}'",
    "Basic authentication is not enabled; bearer tokens are supported.",
    "The secret of a good {word} is patience, said {first}.",
    "ISBN 978-{small}-{small}-{five}-{small}, published {year}, {int} pages, ${price}.",
    "Send it to {street}, {city} {zip}.",
    "The invoice INV-{year}-{five} over {thousands} EUR is due on {date}.",
    "call_id: call_{alnum24}, tool call took {int} ms",
    '{"id": "chatcmpl-{alnum24}", "created": {unix}, "model": "gpt-4o-2024-08-06"}',
    '{"ts": {nanos}, "ms": {millis}, "value": {fraction}, "count": {int}}',
    "Population {thousands}, growth {fraction} %, {year}-{year}.",
    "Use `git clone git@github.com:acme/{word}.git` or npm i @types/{word}@{small}.{small}.",
    "@{first} see https://example.com/items/{nine}?page={small}&ref={hex16}",
    "Ticket {five} was opened by {name} on {usdate} and closed {small} days later.",
    "Rows 1000-2000 of {thousands}; batch {small}/{small}; shard {small}",
    "ETA {time}; distance {int} km; speed {small} km/h; temperature -{small}.5 C",
    "SKU {three}-{five}-{small} is back in stock: {small} left at ${price}.",
    "File report_{date}_{five}.csv has {int} lines and {nine} bytes.",
    "The score was {small}-{small}; sets 6-4 7-5 6-3.",
    "MAC 00:1b:44:11:3a:b7, IPv6 2001:db8::{hex4}:{hex4}, port {port}.",
    "Section {small}.{small} of RFC {four} says so.",
    "{sentence}",
    "{sentence} {sentence}",
)

_Filler = Callable[[random.Random, Any, _Chars], str]


def _digits(n: int) -> _Filler:
    return lambda r, _f, c: r.choice("123456789") + c(_DIGITS, n - 1)


def _hex(n: int) -> _Filler:
    return lambda _r, _f, c: c(_HEX, n)


_FILLERS: Final[dict[str, _Filler]] = {
    "order": lambda r, _f, c: (
        r.choice(("#", "ORD-", "A-", "")) + c(_DIGITS, r.choice((6, 7, 8, 10)))
    ),
    "int": lambda r, _f, _c: str(r.randint(100, 99_999)),
    "small": lambda r, _f, _c: str(r.randint(1, 40)),
    "three": _digits(3), "four": _digits(4), "five": _digits(5), "seven": _digits(7),
    "nine": _digits(9), "ten": _digits(10), "twelve": _digits(12),
    "sixteen_upper": lambda _r, _f, c: c(_UPPER + _DIGITS, 16),
    "alnum24": lambda _r, _f, c: c(_ALNUM, 24),
    "hex4": _hex(4), "hex16": _hex(16), "hex32": _hex(32), "hex40": _hex(40), "hex64": _hex(64),
    "price": lambda r, _f, _c: f"{r.uniform(1, 2000):.2f}",
    "thousands": lambda r, _f, _c: f"{r.randint(1000, 90_000_000):,}",
    "fraction": lambda r, _f, _c: repr(r.random()),
    "lat": lambda r, _f, _c: f"{r.uniform(-90, 90):.6f}",
    "lon": lambda r, _f, _c: f"{r.uniform(-180, 180):.6f}",
    "unix": lambda r, _f, _c: str(r.randint(1_600_000_000, 1_800_000_000)),
    "millis": lambda r, _f, _c: str(r.randint(1_600_000_000_000, 1_800_000_000_000)),
    "nanos": lambda r, _f, _c: str(r.randint(1_600_000_000 * 10**9, 1_800_000_000 * 10**9)),
    "port": lambda r, _f, _c: str(r.randint(1024, 65_535)),
    "uuid": lambda _r, f, _c: f.uuid4(), "ip": lambda _r, f, _c: f.ipv4(),
    "date": lambda _r, f, _c: f.date(), "usdate": lambda _r, f, _c: f.date(pattern="%m/%d/%Y"),
    "eudate": lambda _r, f, _c: f.date(pattern="%d.%m.%Y"),
    "iso": lambda _r, f, _c: f.iso8601(), "time": lambda _r, f, _c: f.time(pattern="%H:%M"),
    "month": lambda _r, f, _c: f.month(), "year2": lambda r, _f, _c: str(r.randint(26, 32)),
    "year": lambda r, _f, _c: str(r.randint(1950, 2026)),
    "name": lambda _r, f, _c: f.name(), "first": lambda _r, f, _c: f.first_name(),
    "city": lambda _r, f, _c: f.city(), "street": lambda _r, f, _c: f.street_address(),
    "zip": lambda _r, f, _c: f.zipcode(), "word": lambda _r, f, _c: f.word(),
    "sentence": lambda _r, f, _c: f.sentence(),
}  # fmt: skip
