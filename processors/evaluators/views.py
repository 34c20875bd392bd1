"""What of a target an evaluator sees: its turns, as much of them as the view names. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from processors.evaluators.spec import View

_SPEECH: Final = {"user_message": "user", "agent_message": "agent"}
_CALLS: Final = ("tool_call", "retrieval")
_TOOL_TEXT: Final = 2_000
"""Characters shown of the arguments and of the result of one call."""


@dataclass(frozen=True, slots=True)
class Case:
    """A target with everything that evaluators may look at.

    Attributes
    ----------
    result
        Its row of ``interactions`` or ``sessions``.
    turns
        What was said and called, in order: ``role`` user, agent or tool, ``text``, and for a tool
        ``name``, ``arguments`` and ``error``.
    """

    target: str
    result: Mapping[str, Any]
    turns: Sequence[Mapping[str, Any]]

    @property
    def answer(self) -> str:
        """The last thing that the agent said."""
        said = (turn["text"] for turn in reversed(self.turns) if turn["role"] == "agent")
        return next(said, self.result.get("answer") or "")

    @property
    def tools(self) -> list[str]:
        """Names of the tools called, in order."""
        return [turn["name"] for turn in self.turns if turn["role"] == "tool"]


def turns_of(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns of events in order of time.

    Where an agent span says what was asked and told, its model calls are not asked as well.
    """
    events = list(events)
    spoken = {e["interaction_id"] for e in events if e["kind"] in _SPEECH and not e["of_call"]}
    turns: list[dict[str, Any]] = []
    for event in events:
        kind = event["kind"]
        if kind in _SPEECH and event["of_call"] and event["interaction_id"] in spoken:
            continue
        if kind in _SPEECH and event["content"]:
            turn = {"role": _SPEECH[kind], "text": event["content"]}
        elif kind in _CALLS:
            turn = {
                "role": "tool",
                "name": event["name"],
                "arguments": event["tool_arguments"][:_TOOL_TEXT],
                "text": event["tool_result"][:_TOOL_TEXT],
                "error": event["error_message"] or event["status"] == "error",
            }
        else:
            continue
        turns.append(turn)
    return turns


def shown(case: Case, view: View, characters: int) -> str:
    """The view of a target as JSON, in which nothing of it can pass for an instruction.

    Where it is longer than ``characters``, turns of the middle are left out and counted.

    Examples
    --------
    >>> turns = [{"role": "user", "text": "hi"}, {"role": "agent", "text": "hello"}]
    >>> shown(Case("s", {}, turns), "first_last", 1000)
    '[{"role": "user", "text": "hi"}, {"role": "agent", "text": "hello"}]'
    """
    turns = _chosen(case, view)
    share = max(characters // 4, 100)
    lines = [_json(_cut(turn, share)) for turn in turns]
    if sum(map(len, lines)) > characters:
        lines = _middle_out(lines, characters)
    return "[" + ", ".join(lines) + "]"


def _chosen(case: Case, view: View) -> list[Mapping[str, Any]]:
    speech = [turn for turn in case.turns if turn["role"] != "tool"]
    if not speech:  # content was not kept turn by turn, or not at all
        known = (("user", case.result.get("request")), ("agent", case.result.get("answer")))
        speech = [{"role": role, "text": text} for role, text in known if text]
    if view == "pairs":
        return speech
    asked = [turn for turn in speech if turn["role"] == "user"][:1]
    told = [turn for turn in speech if turn["role"] == "agent"][-1:]
    if view == "first_last":
        return asked + told
    if view == "digest":
        calls = Counter((t["name"], bool(t["error"])) for t in case.turns if t["role"] == "tool")
        steps = [
            {"role": "tool", "name": name, "calls": n, "failed": failed}
            for (name, failed), n in calls.items()
        ]
        return [*asked, *steps, {"role": "count", "turns": len(case.turns)}, *told]
    return list(case.turns) if len(case.turns) >= len(speech) else list(speech)


def _cut(turn: Mapping[str, Any], characters: int) -> Mapping[str, Any]:
    text = turn.get("text")
    if not isinstance(text, str) or len(text) <= characters:
        return turn
    half = characters // 2
    left_out = f" [{len(text) - 2 * half} characters left out] "
    return {**turn, "text": text[:half] + left_out + text[-half:]}


def _middle_out(lines: list[str], characters: int) -> list[str]:
    """As many of the first and last lines, in turns, as fit."""
    head: list[str] = []
    tail: list[str] = []
    room, at = characters, 0
    while len(head) + len(tail) < len(lines):
        side, line = (head, lines[len(head)]) if at % 2 == 0 else (tail, lines[-1 - len(tail)])
        if len(line) > room:
            break
        side.append(line)
        room, at = room - len(line), at + 1
    left_out = _json({"role": "count", "left_out": len(lines) - len(head) - len(tail)})
    return [*head, left_out, *reversed(tail)]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
