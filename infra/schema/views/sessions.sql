-- One row per conversation, from its interactions and its own outcome and feedback.
CREATE OR REPLACE VIEW sessions AS
SELECT session_id, environment, agent, agent_version, user_id, start, end, duration_ms, active_ms,
    interactions, succeeded, failed, failed AS failed_interactions, events, llm_calls,
    tool_calls, tool_errors, input_tokens, output_tokens, cost_usd,
    success, success_source, reasons, failure_reason, satisfaction, satisfaction_n,
    dissatisfaction, coverage, request, answer, rules_version, cell
FROM session_results FINAL
WHERE live
--------
ALTER TABLE sessions
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN environment 'of its first interaction',
    COMMENT COLUMN agent 'of its first interaction',
    COMMENT COLUMN agent_version 'of its first interaction',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN start 'begin of its first interaction',
    COMMENT COLUMN end 'end of its last interaction',
    COMMENT COLUMN duration_ms 'start to end with the pauses of the user, ms',
    COMMENT COLUMN active_ms 'sum of its interactions'' durations, ms',
    COMMENT COLUMN interactions 'number of interactions',
    COMMENT COLUMN succeeded 'of them succeeded',
    COMMENT COLUMN failed 'of them failed',
    COMMENT COLUMN failed_interactions 'the same as failed',
    COMMENT COLUMN events 'number of events',
    COMMENT COLUMN llm_calls 'number of model calls',
    COMMENT COLUMN tool_calls 'number of tool calls and retrievals',
    COMMENT COLUMN tool_errors 'of them failed',
    COMMENT COLUMN input_tokens 'null when none is known',
    COMMENT COLUMN output_tokens 'null when none is known',
    COMMENT COLUMN cost_usd 'null when an interaction''s cost is not known',
    COMMENT COLUMN success 'its own outcome, else success of its last interaction',
    COMMENT COLUMN success_source 'outcome, or that of the last interaction',
    COMMENT COLUMN reasons 'what went wrong, the primary reason first',
    COMMENT COLUMN failure_reason 'primary reason of a failed session',
    COMMENT COLUMN satisfaction 'mean of explicit feedback on it and on its interactions, 0 to 1',
    COMMENT COLUMN satisfaction_n 'how many feedbacks',
    COMMENT COLUMN dissatisfaction 'estimated probability that the user is dissatisfied',
    COMMENT COLUMN coverage 'share of the features that the estimate had, 0 to 1',
    COMMENT COLUMN request 'the first request',
    COMMENT COLUMN answer 'the last answer',
    COMMENT COLUMN rules_version 'version of the rules that decided',
    COMMENT COLUMN cell '10 s cell of `end`'
