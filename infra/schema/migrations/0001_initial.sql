-- The tables of driftline. One statement after another, separated by a line of dashes.
-- Missing strings are '' and missing numbers are NULL, never 0. All times are UTC.
-- Inserts come with async_insert=0, insert_deduplicate=0, max_partitions_per_insert_block=0.

-- The truth: a set of events. A repeat (same key) collapses; the same id with another payload or
-- time stays visible as a collision. Readers that need exactness use FINAL.
CREATE TABLE IF NOT EXISTS events
(
    schema_version UInt8,
    environment LowCardinality(String),
    agent LowCardinality(String),
    agent_version LowCardinality(String),
    time DateTime64(9, 'UTC') CODEC(Delta, LZ4),
    event_id String,
    payload_hash UInt64 CODEC(NONE),
    session_id String,
    interaction_id String,
    parent_id String,
    user_id String,
    kind LowCardinality(String),
    name LowCardinality(String),
    model LowCardinality(String),
    status LowCardinality(String),
    error_type LowCardinality(String),
    error_message String,
    -- error_message with ids, numbers, paths and quotes masked
    error_template LowCardinality(String),
    duration_ms Nullable(Float64),
    -- bin of duration_ms in the log-histogram of detectors/sketch.py
    duration_bin Nullable(Int16),
    time_to_first_token_ms Nullable(Float64),
    input_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64),
    cached_tokens Nullable(UInt64),
    cost_usd Nullable(Float64),
    content String CODEC(ZSTD(1)),
    tool_arguments String CODEC(ZSTD(1)),
    tool_result String CODEC(ZSTD(1)),
    -- JSON object of strings
    attributes String CODEC(ZSTD(1)),
    value Nullable(Float64),
    reason LowCardinality(String),
    rule_version LowCardinality(String),
    target String,
    -- where one copy of it stands on the topic
    log_id LowCardinality(String),
    partition UInt32 CODEC(Delta, LZ4),
    offset UInt64 CODEC(Delta, LZ4),
    line UInt32 CODEC(Delta, LZ4),
    -- lets a lookup by time skip granules when there are more agents than granules
    INDEX time_bounds time TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(time)
ORDER BY (agent, time, event_id, payload_hash)
--------
-- Feedback, scores and outcomes again, by what they judge. Rows are a function of the event alone.
CREATE TABLE IF NOT EXISTS evaluations
(
    target String,
    kind LowCardinality(String),
    name LowCardinality(String),
    user_id String,
    time DateTime64(9, 'UTC'),
    event_id String,
    payload_hash UInt64,
    environment LowCardinality(String),
    agent LowCardinality(String),
    value Nullable(Float64),
    reason LowCardinality(String),
    rule_version LowCardinality(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (target, kind, name, user_id, time, event_id, payload_hash)
--------
-- Events that another payload of the same event_id displaced: of each id the smallest
-- (time, payload_hash) counts, so a row here stays true whatever comes later.
CREATE TABLE IF NOT EXISTS collisions
(
    event_id String,
    agent LowCardinality(String),
    time DateTime64(9, 'UTC'),
    payload_hash UInt64,
    found DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (event_id, agent, time, payload_hash)
--------
-- The books: one row per Kafka record.
CREATE TABLE IF NOT EXISTS ledger
(
    log_id LowCardinality(String),
    topic LowCardinality(String),
    partition UInt32,
    offset UInt64,
    lines UInt32,
    rows UInt32,
    dead_lettered UInt32,
    late UInt32,
    ingested DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, topic, partition, offset)
--------
-- Lines that did not become events. The bytes themselves are not kept.
CREATE TABLE IF NOT EXISTS dead_letters
(
    log_id LowCardinality(String),
    topic LowCardinality(String),
    partition UInt32,
    offset UInt64,
    line UInt32,
    code LowCardinality(String),
    detail String,
    bytes UInt32,
    sha256 String,
    ingested DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, topic, partition, offset, line, code)
--------
-- Event-level sums per cell of event time. scope is 'all', 'KIND:NAME' or 'model:MODEL'.
CREATE TABLE IF NOT EXISTS windows
(
    environment LowCardinality(String),
    agent LowCardinality(String),
    width_s UInt32,
    start DateTime('UTC'),
    agent_version LowCardinality(String),
    scope LowCardinality(String),
    version UInt64,
    events UInt64,
    ok UInt64,
    error UInt64,
    tool_calls UInt64,
    tool_errors UInt64,
    input_tokens UInt64,
    output_tokens UInt64,
    cached_tokens UInt64,
    cost_usd Float64,
    -- events with a cost, and model calls without one
    priced UInt64,
    unpriced UInt64,
    duration_n UInt64,
    duration_ms Float64,
    -- log-histogram of duration_ms: bin index and count
    duration_bins Array(Int16),
    duration_counts Array(UInt64)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (environment, agent, width_s, start, agent_version, scope)
--------
-- What happened to an interaction in one cell of event time: a function of that cell's events, so
-- that no cell has to know the others. `interactions` adds them up.
CREATE TABLE IF NOT EXISTS interaction_cells
(
    cell DateTime('UTC'),
    interaction_id String,
    version UInt64,
    -- of the closing event when it is in this cell (root = 1), else of the earliest
    root UInt8,
    environment LowCardinality(String),
    agent LowCardinality(String),
    agent_version LowCardinality(String),
    session_id String,
    user_id String,
    start DateTime64(9, 'UTC'),
    end DateTime64(9, 'UTC'),
    events UInt64,
    llm_calls UInt64,
    tool_calls UInt64,
    tool_errors UInt64,
    input_tokens UInt64,
    output_tokens UInt64,
    cost_usd Float64,
    -- events with a cost, and model calls with tokens but no cost
    priced UInt64,
    unpriced UInt64,
    -- the closing event, kind 'interaction'
    closed DateTime64(9, 'UTC'),
    status LowCardinality(String),
    error_type LowCardinality(String),
    error_template LowCardinality(String),
    -- the last other event with status 'error'
    last_error DateTime64(9, 'UTC'),
    last_error_type LowCardinality(String),
    last_error_tool LowCardinality(String),
    last_error_template LowCardinality(String)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(cell)
ORDER BY (cell, interaction_id)
--------
-- One user request to its final answer, told of the agent of the closing event, else of the
-- earliest. status is '' while no closing event has come; cost_usd is NULL when nothing is priced or
-- any model call has no price.
CREATE VIEW IF NOT EXISTS interactions AS
SELECT
    interaction_id,
    argMin(c.environment, (1 - root, c.cell)) AS environment,
    argMin(c.agent, (1 - root, c.cell)) AS agent,
    argMin(c.agent_version, (1 - root, c.cell)) AS agent_version,
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
    argMaxIf(c.status, c.closed, root = 1) AS status,
    argMaxIf(c.error_type, c.closed, root = 1) AS closing_error,
    argMaxIf(c.error_template, c.closed, root = 1) AS closing_template,
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
--------
-- A conversation: its interactions added up.
CREATE VIEW IF NOT EXISTS sessions AS
SELECT
    i.session_id AS session_id,
    argMin(i.environment, (i.start, i.interaction_id)) AS environment,
    argMin(i.agent, (i.start, i.interaction_id)) AS agent,
    argMin(i.agent_version, (i.start, i.interaction_id)) AS agent_version,
    min(i.start) AS start,
    max(i.end) AS end,
    (toUnixTimestamp64Nano(max(i.end)) - toUnixTimestamp64Nano(min(i.start))) / 1e6 AS duration_ms,
    count() AS interactions,
    countIf(i.status = 'error') AS failed_interactions,
    sum(i.events) AS events,
    sum(i.tool_calls) AS tool_calls,
    sum(i.tool_errors) AS tool_errors,
    sum(i.input_tokens) AS input_tokens,
    sum(i.output_tokens) AS output_tokens,
    if(sum(i.priced) > 0 AND sum(i.unpriced) = 0, round(sum(i.cost_usd), 9), NULL) AS cost_usd,
    argMax(i.status, (i.end, i.interaction_id)) AS last_status,
    argMaxIf(i.failure_reason, (i.end, i.interaction_id), i.status = 'error') AS failure_reason
FROM interactions AS i
GROUP BY session_id
--------
-- Per target, kind, name and user the evaluation that counts: the latest, where one that only
-- comments does not take away a value given before.
CREATE VIEW IF NOT EXISTS current_evaluations AS
SELECT target, kind, name, user_id,
    argMax(e.value, (e.value IS NOT NULL, e.time, e.event_id)) AS value,
    argMax(e.reason, (e.value IS NOT NULL, e.time, e.event_id)) AS reason,
    argMax(e.time, (e.value IS NOT NULL, e.time, e.event_id)) AS time
FROM
(
    SELECT target, kind, name, user_id, time, event_id, value, reason
    FROM evaluations FINAL
    WHERE (event_id, time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM collisions)
) AS e
GROUP BY target, kind, name, user_id
--------
-- How far event time has come in each partition of the events topic, and for the dirty topic how
-- far its marks have been worked off (there offset alone counts).
CREATE TABLE IF NOT EXISTS watermarks
(
    log_id LowCardinality(String),
    topic LowCardinality(String),
    partition UInt32,
    watermark DateTime64(9, 'UTC'),
    -- next offset to read, and records still waiting
    offset UInt64,
    lag UInt64,
    -- per partition of the dirty topic: the offset after the last mark these events made
    marked Array(UInt64),
    -- when rows of this partition were last stored
    advanced DateTime64(3, 'UTC'),
    updated DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY (log_id, topic, partition)
--------
-- What a detector needs to go on after a restart.
CREATE TABLE IF NOT EXISTS detector_state
(
    stream String,
    position DateTime('UTC'),
    version UInt64,
    state String
)
ENGINE = ReplacingMergeTree(version)
ORDER BY stream
--------
-- What detectors found. finding_id is a function of stream and episode start, so a repeat collapses.
CREATE TABLE IF NOT EXISTS findings
(
    finding_id String,
    version UInt64,
    detector LowCardinality(String),
    kind LowCardinality(String),
    environment LowCardinality(String),
    agent LowCardinality(String),
    agent_version LowCardinality(String),
    status LowCardinality(String),
    severity LowCardinality(String),
    -- when it began (estimate), when it was found, when it ended: event time
    began DateTime64(3, 'UTC'),
    found DateTime64(3, 'UTC'),
    ended Nullable(DateTime64(3, 'UTC')),
    e_value Float64,
    baseline Float64,
    observed Float64,
    n UInt64,
    title String,
    -- JSON: the failure groups behind it with share before and after
    evidence String
)
ENGINE = ReplacingMergeTree(version)
ORDER BY finding_id
--------
-- Alert state as Grafana reads it: firing on entry, a heartbeat while active, resolved on exit.
CREATE TABLE IF NOT EXISTS alert_events
(
    ts DateTime64(3, 'UTC'),
    alert_key String,
    kind LowCardinality(String),
    agent LowCardinality(String),
    severity Enum8('info' = 1, 'warning' = 2, 'critical' = 3),
    status Enum8('resolved' = 0, 'firing' = 1),
    score Float64,
    title String,
    description String,
    episode_start DateTime64(3, 'UTC'),
    -- event time of the window that decided; ts is when it was written
    event_time DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (alert_key, ts)
--------
-- Signs of life of the components, for the deadman rule.
CREATE TABLE IF NOT EXISTS heartbeats
(
    ts DateTime64(3, 'UTC'),
    component LowCardinality(String),
    instance String,
    detail String
)
ENGINE = MergeTree
ORDER BY (component, ts)
TTL toDateTime(ts) + INTERVAL 7 DAY
--------
-- Names admitted as labels; the rest is counted under '__other__'.
CREATE TABLE IF NOT EXISTS dimension_values
(
    dimension LowCardinality(String),
    value String,
    admitted DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (dimension, value)
