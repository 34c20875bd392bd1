-- One row per tool call or retrieval.
CREATE OR REPLACE VIEW tool_calls AS
SELECT time, environment, agent, agent_version, if(name = '', 'unnamed', toString(name)) AS tool,
    kind, status = 'error' AS failed, error_type, error_message, error_template, duration_ms,
    tool_arguments AS arguments, tool_result AS result, interaction_id, session_id, user_id, event_id
FROM events FINAL
WHERE kind IN ('tool_call', 'retrieval')
    AND (event_id, time, payload_hash) NOT IN (SELECT event_id, time, payload_hash FROM collisions)
--------
ALTER TABLE tool_calls
    COMMENT COLUMN time 'when it was complete, UTC; it began duration_ms earlier',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN tool 'name of the tool',
    COMMENT COLUMN kind 'tool_call or retrieval',
    COMMENT COLUMN failed '1 when it failed',
    COMMENT COLUMN error_type 'short code of the error',
    COMMENT COLUMN error_message 'what the error said, redacted',
    COMMENT COLUMN error_template 'error message with ids, numbers, paths and quotes masked',
    COMMENT COLUMN duration_ms 'how long it took, ms',
    COMMENT COLUMN arguments 'arguments, redacted',
    COMMENT COLUMN result 'result, redacted',
    COMMENT COLUMN interaction_id 'request it belongs to; empty on feedback that names a session',
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN event_id 'id of the event, given by its sender'
