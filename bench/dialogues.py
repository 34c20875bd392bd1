"""Recorded dialogues with a human verdict: BETOLD's acts and Topical-Chat's rated turns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.pairs import data_folder
from ingest.core.events import Event

RATINGS: Final = {"Poor": 0.0, "Not Good": 0.25, "Passable": 0.45, "Good": 0.75, "Excellent": 1.0}
"""As feedback from 0 to 1; below one half is low."""

_S: Final = 10**9
_EPOCH_NS: Final = 1_735_689_600 * _S


@dataclass(frozen=True, slots=True)
class Acts:
    """Dialogues as acts, and whether the user hung up or asked for a human late in the call."""

    dialogues: list[tuple[str, ...]]
    failed: NDArray[np.bool_]

    def without_last(self, utterances: int) -> list[tuple[str, ...]]:
        """The dialogues without their last utterances."""
        return [acts[:-utterances] for acts in self.dialogues]


def betold() -> Acts | None:
    """BETOLD's validation file; None without it."""
    path = data_folder() / "betold_valid.jsonl.gz"
    if not path.is_file():
        return None
    rows = [row.get("record", row) for row in _lines(path)]
    dialogues = [
        tuple(f"{said['caller_name']}:{said['intent']}" for said in row["utterances_annotations"])
        for row in rows
    ]
    return Acts(dialogues, np.array([row["LUHF"] == "luhf" for row in rows]))


def topical_chat() -> list[Event] | None:
    """Topical-Chat as events; None without the file.

    Every conversation is two sessions: in each, one side is the user and the other the agent, whose
    turns the user rated. A rated turn is the answer of an interaction and the rating its feedback.
    """
    path = data_folder() / "topicalchat_valid_freq.jsonl.gz"
    if not path.is_file():
        return None
    return [
        event
        for number, row in enumerate(_lines(path))
        for agent in ("agent_1", "agent_2")
        for event in _session(number, row.get("record", row)["content"], agent)
    ]


def _session(number: int, turns: list[dict[str, Any]], agent: str) -> Iterator[Event]:
    session = f"topical-chat:{number}:{agent}"
    start_ns = _EPOCH_NS + number * 3600 * _S
    interaction = -1
    for place, turn in enumerate(turns):
        by_agent = turn["agent"] == agent
        interaction += not by_agent
        if interaction < 0:
            continue
        base: dict[str, Any] = {
            "agent": "topical_chat",
            "session_id": session,
            "interaction_id": f"{session}:{interaction}",
            "time_unix_nano": start_ns + place * _S,
        }
        kind = "agent_message" if by_agent else "user_message"
        yield Event(event_id=f"{session}:{place}", kind=kind, content=turn["message"], **base)  # type: ignore[arg-type]
        if by_agent and turn["turn_rating"] in RATINGS:
            yield Event(
                event_id=f"{session}:{place}:rating",
                kind="feedback",
                name="turn_rating",
                value=RATINGS[turn["turn_rating"]],
                target=f"{session}:{interaction}",
                **base,
            )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def conversations(sessions: pl.Series) -> NDArray[Any]:
    """The conversation of each session of `topical_chat`: both sides of it go together."""
    return sessions.str.replace(":agent_[12]$", "").to_numpy()


def shipped_recordings() -> Iterator[tuple[str, pl.DataFrame]]:
    """What the shipped estimator is fitted to: dialogues of users with agents, and their reward.

    Topical-Chat is left out: people who chat say "terrible" of their topic, not of the answer.
    """
    from bench.outcomes import FILES, read_all

    for name in FILES:
        found = read_all(name)
        if found is not None and {"user_message", "outcome"} <= set(found["kind"]):
            yield name, found
