-- One user request to its final answer, told of the agent of the closing event that nobody called
-- (root = 2), else of another closing event (root = 1), else of the earliest; its version is the
-- first that is known in this order, if of the same agent. status is '' while no closing event has come; cost_usd is NULL
-- when nothing is priced or any model call has no price.
CREATE OR REPLACE VIEW interactions AS
SELECT
    interaction_id,
    argMin(c.environment, (2 - root, c.cell)) AS environment,
    argMin(c.agent, (2 - root, c.cell)) AS agent,
    if(argMin(c.agent, (c.agent_version = '', 2 - root, c.cell)) = agent,
        argMin(c.agent_version, (c.agent_version = '', 2 - root, c.cell)), '') AS agent_version,
    if(minIf(c.session_id, c.session_id != '') = '', interaction_id,
        minIf(c.session_id, c.session_id != '')) AS session_id,
    minIf(c.user_id, c.user_id != '') AS user_id,
    min(c.start) AS start,
    max(c.end) AS end,
    (toUnixTimestamp64Nano(max(c.end)) - toUnixTimestamp64Nano(min(c.start))) / 1e6 AS duration_ms,
    sum(c.events) AS events,
    sum(c.llm_calls) AS llm_calls,
    sum(c.tool_calls) AS tool_calls,
    sum(c.tool_errors) AS tool_errors,
    sum(c.input_tokens) AS input_tokens,
    sum(c.output_tokens) AS output_tokens,
    sum(c.priced) AS priced,
    sum(c.unpriced) AS unpriced,
    if(sum(c.priced) > 0 AND sum(c.unpriced) = 0, round(sum(c.cost_usd), 9), NULL) AS cost_usd,
    argMaxIf(c.status, (root, c.closed), root > 0) AS status,
    argMaxIf(c.error_type, (root, c.closed), root > 0) AS closing_error,
    argMaxIf(c.error_template, (root, c.closed), root > 0) AS closing_template,
    argMax(c.last_error_type, c.last_error) AS last_error,
    argMax(c.last_error_tool, c.last_error) AS last_error_tool,
    argMax(c.last_error_template, c.last_error) AS last_error_template,
    multiIf(status != 'error', '', closing_error != '', closing_error,
        last_error != '', last_error, 'error') AS failure_reason,
    if(status = 'error', last_error_tool, '') AS failure_tool,
    multiIf(status != 'error', '', closing_template != '', closing_template,
        last_error_template) AS failure_template,
    -- as detectors.failures.fingerprint computes it
    if(status = 'error', lower(substring(hex(SHA256(
        concat(failure_reason, '\x1f', failure_tool, '\x1f', failure_template))), 1, 16)), '')
        AS fingerprint
FROM interaction_cells AS c FINAL
WHERE c.events > 0 -- none are left where every event lost a collision
GROUP BY interaction_id
