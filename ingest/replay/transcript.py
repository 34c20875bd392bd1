"""A recorded conversation of messages becomes events; what tau2 and tau-bench runs share.

A user request is one interaction: it begins with the first thing the user does after the agent's
last answer and ends with the agent's next last answer. The agent's greeting belongs to the first
request, the user's goodbye to the last. Everything is a function of the transcript, event ids
included, so a second reading yields the same events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from ingest.core.events import Event
from ingest.otlp.truncation import attributes, content, label

MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Call:
    """A request to run a tool, by the agent or by the user."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``time_ns`` is when it was complete.

    Attributes
    ----------
    by_user
        A user's message, or the result of a tool that the user ran.
    call_id
        For a tool's result: the call it answers.
    model_call
        The message came out of a model, whose tokens and cost follow.
    """

    role: Literal["user", "assistant", "tool"]
    time_ns: int
    by_user: bool = False
    text: str | None = None
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    error: bool = False
    model_call: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation with its judgement.

    Attributes
    ----------
    failure
        Why the run was cut off; None when it ended by itself.
    value, reason, rule_version
        The outcome of the whole conversation, None when there is no judgement.
    timed
        Times were recorded. Otherwise steps get no duration: not known is not zero.
    """

    session_id: str
    agent: str
    agent_version: str | None
    model: str | None
    start_ns: int
    end_ns: int
    messages: Sequence[Message]
    failure: str | None
    failure_message: str | None
    value: float | None
    reason: str | None
    rule_version: str | None
    attributes: dict[str, str | None]
    timed: bool = True


def events(transcript: Transcript) -> Iterator[Event]:
    """Events of a conversation: step by step, a closing event per request, the outcome last."""
    t = transcript
    new = partial(Event, agent=t.agent, agent_version=t.agent_version, session_id=t.session_id)
    calls = {call.id: call for message in t.messages for call in message.calls}
    requests = _requests(t.messages, keep_unanswered=t.failure is not None)
    ends = [request[-1][1].time_ns for request in requests[:-1]] + [t.end_ns]
    starts = [t.start_ns] + [request[0][1].time_ns for request in requests[1:]]
    before_ns = t.start_ns
    for number, request in enumerate(requests):
        interaction_id = f"{t.session_id}:{number}"
        closing_id = f"{interaction_id}:interaction"
        step = partial(new, interaction_id=interaction_id)
        caller = closing_id
        for index, message in request:
            here = f"{t.session_id}:{index}"
            took = (message.time_ns - before_ns) / MS if t.timed else None
            before_ns = message.time_ns
            at = partial(step, time_unix_nano=message.time_ns)
            if message.role == "tool":
                call = calls.get(message.call_id or "")
                yield _tool_event(at, here, caller, message, call, took)
                continue
            if message.model_call:
                caller = f"{here}:llm"
                yield at(
                    event_id=caller,
                    kind="llm_call",
                    parent_id=closing_id,
                    duration_ms=took,
                    model=label(t.model),
                    input_tokens=message.input_tokens,
                    output_tokens=message.output_tokens,
                    cost_usd=message.cost_usd,
                )
            if message.text:
                yield at(
                    event_id=f"{here}:{message.role}",
                    kind="user_message" if message.by_user else "agent_message",
                    parent_id=closing_id,
                    content=content(message.text),
                )
        cut = number == len(requests) - 1 and t.failure is not None
        yield step(
            event_id=closing_id,
            kind="interaction",
            time_unix_nano=ends[number],
            duration_ms=(ends[number] - starts[number]) / MS,
            status="error" if cut else "ok",
            error_type=label(t.failure) if cut else None,
            error_message=content(t.failure_message) if cut else None,
            attributes=attributes(t.attributes),
        )
    if t.value is not None:
        yield new(
            event_id=f"{t.session_id}:outcome",
            kind="outcome",
            time_unix_nano=t.end_ns,
            name="task_reward",
            value=t.value,
            reason=label(t.reason),
            rule_version=label(t.rule_version),
            target=t.session_id,
            attributes=attributes(t.attributes),
        )


def _requests(
    messages: Sequence[Message], *, keep_unanswered: bool
) -> list[list[tuple[int, Message]]]:
    requests: list[list[tuple[int, Message]]] = [[]]
    asked = answered = False
    for index, message in enumerate(messages):
        if message.by_user and asked and answered:
            requests.append([])
            answered = False
        requests[-1].append((index, message))
        asked = asked or message.by_user
        answered = answered or (asked and not message.by_user)
    if len(requests) > 1 and not answered and not keep_unanswered:
        goodbye = requests.pop()
        requests[-1] += goodbye
    return requests


def _tool_event(
    at: partial[Event],
    here: str,
    caller: str,
    message: Message,
    call: Call | None,
    took: float | None,
) -> Event:
    return at(
        event_id=f"{here}:tool",
        # What the user did with a tool of his own is the user's part, and so is the time it took.
        kind="human_input" if message.by_user else "tool_call",
        parent_id=caller,
        duration_ms=None if message.by_user else took,
        name=label(call.name) if call else None,
        status="error" if message.error else "ok",
        error_type="tool_error" if message.error else None,
        error_message=content(message.text) if message.error else None,
        tool_arguments=content(call.arguments) if call else None,
        tool_result=content(message.text),
    )
