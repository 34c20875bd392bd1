"""The SQL that reads what is stored, in the columns of `tests.chaos.truth`."""

WINDOWS = """
SELECT environment, agent, width_s, toUnixTimestamp(start), agent_version, scope,
    events, ok, error, tool_calls, tool_errors, input_tokens, output_tokens, cached_tokens,
    toInt64(round(cost_usd * 1e9)), priced, unpriced,
    duration_n, toInt64(round(duration_ms * 1e3)), duration_bins, duration_counts
FROM windows FINAL
WHERE events > 0 -- a window all of whose events lost a collision stays, and counts none
"""

INTERACTIONS = """
SELECT interaction_id, environment, agent, agent_version, session_id, user_id,
    toUnixTimestamp64Nano(start), toUnixTimestamp64Nano(end),
    events, llm_calls, tool_calls, tool_errors, input_tokens, output_tokens,
    toInt64(round(cost_usd * 1e9)), status, success, success_source, failure_reason,
    satisfaction_n
FROM interactions
"""

SESSIONS = """
SELECT session_id, environment, agent, agent_version, interactions, failed, events, llm_calls,
    tool_calls, tool_errors, input_tokens, output_tokens, toInt64(round(cost_usd * 1e9)),
    toUnixTimestamp64Nano(start), toUnixTimestamp64Nano(end), success, failure_reason,
    satisfaction_n
FROM sessions
"""

ROLLUPS = """
SELECT environment, agent, width_s, toUnixTimestamp(start), agent_version, unit,
    n, succeeded, success_known, duration_n, toInt64(round(duration_ms * 1e3)),
    tool_calls, tool_errors, input_tokens, toInt64(round(cost_usd * 1e9)), cost_n, satisfaction_n,
    arraySort(reasons), arrayMap(r -> reason_counts[indexOf(reasons, r)], arraySort(reasons))
FROM rollups FINAL
WHERE n > 0 -- a name that no result bears any more keeps a row of zeros
"""

EVALUATIONS = """
SELECT target, kind, name, user_id, value, toUnixTimestamp64Nano(time) FROM current_evaluations
"""

EVENTS = "SELECT event_id, agent, toUnixTimestamp64Nano(time) FROM events FINAL"

LEDGER = "SELECT partition, offset, lines, rows, dead_lettered FROM ledger FINAL"

LETTERS = """
SELECT partition, offset, line, code FROM dead_letters FINAL WHERE code != 'id_collision'
"""

COLLISIONS = "SELECT count() FROM collisions FINAL"

# Repeats by their own count, without the ledger's help: rows that hold the same event. 0 proves
# that no reader with FINAL sees an event twice.
DOUBLE = """
SELECT count() FROM (SELECT event_id, time, payload_hash FROM events FINAL
    GROUP BY event_id, time, payload_hash HAVING count() > 1)
"""

ADMITTED = "SELECT dimension, value FROM admitted_values"
