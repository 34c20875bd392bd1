"""Deterministic identity of a failure: its reason, its tool and the template of its message.

The template is what is left of an error message when everything that varies between two occurrences
of one problem is masked: identifiers, numbers, dates, paths, quoted text, addresses, stack traces.
The fingerprint is a hash of the three, so the same kind of failure has the same name on every
machine and after every restart.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

MAX_MESSAGE: Final = 2_000
"""Characters of a message that are looked at; the rest rarely names the problem."""

MAX_TEMPLATE: Final = 300
"""Characters of a template."""

_TRACE: Final = re.compile(
    r"""
      Traceback\ \(most\ recent\ call\ last\):[\s\S]*?(?=^\S|\Z)      # Python, up to the last line
    | ^[ ]+File\ "[^"\n]*",\ line\ \d+.*$\n?(?:^[ ]{4,}.*$\n?)?       # a Python frame on its own
    | (?:^[ \t]+at\ .*$\n?)+                                          # Java, JavaScript, .NET
    | ^[ \t]*\.\.\.\ \d+\ (?:more|common\ frames).*$\n?
    | ^goroutine\ \d+.*$\n?
    """,
    re.VERBOSE | re.MULTILINE,
)

# Where none of these stands, there is no trace and no mask to look for: half of the time.
_TRACE_SIGNS: Final = ("Traceback", 'File "', "at ", "...", "goroutine")

# Order matters: a larger thing is masked before the parts it is made of. One pass each: pattern,
# mask, and characters of which it holds one where that says something.
_MASKS: Final[tuple[tuple[re.Pattern[str], str, str], ...]] = (
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s\"'<>)\]}]+", re.I), "<url>", ":"),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), "<email>", "@"),
    (re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b", re.I), "<uuid>", ""),
    (
        re.compile(
            r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
            r"(?:\s?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?|\b\d{1,2}[/.]\d{1,2}[/.]\d{4}\b"
            r"|\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\b"
            r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2},? \d{4}\b"
            r"|\b\d{1,2}\.? (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{4}\b",
            re.I,
        ),
        "<date>",
        "",
    ),
    (
        re.compile(
            r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b|\b(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}\b", re.I
        ),
        "<ip>",
        ".:",
    ),
    (
        re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|`[^`\n]*`|(?<!\w)'(?:[^'\\\n]|\\.)*'(?!\w)|“[^”\n]*”"),
        "<str>",
        "\"`'“",
    ),
    (
        re.compile(
            r"(?<![\w<])(?:[A-Za-z]:)?(?:\.{0,2}[/\\][\w.@+~-]+){2,}[/\\]?"
            r"|(?<![\w<])(?:~|\.{1,2})?/[\w.-]+/?(?=[\s:,;)\]]|$)"
        ),
        "<path>",
        "/\\",
    ),
    (
        re.compile(r"\b0x[0-9a-f]+\b|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b", re.I),
        "<hex>",
        "",
    ),
    (
        re.compile(
            r"(?<![\w<-])\d+(?:[.,]\d+)*\s?(?:ns|us|ms|s|sec|secs|min|h|[kmgt]?i?b|tokens?|bytes)\b",
            re.I,
        ),
        "<num>",
        "",
    ),
    # an identifier mixes letters and digits: W1234567, order_88, call_ab12cd, #W12, B-77
    (
        re.compile(r"#?\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*\b(?!>)"),
        "<id>",
        "",
    ),
    (re.compile(r"(?<![\w<])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?%?", re.I), "<num>", ""),
)
_REPEATS: Final = re.compile(r"(<\w+>)(?:(?:\s*[,;|]\s*|\s+)\1)+")
_SPACES: Final = re.compile(r"\s+")
_CODES: Final = re.compile(
    r"\b(?:HTTP|status(?: code)?|code|error|errno)\"?[ :=/]{1,3}([1-5]\d\d)\b", re.I
)


def template(message: str) -> str:
    """Mask everything that varies in an error message.

    Masked are addresses, e-mails, UUIDs, dates and times, IPs, quoted text, paths, hexadecimal and
    mixed identifiers, numbers, and the frames of stack traces (the exception's own line stays).
    Three-digit status codes keep their value, since 404 and 500 are different failures. Lists of
    equal masks become one, so that the length of an enumeration does not matter.

    Parameters
    ----------
    message
        Text in any language; at most `MAX_MESSAGE` characters are read.

    Returns
    -------
    str
        At most `MAX_TEMPLATE` characters; '' for a blank message. A template is its own template.

    Examples
    --------
    >>> template("Order #W1234567 of jo@example.org not found after 3 tries")
    'Order <id> of <email> not found after <num> tries'
    >>> template("HTTP 503 from https://api.example.org/v1/items?id=7")
    'HTTP 503 from <url>'
    """
    text = message[:MAX_MESSAGE]
    if "0x" not in text and "0X" not in text:
        # No other mask asks which digit stands somewhere, so messages that differ in digits alone
        # are masked once; unless some are kept, as those of a status code are.
        masked = _masked(text.translate(_ONES))
        if "1" not in masked:
            return masked
    return _masked(text)


_ONES: Final = str.maketrans("0123456789", "1111111111")


@lru_cache(maxsize=65_536)
def _masked(text: str) -> str:
    if any(map(text.__contains__, _TRACE_SIGNS)):
        text = _TRACE.sub("", text)
    text = _CODES.sub(_keep_code, text)
    held = frozenset(text)  # what a mask brings in is of no other mask
    for pattern, mask, signs in _MASKS:
        if not signs or not held.isdisjoint(signs):
            text = pattern.sub(mask, text)
    text = _LETTERS.sub(lambda found: str(_DIGITS.index(found[1])), text)
    text = _SPACES.sub(" ", text).strip()
    text = _REPEATS.sub(r"\1", text)
    return text[:MAX_TEMPLATE].rstrip()


# Digits of a status code are carried past the masks as private-use characters.
_DIGITS: Final = "\ue000\ue001\ue002\ue003\ue004\ue005\ue006\ue007\ue008\ue009"
_LETTERS: Final = re.compile(f"([{_DIGITS}])")


def _keep_code(found: re.Match[str]) -> str:
    whole = found.group(0)
    return whole[:-3] + "".join(_DIGITS[int(digit)] for digit in found.group(1))


@lru_cache(maxsize=65_536)
def fingerprint(reason: str, tool: str, template: str) -> str:
    """Stable name of one kind of failure.

    Parameters
    ----------
    reason
        Machine-readable reason or error type, '' when not known.
    tool
        Tool or operation that failed, '' when none did.
    template
        Result of `template`.

    Returns
    -------
    str
        16 hexadecimal characters: SHA-256 of the three joined by the unit separator U+001F, which
        any SQL engine can compute as well.

    Examples
    --------
    >>> fingerprint("tool_error", "get_order", "Order <id> not found")
    '2e0a2799f7ba8047'
    """
    joined = "\x1f".join((reason, tool, template)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]
