-- Stations: state per station and bucket, what they decided, and findings with a life cycle.
CREATE TABLE IF NOT EXISTS station_state
(
    station LowCardinality(String),
    bucket String COMMENT 'share of the agents, or fleet',
    position DateTime('UTC') COMMENT 'event time up to which the state has read',
    version UInt64,
    parameters String COMMENT 'JSON: the parameters in force',
    streams UInt32 COMMENT 'streams in the state',
    state String CODEC(NONE) COMMENT 'compressed; what the station needs to continue'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (station, bucket)
--------
-- Newer than the stored state, which is written less often.
CREATE TABLE IF NOT EXISTS station_progress
(
    station LowCardinality(String),
    bucket String,
    position DateTime('UTC') COMMENT 'event time up to which outputs are written',
    version UInt64,
    interactions UInt64 COMMENT 'results read so far',
    updated DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (station, bucket)
--------
-- How many results each hour had when stations read it: what came later was skipped by detection.
CREATE TABLE IF NOT EXISTS station_read
(
    bucket String,
    hour DateTime('UTC'),
    version UInt64,
    interactions UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (bucket, hour)
--------
-- A stream that changed, grew worse or recovered: the raw material of findings.
CREATE TABLE IF NOT EXISTS station_changes
(
    change_id String COMMENT 'function of stream and start',
    at DateTime('UTC') COMMENT 'event time of the decision',
    status LowCardinality(String) COMMENT 'open or recovered',
    severity LowCardinality(String) COMMENT 'page or notice',
    station LowCardinality(String),
    signal LowCardinality(String),
    direction LowCardinality(String),
    environment LowCardinality(String),
    agent LowCardinality(String),
    attribute LowCardinality(String) COMMENT 'tool, model, reason, agent_version, cluster or empty',
    value String COMMENT 'of the attribute',
    label String COMMENT 'name of the value for people',
    began DateTime('UTC'),
    found DateTime('UTC'),
    e_value Float64,
    baseline Nullable(Float64),
    observed Nullable(Float64),
    low Nullable(Float64),
    high Nullable(Float64),
    unit LowCardinality(String),
    n UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (at, change_id, status, severity)
--------
ALTER TABLE findings
    ADD COLUMN IF NOT EXISTS signal LowCardinality(String) AFTER kind,
    ADD COLUMN IF NOT EXISTS attribute LowCardinality(String) AFTER agent_version,
    ADD COLUMN IF NOT EXISTS value String AFTER attribute,
    ADD COLUMN IF NOT EXISTS label String AFTER value,
    ADD COLUMN IF NOT EXISTS tool LowCardinality(String) AFTER label,
    ADD COLUMN IF NOT EXISTS cluster String AFTER tool,
    ADD COLUMN IF NOT EXISTS low Nullable(Float64) AFTER observed,
    ADD COLUMN IF NOT EXISTS high Nullable(Float64) AFTER low,
    ADD COLUMN IF NOT EXISTS unit LowCardinality(String) AFTER high,
    ADD COLUMN IF NOT EXISTS users Nullable(UInt64) COMMENT 'users hit since it began',
    ADD COLUMN IF NOT EXISTS sessions Nullable(UInt64) COMMENT 'sessions hit since it began',
    ADD COLUMN IF NOT EXISTS cost_usd Nullable(Float64) COMMENT 'cost of the interactions hit',
    ADD COLUMN IF NOT EXISTS causes String COMMENT 'JSON: [{attribute, value, lift, low, high, share}]',
    ADD COLUMN IF NOT EXISTS examples Array(String) COMMENT 'interaction ids',
    ADD COLUMN IF NOT EXISTS members Array(String) COMMENT 'findings of the same incident',
    ADD COLUMN IF NOT EXISTS incident String COMMENT 'finding that stands for the incident; empty: this one',
    ADD COLUMN IF NOT EXISTS previous String COMMENT 'finding of the same stream that had recovered',
    MODIFY COLUMN baseline Nullable(Float64),
    MODIFY COLUMN observed Nullable(Float64)
--------
-- What people decided about findings and clusters.
CREATE TABLE IF NOT EXISTS finding_actions
(
    subject String COMMENT 'finding id or cluster id',
    action LowCardinality(String) COMMENT 'ack, accept, mute, resolve, open',
    at DateTime64(3, 'UTC'),
    until Nullable(DateTime64(3, 'UTC')) COMMENT 'of a mute',
    note String
)
ENGINE = ReplacingMergeTree
ORDER BY (subject, action, at)
--------
CREATE TABLE IF NOT EXISTS clusters
(
    environment LowCardinality(String),
    agent LowCardinality(String),
    cluster String,
    version UInt64,
    name String COMMENT 'words that set it apart',
    status LowCardinality(String) COMMENT 'new, open, quiet, merged, regressed',
    size UInt64 COMMENT 'failures so far',
    first_seen DateTime('UTC'),
    last_seen DateTime('UTC'),
    episode UInt32 COMMENT 'times it came back',
    merged_into String,
    parents Array(String),
    reason LowCardinality(String),
    tool LowCardinality(String),
    template String COMMENT 'of its most typical failure',
    agent_versions Array(String),
    examples Array(String) COMMENT 'interaction ids',
    opportunities UInt64 COMMENT 'interactions of known outcome since it was founded'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (environment, agent, cluster)
--------
CREATE TABLE IF NOT EXISTS cluster_members
(
    environment LowCardinality(String),
    agent LowCardinality(String),
    cell DateTime('UTC'),
    interaction_id String,
    version UInt64,
    cluster String COMMENT 'empty while unclustered'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(cell)
ORDER BY (environment, agent, cell, interaction_id)
--------
CREATE TABLE IF NOT EXISTS cluster_lineage
(
    environment LowCardinality(String),
    agent LowCardinality(String),
    at DateTime('UTC'),
    what LowCardinality(String) COMMENT 'born, split, merged, survived',
    cluster String,
    source String
)
ENGINE = ReplacingMergeTree
ORDER BY (environment, agent, at, cluster, what, source)
--------
CREATE TABLE IF NOT EXISTS verdicts
(
    environment LowCardinality(String),
    agent LowCardinality(String),
    baseline LowCardinality(String),
    candidate LowCardinality(String),
    measure LowCardinality(String),
    version UInt64,
    at DateTime('UTC'),
    verdict LowCardinality(String) COMMENT 'better, worse, equivalent or undecided',
    effect Nullable(Float64),
    low Nullable(Float64),
    high Nullable(Float64),
    unit LowCardinality(String),
    n_baseline UInt64,
    n_candidate UInt64,
    needed Nullable(UInt64) COMMENT 'further interactions of each version'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (environment, agent, baseline, candidate, measure)
--------
CREATE TABLE IF NOT EXISTS regression_results
(
    case_id String,
    agent_version LowCardinality(String),
    at DateTime64(3, 'UTC'),
    passed UInt8,
    source String
)
ENGINE = ReplacingMergeTree
ORDER BY (case_id, at, agent_version)
