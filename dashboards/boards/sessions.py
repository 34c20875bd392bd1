"""The dashboard `driftline-sessions`: find interactions, and read a whole conversation."""

from __future__ import annotations

from dashboards import panels
from dashboards.boards import links
from dashboards.query import (
    Json,
    agent,
    choice_variable,
    environment,
    overlays,
    text_variable,
    version,
)


def build() -> Json:
    """Dashboard that every number leads to."""
    return panels.dashboard(
        links.SESSIONS,
        "Driftline sessions",
        "Which interactions are behind a number, and what was said in them?",
        [
            ("Found", [interactions(), sessions()]),
            ("The chosen conversation", [turns(), conversation(), evaluations()]),
            ("The chosen interaction", [turn()]),
        ],
        variables=[
            environment(),
            agent(),
            version(),
            choice_variable("outcome", "Outcome", ("failed", "succeeded", "unknown")),
            text_variable("search", "Search"),
            text_variable("session", "Session"),
            text_variable("interaction", "Interaction"),
        ],
        annotations=overlays(),
    )


_TURN = {"duration_ms": "ms", "waiting_ms": "ms", "cost_usd": "currencyUSD"}


def interactions() -> Json:
    """List the interactions of the choice."""
    return panels.table(
        40,
        "Interactions",
        "The latest 200 interactions of the choice. Search looks into requests and error messages "
        "and finds ids, users, tools and fingerprints. Click an id to read the conversation.",
        "sessions.interactions",
        {"satisfaction": "percentunit", "duration": "ms", "cost": "currencyUSD"},
        height=10,
        widths={"request": 380},
        links=links.BY_INTERACTION,
    )


def sessions() -> Json:
    """List the sessions of the choice."""
    return panels.table(
        41,
        "Sessions",
        "The latest 200 conversations of the choice; search looks into requests and answers.",
        "sessions.search",
        {"satisfaction": "percentunit", "duration": "ms", "cost": "currencyUSD"},
        widths={"request": 380},
        links=links.BY_SESSION,
    )


def turns() -> Json:
    """List the interactions of one session in order."""
    return panels.table(
        42,
        "Turns",
        "The interactions of the session named above, in order: what was asked, what was "
        "answered, and what became of it.",
        "sessions.turns",
        _TURN,
        widths={"request": 380, "answer": 380},
    )


def conversation() -> Json:
    """List all events of one session in order."""
    return panels.table(
        43,
        "Conversation",
        "Everything that happened in the session named above, in order: messages, model calls, "
        "tool calls with arguments and results.",
        "sessions.conversation",
        {"duration": "ms", "cost": "currencyUSD"},
        height=14,
        widths={"text": 480, "arguments": 280},
    )


def evaluations() -> Json:
    """List what was said of one session."""
    return panels.table(
        44,
        "Feedback, scores and outcomes",
        "What users, judges and outcomes said of the session named above or of its interactions.",
        "sessions.session_evaluations",
        {},
    )


def turn() -> Json:
    """Show one interaction."""
    return panels.table(
        45,
        "Interaction",
        "The interaction named above, with the others of its trace if there are any.",
        "sessions.turn",
        _TURN,
        widths={"request": 380, "answer": 380},
        links=links.BY_SESSION,
    )
