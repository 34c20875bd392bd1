-- What retention took away, counted before it went, so that the books stay true: all events of a day
-- (of one environment, or of all that were left), and dead letters that came on it. What is dated
-- before the latest of these days is refused.
CREATE TABLE IF NOT EXISTS expired
(
    table LowCardinality(String) COMMENT 'events or dead_letters',
    day Date COMMENT 'UTC, of event time; of dead letters when they came',
    environment LowCardinality(String) COMMENT 'empty: every one',
    log_id LowCardinality(String) COMMENT 'of dead letters: id of the Kafka log',
    topic LowCardinality(String) COMMENT 'of dead letters: Kafka topic',
    partition UInt32 COMMENT 'of dead letters: Kafka partition',
    counted UInt8 COMMENT '0: announced, what still comes is refused; 1: counted',
    rows UInt64 COMMENT 'how many there were',
    collisions UInt64 COMMENT 'of which another payload of the same event id counted',
    erased UInt64 COMMENT 'of which were of people who had been erased',
    booked DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when they were counted'
)
ENGINE = ReplacingMergeTree(booked)
ORDER BY (table, day, environment, log_id, topic, partition)
