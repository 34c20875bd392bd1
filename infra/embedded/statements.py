"""What is asked of the engine and what it answers: statements, limits, results, errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1 << 20
_ERROR_CODE = re.compile(r"Code: (\d+)\. ")


class EngineError(Exception):
    """A statement failed; the text is ClickHouse's own, starting with ``Code: N.``."""

    @classmethod
    def of(cls, code: int, name: str, text: str) -> EngineError:
        """Make an error of our own in ClickHouse's form."""
        return cls(f"Code: {code}. DB::Exception: {text}. ({name})")

    @property
    def code(self) -> int:
        """ClickHouse's error code, 0 when the text names none."""
        found = _ERROR_CODE.search(str(self))
        return int(found[1]) if found else 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one statement may use; a statement's own settings can only lower them.

    Parameters
    ----------
    seconds
        Longest run. Ten minutes are far above any statement of driftline's own.
    memory_bytes
        Memory of one statement.
    result_bytes
        Size of a result, which is kept in memory until it is sent.
    others
        Greatest values of other settings.
    """

    seconds: int = 600
    memory_bytes: int = 4096 * MIB
    result_bytes: int = 256 * MIB
    others: Mapping[str, int] = field(default_factory=dict)

    def settings(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Return the settings of a session: ``wanted`` within the limits."""
        bounds = {
            "max_execution_time": self.seconds,
            "max_memory_usage": self.memory_bytes,
            "max_result_bytes": self.result_bytes,
            **self.others,
        }
        settings = {**wanted, "result_overflow_mode": "throw", "timeout_overflow_mode": "throw"}
        for name, bound in bounds.items():
            settings[name] = str(_bounded(wanted.get(name), bound))
        return settings


def _bounded(value: str | None, bound: int) -> float | int:
    """Return ``value`` if it is a number in (0, bound], else ``bound`` (0 means unlimited)."""
    try:
        number = float(value) if value is not None else 0.0
    except ValueError:
        return bound
    if not 0 < number <= bound:
        return bound
    return int(number) if number == int(number) else number


@dataclass(frozen=True, slots=True)
class Statement:
    """One request to the engine.

    Parameters
    ----------
    sql
        The statement; for an insert with data, up to but without its ``FORMAT`` clause.
    database
        Current database.
    output_format
        Format of the result when the statement names none.
    data_format, data
        Format and bytes of the rows to insert; ``data_format`` is None for everything else.
    settings, parameters
        Settings of the session, values of ``{name:Type}`` placeholders.
    reader
        Whether it may only read tables.
    """

    sql: str
    database: str = "default"
    output_format: str = "TabSeparated"
    data_format: str | None = None
    data: bytes | memoryview = b""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    reader: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement returned. ``output_format`` is None when it has no result set."""

    body: bytes
    output_format: str | None
    rows_read: int = 0
    rows_written: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
