-- What can be shown and done about a dead letter: where it came from, what is left of its text, its
-- original where that is kept, and whether it was sent again.
ALTER TABLE dead_letters
    ADD COLUMN IF NOT EXISTS environment LowCardinality(String) AFTER sha256,
    ADD COLUMN IF NOT EXISTS agent LowCardinality(String) AFTER environment,
    -- what `text` is: whole, redacted (content only; its ids and numbers are as they were), masked
    -- (redacted as plain text, ids too), cut, binary (no text), '' (of a version that kept none)
    ADD COLUMN IF NOT EXISTS kept LowCardinality(String) AFTER agent,
    ADD COLUMN IF NOT EXISTS text String CODEC(ZSTD(1)) AFTER kept
--------
-- Untouched bytes of dead letters, only where the setting asks for them, and not for long.
CREATE TABLE IF NOT EXISTS dead_letter_originals
(
    log_id LowCardinality(String),
    topic LowCardinality(String),
    partition UInt32,
    offset UInt64,
    line UInt32,
    original String CODEC(ZSTD(1)),
    expires DateTime('UTC')
)
ENGINE = ReplacingMergeTree(expires)
ORDER BY (log_id, topic, partition, offset, line)
TTL expires
SETTINGS merge_with_ttl_timeout = 3600
--------
-- Dead letters that were sent again as events, and under which id.
CREATE TABLE IF NOT EXISTS dead_letter_replays
(
    log_id LowCardinality(String),
    topic LowCardinality(String),
    partition UInt32,
    offset UInt64,
    line UInt32,
    event_id String,
    replayed DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(replayed)
ORDER BY (log_id, topic, partition, offset, line, event_id)
