"""Streams by name: which row of a detector belongs to which signal of which agent."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np

from detectors.base import Bools, Ints
from processors.signals import BY_NAME, Signal
from processors.stations.base import Change

Key: TypeAlias = tuple[str, str, str, str]
"""Signal, environment, agent, and the value of the signal's ``per`` column ('' without one)."""

Row: TypeAlias = tuple[Any, ...]
"""Of what a tick saw of a stream: its time, signal, environment, agent, and values."""

_TICKS: Final = 20_000
WEEK: Final = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Thresholds:
    """E-values from which a change of one of ``n`` streams is a notice, and a page.

    With both, at most ``pages_per_week`` and ``notices_per_week`` false ones are expected of all
    streams together (`detectors.change.budget`); a bucket spends its share.
    """

    pages_per_week: float
    notices_per_week: float
    shares: int

    def notice(self, streams: int, tick_s: int) -> float:
        """E-value of a notice."""
        return streams * (WEEK / tick_s) * self.shares / self.notices_per_week

    def page(self, streams: int, tick_s: int) -> float:
        """E-value of a page."""
        return streams * (WEEK / tick_s) * self.shares / self.pages_per_week


@dataclass(slots=True)
class Register:
    """Names of a detector's rows, the times of its ticks, and what is in a change now."""

    keys: list[Key] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    open: dict[int, Change] = field(default_factory=dict)
    index: dict[Key, int] = field(default_factory=dict)
    met: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = {key: i for i, key in enumerate(self.keys)}

    def of_regulars(self, at: int, part: Sequence[Row]) -> list[Row]:
        """Rows of agents that were there at an earlier tick: who comes once makes no stream.

        ``part`` has the environment and the agent as its third and fourth column.
        """
        return [row for row in part if self.met.setdefault((row[2], row[3]), at) < at]

    def add(self, keys: Iterable[Key]) -> int:
        """Name new rows; returns how many."""
        before = len(self.keys)
        for key in keys:
            if key not in self.index:
                self.index[key] = len(self.keys)
                self.keys.append(key)
                self.last.append(0)
        return len(self.keys) - before

    def tick(self, at: int) -> None:
        """Remember the time of a tick."""
        self.ticks.append(at)
        if len(self.ticks) > 2 * _TICKS:
            del self.ticks[:_TICKS]

    def time_of(self, behind: int) -> int:
        """Time of the tick so many before the one that comes next."""
        return self.ticks[max(0, len(self.ticks) - behind)]

    def found(self, change_id: str) -> int | None:
        """Row of an open change."""
        return next((i for i, c in self.open.items() if c.change_id == change_id), None)

    def unused(self, before: int) -> Ints:
        """Rows without a value since ``before`` (s); forgets who came once before then."""
        regulars = {key[1:3] for key in self.keys}
        self.met = {k: at for k, at in self.met.items() if at >= before or k in regulars}
        return np.flatnonzero(np.array(self.last, np.int64) < before)

    def keep(self, rows: Ints) -> list[Change]:
        """Forget all other rows; returns the changes that end with them."""
        kept = set(rows.tolist())
        ended = [change for i, change in self.open.items() if i not in kept]
        at = {old: new for new, old in enumerate(rows.tolist())}
        self.open = {at[i]: change for i, change in self.open.items() if i in kept}
        self.keys = [self.keys[i] for i in rows]
        self.last = [self.last[i] for i in rows]
        self.index = {key: i for i, key in enumerate(self.keys)}
        return ended

    def dump(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "keys": self.keys,
            "ticks": np.diff(self.ticks, prepend=0).tolist(),
            "last": self.last,
            "open": [[i, change_fields(c)] for i, c in self.open.items()],
            "met": [[*agent, at] for agent, at in self.met.items()],
        }

    @classmethod
    def load(cls, raw: dict[str, Any]) -> Register:
        """Build the register that `dump` wrote."""
        return cls(
            [(k[0], k[1], k[2], k[3]) for k in raw["keys"]],
            np.cumsum(raw["ticks"]).tolist(),
            raw["last"],
            {int(i): Change(**c) for i, c in raw["open"]},
            met={(e, a): at for e, a, at in raw.get("met", ())},
        )


def opened(key: Key, began: int, at: int, severity: str, **figures: Any) -> Change:
    """A change that was found now."""
    name, environment, agent, value = key
    signal = BY_NAME[name]
    text = "\x1f".join((*key, str(began)))
    return Change(
        change_id=hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest(),
        at=at,
        status="open",
        severity=severity,
        station="detection",
        signal=name,
        environment=environment,
        agent=agent,
        attribute=attribute(signal),
        value=value,
        began=began,
        found=at,
        unit=signal.unit,
        **figures,
    )


def attribute(signal: Signal) -> str:
    """What the values of a signal's streams are called."""
    if signal.per or signal.family == "mix":
        return {"tools": "tool", "reasons": "reason", "models": "model"}.get(
            signal.per or signal.name, signal.name
        )
    return ""


def recovered(change: Change, at: int) -> Change:
    """The end of a change whose stream is back near its baseline."""
    return ended(change, at, "recovered")


def ended(change: Change, at: int, reason: str) -> Change:
    """The end of a change; `processors.findings.ENDINGS` says for what reasons."""
    return replace(change, status=reason, at=at)


def change_fields(change: Change) -> dict[str, Any]:
    """A change as JSON types."""
    return {name: getattr(change, name) for name in Change.__slots__}


def finite(value: float) -> float | None:
    """None for NaN and infinities."""
    return float(value) if np.isfinite(value) else None


def compress(state: dict[str, Any]) -> bytes:
    """A state as bytes."""
    return zlib.compress(msgspec.json.encode(state), 1)


def expand(raw: bytes, layout: int) -> dict[str, Any]:
    """The state that `compress` wrote.

    Raises
    ------
    ValueError
        When it is damaged or of another layout.
    """
    try:
        state: dict[str, Any] = msgspec.json.decode(zlib.decompress(raw))
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"state is damaged: {error}") from error
    if state.get("layout") != layout:
        raise ValueError(f"state has layout {state.get('layout')}, not {layout}")
    return state


def starts(before: Bools, after: Bools) -> tuple[Ints, Ints]:
    """Rows that entered, and that left, a detected change; ``before`` may be shorter."""
    known = np.zeros(after.size, np.bool_)
    known[: before.size] = before
    return np.flatnonzero(after & ~known), np.flatnonzero(~after & known)
