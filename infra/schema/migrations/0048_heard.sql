-- That a partition has no lag is only known of the moment when Kafka last said so.
ALTER TABLE watermarks
    ADD COLUMN IF NOT EXISTS heard DateTime64(3, 'UTC') DEFAULT updated
        COMMENT 'when Kafka last said how many records wait'
