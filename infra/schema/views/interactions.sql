-- One row per interaction. No FINAL needed; `WHERE end >= ...` reads only what it needs.
CREATE OR REPLACE VIEW interactions AS
SELECT interaction_id, trace_id, environment, agent, agent_version, session_id, user_id,
    start, end, state, status, duration_ms, waiting_ms, time_to_first_token_ms,
    events, steps, llm_calls, llm_errors, tool_calls, tool_errors, handoffs, human_inputs,
    input_tokens, output_tokens, cached_tokens, cost_usd, priced, unpriced,
    success, success_source, reasons, failure_reason, failure_tool, failure_template, fingerprint,
    satisfaction, satisfaction_n,
    dissatisfaction, dissatisfaction_low, dissatisfaction_high, coverage,
    models, tools, language, request, answer, rules_version, cell
FROM interaction_results FINAL
WHERE live
