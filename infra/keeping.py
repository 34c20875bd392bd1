"""What is stored, and how fast it grows.

Sizes come from ClickHouse; everything else is pure. Growth is by event time: what a partition of a
day or month holds. Tables without such partitions grow too little to matter and have no pace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from processors.keeping import days_of

_LOOK_BACK_DAYS: Final = 7
_WARN_DAYS: Final = 7.0
_WARN_FREE: Final = 0.10
_GB: Final = 1e9

_PARTITIONS: Final = """
SELECT table, partition, toUInt64(sum(rows)), toUInt64(sum(bytes_on_disk)) FROM system.parts
WHERE database = {db:String} AND active GROUP BY table, partition ORDER BY table, partition
"""
_DISKS: Final = "SELECT sum(free_space), sum(total_space) FROM system.disks"


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Parameters
    ----------
    name, rows, bytes
        What it holds on disk; a row that was replaced counts until its part is merged.
    bytes_per_day
        Of the last seven whole days; None where partitions are of no time.
    oldest
        First day of its oldest partition.
    partitions
        Bytes by partition.
    """

    name: str
    rows: int
    bytes: int
    bytes_per_day: float | None
    oldest: date | None
    partitions: Mapping[str, int] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Storage:
    """All tables, largest first, and the disks beneath them."""

    tables: tuple[Table, ...]
    free_bytes: int
    total_bytes: int

    @property
    def bytes_per_day(self) -> float:
        """Growth of all tables together."""
        return sum(table.bytes_per_day or 0.0 for table in self.tables)

    @property
    def days_left(self) -> float | None:
        """How long the free space lasts; None when nothing grows."""
        return self.free_bytes / self.bytes_per_day if self.bytes_per_day > 0 else None

    @property
    def warnings(self) -> list[str]:
        """What somebody should act on."""
        found = []
        if self.days_left is not None and self.days_left < _WARN_DAYS:
            found.append(
                f"the disk is full in {self.days_left:.1f} days at"
                f" {self.bytes_per_day / _GB:.2f} GB a day: add space or keep less"
            )
        if self.free_bytes < _WARN_FREE * self.total_bytes:
            found.append(
                f"{self.free_bytes / _GB:.1f} of {self.total_bytes / _GB:.1f} GB are free: merges"
                " need room beside what they merge"
            )
        return found


def measure(client: Any, database: str, today: date | None = None) -> Storage:
    """Ask ClickHouse for the sizes of a database."""
    today = today or datetime.now(UTC).date()
    rows = client.query(_PARTITIONS, parameters={"db": database}).result_rows
    free, total = client.query(_DISKS).result_rows[0]
    names = sorted({row[0] for row in rows})
    tables = [table_of(name, [row[1:] for row in rows if row[0] == name], today) for name in names]
    tables.sort(key=lambda table: -table.bytes)
    return Storage(tuple(tables), int(free), int(total))


def table_of(name: str, partitions: Iterable[tuple[str, int, int]], today: date) -> Table:
    """Put the partitions of a table together: name, rows and bytes of each."""
    found = list(partitions)
    sizes = {partition: size for partition, _, size in found}
    spans = [span for span in map(days_of, sizes) if span is not None]
    return Table(
        name=name,
        rows=sum(rows for _, rows, _ in found),
        bytes=sum(sizes.values()),
        bytes_per_day=pace(sizes, today),
        oldest=min((first for first, _ in spans), default=None),
        partitions=sizes,
    )


def pace(partitions: Mapping[str, int], today: date) -> float | None:
    """Bytes per day of the last seven whole days; a month counts by the days it has had.

    >>> pace({"20260301": 700, "20260308": 50}, date(2026, 3, 8))
    100.0
    >>> pace({"202603": 800}, date(2026, 3, 9))
    100.0
    """
    since = today - timedelta(days=_LOOK_BACK_DAYS)
    grown, timed = 0.0, False
    for partition, size in partitions.items():
        span = days_of(partition)
        if span is None:
            continue
        timed = True
        first, last = span[0], min(span[1], today - timedelta(days=1))
        overlap = (last - max(first, since)).days + 1
        if overlap > 0:
            grown += size * overlap / ((last - first).days + 1)
    return grown / _LOOK_BACK_DAYS if timed else None
