"""Seeded traffic of agents as NDJSON lines, as hostile as a fault asks for."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_TOOLS = ("search", "refund", "lookup")
_MODELS = ("gpt-4.1", "claude")
_ERRORS = ("timeout", "rate_limited", None)
_SECOND = 10**9


@dataclass(frozen=True)
class Shape:
    """How hard the traffic is.

    Attributes
    ----------
    agents
        Distinct names, used in turn.
    repeats
        Share of lines that are sent again, later, as they are.
    held
        Share of lines that are held back and sent out of order, up to the end of the run.
    old
        Share of interactions that happened minutes to two days ago.
    collisions
        Share of lines whose id comes again with another time.
    poison
        Share of lines that are no events.
    small
        Interactions of two events, for many agents in few events.
    """

    agents: int = 12
    repeats: float = 0.02
    held: float = 0.01
    old: float = 0.01
    collisions: float = 0.0
    poison: float = 0.0
    small: bool = False


@dataclass
class Traffic:
    """Makes lines; the same seed makes the same ones but for the time they are made at.

    ``poison`` holds the bad lines made so far with the code each must be refused with, None where
    more than one reason holds.
    """

    seed: int
    shape: Shape = field(default_factory=Shape)
    poison: dict[bytes, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._making = threading.Lock()  # a fault may make lines beside the load
        self._made = 0
        self._held: list[bytes] = []

    def lines(self, count: int, now_ns: int) -> list[bytes]:
        """About ``count`` lines of interactions that ended within the last second."""
        with self._making:
            return self._lines(count, now_ns)

    def _lines(self, count: int, now_ns: int) -> list[bytes]:
        rng, shape, found = self._random, self.shape, []
        while len(found) < count:
            end = now_ns - rng.randrange(_SECOND)
            if rng.random() < shape.old:
                end -= rng.choice((60, 3_600, 48 * 3_600)) * _SECOND - rng.randrange(30 * _SECOND)
            for event in self._interaction(end):
                line = _encode(event)
                found.append(line)
                if rng.random() < shape.collisions:
                    moved = event["time_unix_nano"] + rng.randrange(1, 20 * _SECOND)
                    self._held.append(_encode(event | {"time_unix_nano": moved}))
                if rng.random() < shape.repeats:
                    self._held.append(line)
                if rng.random() < shape.held:
                    self._held.append(found.pop())
            if rng.random() < shape.poison * 8:
                found.append(self._bad(now_ns))
        rng.shuffle(self._held)
        released = len(self._held) // 20
        found += self._held[:released]
        del self._held[:released]
        for at in range(0, len(found) - 40, 40):
            if rng.random() < 0.2:
                part = found[at : at + 40]
                rng.shuffle(part)
                found[at : at + 40] = part
        return found

    def rest(self) -> list[bytes]:
        """Everything that is still held back."""
        with self._making:
            found, self._held = self._held, []
        return found

    def records(self, lines: list[bytes]) -> Iterator[bytes]:
        """Split lines over records of 1 to 200; sessions and interactions mix."""
        at = 0
        while at < len(lines):
            size = self._random.choice((1, 20, 50, 200))
            yield b"\n".join(lines[at : at + size])
            at += size

    def _interaction(self, end: int) -> list[dict[str, Any]]:
        rng, number = self._random, self._made
        self._made += 1
        name = f"s{self.seed}-i{number}"
        common = {
            "environment": "staging" if number % 11 == 0 else "production",
            "agent": f"agent-{number % self.shape.agents}",
            "agent_version": ("v1", "v2", None)[number % 3],
            "session_id": f"s{self.seed}-c{number // 3}" if number % 7 else None,
            "interaction_id": name,
            "user_id": f"u{number % 50}",
        }
        if self.shape.small:
            call = {"kind": "tool_call", "name": "search", "duration_ms": _duration(rng)}
            parts = [call | self._failed(0.1), {"kind": "interaction"} | self._failed(0.2)]
        else:
            parts = self._parts(name)
        # Distinct times, so that "the last" is one of them; what closes comes last.
        times = sorted(end - n for n in rng.sample(range(8 * _SECOND), len(parts)))
        events = [
            _known(common | part | {"event_id": f"{name}-{n}", "time_unix_nano": times[n]})
            for n, part in enumerate(parts)
        ]
        if rng.random() < 0.2:
            events.append(self._feedback(common, name, times[-1] + 1 + rng.randrange(_SECOND)))
        return events

    def _parts(self, name: str) -> list[dict[str, Any]]:
        """What happens in an interaction, in order."""
        rng = self._random
        parts: list[dict[str, Any]] = [{"kind": "user_message", "content": f"Please help, {name}"}]
        for _ in range(rng.randrange(1, 4)):
            parts.append(
                {
                    "kind": "llm_call", "model": rng.choice(_MODELS), "duration_ms": _duration(rng),
                    "input_tokens": rng.randrange(4_000), "output_tokens": rng.randrange(300),
                    "cached_tokens": rng.choice((None, rng.randrange(100))),
                    "cost_usd": None if rng.random() < 0.05 else round(rng.random() / 100, 6),
                }
            )  # fmt: skip
            parts.append(
                {
                    "kind": "tool_call", "name": rng.choice(_TOOLS), "duration_ms": _duration(rng),
                    # A part of the work may be another agent's.
                    **({"agent": "helper"} if rng.random() < 0.1 else {}), **self._failed(0.1),
                }
            )  # fmt: skip
        if rng.random() < 0.8:  # the others leave the user without an answer
            parts.append({"kind": "agent_message", "content": "Here you are."})
        if rng.random() < 0.97:  # the others never say that they have ended
            totals = {"duration_ms": _duration(rng), "input_tokens": 10**6, "cost_usd": 9.0}
            parts.append({"kind": "interaction", **totals, **self._failed(0.15)})
        return parts

    def _feedback(self, common: dict[str, Any], name: str, time: int) -> dict[str, Any]:
        value = self._random.choice((0.0, 0.5, 1.0))
        return _known(
            common
            | {"kind": "feedback", "value": value, "target": name, "event_id": f"{name}-f"}
            | {"time_unix_nano": time}
        )

    def _failed(self, share: float) -> dict[str, Any]:
        rng = self._random
        if rng.random() >= share:
            return {}
        message = f"no answer after {rng.randrange(100)} s"
        return {"status": "error", "error_type": rng.choice(_ERRORS), "error_message": message}

    def _bad(self, now_ns: int) -> bytes:
        rng, n = self._random, len(self.poison)
        good = {"event_id": f"bad-{self.seed}-{n}", "time_unix_nano": now_ns, "agent": "a"}
        good["kind"], deep = "tool_call", b"[" * 5_000 + b"]" * 5_000
        line, code = rng.choice(
            (
                lambda: (_encode(good)[:-1], "invalid_json"),
                lambda: (_encode(good | {"duration_ms": float("nan")}), "invalid_json"),
                lambda: (_encode(good).replace(b'"a"', b'"\xff\xfe"'), "invalid_utf8"),
                lambda: (b"[%d]" % n, "not_an_object"),
                lambda: (_encode(good | {"agent": n}), "invalid_field"),
                lambda: (_encode(good | {"kind": f"none{n}"}), "invalid_field"),
                lambda: (_encode(good | {"time_unix_nano": -1}), "invalid_field"),
                lambda: (_encode({k: v for k, v in good.items() if k != "agent"}), "missing_field"),
                lambda: (_encode(good | {"schema_version": 2}), "unsupported_version"),
                lambda: (_encode(good | {"time_unix_nano": now_ns + 10**13}), "future_time"),
                lambda: (_encode(good | {"content": "x" * 300_000}), "line_too_long"),
                lambda: (_encode(good)[:-1] + b',"x":' + deep + b"}", "too_deep"),
                lambda: (_encode(good)[:-1] + b',"input_tokens":' + b"9" * 5_000 + b"}", None),
                lambda: (_encode(good)[:-1] + b',"name":"\\ud800"}', None),
            )
        )()  # fmt: skip
        self.poison[line] = code
        return line


def _duration(rng: random.Random) -> float | None:
    return rng.choice((0.0, None, *(round(rng.lognormvariate(6, 1), 3) for _ in range(6))))


def _known(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value is not None}


def _encode(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
