-- People who were erased, by keyed hash: what Kafka or a sender brings again of them is stored
-- under these pseudonyms and without words. The row of the empty pseudonym says when rows were last
-- rewritten, so that whoever keeps some in memory reads them again.
CREATE TABLE IF NOT EXISTS erasures
(
    pseudonym String COMMENT 'keyed hash of an id of a user, session, interaction or trace',
    before DateTime64(9, 'UTC') COMMENT 'event time before which what bears the id is erased',
    requested DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was asked for'
)
ENGINE = ReplacingMergeTree(before)
ORDER BY pseudonym
