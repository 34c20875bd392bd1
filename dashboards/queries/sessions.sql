-- Conversations: found, listed, read.

-- name: search
SELECT end, environment, agent, agent_version, session_id, user_id, interactions, failed,
    if(success IS NULL, 'unknown', if(success = 1, 'succeeded', 'failed')) AS outcome,
    failure_reason AS reason, satisfaction, duration_ms AS duration, cost_usd AS cost, request
FROM sessions
WHERE {ended_here:sql}
    AND ({search:text} = '' OR session_id = {search:text} OR user_id = {search:text}
        OR positionCaseInsensitiveUTF8(request, {search:text}) > 0
        OR positionCaseInsensitiveUTF8(answer, {search:text}) > 0)
ORDER BY end DESC, session_id LIMIT 200

-- name: interactions
SELECT end, environment, agent, agent_version, interaction_id, session_id, user_id,
    if(success IS NULL, 'unknown', if(success = 1, 'succeeded', 'failed')) AS outcome,
    failure_reason AS reason, failure_tool AS tool, satisfaction, duration_ms AS duration,
    tool_calls, tool_errors, cost_usd AS cost, request
FROM interactions
WHERE {ended_here:sql} AND {outcome:labels:outcome}
    AND ({search:text} = '' OR interaction_id = {search:text} OR session_id = {search:text}
        OR user_id = {search:text} OR failure_tool = {search:text} OR fingerprint = {search:text}
        OR positionCaseInsensitiveUTF8(failure_template, {search:text}) > 0
        OR positionCaseInsensitiveUTF8(request, {search:text}) > 0)
ORDER BY end DESC, interaction_id LIMIT 200

-- Of one session, whenever it was: the indexes lead to its cells, so that the time range is not asked.
-- name: turns
SELECT start, end, environment, agent, agent_version, interaction_id, trace_id, scope, session_id, user_id,
    state, success, success_source, failure_reason, failure_tool, failure_template, satisfaction,
    satisfaction_n, dissatisfaction, duration_ms, waiting_ms, llm_calls, tool_calls, tool_errors,
    input_tokens, output_tokens, cost_usd, models, tools, request, answer
FROM interaction_results FINAL
WHERE live AND {of_session:sql}
ORDER BY start, interaction_id

-- name: turn
SELECT start, end, environment, agent, agent_version, interaction_id, trace_id, scope, session_id, user_id,
    state, success, success_source, failure_reason, failure_tool, failure_template, satisfaction,
    satisfaction_n, dissatisfaction, duration_ms, waiting_ms, llm_calls, tool_calls, tool_errors,
    input_tokens, output_tokens, cost_usd, models, tools, request, answer
FROM interaction_results FINAL
WHERE live AND (interaction_id = {interaction:text} OR trace_id = {interaction:text}) AND cell IN
(
    SELECT cell FROM interaction_index
    -- a further interaction of a trace is named TRACE/EVENT
    WHERE interaction_id IN ({interaction:text}, splitByString('@scope:', {interaction:text})[1],
        arrayStringConcat(arrayPopBack(splitByChar('/', {interaction:text})), '/'))
)
ORDER BY start, interaction_id

-- name: session
SELECT * EXCEPT (cell, version, live) FROM session_results FINAL
WHERE live AND session_id = {session:text} AND cell IN
    (SELECT cell FROM session_index WHERE session_id IN {session_ids:sql})

-- name: conversation
WITH (SELECT min(start) FROM interaction_results FINAL WHERE live AND {of_session:sql}) AS begins,
    (SELECT max(end) FROM interaction_results FINAL WHERE live AND {of_session:sql}) AS ends
SELECT time, agent, kind, name, model, status, error_type AS error, duration_ms AS duration,
    input_tokens, output_tokens, cost_usd AS cost,
    multiIf(content != '', content, tool_result != '', tool_result, error_message) AS text,
    tool_arguments AS arguments, interaction_id
FROM events FINAL
WHERE events.time >= begins - INTERVAL 1 HOUR AND events.time <= ends + INTERVAL 1 MINUTE
    AND (interaction_id, scope) IN
        (SELECT trace_id, scope FROM interaction_results FINAL WHERE live AND {of_session:sql})
ORDER BY events.time, event_id LIMIT 2000

-- The events of one trace in one scope, in the order in which they began, each call after what holds it; cells of
-- event time lead to them.
-- name: events
WITH (SELECT min(cell) FROM interaction_index WHERE interaction_id = {trace:text}) AS begins,
    (SELECT max(cell) FROM interaction_index WHERE interaction_id = {trace:text}) AS ends
SELECT time, event_id, parent_id, environment, agent, agent_version, kind, name, model, status,
    error_type, error_message, duration_ms, time_to_first_token_ms, input_tokens, output_tokens,
    cached_tokens, cost_usd, content, tool_arguments, tool_result, attributes, value, reason,
    interaction_id, count() OVER () AS of_trace
FROM events FINAL
WHERE events.time >= begins AND events.time < ends + INTERVAL 10 SECOND
    AND interaction_id = {trace:text} AND scope = {scope:text}
    AND (event_id, time, payload_hash) NOT IN (SELECT event_id, time, payload_hash FROM collisions)
ORDER BY events.time - toIntervalNanosecond(toInt64(ifNull(duration_ms, 0) * 1e6)),
    kind != 'interaction', ifNull(duration_ms, 0) > 0, duration_ms DESC, event_id
LIMIT 2000

-- name: evaluations
SELECT time, target, kind, name, user_id, value, reason FROM current_evaluations
WHERE target IN splitByChar('\x1f', {targets:text})
ORDER BY time, kind, name, user_id

-- name: session_evaluations
SELECT time, kind, name, user_id, value, reason, target FROM current_evaluations
WHERE target = {session:text} OR target IN
(
    SELECT interaction_id FROM session_index WHERE session_id = {session:text}
)
ORDER BY time, kind, name, user_id
