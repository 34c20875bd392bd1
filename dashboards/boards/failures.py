"""The dashboard `driftline-failures`: which failures matter, and which are new."""

from __future__ import annotations

from dashboards import panels
from dashboards.boards import agent as agents
from dashboards.boards import links
from dashboards.query import Json, agent, environment, overlays, version

_WIDTHS = {"template": 380}


def build() -> Json:
    """Dashboard for people who repair an agent."""
    return panels.dashboard(
        links.FAILURES,
        "Driftline failures",
        "Which failures hit most people, which are new, and what do they look like?",
        [
            ("Groups", [groups(), new()]),
            ("Clusters", [clusters()]),
            ("Where", [agents.reasons(), by_tool()]),
            ("Examples", [examples()]),
        ],
        variables=[environment(), agent(), version()],
        annotations=overlays(),
        time_from="now-24h",
    )


def groups() -> Json:
    """Failed interactions, grouped by fingerprint."""
    return panels.table(
        60,
        "Failure groups",
        "Failed interactions that share reason, tool and message (what varies is masked), ranked "
        "by the users they hit. Rating is the mean feedback of those that got any.",
        "failures.groups",
        {"share": "percentunit", "cost": "currencyUSD", "rating": "percentunit"},
        height=10,
        widths=_WIDTHS,
        links=links.BY_EXAMPLE,
    )


def new() -> Json:
    """Failures that the period before did not have."""
    return panels.table(
        62,
        "New failures",
        "Groups that the period of the same length before did not have, with the first example.",
        "failures.new",
        {},
        widths=_WIDTHS,
        links=links.BY_EXAMPLE,
    )


def clusters() -> Json:
    """Failure clusters, new and returned ones first."""
    return panels.table(
        65,
        "Failure clusters",
        "Kinds of failure with an id that lasts, which failures of different wording can share. "
        "New and regressed ones come first. Share: failures of n interactions since the first. "
        "`driftline clusters show ID` has examples and lineage.",
        "failures.clusters",
        {"share": "percentunit"},
        widths={"name": 380},
        links=links.BY_CLUSTER,
    )


def by_tool() -> Json:
    """Failures by tool and reason."""
    return panels.table(
        63,
        "Failures by tool and reason",
        "Failed interactions by the tool that failed last in them and by their primary reason.",
        "failures.by_tool",
        {},
        width=12,
        links=links.BY_TOOL,
    )


def examples() -> Json:
    """Latest failed interactions."""
    return panels.table(
        64,
        "Latest failures",
        "The latest failed interactions with what was asked. Click an id to read the conversation.",
        "failures.examples",
        {},
        widths={"template": 300, "request": 380},
        links=links.BY_INTERACTION,
    )
