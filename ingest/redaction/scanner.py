"""Where in a buffer of texts something is that must not be there.

Vectorscan, a multi-pattern engine, looks for the beginnings of all rules in one pass, many texts
at a time; only where it finds one does Python look closer. Time is linear in the text whatever the
text, also with patterns of one's own, which Vectorscan matches alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import hyperscan

from ingest.core.errors import UsageError
from ingest.redaction.rule import DISGUISE, ESCAPE, Rule
from ingest.redaction.rules import RULES

SEPARATOR: Final = b"\0"
"""Stands before, between and after the texts of a buffer; no rule matches across it."""

_ESCAPE: Final = re.compile(ESCAPE)
_BACKSLASH: Final = ord("\\")
_MAX_BEFORE: Final = 256
_MAX_EDGE: Final = 6
_LABEL: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Span(NamedTuple):
    """Bytes ``start`` to ``end`` of the buffer are of class ``label``."""

    start: int
    end: int
    label: str
    in_ids: bool


class _Engine:
    """A compiled set of patterns. May be shared between threads."""

    def __init__(self, patterns: list[bytes], flags: int = 0) -> None:
        self._database = hyperscan.Database()
        self._database.compile(
            expressions=patterns,
            ids=list(range(len(patterns))),
            flags=[flags | hyperscan.HS_FLAG_SOM_LEFTMOST] * len(patterns),
        )
        self._lock = threading.Lock()  # its scratch space serves one scan at a time

    def scan(self, text: bytes) -> dict[tuple[int, int], int]:
        """End of the longest match by its start and the number of its pattern."""
        found: dict[tuple[int, int], int] = {}

        def on_match(pattern: int, start: int, end: int, _flags: int, _context: Any) -> None:
            found[start, pattern] = end

        with self._lock:
            self._database.scan(text, match_event_handler=on_match)
        return found


class Scanner:
    """Finds what rules describe. May be shared between threads.

    Parameters
    ----------
    keep
        Classes not to look for.
    custom
        Patterns of one's own by the class they name, in the syntax of Vectorscan: PCRE without
        look-around and back-references.

    Raises
    ------
    UsageError
        A pattern cannot be compiled or matches the empty text; a class has no proper name.
    """

    def __init__(self, keep: Collection[str] = (), custom: Mapping[str, str] | None = None) -> None:
        self._labels = list(custom or ())
        self._custom = _custom_engine(custom) if custom else None
        self._rules, self._heads = _engine_of_rules(frozenset(keep))

    def find(self, buffer: bytes) -> tuple[list[Span], bool]:
        """Return what must go, in order and without overlaps, and whether there are disguises.

        Parameters
        ----------
        buffer
            Texts in UTF-8 with `SEPARATOR` before, between and after them.
        """
        spans: list[Span] = []
        begun = done = 0
        disguised = False
        for start, number in sorted(self._heads.scan(buffer)):
            if number == len(self._rules):
                disguised = True
                continue
            if begun <= start and start + _MAX_EDGE < done:
                continue
            span = self._span(buffer, start, self._rules[number])
            if span is not None:
                spans.append(span)
                begun, done = span.start, span.end
        if self._custom is not None and self._custom.scan(buffer):
            spans += self._own_spans(buffer, self._custom)
        return _disjoint(spans) if len(spans) > 1 else spans, disguised

    def _span(self, buffer: bytes, start: int, rule: Rule) -> Span | None:
        if rule.backwards is not None:
            before = rule.backwards.match(buffer[max(0, start - _MAX_BEFORE) : start][::-1])
            start -= before.end() if before else 0
            escape = _ESCAPE.match(buffer, start - 1)
            start = escape.end() if escape else start
        elif rule.edge:
            escape = _ESCAPE.match(buffer, start) if buffer[start] == _BACKSLASH else None
            start = escape.end() if escape else start + 1
        match = rule.whole.match(buffer, start)
        if match is None or (rule.check is not None and not rule.check(match)):
            return None
        start, end = match.span(rule.group)
        # A bound of a rule may fall within a character.
        while buffer[start] & 0xC0 == 0x80:
            start -= 1
        while buffer[end] & 0xC0 == 0x80:
            end += 1
        return Span(start, end, rule.label, rule.in_ids)

    def _own_spans(self, buffer: bytes, custom: _Engine) -> Iterator[Span]:
        """What patterns of one's own match, each text alone, for they may match the separator."""
        offset = 0
        for text in buffer.split(SEPARATOR):
            for (start, number), end in custom.scan(text).items():
                yield Span(offset + start, offset + end, self._labels[number], in_ids=True)
            offset += len(text) + 1


def _disjoint(spans: list[Span]) -> list[Span]:
    """Spans in order; of those that overlap, one that covers them all."""
    spans.sort()
    merged = [spans[0]]
    for span in spans[1:]:
        last = merged[-1]
        if span.start >= last.end:
            merged.append(span)
        elif span.end > last.end:
            merged[-1] = last._replace(end=span.end)
    return merged


def _custom_engine(custom: Mapping[str, str]) -> _Engine:
    for label, pattern in custom.items():
        if not _LABEL.fullmatch(label):
            raise UsageError(f"redaction pattern {label!r}: name the class as in customer_number")
        try:
            _Engine([pattern.encode()], hyperscan.HS_FLAG_UTF8)
        except hyperscan.error as error:
            raise UsageError(f"redaction pattern {label}: {error}") from None
    return _Engine([pattern.encode() for pattern in custom.values()], hyperscan.HS_FLAG_UTF8)


@lru_cache(maxsize=8)
def _engine_of_rules(keep: frozenset[str]) -> tuple[tuple[Rule, ...], _Engine]:
    rules = tuple(rule for rule in RULES if rule.label not in keep)
    return rules, _Engine([*(rule.head for rule in rules), DISGUISE])
