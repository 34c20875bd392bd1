-- What sessions need to know of their interactions, the interval of their estimates, and rollups of
-- how much could be seen and of everything that was found, failure or not.
ALTER TABLE interaction_results
    ADD COLUMN IF NOT EXISTS notes Array(String) COMMENT 'for the session: latest result of each tool and hash of its arguments, and whether the agent asked last' AFTER reasons
--------
ALTER TABLE session_results
    ADD COLUMN IF NOT EXISTS dissatisfaction_low Nullable(Float64) COMMENT 'lower end of its 95 % interval' AFTER dissatisfaction,
    ADD COLUMN IF NOT EXISTS dissatisfaction_high Nullable(Float64) COMMENT 'upper end of its 95 % interval' AFTER dissatisfaction_low
--------
ALTER TABLE rollups
    ADD COLUMN IF NOT EXISTS coverage Float64 COMMENT 'sum of the coverage of the estimates' AFTER dissatisfaction_n,
    ADD COLUMN IF NOT EXISTS seen_reasons Array(String) COMMENT 'reasons found, of failures or not' AFTER reason_counts,
    ADD COLUMN IF NOT EXISTS seen_counts Array(UInt64) COMMENT 'interactions or sessions with each of them' AFTER seen_reasons
