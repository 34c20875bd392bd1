"""tau-bench trajectories, as AgentRx publishes them: chat messages and a reward, no times.

The clock is synthetic and a function of the trajectory's task and trial alone: a run begins
`EPOCH_NS` plus ten minutes per task (a thousand tasks per trial), and every message takes one
second. Steps therefore carry no duration, and the duration of a session says how many messages it
had, not how long anybody waited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_hexdigest

from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.otlp.truncation import label
from ingest.replay import transcript
from ingest.replay.transcript import Call, Message, Transcript

EPOCH_NS: Final = 1_735_689_600 * 10**9
"""2025-01-01T00:00:00Z, the start of task 0 of trial 0."""

TASK_NS: Final = 600 * 10**9
MESSAGE_NS: Final = 10**9
TASKS_PER_TRIAL: Final = 1_000

UNFINISHED: Final = "unfinished"
"""Reason of a run that nobody judged, because it was cut off."""


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class _RewardInfo(msgspec.Struct):
    info: dict[str, Any] = {}


class _Info(msgspec.Struct):
    reward_info: _RewardInfo | None = None


class _Head(msgspec.Struct):
    task_id: int
    reward: float
    traj: msgspec.Raw
    info: _Info = msgspec.field(default_factory=_Info)
    trial: int = 0


_head = msgspec.json.Decoder(_Head)
_messages = msgspec.json.Decoder(list[_Message])
_array = msgspec.json.Decoder(list[msgspec.Raw])


def recognises(record: Any) -> bool:
    """Tell whether a decoded JSON value is a trajectory or an array of them."""
    first = record[0] if isinstance(record, list) and record else record
    return isinstance(first, dict) and {"traj", "reward"} <= first.keys()


def read(record: bytes, agent: str | None = None) -> Iterator[Event | Rejected]:
    """Events of one trajectory or of an array of them.

    Parameters
    ----------
    record
        JSON text.
    agent
        Name to use instead of ``tau_DOMAIN``, whose domain the agent's policy names.

    Yields
    ------
    Event or Rejected
        A trajectory that cannot be read is one rejection.
    """
    for raw in _array.decode(record) if record.lstrip().startswith(b"[") else [record]:
        try:
            yield from transcript.events(_transcript(_head.decode(raw), agent))
        except msgspec.DecodeError as error:
            yield Rejected(RejectionCode.INVALID_FIELD, f"trajectory: {error}")


def _transcript(head: _Head, agent: str | None) -> Transcript:
    messages = _messages.decode(head.traj)
    name = agent or f"tau_{_domain(messages)}"
    # What was said, however the file spells it, tells runs of the same task apart.
    said = msgspec.json.encode(msgspec.json.decode(head.traj))
    run = f"{head.task_id}:{head.trial}:{xxh3_64_hexdigest(said)}"
    start_ns = EPOCH_NS + (head.trial * TASKS_PER_TRIAL + head.task_id) * TASK_NS
    spoken = [message for message in messages if message.role in ("user", "assistant", "tool")]
    judged = head.info.reward_info
    failure = UNFINISHED if judged is None else None
    return Transcript(
        session_id=label(f"{name}:{run}") or "",
        agent=label(name) or "",
        agent_version=None,
        model=None,
        start_ns=start_ns,
        end_ns=start_ns + (len(spoken) + 1) * MESSAGE_NS,
        messages=[
            _message(message, start_ns + number * MESSAGE_NS)
            for number, message in enumerate(spoken, start=1)
        ],
        failure=failure,
        failure_message=None,
        value=head.reward,
        reason=failure or _reason(head.reward, judged),
        rule_version=None,
        attributes={"tau.task_id": str(head.task_id), "tau.trial": str(head.trial)},
        timed=False,
    )


def _domain(messages: list[_Message]) -> str:
    policy = next((m.content for m in messages if m.role == "system" and m.content), "")
    found = re.match(r"# (\w+) agent policy", policy, re.IGNORECASE)
    return found[1].lower() if found else "bench"


def _reason(reward: float, judged: _RewardInfo | None) -> str | None:
    if reward >= 1:
        return None
    parts = judged.info.items() if judged else ()
    missed = (name[2:] for name, value in parts if name.startswith("r_") and value != 1)
    return f"outcome_{next(missed, 'reward')}"


def _message(message: _Message, time_ns: int) -> Message:
    m = message
    is_tool = m.role == "tool"
    return Message(
        role="tool" if is_tool else "user" if m.role == "user" else "assistant",
        time_ns=time_ns,
        by_user=m.role == "user",
        text=m.content,
        calls=tuple(Call(c.id, c.function.name, c.function.arguments) for c in m.tool_calls or ()),
        call_id=m.tool_call_id,
        # tau-bench has no flag: an error is a result that begins with the word.
        error=is_tool and (m.content or "").startswith("Error"),
        model_call=m.role == "assistant",
    )
