"""Where numbers lead: from a rate to the interactions behind it, from those to the conversation."""

from __future__ import annotations

from typing import Final

from dashboards import panels
from dashboards.query import Json

OVERVIEW: Final = "driftline-overview"
AGENT: Final = "driftline-agent"
SESSIONS: Final = "driftline-sessions"
INCIDENTS: Final = "driftline-incidents"
FAILURES: Final = "driftline-failures"
VERSIONS: Final = "driftline-versions"
EVALUATORS: Final = "driftline-evaluators"
COST: Final = "driftline-cost"
PIPELINE: Final = "driftline-pipeline"

_CHOSEN: Final = ("environment", "agent", "version")

INTERACTIONS: Final = panels.link("The interactions", SESSIONS, _CHOSEN)
FAILED: Final = panels.link("The failed interactions", SESSIONS, _CHOSEN, outcome="failed")
FAILED_OF_AGENT: Final = panels.link(
    "The failed interactions", SESSIONS, ("environment",), agent="@agent", outcome="failed"
)
OF_AGENT: Final = panels.link("The interactions", SESSIONS, ("environment",), agent="@agent")

_TO_AGENT: Final = panels.link("The agent", AGENT, environment=".environment", agent=".agent")
_TO_VERSION: Final = panels.link(
    "The interactions of this version",
    SESSIONS,
    environment=".environment",
    agent=".agent",
    version=".agent_version",
)
_TO_INTERACTION: Final = panels.link(
    "The conversation", SESSIONS, session=".session_id", interaction=".interaction_id"
)
_TO_EXAMPLE: Final = panels.link("The interaction", SESSIONS, interaction=".interaction_id")
_TO_SESSION: Final = panels.link("The conversation", SESSIONS, session=".session_id")

BY_VERSION: Final[dict[str, Json]] = {"agent": _TO_AGENT, "agent_version": _TO_VERSION}
BY_AGENT: Final[dict[str, Json]] = {"agent": _TO_AGENT}
BY_INTERACTION: Final[dict[str, Json]] = {
    **BY_AGENT,
    "interaction_id": _TO_INTERACTION,
    "session_id": _TO_SESSION,
}
BY_SESSION: Final[dict[str, Json]] = {**BY_AGENT, "session_id": _TO_SESSION}
BY_EXAMPLE: Final[dict[str, Json]] = {
    "interaction_id": _TO_EXAMPLE,
    "fingerprint": panels.link("The failed interactions", SESSIONS, search=".fingerprint"),
}
BY_CLUSTER: Final[dict[str, Json]] = {**BY_AGENT, "interaction_id": _TO_EXAMPLE}
BY_TOOL: Final[dict[str, Json]] = {
    "tool": panels.link(
        "Interactions that failed in it", SESSIONS, search=".tool", outcome="failed"
    )
}
