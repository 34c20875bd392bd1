-- One row per failed interaction.
CREATE OR REPLACE VIEW failures AS
SELECT end, environment, agent, agent_version, failure_reason, failure_tool, failure_template,
    fingerprint, reasons, success_source, satisfaction, duration_ms, cost_usd, request, answer,
    interaction_id, session_id, user_id
FROM interaction_results FINAL
WHERE live AND success = 0
--------
ALTER TABLE failures
    COMMENT COLUMN end 'end of the topmost agent span, else time of the last event',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'of the topmost agent span',
    COMMENT COLUMN agent_version 'of the topmost agent span',
    COMMENT COLUMN failure_reason 'primary reason of a failed interaction',
    COMMENT COLUMN failure_tool 'tool that failed last in a failed interaction',
    COMMENT COLUMN failure_template 'its error message with ids, numbers, paths and quotes masked',
    COMMENT COLUMN fingerprint 'of reason, tool and template; empty when not failed',
    COMMENT COLUMN reasons 'what went wrong, the primary reason first',
    COMMENT COLUMN success_source 'outcome, score, structure, status, or empty',
    COMMENT COLUMN satisfaction 'mean of explicit feedback, 0 to 1',
    COMMENT COLUMN duration_ms 'start to end with waiting for a person, ms',
    COMMENT COLUMN cost_usd 'null when nothing is priced or a model call with tokens has no price',
    COMMENT COLUMN request 'the user''s words, redacted and capped',
    COMMENT COLUMN answer 'the final answer, redacted and capped',
    COMMENT COLUMN interaction_id 'one user request to its final answer; for OTLP the trace id, further interactions of a trace append the span',
    COMMENT COLUMN session_id 'conversation; its own id where none is known',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known'
