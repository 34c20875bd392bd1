-- One row per model call.
CREATE OR REPLACE VIEW model_calls AS
SELECT time, environment, agent, agent_version, model, status = 'error' AS failed, error_type,
    error_message, duration_ms, time_to_first_token_ms, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens, cost_usd, interaction_id, session_id, user_id, event_id
FROM events FINAL
WHERE kind = 'llm_call'
    AND (event_id, time, payload_hash) NOT IN (SELECT event_id, time, payload_hash FROM collisions)
--------
ALTER TABLE model_calls
    COMMENT COLUMN time 'when it was complete, UTC; it began duration_ms earlier',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN model 'model that was called',
    COMMENT COLUMN failed '1 when it failed',
    COMMENT COLUMN error_type 'short code of the error',
    COMMENT COLUMN error_message 'what the error said, redacted',
    COMMENT COLUMN duration_ms 'how long it took, ms',
    COMMENT COLUMN time_to_first_token_ms 'from the call to the first token, ms',
    COMMENT COLUMN input_tokens 'tokens read, null when not said',
    COMMENT COLUMN output_tokens 'tokens written, null when not said',
    COMMENT COLUMN cached_tokens 'of the tokens read, those from a cache; null when not said',
    COMMENT COLUMN reasoning_tokens 'of the tokens written, those of reasoning; null when not said',
    COMMENT COLUMN cost_usd 'cost, US dollars, null when not known',
    COMMENT COLUMN interaction_id 'request it belongs to; empty on feedback that names a session',
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN event_id 'id of the event, given by its sender'
