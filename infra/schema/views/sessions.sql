-- One row per conversation, from its interactions and its own outcome and feedback.
CREATE OR REPLACE VIEW sessions AS
SELECT session_id, environment, agent, agent_version, user_id, start, end, duration_ms, active_ms,
    interactions, succeeded, failed, failed AS failed_interactions, events, llm_calls,
    tool_calls, tool_errors, input_tokens, output_tokens, cost_usd,
    success, success_source, reasons, failure_reason, satisfaction, satisfaction_n,
    dissatisfaction, coverage, request, answer, rules_version, cell
FROM session_results FINAL
WHERE live
