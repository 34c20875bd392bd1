"""Interactions and sessions of the time range with what is known of their success and rating.

An explicit outcome decides success (the lowest, where several are given; 0.5 and more is success),
else the status of the closing event. Feedback on an interaction rates it and its session. These are
the definitions of `dashboards.agent_report`, bounded in time for panels that are drawn all day.
"""

from __future__ import annotations

from typing import Final

from dashboards.query import SELECTED

CELLS_OF_RANGE: Final = """interaction_cells
WHERE cell >= $__fromTime - INTERVAL 10 SECOND AND cell <= $__toTime"""

ENDED_HERE: Final = f"""$__timeFilter(end) AND {SELECTED}
    AND interaction_id IN (SELECT interaction_id FROM {CELLS_OF_RANGE})"""
"""Condition on the view ``interactions``: selected, and the last event lies in the time range.

The list of ids follows from the time. It is there because the view adds up cells, and without it
the cells of all times would be added up first.
"""

_JUDGED: Final = f"""
(
    SELECT target, minIf(value, kind = 'outcome') AS verdict,
        sumIf(value, kind = 'feedback') AS total, countIf(kind = 'feedback') AS given
    FROM current_evaluations
    WHERE kind IN ('outcome', 'feedback') AND value IS NOT NULL AND target IN
    (
        SELECT arrayJoin([interaction_id, session_id]) FROM {CELLS_OF_RANGE}
    )
    GROUP BY target
)"""


def _success(verdict: str, status: str) -> str:
    return (
        f"multiIf({verdict} IS NOT NULL, {verdict} >= 0.5, {status} = 'ok', 1, "
        f"{status} = 'error', 0, NULL)"
    )


INTERACTIONS: Final = f"""
(
    SELECT environment, agent, agent_version, session_id, interaction_id, start, end,
        duration_ms, cost_usd, status, {_success("judged.verdict", "status")} AS success,
        if(judged.given > 0, judged.total / judged.given, NULL) AS rating
    FROM interactions LEFT JOIN {_JUDGED} AS judged ON judged.target = interaction_id
    WHERE {ENDED_HERE}
)"""
"""Interactions that ended in the time range; ``success`` and ``rating`` are NULL when unknown."""

SESSIONS: Final = f"""
(
    SELECT session_id,
        argMin(i.environment, (i.start, interaction_id)) AS environment,
        argMin(i.agent, (i.start, interaction_id)) AS agent,
        argMin(i.agent_version, (i.start, interaction_id)) AS agent_version,
        count() AS interactions, min(i.start) AS start, max(i.end) AS end,
        argMax(i.status, (i.end, interaction_id)) AS last_status,
        min(own.verdict) AS verdict, {_success("verdict", "last_status")} AS success,
        sum(judged.given) + any(own.given) AS given,
        if(given > 0, (ifNull(sum(judged.total), 0) + ifNull(any(own.total), 0)) / given, NULL)
            AS rating
    FROM (SELECT * FROM interactions WHERE {ENDED_HERE}) AS i
    LEFT JOIN {_JUDGED} AS judged ON judged.target = i.interaction_id
    LEFT JOIN {_JUDGED} AS own ON own.target = i.session_id
    GROUP BY session_id
)"""
"""Sessions with an interaction that ended in the time range, from those interactions."""
