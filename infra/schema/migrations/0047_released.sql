-- Partitions that may be read on though too many of their lines are no events.
CREATE TABLE IF NOT EXISTS released_partitions
(
    log_id String COMMENT 'which log of the events topic',
    partition UInt32 COMMENT 'of the events topic',
    until UInt64 COMMENT 'offset before which any number of lines may be no events',
    requested DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was asked for'
)
ENGINE = ReplacingMergeTree(until)
ORDER BY (log_id, partition)
--------
ALTER TABLE watermarks
    ADD COLUMN IF NOT EXISTS parked UInt8 DEFAULT 0 COMMENT '1 while it is not read: event time does not wait for its lag'
--------
ALTER TABLE station_changes
    COMMENT COLUMN status 'open, or why it is over: recovered, accepted, retired, unwatched or resolved'
