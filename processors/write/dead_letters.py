"""Dead letters in the store: kept with what is left of their text, looked up, and tried again.

The event writer stores those of the events topic. `DeadLetterWriter` stores those that gateway and
receiver send to the topic ``driftline.deadletters``, and their signs of life.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
import polars as pl
from mode import Service

from ingest.codec import Decoded, Rejection, decode, split_lines
from ingest.core import telemetry
from ingest.core.dead_letters import (
    WHY_NOT,
    Beat,
    DeadLetter,
    IgnoredReport,
    Keeping,
    KeepsTextOf,
    Redact,
    agent_of,
    retain,
)
from ingest.core.events import DEAD_LETTERS_TOPIC, EVENTS_TOPIC, Event, RejectionCode
from ingest.core.kafka import KafkaConfig
from ingest.core.log_consumer import LogConsumer, Open, commit, leave, open_consumer
from ingest.core.retry import until_done
from ingest.redaction import Redactor
from processors.clickhouse import Store
from processors.write.erased import Tombstones

log = logging.getLogger(__name__)

GROUP: Final = "driftline-letters"
_REST_S: Final = 1.0
_COLUMNS: Final = {
    "environment": pl.String,
    "agent": pl.String,
    "kept": pl.String,
    "text": pl.String,
}
_ROWS: Final = {
    "log_id": pl.String,
    "topic": pl.String,
    "partition": pl.UInt32,
    "offset": pl.UInt64,
    "line": pl.UInt32,
    "code": pl.String,
    "detail": pl.String,
    "bytes": pl.UInt32,
    "sha256": pl.String,
    **_COLUMNS,
}


@dataclass(frozen=True, slots=True)
class DeadLettersConfig:
    """What is kept of a dead letter.

    ``redact`` takes secrets and personal data out of a text, ``keeps_text_of`` says whose text is
    kept at all. ``originals_hours`` is how long the untouched bytes are kept as well; 0 keeps none.
    """

    redact: Redact = field(default_factory=lambda: Redactor().redact_text)
    originals_hours: float = 0.0
    keeps_text_of: KeepsTextOf = Redactor().keeps_text_of


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a batch's rejections, one row each, in their order.

    An original is None where text of its agent is not kept.
    """

    columns: pl.DataFrame
    originals: list[bytes | None]


def kept_of(
    values: Sequence[bytes | None], rejections: Sequence[Rejection], config: DeadLettersConfig
) -> Kept:
    """What is kept of the rejected lines of these records; a table's columns ``_COLUMNS``."""
    lines: dict[int, list[bytes]] = {}
    raw = []
    for rejection in rejections:
        if rejection.record not in lines:
            lines[rejection.record] = split_lines(values[rejection.record])
        raw.append(lines[rejection.record][rejection.line])
    columns = pl.DataFrame(
        [retain(line, config.redact, config.keeps_text_of) for line in raw],
        schema=_COLUMNS,
        orient="row",
    )
    if config.originals_hours <= 0:
        return Kept(columns, [])
    return Kept(columns, [line if config.keeps_text_of(agent_of(line)) else None for line in raw])


def refuse_expired(
    decoded: Decoded, kept: Kept, expired: pl.Series, values: Sequence[bytes | None]
) -> tuple[Decoded, Kept]:
    """What is left without the events of a time of which nothing is kept any more.

    They become dead letters like any other line that is no event, but for their text.
    """
    if not expired.any():
        return decoded, kept
    gone = decoded.frame.filter(expired)
    refused = []
    for record, line in gone.select("record", "line").iter_rows():
        raw = split_lines(values[record])[line]
        sha = hashlib.sha256(raw).hexdigest()
        refused.append(
            Rejection(record, line, RejectionCode.EXPIRED, "older than retention", len(raw), sha)
        )
    columns = gone.select("environment", "agent", kept=pl.lit(""), text=pl.lit("")).cast(_COLUMNS)  # type: ignore[arg-type]
    originals = [*kept.originals, *([None] * len(refused))] if kept.originals else []
    left = Decoded(decoded.frame.filter(~expired), decoded.lines, [*decoded.rejections, *refused])
    return left, Kept(pl.concat([kept.columns, columns]), originals)


def original_rows(
    letters: pl.DataFrame, originals: list[bytes | None], hours: float
) -> pl.DataFrame:
    """Rows of ``dead_letter_originals``, to go when ``hours`` have passed."""
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)
    return (
        letters.select("log_id", "topic", "partition", "offset", "line")
        .with_columns(
            pl.Series("original", originals, pl.Binary),
            pl.lit(expires, pl.Datetime("ms", "UTC")).alias("expires"),
        )
        .drop_nulls("original")
    )


class DeadLetterWriter(Service):  # type: ignore[misc]
    """Brings dead letters that others have sent to the table; insert first, then commit."""

    def __init__(
        self,
        kafka: KafkaConfig,
        store: Store,
        tombstones: Tombstones,
        opened: Open = open_consumer,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Nobody waits for them.
        self._open = partial(opened, kafka, GROUP, [DEAD_LETTERS_TOPIC], fetch_max_wait_ms=2_000)
        self._store = store
        self._tombstones = tombstones
        self._consumer: LogConsumer | None = None

    async def on_stop(self) -> None:
        """Leave the group."""
        await leave(self._consumer)

    @Service.task  # type: ignore[untyped-decorator]
    async def _read(self) -> None:
        self._consumer = consumer = self._open()
        await consumer.start()
        while not self.should_stop:
            fetched = await consumer.getmany(timeout_ms=int(_REST_S * 1000))
            records = [record.value for part in fetched.values() for record in part]
            if not records:
                continue
            letters, _ = await until_done(
                partial(asyncio.to_thread, self._tombstones.clear, foreign_rows(records), [])
            )
            for table, rows in (
                ("dead_letters", letters),
                ("ignored_records", ignored_rows(records)),
                ("heartbeats", beat_rows(records)),
            ):
                if len(rows):
                    await until_done(partial(asyncio.to_thread, self._store.insert, table, rows))
            await commit(consumer, None)  # else read again, and collapsed


def foreign_rows(values: Iterable[bytes | None]) -> pl.DataFrame:
    """Rows of ``dead_letters`` that the sink has not stored itself."""
    letters = []
    for value in values:
        if (value or b"").startswith((_REPORT, _BEAT)):
            continue
        try:
            letter = msgspec.json.decode(value or b"", type=DeadLetter)
        except ValueError:
            telemetry.DEAD_LETTERS.labels("not_a_letter").inc()
            continue
        if letter.topic != EVENTS_TOPIC:
            letters.append(letter)
    rows = [[getattr(letter, name) for name in _ROWS] for letter in letters]
    return pl.DataFrame(rows, schema=_ROWS, orient="row")


def ignored_rows(values: Iterable[bytes | None]) -> pl.DataFrame:
    """Rows of ``ignored_records`` among what others have sent."""
    reports = []
    for value in values:
        if value is not None and value.startswith(_REPORT):
            try:
                reports.append(msgspec.json.decode(value, type=IgnoredReport))
            except ValueError:
                telemetry.DEAD_LETTERS.labels("not_a_letter").inc()
    rows = [[getattr(report, name) for name in _REPORT_ROWS] for report in reports]
    frame = pl.DataFrame(rows, schema=_REPORT_ROWS, orient="row")
    return frame.with_columns(pl.from_epoch("minute").dt.replace_time_zone("UTC"))


def beat_rows(values: Iterable[bytes | None]) -> pl.DataFrame:
    """Rows of ``heartbeats`` among what others have sent."""
    beats = [
        msgspec.json.decode(value, type=Beat)
        for value in values
        if value is not None and value.startswith(_BEAT)
    ]
    rows = [(datetime.fromtimestamp(b.ts, UTC), b.component, b.instance, "") for b in beats]
    return pl.DataFrame(rows, schema=_BEAT_ROWS, orient="row")


_REPORT: Final = b'{"report":"ignored"'
_BEAT: Final = b'{"report":"beat"'
_BEAT_ROWS: Final[dict[str, Any]] = {
    "ts": pl.Datetime("ms", "UTC"),
    **dict.fromkeys(("component", "instance", "detail"), pl.String),
}
_REPORT_ROWS: Final = {
    "minute": pl.Int64,
    **dict.fromkeys(("source", "service", "scope", "name", "reason"), pl.String),
    "records": pl.UInt64,
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters; None takes all.

    Attributes
    ----------
    code, topic
        As in the table.
    since
        Seconds since 1970.
    places
        ``topic/partition/offset/line`` each.
    limit
        The newest so many.
    """

    code: str | None = None
    topic: str | None = None
    since: int | None = None
    places: Sequence[str] = ()
    limit: int | None = None


_WHERE: Final = """
    ({code:String} = '' OR code = {code:String})
    AND ({topic:String} = '' OR topic = {topic:String})
    AND ingested >= toDateTime64({since:Int64}, 3, 'UTC')
    AND (empty({places:Array(String)})
        OR has({places:Array(String)}, concat(topic, '/', partition, '/', offset, '/', line)))
"""

_LIST: Final = f"""
SELECT code, topic, environment, agent, count() AS letters,
    countIf(kept IN ('whole', 'redacted')) AS with_text,
    countIf((log_id, topic, partition, offset, line) IN
        (SELECT log_id, topic, partition, offset, line FROM dead_letter_replays)) AS replayed,
    min(ingested) AS first, max(ingested) AS last
FROM dead_letters FINAL WHERE {_WHERE}
GROUP BY code, topic, environment, agent ORDER BY letters DESC, code, topic, agent
"""  # noqa: S608 - our own constant

_SHOW: Final = f"""
SELECT log_id, topic, partition, offset, line, code, detail, bytes, sha256, environment, agent,
    kept, text, ingested, hex(original) AS original, sent_as
FROM (SELECT * FROM dead_letters FINAL WHERE {_WHERE}) AS letter
LEFT ANY JOIN
(
    SELECT log_id, topic, partition, offset, line, original
    FROM dead_letter_originals FINAL WHERE expires > now()
) AS kept_original USING (log_id, topic, partition, offset, line)
LEFT ANY JOIN
(
    SELECT log_id, topic, partition, offset, line, event_id AS sent_as
    FROM dead_letter_replays FINAL
) AS sent USING (log_id, topic, partition, offset, line)
ORDER BY ingested DESC, topic, partition, offset, line
LIMIT {{limit:UInt64}}
"""  # noqa: S608 - our own constant


def listed(store: Store, selection: Selection) -> list[dict[str, Any]]:
    """How many letters of each code, topic and agent, with their first and last time."""
    return store.query(_LIST, _parameters(selection)).to_dicts()


def shown(store: Store, selection: Selection) -> list[dict[str, Any]]:
    """The letters themselves, the newest first; ``original`` is bytes, empty where not kept."""
    letters = store.query(_SHOW, _parameters(selection)).to_dicts()
    # In hexadecimal on its way, for it may be no text.
    return [letter | {"original": bytes.fromhex(letter["original"])} for letter in letters]


def _parameters(selection: Selection) -> dict[str, Any]:
    return {
        "code": selection.code or "",
        "topic": selection.topic or "",
        "since": selection.since or 0,
        "places": list(selection.places),
        "limit": selection.limit or 2**62,
    }


@dataclass(frozen=True, slots=True)
class Trial:
    """What becomes of a letter that is tried again: an event, or why there is none."""

    letter: dict[str, Any]
    event: Event | None
    why_not: str = ""


def tried(letter: dict[str, Any], now_ns: int, *, again: bool = False) -> Trial:
    """Decode a letter again with the rules of now. Pure.

    Parameters
    ----------
    letter
        As `shown` gives it.
    now_ns
        Against which future times are judged.
    again
        Also what has been sent before; it has the same event id and counts once.
    """
    kept: Keeping = letter["kept"]
    original: bytes = letter["original"]
    if letter["code"] == RejectionCode.ID_COLLISION:
        return Trial(letter, None, "another payload of the same event id counts")
    if letter["topic"] != EVENTS_TOPIC:
        return Trial(letter, None, f"it is no line of {EVENTS_TOPIC}: send it again at its source")
    if letter["sent_as"] and not again:
        return Trial(letter, None, f"already sent as event {letter['sent_as']}")
    if not original and kept in WHY_NOT:
        return Trial(letter, None, WHY_NOT[kept])
    line = original or letter["text"].encode()
    decoded = decode([line], [now_ns])
    if decoded.rejections or len(decoded.frame) != 1:
        codes = sorted({f"{r.code} ({r.detail})" for r in decoded.rejections})
        return Trial(letter, None, "still refused: " + ", ".join(codes))
    return Trial(letter, msgspec.json.decode(line, type=Event))


def note_sent(store: Store, trials: Iterable[Trial]) -> None:
    """Remember which letters were sent again, once Kafka has them."""
    rows = [
        {
            **{name: t.letter[name] for name in ("log_id", "topic", "partition", "offset", "line")},
            "event_id": t.event.event_id,
        }
        for t in trials
        if t.event is not None
    ]
    if rows:
        store.insert("dead_letter_replays", pl.DataFrame(rows))
