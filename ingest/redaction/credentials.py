"""Rules for what lets one in: API keys, tokens, private keys, passwords."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ingest.redaction import checks
from ingest.redaction.rule import ESCAPE, WORD_EDGE, Match, Rule


def _key(
    prefix: bytes,
    least: int,
    alphabet: bytes = rb"[A-Za-z0-9_-]",
    check: Callable[[Match], bool] | None = None,
    edge: bytes = WORD_EDGE,
) -> Rule:
    """Rule of an API key: a documented prefix, then at least so many random characters."""
    return Rule(
        "api_key",
        edge + prefix + alphabet + b"{%d}" % least,
        re.compile(prefix + alphabet + b"{%d,}" % least),
        check,
        in_ids=True,
    )


_HEX: Final = rb"[0-9a-f]"
_ALNUM: Final = rb"[A-Za-z0-9]"

_KEYS: Final = [
    _key(rb"(?:AKIA|ASIA|ABIA|ACCA)", 16, rb"[A-Z0-9]"),  # AWS access key ids
    _key(rb"sk-ant-", 20),  # Anthropic
    _key(
        rb"sk-", 20, check=checks.is_random, edge=rb"(?:[^0-9A-Za-z_\-]|" + ESCAPE + rb")"
    ),  # OpenAI and the many that speak as it does
    _key(rb"(?:sk|pk)-lf-", 20),  # Langfuse
    _key(rb"(?:[rs]k|whsec)_(?:live_|test_)?", 20, _ALNUM),  # Stripe
    _key(rb"AIza", 35),  # Google
    _key(rb"ya29\.", 20),
    _key(rb"GOCSPX-", 20),
    _key(rb"gh[pousr]_", 36, _ALNUM),  # GitHub
    _key(rb"github_pat_", 22, rb"[A-Za-z0-9_]"),
    _key(rb"gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat)-", 20),  # GitLab
    _key(rb"xox[abeoprs]-", 10, rb"[A-Za-z0-9.-]"),  # Slack
    _key(rb"xapp-", 20),
    _key(rb"hooks\.slack\.com/(?:services|workflows)/", 20, rb"[A-Za-z0-9/]"),
    _key(rb"hf_", 30, _ALNUM),  # Hugging Face
    _key(rb"gsk_", 40, _ALNUM),  # Groq
    _key(rb"xai-", 40),
    _key(rb"pplx-", 40),  # Perplexity
    _key(rb"r8_", 37, _ALNUM),  # Replicate
    _key(rb"nvapi-", 40),
    _key(rb"tvly-", 20),  # Tavily
    _key(rb"lsv2_(?:pt|sk)_", 30, rb"[0-9a-f_]"),  # LangSmith
    _key(rb"npm_", 36, _ALNUM),
    _key(rb"pypi-AgE", 50),
    _key(rb"dckr_(?:pat|oat)_", 20),
    _key(rb"SG\.", 60, rb"[A-Za-z0-9_.-]"),  # SendGrid
    _key(rb"key-", 32, _HEX),  # Mailgun
    _key(_HEX + rb"{32}-us", 1, rb"[0-9]"),  # Mailchimp
    _key(rb"(?:SK|AC)", 32, _HEX),  # Twilio
    _key(rb"sq0(?:atp|csp|idp)-", 22),  # Square
    _key(rb"EAAA", 56),
    _key(rb"shp(?:at|ca|pa|ss|tka)_", 32, rb"[0-9A-Fa-f]"),  # Shopify
    _key(rb"do[opr]_v1_", 64, _HEX),  # DigitalOcean
    _key(rb"dapi", 32, _HEX),  # Databricks
    _key(rb"PMAK-", 50, rb"[0-9a-f-]"),  # Postman
    _key(rb"lin_(?:api|oauth)_", 32, _ALNUM),  # Linear
    _key(rb"(?:ntn_|secret_)", 40, _ALNUM),  # Notion
    _key(rb"gl(?:sa|c)_", 32, rb"[A-Za-z0-9_+/=]"),  # Grafana
    _key(rb"NR(?:AK|II|RA|AL)-", 27),  # New Relic
    _key(rb"hv[bsr]\.", 24),  # Vault
    _key(_ALNUM + rb"{14}\.atlasv1\.", 60),  # Terraform Cloud
    _key(rb"dp\.(?:pt|st|ct|sa|scim|audit)\.", 40),  # Doppler
    _key(rb"sbp_", 40, _HEX),  # Supabase
    _key(rb"pscale_(?:tkn|pw|oauth)_", 32, rb"[A-Za-z0-9_.=-]"),  # PlanetScale
    _key(rb"AGE-SECRET-KEY-1", 58, rb"[A-Z0-9]"),
    _key(rb"AT[AC]TT3", 50, rb"[A-Za-z0-9_=-]"),  # Atlassian
    _key(rb"figd_", 36),
    _key(rb"sntry[su]_", 60, rb"[A-Za-z0-9_=+/-]"),  # Sentry
    _key(rb"ops_eyJ", 60),  # 1Password
    _key(rb"HRKU-", 36),  # Heroku
    _key(rb"pat[A-Za-z0-9]{14}\.", 64, _HEX),  # Airtable
    _key(rb"FlyV1 fm[12][ar]?_", 60, rb"[A-Za-z0-9+/=,_]"),
    _key(rb"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.", 27),  # Discord
    _key(rb"[0-9]{8,10}:", 35),  # Telegram
    _key(rb"dlt_", 43),  # ours
    _key(rb"AccountKey=", 80, rb"[A-Za-z0-9+/=]"),  # Azure Storage
    _key(rb"SharedAccessKey=", 40, rb"[A-Za-z0-9+/=]"),
]

_JWT: Final = Rule(
    "jwt",
    WORD_EDGE + rb"eyJ[A-Za-z0-9_-]{8}",
    # A header and a payload; the signature may be missing, as in unsigned or truncated tokens.
    re.compile(rb"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+){0,3}"),
    in_ids=True,
)

_PRIVATE_KEY: Final = Rule(
    "private_key",
    rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----",
    # Lines of base64 and headers, line ends escaped or not, to the end line or where it is cut.
    re.compile(
        rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        rb"(?:[A-Za-z0-9+/=\s\\:,.()]|-(?!-))*+"
        rb"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
    ),
    edge=False,
)

_QUOTES: Final = rb"[\"'\\]{0,4}"
_SECRET_NAMES: Final = (
    rb"(?:api|access|auth|private|secret|signing|encryption|account|subscription)[_ -]?key"
    rb"|(?:client|app|consumer|webhook|shared)[_-]?secret|secret|token|credentials?"
)
_PASSWORD_NAMES: Final = rb"passw(?:or)?d|passphrase|passcode|pwd|passwort|kennwort|mot de passe"
_GIVEN: Final = _QUOTES + rb"\s{0,3}(?:[:=]|=>|:=)\s{0,3}" + _QUOTES

_ASSIGNED: Final = [
    Rule(
        "secret",
        rb"(?i)(?:" + _SECRET_NAMES + rb")" + _GIVEN + rb"[A-Za-z0-9_./+=~-]{16}",
        re.compile(
            rb"(?i:" + _SECRET_NAMES + rb")" + _GIVEN + rb"(?P<x>[A-Za-z0-9_./+=~-]{16,512})"
        ),
        checks.is_secret,
        edge=False,
    ),
    Rule(
        "password",
        rb"(?i)(?:%b)(?:%b|\s+is:?\s+)[^\s\"'\\,;\0]{5}" % (_PASSWORD_NAMES, _GIVEN),
        re.compile(
            rb"(?i:" + _PASSWORD_NAMES + rb")"
            rb"(?:(?P<quoted>[\"'\\]{1,4}\s{0,3}[:=]\s{0,3}[\"'\\]{1,4})|" + _GIVEN
            + rb"|\s{1,3}is:?\s{1,3})(?P<x>[^\s\"'\\,;\0]{5,256})"
        ),
        checks.is_password,
        edge=False,
    ),
    Rule(
        "password",
        rb"://[^\s:/@\0]{0,64}:[^\s/@\0]{1,128}@",
        re.compile(rb"://[^\s:/@\0]{0,64}:(?P<x>[^\s/@\0]{1,128})@"),
        edge=False,
    ),
    Rule(
        "token",
        rb"(?i)" + WORD_EDGE + rb"bearer\s+[A-Za-z0-9._~+/=-]{16}",
        re.compile(rb"(?i:bearer)\s{1,8}(?P<x>[A-Za-z0-9._~+/=-]{16,8192})"),
        checks.is_random,
    ),
    Rule(
        "password",
        rb"(?i)" + WORD_EDGE + rb"basic\s+[A-Za-z0-9+/]{8}",
        re.compile(rb"(?i:basic)\s{1,8}(?P<x>[A-Za-z0-9+/]{8,512}={0,2})"),
        checks.is_basic_login,
    ),
]  # fmt: skip

CREDENTIALS: Final = (_PRIVATE_KEY, _JWT, *_KEYS, *_ASSIGNED)
