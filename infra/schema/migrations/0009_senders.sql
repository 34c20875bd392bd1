-- Log records that became no events, by who sent them and why: `driftline senders` shows them.
-- Counts of a minute of a source (a gateway process, a message of Kafka) only grow, and the largest
-- is the right one, however often it was sent.
CREATE TABLE IF NOT EXISTS ignored_records
(
    minute DateTime('UTC'),
    source String,
    service LowCardinality(String),
    scope LowCardinality(String),
    name LowCardinality(String),
    reason LowCardinality(String),
    records UInt64
)
ENGINE = ReplacingMergeTree(records)
ORDER BY (minute, source, service, scope, name, reason)
TTL minute + INTERVAL 90 DAY
