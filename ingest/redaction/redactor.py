"""Events in, the same events out without secrets and personal data.

The texts of many events are searched in one pass, because starting a search costs more than
searching a kilobyte; an event in which nothing is found is passed on as it is.
"""

from __future__ import annotations

import hashlib
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter
from typing import Any, Final

from msgspec.structs import replace

from ingest.core.events import Event
from ingest.redaction.capture import (
    CONTENT,
    Capture,
    captures_of,
    conceal,
    keeps_text,
    strictest,
)
from ingest.redaction.rule import NO_WIDTH
from ingest.redaction.scanner import SEPARATOR, Scanner, Span


@dataclass(frozen=True, slots=True)
class RedactionConfig:
    """What is kept of whom.

    Attributes
    ----------
    capture
        For agents not named in ``agents``.
    agents
        By name of the agent or of the service that sends its events.
    keep
        Classes of `ingest.redaction.LABELS` that are not redacted.
    patterns
        Patterns of one's own by the class they name.
    key
        Keys the pseudonyms and hashes. With it guesses can be tested against them; processes
        that share it give the same event the same form, which is what makes a repeat collapse.
    """

    capture: Capture = Capture.REDACTED
    agents: Mapping[str, Capture] = field(default_factory=dict)
    keep: frozenset[str] = frozenset()
    patterns: Mapping[str, str] = field(default_factory=dict)
    key: bytes = field(default=b"", repr=False)


_PROSE: Final = (*CONTENT, "error_message")
_IDS: Final = (
    "event_id", "agent", "environment", "agent_version", "session_id", "interaction_id",
    "parent_id", "user_id", "name", "model", "error_type", "reason", "rule_version", "target",
)  # fmt: skip
_SLOTS: Final = _PROSE + _IDS
_texts_of: Final = attrgetter(*_SLOTS)

_CHUNK: Final = 256
"""Events searched together."""
_MAX_ID: Final = 256
_MAX_NAMES: Final = 10_000
_MAX_TEXT: Final = 65_536
_ESCAPED: Final = re.compile(
    r"\\+u(00(?:2[013-9a-f]|[3467a-f][0-9a-f]|5[0-9abdef])|200[b-f]|206[0-4]|feff)",
    re.IGNORECASE,
)
"""Printable Latin-1 and marks without width in JSON's long form, in JSON within JSON too; not the
quote, the backslash."""


class Redactor:
    """Takes secrets and personal data out of events and texts. May be shared between threads.

    Parameters
    ----------
    config
        What is kept of whom.

    Raises
    ------
    UsageError
        A pattern of one's own is wrong.

    Examples
    --------
    >>> redactor = Redactor()
    >>> redactor.redact_text("write to ann@example.org, card 4111 1111 1111 1111")
    'write to [email], card [card]'
    """

    def __init__(self, config: RedactionConfig = RedactionConfig()) -> None:
        self._config = config
        self._scanner = Scanner(config.keep, config.patterns)
        self._names: dict[str, str] = {}

    def apply(self, events: Sequence[Event]) -> list[Event]:
        """Return the events, in order, with what must not be known replaced.

        In texts ``[email]`` and the like stand for what was there. Names and ids keep telling
        things apart: there ``[email:5f0c…]`` does, the same for the same address.
        """
        captures = captures_of(events, self._config.capture, self._config.agents)
        out: list[Event] = []
        for start in range(0, len(events), _CHUNK):
            end = start + _CHUNK
            out += self._some(events[start:end], captures[start:end])
        return out

    def key_for(self, purpose: str) -> bytes:
        """A key for something else, which says nothing about that of the pseudonyms."""
        return hashlib.blake2b(purpose.encode(), key=self._config.key[:64]).digest()

    def keeps_text_of(self, agent: str | None) -> bool:
        """Whether text of an agent may be kept at all; None is an agent that is not known.

        Of that one text is kept only where it may be of every agent.
        """
        of_agents = self._config.agents
        if agent is not None:
            return keeps_text(of_agents.get(agent, self._config.capture))
        return keeps_text(strictest(self._config.capture, *of_agents.values()))

    def redact_text(self, text: str) -> str:
        """Return a text without secrets and personal data, whatever the capture of its agent."""
        text = _unescaped(text)
        return next((new for _, new in self._found([text], lambda _: False)), text)

    def _some(self, events: Sequence[Event], captures: Sequence[Capture]) -> list[Event]:
        out = list(map(self._prepared, events, captures))
        texts: list[str] = []
        begins: list[int] = []
        for event, capture in zip(out, captures, strict=True):
            begins.append(len(texts))
            if capture is Capture.FULL:
                continue
            texts += [text or "" for text in _texts_of(event)]
            if event.attributes:
                texts += event.attributes.values()
        changes: dict[int, dict[int, str]] = {}

        def is_id(text: int) -> bool:
            slot = text - begins[bisect_right(begins, text) - 1]
            return len(_PROSE) <= slot < len(_SLOTS)

        for text, new in self._found(texts, is_id):
            number = bisect_right(begins, text) - 1
            changes.setdefault(number, {})[text - begins[number]] = new
        for number, slots in changes.items():
            out[number] = _changed(out[number], slots)
        return out

    def _prepared(self, event: Event, capture: Capture) -> Event:
        """The event without the content that is not captured, its attributes' names redacted."""
        if capture is Capture.FULL:
            return event
        if not keeps_text(capture):
            return conceal(event, self._hash if capture is Capture.HASHED else _nothing)
        attributes = event.attributes
        if attributes is None or all(self._name_of(name) is name for name in attributes):
            return event
        renamed = {self._name_of(name): text for name, text in attributes.items()}
        return replace(event, attributes=renamed)

    def _name_of(self, name: str) -> str:
        """The name of an attribute, redacted; the same few names come again and again."""
        known = self._names.get(name)
        if known is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            found = self._found([name], lambda _: True)
            known = self._names[name] = next((new for _, new in found), name)
        return name if known == name else known

    def _found(self, texts: list[str], is_id: Callable[[int], bool]) -> Iterator[tuple[int, str]]:
        """Index and new form of each text in which something was found."""
        joined = "\0".join(texts)
        if "\\u" in joined:
            texts = [_unescaped(text) for text in texts]
            joined = "\0".join(texts)
        buffer = _buffer(joined)
        spans, disguised = self._scanner.find(buffer)
        if disguised:
            seen = len(spans) if len(texts) == 1 else None
            plain = [self._undisguised(text, seen) for text in texts]
            if plain != texts:
                texts, joined = plain, "\0".join(plain)
                buffer = _buffer(joined)
                spans, _ = self._scanner.find(buffer)
        if not spans:
            return
        sized = texts if joined.isascii() else [text.encode("utf-8", "replace") for text in texts]
        lengths = map(len, sized)
        starts = list(accumulate(lengths, lambda start, length: start + length + 1, initial=1))
        grouped: dict[int, list[Span]] = {}
        for span in spans:
            grouped.setdefault(bisect_right(starts, span.start) - 1, []).append(span)
        for text, own in grouped.items():
            start, end = starts[text], starts[text + 1] - 1
            if is_id(text):
                named = [span for span in own if span.in_ids]
                if named:
                    yield text, self._pseudonym(buffer, start, end, named)
            else:
                yield text, _cut(buffer, start, end, own)

    def _undisguised(self, text: str, seen: int | None = None) -> str:
        """The text without marks that have no width and without HTML's entities.

        Only where that shows something that is not ``seen`` otherwise: marks join letters in
        Persian, and pictures of people.
        """
        plain = NO_WIDTH.sub("", html.unescape(text)).replace("\0", "")
        if plain == text:
            return text
        hidden = len(self._scanner.find(_buffer(plain))[0])
        if hidden and seen is None:
            seen = len(self._scanner.find(_buffer(text))[0])
        return plain if hidden > (seen or 0) else text

    def _pseudonym(self, buffer: bytes, start: int, end: int, spans: list[Span]) -> str:
        whole = _cut(buffer, start, end, spans, self._name)
        if len(whole) <= _MAX_ID:
            return whole
        return self._name(Span(start, end, spans[0].label, in_ids=True), buffer)

    def _name(self, span: Span, buffer: bytes) -> str:
        return f"[{span.label}:{self._digest(buffer[span.start : span.end])[:16]}]"

    def _hash(self, text: str) -> str:
        return f"hash:{self._digest(text.encode('utf-8', 'replace'))}"

    def _digest(self, data: bytes) -> str:
        return hashlib.blake2b(data, digest_size=16, key=self._config.key[:64]).hexdigest()


def _nothing(_: str) -> None:
    return None


def _unescaped(text: str) -> str:
    r"""Write JSON's long forms of plain characters short, so that ``\u0040`` hides no address."""
    if "\\u" not in text:
        return text
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def _buffer(joined: str) -> bytes:
    return SEPARATOR + joined.encode("utf-8", "replace") + SEPARATOR


def _cut(
    buffer: bytes,
    start: int,
    end: int,
    spans: list[Span],
    name: Callable[[Span, bytes], str] | None = None,
) -> str:
    """The text from ``start`` to ``end`` with labels, or what ``name`` says, in place of spans."""
    if name is None:
        name = _label_in_json if buffer[start] in b"{[" else _label
    parts: list[str] = []
    for span in spans:
        parts += buffer[start : span.start].decode(), name(span, buffer)
        start = span.end
    parts.append(buffer[start:end].decode())
    return "".join(parts)[:_MAX_TEXT]


def _label(span: Span, _: bytes) -> str:
    return f"[{span.label}]"


def _label_in_json(span: Span, buffer: bytes) -> str:
    """A bare number becomes a string, so that JSON remains JSON."""
    before = span.start - 1
    while buffer[before] == ord(" "):
        before -= 1
    bare = buffer[before] in b":,[" and buffer[span.end] in b",]} \r\n"
    return f'"[{span.label}]"' if bare else f"[{span.label}]"


def _changed(event: Event, slots: dict[int, str]) -> Event:
    changes: dict[str, Any] = {}
    attributes: dict[str, str] | None = None
    for slot, new in slots.items():
        if slot < len(_SLOTS):
            changes[_SLOTS[slot]] = new
            continue
        if attributes is None:
            attributes = dict(event.attributes or {})
            names = list(attributes)
        attributes[names[slot - len(_SLOTS)]] = new
    if attributes is not None:
        changes["attributes"] = attributes
    return replace(event, **changes)
