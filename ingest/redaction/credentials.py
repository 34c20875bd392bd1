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


def _marked(mark: bytes, before: int, after: int, alphabet: bytes) -> Rule:
    """Rule of an API key with a mark in its middle, from which the search for it starts."""
    return Rule(
        "api_key",
        alphabet + mark + alphabet + b"{%d}" % after,
        re.compile(b"%b{%d,200}?%b%b{%d,}=*" % (alphabet, before, mark, alphabet, after)),
        edge=False,
        backwards=re.compile(alphabet + rb"*"),
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
    _key(rb"ABSK", 60, rb"[A-Za-z0-9+/=]"),  # Bedrock, long-term
    _key(rb"bedrock-api-key-", 40, rb"[A-Za-z0-9+/=_-]"),  # Bedrock, short-term
    _key(rb"AQ\.Ab", 36),  # Google, Gemini
    _key(rb"pcsk_[A-Za-z0-9]{4,8}_", 40, _ALNUM),  # Pinecone
    _key(rb"tgp_v1_", 40, check=checks.is_random),  # Together
    _key(rb"sb_(?:secret|publishable)_", 20, check=checks.is_random),  # Supabase
    _key(rb"sbp_(?:v0_|oauth_)", 40, _HEX),
    _key(rb"ph[cxrsa]_", 40, _ALNUM),  # PostHog
    _key(rb"fw_", 22, _ALNUM),  # Fireworks
    _key(rb"csk-", 40, _ALNUM),  # Cerebras
    _key(rb"pa-", 43, check=checks.is_random),  # Voyage
    _key(rb"jina_", 50, check=checks.is_random),
    _key(rb"wandb_v1_", 40, check=checks.is_random),  # Weights & Biases
    _key(rb"vc[kpiar]_", 24, _ALNUM),  # Vercel
    _key(rb"e2b_", 40, _HEX),
    _key(rb"fc-", 32, _HEX),  # Firecrawl
    _key(rb"apify_api_", 30, _ALNUM),
    _key(rb"bb_live_", 20, check=checks.is_random),  # Browserbase
    _key(rb"BSA", 27, _ALNUM, checks.is_random),  # Brave Search
    _key(rb"rpa_", 40, _ALNUM),  # RunPod
    _key(rb"m0-", 38, _ALNUM),  # Mem0
    _key(rb"esecret_", 24, _ALNUM),  # Anyscale
    _key(rb"api_org_", 30, _ALNUM),  # Hugging Face
    _key(rb"napi_", 48, rb"[a-z0-9]"),  # Neon
    _key(rb"re_[A-Za-z0-9]{8}_", 20, _ALNUM, checks.is_random),  # Resend
    _key(rb"rnd_", 28, _ALNUM),  # Render
    _key(rb"nfp_", 36, _ALNUM),  # Netlify
    _key(rb"dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.", 60, rb"[A-Z0-9]"),  # Dynatrace
    _key(rb"hc(?:aik|bik|amk)_", 40, rb"[a-z0-9]"),  # Honeycomb
    _key(rb"sq[pua]_", 40, _HEX),  # SonarQube
    _key(rb"CCIP(?:AT|RJ)_", 40, rb"[A-Za-z0-9_]"),  # CircleCI
    _key(rb"bk(?:ua|aj|pt|ct)_", 36, _ALNUM),  # Buildkite
    _key(rb"rubygems_", 48, _HEX),
    _key(rb"oy2", 43, rb"[a-z0-9]"),  # NuGet
    _key(rb"pul-", 40, _HEX),  # Pulumi
    _key(rb"tskey-[a-z]+-", 16),  # Tailscale
    _key(rb"LTAI", 16, _ALNUM, checks.is_random),  # Alibaba Cloud
    _key(rb"AKID", 32, _ALNUM),  # Tencent Cloud
    _key(rb"AQVN", 35),  # Yandex Cloud
    _key(rb"xkeysib-", 64, rb"[0-9a-fA-Z-]"),  # Brevo
    _key(rb"mlsn\.", 64, _HEX),  # MailerSend
    _key(rb"CFPAT-", 40),  # Contentful
    _key(rb"tfp_", 40, rb"[A-Za-z0-9_.-]"),  # Typeform
    _key(rb"pat-(?:na|eu)[0-9]-", 36, rb"[0-9a-f-]"),  # HubSpot
    _key(rb"rzp_(?:live|test)_", 14, _ALNUM),  # Razorpay
    _key(rb"shippo_(?:live|test)_", 40, _HEX),
    _key(rb"EZ[AT]K", 54, _ALNUM),  # EasyPost
    _key(rb"access-(?:production|sandbox|development)-", 36, rb"[0-9a-f-]"),  # Plaid
    _key(rb"(?:AKCp|cmVmdGtu)", 50, _ALNUM),  # Artifactory
    _key(rb"ATBB", 28, _ALNUM),  # Bitbucket
    _key(rb"sl\.[A-Za-z]?\.?", 100),  # Dropbox
    _key(rb"lmnr_", 40, check=checks.is_random),  # Laminar
    _key(rb"lf_(?:sk|pk)_", 20),
]

_MARKED: Final = [
    _marked(rb"JQQJ9[9D]", 52, 20, _ALNUM),  # Azure OpenAI, AI Foundry
    _marked(rb"AzSe[A-D]", 42, 5, _ALNUM),  # Azure AI Search
    _marked(rb"AzFu", 44, 4, rb"[A-Za-z0-9_-]"),  # Azure Functions
    _marked(rb"(?:\+ASt|ACDb)", 76, 6, rb"[A-Za-z0-9+/]"),  # Azure Storage, Cosmos DB
    _marked(rb"(?:\+AEh|\+ASb|AIoT)", 33, 6, rb"[A-Za-z0-9+/]"),  # Event Hubs, Service Bus, IoT
    _marked(rb"[0-9]Q~", 3, 31, rb"[A-Za-z0-9_~.-]"),  # Entra client secrets
]
"""Azure's keys carry a mark of their service near their end."""

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
_QUERY_NAMES: Final = (
    rb"(?:api[-_]?|access[-_]?|subscription[-_]?)?key|(?:access|auth|id|refresh|session)?[-_]?token"
    rb"|sig|signature|hmac|auth|password|passwd|pwd|secret|client_secret|code|jwt|sas|session(?:id)?"
    rb"|x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid"
)
_IN_QUERY: Final = rb"(?:[?&;]|%3F|%26|&amp;)"
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
        in_ids=True,
    ),
    Rule(
        "secret",  # https://host/path?key=..., signed URLs
        rb"(?i)" + _IN_QUERY + rb"(?:" + _QUERY_NAMES + rb")(?:=|%3D)[A-Za-z0-9._~+/%-]{8}",
        re.compile(
            rb"(?i:" + _IN_QUERY + rb"(?:" + _QUERY_NAMES + rb")(?:=|%3D))"
            rb"(?P<x>[A-Za-z0-9._~+/%=-]{8,4096})"
        ),
        checks.is_query_secret,
        edge=False,
        in_ids=True,
    ),
    Rule(
        "secret",  # as AWS and others sign requests in a header
        rb"(?i)signature=[0-9a-f]{64}",
        re.compile(rb"(?i:signature)=(?P<x>[0-9A-Fa-f]{64})"),
        edge=False,
        in_ids=True,
    ),
    Rule(
        "token",
        rb"(?i)authorization"
        + _GIVEN
        + rb"(?:(?:token|api-?key|key)\s{1,3})?[A-Za-z0-9._~+/=-]{16}",
        re.compile(
            rb"(?i:authorization)" + _GIVEN + rb"(?:(?i:token|api-?key|key)\s{1,3})?"
            rb"(?P<x>[A-Za-z0-9._~+/=-]{16,8192})"
        ),
        checks.is_random,
        edge=False,
        in_ids=True,
    ),
    Rule(
        "cookie",
        rb"(?i)cookie" + _GIVEN + rb"[A-Za-z0-9!#$%&'*+.^_|~-]{1,64}=[^\s;,\"\\\0]{4}",
        re.compile(
            rb"(?i:cookie)" + _GIVEN
            + rb"(?P<x>[A-Za-z0-9!#$%&'*+.^_|~-]{1,64}=[^\r\n\"\\\0]{4,4096})"
        ),
        edge=False,
        in_ids=True,
    ),
    Rule(
        "password",  # curl -u name:password
        rb"(?i)\s(?:-u|--user|--proxy-user)[ =]{0,2}[\"'\\]{0,2}[^\s:\"'\0]{1,64}:[^\s\"'\0]{1}",
        re.compile(
            rb"\s(?:-u|--user|--proxy-user)[ =]{0,2}[\"'\\]{0,2}[^\s:\"'\0]{1,64}:"
            rb"(?P<x>[^\s\"'\\\0]{1,128})"
        ),
        checks.is_of_curl,
        edge=False,
        in_ids=True,
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
        in_ids=True,
    ),
    Rule(
        "password",
        rb"://[^\s:/@\0]{0,64}:[^\s/@\0]{1,128}@",
        re.compile(rb"://[^\s:/@\0]{0,64}:(?P<x>[^\s/@\0]{1,128})@"),
        edge=False,
        in_ids=True,
    ),
    Rule(
        "token",
        rb"(?i)" + WORD_EDGE + rb"bearer\s+[A-Za-z0-9._~+/=-]{16}",
        re.compile(rb"(?i:bearer)\s{1,8}(?P<x>[A-Za-z0-9._~+/=-]{16,8192})"),
        checks.is_random,
        in_ids=True,
    ),
    Rule(
        "password",
        rb"(?i)" + WORD_EDGE + rb"basic\s+[A-Za-z0-9+/]{8}",
        re.compile(rb"(?i:basic)\s{1,8}(?P<x>[A-Za-z0-9+/]{8,512}={0,2})"),
        checks.is_basic_login,
        in_ids=True,
    ),
]  # fmt: skip

CREDENTIALS: Final = (_PRIVATE_KEY, _JWT, *_KEYS, *_MARKED, *_ASSIGNED)
