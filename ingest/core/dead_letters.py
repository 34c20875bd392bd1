"""Dead letters: what is said of a line that did not become an event, and what is kept of it.

What is kept is redacted like everything else. A JSON object is redacted value by value, so that its
ids and numbers stay as they were and it can be tried again; any other text is masked as a whole.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from ingest.core.events import FIELDS

MAX_TEXT_BYTES: Final = 32 * 1024
"""Of a longer text this much is kept: enough to see what it was."""

_MAX_REDACTED_BYTES: Final = 1 << 20
"""Nothing is kept of what would take long to redact."""

_MAX_DEPTH: Final = 64

Redact = Callable[[str], str]
KeepsTextOf = Callable[[str | None], bool]
"""Whether text of an agent may be kept; None is an agent that is not known."""

Keeping = Literal["whole", "redacted", "masked", "cut", "binary", ""]
"""What the kept text is.

``whole`` the line as it was; ``redacted`` with ids and numbers as they were; ``masked`` redacted as
plain text, ids too; ``cut`` its beginning, or nothing; ``binary`` no text; empty: not kept.
"""

WHY_NOT: Final[dict[str, str]] = {
    "masked": "redaction may have changed its ids; only the original could be replayed",
    "cut": "only its beginning was kept; only the original could be replayed",
    "binary": "it was no text; only the original could be replayed",
    "": "its text was not kept",
}
"""Why a kept text cannot be tried again."""


class RetainedText(NamedTuple):
    """What is kept of a line, and whose it was where it says so."""

    environment: str
    agent: str
    kept: Keeping
    text: str


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter on the topic ``driftline.deadletters``; fields as in the table."""

    log_id: str
    topic: str
    partition: int
    offset: int
    line: int
    code: str
    detail: str = ""
    bytes: int = 0
    sha256: str = ""
    environment: str = ""
    agent: str = ""
    kept: Keeping = ""
    text: str = ""


class IgnoredReport(msgspec.Struct, frozen=True, kw_only=True, tag="ignored", tag_field="report"):
    """Log records that were no events, on the topic of dead letters; a row of ``ignored_records``.

    Counts of one minute of one ``source`` only grow, so that the largest is the right one however
    often it is sent.
    """

    minute: int
    source: str
    service: str
    scope: str
    name: str
    reason: str
    records: int


BEAT_S: Final = 60.0
"""Seconds between two signs of life of a gateway or receiver."""


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat", tag_field="report"):
    """A sign of life of a part that reaches no store, beside the dead letters.

    A row of ``heartbeats``: ``ts`` is in seconds since 1970.
    """

    ts: float
    component: str
    instance: str


def beat(component: str) -> Beat:
    """Sign of life of this process, now."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    return Beat(ts=time.time(), component=component, instance=instance)


def _always(_: str | None) -> bool:
    return True


def agent_of(raw: bytes) -> str | None:
    """Name of the agent that a line names; None where it names none or cannot be read."""
    agent = (_object(raw) or {}).get("agent")
    return agent if isinstance(agent, str) else None


def retain(raw: bytes, redact: Redact, keeps_text_of: KeepsTextOf = _always) -> RetainedText:
    """Decide what is kept of a line.

    Parameters
    ----------
    raw
        The line as it arrived.
    redact
        Takes secrets and personal data out of a text.
    keeps_text_of
        Whose text may be kept; of others nothing but the names of environment and agent stays.

    Examples
    --------
    >>> hide = lambda text: text.replace("ann@example.org", "[email]")
    >>> retain(b'{"agent": "shop", "content": "to ann@example.org"}', hide)[1:]
    ('shop', 'redacted', '{"agent":"shop","content":"to [email]"}')
    >>> retain(b'{"agent": "shop"}', hide).kept, retain(b"by ann@example.org", hide).kept
    ('whole', 'masked')
    """
    if not keeps_text_of(None) and not keeps_text_of(agent_of(raw)):
        found = _object(raw)
        return RetainedText(
            _name(found, "environment", redact), _name(found, "agent", redact), "", ""
        )
    if len(raw) > _MAX_REDACTED_BYTES:
        return RetainedText("", "", "cut", "")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        if b"\0" in raw[:1024]:
            return RetainedText("", "", "binary", "")
        return _bounded(RetainedText("", "", "masked", redact(raw.decode("utf-8", "replace"))))
    masked, found = redact(text), _object(raw)
    environment, agent = _name(found, "environment", redact), _name(found, "agent", redact)
    if masked == text:
        return _bounded(RetainedText(environment, agent, "whole", text))
    if found is not None:
        hidden = {
            redact(key): value if key in FIELDS and _is_number(value) else _hide(value, redact)
            for key, value in found.items()
        }
        ids = [name for name in FIELDS if name not in _PROSE]
        if all(hidden.get(name) == found.get(name) for name in ids):
            redacted = msgspec.json.encode(hidden).decode()
            return _bounded(RetainedText(environment, agent, "redacted", redacted))
    return _bounded(RetainedText(environment, agent, "masked", masked))


def letter(
    raw: bytes,
    place: tuple[str, str, int, int, int],
    code: str,
    detail: str,
    redact: Redact | None,
    keeps_text_of: KeepsTextOf = _always,
) -> DeadLetter:
    """Make the dead letter of a line or message.

    Parameters
    ----------
    raw
        What arrived.
    place
        Log, topic, partition, offset and line.
    code, detail
        Why it is no event; neither quotes content.
    redact
        None where nothing but a fingerprint is to be kept.
    keeps_text_of
        As `retain` takes it.
    """
    log_id, topic, partition, offset, line = place
    kept = RetainedText("", "", "", "")
    if redact is not None:
        kept = retain(raw, redact, keeps_text_of)
    return DeadLetter(
        log_id=log_id,
        topic=topic,
        partition=partition,
        offset=offset,
        line=line,
        code=code,
        detail=detail[:256],
        bytes=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        environment=kept.environment,
        agent=kept.agent,
        kept=kept.kept,
        text=kept.text,
    )


_PROSE: Final = ("content", "tool_arguments", "tool_result", "error_message", "attributes")


def _bounded(kept: RetainedText) -> RetainedText:
    raw = kept.text.encode()
    if len(raw) <= MAX_TEXT_BYTES:
        return kept
    return kept._replace(kept="cut", text=raw[:MAX_TEXT_BYTES].decode("utf-8", "ignore"))


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _name(found: dict[str, Any] | None, field: str, redact: Redact) -> str:
    value = (found or {}).get(field)
    return redact(value) if isinstance(value, str) and len(value) <= 256 else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _hide(value: Any, redact: Redact, depth: int = 0) -> Any:
    """Redact every text and every number that would be redacted as text; deeper values are lost."""
    if depth > _MAX_DEPTH:
        return None
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(key): _hide(item, redact, depth + 1) for key, item in value.items()}
        case list():
            return [_hide(item, redact, depth + 1) for item in value]
        case bool() | None:
            return value
    text = str(value)
    hidden = redact(text)
    return value if hidden == text else hidden
