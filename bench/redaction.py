"""How well redaction finds what is planted, how seldom it errs, and how fast it is.

Something planted counts as found when no five characters of its hidden part are left in the text,
whatever class it was taken for. Precision is per replacement, over all messages: one that stands
where nothing was planted is false.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from bench.messages import Corpus, Message, hidden
from bench.report import report, result
from ingest.core.errors import UsageError
from ingest.core.events import Event
from ingest.redaction import Redactor

KINDS: Final = ("secret", "card", "email", "phone", "iban")
_PACKAGES: Final = ("hyperscan", "faker", "detect-secrets")
_LABEL: Final = re.compile(r"\[[a-z_]+\]")
_WINDOW: Final = 5


def run(quick: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure redaction, and detect-secrets beside it where that is installed.

    Parameters
    ----------
    quick
        A tenth of the messages.
    seed
        Of the corpus.
    say
        Takes lines about progress.

    Raises
    ------
    UsageError
        Faker is not installed.
    """
    results = measure(quick, seed, say) + _detect_secrets(seed, 100 if quick else 400)
    return report("redaction", seed, _PACKAGES, results)


def measure(quick: bool, seed: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The figures of driftline alone; parameters as `run`."""
    try:
        corpus = Corpus(seed)
    except ImportError:
        raise UsageError("the corpus needs Faker: pip install 'driftline[dev]'") from None
    n = 1_000 if quick else 10_000
    redact = Redactor().redact_text
    say(f"{n} messages of each kind, {2 * n} clean ones ...")
    results: list[dict[str, Any]] = []
    true = false = 0
    for kind in KINDS:
        messages = list(corpus.planted(kind, n))
        texts = [redact(message.text) for message in messages]
        found = sum(is_found(*pair) for pair in zip(messages, texts, strict=True))
        results.append(_rate(f"recall_{kind}", found, n))
        for message, text in zip(messages, texts, strict=True):
            labels = len(_LABEL.findall(text))
            hit = is_found(message, text)
            true += hit
            false += max(0, labels - hit)
    clean = list(corpus.clean(2 * n))
    touched = sum(redact(message.text) != message.text for message in clean)
    false += touched
    results += [
        _rate("precision", true, true + false),
        _rate("false_positives_clean", touched, len(clean)),
    ]
    say("throughput ...")
    return results + _speed(corpus, 500 if quick else 4_000)


def is_found(message: Message, text: str) -> bool:
    """Whether nothing of what was planted is left in the redacted text."""
    secret = hidden(message)
    rest = message.text.replace(message.planted, "")
    left = _LABEL.sub("\0", text)
    size = min(len(secret), _WINDOW)
    windows = (secret[at : at + size] for at in range(len(secret) - size + 1))
    return not any(window in left and window not in rest for window in windows)


def _rate(metric: str, hits: int, n: int) -> dict[str, Any]:
    """A share with its 95 % interval after Wilson."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return result(
        metric, hits / n, "share", low=float(interval.low), high=float(interval.high), n=n
    )


def _speed(corpus: Corpus, n: int) -> list[dict[str, Any]]:
    """Processor time per event of 1 KB: clean, and with five things to redact in each."""
    clean = [_event(number, corpus.prose(900)) for number in range(n)]
    planted = [list(corpus.planted(kind, n)) for kind in KINDS]
    full = [
        _event(number, " ".join(m.text for m in messages).ljust(900, ".")[:1200])
        for number, messages in enumerate(zip(*planted, strict=True))
    ]
    redactor = Redactor()
    results: list[dict[str, Any]] = []
    for name, events in (("clean", clean), ("full", full)):
        taken = [_seconds(redactor.apply, events) for _ in range(5)]
        size = sum(len(msgspec.json.encode(event)) for event in events) / 1024
        best, worst = min(taken), max(taken)
        results += [
            result(
                f"us_per_kb_{name}", sorted(taken)[2] / size * 1e6, "us/KB",
                low=best / size * 1e6, high=worst / size * 1e6, n=n,
            ),
            result(
                f"events_per_cpu_second_{name}", n / sorted(taken)[2], "1/s",
                low=n / worst, high=n / best, n=n,
            ),
        ]  # fmt: skip
    return results


def _event(number: int, content: str) -> Event:
    return Event(
        event_id=f"{number:032x}:{number:016x}",
        time_unix_nano=1_700_000_000_000_000_000 + number,
        agent="shop",
        kind="llm_call",
        session_id=f"session-{number // 10}",
        interaction_id=f"{number // 3:032x}",
        name="chat",
        model="gpt-4o",
        content=content,
        attributes={"server.address": "api.openai.com", "gen_ai.request.temperature": "0.7"},
    )


def _seconds(apply: Callable[[Sequence[Event]], list[Event]], events: list[Event]) -> float:
    """Processor time, in requests of 100 events."""
    start = time.process_time()
    for at in range(0, len(events), 100):
        apply(events[at : at + 100])
    return time.process_time() - start


_TOO_EAGER: Final = ("HighEntropy", "Keyword", "IPPublic")
"""Detectors of the peer that would take most clean messages for secrets."""


def _detect_secrets(seed: int, n: int) -> list[dict[str, Any]]:
    """The same secrets and clean messages under detect-secrets, where it is installed.

    Of its detectors those of known formats; the others flag nine of ten clean messages.
    """
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.core.scan import scan_line
        from detect_secrets.settings import transient_settings
    except ImportError:
        return []
    names = [kind.__name__ for kind in get_mapping_from_secret_type_to_class().values()]
    used = [{"name": name} for name in names if not any(part in name for part in _TOO_EAGER)]
    corpus = Corpus(seed)
    secrets, clean = list(corpus.planted("secret", n)), list(corpus.clean(n))
    prose = [corpus.prose(1024) for _ in range(n // 10)]
    with transient_settings({"plugins_used": used}):

        def finds(text: str) -> bool:
            return any(True for line in text.splitlines() for _ in scan_line(line))

        found = sum(finds(message.text) for message in secrets)
        touched = sum(finds(message.text) for message in clean)
        start = time.process_time()
        for text in prose:
            finds(text)
        taken = time.process_time() - start
    peer = {"peer": "detect-secrets"}
    return [
        _rate("recall_secret", found, n) | peer,
        _rate("false_positives_clean", touched, n) | peer,
        result("us_per_kb_clean", taken / len(prose) * 1e6, "us/KB", n=len(prose)) | peer,
    ]
