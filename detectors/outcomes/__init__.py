"""What events say about the outcome of an interaction, and its results about that of a session.

::

    reasons    the reason codes as data: sentence, threshold, what fails, other vocabularies
    config     switches, thresholds and budgets per agent
    traffic    events in one order, each once, as frames of tool work and of messages
    wording    refusals, claims and error texts in English and Chinese
    tools      reasons read from tool calls
    answers    reasons read from messages
    budgets    reasons read from steps, time, tokens and cost
    evaluate   `interaction_reasons`, from events
    sessions   `session_reasons`, from the results of interactions

The guide, with the measured precision of every reason, is docs/outcomes.md.
"""

from detectors.outcomes.config import AgentOutcomes, Budget, OutcomeConfig
from detectors.outcomes.evaluate import interaction_reasons
from detectors.outcomes.reasons import REASONS, Reason
from detectors.outcomes.sessions import session_reasons
from detectors.outcomes.traffic import Traffic

__all__ = [
    "REASONS",
    "AgentOutcomes",
    "Budget",
    "OutcomeConfig",
    "Reason",
    "Traffic",
    "interaction_reasons",
    "session_reasons",
]
