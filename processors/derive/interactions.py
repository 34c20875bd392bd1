"""Interactions per cell of event time: one user request to its final answer, in parts.

What an interaction did in one cell is a function of that cell's events alone, so an interaction
that lasts a second and one that waits a week for a human cost the same, and events that reach
different workers never have to meet. The views ``interactions`` and ``sessions`` add the parts up.
"""

from __future__ import annotations

from typing import Final

from processors.write.cardinality import LabelSql

# What comes first is decided by one number, (time, payload_hash) in 128 bits: comparing tuples
# would take twice the time of the whole statement.
_FROM_EVENTS: Final = """
INSERT INTO interaction_cells
WITH
    (event_id, time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM collisions WHERE {where}) AS counted,
    toUnixTimestamp64Nano(time) AS ns,
    bitOr(bitShiftLeft(toUInt128(ns), 64), toUInt128(e.payload_hash)) AS rank,
    e.kind = 'interaction' AS is_root,
    -- An agent that another one called may close the same interaction: who was called by nobody
    -- speaks for it, else the earliest that closes, else the earliest. Times need 62 bits.
    multiIf(NOT is_root, 2, e.parent_id = '', 0, 1) AS depth,
    bitOr(rank, bitShiftLeft(toUInt128(depth), 126)) AS turn,
    bitOr(rank, bitShiftLeft(toUInt128(e.parent_id = ''), 126)) AS last,
    counted AND e.agent_version != '' AS versioned,
    counted AND is_root AS closes,
    counted AND NOT is_root AND e.status = 'error' AS fails,
    -- a closing event may carry totals of what its calls spent
    counted AND NOT is_root AS spends,
    counted AND e.kind = 'llm_call' AS calls_model,
    counted AND e.kind = 'tool_call' AS calls_tool
SELECT
    toStartOfInterval(time, INTERVAL 10 SECOND) AS cell, e.interaction_id AS interaction_id,
    bitShiftLeft(toUInt64({epoch}), 40) + count() + countIf(NOT counted) AS version,
    maxIf(if(e.parent_id = '', 2, 1), closes) AS root,
    argMinIf({environment}, turn, counted) AS environment,
    argMinIf({agent}, turn, counted) AS agent,
    -- a version that its closing event does not say may stand on its model calls
    if(argMinIf({agent}, turn, versioned) = agent,
        argMinIf({agent_version}, turn, versioned), '')
        AS agent_version,
    minIf(e.session_id, counted AND e.session_id != '') AS session_id,
    minIf(e.user_id, counted AND e.user_id != '') AS user_id,
    -- the contract allows durations that would begin before any date
    fromUnixTimestamp64Nano(minIf(
        greatest(0, ns - toInt64(least(ifNull(e.duration_ms, 0) * 1e6, 9e18))), counted))
        AS start,
    fromUnixTimestamp64Nano(maxIf(ns, counted)) AS end,
    countIf(counted) AS events,
    countIf(calls_model) AS llm_calls,
    countIf(calls_tool) AS tool_calls,
    countIf(calls_tool AND e.status = 'error') AS tool_errors,
    sumIf(ifNull(e.input_tokens, 0), spends) AS input_tokens,
    sumIf(ifNull(e.output_tokens, 0), spends) AS output_tokens,
    round(sumIf(round(ifNull(e.cost_usd, 0), 9), spends), 9) AS cost,
    countIf(spends AND e.cost_usd IS NOT NULL) AS priced,
    countIf(calls_model AND e.cost_usd IS NULL
        AND (e.input_tokens IS NOT NULL OR e.output_tokens IS NOT NULL)) AS unpriced,
    maxIf(time, closes) AS closed,
    argMaxIf(e.status, last, closes) AS status,
    argMaxIf(e.error_type, last, closes) AS error_type,
    argMaxIf(e.error_template, last, closes) AS error_template,
    maxIf(time, fails) AS last_error,
    argMaxIf(e.error_type, rank, fails) AS last_error_type,
    argMaxIf(if(e.kind = 'tool_call', e.name, ''), rank, fails) AS last_error_tool,
    argMaxIf(e.error_template, rank, fails) AS last_error_template
FROM events AS e FINAL {changed}
WHERE ({where}) AND e.kind NOT IN ('feedback', 'score', 'outcome') AND e.interaction_id != ''
GROUP BY cell, interaction_id
"""


# Copies of an event have one interaction, so they may be left out before they are collapsed.
_CHANGED: Final = """
PREWHERE e.interaction_id IN (SELECT interaction_id FROM events WHERE ({where}) AND ({places}))
"""


def statement(epoch: int, naming: LabelSql, where: str, places: str | None = None) -> str:
    """SQL that computes the interactions' parts again.

    Parameters
    ----------
    epoch
        `processors.derive.windows.EPOCH`.
    naming
        How names are borne by derived rows.
    where
        Condition on ``time`` that takes whole cells.
    places
        Condition on ``events`` that takes the new ones, when only their interactions changed.
    """
    return _FROM_EVENTS.format(
        epoch=epoch,
        where=where,
        changed=_CHANGED.format(where=where, places=places) if places else "",
        **{name: naming(f"e.{name}", name) for name in ("environment", "agent", "agent_version")},
    )
