"""What became of no event: dead letters of what was refused, counts of what was ignored.

Both, and signs of life, go to the topic of dead letters about once a second, beside the answers:
nobody waits for them, and what is more than a bound is counted in a metric instead.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from ingest.core.dead_letters import BEAT_S, IgnoredReport, Redact, beat, letter
from ingest.gateway import metrics
from ingest.gateway.admission import Refusal
from ingest.otlp import IgnoredRecords

MAX_LETTERS: Final = 500
"""Dead letters kept between two flushes."""

MAX_NAMES: Final = 1_000
"""Kinds of ignored records told apart in a minute; the others are counted together."""

_REST_S: Final = 1.0
_MINUTE_NS: Final = 60 * 10**9


class Reports:
    """Collects on the event loop; `run` sends.

    Parameters
    ----------
    send
        Takes encoded records.
    redact
        Makes refused text fit to be kept; None keeps only a fingerprint.
    """

    def __init__(
        self, send: Callable[[list[bytes]], Awaitable[None]], redact: Redact | None
    ) -> None:
        self._send = send
        self._redact = redact
        self._source = f"gateway-{uuid.uuid4().hex[:12]}"
        self._requests = 0
        self._letters: list[bytes] = []
        self._minute = 0
        self._counts: Counter[IgnoredRecords] = Counter()
        self._changed: set[IgnoredRecords] = set()
        self._beaten = float("-inf")

    def refused(self, route: str, refusals: Sequence[Refusal]) -> None:
        """Keep what is left of refused items of one request."""
        self._requests += 1
        for number, refusal in enumerate(refusals):
            if len(self._letters) >= MAX_LETTERS:
                metrics.LOST_REPORTS.inc(len(refusals) - number)
                return
            place = (self._source, f"v1/{route}", 0, self._requests, number)
            kept = self._redact if refusal.raw else None
            found = letter(refusal.raw, place, str(refusal.code), refusal.detail, kept)
            self._letters.append(msgspec.json.encode(found))

    def ignored(self, records: Mapping[IgnoredRecords, int], now_ns: int) -> None:
        """Count log records that are meant to be no events."""
        minute = now_ns // _MINUTE_NS * 60
        if minute != self._minute:
            self._letters += self._counted()
            self._minute = minute
            self._counts.clear()
        for kind, count in records.items():
            metrics.IGNORED.labels(kind.reason).inc(count)
            known = kind in self._counts or len(self._counts) < MAX_NAMES
            key = kind if known else kind._replace(service="", scope="", name="(others)")
            self._counts[key] += count
            self._changed.add(key)

    async def run(self) -> None:
        """Send what there is, again and again."""
        while True:
            if time.monotonic() - self._beaten >= BEAT_S:
                self._beaten = time.monotonic()
                self._letters.append(msgspec.json.encode(beat("gateway")))
            await self.flush()
            await asyncio.sleep(_REST_S)

    async def flush(self) -> None:
        """Send what there is now."""
        records, self._letters = [*self._letters, *self._counted()], []
        if records:
            await self._send(records)

    def _counted(self) -> list[bytes]:
        changed, self._changed = self._changed, set()
        return [
            msgspec.json.encode(
                IgnoredReport(
                    minute=self._minute,
                    source=self._source,
                    **kind._asdict(),
                    records=self._counts[kind],
                )
            )
            for kind in changed
        ]
