-- Panels, rules and reports read a stretch of time of all agents, so time stands before the agent: in
-- the old order every agent's rows of a width were read. Small granules, for a row is a histogram.
DROP TABLE IF EXISTS windows_by_agent
--------
CREATE TABLE IF NOT EXISTS windows_by_time AS windows
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (width_s, start, environment, agent, agent_version, scope)
SETTINGS index_granularity = 2048
--------
INSERT INTO windows_by_time SELECT * FROM windows SETTINGS max_partitions_per_insert_block = 0
--------
RENAME TABLE windows TO windows_by_agent, windows_by_time TO windows
--------
DROP TABLE windows_by_agent SETTINGS max_table_size_to_drop = 0
--------
-- Of a sharded table, what it was reached by.
DROP TABLE IF EXISTS windows_by_time
--------
DROP TABLE IF EXISTS rollups_by_agent
--------
CREATE TABLE IF NOT EXISTS rollups_by_time AS rollups
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (width_s, unit, start, environment, agent, agent_version)
SETTINGS index_granularity = 2048
--------
INSERT INTO rollups_by_time SELECT * FROM rollups SETTINGS max_partitions_per_insert_block = 0
--------
RENAME TABLE rollups TO rollups_by_agent, rollups_by_time TO rollups
--------
DROP TABLE rollups_by_agent SETTINGS max_table_size_to_drop = 0
--------
-- Of a sharded table, what it was reached by.
DROP TABLE IF EXISTS rollups_by_time
