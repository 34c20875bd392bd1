-- Every event once: without repeats, and without those that lost a collision of ids.
CREATE OR REPLACE VIEW events_current AS
SELECT time, environment, agent, agent_version, event_id, parent_id, interaction_id, session_id,
    user_id, kind, name, model, status, error_type, error_message, error_template, duration_ms,
    time_to_first_token_ms, input_tokens, output_tokens, cached_tokens, cache_write_tokens,
    reasoning_tokens, cost_usd, content, tool_arguments, tool_result, attributes, value, reason,
    rule_version, target, scope
FROM events FINAL
WHERE (event_id, time, payload_hash) NOT IN (SELECT event_id, time, payload_hash FROM collisions)
--------
ALTER TABLE events_current
    COMMENT COLUMN time 'when it was complete, UTC; it began duration_ms earlier',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN event_id 'id of the event, given by its sender',
    COMMENT COLUMN parent_id 'event_id of the event that caused it',
    COMMENT COLUMN interaction_id 'request it belongs to; empty on feedback that names a session',
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN kind 'what the event is: interaction, user_message, agent_message, llm_call, tool_call, retrieval, decision, handoff, human_input, feedback, score, outcome, span',
    COMMENT COLUMN name 'tool, operation, evaluator or kind of feedback',
    COMMENT COLUMN model 'model that was called',
    COMMENT COLUMN status 'ok, error, or empty when not said',
    COMMENT COLUMN error_type 'short code of the error',
    COMMENT COLUMN error_message 'what the error said, redacted',
    COMMENT COLUMN error_template 'error message with ids, numbers, paths and quotes masked',
    COMMENT COLUMN duration_ms 'how long it took, ms',
    COMMENT COLUMN time_to_first_token_ms 'from the call to the first token, ms',
    COMMENT COLUMN input_tokens 'tokens read, null when not said',
    COMMENT COLUMN output_tokens 'tokens written, null when not said',
    COMMENT COLUMN cached_tokens 'of the tokens read, those from a cache; null when not said',
    COMMENT COLUMN cache_write_tokens 'tokens written to a cache, null when not said',
    COMMENT COLUMN reasoning_tokens 'of the tokens written, those of reasoning; null when not said',
    COMMENT COLUMN cost_usd 'cost, US dollars, null when not known',
    COMMENT COLUMN content 'text: message, answer or comment, redacted',
    COMMENT COLUMN tool_arguments 'arguments of the tool call, redacted',
    COMMENT COLUMN tool_result 'result of the tool call, redacted',
    COMMENT COLUMN attributes 'other attributes: a JSON object of strings',
    COMMENT COLUMN value 'number of a feedback, score or outcome',
    COMMENT COLUMN reason 'code of the reason, such as no_refund',
    COMMENT COLUMN rule_version 'version of the rule or judge that gave it',
    COMMENT COLUMN target 'interaction_id or session_id that a feedback, score or outcome judges',
    COMMENT COLUMN scope 'what the token is bound to that sent it, empty when it is trusted'
