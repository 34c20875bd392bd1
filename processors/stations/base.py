"""What a station is: a pure step over sealed event time, with a state and typed outputs.

A station does no I/O and reads no clock. `processors.stations.runner` gives it what was sealed, and
writes what it returns. Outputs have keys that are functions of event time and stream, so a step
that is repeated after a crash writes the same rows again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol, TypeVar

import polars as pl
from xxhash import xxh3_64_intdigest

BUCKETS: Final = 8
"""Shares of the agents with a state of their own; a fixed number, so that repartitioning a topic
moves no state. At most so many workers share the stations."""

FLEET: Final = "fleet"
"""Bucket of stations that must see all agents at once."""

CELL: Final = 10
"""Seconds of event time that are sealed together."""

SETTLED: Final = 1800
"""Seconds after the end of an interaction by which most feedback and outcomes have come."""

RESULTS: Final[dict[str, Any]] = {
    "decided": pl.Int64(),
    "interaction_id": pl.String(),
    "environment": pl.String(),
    "agent": pl.String(),
    "agent_version": pl.String(),
    "session_id": pl.String(),
    "user_id": pl.String(),
    "state": pl.String(),
    "duration_ms": pl.Float64(),
    "time_to_first_token_ms": pl.Float64(),
    "steps": pl.Int64(),
    "llm_calls": pl.Int64(),
    "llm_errors": pl.Int64(),
    "tool_calls": pl.Int64(),
    "tool_errors": pl.Int64(),
    "handoffs": pl.Int64(),
    "human_inputs": pl.Int64(),
    "input_tokens": pl.Int64(),
    "output_tokens": pl.Int64(),
    "cost_usd": pl.Float64(),
    "unpriced": pl.Int64(),
    "success": pl.Int64(),
    "success_source": pl.String(),
    "reasons": pl.List(pl.String()),
    "failure_reason": pl.String(),
    "failure_tool": pl.String(),
    "failure_template": pl.String(),
    "satisfaction": pl.Float64(),
    "dissatisfaction": pl.Float64(),
    "models": pl.List(pl.String()),
    "tools": pl.List(pl.String()),
    "language": pl.String(),
    "request": pl.String(),
    "answered": pl.Int64(),
}
"""Columns of `Sealed.results`; ``decided`` is the event time, in s, of the cell that sealed it.

``duration_ms`` is the agent's own time, without waiting for a person.
"""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Action:
    """What a person decided: ``accept`` takes the new level of a finding's stream for normal.

    ``finding`` is the id of a finding, or of a cluster; ``at`` is in seconds since 1970.
    """

    finding: str
    action: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was sealed between two moments of event time, in seconds since 1970.

    Attributes
    ----------
    lo, hi
        Bounds, multiples of `CELL`; ``lo`` included.
    results
        Interactions decided from the minute of ``lo`` to ``hi``, columns of `RESULTS`, in order of
        time and id. A station that works by the cell leaves out what lies before ``lo``.
    settled
        The same of half an hour earlier (`SETTLED`): those with feedback, an outcome or a score.
    changes
        For stations of the fleet: rows of ``station_changes`` decided in ``(lo, hi]``.
    actions
        What people decided since the last step.
    """

    lo: int
    hi: int
    results: pl.DataFrame
    settled: pl.DataFrame
    changes: pl.DataFrame = field(default_factory=pl.DataFrame)
    actions: Sequence[Action] = ()


class Output(Protocol):
    """A row of a table, with a key that a repeated step writes again."""

    table: ClassVar[str]
    schema: ClassVar[Mapping[str, Any]]

    def row(self) -> dict[str, Any]:
        """Values by column."""


class Station(Protocol[State]):
    """One capability on sealed event time.

    ``parameters`` come from the settings and always win over what a stored state was made with.
    """

    name: str
    fleet: bool
    parameters: Mapping[str, Any]

    def begin(self) -> State:
        """State before anything was read."""

    def load(self, raw: bytes) -> State:
        """Build the state that `dump` wrote; ValueError when it is of another layout."""

    def dump(self, state: State) -> bytes:
        """State as bytes."""

    def size(self, state: State) -> int:
        """How many streams a state holds."""

    def step(self, sealed: Sealed, state: State) -> tuple[State, Sequence[Output]]:
        """Take what was sealed; the state may be changed in place."""


_SECONDS: Final = pl.Datetime("ms", "UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A stream that began, grew worse in, or left a detected change. Times in s of event time."""

    table: ClassVar[str] = "station_changes"
    schema: ClassVar[Mapping[str, Any]] = {
        "at": _SECONDS,
        "began": _SECONDS,
        "found": _SECONDS,
        "e_value": pl.Float64(),
        "baseline": pl.Float64(),
        "observed": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n": pl.UInt64(),
    }

    change_id: str
    at: int
    status: str
    severity: str
    station: str
    signal: str
    direction: str
    environment: str
    agent: str
    attribute: str = ""
    value: str = ""
    label: str = ""
    began: int
    found: int
    e_value: float
    baseline: float | None = None
    observed: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int = 0

    def row(self) -> dict[str, Any]:
        """Values by column."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {name: moment(values[name]) for name in ("at", "began", "found")}

    @property
    def stream(self) -> tuple[str, str, str, str, str]:
        """What it is about, whenever it began."""
        return (self.environment, self.agent, self.signal, self.attribute, self.value)


def frame(outputs: Sequence[Output]) -> pl.DataFrame:
    """Rows of outputs of one kind."""
    return pl.DataFrame(
        [output.row() for output in outputs],
        schema_overrides=dict(outputs[0].schema),
        infer_schema_length=None,
    )


def moment(seconds: int) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def bucket_of(agent: str) -> int:
    """Bucket of an agent: the hash by which its dirty marks choose their partition."""
    return xxh3_64_intdigest(agent.encode()) % BUCKETS


def owned(partitions: Sequence[int], of: int) -> list[str]:
    """Buckets of a worker that holds some of ``of`` partitions of the dirty topic.

    >>> owned([1, 3], of=4)
    ['1', '3', '5', '7']
    >>> owned([0], of=4)
    ['0', '4', 'fleet']
    """
    mine = set(partitions)
    buckets = [str(b) for b in range(BUCKETS) if b % max(of, 1) in mine]
    return buckets + ([FLEET] if 0 in mine else [])


def empty_results() -> pl.DataFrame:
    """No results, with all columns."""
    return pl.DataFrame(schema=RESULTS)
