"""Work items, states of a decision, and the version rule that makes arrival in any order equal."""

from __future__ import annotations

from typing import Final

import msgspec

RANKS: Final = {
    "not_ready": 0,
    "filtered": 1,
    "sampled_out": 1,
    "pending": 2,
    "over_budget": 3,
    "overloaded": 3,
    "failed": 4,
    "refused": 5,
    "done": 6,
}
"""States of a decision. Of one content and round the highest counts, so a slow writer undoes
nothing; new content, or another round, begins again."""

SETTLED: Final = tuple(state for state, rank in RANKS.items() if rank > RANKS["pending"])


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One target for one evaluator, as it travels on ``driftline.evaluate``.

    Attributes
    ----------
    content
        Version of what is judged: the target's events.
    round
        0 live, raised by each backfill, ``run`` is which.
    at
        Event time of the scores, ns since 1970.
    live
        Whether event time follows the clock.
    """

    evaluator: str
    evaluator_version: str
    target_kind: str
    target: str
    content: int
    round: int = 0
    run: str = ""
    environment: str = ""
    agent: str = ""
    session_id: str = ""
    end: int = 0
    at: int = 0
    purpose: str = "live"

    @property
    def key(self) -> str:
        """What is judged at most once: a version of an evaluator on a version of a target."""
        return f"{self.evaluator_version}:{self.target}:{self.content}:{self.round}:{self.purpose}"

    @property
    def account(self) -> str:
        """Whose budget pays."""
        return f"{self.evaluator}:{self.run}" if self.run else self.evaluator


def version(content: int, round_: int, state: str) -> int:
    """Version of a row of ``evaluation_decisions``.

    >>> version(5, 0, "done") < version(5, 1, "pending") < version(6, 0, "not_ready")
    True
    """
    return (content << 16) | (round_ << 8) | RANKS[state]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Item).decode
