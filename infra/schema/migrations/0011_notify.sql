-- What was planned to be told, and whether it arrived. A row is written before it is sent; version
-- is the number of attempts while it waits and 2^63 once it is settled, so that a slow writer never
-- makes a sent message look unsent.
CREATE TABLE IF NOT EXISTS notifications
(
    incident String COMMENT 'finding_id of the first finding of one cause; empty in the first row of all',
    seq UInt32 COMMENT '1, 2, ... per incident and receiver',
    receiver LowCardinality(String),
    version UInt64,
    state LowCardinality(String) COMMENT 'pending, sent, refused or silenced',
    event LowCardinality(String) COMMENT 'firing, update or resolved',
    delivery String COMMENT 'a function of receiver, incident and seq; a receiver knows a repeat by it',
    severity LowCardinality(String),
    findings Array(String) COMMENT 'ids of the findings it speaks of',
    planned DateTime64(3, 'UTC'),
    attempts UInt32,
    error String COMMENT 'why the last attempt failed',
    headline String,
    lines String,
    body String CODEC(ZSTD(1)) COMMENT 'JSON as a webhook gets it; a retry sends the same bytes'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (incident, receiver, seq)
--------
-- Findings whose fields equal the matchers are not announced between two times.
CREATE TABLE IF NOT EXISTS silences
(
    id String,
    version UInt64 COMMENT 'when it was written, ms',
    matchers String COMMENT 'JSON object: field of a finding to the value it must have',
    starts DateTime64(3, 'UTC'),
    ends DateTime64(3, 'UTC'),
    comment String
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
