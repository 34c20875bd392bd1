-- One meaning: what became of an interaction and of a session is computed once, stored, and read by
-- everybody. Rollups add it up, so that a month is read from thousands of rows.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS cache_write_tokens Nullable(UInt64) AFTER cached_tokens,
    ADD COLUMN IF NOT EXISTS reasoning_tokens Nullable(UInt64) AFTER cache_write_tokens
--------
-- In which cells of event time the events of a trace lie: looked up by id when it changes.
CREATE TABLE IF NOT EXISTS interaction_index
(
    interaction_id String COMMENT 'interaction_id of the events: for OTLP the trace id',
    cell DateTime('UTC') COMMENT 'start of a 10 s cell that holds events of it'
)
ENGINE = ReplacingMergeTree
ORDER BY (interaction_id, cell)
SETTINGS index_granularity = 1024
--------
-- A trace has one row per cell in which it has events; live = 1 on the one that counts. So a later,
-- fuller computation always replaces an earlier one, wherever that saw the end.
CREATE TABLE IF NOT EXISTS interaction_results
(
    cell DateTime('UTC') COMMENT '10 s cell of `end`',
    interaction_id String COMMENT 'one user request to its final answer; for OTLP the trace id, further interactions of a trace append the span',
    version UInt64 COMMENT 'epoch << 40 | 2 x events and evaluations seen, + 1 when given up as unfinished',
    live UInt8 COMMENT '0: the interaction counts in another cell',
    seen UInt32 COMMENT 'events of this trace in this cell that the row was made with',
    trace_id String COMMENT 'interaction_id of its events',
    environment LowCardinality(String),
    agent LowCardinality(String) COMMENT 'of the topmost agent span',
    agent_version LowCardinality(String),
    session_id String COMMENT 'conversation; its own id where none is known',
    user_id String,
    start DateTime64(9, 'UTC'),
    end DateTime64(9, 'UTC') COMMENT 'end of the topmost agent span, else time of the last event',
    state LowCardinality(String) COMMENT 'open, ended, or unfinished: no end within results.inactivity',
    status LowCardinality(String) COMMENT 'ok or error as the topmost span says, empty while open',
    duration_ms Nullable(Float64) COMMENT 'start to end, ms',
    waiting_ms Nullable(Float64) COMMENT 'of it, waiting for a person, ms',
    time_to_first_token_ms Nullable(Float64) COMMENT 'of its first model call that says it, ms',
    events UInt32,
    steps UInt32 COMMENT 'model calls, tool calls, retrievals, decisions and handoffs',
    llm_calls UInt32,
    llm_errors UInt32,
    tool_calls UInt32 COMMENT 'tool calls and retrievals',
    tool_errors UInt32,
    handoffs UInt32,
    human_inputs UInt32,
    input_tokens Nullable(UInt64) COMMENT 'of its model calls, null when none says it',
    output_tokens Nullable(UInt64),
    cached_tokens Nullable(UInt64),
    cost_usd Nullable(Float64) COMMENT 'null when nothing is priced or a model call with tokens has no price',
    priced UInt32 COMMENT 'events with a cost',
    unpriced UInt32 COMMENT 'model calls with tokens and no price',
    success Nullable(UInt8) COMMENT '1, 0, or null when not known',
    success_source LowCardinality(String) COMMENT 'outcome, score, structure, status, or empty',
    reasons Array(LowCardinality(String)) COMMENT 'what went wrong, the primary reason first',
    failure_reason LowCardinality(String) COMMENT 'primary reason of a failed interaction',
    failure_tool LowCardinality(String) COMMENT 'tool that failed last in a failed interaction',
    failure_template String COMMENT 'its error message with ids, numbers, paths and quotes masked',
    fingerprint LowCardinality(String) COMMENT 'of reason, tool and template; empty when not failed',
    satisfaction Nullable(Float64) COMMENT 'mean of explicit feedback, 0 to 1',
    satisfaction_n UInt32 COMMENT 'how many feedbacks',
    dissatisfaction Nullable(Float64) COMMENT 'estimated probability that the user is dissatisfied',
    dissatisfaction_low Nullable(Float64),
    dissatisfaction_high Nullable(Float64),
    coverage Nullable(Float64) COMMENT 'share of the features that the estimate had, 0 to 1',
    models Array(LowCardinality(String)),
    tools Array(LowCardinality(String)),
    language LowCardinality(String),
    request String CODEC(ZSTD(1)) COMMENT 'the user''s words, redacted and capped',
    answer String CODEC(ZSTD(1)) COMMENT 'the final answer, redacted and capped',
    rules_version LowCardinality(String),
    INDEX end_bounds end TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(cell)
ORDER BY (cell, interaction_id)
--------
-- Which interactions were ever counted under a session, and where their rows stand.
CREATE TABLE IF NOT EXISTS session_index
(
    session_id String,
    cell DateTime('UTC'),
    interaction_id String
)
ENGINE = ReplacingMergeTree
ORDER BY (session_id, cell, interaction_id)
SETTINGS index_granularity = 1024
--------
CREATE TABLE IF NOT EXISTS session_results
(
    cell DateTime('UTC') COMMENT '10 s cell of `end`',
    session_id String,
    version UInt64 COMMENT 'epoch << 40 | sum of what its interactions were made with, and its own evaluations',
    live UInt8 COMMENT '0: the session counts in another cell',
    environment LowCardinality(String) COMMENT 'of its first interaction',
    agent LowCardinality(String),
    agent_version LowCardinality(String),
    user_id String,
    start DateTime64(9, 'UTC'),
    end DateTime64(9, 'UTC') COMMENT 'end of its last interaction',
    duration_ms Nullable(Float64) COMMENT 'start to end with the pauses of the user, ms',
    active_ms Nullable(Float64) COMMENT 'sum of its interactions'' durations, ms',
    interactions UInt32,
    succeeded UInt32,
    failed UInt32,
    events UInt32,
    llm_calls UInt32,
    tool_calls UInt32,
    tool_errors UInt32,
    input_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64),
    cost_usd Nullable(Float64) COMMENT 'null when an interaction''s cost is not known',
    success Nullable(UInt8) COMMENT 'its own outcome, else success of its last interaction',
    success_source LowCardinality(String),
    reasons Array(LowCardinality(String)),
    failure_reason LowCardinality(String),
    satisfaction Nullable(Float64) COMMENT 'mean of explicit feedback on it and on its interactions, 0 to 1',
    satisfaction_n UInt32,
    dissatisfaction Nullable(Float64),
    coverage Nullable(Float64),
    request String CODEC(ZSTD(1)) COMMENT 'the first request',
    answer String CODEC(ZSTD(1)) COMMENT 'the last answer',
    rules_version LowCardinality(String),
    INDEX end_bounds end TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(cell)
ORDER BY (cell, session_id)
--------
-- Results added up per minute (60), hour (3600) and day (86400) by the cell in which they ended.
CREATE TABLE IF NOT EXISTS rollups
(
    environment LowCardinality(String),
    agent LowCardinality(String),
    width_s UInt32 COMMENT '60, 3600 or 86400; read one width only',
    start DateTime('UTC'),
    agent_version LowCardinality(String),
    unit LowCardinality(String) COMMENT 'interactions or sessions; read one unit only',
    version UInt64,
    n UInt64,
    open UInt64 COMMENT 'not ended yet',
    unfinished UInt64 COMMENT 'given up without an end',
    succeeded UInt64,
    success_known UInt64,
    duration_n UInt64,
    duration_ms Float64 COMMENT 'sum, ms',
    duration_bins Array(Int16) COMMENT 'log-histogram of duration_ms: bins of detectors/sketch.py',
    duration_counts Array(UInt64),
    first_token_n UInt64,
    first_token_ms Float64 COMMENT 'sum, ms',
    first_token_bins Array(Int16),
    first_token_counts Array(UInt64),
    steps UInt64,
    llm_calls UInt64,
    llm_errors UInt64,
    tool_calls UInt64,
    tool_errors UInt64,
    handoffs UInt64,
    human_inputs UInt64,
    input_tokens UInt64,
    output_tokens UInt64,
    cached_tokens UInt64,
    tokens_n UInt64 COMMENT 'of which tokens are known',
    cost_usd Float64,
    cost_n UInt64 COMMENT 'of which the cost is known',
    satisfaction Float64 COMMENT 'sum of means',
    satisfaction_n UInt64 COMMENT 'of which users gave feedback',
    dissatisfaction Float64 COMMENT 'sum of estimates',
    dissatisfaction_n UInt64,
    reasons Array(String) COMMENT 'primary reasons of failures',
    reason_counts Array(UInt64)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (width_s, unit, environment, agent, start, agent_version)
--------
INSERT INTO interaction_index
SELECT DISTINCT interaction_id, toStartOfInterval(time, INTERVAL 10 SECOND) FROM events
WHERE interaction_id != '' AND kind NOT IN ('feedback', 'score', 'outcome')
