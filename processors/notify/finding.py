"""A finding as notifications see it, read from the topic or from the table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

import msgspec

from ingest.core.errors import Rejected

ENDED: Final = frozenset(("resolved", "recovered", "accepted", "closed"))
QUIET: Final = frozenset(("notice", "info"))
"""Severities that are visible and never sent."""

_LISTS: Final = ("causes", "examples", "members", "evidence")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. Times are UTC; an unknown number is None.

    A finding with ``members`` stands for an incident: one cause that moves several streams; a
    member names it as its ``incident``.
    """

    finding_id: str
    version: int = 0
    kind: str = ""
    signal: str = ""
    severity: str = ""
    status: str = "open"
    environment: str = ""
    agent: str = ""
    agent_version: str = ""
    tool: str = ""
    cluster: str = ""
    began: datetime | None = None
    found: datetime | None = None
    ended: datetime | None = None
    muted_until: datetime | None = None
    baseline: float | None = None
    observed: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int | None = None
    e_value: float | None = None
    users: int | None = None
    sessions: int | None = None
    cost_usd: float | None = None
    incident: str = ""
    title: str = ""
    causes: list[Any] = []
    examples: list[Any] = []
    members: list[Any] = []
    evidence: list[Any] = []

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Read a row of ``findings`` or a record of its topic; other fields are ignored.

        Raises
        ------
        Rejected
            A field has another type than it should.
        """
        given = {
            name: record[name] for name in cls.__struct_fields__ if record.get(name) is not None
        }
        try:
            for name in _LISTS:
                if isinstance(given.get(name), str):
                    given[name] = msgspec.json.decode(given[name] or "[]")
            found = msgspec.convert(given, cls, strict=False)
        except (msgspec.MsgspecError, ValueError) as error:
            raise Rejected("bad_finding", str(error)) from error
        return msgspec.structs.replace(
            found,
            **{
                name: _utc(getattr(found, name))
                for name in ("began", "found", "ended", "muted_until")
            },
        )

    @property
    def active(self) -> bool:
        """Whether the change still lasts."""
        return self.ended is None and self.status not in ENDED

    @property
    def member_ids(self) -> list[str]:
        """Ids of the findings that belong to this incident."""
        return [m["finding_id"] if isinstance(m, dict) else str(m) for m in self.members]

    def is_muted(self, now: datetime) -> bool:
        """Whether somebody has taken note of it or wants no word of it."""
        muted = self.muted_until is not None and self.muted_until > now
        return muted or self.status in ("acknowledged", "muted")


def decode(raw: bytes) -> Finding:
    """Read a record of the topic. Raises `Rejected`."""
    try:
        record = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Rejected("bad_finding", str(error)) from error
    return Finding.read(record)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
