-- each: {"view": "metrics_per_minute", "unit": "per minute,", "width": "width_s = 60"}
-- each: {"view": "metrics_per_hour", "unit": "per hour,", "width": "width_s = 3600"}
-- each: {"view": "metrics_per_day", "unit": "per day,", "width": "width_s = 86400"}
-- Interactions {unit} agent and version, with the conversations beside them. Add up the numbers and
-- divide afterwards; the rates are of this row alone.
CREATE OR REPLACE VIEW {view} AS
SELECT start, environment, agent, agent_version,
    sumIf(r.n, unit = 'interactions') AS interactions,
    sumIf(r.open, unit = 'interactions') AS open,
    sumIf(r.unfinished, unit = 'interactions') AS unfinished,
    sumIf(r.succeeded, unit = 'interactions') AS succeeded,
    sumIf(r.success_known, unit = 'interactions') AS success_known,
    success_known - succeeded AS failed,
    succeeded / nullIf(success_known, 0) AS success_rate,
    sumIf(r.n, unit = 'sessions') AS sessions,
    sumIf(r.succeeded, unit = 'sessions') AS sessions_succeeded,
    sumIf(r.success_known, unit = 'sessions') AS sessions_success_known,
    sumIf(r.duration_ms, unit = 'interactions') AS duration_ms_sum,
    sumIf(r.duration_n, unit = 'interactions') AS duration_n,
    duration_ms_sum / nullIf(duration_n, 0) AS duration_ms_mean,
    sumIf(r.llm_calls, unit = 'interactions') AS llm_calls,
    sumIf(r.llm_errors, unit = 'interactions') AS llm_errors,
    sumIf(r.tool_calls, unit = 'interactions') AS tool_calls,
    sumIf(r.tool_errors, unit = 'interactions') AS tool_errors,
    sumIf(r.human_inputs, unit = 'interactions') AS human_inputs,
    sumIf(r.tokens_n, unit = 'interactions') AS tokens_n,
    if(tokens_n = 0, NULL, sumIf(r.input_tokens, unit = 'interactions')) AS input_tokens,
    if(tokens_n = 0, NULL, sumIf(r.output_tokens, unit = 'interactions')) AS output_tokens,
    sumIf(r.cost_n, unit = 'interactions') AS cost_n,
    if(cost_n = 0, NULL, sumIf(r.cost_usd, unit = 'interactions')) AS cost_usd,
    sumIf(r.satisfaction_n, unit = 'interactions') AS satisfaction_n,
    sumIf(r.satisfaction, unit = 'interactions') / nullIf(satisfaction_n, 0) AS satisfaction
FROM rollups AS r FINAL
WHERE {width}
GROUP BY start, environment, agent, agent_version
HAVING interactions > 0 OR sessions > 0
--------
ALTER TABLE {view}
    COMMENT COLUMN start 'begin of the minute, hour or day, UTC',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN interactions 'number of interactions that ended here',
    COMMENT COLUMN open 'of them not ended yet',
    COMMENT COLUMN unfinished 'given up without an end',
    COMMENT COLUMN succeeded 'interactions known to have succeeded',
    COMMENT COLUMN success_known 'interactions of which success is known',
    COMMENT COLUMN failed 'of them known to have failed',
    COMMENT COLUMN success_rate 'succeeded / success_known, null when none is known',
    COMMENT COLUMN sessions 'conversations that ended here',
    COMMENT COLUMN sessions_succeeded 'of them known to have succeeded',
    COMMENT COLUMN sessions_success_known 'of which success is known',
    COMMENT COLUMN duration_ms_sum 'sum of the durations without waiting for a person, ms',
    COMMENT COLUMN duration_n 'interactions of which the duration is known',
    COMMENT COLUMN duration_ms_mean 'mean duration without waiting for a person, ms',
    COMMENT COLUMN llm_calls 'number of model calls',
    COMMENT COLUMN llm_errors 'of them failed',
    COMMENT COLUMN tool_calls 'number of tool calls and retrievals',
    COMMENT COLUMN tool_errors 'of them failed',
    COMMENT COLUMN human_inputs 'number of times a person was asked',
    COMMENT COLUMN tokens_n 'interactions of which tokens are known',
    COMMENT COLUMN input_tokens 'sum of what is known, null when nothing is',
    COMMENT COLUMN output_tokens 'sum of what is known, null when nothing is',
    COMMENT COLUMN cost_n 'interactions of which the cost is known',
    COMMENT COLUMN cost_usd 'sum of what is known, US dollars; null when nothing is',
    COMMENT COLUMN satisfaction_n 'interactions on which users gave feedback',
    COMMENT COLUMN satisfaction 'mean explicit feedback, 0 to 1, null when there is none'
