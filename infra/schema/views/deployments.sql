-- First interaction of every version of an agent: marks on charts and the first suspect.
CREATE OR REPLACE VIEW deployments AS
SELECT environment, agent, agent_version, min(start) AS deployed
FROM rollups FINAL WHERE width_s = 60 AND unit = 'interactions' AND agent_version != ''
GROUP BY environment, agent, agent_version
--------
ALTER TABLE deployments
    COMMENT COLUMN environment 'deployment environment',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version that came',
    COMMENT COLUMN deployed 'start of the minute of its first interaction'
