"""What was planned and what arrived: the table ``notifications``, and the silences.

A row is written before it is sent and again when it has arrived. Its version is the number of
attempts while it waits and the highest number once it is settled, so that a slow writer never
makes a sent message look unsent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import polars as pl

from ingest.core.errors import Rejected
from processors.clickhouse import Store
from processors.notify import text
from processors.notify.finding import Finding
from processors.notify.incidents import Message, Told
from processors.notify.receivers import Delivery

PENDING: Final = "pending"
SENT: Final = "sent"
REFUSED: Final = "refused"
SILENCED: Final = "silenced"
_SETTLED: Final = 2**63

_FINDINGS: Final = """
SELECT * FROM findings FINAL
WHERE ended IS NULL AND status NOT IN ('resolved', 'recovered', 'accepted', 'closed')
    OR found >= {since:DateTime64(3)} OR finding_id IN {known:Array(String)}
"""
_TOLD: Final = """
SELECT * FROM notifications FINAL WHERE incident != '' AND incident IN
(
    SELECT incident FROM notifications FINAL GROUP BY incident, receiver
    HAVING argMax(event, seq) != 'resolved' OR max(planned) >= {since:DateTime64(3)}
        OR countIf(state = 'pending') > 0
)
ORDER BY incident, receiver, seq
"""
_ACTIONS: Final = """
SELECT subject, argMaxIf(a.action, a.at, a.action IN ('ack', 'accept', 'open')) AS decided,
    maxIf(a.at, a.action IN ('ack', 'accept', 'open')) AS decided_at,
    maxIf(a.until, a.action = 'mute') AS muted_until
FROM finding_actions AS a FINAL GROUP BY subject
"""
"""What people decided about findings and clusters; an `open` takes an acknowledgement back."""

_SILENCES: Final = "SELECT * FROM silences FINAL WHERE ends > {now:DateTime64(3)}"


@dataclass(frozen=True, slots=True)
class Silence:
    """Findings whose fields equal ``matchers`` are not announced between two times."""

    id: str
    matchers: dict[str, str]
    starts: datetime
    ends: datetime
    comment: str = ""

    def covers(self, finding: Finding, now: datetime) -> bool:
        """Whether it holds a finding back now."""
        return self.starts <= now < self.ends and all(
            str(getattr(finding, name, "")) == value for name, value in self.matchers.items()
        )


@dataclass(slots=True)
class Row:
    """A message that is planned for a receiver, as it is stored."""

    message: Message
    delivery: Delivery
    state: str = PENDING
    attempts: int = 0
    error: str = ""


class Outbox:
    """Reads and writes what notifications keep in ClickHouse."""

    def __init__(self, store: Store, board: str | None = None) -> None:
        self._store = store
        self._board = board
        self._has_actions = False

    def compose(self, message: Message) -> Row:
        """Write the message, once: a retry sends the same bytes."""
        key = f"{message.receiver}\x1f{message.incident}\x1f{message.seq}"
        delivery = Delivery(
            id=hashlib.blake2b(key.encode(), digest_size=12).hexdigest(),
            incident=message.incident,
            event=message.event,
            severity=text.severity(message.findings),
            headline=text.headline(message),
            lines=text.lines(message, self._board),
            body=msgspec.json.encode(text.payload(message, self._board)),
        )
        return Row(message, delivery, SILENCED if message.silenced else PENDING)

    def save(self, rows: Sequence[Row]) -> None:
        """Store rows as they are now. Raises `Unavailable`."""
        self._store.insert("notifications", _frame(rows))

    def findings(self, since: datetime, known: Iterable[str]) -> tuple[list[Finding], list[str]]:
        """Findings that last, were found since, or are known, and what could not be read."""
        rows = self._store.query(_FINDINGS, {"since": since, "known": sorted(known)})
        actions = {} if rows.is_empty() else {a["subject"]: a for a in self._actions()}
        read: list[Finding] = []
        wrong: list[str] = []
        for row in rows.iter_rows(named=True):
            try:
                read.append(_decided(Finding.read(row), actions))
            except Rejected as error:
                wrong.append(f"{row.get('finding_id')}: {error}")
        return read, wrong

    def _actions(self) -> list[dict[str, Any]]:
        if not self._has_actions:
            known = self._store.query("EXISTS TABLE finding_actions")
            self._has_actions = bool(known["result"][0])
        return self._store.query(_ACTIONS).to_dicts() if self._has_actions else []

    def told(self, since: datetime) -> tuple[list[tuple[str, str, Told]], list[Row]]:
        """The last message to every receiver of every incident, and all that still wait."""
        last: dict[tuple[str, str], Told] = {}
        waiting = []
        for row in self._store.query(_TOLD, {"since": since}).iter_rows(named=True):
            told = Told(row["seq"], row["event"], frozenset(row["findings"]), _utc(row["planned"]))
            last[row["incident"], row["receiver"]] = told
            if row["state"] == PENDING:
                waiting.append(_row(row))
        return [(incident, receiver, told) for (incident, receiver), told in last.items()], waiting

    def since(self, now: datetime) -> datetime:
        """When notifications were first switched on; ``now`` when that is now."""
        first = self._store.query("SELECT min(planned) AS first, count() AS n FROM notifications")
        if first["n"][0]:
            return _utc(first["first"][0])
        begun = Message("", "", 0, "", (), now, silenced=True)
        self._store.insert(
            "notifications", _frame([Row(begun, Delivery("", "", "", "", "", "", b""), SILENCED)])
        )
        return now

    def silences(self, now: datetime) -> list[Silence]:
        """Silences that hold now or later."""
        rows = self._store.query(_SILENCES, {"now": now})
        return [
            Silence(
                r["id"],
                msgspec.json.decode(r["matchers"]),
                _utc(r["starts"]),
                _utc(r["ends"]),
                r["comment"],
            )
            for r in rows.iter_rows(named=True)
        ]

    def silence(self, silence: Silence, now: datetime) -> None:
        """Store a silence; one of the same id is replaced, so an earlier end takes it away."""
        self._store.insert(
            "silences",
            pl.DataFrame(
                {
                    "id": [silence.id],
                    "version": [int(now.timestamp() * 1000)],
                    "matchers": [msgspec.json.encode(silence.matchers).decode()],
                    "starts": [silence.starts],
                    "ends": [silence.ends],
                    "comment": [silence.comment],
                },
                schema_overrides={"version": pl.UInt64, "starts": _MS, "ends": _MS},
            ),
        )


_MS: Final = pl.Datetime("ms", "UTC")


def _frame(rows: Sequence[Row]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "incident": r.message.incident,
                "seq": r.message.seq,
                "receiver": r.message.receiver,
                "version": r.attempts if r.state == PENDING else _SETTLED,
                "state": r.state,
                "event": r.message.event,
                "delivery": r.delivery.id,
                "severity": r.delivery.severity,
                "findings": [f.finding_id for f in r.message.findings],
                "planned": r.message.at,
                "attempts": r.attempts,
                "error": r.error,
                "headline": r.delivery.headline,
                "lines": r.delivery.lines,
                "body": r.delivery.body.decode(),
            }
            for r in rows
        ],
        schema_overrides={
            "seq": pl.UInt32, "version": pl.UInt64, "attempts": pl.UInt32, "planned": _MS,
            "findings": pl.List(pl.String),
        },
    )  # fmt: skip


def _row(row: dict[str, Any]) -> Row:
    """A stored message; its findings are only known by what it says of them."""
    body = row["body"].encode()
    message = Message(
        row["incident"],
        row["receiver"],
        row["seq"],
        row["event"],
        _findings(body),
        _utc(row["planned"]),
    )
    delivery = Delivery(
        row["delivery"],
        row["incident"],
        row["event"],
        row["severity"],
        row["headline"],
        row["lines"],
        body,
    )
    return Row(message, delivery, PENDING, row["attempts"], row["error"])


def _decided(finding: Finding, actions: Mapping[str, Mapping[str, Any]]) -> Finding:
    """The finding with what somebody decided about it, or about its cluster since it was found."""
    own, of_cluster = actions.get(finding.finding_id), actions.get(finding.cluster or "\0")
    held = own is not None and own["decided"] in ("ack", "accept")
    if of_cluster is not None and of_cluster["decided"] == "ack":
        seen = finding.found is None or _utc(of_cluster["decided_at"]) >= finding.found
        held = held or (seen and not (own and own["decided"] == "open"))
    muted = [a["muted_until"] for a in (own, of_cluster) if a and a["muted_until"] is not None]
    return msgspec.structs.replace(
        finding,
        muted_until=max(map(_utc, muted), default=None),
        status="acknowledged" if held and finding.active else finding.status,
    )


def _findings(body: bytes) -> tuple[Finding, ...]:
    return tuple(Finding.read(found) for found in msgspec.json.decode(body)["findings"])


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
