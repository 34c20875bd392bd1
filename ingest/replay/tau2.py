"""tau2-bench: a simulation is a session, each user request in it an interaction.

A record is either one simulation or a whole results file, whose ``info`` block names the domain
and the agent's model. Simulations taken out of such a file find their block by ``_source``: see
`load_info`. Times carry no zone and are read as UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from ingest.core.errors import Rejected
from ingest.core.events import Event, RejectionCode
from ingest.otlp.truncation import label, ns_from_iso
from ingest.replay import transcript
from ingest.replay.transcript import Call, Message, Transcript

NORMAL_ENDS: Final = frozenset({"user_stop", "agent_stop"})
"""Termination reasons of a run that ended by itself; any other is a failure."""


class _Agent(msgspec.Struct):
    llm: str | None = None


class _Environment(msgspec.Struct):
    domain_name: str


class Info(msgspec.Struct):
    """What a results file says about all its simulations."""

    agent_info: _Agent
    environment_info: _Environment
    git_commit: str | None = None


class Source(msgspec.Struct, frozen=True):
    """Which file of which commit a record was taken from."""

    path: str
    commit: str | None = None


class _InfoRecord(msgspec.Struct):
    info: Info
    source: Source = msgspec.field(name="_source")


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _ToolCall(msgspec.Struct):
    name: str
    id: str = ""
    arguments: Any = msgspec.field(default_factory=dict)


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "tool", "system"]
    timestamp: str
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    usage: _Usage | None = None
    cost: float | None = None
    id: str | None = None
    requestor: str | None = None
    error: bool | None = None


class _RewardInfo(msgspec.Struct):
    reward: float
    reward_basis: list[str] | None = None
    reward_breakdown: dict[str, float] | None = None
    info: dict[str, Any] | None = None


class _Simulation(msgspec.Struct):
    id: str
    start_time: str
    end_time: str
    termination_reason: str
    messages: list[_Message]
    reward_info: _RewardInfo | None = None
    task_id: str | int | None = None
    trial: int | None = None
    seed: int | None = None
    source: Source | None = msgspec.field(name="_source", default=None)


class _Results(msgspec.Struct):
    simulations: list[msgspec.Raw] | None = None
    info: Info | None = None


_results = msgspec.json.Decoder(_Results)
_simulation = msgspec.json.Decoder(_Simulation)
_info = msgspec.json.Decoder(_InfoRecord)


def recognises(record: Any) -> bool:
    """Tell whether a decoded JSON value is a simulation or a results file."""
    return isinstance(record, dict) and (
        "simulations" in record or {"messages", "termination_reason"} <= record.keys()
    )


def load_info(records: Iterable[bytes]) -> dict[Source, Info]:
    """Index info records by the file they describe.

    Raises
    ------
    Rejected
        When a record is not an info record.
    """
    try:
        return {record.source: record.info for record in map(_info.decode, records)}
    except msgspec.DecodeError as error:
        raise Rejected(RejectionCode.INVALID_FIELD, f"info record: {error}") from None


def read(
    record: bytes, infos: Mapping[Source, Info] | None = None, agent: str | None = None
) -> Iterator[Event | Rejected]:
    """Events of one simulation or of a whole results file.

    Parameters
    ----------
    record
        JSON text.
    infos
        From `load_info`, for simulations outside of their file.
    agent
        Name to use instead of the domain.

    Yields
    ------
    Event or Rejected
        A simulation that cannot be read is one rejection.
    """
    results = _results.decode(record)
    simulations = [msgspec.Raw(record)] if results.simulations is None else results.simulations
    for raw in simulations:
        try:
            simulation = _simulation.decode(raw)
            info = results.info or _find(simulation, infos or {}, agent)
            yield from transcript.events(_transcript(simulation, info, agent))
        except Rejected as rejected:
            yield rejected
        except (msgspec.DecodeError, ValueError) as error:
            yield Rejected(RejectionCode.INVALID_FIELD, f"simulation: {error}")


def _find(simulation: _Simulation, infos: Mapping[Source, Info], agent: str | None) -> Info | None:
    info = infos.get(simulation.source) if simulation.source else None
    if info is None and agent is None:
        raise Rejected(
            RejectionCode.MISSING_FIELD,
            "info: no info record for this simulation; give --info FILE or --agent NAME",
        )
    return info


def _transcript(simulation: _Simulation, info: Info | None, agent: str | None) -> Transcript:
    s = simulation
    model = info.agent_info.llm if info else None
    domain = info.environment_info.domain_name if info else None
    failure = None if s.termination_reason in NORMAL_ENDS else s.termination_reason
    reward = s.reward_info
    note = (reward.info or {}).get("note") if reward else None
    return Transcript(
        session_id=label(s.id) or "",
        agent=label(agent or domain) or "",
        agent_version=label(model),
        model=model,
        start_ns=ns_from_iso(s.start_time),
        end_ns=ns_from_iso(s.end_time),
        messages=[_message(message) for message in s.messages if message.role != "system"],
        failure=failure,
        failure_message=note if failure and isinstance(note, str) else None,
        value=reward.reward if reward else None,
        reason=failure or (_reason(reward) if reward else None),
        rule_version=f"tau2@{info.git_commit[:12]}" if info and info.git_commit else None,
        attributes={
            "tau2.task_id": None if s.task_id is None else str(s.task_id),
            "tau2.trial": None if s.trial is None else str(s.trial),
            "tau2.seed": None if s.seed is None else str(s.seed),
            "tau2.termination_reason": s.termination_reason,
        },
    )


def _reason(reward: _RewardInfo) -> str | None:
    """Code of the first part of the reward that was not earned."""
    if reward.reward >= 1:
        return None
    parts = reward.reward_breakdown or {}
    missed = (part for part in reward.reward_basis or () if parts.get(part, 1.0) < 1)
    return f"outcome_{next(missed, 'reward').lower()}"


def _message(message: _Message) -> Message:
    m = message
    usage = m.usage or _Usage()
    return Message(
        role="user" if m.role == "user" else "tool" if m.role == "tool" else "assistant",
        time_ns=ns_from_iso(m.timestamp),
        by_user=m.role == "user" or (m.role == "tool" and m.requestor == "user"),
        text=m.content,
        calls=tuple(
            Call(c.id, c.name, msgspec.json.encode(c.arguments).decode())
            for c in m.tool_calls or ()
        ),
        call_id=m.id,
        error=m.error is True,
        # The user simulator's tokens and money are not the agent's.
        model_call=m.role == "assistant" and m.usage is not None,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        # The tool writes 0 for a model whose price it does not know.
        cost_usd=None if m.cost == 0 else m.cost,
    )
