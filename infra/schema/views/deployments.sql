-- First interaction of every version of an agent: marks on charts and the first suspect.
CREATE OR REPLACE VIEW deployments AS
SELECT environment, agent, agent_version, min(start) AS deployed
FROM rollups FINAL WHERE width_s = 60 AND unit = 'interactions' AND agent_version != ''
GROUP BY environment, agent, agent_version
