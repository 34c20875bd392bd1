"""The reason codes as data. Their order is the order of precedence: the first is the primary one.

The names of other vocabularies are those of MAST (arXiv 2503.13657), TRAIL (arXiv 2505.08638),
AgentRx (microsoft/AgentRx) and ToolScan (arXiv 2411.13547).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["fails", "fails_session", "marks"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Something that the events show to have gone wrong.

    Attributes
    ----------
    code
        Stable name, stored with results.
    sentence
        What it says, for people.
    severity
        Default: ``fails`` makes an interaction or session a failure, ``fails_session`` a session
        only, ``marks`` neither. Decided by the precision in docs/outcomes.md.
    threshold, unit
        The smallest measure that counts, and what is measured.
    mast, trail, agentrx, toolscan
        Its name in other vocabularies, None where there is none.
    """

    code: str
    sentence: str
    severity: Severity
    threshold: float
    unit: str
    mast: str | None = None
    trail: str | None = None
    agentrx: str | None = None
    toolscan: str | None = None


_ADHERENCE: Final = "Instruction/Plan Adherence Failure"
_INVOCATION: Final = "Invalid Invocation"

REASONS: Final[tuple[Reason, ...]] = (
    Reason(
        "budget_exceeded", "A budget of steps, time, tokens or cost was exceeded.",
        "fails", 1.0, "share of the budget",
        "1.5 unaware of termination conditions", "resource abuse",
    ),
    Reason(
        "problem_persists", "The latest run of a check still reports the problem.",
        "fails_session", 1.0, "checks",
        "3.2 no or incomplete verification", "goal deviation",
    ),
    Reason(
        "success_claimed_after_error", "The answer claims success although the last call failed.",
        "marks", 1.0, "failed calls",
        "3.3 incorrect verification", "tool output misinterpretation",
        "Misinterpretation of Tool Output",
    ),
    Reason(
        "tool_error_unrecovered", "A tool call failed and no later call succeeded.",
        "fails_session", 1.0, "failed calls",
        None, "service error", "System Failure",
    ),
    Reason(
        "unanswered", "The user got no answer.",
        "fails", 1.0, "requests",
        "3.1 premature termination", "instruction non-compliance", _ADHERENCE,
        "insufficient API calls",
    ),
    Reason(
        "empty_answer", "The answer was empty.",
        "fails", 1.0, "answers",
        "3.1 premature termination", "instruction non-compliance", _ADHERENCE,
    ),
    Reason(
        "truncated_answer", "The model stopped at its output limit.",
        "marks", 1.0, "answers",
        "3.1 premature termination", "instruction non-compliance", _ADHERENCE,
    ),
    Reason(
        "retry_storm", "The same tool failed several times in a row.",
        "marks", 3.0, "failures in a row",
        "1.3 step repetition", "resource abuse", _ADHERENCE, "repeated API calls",
    ),
    Reason(
        "unknown_tool", "A tool was called that does not exist.",
        "marks", 1.0, "calls",
        None, "tool selection error", _INVOCATION, "incorrect function name",
    ),
    Reason(
        "bad_arguments", "A tool was called with arguments that do not fit it.",
        "marks", 1.0, "calls",
        None, "formatting error", _INVOCATION, "incorrect argument name or type",
    ),
    Reason(
        "hallucinated_identifier", "A call used an identifier that appears nowhere before it.",
        "marks", 2.0, "1 used, 2 used and the call failed",
        None, "tool-related hallucination", "Invention of New Information",
        "incorrect argument value",
    ),
    Reason(
        "tool_loop", "The same call was repeated and gave the same result.",
        "marks", 3.0, "equal calls",
        "1.3 step repetition", "resource abuse", _ADHERENCE, "repeated API calls",
    ),
    Reason(
        "oscillation", "Two calls alternated without end.",
        "marks", 6.0, "calls that alternate",
        "1.3 step repetition", "resource abuse", _ADHERENCE, "repeated API calls",
    ),
    Reason(
        "error_shown_to_user", "The answer shows or admits a technical error.",
        "marks", 1.0, "answers",
        "2.4 information withholding", "service error", "System Failure",
    ),
    Reason(
        "refusal", "The agent declined the request.",
        "marks", 1.0, "answers",
        None, None, "Guardrails Triggered",
    ),
    Reason(
        "handoff_to_human", "The agent handed over to a human.",
        "marks", 1.0, "hand-offs",
        None, None, "Intent Not Supported",
    ),
    Reason(
        "restarted_conversation", "The agent began the conversation again.",
        "marks", 1.0, "restarts",
        "2.1 conversation reset", "context handling failure",
    ),
    Reason(
        "repeated_request", "The user asked again for the same.",
        "marks", 0.8, "similarity",
        "1.4 loss of conversation history", "context handling failure", _ADHERENCE,
    ),
    Reason(
        "abandoned", "The user left before the end.",
        "marks", 1.0, "sessions",
        "3.1 premature termination",
    ),
)  # fmt: skip

CODES: Final = tuple(reason.code for reason in REASONS)
BY_CODE: Final = {reason.code: reason for reason in REASONS}
