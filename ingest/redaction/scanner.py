"""Where in a buffer of texts something is that must not be there.

Vectorscan, a multi-pattern engine, looks for the beginnings of all rules in one pass, many texts
at a time; only where it finds one does Python look closer. Time is linear in the text whatever the
text, also with patterns of one's own, which Vectorscan matches alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

import hyperscan

from ingest.errors import UsageError
from ingest.redaction.rule import ESCAPE, Rule
from ingest.redaction.rules import RULES

SEPARATOR: Final = b"\0"
"""Stands before, between and after the texts of a buffer; no rule matches across it."""

_ESCAPE: Final = re.compile(ESCAPE)
_MAX_BEFORE: Final = 256
_MAX_EDGE: Final = 6
_UTF8: Final = hyperscan.HS_FLAG_UTF8
_LABEL: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Span(NamedTuple):
    """Bytes ``start`` to ``end`` of the buffer are of class ``label``."""

    start: int
    end: int
    label: str
    in_ids: bool


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
        self._rules: list[Rule] = [rule for rule in RULES if rule.label not in keep]
        self._heads = _compile([rule.head for rule in self._rules])
        self._labels: list[str] = []
        self._custom: Any = None
        if custom:
            for label, pattern in custom.items():
                _check(label, pattern)
            self._labels = list(custom)
            self._custom = _compile([pattern.encode() for pattern in custom.values()], _UTF8)
        self._lock = threading.Lock()  # the engine's scratch space serves one scan at a time

    def find(self, buffer: bytes) -> list[Span]:
        """Return what must go, in order and without overlaps.

        Parameters
        ----------
        buffer
            Texts in UTF-8 with `SEPARATOR` before, between and after them.
        """
        spans: list[Span] = []
        begun = done = 0
        for start, number in sorted(self._scan(self._heads, buffer)):
            if begun <= start and start + _MAX_EDGE < done:
                continue
            span = self._span(buffer, start, self._rules[number])
            if span is not None:
                spans.append(span)
                begun, done = span.start, span.end
        if self._custom is not None:
            spans += self._own_spans(buffer)
        return _disjoint(spans) if len(spans) > 1 else spans

    def _scan(self, database: Any, text: bytes) -> dict[tuple[int, int], int]:
        """End of the longest match by its start and rule."""
        found: dict[tuple[int, int], int] = {}

        def on_match(rule: int, start: int, end: int, _flags: int, _context: Any) -> None:
            found[start, rule] = end

        with self._lock:
            database.scan(text, match_event_handler=on_match)
        return found

    def _span(self, buffer: bytes, start: int, rule: Rule) -> Span | None:
        if rule.backwards is not None:
            before = rule.backwards.match(buffer[max(0, start - _MAX_BEFORE) : start][::-1])
            start -= before.end() if before else 0
            escape = _ESCAPE.match(buffer, start - 1)
            start = escape.end() if escape else start
        elif rule.edge:
            escape = _ESCAPE.match(buffer, start)
            start = escape.end() if escape else start + 1
        match = rule.whole.match(buffer, start)
        if match is None or (rule.check is not None and not rule.check(match)):
            return None
        group = "x" if "x" in rule.whole.groupindex else 0
        return Span(match.start(group), match.end(group), rule.label, rule.in_ids)

    def _own_spans(self, buffer: bytes) -> Iterator[Span]:
        """What patterns of one's own match, each text alone, for they may match the separator."""
        if not self._scan(self._custom, buffer):
            return
        offset = 0
        for text in buffer.split(SEPARATOR):
            for (start, number), end in self._scan(self._custom, text).items():
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


def _compile(patterns: list[bytes], flags: int = 0) -> Any:
    database = hyperscan.Database()
    database.compile(
        expressions=patterns,
        ids=list(range(len(patterns))),
        flags=[flags | hyperscan.HS_FLAG_SOM_LEFTMOST] * len(patterns),
    )
    return database


def _check(label: str, pattern: str) -> None:
    if not _LABEL.fullmatch(label):
        raise UsageError(f"redaction pattern {label!r}: name the class as in customer_number")
    try:
        _compile([pattern.encode()], _UTF8)
    except hyperscan.error as error:
        raise UsageError(f"redaction pattern {label}: {error}") from None
