"""SWE-agent trajectories: an issue is a request, every action a tool call, the patch the answer.

The files hold no times of day, so the clock is synthetic: a run begins at `EPOCH_NS` plus ten
minutes times a number that its content decides, and every message takes one second. There is no
reward either: whether a patch solves the issue is decided by tests that are run later, elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_hexdigest

from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.otlp.truncation import label
from ingest.replay import transcript
from ingest.replay.agentrx import EPOCH_NS, MESSAGE_NS, TASK_NS
from ingest.replay.transcript import Call, Message, Transcript

SUBMITTED: Final = "submitted"
"""Exit status of a run that ended by itself; any other is a failure."""

_RUNS: Final = 100_000

_REFUSALS: Final = (
    "Your proposed edit has introduced new syntax error(s)",
    "Usage: ",
    "EXECUTION TIMED OUT",
    "COMMAND TIMED OUT",
    "/bin/bash: ",
    "bash: ",
)
"""How the tools' own errors begin. What a program under repair prints is a result, not an error."""


class _Step(msgspec.Struct):
    action: str
    observation: str | None = None


class _Said(msgspec.Struct):
    role: str
    content: Any = None
    is_demo: bool = False


class _Stats(msgspec.Struct):
    instance_cost: float | None = None
    tokens_sent: int | None = None
    tokens_received: int | None = None


class _Info(msgspec.Struct):
    exit_status: str | None = None
    submission: str | None = None
    model_stats: _Stats = msgspec.field(default_factory=_Stats)


class _Run(msgspec.Struct):
    trajectory: list[_Step]
    info: _Info
    history: list[_Said] = []


_run = msgspec.json.Decoder(_Run)


def recognises(record: Any) -> bool:
    """Tell whether a decoded JSON value is a trajectory."""
    return isinstance(record, dict) and {"trajectory", "history"} <= record.keys()


def read(record: bytes, agent: str | None = None) -> Iterator[Event | Rejected]:
    """Events of one trajectory.

    Parameters
    ----------
    record
        JSON text.
    agent
        Name to use instead of ``swe_agent``.

    Yields
    ------
    Event or Rejected
        A trajectory that cannot be read is one rejection. A demonstration, which has a history but
        no trajectory, is none.
    """
    try:
        yield from transcript.events(_transcript(_run.decode(record), agent or "swe_agent"))
    except msgspec.ValidationError as error:
        yield Rejected(RejectionCode.INVALID_FIELD, f"trajectory: {error}")


def _transcript(run: _Run, agent: str) -> Transcript:
    said = xxh3_64_hexdigest(msgspec.json.encode(run))
    start_ns = EPOCH_NS + int(said, 16) % _RUNS * TASK_NS
    messages = _messages(run, start_ns)
    status = run.info.exit_status or "unfinished"
    return Transcript(
        session_id=label(f"{agent}:{said}") or "",
        agent=label(agent) or "",
        agent_version=None,
        model=None,
        start_ns=start_ns,
        end_ns=start_ns + (len(messages) + 1) * MESSAGE_NS,
        messages=messages,
        failure=None if status == SUBMITTED else status,
        failure_message=None,
        value=None,
        reason=None,
        rule_version=None,
        attributes={"swe_agent.exit_status": status, **_totals(run.info.model_stats)},
        timed=False,
    )


def _messages(run: _Run, start_ns: int) -> list[Message]:
    """The issue, then call and result of every step, then the patch."""
    messages = []
    if issue := _issue(run.history):
        messages.append(Message("user", 0, by_user=True, text=issue))
    for number, step in enumerate(run.trajectory):
        messages += _step(str(number), step)
    if (run.info.submission or "").strip():
        messages.append(Message("assistant", 0, text=run.info.submission))
    return [
        replace(message, time_ns=start_ns + number * MESSAGE_NS)
        for number, message in enumerate(messages, start=1)
    ]


def _step(number: str, step: _Step) -> tuple[Message, Message]:
    name = (step.action.split(maxsplit=1) or ["none"])[0]
    call = Call(number, name, msgspec.json.encode({"command": step.action}).decode())
    result = step.observation or ""
    return (
        Message("assistant", 0, calls=(call,), model_call=True),
        Message("tool", 0, text=result, call_id=number, error=_is_refusal(result)),
    )


def _issue(history: list[_Said]) -> str | None:
    """The first thing said by a user that is no demonstration."""
    texts = (said.content for said in history if said.role == "user" and not said.is_demo)
    return next((text for text in texts if isinstance(text, str)), None)


def _is_refusal(observation: str) -> bool:
    return observation.lstrip().startswith(_REFUSALS)


def _totals(stats: _Stats) -> dict[str, str | None]:
    """Cost and tokens of the run as a whole; 0 is what the tool writes when it does not know."""
    return {
        f"swe_agent.{name}": str(value) if value else None
        for name, value in msgspec.structs.asdict(stats).items()
    }
